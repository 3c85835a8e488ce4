#include "inner.h"

#include <dlfcn.h>
#include <string.h>

#define DKGA04_KEY_LEN 20
/* SoftHSM refuses HMAC keys under 32 octets; zero octets at the end do not change an HMAC. */
#define HMAC_KEY_LEN 32
#define SLOTS_MAX 64

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

CK_RV kw_inner_open(struct kw_inner *inner, const char *library)
{
    CK_C_INITIALIZE_ARGS arguments;
    CK_C_GetFunctionList get_list;
    CK_RV rv;
    memset(inner, 0, sizeof *inner);
    memset(&arguments, 0, sizeof arguments);
    arguments.flags = CKF_OS_LOCKING_OK;
    inner->handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (inner->handle == NULL)
        return CKR_GENERAL_ERROR;
    *(void **)&get_list = dlsym(inner->handle, "C_GetFunctionList");
    rv = get_list == NULL ? CKR_GENERAL_ERROR : get_list(&inner->functions);
    if (rv == CKR_OK)
        rv = inner->functions->C_Initialize(&arguments);
    if (rv != CKR_OK) {
        dlclose(inner->handle);
        memset(inner, 0, sizeof *inner);
    }
    return rv;
}

void kw_inner_close(struct kw_inner *inner)
{
    if (inner->handle == NULL)
        return;
    kw_inner_logout(inner);
    inner->functions->C_Finalize(NULL);
    dlclose(inner->handle);
    memset(inner, 0, sizeof *inner);
}

CK_RV kw_inner_find_slot(struct kw_inner *inner, const char label[33], bool or_blank)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX, found = 0;
    CK_TOKEN_INFO info;
    inner->has_slot = false;
    CK_RV rv = inner->functions->C_GetSlotList(CK_TRUE, NULL, &count);
    count = SLOTS_MAX;
    if (rv == CKR_OK)
        rv = inner->functions->C_GetSlotList(CK_TRUE, slots, &count);
    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < count; i++) {
        if (inner->functions->C_GetTokenInfo(slots[i], &info) != CKR_OK || !(info.flags & CKF_TOKEN_INITIALIZED))
            continue;
        if (memcmp(info.label, label, 32) == 0) {
            inner->slot = slots[i];
            inner->token = info;
            found++;
        }
    }
    /* Two tokens of one label: we cannot know which is meant, so neither is. */
    if (found > 1)
        return CKR_TOKEN_NOT_RECOGNIZED;
    for (CK_ULONG i = 0; found == 0 && or_blank && i < count; i++)
        if (inner->functions->C_GetTokenInfo(slots[i], &info) == CKR_OK && !(info.flags & CKF_TOKEN_INITIALIZED)) {
            inner->slot = slots[i];
            inner->token = info;
            found = 1;
        }
    inner->has_slot = found == 1;
    return inner->has_slot ? CKR_OK : CKR_TOKEN_NOT_PRESENT;
}

static CK_RV make_wrap_key(struct kw_inner *inner)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ULONG length = 32;
    CK_ATTRIBUTE template[] = {
        {CKA_TOKEN, &no, sizeof no},       {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes}, {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_WRAP, &yes, sizeof yes},      {CKA_DECRYPT, &yes, sizeof yes},
        {CKA_ENCRYPT, &no, sizeof no},     {CKA_VALUE_LEN, &length, sizeof length},
    };
    return inner->functions->C_GenerateKey(inner->session, &mechanism, template, sizeof template / sizeof *template,
                                           &inner->wrap_key);
}

CK_RV kw_inner_login(struct kw_inner *inner, bool read_write, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length)
{
    CK_FLAGS flags = CKF_SERIAL_SESSION | (read_write ? CKF_RW_SESSION : 0);
    CK_RV rv;
    if (!inner->has_slot)
        return CKR_TOKEN_NOT_PRESENT;
    rv = inner->functions->C_OpenSession(inner->slot, flags, NULL, NULL, &inner->session);
    if (rv != CKR_OK) {
        inner->session = 0;
        return rv;
    }
    rv = inner->functions->C_Login(inner->session, user, pin, length);
    if (rv == CKR_OK && user == CKU_USER)
        rv = make_wrap_key(inner);
    if (rv != CKR_OK)
        kw_inner_logout(inner);
    return rv;
}

void kw_inner_logout(struct kw_inner *inner)
{
    if (inner->session != 0) {
        inner->functions->C_Logout(inner->session);
        inner->functions->C_CloseSession(inner->session);
    }
    inner->session = 0;
    inner->wrap_key = 0;
}

