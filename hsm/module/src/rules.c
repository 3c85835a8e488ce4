#include "rules.h"

#include "civil_time.h"

#define TID_MAX 0xFFFFFF
#define MINUTES_PER_DAY 1440
#define RESERVED_MINUTE 1
#define CARRIER_MAGNETIC_CARD 1

enum kw_reason kw_rule_algorithms(const struct kw_record *record, uint8_t ea, uint8_t tct)
{
    if (ea == 11 && record->dkga != 4)
        return KW_R_EA_DKGA_MISMATCH;
    if (record->kt == 3 && tct != CARRIER_MAGNETIC_CARD)
        return KW_R_COMMON_KEY_CARRIER;
    return KW_OK;
}

enum kw_reason kw_rule_class(const struct kw_record *record, uint8_t token_class, uint8_t subclass)
{
    if (token_class == 3)
        return KW_R_TOKEN_CLASS_RESERVED;
    if (subclass > 15 || token_class == 1 || token_class > 3)
        return KW_R_REQUEST_MALFORMED;
    if (token_class == 0) {
        if (subclass > 7)
            return KW_R_SUBCLASS_RESERVED;
        if (record->kt == 1)
            return KW_R_CREDIT_UNDER_DEFAULT_KEY;
        return record->class0 >> subclass & 1 ? KW_OK : KW_R_CLASS_NOT_ALLOWED;
    }
    if (subclass == 3 || subclass == 4 || subclass == 8 || subclass == 9)
        return KW_R_KEY_CHANGE_NOT_ISSUABLE;
    return record->class2 >> subclass & 1 ? KW_OK : KW_R_CLASS_NOT_ALLOWED;
}

enum kw_reason kw_rule_period(const struct kw_record *record, int64_t minute)
{
    if (record->act != 0 && minute < record->act)
        return KW_R_KEY_NOT_ACTIVE;
    if (record->iut != 0 && minute > record->iut)
        return KW_R_KEY_ISSUE_PERIOD_OVER;
    if (record->rfr != 0 && minute > record->rfr)
        return KW_R_KEY_REFRESH_DUE;
    return KW_OK;
}

enum kw_reason kw_rule_limits(const struct kw_record *record, uint8_t token_class, uint8_t subclass, kw_int128 granted)
{
    uint64_t limit = subclass < 4 ? record->ulm : record->clm;
    return token_class == 0 && limit != 0 && granted > (kw_int128)limit ? KW_R_KEY_VALUE_LIMIT : KW_OK;
}

bool kw_rule_expired(const struct kw_record *record, int64_t tid)
{
    return record->ken != 255 && tid >> 16 > record->ken;
}

enum kw_reason kw_rule_identifier(const struct kw_record *record, const struct kw_config *config, uint32_t tid,
                                  bool reserved, int64_t now)
{
    int64_t base, past, future;
    enum kw_reason reason;
    if (tid > TID_MAX || !kw_base_minutes(record->bdt, &base))
        return KW_R_TID_INVALID;
    if ((tid % MINUTES_PER_DAY == RESERVED_MINUTE) != reserved)
        return KW_R_TID_RESERVED;
    past = reserved ? config->reserved_past_minutes : config->tid_past_minutes;
    future = reserved ? config->reserved_future_minutes : config->tid_future_minutes;
    if (base + tid < now - past || base + tid > now + future)
        return KW_R_TID_OUT_OF_WINDOW;
    if (kw_rule_expired(record, tid))
        return KW_R_KEY_EXPIRED;
    reason = kw_rule_period(record, now);
    return reason != KW_OK ? reason : kw_rule_period(record, base + tid);
}

/* Common keys are unsettled in public sources: they change among themselves only. */
static bool transition_allowed(uint8_t old_type, uint8_t new_type)
{
    if (old_type == 3 || new_type == 3)
        return old_type == new_type;
    return old_type >= 1 && new_type >= 1;
}

enum kw_reason kw_rule_key_change(const struct kw_record *old, const struct kw_record *new_record,
                                  const struct kw_config *config, uint8_t tct, int64_t now)
{
    int64_t base;
    enum kw_reason reason;
    if (!old->key_change || !new_record->key_change)
        return KW_R_CLASS_NOT_ALLOWED;
    if (!transition_allowed(old->kt, new_record->kt) || (old->kt == 3 && tct != CARRIER_MAGNETIC_CARD))
        return KW_R_KEY_TYPE_TRANSITION;
    if (old->act != 0 && now < old->act)
        return KW_R_KEY_NOT_ACTIVE;
    reason = kw_rule_period(new_record, now);
    if (reason != KW_OK)
        return reason;
    bool covered = kw_base_minutes(new_record->bdt, &base) && now >= base && now - base <= TID_MAX;
    if (!covered)
        return config->mode == KW_MODE_CERTIFICATION ? KW_OK : KW_R_TID_INVALID;
    return kw_rule_expired(new_record, now - base) ? KW_R_KEY_EXPIRED : KW_OK;
}

bool kw_rule_rollover(const struct kw_record *old, const struct kw_record *new_record)
{
    int64_t old_base, new_base;
    return kw_base_minutes(old->bdt, &old_base) && kw_base_minutes(new_record->bdt, &new_base) && new_base > old_base;
}
