/* Checks of a meter's identity as it comes in a request (IEC 62055-41, 6.1.2 to 6.1.7). */
#ifndef KW_METER_IDENTITY_H
#define KW_METER_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "keywatt_fm.h"

#define KW_PAN_LEN 18
#define KW_IIN_TWO_DIGIT "600727"

/* Digits, IIN, and both Luhn digits. */
enum kw_reason kw_check_pan(const uint8_t pan[KW_PAN_LEN]);
enum kw_reason kw_check_tariff_index(const uint8_t digits[2]);
enum kw_reason kw_check_ea(uint8_t ea);
enum kw_reason kw_check_carrier(uint8_t tct);
bool kw_pan_is_two_digit(const uint8_t pan[KW_PAN_LEN]);

#endif
