#include "frame.h"

#include "octets.h"

#define CLASS_SHIFT 27
#define CLASS_MASK (UINT64_C(3) << CLASS_SHIFT)

static uint16_t crc_octet(uint16_t crc, uint8_t octet)
{
    crc ^= octet;
    for (unsigned bit = 0; bit < 8; bit++)
        crc = (crc & 1) ? (uint16_t)(crc >> 1 ^ 0xA001) : (uint16_t)(crc >> 1);
    return crc;
}

uint16_t kw_frame_crc(const struct kw_frame *frame)
{
    uint64_t covered = (uint64_t)frame->token_class << 48 | (uint64_t)frame->subclass << 44 | frame->content;
    uint16_t crc = 0xFFFF;
    for (unsigned shift = 56; shift > 0; shift -= 8)
        crc = crc_octet(crc, (uint8_t)(covered >> (shift - 8)));
    if (frame->token_class == 0 && frame->subclass >= 4 && frame->subclass <= 7)
        crc = crc_octet(crc, 0x01);
    return (uint16_t)(crc << 8 | crc >> 8);
}

uint64_t kw_frame_block(const struct kw_frame *frame)
{
    return (uint64_t)frame->subclass << 60 | frame->content << 16 | kw_frame_crc(frame);
}

bool kw_frame_from_block(struct kw_frame *frame, uint8_t token_class, uint64_t block)
{
    frame->token_class = token_class;
    frame->subclass = (uint8_t)(block >> 60);
    frame->content = block >> 16 & UINT64_C(0xFFFFFFFFFFF);
    return kw_frame_crc(frame) == (block & 0xFFFF);
}

void kw_number_format(uint8_t digits[KW_TOKEN_DIGITS], uint8_t token_class, uint64_t block)
{
    kw_uint128 number = (kw_uint128)(block >> CLASS_SHIFT & 3) << 64;
    number |= (block & ~CLASS_MASK) | (uint64_t)token_class << CLASS_SHIFT;
    for (unsigned i = KW_TOKEN_DIGITS; i-- > 0; number /= 10)
        digits[i] = (uint8_t)('0' + (unsigned)(number % 10));
}

bool kw_number_parse(const uint8_t digits[KW_TOKEN_DIGITS], uint8_t *token_class, uint64_t *block)
{
    kw_uint128 number = 0;
    for (unsigned i = 0; i < KW_TOKEN_DIGITS; i++)
        number = number * 10 + (unsigned)(digits[i] - '0');
    if (number >> 66)
        return false;
    uint64_t low = (uint64_t)number;
    *token_class = (uint8_t)(low >> CLASS_SHIFT & 3);
    *block = (low & ~CLASS_MASK) | (uint64_t)(number >> 64) << CLASS_SHIFT;
    return true;
}