CK_RV kw_inner_hmac(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t *data, CK_ULONG length,
                    uint8_t digest[32])
{
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    CK_ULONG written = 32;
    CK_RV rv = inner->functions->C_SignInit(inner->session, &mechanism, key);
    if (rv == CKR_OK)
        rv = inner->functions->C_Sign(inner->session, (CK_BYTE_PTR)data, length, digest, &written);
    return rv == CKR_OK && written != 32 ? CKR_DEVICE_ERROR : rv;
}

CK_RV kw_inner_des(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t block[8], uint8_t result[8])
{
    /* Single DES is gone from OpenSSL 3; with K||K, triple DES is single DES. */
    CK_MECHANISM mechanism = {CKM_DES3_ECB, NULL, 0};
    CK_ULONG written = 8;
    CK_RV rv = inner->functions->C_EncryptInit(inner->session, &mechanism, key);
    if (rv == CKR_OK)
        rv = inner->functions->C_Encrypt(inner->session, (CK_BYTE_PTR)block, 8, result, &written);
    return rv == CKR_OK && written != 8 ? CKR_DEVICE_ERROR : rv;
}

CK_RV kw_inner_xor_key(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t mask[8], uint8_t result[8])
{
    /* AES-CBC wrapping xors the key with the IV before encrypting it; undoing the encryption alone leaves the xor. */
    uint8_t iv[16], wrapped[32], clear[32];
    CK_MECHANISM wrap = {CKM_AES_CBC, iv, sizeof iv}, undo = {CKM_AES_ECB, NULL, 0};
    CK_ULONG wrapped_length = sizeof wrapped, clear_length = sizeof clear;
    memcpy(iv, mask, 8);
    memcpy(iv + 8, mask, 8);
    CK_RV rv = inner->functions->C_WrapKey(inner->session, &wrap, inner->wrap_key, key, wrapped, &wrapped_length);
    if (rv == CKR_OK && wrapped_length != 16)
        rv = CKR_DEVICE_ERROR;
    if (rv == CKR_OK)
        rv = inner->functions->C_DecryptInit(inner->session, &undo, inner->wrap_key);
    if (rv == CKR_OK)
        rv = inner->functions->C_Decrypt(inner->session, wrapped, 16, clear, &clear_length);
    if (rv == CKR_OK && (clear_length != 16 || memcmp(clear, clear + 8, 8) != 0))
        rv = CKR_DEVICE_ERROR;
    if (rv == CKR_OK)
        memcpy(result, clear, 8);
    explicit_bzero(iv, sizeof iv);
    explicit_bzero(wrapped, sizeof wrapped);
    explicit_bzero(clear, sizeof clear);
    return rv;
}

CK_RV kw_inner_sha256(const struct kw_inner *inner, const uint8_t *data, CK_ULONG length, uint8_t digest[32])
{
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    CK_ULONG written = 32;
    CK_RV rv = inner->functions->C_DigestInit(inner->session, &mechanism);
    if (rv == CKR_OK)
        rv = inner->functions->C_Digest(inner->session, (CK_BYTE_PTR)data, length, digest, &written);
    return rv == CKR_OK && written != 32 ? CKR_DEVICE_ERROR : rv;
}

CK_RV kw_inner_create_key(const struct kw_inner *inner, uint8_t dkga, const uint8_t *octets, const char *label,
                          CK_ULONG label_length, CK_OBJECT_HANDLE *key)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = dkga == 4 ? CKK_GENERIC_SECRET : CKK_DES2;
    CK_MECHANISM_TYPE allowed = dkga == 4 ? CKM_SHA256_HMAC : CKM_DES3_ECB;
    uint8_t value[HMAC_KEY_LEN];
    CK_ULONG value_length = dkga == 4 ? HMAC_KEY_LEN : 16;
    CK_BBOOL token = label != NULL, hmac = dkga == 4, des = dkga != 4;
    memset(value, 0, sizeof value);
    memcpy(value, octets, dkga == 4 ? DKGA04_KEY_LEN : 8);
    if (dkga != 4)
        memcpy(value + 8, octets, 8);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &token, sizeof token},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_MODIFIABLE, &no, sizeof no},
        /* DKGA02 needs the xor with the key itself, see kw_inner_xor_key. */
        {CKA_EXTRACTABLE, &des, sizeof des},
        {CKA_SIGN, &hmac, sizeof hmac},
        {CKA_ENCRYPT, &des, sizeof des},
        {CKA_VERIFY, &no, sizeof no},
        {CKA_DECRYPT, &no, sizeof no},
        {CKA_DERIVE, &no, sizeof no},
        {CKA_WRAP, &no, sizeof no},
        {CKA_UNWRAP, &no, sizeof no},
        {CKA_ALLOWED_MECHANISMS, &allowed, sizeof allowed},
        {CKA_LABEL, (void *)label, label == NULL ? 0 : label_length},
        {CKA_VALUE, value, value_length},
    };
    CK_RV rv = inner->functions->C_CreateObject(inner->session, template, sizeof template / sizeof *template, key);
    explicit_bzero(value, sizeof value);
    return rv;
}

