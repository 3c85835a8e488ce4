#include <string.h>

#include "api.h"
#include "operations.h"
#include "sessions.h"

/* Object handles: the generation of the login above the index of the key, so that a stale one finds nothing. */
#define INDEX_BITS 16
static CK_ULONG login_generation = 1;

CK_OBJECT_HANDLE kw_api_handle(uint32_t index)
{
    return login_generation << INDEX_BITS | (index + 1);
}

const struct kw_key *kw_api_key(CK_OBJECT_HANDLE handle)
{
    CK_ULONG index = (handle & ((1UL << INDEX_BITS) - 1)) - 1;
    bool current = handle >> INDEX_BITS == login_generation && kw_the_module.login == KW_LOGIN_USER;
    return current && index < kw_the_module.store.count ? &kw_the_module.store.keys[index] : NULL;
}

CK_RV kw_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify,
                       CK_SESSION_HANDLE_PTR session)
{
    (void)application;
    (void)notify;
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (slot != KW_SLOT)
        return kw_api_leave(CKR_SLOT_ID_INVALID);
    if (session == NULL)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    if (!(flags & CKF_SERIAL_SESSION))
        return kw_api_leave(CKR_SESSION_PARALLEL_NOT_SUPPORTED);
    bool read_write = flags & CKF_RW_SESSION;
    if (read_write && kw_the_module.config.mode != KW_MODE_CEREMONY)
        return kw_api_leave(CKR_TOKEN_WRITE_PROTECTED);
    return kw_api_leave(kw_session_open(read_write, session));
}

static void log_out(void)
{
    memset(&kw_the_module.audit, 0, sizeof kw_the_module.audit);
    memset(&kw_the_module.officers, 0, sizeof kw_the_module.officers);
    memset(&kw_the_module.centres, 0, sizeof kw_the_module.centres);
    memset(&kw_the_module.transport, 0, sizeof kw_the_module.transport);
    memset(&kw_the_module.block_key, 0, sizeof kw_the_module.block_key);
    explicit_bzero(&kw_the_module.approval, sizeof kw_the_module.approval);
    kw_session_reset_all();
    kw_inner_logout(&kw_the_module.inner);
    kw_the_module.login = KW_LOGIN_NONE;
    kw_the_module.self_test_passed = false;
    kw_the_module.store.count = kw_the_module.store.refused = 0;
    login_generation++;
}

CK_RV kw_C_CloseSession(CK_SESSION_HANDLE handle)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    struct kw_session *session = kw_session_get(handle);
    if (session == NULL)
        return kw_api_leave(CKR_SESSION_HANDLE_INVALID);
    kw_session_close(session);
    if (kw_session_count(false) == 0 && kw_the_module.login != KW_LOGIN_NONE)
        log_out();
    return kw_api_leave(CKR_OK);
}

CK_RV kw_C_CloseAllSessions(CK_SLOT_ID slot)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (slot != KW_SLOT)
        return kw_api_leave(CKR_SLOT_ID_INVALID);
    kw_session_close_all();
    if (kw_the_module.login != KW_LOGIN_NONE)
        log_out();
    return kw_api_leave(CKR_OK);
}

CK_RV kw_C_GetSessionInfo(CK_SESSION_HANDLE handle, CK_SESSION_INFO_PTR info)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    struct kw_session *session = kw_session_get(handle);
    if (session == NULL || info == NULL)
        return kw_api_leave(session == NULL ? CKR_SESSION_HANDLE_INVALID : CKR_ARGUMENTS_BAD);
    bool user = kw_the_module.login == KW_LOGIN_USER;
    info->slotID = KW_SLOT;
    info->flags = CKF_SERIAL_SESSION | (session->read_write ? CKF_RW_SESSION : 0);
    if (session->read_write)
        info->state = user ? CKS_RW_USER_FUNCTIONS : CKS_RW_PUBLIC_SESSION;
    else
        info->state = user ? CKS_RO_USER_FUNCTIONS : CKS_RO_PUBLIC_SESSION;
    info->ulDeviceError = 0;
    return kw_api_leave(CKR_OK);
}

static CK_RV log_in(CK_UTF8CHAR_PTR pin, CK_ULONG length)
{
    struct kw_module *module = &kw_the_module;
    bool ceremony = module->config.mode == KW_MODE_CEREMONY;
    CK_RV rv = CKR_OK;
    if (!module->inner.has_slot)
        rv = kw_inner_find_slot(&module->inner, module->config.token_label, false);
    if (rv == CKR_OK)
        rv = kw_inner_login(&module->inner, ceremony, CKU_USER, pin, length);
    if (rv != CKR_OK)
        return rv;
    rv = kw_self_test_pure() ? kw_self_test_inner(&module->inner) : CKR_DEVICE_ERROR;
    if (rv == CKR_OK)
        rv = kw_keystore_read(&module->store, &module->inner, &module->config);
    if (rv == CKR_OK)
        rv = kw_audit_read(&module->audit, &module->inner);
    if (rv == CKR_OK)
        rv = kw_officers_read(&module->officers, &module->inner);
    if (rv == CKR_OK)
        rv = kw_centres_read(&module->centres, &module->inner);
    if (rv == CKR_OK)
        rv = kw_transport_read(&module->transport, &module->inner);
    if (rv == CKR_OK)
        rv = kw_block_key_read(&module->block_key, &module->inner);
    if (rv == CKR_OK)
        rv = kw_mandate_read(&module->mandate, &module->inner);
    if (rv != CKR_OK) {
        log_out();
        return rv;
    }
    module->self_test_passed = true;
    module->faulted = false;
    module->login = KW_LOGIN_USER;
    login_generation++;
    return CKR_OK;
}

CK_RV kw_C_Login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (kw_session_get(handle) == NULL)
        return kw_api_leave(CKR_SESSION_HANDLE_INVALID);
    if (user != CKU_USER)
        return kw_api_leave(user == CKU_SO ? CKR_FUNCTION_NOT_SUPPORTED : CKR_USER_TYPE_INVALID);
    if (pin == NULL)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    if (kw_the_module.login != KW_LOGIN_NONE)
        return kw_api_leave(CKR_USER_ALREADY_LOGGED_IN);
    return kw_api_leave(log_in(pin, length));
}

CK_RV kw_C_Logout(CK_SESSION_HANDLE handle)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (kw_session_get(handle) == NULL)
        return kw_api_leave(CKR_SESSION_HANDLE_INVALID);
    if (kw_the_module.login == KW_LOGIN_NONE)
        return kw_api_leave(CKR_USER_NOT_LOGGED_IN);
    log_out();
    return kw_api_leave(CKR_OK);
}

CK_RV kw_C_GenerateRandom(CK_SESSION_HANDLE handle, CK_BYTE_PTR random, CK_ULONG length)
{
    struct kw_inner *inner = &kw_the_module.inner;
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (kw_session_get(handle) == NULL)
        return kw_api_leave(CKR_SESSION_HANDLE_INVALID);
    if (random == NULL && length != 0)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    if (kw_the_module.login != KW_LOGIN_USER)
        return kw_api_leave(CKR_USER_NOT_LOGGED_IN);
    return kw_api_leave(inner->functions->C_GenerateRandom(inner->session, random, length));
}
