#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "operations.h"
#include "sessions.h"

struct kw_module kw_the_module;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t initialised_by;
static CK_FUNCTION_LIST function_list;

CK_RV kw_api_enter(void)
{
    pthread_mutex_lock(&lock);
    /* A fork inherits our memory and our sessions: it must start anew, as PKCS#11 says. */
    if (initialised_by == 0 || initialised_by != getpid()) {
        pthread_mutex_unlock(&lock);
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    }
    return CKR_OK;
}

CK_RV kw_api_leave(CK_RV rv)
{
    pthread_mutex_unlock(&lock);
    return rv;
}

static CK_RV initialise(void)
{
    struct kw_module *module = &kw_the_module;
    memset(module, 0, sizeof *module);
    if (!kw_config_find(&module->config))
        return CKR_GENERAL_ERROR;
    if (!kw_self_test_pure())
        return CKR_DEVICE_ERROR;
    CK_RV rv = kw_inner_open(&module->inner, module->config.library);
    if (rv != CKR_OK)
        return rv;
    rv = kw_inner_find_slot(&module->inner, module->config.token_label, module->config.mode == KW_MODE_CEREMONY);
    /* A token that is missing shows as an empty slot; every other failure ends us. */
    if (rv != CKR_OK && rv != CKR_TOKEN_NOT_PRESENT) {
        kw_inner_close(&module->inner);
        return rv;
    }
    return CKR_OK;
}

CK_RV kw_C_Initialize(CK_VOID_PTR arguments)
{
    CK_C_INITIALIZE_ARGS_PTR given = arguments;
    CK_RV rv = CKR_CRYPTOKI_ALREADY_INITIALIZED;
    if (given != NULL && given->pReserved != NULL)
        return CKR_ARGUMENTS_BAD;
    pthread_mutex_lock(&lock);
    if (initialised_by != getpid()) {
        rv = initialise();
        initialised_by = rv == CKR_OK ? getpid() : 0;
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

CK_RV kw_C_Finalize(CK_VOID_PTR reserved)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (reserved != NULL)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    kw_session_close_all();
    kw_inner_close(&kw_the_module.inner);
    explicit_bzero(&kw_the_module, sizeof kw_the_module);
    initialised_by = 0;
    return kw_api_leave(CKR_OK);
}

/* Blank padded, as PKCS#11 texts are. */
static void put_text(CK_UTF8CHAR *field, size_t size, const char *text)
{
    size_t length = strlen(text);
    memset(field, ' ', size);
    memcpy(field, text, length < size ? length : size);
}

CK_RV kw_C_GetInfo(CK_INFO_PTR info)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (info == NULL)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    memset(info, 0, sizeof *info);
    info->cryptokiVersion.major = 2;
    info->cryptokiVersion.minor = 40;
    put_text(info->manufacturerID, sizeof info->manufacturerID, "Keywatt");
    put_text(info->libraryDescription, sizeof info->libraryDescription, "Keywatt functionality module");
    info->libraryVersion.minor = 1;
    return kw_api_leave(CKR_OK);
}

CK_RV kw_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (count == NULL)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    CK_ULONG have = present && !kw_the_module.inner.has_slot ? 0 : 1, room = *count;
    *count = have;
    if (slots != NULL && room < have)
        return kw_api_leave(CKR_BUFFER_TOO_SMALL);
    if (slots != NULL && have == 1)
        slots[0] = KW_SLOT;
    return kw_api_leave(CKR_OK);
}

CK_RV kw_C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO_PTR info)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (slot != KW_SLOT)
        return kw_api_leave(CKR_SLOT_ID_INVALID);
    if (info == NULL)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    memset(info, 0, sizeof *info);
    put_text(info->slotDescription, sizeof info->slotDescription, "Keywatt functionality module");
    put_text(info->manufacturerID, sizeof info->manufacturerID, "Keywatt");
    info->flags = kw_the_module.inner.has_slot ? CKF_TOKEN_PRESENT : 0;
    return kw_api_leave(CKR_OK);
}

