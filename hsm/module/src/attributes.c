#include "attributes.h"

#include <stdio.h>
#include <string.h>

#define RETIRED " state=retired"

/* An attribute of a vending key in our own buffer. */
struct shown {
    uint8_t octets[KW_RECORD_MAX + sizeof RETIRED];
    CK_ULONG length;
};

static void put(struct shown *shown, const void *octets, CK_ULONG length)
{
    memcpy(shown->octets, octets, length);
    shown->length = length;
}

static bool show_flag(CK_ATTRIBUTE_TYPE type, struct shown *shown)
{
    CK_BBOOL flag;
    switch (type) {
    case CKA_TOKEN:
    case CKA_PRIVATE:
    case CKA_SENSITIVE:
    case CKA_SIGN: /* the vendor mechanisms are signatures to a caller */
        flag = CK_TRUE;
        break;
    case CKA_EXTRACTABLE:
    case CKA_MODIFIABLE:
    case CKA_ENCRYPT:
    case CKA_DECRYPT:
    case CKA_VERIFY:
    case CKA_DERIVE:
    case CKA_WRAP:
    case CKA_UNWRAP:
    case CKA_LOCAL:
    case CKA_ALWAYS_AUTHENTICATE:
    case CKA_TRUSTED:
        flag = CK_FALSE;
        break;
    default:
        return false;
    }
    put(shown, &flag, sizeof flag);
    return true;
}

static bool show(const struct kw_key *key, CK_ATTRIBUTE_TYPE type, struct shown *shown)
{
    static const CK_MECHANISM_TYPE allowed[] = {KW_MECHANISM(KW_OP_ISSUE), KW_MECHANISM(KW_OP_VERIFY),
                                                KW_MECHANISM(KW_OP_KEY_CHANGE), KW_MECHANISM(KW_OP_CHECK_VALUE)};
    const struct kw_record *record = &key->record;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE key_type = record->dkga == 4 ? CKK_GENERIC_SECRET : CKK_DES;
    char id[16];
    switch (type) {
    case CKA_CLASS:
        put(shown, &class, sizeof class);
        return true;
    case CKA_KEY_TYPE:
        put(shown, &key_type, sizeof key_type);
        return true;
    case CKA_LABEL: /* without its proof, which under DES is a known plaintext with its ciphertext */
        shown->length = kw_record_format(record, false, (char *)shown->octets);
        if (key->retired) {
            memcpy(shown->octets + shown->length, RETIRED, sizeof RETIRED - 1);
            shown->length += sizeof RETIRED - 1;
        }
        return true;
    case CKA_ID:
        snprintf(id, sizeof id, "%.6s/%u", (const char *)record->sgc, record->krn);
        put(shown, id, strlen(id));
        return true;
    case CKA_CHECK_VALUE:
        put(shown, record->kcv, sizeof record->kcv);
        return true;
    case CKA_ALLOWED_MECHANISMS:
        put(shown, allowed, sizeof allowed);
        return true;
    default:
        return show_flag(type, shown);
    }
}

CK_RV kw_attribute_get(const struct kw_key *key, CK_ATTRIBUTE_PTR attribute)
{
    struct shown shown;
    if (!show(key, attribute->type, &shown)) {
        attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return attribute->type == CKA_VALUE ? CKR_ATTRIBUTE_SENSITIVE : CKR_ATTRIBUTE_TYPE_INVALID;
    }
    if (attribute->pValue != NULL && attribute->ulValueLen < shown.length) {
        attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    if (attribute->pValue != NULL)
        memcpy(attribute->pValue, shown.octets, shown.length);
    attribute->ulValueLen = shown.length;
    return CKR_OK;
}

bool kw_attribute_matches(const struct kw_key *key, CK_ATTRIBUTE_TYPE type, const uint8_t *value, CK_ULONG length)
{
    struct shown shown;
    return show(key, type, &shown) && shown.length == length && memcmp(shown.octets, value, length) == 0;
}
