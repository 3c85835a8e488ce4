#include <string.h>

#include "amount.h"
#include "decoder_key.h"
#include "frame.h"
#include "meter_identity.h"
#include "octets.h"
#include "operations.h"
#include "rules.h"

#define EXTENDED_READ 2

/* The value of a class 0 or 2 token as its 4 upper bits (RND, or sign and exponent) and 16 lower bits. */
struct value_field {
    uint8_t upper;
    uint16_t lower;
    kw_int128 granted;
};

static enum kw_reason encode_credit(uint8_t subclass, kw_int128 units, struct value_field *field)
{
    uint32_t currency = 0;
    enum kw_reason reason;
    if (units == 0)
        return KW_R_AMOUNT_ZERO;
    if (subclass < 4) {
        reason = kw_amount16_encode(units, &field->lower);
        field->granted = kw_amount16_units(field->lower);
        return reason;
    }
    reason = kw_currency_encode(units, &currency);
    field->upper = (uint8_t)(currency >> 16);
    field->lower = (uint16_t)currency;
    field->granted = kw_currency_units(currency);
    return reason;
}

static enum kw_reason encode_management(uint8_t subclass, kw_int128 value, struct value_field *field)
{
    if (subclass == 0 || subclass == 6) {
        enum kw_reason reason = kw_amount16_encode(value, &field->lower);
        field->granted = kw_amount16_units(field->lower);
        return reason;
    }
    if (value < 0 || value > 0xFFFF || (subclass == 5 && value != 0))
        return KW_R_FIELD_OUT_OF_RANGE;
    /* ClearCredit names one of eight registers, or all. */
    if (subclass == 1 && value > 7 && value != 0xFFFF)
        return KW_R_FIELD_OUT_OF_RANGE;
    field->lower = (uint16_t)value;
    field->granted = value;
    return KW_OK;
}

static bool is_validation(const uint8_t *item)
{
    return item[KW_ISSUE_FLAGS] & KW_ISSUE_FLAG_VALIDATE_ONLY;
}

static bool is_two_digit_form(uint8_t subclass)
{
    return subclass == 0 || subclass == EXTENDED_READ || subclass >= 11;
}

/* Class 1: no key, no meter, no identifier; the value is control << 16 | manufacturer code. */
static enum kw_reason issue_meter_test(const struct kw_config *config, const uint8_t *item, uint8_t *answer)
{
    uint8_t subclass = item[KW_ISSUE_SUBCLASS];
    kw_int128 value = kw_get128(item + KW_ISSUE_VALUE);
    int64_t now;
    if (item[KW_ISSUE_CLASS] != 1 || subclass > 15 || item[KW_ISSUE_EA] != 0 ||
        item[KW_ISSUE_FLAGS] & ~KW_ISSUE_FLAG_VALIDATE_ONLY ||
        !kw_all_zero(item + KW_ISSUE_RND, KW_ISSUE_CLOCK - KW_ISSUE_RND))
        return KW_R_REQUEST_MALFORMED;
    enum kw_reason reason = kw_item_clock(config, (int64_t)kw_get(item + KW_ISSUE_CLOCK, 8), &now);
    if (reason != KW_OK)
        return reason;
    if (subclass >= 3 && subclass <= 5)
        return KW_R_SUBCLASS_RESERVED;
    unsigned control_bits = is_two_digit_form(subclass) ? 36 : 28, code_bits = 44 - control_bits;
    if (value < 0 || value >> (control_bits + 16) != 0)
        return KW_R_FIELD_OUT_OF_RANGE;
    uint64_t control = (uint64_t)(value >> 16), code = (uint64_t)value & 0xFFFF;
    if (code >> code_bits != 0 || (subclass == EXTENDED_READ && code != 0))
        return KW_R_FIELD_OUT_OF_RANGE;
    struct kw_frame frame = {1, subclass, control << code_bits | code};
    if (!is_validation(item))
        kw_number_format(answer + KW_ISSUED_DIGITS, 1, kw_frame_block(&frame));
    kw_put128(answer + KW_ISSUED_VALUE, value);
    return KW_OK;
}

