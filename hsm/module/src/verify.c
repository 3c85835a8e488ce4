#include <time.h>

#include "amount.h"
#include "decoder_key.h"
#include "frame.h"
#include "guesses.h"
#include "meter_identity.h"
#include "octets.h"
#include "operations.h"
#include "rules.h"

/* A clock that nobody sets: the limit must hold in certification mode too. */
static int64_t guess_minute(void)
{
    struct timespec now;
    return clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? now.tv_sec / 60 : 0;
}

static enum kw_reason check(const struct kw_module *module, const struct kw_key *key, const uint8_t *item,
                            uint8_t *token_class, uint64_t *block)
{
    enum kw_reason reason;
    if (!kw_all_zero(item + KW_VERIFY_ZERO, 2) || !kw_all_zero(item + KW_VERIFY_ZERO2, 4))
        return KW_R_REQUEST_MALFORMED;
    if (!kw_all_digits(item + KW_VERIFY_DIGITS, KW_TOKEN_DIGITS))
        return KW_R_TOKEN_NUMBER_FORMAT;
    if (!kw_number_parse(item + KW_VERIFY_DIGITS, token_class, block))
        return KW_R_TOKEN_NUMBER_RANGE;
    if (*token_class == 3)
        return KW_R_TOKEN_CLASS_RESERVED;
    /* Class 1 is in clear and needs no key; every other class needs one. */
    if ((*token_class == 1) != (key == NULL))
        return KW_R_REQUEST_MALFORMED;
    if (key == NULL)
        return kw_all_zero(item, KW_VERIFY_DIGITS) ? KW_OK : KW_R_REQUEST_MALFORMED;
    if ((reason = kw_check_ea(item[KW_VERIFY_EA])) != KW_OK ||
        (reason = kw_check_carrier(item[KW_VERIFY_TCT])) != KW_OK ||
        (reason = kw_rule_algorithms(&key->record, item[KW_VERIFY_EA], item[KW_VERIFY_TCT])) != KW_OK ||
        (reason = kw_check_pan(item + KW_VERIFY_PAN)) != KW_OK)
        return reason;
    if (module->config.profile == KW_PROFILE_PRODUCTION && item[KW_VERIFY_EA] == 7 && module->store.sample_tables)
        return KW_R_SAMPLE_TABLES_REFUSED;
    reason = kw_check_tariff_index(item + KW_VERIFY_TI);
    return reason != KW_OK || kw_guess_allowed(item + KW_VERIFY_PAN, guess_minute()) ? reason : KW_R_VERIFICATION_LIMIT;
}

static enum kw_reason show_meter_test(const struct kw_frame *frame, uint8_t *answer)
{
    bool two_digit = frame->subclass == 0 || frame->subclass == 2 || frame->subclass >= 11;
    unsigned code_bits = two_digit ? 8 : 16;
    if (frame->subclass >= 3 && frame->subclass <= 5)
        return KW_R_SUBCLASS_RESERVED;
    uint64_t control = frame->content >> code_bits, code = frame->content & ((UINT64_C(1) << code_bits) - 1);
    kw_put128(answer + KW_VERIFIED_VALUE, (kw_int128)(control << 16 | code));
    return KW_OK;
}

static enum kw_reason show(const struct kw_record *record, const struct kw_frame *frame, uint8_t *answer)
{
    uint8_t upper = (uint8_t)(frame->content >> 40), subclass = frame->subclass;
    uint16_t lower = (uint16_t)frame->content;
    uint32_t tid = frame->content >> 16 & 0xFFFFFF;
    kw_int128 value = lower;
    if (frame->token_class == 1)
        return show_meter_test(frame, answer);
    if (frame->token_class == 0 && subclass > 7)
        return KW_R_SUBCLASS_RESERVED;
    if (frame->token_class == 2 && (subclass == 3 || subclass == 4 || subclass == 8 || subclass == 9)) {
        /* A section of a key: that it is genuine is all that anyone learns. */
        answer[KW_VERIFIED_FLAGS] = KW_VERIFIED_FLAG_KEY_CHANGE;
        return KW_OK;
    }
    if (frame->token_class == 0 && subclass >= 4) {
        value = kw_currency_units((uint32_t)upper << 16 | lower);
        upper = 0;
    } else if (frame->token_class == 0 || subclass == 0 || subclass == 6) {
        value = kw_amount16_units(lower);
    }
    answer[KW_VERIFIED_RND] = upper;
    answer[KW_VERIFIED_FLAGS] = kw_rule_expired(record, tid) ? KW_VERIFIED_FLAG_KEY_EXPIRED : 0;
    kw_put(answer + KW_VERIFIED_TID, tid, 4);
    kw_put128(answer + KW_VERIFIED_VALUE, value);
    return KW_OK;
}

CK_RV kw_verify(struct kw_module *module, const struct kw_key *key, const uint8_t *item, uint8_t *answer)
{
    struct kw_meter meter = {item + KW_VERIFY_PAN, item + KW_VERIFY_TI, item[KW_VERIFY_EA]};
    struct kw_decoder_key decoder_key;
    struct kw_frame frame;
    uint8_t token_class = 0;
    uint64_t block = 0;
    enum kw_reason reason = check(module, key, item, &token_class, &block);
    if (reason == KW_OK && key != NULL) {
        CK_RV rv = kw_decoder_key_derive(&module->inner, key->inner, &key->record, &meter, &decoder_key, &reason);
        if (rv != CKR_OK)
            return rv;
        if (reason == KW_OK)
            block = kw_decoder_key_decrypt(&decoder_key, &module->store.tables, block);
        kw_decoder_key_wipe(&decoder_key);
    }
    if (reason == KW_OK && !kw_frame_from_block(&frame, token_class, block))
        reason = KW_R_CRC_MISMATCH;
    if (reason == KW_R_CRC_MISMATCH && key != NULL)
        kw_guess_failed(item + KW_VERIFY_PAN, guess_minute());
    if (reason == KW_OK)
        reason = show(key == NULL ? NULL : &key->record, &frame, answer);
    kw_put(answer + KW_VERIFIED_REASON, reason, 2);
    if (reason != KW_OK) {
        module->counters.refused++;
        return CKR_OK;
    }
    module->counters.verified++;
    answer[KW_VERIFIED_CLASS] = frame.token_class;
    answer[KW_VERIFIED_SUBCLASS] = frame.subclass;
    answer[KW_VERIFIED_MARKS] = kw_marks(module, key == NULL ? NULL : &key->record, item[KW_VERIFY_EA]);
    return CKR_OK;
}
