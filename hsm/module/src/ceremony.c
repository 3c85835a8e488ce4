#include <string.h>

#include "civil_time.h"
#include "octets.h"
#include "operations.h"

#define PIN_FIELD_LEN 64
#define LABEL_LEN 32

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

static enum kw_reason read_record(const uint8_t *item, const struct kw_config *config, struct kw_record *record)
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
    enum kw_reason reason = kw_record_check(record);
    if (reason != KW_OK)
        return reason;
    size_t length = record->dkga == 4 ? 20 : 8;
    bool in_item = item[KW_LOAD_SOURCE] == KW_SOURCE_ITEM;
    bool has_components = item[KW_LOAD_SOURCE] == KW_SOURCE_COMPONENTS;
    if (item[KW_LOAD_KEY_CHANGE] > 1 || item[KW_LOAD_SOURCE] > KW_SOURCE_GENERATE || item[KW_LOAD_HAS_EXPECTED] > 1 ||
        (item[KW_LOAD_HAS_EXPECTED] == 0 && !kw_all_zero(item + KW_LOAD_EXPECTED, 3)) || item[KW_LOAD_ZERO] != 0 ||
        has_components != (item[KW_LOAD_COMPONENTS] != 0) ||
        (!has_components && !kw_all_zero(item + KW_LOAD_VALUES, 4)) ||
        !kw_all_zero(item + KW_LOAD_KEY + (in_item ? length : 0), 20 - (in_item ? length : 0)))
        return KW_R_REQUEST_MALFORMED;
    if (item[KW_LOAD_KEY_LEN] != length)
        return KW_R_KEY_INVALID;
    return in_item && config->profile == KW_PROFILE_PRODUCTION ? KW_R_CLEAR_KEY_REFUSED : KW_OK;
}

