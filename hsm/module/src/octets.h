/* Big-endian integers in octet strings. */
#ifndef KW_OCTETS_H
#define KW_OCTETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

__extension__ typedef __int128 kw_int128;
__extension__ typedef unsigned __int128 kw_uint128;

static inline uint64_t kw_get(const uint8_t *octets, unsigned length)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < length; i++)
        value = value << 8 | octets[i];
    return value;
}

static inline void kw_put(uint8_t *octets, uint64_t value, unsigned length)
{
    for (unsigned i = length; i-- > 0; value >>= 8)
        octets[i] = (uint8_t)value;
}

static inline kw_int128 kw_get128(const uint8_t *octets)
{
    return (kw_int128)((kw_uint128)kw_get(octets, 8) << 64 | kw_get(octets + 8, 8));
}

static inline void kw_put128(uint8_t *octets, kw_int128 value)
{
    kw_put(octets, (uint64_t)((kw_uint128)value >> 64), 8);
    kw_put(octets + 8, (uint64_t)(kw_uint128)value, 8);
}

static inline bool kw_all_zero(const uint8_t *octets, size_t length)
{
    uint8_t seen = 0;
    for (size_t i = 0; i < length; i++)
        seen |= octets[i];
    return seen == 0;
}

static inline bool kw_all_digits(const uint8_t *octets, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (octets[i] < '0' || octets[i] > '9')
            return false;
    return true;
}

/* Lower-case digits, ended by a zero octet. */
static inline void kw_hex(const uint8_t *octets, size_t length, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[octets[i] >> 4];
        text[2 * i + 1] = digits[octets[i] & 15];
    }
    text[2 * length] = '\0';
}

#endif
