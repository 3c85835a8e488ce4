#include "load_key.h"

#include <string.h>

#include "octets.h"
#include "operations.h"

/* The public test keys of the official compliance tests: they open nothing but certification and development. */
static const uint8_t public_dkga04[20] = {0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0x94, 0x94,
                                          0x94, 0x94, 0x94, 0x94, 0x94, 0x94, 0x01, 0x23, 0x45, 0x67};

static bool is_public_key(uint8_t dkga, const uint8_t *octets)
{
    if (dkga == 4)
        return memcmp(octets, public_dkga04, 20) == 0;
    return memcmp(octets, public_dkga04, 8) == 0 || memcmp(octets, public_dkga04 + 8, 8) == 0;
}

static bool has_odd_parity(const uint8_t *octets, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (__builtin_parity(octets[i]) == 0)
            return false;
    return true;
}

static size_t length_of(const struct kw_record *record)
{
    return record->dkga == 4 ? 20 : 8;
}

enum kw_reason kw_load_record(const uint8_t *item, enum kw_key_source source, struct kw_record *record)
{
    memset(record, 0, sizeof *record);
    memcpy(record->sgc, item + KW_LOAD_SGC, 6);
    record->krn = item[KW_LOAD_KRN];
    record->kt = item[KW_LOAD_KT];
    record->dkga = item[KW_LOAD_DKGA];
    record->bdt = item[KW_LOAD_BDT];
    record->ken = item[KW_LOAD_KEN];
    record->key_change = item[KW_LOAD_KEY_CHANGE];
    record->class0 = (uint16_t)kw_get(item + KW_LOAD_CLASS0, 2);
    record->class2 = (uint16_t)kw_get(item + KW_LOAD_CLASS2, 2);
    record->act = (int64_t)kw_get(item + KW_LOAD_ACT, 8);
    record->iut = (int64_t)kw_get(item + KW_LOAD_IUT, 8);
    record->rfr = (int64_t)kw_get(item + KW_LOAD_REFRESH, 8);
    record->ulm = kw_get(item + KW_LOAD_UNIT_LIMIT, 8);
    record->clm = kw_get(item + KW_LOAD_CURRENCY_LIMIT, 8);
    enum kw_reason reason = kw_record_check(record);
    if (reason != KW_OK)
        return reason;
    size_t in_item = source == KW_SOURCE_ITEM ? length_of(record) : 0;
    bool has_components = source == KW_SOURCE_COMPONENTS;
    if (item[KW_LOAD_KEY_CHANGE] > 1 || item[KW_LOAD_SOURCE] != source || item[KW_LOAD_HAS_EXPECTED] > 1 ||
        (item[KW_LOAD_HAS_EXPECTED] == 0 && !kw_all_zero(item + KW_LOAD_EXPECTED, 3)) || item[KW_LOAD_ZERO] != 0 ||
        has_components != (item[KW_LOAD_COMPONENTS] != 0) ||
        (!has_components && !kw_all_zero(item + KW_LOAD_VALUES, 4)) || !kw_all_zero(item + KW_LOAD_ZERO2, 8) ||
        !kw_all_zero(item + KW_LOAD_KEY + in_item, 20 - in_item))
        return KW_R_REQUEST_MALFORMED;
    return item[KW_LOAD_KEY_LEN] == length_of(record) ? KW_OK : KW_R_KEY_INVALID;
}

static enum kw_reason judge_key(const uint8_t *octets, const struct kw_config *config, struct kw_record *record)
{
    size_t length = length_of(record);
    if (kw_all_zero(octets, length))
        return KW_R_KEY_INVALID;
    if (record->dkga == 2 && !has_odd_parity(octets, length))
        return KW_R_KEY_PARITY;
    bool is_public = is_public_key(record->dkga, octets);
    if (config->profile == KW_PROFILE_PRODUCTION && is_public)
        return KW_R_TEST_KEY_REFUSED;
    record->origin = is_public                                  ? KW_ORIGIN_PUBLIC
                     : config->profile == KW_PROFILE_PRODUCTION ? KW_ORIGIN_CEREMONY
                                                                : KW_ORIGIN_DEVELOPMENT;
    return KW_OK;
}

