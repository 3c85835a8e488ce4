#include "sta.h"

#define ROUNDS 16

const uint8_t kw_sta_sample[96] = {
    12, 10, 8,  4,  3,  15, 0,  2,  14, 1,  5,  13, 6,  9,  7,  11, /* T1 */
    6,  9,  7,  4,  3,  10, 12, 14, 2,  13, 1,  15, 0,  11, 8,  5,  /* T2 */
    29, 27, 34, 9,  16, 62, 55, 2,  40, 49, 38, 25, 33, 61, 30, 23, /* P */
    1,  41, 21, 57, 42, 15, 5,  58, 19, 53, 22, 17, 48, 28, 24, 39, 3,  60, 36, 14, 11, 52, 54, 12,
    31, 51, 10, 26, 0,  45, 37, 43, 44, 6,  59, 4,  7,  35, 56, 50, 13, 18, 32, 47, 46, 63, 20, 8,
};

static bool invert(uint8_t *inverse, const uint8_t *table, unsigned size)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < size; i++) {
        if (table[i] >= size || (seen >> table[i] & 1))
            return false;
        seen |= UINT64_C(1) << table[i];
        inverse[table[i]] = (uint8_t)i;
    }
    return true;
}

bool kw_sta_load(struct kw_sta_tables *tables, const uint8_t octets[96])
{
    struct kw_sta_tables fresh;
    for (unsigned i = 0; i < 16; i++) {
        fresh.t1[i] = octets[i];
        fresh.t2[i] = octets[16 + i];
    }
    for (unsigned i = 0; i < 64; i++)
        fresh.p[i] = octets[32 + i];
    /* The standard's D1 inverts T2, and D2 inverts T1. */
    if (!invert(fresh.d1, fresh.t2, 16) || !invert(fresh.d2, fresh.t1, 16) || !invert(fresh.p_inverse, fresh.p, 64))
        return false;
    *tables = fresh;
    return true;
}

static uint64_t substitute(uint64_t state, uint64_t key, unsigned bit, const uint8_t *when_set,
                           const uint8_t *when_clear)
{
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 64; shift += 4) {
        const uint8_t *table = (key >> (shift + bit) & 1) ? when_set : when_clear;
        result |= (uint64_t)table[state >> shift & 0xF] << shift;
    }
    return result;
}

static uint64_t permute(uint64_t state, const uint8_t *permutation)
{
    uint64_t result = 0;
    for (unsigned i = 0; i < 64; i++)
        result |= (state >> i & 1) << permutation[i];
    return result;
}

uint64_t kw_sta_encrypt(const struct kw_sta_tables *tables, uint64_t key, uint64_t block)
{
    uint64_t round_key = ~key >> 12 | ~key << 52;
    for (unsigned round = 0; round < ROUNDS; round++) {
        block = permute(substitute(block, round_key, 3, tables->t2, tables->t1), tables->p);
        round_key = round_key << 1 | round_key >> 63;
    }
    return block;
}

uint64_t kw_sta_decrypt(const struct kw_sta_tables *tables, uint64_t key, uint64_t block)
{
    uint64_t round_key = key;
    for (unsigned round = 0; round < ROUNDS; round++) {
        block = substitute(permute(block, tables->p_inverse), round_key, 0, tables->d2, tables->d1);
        round_key = round_key >> 1 | round_key << 63;
    }
    return block;
}
