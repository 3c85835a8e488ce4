#include "keystore.h"

#include <string.h>

#define FIND_BATCH 64
#define PROOF_DOMAIN "keywatt record proof\n"

CK_RV kw_keystore_proof(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const struct kw_record *record,
                        uint8_t proof[KW_PROOF_LEN])
{
    char text[sizeof PROOF_DOMAIN - 1 + KW_RECORD_MAX];
    uint8_t digest[32];
    const size_t domain = sizeof PROOF_DOMAIN - 1;
    memcpy(text, PROOF_DOMAIN, domain);
    size_t length = domain + kw_record_format(record, false, text + domain);
    CK_RV rv;
    if (record->dkga == 4) {
        rv = kw_inner_hmac(inner, key, (const uint8_t *)text, length, digest);
        if (rv == CKR_OK)
            memcpy(proof, digest, KW_PROOF_LEN);
    } else {
        rv = kw_inner_sha256(inner, (const uint8_t *)text, length, digest);
        if (rv == CKR_OK)
            rv = kw_inner_des(inner, key, digest, proof);
    }
    explicit_bzero(digest, sizeof digest);
    return rv;
}

enum kw_reason kw_keystore_origin_allowed(enum kw_origin origin, const struct kw_config *config)
{
    if (config->mode == KW_MODE_CERTIFICATION && origin != KW_ORIGIN_PUBLIC)
        return KW_R_CERTIFICATION_KEY;
    if (config->profile == KW_PROFILE_PRODUCTION)
        return origin == KW_ORIGIN_CEREMONY ? KW_OK : KW_R_TEST_KEY_REFUSED;
    return origin == KW_ORIGIN_CEREMONY ? KW_R_TEST_KEY_REFUSED : KW_OK;
}

static CK_RV find_objects(const struct kw_inner *inner, CK_OBJECT_CLASS class, CK_OBJECT_HANDLE *objects,
                          CK_ULONG limit, CK_ULONG *count)
{
    CK_BBOOL token = CK_TRUE;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_TOKEN, &token, sizeof token}};
    CK_ULONG found = 0;
    *count = 0;
    CK_RV rv = inner->functions->C_FindObjectsInit(inner->session, template, 2);
    if (rv != CKR_OK)
        return rv;
    do {
        CK_ULONG want = limit - *count < FIND_BATCH ? limit - *count : FIND_BATCH;
        rv = inner->functions->C_FindObjects(inner->session, objects + *count, want, &found);
        *count += rv == CKR_OK ? found : 0;
    } while (rv == CKR_OK && found > 0 && *count < limit);
    CK_RV final = inner->functions->C_FindObjectsFinal(inner->session);
    return rv != CKR_OK ? rv : final;
}

/* The label of an object, or false when it has none that fits. */
static bool read_label(const struct kw_inner *inner, CK_OBJECT_HANDLE object, char *label, CK_ULONG size,
                       CK_ULONG *length)
{
    CK_ATTRIBUTE attribute = {CKA_LABEL, label, size};
    if (inner->functions->C_GetAttributeValue(inner->session, object, &attribute, 1) != CKR_OK)
        return false;
    *length = attribute.ulValueLen;
    return *length <= size;
}

static bool has_prefix(const char *label, CK_ULONG length, const char *prefix)
{
    return length >= strlen(prefix) && memcmp(label, prefix, strlen(prefix)) == 0;
}

/* A key that was put there around the module gives itself away by its attributes. */
static bool attributes_are_ours(const struct kw_inner *inner, CK_OBJECT_HANDLE object, uint8_t dkga)
{
    CK_BBOOL sensitive = CK_FALSE, modifiable = CK_TRUE, extractable = CK_TRUE, private = CK_FALSE;
    CK_KEY_TYPE type = 0;
    CK_ATTRIBUTE template[] = {{CKA_SENSITIVE, &sensitive, sizeof sensitive},
                               {CKA_MODIFIABLE, &modifiable, sizeof modifiable},
                               {CKA_EXTRACTABLE, &extractable, sizeof extractable},
                               {CKA_PRIVATE, &private, sizeof private},
                               {CKA_KEY_TYPE, &type, sizeof type}};
    if (inner->functions->C_GetAttributeValue(inner->session, object, template, 5) != CKR_OK)
        return false;
    return sensitive && private && !modifiable && extractable == (dkga == 2) &&
           type == (dkga == 4 ? CKK_GENERIC_SECRET : CKK_DES2);
}

/* Faults that speak of the library or the device; any other only of the object at hand. */
static bool is_grave(CK_RV rv)
{
    return rv == CKR_HOST_MEMORY || rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED || rv == CKR_DEVICE_ERROR ||
           rv == CKR_DEVICE_MEMORY || rv == CKR_DEVICE_REMOVED || rv == CKR_SESSION_CLOSED ||
           rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_USER_NOT_LOGGED_IN || rv == CKR_CRYPTOKI_NOT_INITIALIZED;
}

static CK_RV read_key(struct kw_keystore *store, const struct kw_inner *inner, const struct kw_config *config,
                      CK_OBJECT_HANDLE object)
{
    struct kw_key *key = &store->keys[store->count];
    char label[KW_RECORD_MAX];
    uint8_t proof[KW_PROOF_LEN];
    CK_ULONG length;
    if (!read_label(inner, object, label, sizeof label, &length) || !has_prefix(label, length, KW_RECORD_PREFIX))
        return CKR_OK;
    store->refused++;
    if (!kw_record_parse(&key->record, label, length) || !attributes_are_ours(inner, object, key->record.dkga))
        return CKR_OK;
    CK_RV rv = kw_keystore_proof(inner, object, &key->record, proof);
    if (rv != CKR_OK)
        return is_grave(rv) ? rv : CKR_OK;
    if (memcmp(proof, key->record.proof, KW_PROOF_LEN) != 0)
        return CKR_OK;
    if (config->mode != KW_MODE_CEREMONY && kw_keystore_origin_allowed(key->record.origin, config) != KW_OK)
        return CKR_OK;
    key->inner = object;
    store->refused--;
    store->count++;
    return CKR_OK;
}