CK_RV kw_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info)
{
    struct kw_inner *inner = &kw_the_module.inner;
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (slot != KW_SLOT || info == NULL)
        return kw_api_leave(slot != KW_SLOT ? CKR_SLOT_ID_INVALID : CKR_ARGUMENTS_BAD);
    if (!inner->has_slot)
        return kw_api_leave(CKR_TOKEN_NOT_PRESENT);
    *info = inner->token;
    put_text(info->manufacturerID, sizeof info->manufacturerID, "Keywatt");
    put_text(info->model, sizeof info->model, "Keywatt FM");
    info->flags |= kw_the_module.config.mode == KW_MODE_CEREMONY ? 0 : CKF_WRITE_PROTECTED;
    info->ulSessionCount = kw_session_count(false);
    info->ulRwSessionCount = kw_session_count(true);
    info->ulMaxSessionCount = info->ulMaxRwSessionCount = KW_SESSIONS_MAX;
    return kw_api_leave(CKR_OK);
}

/* Every operation: codes from the first to the last, those that exist. */
#define FIRST_OPERATION KW_OP_ISSUE
#define LAST_OPERATION KW_OP_LOAD_BLOCK

static CK_FLAGS mechanism_flags(enum kw_operation operation)
{
    enum kw_mode mode = kw_the_module.config.mode;
    return (kw_operation_allowed(mode, operation, true) ? CKF_SIGN : 0) |
           (kw_operation_allowed(mode, operation, false) ? CKF_DIGEST : 0);
}

CK_RV kw_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR mechanisms, CK_ULONG_PTR count)
{
    CK_ULONG have = 0;
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (slot != KW_SLOT || count == NULL)
        return kw_api_leave(slot != KW_SLOT ? CKR_SLOT_ID_INVALID : CKR_ARGUMENTS_BAD);
    for (unsigned code = FIRST_OPERATION; code <= LAST_OPERATION; code++)
        if (mechanism_flags((enum kw_operation)code) != 0) {
            if (mechanisms != NULL && have < *count)
                mechanisms[have] = KW_MECHANISM(code);
            have++;
        }
    rv = mechanisms != NULL && *count < have ? CKR_BUFFER_TOO_SMALL : CKR_OK;
    *count = have;
    return kw_api_leave(rv);
}

CK_RV kw_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    if (slot != KW_SLOT || info == NULL)
        return kw_api_leave(slot != KW_SLOT ? CKR_SLOT_ID_INVALID : CKR_ARGUMENTS_BAD);
    CK_FLAGS flags = (type & ~0xFFUL) == KW_MECHANISM_BASE ? mechanism_flags((enum kw_operation)(type & 0xFF)) : 0;
    memset(info, 0, sizeof *info);
    info->flags = flags;
    return kw_api_leave(flags != 0 ? CKR_OK : CKR_MECHANISM_INVALID);
}

KW_EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list);

KW_EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
    if (list == NULL)
        return CKR_ARGUMENTS_BAD;
    pthread_mutex_lock(&lock);
    kw_api_refuse_all(&function_list);
    function_list.version.major = 2;
    function_list.version.minor = 40;
    function_list.C_Initialize = kw_C_Initialize;
    function_list.C_Finalize = kw_C_Finalize;
    function_list.C_GetInfo = kw_C_GetInfo;
    function_list.C_GetFunctionList = C_GetFunctionList;
    function_list.C_GetSlotList = kw_C_GetSlotList;
    function_list.C_GetSlotInfo = kw_C_GetSlotInfo;
    function_list.C_GetTokenInfo = kw_C_GetTokenInfo;
    function_list.C_GetMechanismList = kw_C_GetMechanismList;
    function_list.C_GetMechanismInfo = kw_C_GetMechanismInfo;
    function_list.C_OpenSession = kw_C_OpenSession;
    function_list.C_CloseSession = kw_C_CloseSession;
    function_list.C_CloseAllSessions = kw_C_CloseAllSessions;
    function_list.C_GetSessionInfo = kw_C_GetSessionInfo;
    function_list.C_Login = kw_C_Login;
    function_list.C_Logout = kw_C_Logout;
    function_list.C_GetAttributeValue = kw_C_GetAttributeValue;
    function_list.C_FindObjectsInit = kw_C_FindObjectsInit;
    function_list.C_FindObjects = kw_C_FindObjects;
    function_list.C_FindObjectsFinal = kw_C_FindObjectsFinal;
    function_list.C_SignInit = kw_C_SignInit;
    function_list.C_Sign = kw_C_Sign;
    function_list.C_DigestInit = kw_C_DigestInit;
    function_list.C_Digest = kw_C_Digest;
    function_list.C_GenerateRandom = kw_C_GenerateRandom;
    *list = &function_list;
    pthread_mutex_unlock(&lock);
    return CKR_OK;
}
