#include <string.h>

#include "api.h"
#include "operations.h"
#include "sessions.h"

/* The longest request: a full batch of the longest items. */
#define REQUEST_MAX (KW_HEADER_LEN + KW_BATCH_MAX * 64)
#define SCRUB_LEN 8192

static uint8_t request_copy[REQUEST_MAX];

static bool needs_login(enum kw_operation operation)
{
    return operation != KW_OP_STATUS && operation != KW_OP_INIT_TOKEN;
}

/* The operation behind one of our mechanisms, if this mode has it. */
static bool find_operation(const CK_MECHANISM *mechanism, bool with_key, enum kw_operation *operation)
{
    *operation = (enum kw_operation)(mechanism->mechanism & 0xFF);
    return (mechanism->mechanism & ~0xFFUL) == KW_MECHANISM_BASE &&
           kw_operation_allowed(kw_the_module.config.mode, *operation, with_key);
}

static CK_RV begin(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, bool by_key, CK_OBJECT_HANDLE object)
{
    struct kw_session *session = kw_session_get(handle);
    const struct kw_key *key = by_key ? kw_api_key(object) : NULL;
    enum kw_operation operation;
    if (session == NULL)
        return CKR_SESSION_HANDLE_INVALID;
    if (mechanism == NULL)
        return CKR_ARGUMENTS_BAD;
    if (session->active)
        return CKR_OPERATION_ACTIVE;
    if (!find_operation(mechanism, by_key, &operation)) {
        bool raw = key != NULL && (mechanism->mechanism & ~0xFFUL) != KW_MECHANISM_BASE;
        return raw ? CKR_KEY_FUNCTION_NOT_PERMITTED : CKR_MECHANISM_INVALID;
    }
    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    if (kw_the_module.login != KW_LOGIN_USER && needs_login(operation))
        return CKR_USER_NOT_LOGGED_IN;
    if (by_key && key == NULL)
        return CKR_KEY_HANDLE_INVALID;
    if (kw_the_module.faulted && operation != KW_OP_STATUS)
        return CKR_DEVICE_ERROR;
    session->active = true;
    session->by_key = by_key;
    session->operation = operation;
    session->key_index = key == NULL ? 0 : (uint32_t)(key - kw_the_module.store.keys);
    return CKR_OK;
}

static CK_RV finish(CK_SESSION_HANDLE handle, bool by_key, CK_BYTE_PTR request, CK_ULONG length, CK_BYTE_PTR answer,
                    CK_ULONG_PTR answer_length)
{
    struct kw_session *session = kw_session_get(handle);
    if (session == NULL)
        return CKR_SESSION_HANDLE_INVALID;
    if (!session->active || session->by_key != by_key)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (request == NULL || answer_length == NULL) {
        session->active = false;
        return CKR_ARGUMENTS_BAD;
    }
    const struct kw_key *key = by_key ? &kw_the_module.store.keys[session->key_index] : NULL;
    /* The caller can change its octets while we work: everything is judged and done on our own copy. */
    if (length > sizeof request_copy) {
        session->active = false;
        return CKR_DATA_LEN_RANGE;
    }
    memcpy(request_copy, request, length);
    size_t needed = kw_answer_length(session->operation, key, request_copy, length);
    if (needed == 0) {
        session->active = false;
        return CKR_DATA_INVALID;
    }
    CK_ULONG room = *answer_length;
    *answer_length = needed;
    /* A question for the size does no work, and leaves the operation open. */
    if (answer == NULL)
        return CKR_OK;
    if (room < needed)
        return CKR_BUFFER_TOO_SMALL;
    session->active = false;
    return kw_operate(&kw_the_module, session->operation, key, request_copy, length, answer);
}

/* Overwrite the stack that the work has left behind: compilers spill what the sources wipe. */
static __attribute__((noinline)) void scrub_stack(void)
{
    uint8_t dead[SCRUB_LEN];
    explicit_bzero(dead, sizeof dead);
}

static CK_RV finish_clean(CK_SESSION_HANDLE handle, bool by_key, CK_BYTE_PTR request, CK_ULONG length,
                          CK_BYTE_PTR answer, CK_ULONG_PTR answer_length)
{
    CK_RV rv = finish(handle, by_key, request, length, answer, answer_length);
    explicit_bzero(request_copy, length < sizeof request_copy ? length : sizeof request_copy);
    scrub_stack();
    return kw_api_leave(rv);
}

CK_RV kw_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CK_RV rv = kw_api_enter();
    return rv != CKR_OK ? rv : kw_api_leave(begin(session, mechanism, true, key));
}

CK_RV kw_C_Sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
                CK_ULONG_PTR signature_length)
{
    CK_RV rv = kw_api_enter();
    return rv != CKR_OK ? rv : finish_clean(session, true, data, length, signature, signature_length);
}

CK_RV kw_C_DigestInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism)
{
    CK_RV rv = kw_api_enter();
    return rv != CKR_OK ? rv : kw_api_leave(begin(session, mechanism, false, 0));
}

CK_RV kw_C_Digest(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR digest,
                  CK_ULONG_PTR digest_length)
{
    CK_RV rv = kw_api_enter();
    return rv != CKR_OK ? rv : finish_clean(session, false, data, length, digest, digest_length);
}