/* Two keys of one name: nobody can say which is meant, so neither is used. */
static void drop_duplicates(struct kw_keystore *store)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < store->count; i++) {
        const struct kw_record *record = &store->keys[i].record;
        store->doubtful[i] = false;
        for (uint32_t j = 0; j < store->count && !store->doubtful[i]; j++)
            store->doubtful[i] = i != j && store->keys[j].record.krn == record->krn &&
                                 memcmp(store->keys[j].record.sgc, record->sgc, 6) == 0;
    }
    for (uint32_t i = 0; i < store->count; i++)
        if (!store->doubtful[i])
            store->keys[kept++] = store->keys[i];
    store->refused += store->count - kept;
    store->count = kept;
}

const struct kw_key *kw_keystore_find(const struct kw_keystore *store, const uint8_t sgc[6], uint8_t krn)
{
    for (uint32_t i = 0; i < store->count; i++)
        if (store->keys[i].record.krn == krn && memcmp(store->keys[i].record.sgc, sgc, 6) == 0)
            return &store->keys[i];
    return NULL;
}

CK_RV kw_keystore_find_tables(const struct kw_inner *inner, CK_OBJECT_HANDLE *objects, CK_ULONG limit, CK_ULONG *count)
{
    CK_OBJECT_HANDLE found[FIND_BATCH];
    char label[sizeof KW_TABLES_PREFIX + KW_TABLES_NAME_LEN];
    CK_ULONG total, length;
    CK_RV rv = find_objects(inner, CKO_DATA, found, FIND_BATCH, &total);
    *count = 0;
    for (CK_ULONG i = 0; rv == CKR_OK && i < total && *count < limit; i++)
        if (read_label(inner, found[i], label, sizeof label, &length) && has_prefix(label, length, KW_TABLES_PREFIX))
            objects[(*count)++] = found[i];
    return rv;
}

static CK_RV read_tables(struct kw_keystore *store, const struct kw_inner *inner)
{
    const CK_ULONG prefix = sizeof KW_TABLES_PREFIX - 1;
    CK_OBJECT_HANDLE objects[2];
    CK_ULONG count, length = 0;
    uint8_t octets[KW_TABLES_OCTETS];
    char label[sizeof KW_TABLES_PREFIX + KW_TABLES_NAME_LEN];
    CK_ATTRIBUTE value = {CKA_VALUE, octets, sizeof octets};
    CK_RV rv = kw_keystore_find_tables(inner, objects, 2, &count);
    if (rv != CKR_OK)
        return rv;
    if (count > 1)
        return CKR_DEVICE_ERROR; /* an installation that stopped half way: the officers decide, not we */
    memcpy(octets, kw_sta_sample, sizeof octets);
    memset(store->tables_name, 0, sizeof store->tables_name);
    memcpy(store->tables_name, "sample", 6);
    store->sample_tables = true;
    if (count == 1) {
        rv = inner->functions->C_GetAttributeValue(inner->session, objects[0], &value, 1);
        if (rv != CKR_OK || value.ulValueLen != sizeof octets)
            return CKR_DEVICE_ERROR;
        if (!read_label(inner, objects[0], label, sizeof label, &length) || length - prefix > KW_TABLES_NAME_LEN)
            return CKR_DEVICE_ERROR;
        memset(store->tables_name, 0, sizeof store->tables_name);
        memcpy(store->tables_name, label + prefix, length - prefix);
        store->sample_tables = memcmp(octets, kw_sta_sample, sizeof octets) == 0;
    }
    rv = kw_inner_sha256(inner, octets, sizeof octets, store->tables_digest);
    if (rv == CKR_OK && !kw_sta_load(&store->tables, octets))
        rv = CKR_DEVICE_ERROR;
    explicit_bzero(octets, sizeof octets);
    return rv;
}

CK_RV kw_keystore_read(struct kw_keystore *store, const struct kw_inner *inner, const struct kw_config *config)
{
    /* Beside vending keys there is the block key; more than that is not ours, and half a store is none. */
    static CK_OBJECT_HANDLE objects[KW_KEYS_MAX + 2];
    CK_ULONG count;
    store->count = store->refused = 0;
    CK_RV rv = find_objects(inner, CKO_SECRET_KEY, objects, KW_KEYS_MAX + 2, &count);
    if (rv == CKR_OK && count == KW_KEYS_MAX + 2)
        rv = CKR_DEVICE_ERROR;
    for (CK_ULONG i = 0; rv == CKR_OK && i < count && store->count < KW_KEYS_MAX; i++)
        rv = read_key(store, inner, config, objects[i]);
    drop_duplicates(store);
    if (rv == CKR_OK)
        rv = kw_retired_read(&store->retired, inner);
    for (uint32_t i = 0; rv == CKR_OK && i < store->count; i++)
        store->keys[i].retired = kw_retired_has(&store->retired, &store->keys[i].record);
    rv = rv == CKR_OK ? read_tables(store, inner) : rv;
    if (rv != CKR_OK)
        store->count = 0; /* half a store is none */
    return rv;
}
