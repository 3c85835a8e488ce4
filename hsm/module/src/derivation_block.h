/* The data that decoder keys are derived from (IEC 62055-41, 6.5.3), built from typed fields only. */
#ifndef KW_DERIVATION_BLOCK_H
#define KW_DERIVATION_BLOCK_H

#include <stdint.h>

#include "record.h"

#define KW_DKGA04_BLOCK_LEN 49
#define KW_DKGA02_BLOCK_LEN 8

/* What a meter adds to the record of its vending key; all checked before. */
struct kw_meter {
    const uint8_t *pan; /* 18 ASCII digits */
    const uint8_t *ti;  /* 2 ASCII digits */
    uint8_t ea;
};

/* PANBlock xor CONTROLBlock; KW_R_COMMON_KEY_UNSETTLED for KT 3 with IIN 0000. */
enum kw_reason kw_dkga02_block(const struct kw_record *record, const struct kw_meter *meter,
                               uint8_t block[KW_DKGA02_BLOCK_LEN]);

void kw_dkga04_block(const struct kw_record *record, const struct kw_meter *meter, uint8_t block[KW_DKGA04_BLOCK_LEN]);

#endif
