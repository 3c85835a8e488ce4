/* What the module allows with a key, whoever asks: key period, expiry, identifiers, classes, key types. */
#ifndef KW_RULES_H
#define KW_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "octets.h"
#include "record.h"

/* EA with DKGA, and common keys on magnetic cards only. */
enum kw_reason kw_rule_algorithms(const struct kw_record *record, uint8_t ea, uint8_t tct);

/* Class and subclass against the standard and the record. */
enum kw_reason kw_rule_class(const struct kw_record *record, uint8_t token_class, uint8_t subclass);

/* Activation, end of issue and time of refresh at `minute` (minutes since 1970). */
enum kw_reason kw_rule_period(const struct kw_record *record, int64_t minute);

/* What one token may grant: limits of the record, in the least significant bits of the token's value. */
enum kw_reason kw_rule_limits(const struct kw_record *record, uint8_t token_class, uint8_t subclass, kw_int128 granted);

/* Expiry number at a token identifier. */
bool kw_rule_expired(const struct kw_record *record, int64_t tid);

/* Identifier: 24 bits, 00:01 only when asked, inside the window around `now`, key in force at both times. */
enum kw_reason kw_rule_identifier(const struct kw_record *record, const struct kw_config *config, uint32_t tid,
                                  bool reserved, int64_t now);

/*
 * A key change from one record to another at `now`. An expired old key may still be changed away from. Online, the base
 * date of the new key must have come and not run out, or the meter could take no token afterwards.
 */
enum kw_reason kw_rule_key_change(const struct kw_record *old, const struct kw_record *new_record,
                                  const struct kw_config *config, uint8_t tct, int64_t now);

/* True exactly when the new base date is later. */
bool kw_rule_rollover(const struct kw_record *old, const struct kw_record *new_record);

#endif
