#include "fake_inner.h"

#include <string.h>

/* Handles from here on are secrets of so many octets. */
#define SECRET 1000UL

static CK_FUNCTION_LIST list;
static uint32_t calls_left;

static CK_RV step(void)
{
    if (calls_left == 0)
        return CKR_DEVICE_ERROR;
    calls_left -= calls_left != UINT32_MAX;
    return CKR_OK;
}

static void mix(uint8_t *out, CK_ULONG out_length, const uint8_t *in, CK_ULONG in_length)
{
    uint32_t state = 2166136261U;
    for (CK_ULONG i = 0; i < in_length; i++)
        state = (state ^ in[i]) * 16777619U;
    for (CK_ULONG i = 0; i < out_length; i++) {
        state = state * 1664525U + 1013904223U;
        out[i] = (uint8_t)(state >> 24);
    }
}

static CK_RV init_key(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    (void)session;
    (void)mechanism;
    (void)key;
    return step();
}

static CK_RV transform(CK_BYTE_PTR in, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG_PTR out_length, CK_ULONG wanted)
{
    if (*out_length < wanted)
        return CKR_BUFFER_TOO_SMALL;
    mix(out, wanted, in, length);
    *out_length = wanted;
    return step();
}

static CK_RV sign(CK_SESSION_HANDLE session, CK_BYTE_PTR in, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    (void)session;
    return transform(in, length, out, out_length, *out_length == 64 ? 64 : *out_length == 16 ? 16 : 32);
}

static CK_RV encrypt(CK_SESSION_HANDLE session, CK_BYTE_PTR in, CK_ULONG length, CK_BYTE_PTR out,
                     CK_ULONG_PTR out_length)
{
    (void)session;
    return transform(in, length, out, out_length, length);
}

static CK_RV wrap(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE wrapping,
                  CK_OBJECT_HANDLE key, CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    (void)session;
    (void)wrapping;
    (void)key;
    memset(out, 0x5A, 16);
    memcpy(out, mechanism->pParameter, 8);
    memcpy(out + 8, mechanism->pParameter, 8);
    *out_length = 16;
    return step();
}

static CK_RV decrypt(CK_SESSION_HANDLE session, CK_BYTE_PTR in, CK_ULONG length, CK_BYTE_PTR out,
                     CK_ULONG_PTR out_length)
{
    (void)session;
    memcpy(out, in, length);
    *out_length = length;
    return step();
}

static CK_RV digest_init(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism)
{
    (void)session;
    (void)mechanism;
    return step();
}

static CK_RV create(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR attributes, CK_ULONG count, CK_OBJECT_HANDLE_PTR object)
{
    (void)session;
    (void)attributes;
    (void)count;
    *object = 7;
    return step();
}

static CK_RV verify(CK_SESSION_HANDLE session, CK_BYTE_PTR in, CK_ULONG length, CK_BYTE_PTR signature,
                    CK_ULONG signature_length)
{
    (void)session;
    (void)in;
    (void)length;
    CK_RV rv = step();
    return rv != CKR_OK || (signature_length > 0 && signature[0] == 1) ? rv : CKR_SIGNATURE_INVALID;
}

static CK_RV random_octets(CK_SESSION_HANDLE session, CK_BYTE_PTR out, CK_ULONG length)
{
    (void)session;
    mix(out, length, (const uint8_t *)"random", 6);
    return step();
}

/* Only the values of secrets that were derived or unwrapped can be read. */
static CK_RV get_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR attributes,
                            CK_ULONG count)
{
    (void)session;
    if (object < SECRET || count != 1 || attributes->type != CKA_VALUE)
        return CKR_DEVICE_ERROR;
    CK_ULONG length = object - SECRET;
    if (attributes->ulValueLen < length)
        return CKR_BUFFER_TOO_SMALL;
    attributes->ulValueLen = length;
    memset(attributes->pValue, 0x5D, length);
    return step();
}

static CK_RV derive(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key,
                    CK_ATTRIBUTE_PTR template, CK_ULONG count, CK_OBJECT_HANDLE_PTR object)
{
    (void)session;
    (void)mechanism;
    (void)key;
    (void)template;
    (void)count;
    *object = SECRET + 48;
    return step();
}

static CK_RV destroy(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    (void)session;
    (void)object;
    return step();
}

static CK_RV find_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR attributes, CK_ULONG count)
{
    (void)session;
    (void)attributes;
    (void)count;
    return step();
}

static CK_RV find(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR objects, CK_ULONG limit, CK_ULONG_PTR count)
{
    (void)session;
    (void)objects;
    (void)limit;
    *count = 0;
    return step();
}

static CK_RV find_final(CK_SESSION_HANDLE session)
{
    (void)session;
    return step();
}

static CK_RV slot_list(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count)
{
    (void)present;
    if (slots != NULL)
        slots[0] = 0;
    *count = 1;
    return step();
}

static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info)
{
    (void)slot;
    memset(info, ' ', sizeof *info);
    info->flags = CKF_TOKEN_INITIALIZED;
    return step();
}

static CK_RV slot_info(CK_SLOT_ID slot, CK_SLOT_INFO_PTR info)
{
    (void)slot;
    memset(info, 0, sizeof *info);
    return step();
}

static CK_RV library_info(CK_INFO_PTR info)
{
    memset(info, ' ', sizeof *info);
    return step();
}

static CK_RV generate_pair(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_ATTRIBUTE_PTR public_template,
                           CK_ULONG public_count, CK_ATTRIBUTE_PTR private_template, CK_ULONG private_count,
                           CK_OBJECT_HANDLE_PTR public_key, CK_OBJECT_HANDLE_PTR private_key)
{
    (void)session;
    (void)mechanism;
    (void)public_template;
    (void)public_count;
    (void)private_template;
    (void)private_count;
    *public_key = 8;
    *private_key = 9;
    return step();
}

void kw_fake_inner(struct kw_inner *inner, uint32_t calls_until_failure)
{
    calls_left = calls_until_failure;
    memset(&list, 0, sizeof list);
    list.C_SignInit = init_key;
    list.C_EncryptInit = init_key;
    list.C_DecryptInit = init_key;
    list.C_Sign = sign;
    list.C_Encrypt = encrypt;
    list.C_Decrypt = decrypt;
    list.C_WrapKey = wrap;
    list.C_DeriveKey = derive;
    list.C_DigestInit = digest_init;
    list.C_VerifyInit = init_key;
    list.C_Verify = verify;
    list.C_GenerateRandom = random_octets;
    list.C_GetAttributeValue = get_attributes;
    list.C_Digest = sign;
    list.C_CreateObject = create;
    list.C_GenerateKeyPair = generate_pair;
    list.C_DestroyObject = destroy;
    list.C_FindObjectsInit = find_init;
    list.C_FindObjects = find;
    list.C_FindObjectsFinal = find_final;
    list.C_GetSlotList = slot_list;
    list.C_GetTokenInfo = token_info;
    list.C_GetSlotInfo = slot_info;
    list.C_GetInfo = library_info;
    memset(inner, 0, sizeof *inner);
    inner->functions = &list;
    inner->has_slot = true;
    inner->session = 1;
    inner->wrap_key = 2;
}
