#include "guesses.h"

#include <string.h>

/* Meters that failed lately; a new one takes the place of whoever failed longest ago among a few. */
#define SLOTS 4096
#define WAYS 8

struct meter_guesses {
    uint8_t pan[18];
    int64_t since; /* minute of the first failure that counts */
    unsigned failures;
};

static struct meter_guesses meters[SLOTS];
static int64_t current_minute;
static unsigned current_failures;

static struct meter_guesses *bucket_of(const uint8_t pan[18])
{
    uint32_t hash = 2166136261U;
    for (unsigned i = 0; i < 18; i++)
        hash = (hash ^ pan[i]) * 16777619U;
    return &meters[hash % (SLOTS / WAYS) * WAYS];
}

static struct meter_guesses *find(const uint8_t pan[18], int64_t minute)
{
    struct meter_guesses *bucket = bucket_of(pan);
    for (unsigned i = 0; i < WAYS; i++)
        if (bucket[i].failures != 0 && memcmp(bucket[i].pan, pan, 18) == 0) {
            if (minute - bucket[i].since >= 60)
                bucket[i].failures = 0;
            return &bucket[i];
        }
    return NULL;
}

bool kw_guess_allowed(const uint8_t pan[18], int64_t minute)
{
    const struct meter_guesses *meter = find(pan, minute);
    if (minute == current_minute && current_failures >= KW_GUESSES_PER_MINUTE)
        return false;
    return meter == NULL || meter->failures < KW_GUESSES_PER_METER_AND_HOUR;
}

void kw_guess_failed(const uint8_t pan[18], int64_t minute)
{
    struct meter_guesses *meter = find(pan, minute);
    if (minute != current_minute) {
        current_minute = minute;
        current_failures = 0;
    }
    current_failures++;
    if (meter == NULL || meter->failures == 0) {
        struct meter_guesses *bucket = bucket_of(pan);
        if (meter == NULL) {
            meter = bucket;
            for (unsigned i = 1; i < WAYS; i++)
                if (bucket[i].failures == 0 || (meter->failures != 0 && bucket[i].since < meter->since))
                    meter = &bucket[i];
        }
        memcpy(meter->pan, pan, 18);
        meter->since = minute;
        meter->failures = 0;
    }
    meter->failures++;
}
