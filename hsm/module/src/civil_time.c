#include "civil_time.h"

#include <string.h>

#include "octets.h"

#define MINUTES_PER_DAY 1440

/* Days since 1970-01-01 of a proleptic Gregorian date. */
static int64_t days_from_civil(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = year / 400, year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

bool kw_base_minutes(uint8_t base_date, int64_t *minutes)
{
    int64_t year = base_date == 93 ? 1993 : base_date == 14 ? 2014 : base_date == 35 ? 2035 : 0;
    *minutes = days_from_civil(year, 1, 1) * MINUTES_PER_DAY;
    return year != 0;
}

static int64_t number(const char *text, unsigned length)
{
    int64_t value = 0;
    for (unsigned i = 0; i < length; i++)
        value = value * 10 + (text[i] - '0');
    return value;
}

bool kw_civil_parse(const char *text, int64_t *minutes)
{
    static const char shape[KW_CIVIL_LEN + 1] = "dddd-dd-ddTdd:dd";
    for (unsigned i = 0; i < KW_CIVIL_LEN; i++)
        if (shape[i] == 'd' ? (text[i] < '0' || text[i] > '9') : text[i] != shape[i])
            return false;
    int64_t year = number(text, 4), month = number(text + 5, 2), day = number(text + 8, 2);
    int64_t hour = number(text + 11, 2), minute = number(text + 14, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59)
        return false;
    int64_t last = days_from_civil(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1, 1) -
                   days_from_civil(year, month, 1);
    if (day > last)
        return false;
    *minutes = days_from_civil(year, month, day) * MINUTES_PER_DAY + hour * 60 + minute;
    return true;
}

static void digits(char *text, int64_t value, unsigned length)
{
    for (unsigned i = length; i-- > 0; value /= 10)
        text[i] = (char)('0' + value % 10);
}

void kw_civil_format(char *text, int64_t minutes)
{
    int64_t days = minutes / MINUTES_PER_DAY + 719468, rest = minutes % MINUTES_PER_DAY;
    int64_t era = days / 146097, day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153, day = day_of_year - (153 * shifted + 2) / 5 + 1;
    int64_t month = shifted + (shifted < 10 ? 3 : -9), year = year_of_era + era * 400 + (month <= 2);
    memcpy(text, "0000-00-00T00:00", KW_CIVIL_LEN);
    digits(text, year, 4);
    digits(text + 5, month, 2);
    digits(text + 8, day, 2);
    digits(text + 11, rest / 60, 2);
    digits(text + 14, rest % 60, 2);
}
