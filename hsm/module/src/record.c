#include "record.h"

#include <stdio.h>
#include <string.h>

#include "civil_time.h"
#include "octets.h"

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
    if (record->act < 0 || record->iut < 0 || record->act >= KW_CIVIL_LIMIT || record->iut >= KW_CIVIL_LIMIT ||
        (record->act && record->iut && record->act > record->iut))
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

size_t kw_record_format(const struct kw_record *record, bool with_proof, char text[KW_RECORD_MAX])
{
    char act[KW_CIVIL_LEN + 1], iut[KW_CIVIL_LEN + 1];
    format_date(act, record->act);
    format_date(iut, record->iut);
    int length = snprintf(text, KW_RECORD_MAX,
                          KW_RECORD_PREFIX "1 sgc=%.6s krn=%u kt=%u dkga=%02u bdt=%02u ken=%u act=%s iut=%s"
                                           " c0=%04x c2=%04x kc=%u origin=%s kcv=%02x%02x%02x",
                          (const char *)record->sgc, record->krn, record->kt, record->dkga, record->bdt, record->ken,
                          act, iut, record->class0, record->class2, record->key_change, origin_names[record->origin],
                          record->kcv[0], record->kcv[1], record->kcv[2]);
    if (with_proof) {
        length += snprintf(text + length, KW_RECORD_MAX - (size_t)length, " proof=");
        for (unsigned i = 0; i < KW_PROOF_LEN; i++)
            length += snprintf(text + length, KW_RECORD_MAX - (size_t)length, "%02x", record->proof[i]);
    }
    return (size_t)length;
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

bool kw_record_parse(struct kw_record *record, const char *text, size_t length)
{
    struct reader reader = {text, text + length, false};
    struct kw_record fresh;
    char again[KW_RECORD_MAX];
    memset(&fresh, 0, sizeof fresh);
    expect(&reader, KW_RECORD_PREFIX "1 sgc=");
    if (reader.failed || reader.end - reader.at < 6)
        return false;
    memcpy(fresh.sgc, reader.at, 6);
    reader.at += 6;
    expect(&reader, " krn=");
    fresh.krn = (uint8_t)read_number(&reader, 10, 1);
    expect(&reader, " kt=");
    fresh.kt = (uint8_t)read_number(&reader, 10, 1);
    expect(&reader, " dkga=");
    fresh.dkga = (uint8_t)read_number(&reader, 10, 2);
    expect(&reader, " bdt=");
    fresh.bdt = (uint8_t)read_number(&reader, 10, 2);
    expect(&reader, " ken=");
    uint64_t ken = read_number(&reader, 10, 3);
    if (ken > 255)
        return false;
    fresh.ken = (uint8_t)ken;
    expect(&reader, " act=");
    fresh.act = read_date(&reader);
    expect(&reader, " iut=");
    fresh.iut = read_date(&reader);
    expect(&reader, " c0=");
    fresh.class0 = (uint16_t)read_number(&reader, 16, 4);
    expect(&reader, " c2=");
    fresh.class2 = (uint16_t)read_number(&reader, 16, 4);
    expect(&reader, " kc=");
    fresh.key_change = read_number(&reader, 2, 1) == 1;
    expect(&reader, " origin=");
    fresh.origin = read_origin(&reader);
    expect(&reader, " kcv=");
    kw_put(fresh.kcv, read_number(&reader, 16, 6), 3);
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
