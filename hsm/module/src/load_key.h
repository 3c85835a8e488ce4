/* What every way of loading a vending key has in common: the record, the judgement of the octets, the writing. */
#ifndef KW_LOAD_KEY_H
#define KW_LOAD_KEY_H

#include "module.h"

/* Read the attributes of a load-key item, for a key that comes from `source`. */
enum kw_reason kw_load_record(const uint8_t *item, enum kw_key_source source, struct kw_record *record);

/*
 * Judge a key's octets (20 for DKGA04, 8 for DKGA02), complete its record and write it. `expected` is the check value
 * that it must have, or NULL. Where `may_refresh`, the very same key with the same attributes takes new limits and
 * dates of issue and refresh; else a name that is taken is refused. The reason KEY_ALREADY_LOADED changed nothing.
 */
CK_RV kw_load_octets(struct kw_module *module, struct kw_record *record, const uint8_t *octets, const uint8_t *expected,
                     bool may_refresh, enum kw_reason *reason);

/* Write a check-value answer of a key that was loaded, or of the reason that it was not. */
void kw_load_answer(const struct kw_record *record, enum kw_reason reason, uint8_t *answer);

#endif
