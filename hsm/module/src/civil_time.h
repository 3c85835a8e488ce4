/* Minutes since 1970-01-01 00:00 in the system's time zone, and the base dates of the standard. */
#ifndef KW_CIVIL_TIME_H
#define KW_CIVIL_TIME_H

#include <stdbool.h>
#include <stdint.h>

#define KW_CIVIL_LEN 16 /* "2014-03-01T13:00" */

/* 10000-01-01 00:00: no time of ours is later. */
#define KW_CIVIL_LIMIT INT64_C(4223371680)

/* Minutes of the base date 93, 14 or 35; false for any other. */
bool kw_base_minutes(uint8_t base_date, int64_t *minutes);

/* Parse exactly KW_CIVIL_LEN characters; false for a date that does not exist. */
bool kw_civil_parse(const char *text, int64_t *minutes);

/* Write KW_CIVIL_LEN characters, no terminator; years 1970 to 9999. */
void kw_civil_format(char *text, int64_t minutes);

#endif
