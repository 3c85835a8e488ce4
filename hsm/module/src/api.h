/* The PKCS#11 surface: one lock, one process, one slot. */
#ifndef KW_API_H
#define KW_API_H

#include "cryptoki.h"
#include "module.h"

#define KW_SLOT 0
#define KW_EXPORT __attribute__((visibility("default")))

/* Take the lock and see that this process initialised us; every C_ function begins with one and ends with the other. */
CK_RV kw_api_enter(void);
CK_RV kw_api_leave(CK_RV rv);

extern struct kw_module kw_the_module;

/* The vending key behind an object handle, or NULL. */
const struct kw_key *kw_api_key(CK_OBJECT_HANDLE handle);
CK_OBJECT_HANDLE kw_api_handle(uint32_t index);

/* The functions that are allowed (api_*.c), and those that are not (api_refused.c). */
CK_RV kw_C_Initialize(CK_VOID_PTR arguments);
CK_RV kw_C_Finalize(CK_VOID_PTR reserved);
CK_RV kw_C_GetInfo(CK_INFO_PTR info);
CK_RV kw_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count);
CK_RV kw_C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO_PTR info);
CK_RV kw_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info);
CK_RV kw_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR mechanisms, CK_ULONG_PTR count);
CK_RV kw_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info);
CK_RV kw_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify,
                       CK_SESSION_HANDLE_PTR session);
CK_RV kw_C_CloseSession(CK_SESSION_HANDLE session);
CK_RV kw_C_CloseAllSessions(CK_SLOT_ID slot);
CK_RV kw_C_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO_PTR info);
CK_RV kw_C_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length);
CK_RV kw_C_Logout(CK_SESSION_HANDLE session);
CK_RV kw_C_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR attributes,
                             CK_ULONG count);
CK_RV kw_C_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR attributes, CK_ULONG count);
CK_RV kw_C_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR objects, CK_ULONG limit, CK_ULONG_PTR count);
CK_RV kw_C_FindObjectsFinal(CK_SESSION_HANDLE session);
CK_RV kw_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key);
CK_RV kw_C_Sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
                CK_ULONG_PTR signature_length);
CK_RV kw_C_DigestInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism);
CK_RV kw_C_Digest(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR digest,
                  CK_ULONG_PTR digest_length);
CK_RV kw_C_GenerateRandom(CK_SESSION_HANDLE session, CK_BYTE_PTR random, CK_ULONG length);

/* Fill every entry of the list with a refusal; the allowed ones are then put in place. */
void kw_api_refuse_all(CK_FUNCTION_LIST_PTR list);

#endif
