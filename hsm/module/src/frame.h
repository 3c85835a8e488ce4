/* The token frame, its CRC and its 20-digit number (IEC 62055-41, 6.2.1, 6.3.8, 6.4.2). */
#ifndef KW_FRAME_H
#define KW_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#define KW_TOKEN_DIGITS 20

struct kw_frame {
    uint8_t token_class, subclass;
    uint64_t content; /* 44 bits */
};

/* The CRC as it stands in the token; CRC_C for currency credit. */
uint16_t kw_frame_crc(const struct kw_frame *frame);

/* SubClass4 || Content44 || CRC16. */
uint64_t kw_frame_block(const struct kw_frame *frame);

/* Take a decrypted block apart; false if its CRC does not fit. */
bool kw_frame_from_block(struct kw_frame *frame, uint8_t token_class, uint64_t block);

/* Transpose the class into the block and write 20 ASCII digits, no terminator. */
void kw_number_format(uint8_t digits[KW_TOKEN_DIGITS], uint8_t token_class, uint64_t block);

/* Reverse it; false for 2^66 and more. The caller has seen that all are digits. */
bool kw_number_parse(const uint8_t digits[KW_TOKEN_DIGITS], uint8_t *token_class, uint64_t *block);

#endif