static enum kw_reason check(const struct kw_module *module, const struct kw_record *record, const uint8_t *item,
                            struct value_field *field)
{
    const struct kw_config *config = &module->config;
    uint8_t token_class = item[KW_ISSUE_CLASS], subclass = item[KW_ISSUE_SUBCLASS], rnd = item[KW_ISSUE_RND];
    kw_int128 value = kw_get128(item + KW_ISSUE_VALUE);
    enum kw_reason reason;
    int64_t now;
    if (item[KW_ISSUE_FLAGS] & ~(KW_ISSUE_FLAG_RESERVED_TID | KW_ISSUE_FLAG_VALIDATE_ONLY) || rnd > 15 ||
        !kw_all_zero(item + KW_ISSUE_ZERO, 6) || !kw_all_zero(item + KW_ISSUE_ZERO2, 4))
        return KW_R_REQUEST_MALFORMED;
    if ((reason = kw_rule_class(record, token_class, subclass)) != KW_OK ||
        (reason = kw_check_ea(item[KW_ISSUE_EA])) != KW_OK ||
        (reason = kw_check_carrier(item[KW_ISSUE_TCT])) != KW_OK ||
        (reason = kw_rule_algorithms(record, item[KW_ISSUE_EA], item[KW_ISSUE_TCT])) != KW_OK ||
        (reason = kw_check_pan(item + KW_ISSUE_PAN)) != KW_OK ||
        (reason = kw_check_tariff_index(item + KW_ISSUE_TI)) != KW_OK ||
        (reason = kw_item_clock(config, (int64_t)kw_get(item + KW_ISSUE_CLOCK, 8), &now)) != KW_OK)
        return reason;
    if (record->kt == 3 && !kw_pan_is_two_digit(item + KW_ISSUE_PAN))
        return KW_R_COMMON_KEY_UNSETTLED;
    if (config->profile == KW_PROFILE_PRODUCTION && item[KW_ISSUE_EA] == 7 && module->store.sample_tables)
        return KW_R_SAMPLE_TABLES_REFUSED;
    field->upper = rnd;
    reason = token_class == 0 ? encode_credit(subclass, value, field) : encode_management(subclass, value, field);
    if (reason == KW_OK)
        reason = kw_rule_limits(record, token_class, subclass, field->granted);
    if (reason != KW_OK)
        return reason;
    /* Currency credit has no random number: a caller that sends one is confused. */
    if (token_class == 0 && subclass >= 4 && rnd != 0)
        return KW_R_REQUEST_MALFORMED;
    return kw_rule_identifier(record, config, (uint32_t)kw_get(item + KW_ISSUE_TID, 4),
                              item[KW_ISSUE_FLAGS] & KW_ISSUE_FLAG_RESERVED_TID, now);
}

static CK_RV encrypt_token(const struct kw_module *module, const struct kw_key *key, const uint8_t *item,
                           const struct value_field *field, uint8_t *answer, enum kw_reason *reason)
{
    struct kw_meter meter = {item + KW_ISSUE_PAN, item + KW_ISSUE_TI, item[KW_ISSUE_EA]};
    struct kw_decoder_key decoder_key;
    uint64_t tid = kw_get(item + KW_ISSUE_TID, 4), block;
    struct kw_frame frame = {item[KW_ISSUE_CLASS], item[KW_ISSUE_SUBCLASS],
                             (uint64_t)field->upper << 40 | tid << 16 | field->lower};
    answer[KW_ISSUED_RND] = frame.token_class == 0 && frame.subclass >= 4 ? 0 : field->upper;
    kw_put(answer + KW_ISSUED_TID, tid, 4);
    kw_put128(answer + KW_ISSUED_VALUE, field->granted);
    if (is_validation(item))
        return CKR_OK;
    CK_RV rv = kw_decoder_key_derive(&module->inner, key->inner, &key->record, &meter, &decoder_key, reason);
    if (rv != CKR_OK || *reason != KW_OK)
        return rv;
    bool good = kw_decoder_key_encrypt(&decoder_key, &module->store.tables, kw_frame_block(&frame), &block);
    kw_decoder_key_wipe(&decoder_key);
    if (!good) {
        *reason = KW_R_CIPHER_FAULT;
        return CKR_OK;
    }
    kw_number_format(answer + KW_ISSUED_DIGITS, frame.token_class, block);
    return CKR_OK;
}

CK_RV kw_issue(struct kw_module *module, const struct kw_key *key, const uint8_t *item, uint8_t *answer)
{
    struct value_field field = {0, 0, 0};
    enum kw_reason reason;
    CK_RV rv = CKR_OK;
    reason = kw_lease_check(module);
    if (reason == KW_OK && key == NULL) {
        reason = issue_meter_test(&module->config, item, answer);
    } else if (reason == KW_OK) {
        reason = key->retired ? KW_R_KEY_RETIRED : check(module, &key->record, item, &field);
        if (reason == KW_OK)
            rv = encrypt_token(module, key, item, &field, answer, &reason);
    }
    if (rv != CKR_OK)
        return rv;
    kw_put(answer + KW_ISSUED_REASON, reason, 2);
    if (reason != KW_OK) {
        /* A refused item tells its reason and nothing that was computed on the way to it. */
        memset(answer + KW_ISSUED_CLASS, 0, KW_ISSUED_ITEM_LEN - KW_ISSUED_CLASS);
        module->counters.refused++;
        module->faulted = module->faulted || reason == KW_R_CIPHER_FAULT;
        return CKR_OK;
    }
    module->counters.issued += !is_validation(item);
    answer[KW_ISSUED_CLASS] = item[KW_ISSUE_CLASS];
    answer[KW_ISSUED_SUBCLASS] = item[KW_ISSUE_SUBCLASS];
    answer[KW_ISSUED_MARKS] = kw_marks(module, key == NULL ? NULL : &key->record, item[KW_ISSUE_EA]);
    return CKR_OK;
}
