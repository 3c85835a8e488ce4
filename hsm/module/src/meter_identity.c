#include "meter_identity.h"

#include <string.h>

#include "octets.h"

static bool luhn_valid(const uint8_t *digits, unsigned length)
{
    unsigned total = 0;
    for (unsigned i = 0; i < length; i++) {
        unsigned digit = digits[length - 1 - i] - '0';
        if (i % 2 == 1)
            digit = digit > 4 ? digit * 2 - 9 : digit * 2;
        total += digit;
    }
    return total % 10 == 0;
}

bool kw_pan_is_two_digit(const uint8_t pan[KW_PAN_LEN])
{
    return memcmp(pan, KW_IIN_TWO_DIGIT, 6) == 0;
}

enum kw_reason kw_check_pan(const uint8_t pan[KW_PAN_LEN])
{
    if (!kw_all_digits(pan, KW_PAN_LEN))
        return KW_R_PAN_INVALID;
    unsigned iin = kw_pan_is_two_digit(pan) ? 6 : memcmp(pan, "0000", 4) == 0 ? 4 : 0;
    if (iin == 0)
        return KW_R_IIN_INVALID;
    if (!luhn_valid(pan + iin, KW_PAN_LEN - 1 - iin))
        return KW_R_DRN_CHECK_DIGIT;
    return luhn_valid(pan, KW_PAN_LEN) ? KW_OK : KW_R_PAN_CHECK_DIGIT;
}

enum kw_reason kw_check_tariff_index(const uint8_t digits[2])
{
    return kw_all_digits(digits, 2) ? KW_OK : KW_R_TARIFF_INDEX_INVALID;
}

enum kw_reason kw_check_ea(uint8_t ea)
{
    return ea == 7 || ea == 11 ? KW_OK : ea == 9 ? KW_R_EA09_WITHDRAWN : KW_R_EA_UNKNOWN;
}

enum kw_reason kw_check_carrier(uint8_t tct)
{
    return tct >= 1 && tct <= 7 ? KW_OK : KW_R_TCT_INVALID;
}