static enum kw_reason judge_key(const uint8_t *octets, const struct kw_config *config, struct kw_record *record)
{
    size_t length = record->dkga == 4 ? 20 : 8;
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

/* As many components as were approved, and with the check values that were. */
static CK_RV check_components(const struct kw_module *module, const uint8_t *item, enum kw_reason *reason)
{
    const struct kw_components *components = &module->approval.components;
    uint8_t values[KW_COMPONENTS_MAX * 3], digest[32];
    CK_RV rv = CKR_OK;
    if (!kw_components_whole(components) || components->key_length != item[KW_LOAD_KEY_LEN] ||
        components->total != item[KW_LOAD_COMPONENTS])
        *reason = KW_R_COMPONENTS_MISSING;
    if (*reason != KW_OK || kw_all_zero(item + KW_LOAD_VALUES, 4))
        return CKR_OK;
    for (unsigned i = 0; rv == CKR_OK && i < components->total; i++)
        rv = kw_check_value_of(module, item[KW_LOAD_DKGA], components->octets[i], values + i * 3U);
    if (rv == CKR_OK)
        rv = kw_inner_sha256(&module->inner, values, components->total * 3U, digest);
    if (rv == CKR_OK && memcmp(digest, item + KW_LOAD_VALUES, 4) != 0)
        *reason = KW_R_CHECK_VALUE_DIFFERS;
    return rv;
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
        rv = check_components(module, item, reason);
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

CK_RV kw_check_value_of(const struct kw_module *module, uint8_t dkga, const uint8_t *octets, uint8_t value[3])
{
    static const uint8_t zeros[8] = {0};
    uint8_t prefixed[21], digest[32] = {0};
    CK_OBJECT_HANDLE session_key;
    CK_RV rv, destroyed = CKR_OK;
    if (dkga == 4) {
        prefixed[0] = 0x01;
        memcpy(prefixed + 1, octets, 20);
        rv = kw_inner_sha256(&module->inner, prefixed, sizeof prefixed, digest);
    } else {
        rv = kw_inner_create_key(&module->inner, dkga, octets, NULL, 0, &session_key);
        if (rv != CKR_OK)
            return rv;
        rv = kw_inner_des(&module->inner, session_key, zeros, digest);
        destroyed = module->inner.functions->C_DestroyObject(module->inner.session, session_key);
    }
    memcpy(value, digest, 3);
    explicit_bzero(prefixed, sizeof prefixed);
    explicit_bzero(digest, sizeof digest);
    return rv != CKR_OK ? rv : destroyed;
}

/* Check value and proof, from a session key of the same octets: the label must be whole when the key is written. */
static CK_RV complete_record(const struct kw_module *module, const uint8_t *octets, struct kw_record *record)
{
    CK_OBJECT_HANDLE session_key;
    CK_RV rv = kw_check_value_of(module, record->dkga, octets, record->kcv);
    if (rv == CKR_OK)
        rv = kw_inner_create_key(&module->inner, record->dkga, octets, NULL, 0, &session_key);
    if (rv != CKR_OK)
        return rv;
    rv = kw_keystore_proof(&module->inner, session_key, record, record->proof);
    CK_RV destroyed = module->inner.functions->C_DestroyObject(module->inner.session, session_key);
    return rv != CKR_OK ? rv : destroyed;
}

static CK_RV store_key(struct kw_module *module, const uint8_t *item, const uint8_t *octets, struct kw_record *record,
                       enum kw_reason *reason)
{
    const struct kw_key *present = kw_keystore_find(&module->store, record->sgc, record->krn);
    char label[KW_RECORD_MAX];
    CK_OBJECT_HANDLE key;
    CK_RV rv = complete_record(module, octets, record);
    if (rv != CKR_OK)
        return rv;
    if (item[KW_LOAD_HAS_EXPECTED] && memcmp(item + KW_LOAD_EXPECTED, record->kcv, 3) != 0) {
        *reason = KW_R_CHECK_VALUE_DIFFERS;
        return CKR_OK;
    }
    if (present != NULL) {
        bool same = memcmp(present->record.proof, record->proof, KW_PROOF_LEN) == 0;
        *reason = same ? KW_R_KEY_ALREADY_LOADED : KW_R_KEY_EXISTS;
        return CKR_OK;
    }
    if (module->store.count >= KW_KEYS_MAX) {
        *reason = KW_R_TOKEN_STORE_FULL;
        return CKR_OK;
    }
    size_t length = kw_record_format(record, true, label);
    rv = kw_inner_create_key(&module->inner, record->dkga, octets, label, length, &key);
    if (rv == CKR_OK)
        rv = kw_keystore_read(&module->store, &module->inner, &module->config);
    present = kw_keystore_find(&module->store, record->sgc, record->krn);
    /* What was written must be what is read: else the token is not what the officers believe. */
    return rv == CKR_OK && present == NULL ? CKR_DEVICE_ERROR : rv;
}

CK_RV kw_load_key(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_record record;
    uint8_t octets[20] = {0};
    CK_RV rv = CKR_OK;
    int place = -1;
    enum kw_reason reason = read_record(item, &module->config, &record);
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_LOAD_KEY, item, KW_LOAD_ITEM_LEN, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = take_key(module, item, octets, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        reason = judge_key(octets, &module->config, &record);
    if (rv == CKR_OK && reason == KW_OK)
        rv = store_key(module, item, octets, &record, &reason);
    explicit_bzero(octets, sizeof octets);
    if (rv != CKR_OK)
        return rv;
    if (reason == KW_OK) {
        kw_approval_done(module, place);
        explicit_bzero(&module->approval.components, sizeof module->approval.components);
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    if (reason == KW_OK || reason == KW_R_KEY_ALREADY_LOADED) {
        answer[KW_CHECKED_ALGORITHM] = record.dkga == 4 ? KW_CHECK_ALGORITHM_SHA256_01 : KW_CHECK_ALGORITHM_DES_ZEROS;
        memcpy(answer + KW_CHECKED_VALUE, record.kcv, 3);
    }
    return CKR_OK;
}

/* 1 to 32 printable characters without blanks, then zeros. */
static bool read_table_name(const uint8_t *field, size_t *length)
{
    for (*length = 0; *length < KW_TABLES_NAME_LEN && field[*length] != 0; (*length)++)
        if (field[*length] <= ' ' || field[*length] > '~')
            return false;
    return *length > 0 && kw_all_zero(field + *length, KW_TABLES_NAME_LEN - *length);
}

CK_RV kw_install_tables(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_HANDLE previous[8], created;
    CK_ULONG count = 0;
    struct kw_sta_tables tables;
    char label[sizeof KW_TABLES_PREFIX + KW_TABLES_NAME_LEN] = KW_TABLES_PREFIX;
    const struct kw_inner *inner = &module->inner;
    size_t name_length;
    bool valid = read_table_name(item, &name_length) && kw_sta_load(&tables, item + KW_TABLES_NAME_LEN);
    bool sample = memcmp(item + KW_TABLES_NAME_LEN, kw_sta_sample, KW_TABLES_OCTETS) == 0;
    explicit_bzero(&tables, sizeof tables);
    if (!valid || (sample && module->config.profile == KW_PROFILE_PRODUCTION)) {
        kw_put(answer + KW_CHECKED_REASON, valid ? KW_R_SAMPLE_TABLES_REFUSED : KW_R_STA_TABLES_INVALID, 2);
        return CKR_OK;
    }
    memcpy(label + sizeof KW_TABLES_PREFIX - 1, item, name_length);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_LABEL, label, sizeof KW_TABLES_PREFIX - 1 + name_length},
        {CKA_VALUE, (void *)(item + KW_TABLES_NAME_LEN), KW_TABLES_OCTETS},
    };
    int place;
    enum kw_reason reason;
    CK_RV rv = kw_approval_of_action(module, KW_OP_INSTALL_TABLES, item, KW_TABLES_ITEM_LEN, &place, &reason);
    if (rv != CKR_OK || reason != KW_OK) {
        kw_put(answer + KW_CHECKED_REASON, reason, 2);
        return rv;
    }
    rv = kw_keystore_find_tables(inner, previous, 8, &count);
    if (rv == CKR_OK)
        rv = inner->functions->C_CreateObject(inner->session, template, sizeof template / sizeof *template, &created);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++)
        rv = inner->functions->C_DestroyObject(inner->session, previous[i]);
    if (rv == CKR_OK)
        kw_approval_done(module, place);
    return rv == CKR_OK ? kw_keystore_read(&module->store, inner, &module->config) : rv;
}

CK_RV kw_destroy_key(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    const struct kw_key *key = kw_keystore_find(&module->store, item, item[6]);
    int place = -1;
    enum kw_reason reason = KW_OK;
    CK_RV rv = CKR_OK;
    if (item[7] != 0)
        reason = KW_R_REQUEST_MALFORMED;
    else if (key == NULL)
        reason = KW_R_KEY_UNKNOWN;
    else
        rv = kw_approval_of_action(module, KW_OP_DESTROY_KEY, item, KW_DESTROY_ITEM_LEN, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK) {
        rv = module->inner.functions->C_DestroyObject(module->inner.session, key->inner);
        if (rv == CKR_OK)
            rv = kw_keystore_read(&module->store, &module->inner, &module->config);
        if (rv == CKR_OK && kw_keystore_find(&module->store, item, item[6]) != NULL)
            rv = CKR_DEVICE_ERROR;
        if (rv == CKR_OK)
            kw_approval_done(module, place);
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}

static CK_ULONG pin_length(const uint8_t *field)
{
    size_t length = 0;
    while (length < PIN_FIELD_LEN && field[length] != 0)
        length++;
    return kw_all_zero(field + length, PIN_FIELD_LEN - length) ? length : 0;
}

/* Initialise the blank token under the configured label, and set the user's PIN; nobody is logged in afterwards. */
CK_RV kw_init_token(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_inner *inner = &module->inner;
    uint8_t so_pin[PIN_FIELD_LEN], user_pin[PIN_FIELD_LEN], label[LABEL_LEN];
    CK_ULONG so_length = pin_length(item + LABEL_LEN), user_length = pin_length(item + LABEL_LEN + PIN_FIELD_LEN);
    CK_TOKEN_INFO info;
    if (memcmp(item, module->config.token_label, LABEL_LEN) != 0 || so_length == 0 || user_length == 0) {
        kw_put(answer + KW_CHECKED_REASON, KW_R_REQUEST_MALFORMED, 2);
        return CKR_OK;
    }
    CK_RV rv = kw_inner_find_slot(inner, module->config.token_label, true);
    if (rv == CKR_OK)
        rv = inner->functions->C_GetTokenInfo(inner->slot, &info);
    if (rv == CKR_OK && (info.flags & CKF_TOKEN_INITIALIZED)) {
        kw_put(answer + KW_CHECKED_REASON, KW_R_KEY_EXISTS, 2); /* a token of this label stands: never wiped here */
        return CKR_OK;
    }
    memcpy(label, item, LABEL_LEN);
    memcpy(so_pin, item + LABEL_LEN, PIN_FIELD_LEN);
    memcpy(user_pin, item + LABEL_LEN + PIN_FIELD_LEN, PIN_FIELD_LEN);
    if (rv == CKR_OK)
        rv = inner->functions->C_InitToken(inner->slot, so_pin, so_length, label);
    if (rv == CKR_OK)
        rv = kw_inner_find_slot(inner, module->config.token_label, false);
    if (rv == CKR_OK)
        rv = kw_inner_login(inner, true, CKU_SO, so_pin, so_length);
    if (rv == CKR_OK) {
        rv = inner->functions->C_InitPIN(inner->session, user_pin, user_length);
        kw_inner_logout(inner);
    }
    explicit_bzero(so_pin, sizeof so_pin);
    explicit_bzero(user_pin, sizeof user_pin);
    return rv;
}
