#include "audit_key.h"

#include <stdio.h>
#include <string.h>

#include "octets.h"
#include "operations.h"

#define LABEL_LEN (sizeof KW_AUDIT_KEY_LABEL - 1)
#define BASE64_OF_32 44
/* module id, 20 digits, a root, three line ends */
#define CHECKPOINT_MAX (64 + 20 + BASE64_OF_32 + 4)

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static CK_RV find_one(const struct kw_inner *inner, CK_OBJECT_CLASS class, CK_OBJECT_HANDLE *object, CK_ULONG *count)
{
    CK_OBJECT_HANDLE found[2];
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_LABEL, (void *)KW_AUDIT_KEY_LABEL, LABEL_LEN},
    };
    CK_RV rv = inner->functions->C_FindObjectsInit(inner->session, template, sizeof template / sizeof *template);
    if (rv != CKR_OK)
        return rv;
    rv = inner->functions->C_FindObjects(inner->session, found, 2, count);
    CK_RV ended = inner->functions->C_FindObjectsFinal(inner->session);
    if (rv == CKR_OK && *count > 0)
        *object = found[0];
    return rv != CKR_OK ? rv : ended;
}

static CK_RV read_public(struct kw_audit *audit, const struct kw_inner *inner, CK_OBJECT_HANDLE object)
{
    /* A DER octet string around the point, as the standard has it; some libraries give the bare point. */
    uint8_t point[2 + KW_AUDIT_PUBLIC_LEN];
    CK_ATTRIBUTE value = {CKA_EC_POINT, point, sizeof point};
    CK_RV rv = inner->functions->C_GetAttributeValue(inner->session, object, &value, 1);
    if (rv != CKR_OK)
        return rv;
    if (value.ulValueLen == sizeof point && point[0] == 0x04 && point[1] == KW_AUDIT_PUBLIC_LEN)
        memcpy(audit->public_key, point + 2, KW_AUDIT_PUBLIC_LEN);
    else if (value.ulValueLen == KW_AUDIT_PUBLIC_LEN)
        memcpy(audit->public_key, point, KW_AUDIT_PUBLIC_LEN);
    else
        return CKR_DEVICE_ERROR;
    return CKR_OK;
}

CK_RV kw_audit_read(struct kw_audit *audit, const struct kw_inner *inner)
{
    CK_OBJECT_HANDLE public_key = 0;
    CK_ULONG privates = 0, publics = 0;
    memset(audit, 0, sizeof *audit);
    CK_RV rv = find_one(inner, CKO_PRIVATE_KEY, &audit->private_key, &privates);
    if (rv == CKR_OK)
        rv = find_one(inner, CKO_PUBLIC_KEY, &public_key, &publics);
    if (rv != CKR_OK || (privates == 0 && publics == 0))
        return rv;
    if (privates != 1 || publics != 1)
        return CKR_DEVICE_ERROR;
    rv = read_public(audit, inner, public_key);
    audit->present = rv == CKR_OK;
    return rv;
}

CK_RV kw_audit_generate(struct kw_audit *audit, const struct kw_inner *inner)
{
    static uint8_t curve[] = {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'};
    CK_MECHANISM mechanism = {CKM_EC_EDWARDS_KEY_PAIR_GEN, NULL, 0};
    CK_MECHANISM_TYPE allowed = CKM_EDDSA;
    CK_KEY_TYPE type = CKK_EC_EDWARDS;
    CK_OBJECT_HANDLE public_key, private_key;
    CK_ATTRIBUTE public_template[] = {
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_VERIFY, &yes, sizeof yes},
        {CKA_EC_PARAMS, curve, sizeof curve},
        {CKA_LABEL, (void *)KW_AUDIT_KEY_LABEL, LABEL_LEN},
    };
    CK_ATTRIBUTE private_template[] = {
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_SIGN, &yes, sizeof yes},
        {CKA_DECRYPT, &no, sizeof no},
        {CKA_DERIVE, &no, sizeof no},
        {CKA_UNWRAP, &no, sizeof no},
        {CKA_ALLOWED_MECHANISMS, &allowed, sizeof allowed},
        {CKA_LABEL, (void *)KW_AUDIT_KEY_LABEL, LABEL_LEN},
    };
    CK_RV rv = inner->functions->C_GenerateKeyPair(
        inner->session, &mechanism, public_template, sizeof public_template / sizeof *public_template, private_template,
        sizeof private_template / sizeof *private_template, &public_key, &private_key);
    return rv == CKR_OK ? kw_audit_read(audit, inner) : rv;
}

