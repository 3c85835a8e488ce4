/* EA11, MISTY1 (RFC 2994): 8 rounds, 64-bit block, 128-bit key. */
#ifndef KW_MISTY1_H
#define KW_MISTY1_H

#include <stdint.h>

/* EK of RFC 2994: eight key words, then eight FI words. Wipe it after use. */
struct kw_misty1_schedule {
    uint16_t words[16];
};

void kw_misty1_expand(struct kw_misty1_schedule *schedule, const uint8_t key[16]);
uint64_t kw_misty1_encrypt(const struct kw_misty1_schedule *schedule, uint64_t block);
uint64_t kw_misty1_decrypt(const struct kw_misty1_schedule *schedule, uint64_t block);

#endif
