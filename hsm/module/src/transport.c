#include "transport.h"

#include <stdio.h>
#include <string.h>

#include "octets.h"
#include "operations.h"

#define LABEL_LEN (sizeof KW_TRANSPORT_LABEL - 1)
#define TEXT_MAX 512
/* A DER octet string around the uncompressed point. */
#define ENCODED_LEN (2 + KW_POINT_LEN)

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static CK_RV find(const struct kw_inner *inner, CK_OBJECT_CLASS class, CK_OBJECT_HANDLE objects[2], CK_ULONG *count)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_LABEL, (void *)KW_TRANSPORT_LABEL, LABEL_LEN},
    };
    *count = 0;
    CK_RV rv = inner->functions->C_FindObjectsInit(inner->session, template, sizeof template / sizeof *template);
    if (rv != CKR_OK)
        return rv;
    rv = inner->functions->C_FindObjects(inner->session, objects, 2, count);
    CK_RV ended = inner->functions->C_FindObjectsFinal(inner->session);
    return rv != CKR_OK ? rv : ended;
}

CK_RV kw_transport_read(struct kw_transport *transport, const struct kw_inner *inner)
{
    CK_OBJECT_HANDLE privates[2], publics[2];
    CK_ULONG private_count, public_count = 0;
    uint8_t encoded[ENCODED_LEN];
    memset(transport, 0, sizeof *transport);
    CK_RV rv = find(inner, CKO_PRIVATE_KEY, privates, &private_count);
    if (rv == CKR_OK)
        rv = find(inner, CKO_PUBLIC_KEY, publics, &public_count);
    if (rv != CKR_OK || (private_count == 0 && public_count == 0))
        return rv;
    if (private_count != 1 || public_count != 1)
        return CKR_DEVICE_ERROR;
    CK_ATTRIBUTE value = {CKA_EC_POINT, encoded, sizeof encoded};
    rv = inner->functions->C_GetAttributeValue(inner->session, publics[0], &value, 1);
    if (rv != CKR_OK)
        return rv;
    const uint8_t *point = value.ulValueLen == ENCODED_LEN ? encoded + 2 : encoded;
    if ((value.ulValueLen != ENCODED_LEN && value.ulValueLen != KW_POINT_LEN) || point[0] != 0x04)
        return CKR_DEVICE_ERROR;
    memcpy(transport->point, point, KW_POINT_LEN);
    transport->private_key = privates[0];
    transport->present = true;
    return CKR_OK;
}

static CK_RV destroy_all(const struct kw_inner *inner)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    CK_RV rv = CKR_OK;
    for (unsigned i = 0; rv == CKR_OK && i < 2; i++) {
        CK_OBJECT_HANDLE objects[2];
        CK_ULONG count = 0;
        rv = find(inner, classes[i], objects, &count);
        for (CK_ULONG at = 0; rv == CKR_OK && at < count; at++)
            rv = inner->functions->C_DestroyObject(inner->session, objects[at]);
    }
    return rv;
}

static CK_RV generate(const struct kw_inner *inner)
{
    /* secp384r1 */
    static uint8_t curve[] = {0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22};
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_MECHANISM_TYPE allowed = CKM_ECDH1_DERIVE;
    CK_KEY_TYPE type = CKK_EC;
    CK_OBJECT_HANDLE public_key, private_key;
    CK_ATTRIBUTE public_template[] = {
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_VERIFY, &no, sizeof no},
        {CKA_EC_PARAMS, curve, sizeof curve},
        {CKA_LABEL, (void *)KW_TRANSPORT_LABEL, LABEL_LEN},
    };
    CK_ATTRIBUTE private_template[] = {
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_DERIVE, &yes, sizeof yes},
        {CKA_SIGN, &no, sizeof no},
        {CKA_DECRYPT, &no, sizeof no},
        {CKA_UNWRAP, &no, sizeof no},
        {CKA_ALLOWED_MECHANISMS, &allowed, sizeof allowed},
        {CKA_LABEL, (void *)KW_TRANSPORT_LABEL, LABEL_LEN},
    };
    return inner->functions->C_GenerateKeyPair(
        inner->session, &mechanism, public_template, sizeof public_template / sizeof *public_template, private_template,
        sizeof private_template / sizeof *private_template, &public_key, &private_key);
}

/* What the audit key says of the point: a centre that knows the audit key knows that this module made it. */
static CK_RV sign(const struct kw_module *module, uint8_t *answer)
{
    char text[TEXT_MAX], hex[2 * KW_POINT_LEN + 1];
    kw_hex(module->transport.point, KW_POINT_LEN, hex);
    int length = snprintf(text, sizeof text, "keywatt transport 1\nmodule %s\nserial %.16s\nprofile %u\npoint %s\n",
                          module->config.module_id, (const char *)module->inner.token.serialNumber,
                          (unsigned)module->config.profile, hex);
    if (length < 0 || (size_t)length >= sizeof text)
        return CKR_GENERAL_ERROR;
    return kw_audit_sign(module, (const uint8_t *)text, (size_t)length, answer + KW_TRANSPORT_SIGNATURE);
}

CK_RV kw_transport_key(struct kw_module *module, uint8_t *answer)
{
    int place = -1;
    enum kw_reason reason = module->audit.present ? KW_OK : KW_R_AUDIT_KEY_MISSING;
    CK_RV rv = CKR_OK;
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_TRANSPORT_KEY, NULL, 0, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK) {
        rv = destroy_all(&module->inner);
        if (rv == CKR_OK)
            rv = generate(&module->inner);
        if (rv == CKR_OK)
            rv = kw_transport_read(&module->transport, &module->inner);
        if (rv == CKR_OK)
            rv = sign(module, answer);
        memcpy(answer + KW_TRANSPORT_POINT, module->transport.point, KW_POINT_LEN);
    }
    if (rv == CKR_OK && reason == KW_OK)
        kw_approval_done(module, place);
    kw_put(answer, reason, 2);
    return rv;
}

CK_RV kw_end_transport(struct kw_module *module, uint8_t *answer)
{
    int place = -1;
    enum kw_reason reason = module->transport.present ? KW_OK : KW_R_TRANSPORT_KEY_MISSING;
    CK_RV rv = CKR_OK;
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_END_TRANSPORT, NULL, 0, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK) {
        rv = destroy_all(&module->inner);
        if (rv == CKR_OK)
            rv = kw_transport_read(&module->transport, &module->inner);
        if (rv == CKR_OK && module->transport.present)
            rv = CKR_DEVICE_ERROR;
    }
    if (rv == CKR_OK && reason == KW_OK)
        kw_approval_done(module, place);
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}
