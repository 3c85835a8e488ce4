#include "derivation_block.h"

#include <string.h>

#include "meter_identity.h"
#include "octets.h"

enum kw_reason kw_dkga02_block(const struct kw_record *record, const struct kw_meter *meter,
                               uint8_t block[KW_DKGA02_BLOCK_LEN])
{
    uint64_t pan = 0, control;
    if (record->kt == 3 && !kw_pan_is_two_digit(meter->pan))
        return KW_R_COMMON_KEY_UNSETTLED;
    for (unsigned i = 1; i < 17; i++) {
        /* A common key serves every meter of the group: its DRN digits count as zeros. */
        unsigned digit = record->kt == 3 && i >= 6 ? 0 : (unsigned)(meter->pan[i] - '0');
        pan = pan << 4 | digit;
    }
    control = record->kt;
    for (unsigned i = 0; i < 6; i++)
        control = control << 4 | (unsigned)(record->sgc[i] - '0');
    control = control << 4 | (unsigned)(meter->ti[0] - '0');
    control = control << 4 | (unsigned)(meter->ti[1] - '0');
    control = control << 4 | record->krn;
    control = control << 24 | 0xFFFFFF;
    kw_put(block, pan ^ control, KW_DKGA02_BLOCK_LEN);
    return KW_OK;
}

void kw_dkga04_block(const struct kw_record *record, const struct kw_meter *meter, uint8_t block[KW_DKGA04_BLOCK_LEN])
{
    static const uint8_t shape[KW_DKGA04_BLOCK_LEN] = {
        4, 2, '0', '4', 2, 0, 0, 2, 0, 0, 2, 0, 0, 0, 4, 6, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 18,
    };
    memcpy(block, shape, sizeof shape);
    block[5] = (uint8_t)('0' + record->bdt / 10);
    block[6] = (uint8_t)('0' + record->bdt % 10);
    block[8] = (uint8_t)('0' + meter->ea / 10);
    block[9] = (uint8_t)('0' + meter->ea % 10);
    memcpy(block + 11, meter->ti, 2);
    memcpy(block + 16, record->sgc, 6);
    block[23] = (uint8_t)('0' + record->kt);
    block[25] = (uint8_t)('0' + record->krn);
    memcpy(block + 27, meter->pan, KW_PAN_LEN);
    kw_put(block + 45, meter->ea == 11 ? 128 : 64, 4);
}