/* Check value and proof, from a session key of the same octets: the label must be whole when the key is written. */
static CK_RV complete_record(const struct kw_module *module, const uint8_t *octets, struct kw_record *record)
{
    CK_OBJECT_HANDLE session_key;
    CK_RV rv = kw_check_value_of(module, length_of(record), octets, record->kcv);
    if (rv == CKR_OK)
        rv = kw_inner_create_key(&module->inner, record->dkga, octets, NULL, 0, &session_key);
    if (rv != CKR_OK)
        return rv;
    rv = kw_keystore_proof(&module->inner, session_key, record, record->proof);
    CK_RV destroyed = module->inner.functions->C_DestroyObject(module->inner.session, session_key);
    return rv != CKR_OK ? rv : destroyed;
}

/* Whether a key of the token has these octets: only then do they make the proof of its record. */
static CK_RV is_same_key(const struct kw_module *module, const struct kw_key *present, const uint8_t *octets,
                         bool *same)
{
    uint8_t proof[KW_PROOF_LEN];
    CK_OBJECT_HANDLE session_key;
    CK_RV rv = kw_inner_create_key(&module->inner, present->record.dkga, octets, NULL, 0, &session_key);
    if (rv != CKR_OK)
        return rv;
    rv = kw_keystore_proof(&module->inner, session_key, &present->record, proof);
    CK_RV destroyed = module->inner.functions->C_DestroyObject(module->inner.session, session_key);
    *same = rv == CKR_OK && memcmp(proof, present->record.proof, KW_PROOF_LEN) == 0;
    return rv != CKR_OK ? rv : destroyed;
}

/* Whether two records differ in nothing but what a refresh may change. */
static bool is_refresh(const struct kw_record *old, const struct kw_record *fresh)
{
    struct kw_record aligned = *fresh;
    aligned.iut = old->iut;
    aligned.rfr = old->rfr;
    aligned.ulm = old->ulm;
    aligned.clm = old->clm;
    memcpy(aligned.proof, old->proof, sizeof aligned.proof);
    char a[KW_RECORD_MAX], b[KW_RECORD_MAX];
    size_t length = kw_record_format(&aligned, true, a);
    return length == kw_record_format(old, true, b) && memcmp(a, b, length) == 0;
}

/* What is to be done about the key that has the name already; `replaced` is 0 unless it makes room. */
static CK_RV judge_present(const struct kw_module *module, const struct kw_record *record, const uint8_t *octets,
                           bool may_refresh, CK_OBJECT_HANDLE *replaced, enum kw_reason *reason)
{
    const struct kw_key *present = kw_keystore_find(&module->store, record->sgc, record->krn);
    bool same = false;
    *replaced = 0;
    if (present == NULL) {
        *reason = module->store.count >= KW_KEYS_MAX ? KW_R_TOKEN_STORE_FULL : KW_OK;
        return CKR_OK;
    }
    *reason = KW_R_KEY_EXISTS;
    if (memcmp(present->record.proof, record->proof, KW_PROOF_LEN) == 0)
        *reason = KW_R_KEY_ALREADY_LOADED;
    if (*reason == KW_R_KEY_ALREADY_LOADED || !may_refresh || !is_refresh(&present->record, record))
        return CKR_OK;
    CK_RV rv = is_same_key(module, present, octets, &same);
    if (rv == CKR_OK && same) {
        *replaced = present->inner;
        *reason = KW_OK;
    }
    return rv;
}

