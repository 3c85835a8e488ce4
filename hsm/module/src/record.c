#include "record.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "civil_time.h"
#include "octets.h"

/* 15 digits: what a label holds and a double still tells apart. */
#define KW_LIMIT_MAX 999999999999999ULL

static const char *const origin_names[] = {"", "ceremony", "development", "public"};

enum kw_reason kw_record_check(const struct kw_record *record)
{
    int64_t ignored;
    if (!kw_all_digits(record->sgc, 6))
        return KW_R_SGC_INVALID;
    if (record->krn < 1 || record->krn > 9)
        return KW_R_KEY_REVISION_INVALID;
    if (record->kt < 1 || record->kt > 3)
        return KW_R_KEY_TYPE_INVALID;
    if (record->dkga == 1 || record->dkga == 3)
        return KW_R_DKGA_WITHDRAWN;
    if (record->dkga != 2 && record->dkga != 4)
        return KW_R_DKGA_UNKNOWN;
    if (!kw_base_minutes(record->bdt, &ignored))
        return KW_R_BASE_DATE_INVALID;
    if (record->kt == 3 && record->dkga == 4)
        return KW_R_COMMON_KEY_UNSETTLED;
    /* Class 0 has no subclass above 7; sections of keys are no management tokens. */
    if (record->class0 & 0xFF00 || record->class2 & 0x0318)
        return KW_R_CLASS_NOT_ALLOWED;
    if (record->kt == 1 && record->class0 != 0)
        return KW_R_CREDIT_UNDER_DEFAULT_KEY;
    if (record->act < 0 || record->iut < 0 || record->rfr < 0 || record->act >= KW_CIVIL_LIMIT ||
        record->iut >= KW_CIVIL_LIMIT || record->rfr >= KW_CIVIL_LIMIT ||
        (record->act && record->iut && record->act > record->iut) ||
        (record->act && record->rfr && record->act > record->rfr) || record->ulm > KW_LIMIT_MAX ||
        record->clm > KW_LIMIT_MAX)
        return KW_R_FIELD_OUT_OF_RANGE;
    return KW_OK;
}

static void format_date(char text[KW_CIVIL_LEN + 1], int64_t minutes)
{
    if (minutes == 0) {
        memcpy(text, "-", 2);
        return;
    }
    kw_civil_format(text, minutes);
    text[KW_CIVIL_LEN] = '\0';
}

static bool has_limits(const struct kw_record *record)
{
    return record->rfr != 0 || record->ulm != 0 || record->clm != 0;
}

/* Text that grows; it fits, because every field has a longest form and KW_RECORD_MAX holds them all. */
static size_t add(char text[KW_RECORD_MAX], size_t length, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(text + length, KW_RECORD_MAX - length, format, arguments);
    va_end(arguments);
    return length + (size_t)more;
}

static size_t add_attributes(char text[KW_RECORD_MAX], size_t length, const struct kw_record *record)
{
    char act[KW_CIVIL_LEN + 1], iut[KW_CIVIL_LEN + 1];
    format_date(act, record->act);
    format_date(iut, record->iut);
    return add(text, length, "sgc=%.6s krn=%u kt=%u dkga=%02u bdt=%02u ken=%u act=%s iut=%s c0=%04x c2=%04x kc=%u",
               (const char *)record->sgc, record->krn, record->kt, record->dkga, record->bdt, record->ken, act, iut,
               record->class0, record->class2, record->key_change);
}

static size_t add_limits(char text[KW_RECORD_MAX], size_t length, const struct kw_record *record)
{
    char rfr[KW_CIVIL_LEN + 1];
    format_date(rfr, record->rfr);
    return add(text, length, " rfr=%s ulm=%llu clm=%llu", rfr, (unsigned long long)record->ulm,
               (unsigned long long)record->clm);
}

static size_t add_check_value(char text[KW_RECORD_MAX], size_t length, const struct kw_record *record)
{
    return add(text, length, " kcv=%02x%02x%02x", record->kcv[0], record->kcv[1], record->kcv[2]);
}

size_t kw_record_format(const struct kw_record *record, bool with_proof, char text[KW_RECORD_MAX])
{
    size_t length = add(text, 0, KW_RECORD_PREFIX "%u ", has_limits(record) ? 2U : 1U);
    length = add_attributes(text, length, record);
    if (has_limits(record))
        length = add_limits(text, length, record);
    length = add(text, length, " origin=%s", origin_names[record->origin]);
    length = add_check_value(text, length, record);
    if (with_proof) {
        length = add(text, length, " proof=");
        for (unsigned i = 0; i < KW_PROOF_LEN; i++)
            length = add(text, length, "%02x", record->proof[i]);
    }
    return length;
}

/* A reader over the label; `failed` sticks. */
struct reader {
    const char *at, *end;
    bool failed;
};

static void expect(struct reader *reader, const char *text)
{
    size_t length = strlen(text);
    if (reader->failed || (size_t)(reader->end - reader->at) < length || memcmp(reader->at, text, length) != 0)
        reader->failed = true;
    else
        reader->at += length;
}

