#include <string.h>

#include "decoder_key.h"
#include "frame.h"
#include "meter_identity.h"
#include "octets.h"
#include "operations.h"
#include "rules.h"

#define SET_MAX 4

static enum kw_reason check(const struct kw_module *module, const struct kw_record *old, const struct kw_key *new_key,
                            const uint8_t *item)
{
    uint8_t ea = item[KW_CHANGE_EA], size = item[KW_CHANGE_SET_SIZE], tct = item[KW_CHANGE_TCT];
    enum kw_reason reason;
    int64_t now;
    if (item[KW_CHANGE_FLAGS] & ~KW_CHANGE_FLAG_VALIDATE_ONLY ||
        !kw_all_zero(item + KW_CHANGE_ZERO, KW_CHANGE_ITEM_LEN - KW_CHANGE_ZERO))
        return KW_R_REQUEST_MALFORMED;
    if (new_key == NULL)
        return KW_R_NEW_KEY_UNKNOWN;
    /* Meters may still be led away from a retired key, never to it. */
    if (new_key->retired)
        return KW_R_KEY_RETIRED;
    if ((reason = kw_check_ea(ea)) != KW_OK || (reason = kw_check_carrier(tct)) != KW_OK ||
        (reason = kw_rule_algorithms(old, ea, tct)) != KW_OK ||
        (reason = kw_rule_algorithms(&new_key->record, ea, tct)) != KW_OK ||
        (reason = kw_check_pan(item + KW_CHANGE_PAN)) != KW_OK ||
        (reason = kw_check_tariff_index(item + KW_CHANGE_OLD_TI)) != KW_OK ||
        (reason = kw_check_tariff_index(item + KW_CHANGE_NEW_TI)) != KW_OK)
        return reason;
    if (old->kt == 3 && !kw_pan_is_two_digit(item + KW_CHANGE_PAN))
        return KW_R_COMMON_KEY_UNSETTLED;
    if (ea == 11 ? size != 4 : size != 2 && size != 3)
        return KW_R_KEY_CHANGE_SET_INVALID;
    if (module->config.profile == KW_PROFILE_PRODUCTION && ea == 7 && module->store.sample_tables)
        return KW_R_SAMPLE_TABLES_REFUSED;
    reason = kw_item_clock(&module->config, (int64_t)kw_get(item + KW_CHANGE_CLOCK, 8), &now);
    return reason != KW_OK ? reason : kw_rule_key_change(old, &new_key->record, &module->config, tct, now);
}

/* The contents of the set, in order; returns their number. */
static unsigned fill(struct kw_frame frames[SET_MAX], const struct kw_decoder_key *new_decoder_key,
                     const struct kw_record *old, const struct kw_record *new_record, const uint8_t *item)
{
    static const uint8_t subclasses[SET_MAX] = {3, 4, 8, 9};
    const uint8_t *octets = new_decoder_key->octets;
    unsigned size = item[KW_CHANGE_SET_SIZE];
    uint64_t tariff_index =
        (uint64_t)(item[KW_CHANGE_NEW_TI] - '0') * 10 + (uint64_t)(item[KW_CHANGE_NEW_TI + 1] - '0');
    uint64_t flags = (uint64_t)kw_rule_rollover(old, new_record) << 3 | (uint64_t)(size == 3) << 2 | new_record->kt;
    uint64_t sgc = 0;
    for (unsigned i = 0; i < 6; i++)
        sgc = sgc * 10 + (uint64_t)(new_record->sgc[i] - '0');
    for (unsigned i = 0; i < SET_MAX; i++) {
        frames[i].token_class = 2;
        frames[i].subclass = subclasses[i];
        frames[i].content = 0;
    }
    frames[0].content = (uint64_t)(new_record->ken >> 4) << 40 | (uint64_t)new_record->krn << 36 | flags << 32;
    frames[1].content = (uint64_t)(new_record->ken & 0xF) << 40 | tariff_index << 32;
    frames[0].content |= kw_get(octets, 4);
    if (size == 4) {
        /* EA11 carries the key words in the order 0, 3, 1, 2. */
        frames[1].content |= kw_get(octets + 12, 4);
        frames[2].content = (sgc & 0xFFF) << 32 | kw_get(octets + 4, 4);
        frames[3].content = sgc >> 12 << 32 | kw_get(octets + 8, 4);
    } else {
        frames[1].content |= kw_get(octets + 4, 4);
        frames[2].content = sgc << 20;
    }
    return size;
}