CK_RV kw_inner_aes_key(const struct kw_inner *inner, const uint8_t octets[32], CK_MECHANISM_TYPE allowed,
                       const char *label, CK_OBJECT_HANDLE *key)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL token = label != NULL, sign = allowed == CKM_AES_CMAC, decrypt = !sign;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &token, sizeof token},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_SIGN, &sign, sizeof sign},
        {CKA_DECRYPT, &decrypt, sizeof decrypt},
        {CKA_UNWRAP, &no, sizeof no},
        {CKA_VERIFY, &no, sizeof no},
        {CKA_ENCRYPT, &no, sizeof no},
        {CKA_DERIVE, &no, sizeof no},
        {CKA_WRAP, &no, sizeof no},
        {CKA_ALLOWED_MECHANISMS, &allowed, sizeof allowed},
        {CKA_LABEL, (void *)label, label == NULL ? 0 : strlen(label)},
        {CKA_VALUE, (void *)octets, 32},
    };
    return inner->functions->C_CreateObject(inner->session, template, sizeof template / sizeof *template, key);
}

CK_RV kw_inner_cmac(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t *data, CK_ULONG length,
                    uint8_t mac[16])
{
    CK_MECHANISM mechanism = {CKM_AES_CMAC, NULL, 0};
    CK_ULONG written = 16;
    CK_RV rv = inner->functions->C_SignInit(inner->session, &mechanism, key);
    if (rv == CKR_OK)
        rv = inner->functions->C_Sign(inner->session, (CK_BYTE_PTR)data, length, mac, &written);
    return rv == CKR_OK && written != 16 ? CKR_DEVICE_ERROR : rv;
}

CK_RV kw_inner_aes_decrypt(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t *iv, const uint8_t *data,
                           CK_ULONG length, uint8_t *clear)
{
    CK_MECHANISM mechanism = {iv == NULL ? CKM_AES_ECB : CKM_AES_CBC, (void *)iv, iv == NULL ? 0 : 16};
    CK_ULONG written = length;
    CK_RV rv = inner->functions->C_DecryptInit(inner->session, &mechanism, key);
    if (rv == CKR_OK)
        rv = inner->functions->C_Decrypt(inner->session, (CK_BYTE_PTR)data, length, clear, &written);
    return rv == CKR_OK && written != length ? CKR_DEVICE_ERROR : rv;
}

/* Faults that speak of the point that was sent; libraries do not agree on what they call it. */
static bool is_of_data(CK_RV rv)
{
    return rv == CKR_MECHANISM_PARAM_INVALID || rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED;
}

/* Read a session key that may be read, and destroy it. */
static CK_RV take_value(const struct kw_inner *inner, CK_OBJECT_HANDLE key, uint8_t *octets, CK_ULONG size,
                        CK_ULONG *length)
{
    CK_ATTRIBUTE value = {CKA_VALUE, octets, size};
    CK_RV rv = inner->functions->C_GetAttributeValue(inner->session, key, &value, 1);
    *length = rv == CKR_OK && value.ulValueLen <= size ? value.ulValueLen : 0;
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, key);
    return rv != CKR_OK ? rv : destroyed;
}

CK_RV kw_inner_ecdh(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t point[KW_POINT_LEN],
                    uint8_t shared[KW_SHARED_LEN], bool *good)
{
    CK_ECDH1_DERIVE_PARAMS parameters = {CKD_NULL, 0, NULL, KW_POINT_LEN, (CK_BYTE_PTR)point};
    CK_MECHANISM mechanism = {CKM_ECDH1_DERIVE, &parameters, sizeof parameters};
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_ULONG length = KW_SHARED_LEN, written;
    CK_OBJECT_HANDLE secret;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &no, sizeof no},
        {CKA_EXTRACTABLE, &yes, sizeof yes},
        {CKA_VALUE_LEN, &length, sizeof length},
    };
    CK_RV rv = inner->functions->C_DeriveKey(inner->session, &mechanism, key, template,
                                             sizeof template / sizeof *template, &secret);
    *good = rv == CKR_OK;
    if (is_of_data(rv))
        return CKR_OK;
    if (rv == CKR_OK)
        rv = take_value(inner, secret, shared, KW_SHARED_LEN, &written);
    return rv == CKR_OK && written != KW_SHARED_LEN ? CKR_DEVICE_ERROR : rv;
}
