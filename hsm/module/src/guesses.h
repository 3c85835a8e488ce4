/*
 * A limit on wrong tokens shown to verification. A CRC of sixteen bits makes one in 65,536 random numbers genuine:
 * asked without limit, verification would make tokens. So few failures are allowed for a meter in an hour, and for all
 * meters together in a minute; beyond that nothing is decrypted until time has passed.
 */
#ifndef KW_GUESSES_H
#define KW_GUESSES_H

#include <stdbool.h>
#include <stdint.h>

#define KW_GUESSES_PER_METER_AND_HOUR 20
#define KW_GUESSES_PER_MINUTE 60

/* Whether one more verification for this meter may be tried at this minute (any steady clock). */
bool kw_guess_allowed(const uint8_t pan[18], int64_t minute);

/* Count a verification that failed. */
void kw_guess_failed(const uint8_t pan[18], int64_t minute);

#endif