/* Encrypt every token of the set under the old key; on a fault none of the digits stays. */
static enum kw_reason encrypt_set(const struct kw_module *module, const struct kw_decoder_key *old_key,
                                  const struct kw_frame frames[SET_MAX], unsigned size, uint8_t *digits)
{
    for (unsigned i = 0; i < size; i++) {
        uint64_t block;
        if (!kw_decoder_key_encrypt(old_key, &module->store.tables, kw_frame_block(&frames[i]), &block)) {
            explicit_bzero(digits, SET_MAX * KW_TOKEN_DIGITS);
            return KW_R_CIPHER_FAULT;
        }
        kw_number_format(digits + i * KW_TOKEN_DIGITS, 2, block);
    }
    return KW_OK;
}

static void describe(const struct kw_module *module, const struct kw_record *old, const struct kw_record *new_record,
                     const uint8_t *item, uint8_t *answer)
{
    uint8_t ea = item[KW_CHANGE_EA];
    answer[KW_CHANGED_COUNT] = item[KW_CHANGE_FLAGS] & KW_CHANGE_FLAG_VALIDATE_ONLY ? 0 : item[KW_CHANGE_SET_SIZE];
    answer[KW_CHANGED_MARKS] = kw_marks(module, old, ea) | kw_marks(module, new_record, ea);
    answer[KW_CHANGED_KEN] = new_record->ken;
    answer[KW_CHANGED_KRN] = new_record->krn;
    answer[KW_CHANGED_KT] = new_record->kt;
    answer[KW_CHANGED_ROLLOVER] = kw_rule_rollover(old, new_record);
}

CK_RV kw_key_change(struct kw_module *module, const struct kw_key *old_key, const uint8_t *item, uint8_t *answer)
{
    const struct kw_key *new_key = kw_keystore_find(&module->store, item + KW_CHANGE_NEW_SGC, item[KW_CHANGE_NEW_KRN]);
    const struct kw_record *old = &old_key->record;
    struct kw_meter old_meter = {item + KW_CHANGE_PAN, item + KW_CHANGE_OLD_TI, item[KW_CHANGE_EA]};
    struct kw_meter new_meter = {item + KW_CHANGE_PAN, item + KW_CHANGE_NEW_TI, item[KW_CHANGE_EA]};
    struct kw_decoder_key old_decoder_key, new_decoder_key;
    struct kw_frame frames[SET_MAX];
    CK_RV rv = CKR_OK;
    memset(&old_decoder_key, 0, sizeof old_decoder_key);
    memset(&new_decoder_key, 0, sizeof new_decoder_key);
    enum kw_reason reason = kw_lease_check(module);
    if (reason == KW_OK)
        reason = check(module, old, new_key, item);
    bool validate_only = item[KW_CHANGE_FLAGS] & KW_CHANGE_FLAG_VALIDATE_ONLY;
    if (reason == KW_OK && !validate_only)
        rv = kw_decoder_key_derive(&module->inner, old_key->inner, old, &old_meter, &old_decoder_key, &reason);
    if (rv == CKR_OK && reason == KW_OK && !validate_only)
        rv = kw_decoder_key_derive(&module->inner, new_key->inner, &new_key->record, &new_meter, &new_decoder_key,
                                   &reason);
    if (rv == CKR_OK && reason == KW_OK && !validate_only)
        reason = encrypt_set(module, &old_decoder_key, frames,
                             fill(frames, &new_decoder_key, old, &new_key->record, item), answer + KW_CHANGED_DIGITS);
    if (rv == CKR_OK && reason == KW_OK)
        describe(module, old, &new_key->record, item, answer);
    explicit_bzero(frames, sizeof frames);
    kw_decoder_key_wipe(&old_decoder_key);
    kw_decoder_key_wipe(&new_decoder_key);
    if (rv != CKR_OK)
        return rv;
    kw_put(answer + KW_CHANGED_REASON, reason, 2);
    module->counters.key_changes += reason == KW_OK && !validate_only;
    module->counters.refused += reason != KW_OK;
    module->faulted = module->faulted || reason == KW_R_CIPHER_FAULT;
    return CKR_OK;
}
