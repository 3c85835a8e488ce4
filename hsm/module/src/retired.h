/*
 * Keys that were retired: they stay in the token, so that meters can be led away from them and old tokens be verified,
 * and issue nothing. A key's record cannot be altered, so the list stands beside the keys; it names each by its check
 * value too, and a key that is destroyed and loaded again stays retired.
 */
#ifndef KW_RETIRED_H
#define KW_RETIRED_H

#include "inner.h"
#include "record.h"

#define KW_RETIRED_LABEL "keywatt-retired/1"
#define KW_RETIRED_MAX 1024
#define KW_RETIRED_ENTRY 10 /* SGC (6), KRN (1), check value (3) */

struct kw_retired {
    unsigned count;
    uint8_t entries[KW_RETIRED_MAX][KW_RETIRED_ENTRY];
};

CK_RV kw_retired_read(struct kw_retired *retired, const struct kw_inner *inner);
bool kw_retired_has(const struct kw_retired *retired, const struct kw_record *record);

/* Add a key, where the list has room; it is read again afterwards. */
CK_RV kw_retired_add(struct kw_retired *retired, const struct kw_inner *inner, const struct kw_record *record);

#endif
