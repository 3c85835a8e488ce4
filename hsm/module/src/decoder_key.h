/* Decoder keys: derived inside the inner library, used here, wiped at once. */
#ifndef KW_DECODER_KEY_H
#define KW_DECODER_KEY_H

#include "derivation_block.h"
#include "inner.h"
#include "sta.h"

struct kw_decoder_key {
    uint8_t octets[16]; /* 8 of them under EA07 */
    uint8_t ea;
};

/* Derive; an inner failure is told apart from a refusal. The caller wipes the key with kw_decoder_key_wipe. */
CK_RV kw_decoder_key_derive(const struct kw_inner *inner, CK_OBJECT_HANDLE vending_key, const struct kw_record *record,
                            const struct kw_meter *meter, struct kw_decoder_key *key, enum kw_reason *reason);

/* Encrypt, then decrypt and compare: false if they differ, and nothing may be released then. */
bool kw_decoder_key_encrypt(const struct kw_decoder_key *key, const struct kw_sta_tables *tables, uint64_t block,
                            uint64_t *result);

uint64_t kw_decoder_key_decrypt(const struct kw_decoder_key *key, const struct kw_sta_tables *tables, uint64_t block);

void kw_decoder_key_wipe(struct kw_decoder_key *key);

#endif