CK_RV kw_audit_sign(const struct kw_module *module, const uint8_t *text, size_t length, uint8_t signature[64])
{
    const struct kw_inner *inner = &module->inner;
    CK_MECHANISM mechanism = {CKM_EDDSA, NULL, 0};
    CK_ULONG written = 64;
    CK_RV rv = inner->functions->C_SignInit(inner->session, &mechanism, module->audit.private_key);
    if (rv == CKR_OK)
        rv = inner->functions->C_Sign(inner->session, (CK_BYTE_PTR)text, (CK_ULONG)length, signature, &written);
    return rv == CKR_OK && written != 64 ? CKR_DEVICE_ERROR : rv;
}

static void base64_of_32(const uint8_t octets[32], char text[BASE64_OF_32 + 1])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = text;
    for (unsigned i = 0; i < 33; i += 3) {
        uint32_t group = (uint32_t)octets[i] << 16 | (uint32_t)octets[i + 1] << 8 | (i + 2 < 32 ? octets[i + 2] : 0U);
        for (int shift = 18; shift >= 0; shift -= 6)
            *out++ = alphabet[group >> shift & 0x3F];
    }
    text[BASE64_OF_32 - 1] = '=';
    text[BASE64_OF_32] = '\0';
}

static void show_key(const struct kw_audit *audit, uint8_t *answer)
{
    kw_put(answer + KW_AUDIT_REASON, audit->present ? KW_OK : KW_R_AUDIT_KEY_MISSING, 2);
    if (!audit->present)
        return;
    answer[KW_AUDIT_ALGORITHM] = KW_AUDIT_ALGORITHM_ED25519;
    memcpy(answer + KW_AUDIT_PUBLIC, audit->public_key, KW_AUDIT_PUBLIC_LEN);
}

CK_RV kw_audit_key(struct kw_module *module, uint8_t *answer)
{
    show_key(&module->audit, answer);
    return CKR_OK;
}

CK_RV kw_make_audit_key(struct kw_module *module, uint8_t *answer)
{
    if (module->audit.present) {
        show_key(&module->audit, answer);
        kw_put(answer + KW_AUDIT_REASON, KW_R_KEY_ALREADY_LOADED, 2);
        return CKR_OK;
    }
    int place;
    enum kw_reason reason;
    CK_RV rv = kw_approval_of_action(module, KW_OP_MAKE_AUDIT_KEY, NULL, 0, &place, &reason);
    if (rv != CKR_OK || reason != KW_OK) {
        kw_put(answer + KW_AUDIT_REASON, reason, 2);
        return rv;
    }
    rv = kw_audit_generate(&module->audit, &module->inner);
    if (rv != CKR_OK)
        return rv;
    kw_approval_done(module, place);
    show_key(&module->audit, answer);
    return CKR_OK;
}

CK_RV kw_sign_checkpoint(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_audit *audit = &module->audit;
    const uint8_t *root = item + KW_CHECKPOINT_ROOT;
    uint64_t size = kw_get(item + KW_CHECKPOINT_SIZE, 8);
    char text[CHECKPOINT_MAX], encoded[BASE64_OF_32 + 1];
    if (!audit->present) {
        kw_put(answer + KW_SIGNED_REASON, KW_R_AUDIT_KEY_MISSING, 2);
        return CKR_OK;
    }
    /* A log only grows. The caller keeps it; that it does not go back is seen here too. */
    if (audit->has_signed &&
        (size < audit->last_size || (size == audit->last_size && memcmp(root, audit->last_root, 32) != 0))) {
        kw_put(answer + KW_SIGNED_REASON, KW_R_LOG_INCONSISTENT, 2);
        return CKR_OK;
    }
    base64_of_32(root, encoded);
    int length =
        snprintf(text, sizeof text, "%s\n%llu\n%s\n", module->config.module_id, (unsigned long long)size, encoded);
    if (length <= 0 || (size_t)length >= sizeof text)
        return CKR_GENERAL_ERROR;
    CK_RV rv = kw_audit_sign(module, (const uint8_t *)text, (size_t)length, answer + KW_SIGNED_SIGNATURE);
    if (rv != CKR_OK)
        return rv;
    audit->has_signed = true;
    audit->last_size = size;
    memcpy(audit->last_root, root, 32);
    kw_put(answer + KW_SIGNED_REASON, KW_OK, 2);
    return CKR_OK;
}
