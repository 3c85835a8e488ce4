#include "sessions.h"

#include <string.h>

static struct kw_session sessions[KW_SESSIONS_MAX];
/* Handles never come back within a process: a stale one must not find somebody else's session. */
static CK_SESSION_HANDLE generation[KW_SESSIONS_MAX];

struct kw_session *kw_session_get(CK_SESSION_HANDLE handle)
{
    CK_ULONG slot = handle % KW_SESSIONS_MAX;
    return handle != 0 && sessions[slot].open && generation[slot] == handle ? &sessions[slot] : NULL;
}

CK_RV kw_session_open(bool read_write, CK_SESSION_HANDLE *handle)
{
    for (CK_ULONG slot = 0; slot < KW_SESSIONS_MAX; slot++)
        if (!sessions[slot].open) {
            memset(&sessions[slot], 0, sizeof sessions[slot]);
            sessions[slot].open = true;
            sessions[slot].read_write = read_write;
            generation[slot] = generation[slot] == 0 ? KW_SESSIONS_MAX + slot : generation[slot] + KW_SESSIONS_MAX;
            *handle = generation[slot];
            return CKR_OK;
        }
    return CKR_SESSION_COUNT;
}

void kw_session_close(struct kw_session *session)
{
    memset(session, 0, sizeof *session);
}

void kw_session_close_all(void)
{
    memset(sessions, 0, sizeof sessions);
}

CK_ULONG kw_session_count(bool read_write_only)
{
    CK_ULONG count = 0;
    for (CK_ULONG slot = 0; slot < KW_SESSIONS_MAX; slot++)
        count += sessions[slot].open && (!read_write_only || sessions[slot].read_write);
    return count;
}

void kw_session_reset_all(void)
{
    for (CK_ULONG slot = 0; slot < KW_SESSIONS_MAX; slot++)
        sessions[slot].active = sessions[slot].finding = false;
}
