/*
 * Everything that the module does not do. A raw operation that names a vending key is told that the key is not for it,
 * all else that the function does not exist; neither reaches the inner library.
 */
#include <string.h>

#include "api.h"

static CK_RV refuse(void)
{
    CK_RV rv = kw_api_enter();
    return rv != CKR_OK ? rv : kw_api_leave(CKR_FUNCTION_NOT_SUPPORTED);
}

static CK_RV refuse_key(CK_OBJECT_HANDLE key)
{
    CK_RV rv = kw_api_enter();
    if (rv != CKR_OK)
        return rv;
    return kw_api_leave(kw_api_key(key) != NULL ? CKR_KEY_FUNCTION_NOT_PERMITTED : CKR_FUNCTION_NOT_SUPPORTED);
}

static CK_RV refuse_with_key(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    (void)session;
    (void)mechanism;
    return refuse_key(key);
}

static CK_RV refuse_digest_key(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    (void)session;
    return refuse_key(key);
}

static CK_RV refuse_wrap(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE wrapping,
                         CK_OBJECT_HANDLE key, CK_BYTE_PTR wrapped, CK_ULONG_PTR length)
{
    (void)session;
    (void)mechanism;
    (void)wrapping;
    (void)wrapped;
    (void)length;
    return refuse_key(key);
}

static CK_RV refuse_unwrap(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE unwrapping,
                           CK_BYTE_PTR wrapped, CK_ULONG length, CK_ATTRIBUTE_PTR attributes, CK_ULONG count,
                           CK_OBJECT_HANDLE_PTR key)
{
    (void)session;
    (void)mechanism;
    (void)wrapped;
    (void)length;
    (void)attributes;
    (void)count;
    (void)key;
    return refuse_key(unwrapping);
}

static CK_RV refuse_derive(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE base,
                           CK_ATTRIBUTE_PTR attributes, CK_ULONG count, CK_OBJECT_HANDLE_PTR key)
{
    (void)session;
    (void)mechanism;
    (void)attributes;
    (void)count;
    (void)key;
    return refuse_key(base);
}

/* Each refused function with its own argument list, as calling through another type is undefined in C. */
#define REFUSED(name, ...)                                                                                             \
    static CK_RV name(__VA_ARGS__)                                                                                     \
    {                                                                                                                  \
        return refuse();                                                                                               \
    }

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
REFUSED(refuse_session, CK_SESSION_HANDLE session)
REFUSED(refuse_init_token, CK_SLOT_ID slot, CK_UTF8CHAR_PTR pin, CK_ULONG length, CK_UTF8CHAR_PTR label)
REFUSED(refuse_pin, CK_SESSION_HANDLE session, CK_UTF8CHAR_PTR pin, CK_ULONG length)
REFUSED(refuse_pins, CK_SESSION_HANDLE session, CK_UTF8CHAR_PTR pin, CK_ULONG length, CK_UTF8CHAR_PTR new_pin,
        CK_ULONG new_length)
REFUSED(refuse_output, CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG_PTR length)
REFUSED(refuse_input, CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length)
REFUSED(refuse_set_state, CK_SESSION_HANDLE session, CK_BYTE_PTR state, CK_ULONG length, CK_OBJECT_HANDLE encryption,
        CK_OBJECT_HANDLE authentication)
REFUSED(refuse_create, CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR attributes, CK_ULONG count,
        CK_OBJECT_HANDLE_PTR object)
REFUSED(refuse_copy, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR attributes, CK_ULONG count,
        CK_OBJECT_HANDLE_PTR copy)
REFUSED(refuse_destroy, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
REFUSED(refuse_size, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ULONG_PTR size)
REFUSED(refuse_set, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR attributes, CK_ULONG count)
REFUSED(refuse_transform, CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR result,
        CK_ULONG_PTR result_length)
REFUSED(refuse_verify, CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
        CK_ULONG signature_length)
REFUSED(refuse_generate, CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_ATTRIBUTE_PTR attributes,
        CK_ULONG count, CK_OBJECT_HANDLE_PTR key)
REFUSED(refuse_generate_pair, CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_ATTRIBUTE_PTR public_attributes,
        CK_ULONG public_count, CK_ATTRIBUTE_PTR private_attributes, CK_ULONG private_count,
        CK_OBJECT_HANDLE_PTR public_key, CK_OBJECT_HANDLE_PTR private_key)
REFUSED(refuse_wait, CK_FLAGS flags, CK_SLOT_ID_PTR slot, CK_VOID_PTR reserved)
#pragma GCC diagnostic pop

void kw_api_refuse_all(CK_FUNCTION_LIST_PTR list)
{
    memset(list, 0, sizeof *list);
    list->C_InitToken = refuse_init_token;
    list->C_InitPIN = refuse_pin;
    list->C_SetPIN = refuse_pins;
    list->C_GetOperationState = refuse_output;
    list->C_SetOperationState = refuse_set_state;
    list->C_CreateObject = refuse_create;
    list->C_CopyObject = refuse_copy;
    list->C_DestroyObject = refuse_destroy;
    list->C_GetObjectSize = refuse_size;
    list->C_SetAttributeValue = refuse_set;
    list->C_EncryptInit = refuse_with_key;
    list->C_Encrypt = refuse_transform;
    list->C_EncryptUpdate = refuse_transform;
    list->C_EncryptFinal = refuse_output;
    list->C_DecryptInit = refuse_with_key;
    list->C_Decrypt = refuse_transform;
    list->C_DecryptUpdate = refuse_transform;
    list->C_DecryptFinal = refuse_output;
    list->C_DigestUpdate = refuse_input;
    list->C_DigestKey = refuse_digest_key;
    list->C_DigestFinal = refuse_output;
    list->C_SignUpdate = refuse_input;
    list->C_SignFinal = refuse_output;
    list->C_SignRecoverInit = refuse_with_key;
    list->C_SignRecover = refuse_transform;
    list->C_VerifyInit = refuse_with_key;
    list->C_Verify = refuse_verify;
    list->C_VerifyUpdate = refuse_input;
    list->C_VerifyFinal = refuse_input;
    list->C_VerifyRecoverInit = refuse_with_key;
    list->C_VerifyRecover = refuse_transform;
    list->C_DigestEncryptUpdate = refuse_transform;
    list->C_DecryptDigestUpdate = refuse_transform;
    list->C_SignEncryptUpdate = refuse_transform;
    list->C_DecryptVerifyUpdate = refuse_transform;
    list->C_GenerateKey = refuse_generate;
    list->C_GenerateKeyPair = refuse_generate_pair;
    list->C_WrapKey = refuse_wrap;
    list->C_UnwrapKey = refuse_unwrap;
    list->C_DeriveKey = refuse_derive;
    list->C_SeedRandom = refuse_input;
    list->C_GetFunctionStatus = refuse_session;
    list->C_CancelFunction = refuse_session;
    list->C_WaitForSlotEvent = refuse_wait;
}
