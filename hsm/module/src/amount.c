#include "amount.h"

#include <stdbool.h>

#define MANTISSA_MAX 16383

/* Walk the exponents: each begins where the one before it ends. */
static bool encode(kw_uint128 magnitude, bool round_up, unsigned exponents, uint32_t *field)
{
    kw_uint128 scale = 1, offset = 0;
    for (unsigned exponent = 0; exponent < exponents; exponent++, scale *= 10) {
        kw_uint128 above = magnitude > offset ? magnitude - offset : 0;
        kw_uint128 mantissa = above / scale + (round_up && above % scale != 0);
        if (mantissa <= MANTISSA_MAX) {
            *field = exponent << 14 | (uint32_t)mantissa;
            return true;
        }
        offset += (kw_uint128)(MANTISSA_MAX + 1) * scale;
    }
    return false;
}

static kw_uint128 decode(uint32_t field)
{
    kw_uint128 scale = 1, offset = 0;
    for (unsigned exponent = field >> 14; exponent > 0; exponent--, scale *= 10)
        offset += (kw_uint128)(MANTISSA_MAX + 1) * scale;
    return (field & MANTISSA_MAX) * scale + offset;
}

enum kw_reason kw_amount16_encode(kw_int128 units, uint16_t *field)
{
    uint32_t wide = 0;
    if (units < 0)
        return KW_R_AMOUNT_NEGATIVE;
    if (!encode((kw_uint128)units, true, 4, &wide))
        return KW_R_AMOUNT_TOO_LARGE;
    *field = (uint16_t)wide;
    return KW_OK;
}

kw_int128 kw_amount16_units(uint16_t field)
{
    return (kw_int128)decode(field);
}

enum kw_reason kw_currency_encode(kw_int128 units, uint32_t *field)
{
    bool negative = units < 0;
    kw_uint128 magnitude = negative ? -(kw_uint128)units : (kw_uint128)units;
    uint32_t wide = 0;
    if (!encode(magnitude, !negative, 32, &wide))
        return KW_R_AMOUNT_TOO_LARGE;
    *field = (uint32_t)negative << 19 | wide;
    return KW_OK;
}

kw_int128 kw_currency_units(uint32_t field)
{
    kw_int128 magnitude = (kw_int128)decode(field & 0x7FFFF);
    return field >> 19 ? -magnitude : magnitude;
}
