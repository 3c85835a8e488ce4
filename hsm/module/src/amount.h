/* Amount16 and currency amounts (IEC 62055-41, 6.3.6 and 6.3.7); units are least significant bits. */
#ifndef KW_AMOUNT_H
#define KW_AMOUNT_H

#include <stdint.h>

#include "keywatt_fm.h"
#include "octets.h"

/* Encode zero or more units into 16 bits, rounding up. */
enum kw_reason kw_amount16_encode(kw_int128 units, uint16_t *field);
kw_int128 kw_amount16_units(uint16_t field);

/* Encode signed units of 1e-5 into 20 bits, positive up, negative towards zero. */
enum kw_reason kw_currency_encode(kw_int128 units, uint32_t *field);
kw_int128 kw_currency_units(uint32_t field);

#endif