CK_RV kw_load_octets(struct kw_module *module, struct kw_record *record, const uint8_t *octets, const uint8_t *expected,
                     bool may_refresh, enum kw_reason *reason)
{
    const struct kw_inner *inner = &module->inner;
    char label[KW_RECORD_MAX];
    CK_OBJECT_HANDLE created, replaced = 0;
    *reason = judge_key(octets, &module->config, record);
    if (*reason != KW_OK)
        return CKR_OK;
    CK_RV rv = complete_record(module, octets, record);
    if (rv != CKR_OK)
        return rv;
    if (expected != NULL && memcmp(expected, record->kcv, 3) != 0) {
        *reason = KW_R_CHECK_VALUE_DIFFERS;
        return CKR_OK;
    }
    rv = judge_present(module, record, octets, may_refresh, &replaced, reason);
    if (rv != CKR_OK || *reason != KW_OK)
        return rv;
    size_t length = kw_record_format(record, true, label);
    rv = kw_inner_create_key(inner, record->dkga, octets, label, length, &created);
    if (rv == CKR_OK && replaced != 0)
        rv = inner->functions->C_DestroyObject(inner->session, replaced);
    if (rv == CKR_OK)
        rv = kw_keystore_read(&module->store, inner, &module->config);
    const struct kw_key *present = kw_keystore_find(&module->store, record->sgc, record->krn);
    /* What was written must be what is read: else the token is not what the officers believe. */
    return rv == CKR_OK && present == NULL ? CKR_DEVICE_ERROR : rv;
}

void kw_load_answer(const struct kw_record *record, enum kw_reason reason, uint8_t *answer)
{
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    if (reason != KW_OK && reason != KW_R_KEY_ALREADY_LOADED)
        return;
    answer[KW_CHECKED_ALGORITHM] = (uint8_t)kw_check_algorithm(length_of(record));
    memcpy(answer + KW_CHECKED_VALUE, record->kcv, 3);
}

/* The key itself, from where the item says that it is. */
static CK_RV take_key(const struct kw_module *module, const uint8_t *item, uint8_t octets[20], enum kw_reason *reason)
{
    const struct kw_components *components = &module->approval.components;
    size_t length = item[KW_LOAD_KEY_LEN];
    CK_RV rv = CKR_OK;
    memset(octets, 0, 20);
    switch (item[KW_LOAD_SOURCE]) {
    case KW_SOURCE_COMPONENTS:
        rv = kw_components_match(module, length, item[KW_LOAD_COMPONENTS], item + KW_LOAD_VALUES, reason);
        if (rv == CKR_OK && *reason == KW_OK)
            kw_components_combine(components, octets);
        break;
    case KW_SOURCE_GENERATE:
        rv = module->inner.functions->C_GenerateRandom(module->inner.session, octets, (CK_ULONG)length);
        if (length == 8)
            kw_set_odd_parity(octets, 8);
        break;
    default:
        memcpy(octets, item + KW_LOAD_KEY, length);
    }
    return rv;
}

CK_RV kw_load_key(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_record record;
    uint8_t octets[20] = {0};
    CK_RV rv = CKR_OK;
    int place = -1;
    const uint8_t *expected = item[KW_LOAD_HAS_EXPECTED] ? item + KW_LOAD_EXPECTED : NULL;
    enum kw_reason reason = item[KW_LOAD_SOURCE] > KW_SOURCE_GENERATE
                                ? KW_R_REQUEST_MALFORMED
                                : kw_load_record(item, (enum kw_key_source)item[KW_LOAD_SOURCE], &record);
    if (reason == KW_OK && item[KW_LOAD_SOURCE] == KW_SOURCE_ITEM && module->config.profile == KW_PROFILE_PRODUCTION)
        reason = KW_R_CLEAR_KEY_REFUSED;
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_LOAD_KEY, item, KW_LOAD_ITEM_LEN, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = take_key(module, item, octets, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = kw_load_octets(module, &record, octets, expected, false, &reason);
    explicit_bzero(octets, sizeof octets);
    if (rv != CKR_OK)
        return rv;
    /* A key that is there as it was approved needs nothing more. */
    if (reason == KW_OK || reason == KW_R_KEY_ALREADY_LOADED) {
        kw_approval_done(module, place);
        explicit_bzero(&module->approval.components, sizeof module->approval.components);
    }
    kw_load_answer(&record, reason, answer);
    return CKR_OK;
}
