/* Callers' sessions: a table of our own. None of them is a session of the inner library. */
#ifndef KW_SESSIONS_H
#define KW_SESSIONS_H

#include "cryptoki.h"
#include "keywatt_fm.h"
#include "keystore.h"

#define KW_SESSIONS_MAX 64

struct kw_session {
    bool open, read_write;
    /* The active vendor operation; sign when by_key, else digest. */
    bool active, by_key;
    enum kw_operation operation;
    uint32_t key_index;
    /* The active search: the handles still to be handed out. */
    bool finding;
    uint32_t found_next;
    CK_ATTRIBUTE_TYPE find_type[4];
    uint8_t find_value[4][KW_RECORD_MAX];
    CK_ULONG find_length[4], find_count;
};

/* Find an open session; NULL for a handle that is none. */
struct kw_session *kw_session_get(CK_SESSION_HANDLE handle);
CK_RV kw_session_open(bool read_write, CK_SESSION_HANDLE *handle);
void kw_session_close(struct kw_session *session);
void kw_session_close_all(void);
CK_ULONG kw_session_count(bool read_write_only);

/* End every operation and search, as a logout or a new login does. */
void kw_session_reset_all(void);

#endif