static uint64_t read_number(struct reader *reader, unsigned base, unsigned max_length)
{
    uint64_t value = 0;
    unsigned length = 0;
    while (!reader->failed && reader->at < reader->end && *reader->at != ' ') {
        char c = *reader->at++;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 99;
        if (digit >= base || ++length > max_length)
            reader->failed = true;
        value = value * base + digit;
    }
    return value;
}

static int64_t read_date(struct reader *reader)
{
    int64_t minutes = 0;
    if (!reader->failed && reader->at < reader->end && *reader->at == '-') {
        reader->at++;
    } else if (reader->failed || reader->end - reader->at < KW_CIVIL_LEN || !kw_civil_parse(reader->at, &minutes)) {
        reader->failed = true;
    } else {
        reader->at += KW_CIVIL_LEN;
    }
    return minutes;
}

static enum kw_origin read_origin(struct reader *reader)
{
    for (unsigned origin = KW_ORIGIN_CEREMONY; origin <= KW_ORIGIN_PUBLIC; origin++) {
        struct reader attempt = *reader;
        expect(&attempt, origin_names[origin]);
        if (!attempt.failed) {
            *reader = attempt;
            return (enum kw_origin)origin;
        }
    }
    reader->failed = true;
    return KW_ORIGIN_DEVELOPMENT;
}

static void read_attributes(struct reader *reader, struct kw_record *record)
{
    expect(reader, "sgc=");
    if (reader->failed || reader->end - reader->at < 6) {
        reader->failed = true;
        return;
    }
    memcpy(record->sgc, reader->at, 6);
    reader->at += 6;
    expect(reader, " krn=");
    record->krn = (uint8_t)read_number(reader, 10, 1);
    expect(reader, " kt=");
    record->kt = (uint8_t)read_number(reader, 10, 1);
    expect(reader, " dkga=");
    record->dkga = (uint8_t)read_number(reader, 10, 2);
    expect(reader, " bdt=");
    record->bdt = (uint8_t)read_number(reader, 10, 2);
    expect(reader, " ken=");
    uint64_t ken = read_number(reader, 10, 3);
    reader->failed = reader->failed || ken > 255;
    record->ken = (uint8_t)ken;
    expect(reader, " act=");
    record->act = read_date(reader);
    expect(reader, " iut=");
    record->iut = read_date(reader);
    expect(reader, " c0=");
    record->class0 = (uint16_t)read_number(reader, 16, 4);
    expect(reader, " c2=");
    record->class2 = (uint16_t)read_number(reader, 16, 4);
    expect(reader, " kc=");
    record->key_change = read_number(reader, 2, 1) == 1;
}

static void read_limits(struct reader *reader, struct kw_record *record)
{
    expect(reader, " rfr=");
    record->rfr = read_date(reader);
    expect(reader, " ulm=");
    record->ulm = read_number(reader, 10, 15);
    expect(reader, " clm=");
    record->clm = read_number(reader, 10, 15);
}

static void read_check_value(struct reader *reader, struct kw_record *record)
{
    expect(reader, " kcv=");
    kw_put(record->kcv, read_number(reader, 16, 6), 3);
}

bool kw_record_parse(struct kw_record *record, const char *text, size_t length)
{
    struct reader reader = {text, text + length, false};
    struct kw_record fresh;
    char again[KW_RECORD_MAX];
    memset(&fresh, 0, sizeof fresh);
    expect(&reader, KW_RECORD_PREFIX);
    uint64_t version = read_number(&reader, 10, 1);
    expect(&reader, " ");
    read_attributes(&reader, &fresh);
    if (version == 2)
        read_limits(&reader, &fresh);
    expect(&reader, " origin=");
    fresh.origin = read_origin(&reader);
    read_check_value(&reader, &fresh);
    expect(&reader, " proof=");
    kw_put(fresh.proof, read_number(&reader, 16, 16), 8);
    if (reader.failed || reader.at != reader.end || kw_record_check(&fresh) != KW_OK)
        return false;
    /* One text for one record: leading zeros, missing digits and the like do not come back the same. */
    if (kw_record_format(&fresh, true, again) != length || memcmp(again, text, length) != 0)
        return false;
    *record = fresh;
    return true;
}

bool kw_record_parse_attributes(struct kw_record *record, const char *text, size_t length)
{
    struct reader reader = {text, text + length, false};
    struct kw_record fresh;
    char again[KW_RECORD_MAX];
    memset(&fresh, 0, sizeof fresh);
    read_attributes(&reader, &fresh);
    read_limits(&reader, &fresh);
    read_check_value(&reader, &fresh);
    if (reader.failed || reader.at != reader.end || kw_record_check(&fresh) != KW_OK)
        return false;
    size_t used = add_check_value(again, add_limits(again, add_attributes(again, 0, &fresh), &fresh), &fresh);
    if (used != length || memcmp(again, text, length) != 0)
        return false;
    fresh.origin = KW_ORIGIN_DEVELOPMENT;
    *record = fresh;
    return true;
}
