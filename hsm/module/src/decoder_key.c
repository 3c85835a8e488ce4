#include "decoder_key.h"

#include <string.h>

#include "misty1.h"
#include "octets.h"

CK_RV kw_decoder_key_derive(const struct kw_inner *inner, CK_OBJECT_HANDLE vending_key, const struct kw_record *record,
                            const struct kw_meter *meter, struct kw_decoder_key *key, enum kw_reason *reason)
{
    uint8_t block[KW_DKGA04_BLOCK_LEN], digest[32] = {0};
    CK_RV rv;
    *reason = KW_OK;
    memset(key, 0, sizeof *key);
    key->ea = meter->ea;
    if (record->dkga == 4) {
        kw_dkga04_block(record, meter, block);
        rv = kw_inner_hmac(inner, vending_key, block, sizeof block, digest);
        if (rv == CKR_OK)
            memcpy(key->octets, digest, meter->ea == 11 ? 16 : 8);
    } else {
        *reason = kw_dkga02_block(record, meter, block);
        if (*reason != KW_OK)
            return CKR_OK;
        rv = kw_inner_des(inner, vending_key, block, digest);
        for (unsigned i = 0; i < 8; i++)
            digest[i] ^= block[i];
        if (rv == CKR_OK)
            rv = kw_inner_xor_key(inner, vending_key, digest, key->octets);
    }
    explicit_bzero(digest, sizeof digest);
    if (rv != CKR_OK)
        kw_decoder_key_wipe(key);
    return rv;
}

bool kw_decoder_key_encrypt(const struct kw_decoder_key *key, const struct kw_sta_tables *tables, uint64_t block,
                            uint64_t *result)
{
    struct kw_misty1_schedule schedule;
    if (key->ea == 7) {
        uint64_t number = kw_get(key->octets, 8);
        *result = kw_sta_encrypt(tables, number, block);
        number = kw_sta_decrypt(tables, number, *result);
        return number == block;
    }
    kw_misty1_expand(&schedule, key->octets);
    *result = kw_misty1_encrypt(&schedule, block);
    bool same = kw_misty1_decrypt(&schedule, *result) == block;
    explicit_bzero(&schedule, sizeof schedule);
    return same;
}

uint64_t kw_decoder_key_decrypt(const struct kw_decoder_key *key, const struct kw_sta_tables *tables, uint64_t block)
{
    struct kw_misty1_schedule schedule;
    if (key->ea == 7)
        return kw_sta_decrypt(tables, kw_get(key->octets, 8), block);
    kw_misty1_expand(&schedule, key->octets);
    uint64_t result = kw_misty1_decrypt(&schedule, block);
    explicit_bzero(&schedule, sizeof schedule);
    return result;
}

void kw_decoder_key_wipe(struct kw_decoder_key *key)
{
    explicit_bzero(key, sizeof *key);
}
