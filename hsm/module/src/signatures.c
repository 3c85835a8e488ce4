#include "signatures.h"

#include <string.h>

#include "octets.h"

#define SHA512_LEN 64
#define USER_PRESENT 0x01
/* "SSHSIG", then namespace, nothing, "sha512" and the digest, each with its length */
#define SIGNED_MAX (6 + 4 + 64 + 4 + 4 + 6 + 4 + SHA512_LEN)

static CK_RV sha512(const struct kw_inner *inner, const uint8_t *data, size_t length, uint8_t digest[SHA512_LEN])
{
    CK_MECHANISM mechanism = {CKM_SHA512, NULL, 0};
    CK_ULONG written = SHA512_LEN;
    CK_RV rv = inner->functions->C_DigestInit(inner->session, &mechanism);
    if (rv == CKR_OK)
        rv = inner->functions->C_Digest(inner->session, (CK_BYTE_PTR)data, (CK_ULONG)length, digest, &written);
    return rv == CKR_OK && written != SHA512_LEN ? CKR_DEVICE_ERROR : rv;
}

static size_t put_string(uint8_t *out, const void *octets, size_t length)
{
    kw_put(out, length, 4);
    memcpy(out + 4, octets, length);
    return 4 + length;
}

static CK_RV ed25519(const struct kw_inner *inner, const uint8_t key[32], const uint8_t *data, size_t length,
                     const uint8_t signature[64], bool *genuine)
{
    static uint8_t curve[] = {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'};
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_KEY_TYPE type = CKK_EC_EDWARDS;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_MECHANISM mechanism = {CKM_EDDSA, NULL, 0};
    CK_OBJECT_HANDLE object;
    uint8_t point[34] = {0x04, 32};
    memcpy(point + 2, key, 32);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},   {CKA_KEY_TYPE, &type, sizeof type}, {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &no, sizeof no},       {CKA_VERIFY, &yes, sizeof yes},     {CKA_EC_PARAMS, curve, sizeof curve},
        {CKA_EC_POINT, point, sizeof point},
    };
    CK_RV rv = inner->functions->C_CreateObject(inner->session, template, sizeof template / sizeof *template, &object);
    if (rv != CKR_OK)
        return rv;
    rv = inner->functions->C_VerifyInit(inner->session, &mechanism, object);
    if (rv == CKR_OK) {
        rv =
            inner->functions->C_Verify(inner->session, (CK_BYTE_PTR)data, (CK_ULONG)length, (CK_BYTE_PTR)signature, 64);
        *genuine = rv == CKR_OK;
        if (rv == CKR_SIGNATURE_INVALID || rv == CKR_SIGNATURE_LEN_RANGE)
            rv = CKR_OK;
    }
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, object);
    if (rv == CKR_OK)
        rv = destroyed;
    *genuine = *genuine && rv == CKR_OK;
    return rv;
}

CK_RV kw_ssh_verify(const struct kw_inner *inner, const struct kw_ssh_signature *signature, const char *namespace,
                    const uint8_t *message, size_t length, bool *genuine)
{
    static const uint8_t magic[6] = {'S', 'S', 'H', 'S', 'I', 'G'};
    uint8_t data[SIGNED_MAX], digest[SHA512_LEN], by_key[32 + 1 + 4 + 32];
    size_t used = sizeof magic;
    *genuine = false;
    CK_RV rv = sha512(inner, message, length, digest);
    if (rv != CKR_OK)
        return rv;
    memcpy(data, magic, sizeof magic);
    used += put_string(data + used, namespace, strlen(namespace));
    used += put_string(data + used, "", 0);
    used += put_string(data + used, "sha512", 6);
    used += put_string(data + used, digest, sizeof digest);
    if (kw_all_zero(signature->application, 32)) {
        if (signature->flags != 0 || !kw_all_zero(signature->counter, 4))
            return CKR_OK;
        return ed25519(inner, signature->key, data, used, signature->signature, genuine);
    }
    /* A FIDO2 key signs its application, that somebody touched it, its counter, and the digest of all that. */
    if (!(signature->flags & USER_PRESENT))
        return CKR_OK;
    memcpy(by_key, signature->application, 32);
    by_key[32] = signature->flags;
    memcpy(by_key + 33, signature->counter, 4);
    rv = kw_inner_sha256(inner, data, (CK_ULONG)used, by_key + 37);
    return rv != CKR_OK ? rv : ed25519(inner, signature->key, by_key, sizeof by_key, signature->signature, genuine);
}
