#include <string.h>

#include "api.h"
#include "attributes.h"
#include "sessions.h"

#define FIND_ATTRIBUTES 4

CK_RV kw_C_GetAttributeValue(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR attributes,
                             CK_ULONG count)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    const struct kw_key *key = kw_api_key(object);
    if (kw_session_get(handle) == NULL)
        return kw_api_leave(CKR_SESSION_HANDLE_INVALID);
    if (key == NULL || attributes == NULL)
        return kw_api_leave(key == NULL ? CKR_OBJECT_HANDLE_INVALID : CKR_ARGUMENTS_BAD);
    for (CK_ULONG i = 0; i < count; i++) {
        CK_RV one = kw_attribute_get(key, &attributes[i]);
        /* Every attribute is filled; the gravest refusal is told. */
        if (one == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_OK)
            rv = one;
    }
    return kw_api_leave(rv);
}

CK_RV kw_C_FindObjectsInit(CK_SESSION_HANDLE handle, CK_ATTRIBUTE_PTR attributes, CK_ULONG count)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    struct kw_session *session = kw_session_get(handle);
    if (session == NULL)
        return kw_api_leave(CKR_SESSION_HANDLE_INVALID);
    if (session->finding)
        return kw_api_leave(CKR_OPERATION_ACTIVE);
    if (count != 0 && attributes == NULL)
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    if (count > FIND_ATTRIBUTES)
        return kw_api_leave(CKR_TEMPLATE_INCONSISTENT);
    for (CK_ULONG i = 0; i < count; i++) {
        if (attributes[i].ulValueLen > KW_RECORD_MAX || (attributes[i].ulValueLen != 0 && attributes[i].pValue == NULL))
            return kw_api_leave(CKR_ATTRIBUTE_VALUE_INVALID);
        session->find_type[i] = attributes[i].type;
        session->find_length[i] = attributes[i].ulValueLen;
        if (attributes[i].ulValueLen != 0)
            memcpy(session->find_value[i], attributes[i].pValue, attributes[i].ulValueLen);
    }
    session->find_count = count;
    session->found_next = 0;
    session->finding = true;
    return kw_api_leave(CKR_OK);
}

static bool matches(const struct kw_session *session, const struct kw_key *key)
{
    for (CK_ULONG i = 0; i < session->find_count; i++)
        if (!kw_attribute_matches(key, session->find_type[i], session->find_value[i], session->find_length[i]))
            return false;
    return true;
}

CK_RV kw_C_FindObjects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE_PTR objects, CK_ULONG limit, CK_ULONG_PTR count)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    struct kw_session *session = kw_session_get(handle);
    if (session == NULL)
        return kw_api_leave(CKR_SESSION_HANDLE_INVALID);
    if (!session->finding)
        return kw_api_leave(CKR_OPERATION_NOT_INITIALIZED);
    if (count == NULL || (objects == NULL && limit != 0))
        return kw_api_leave(CKR_ARGUMENTS_BAD);
    const struct kw_keystore *store = &kw_the_module.store;
    *count = 0;
    if (kw_the_module.login != KW_LOGIN_USER)
        return kw_api_leave(CKR_OK);
    for (; session->found_next < store->count && *count < limit; session->found_next++)
        if (matches(session, &store->keys[session->found_next]))
            objects[(*count)++] = kw_api_handle(session->found_next);
    return kw_api_leave(CKR_OK);
}

CK_RV kw_C_FindObjectsFinal(CK_SESSION_HANDLE handle)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    struct kw_session *session = kw_session_get(handle);
    if (session == NULL || !session->finding)
        return kw_api_leave(session == NULL ? CKR_SESSION_HANDLE_INVALID : CKR_OPERATION_NOT_INITIALIZED);
    session->finding = false;
    return kw_api_leave(CKR_OK);
}
