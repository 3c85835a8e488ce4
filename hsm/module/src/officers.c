#include "officers.h"

#include <string.h>

#include "data_object.h"
#include "octets.h"

static const uint8_t *entry(const uint8_t *block, unsigned place)
{
    return block + KW_OFFICERS_LIST + place * (size_t)KW_OFFICER_LEN;
}

bool kw_officers_name_valid(const uint8_t *name)
{
    size_t length = 0;
    while (length < KW_OFFICER_NAME_LEN && name[length] != 0) {
        if (name[length] < ' ' || name[length] > '~')
            return false;
        length++;
    }
    return length > 0 && name[0] != ' ' && name[length - 1] != ' ' &&
           kw_all_zero(name + length, KW_OFFICER_NAME_LEN - length);
}

static bool valid_entry(const uint8_t *block, unsigned place)
{
    const uint8_t *officer = entry(block, place);
    if (!kw_officers_name_valid(officer) || kw_all_zero(officer + KW_OFFICER_KEY, 32))
        return false;
    if (kw_get(officer + KW_OFFICER_FROM, 8) >= kw_get(officer + KW_OFFICER_UNTIL, 8))
        return false;
    /* One person under two names, or two under one, would be two approvals of one. */
    for (unsigned other = 0; other < place; other++)
        if (memcmp(officer, entry(block, other), KW_OFFICER_NAME_LEN) == 0 ||
            memcmp(officer + KW_OFFICER_KEY, entry(block, other) + KW_OFFICER_KEY, 32) == 0)
            return false;
    return true;
}

bool kw_officers_valid(const uint8_t *block)
{
    unsigned count = block[0];
    const uint8_t *thresholds = block + KW_OFFICERS_THRESHOLDS;
    if (count < 2 || count > KW_OFFICERS_MAX || !kw_all_zero(block + 1, KW_OFFICERS_THRESHOLDS - 1))
        return false;
    for (unsigned kind = 0; kind < 16; kind++) {
        bool exists = kind >= 1 && kind <= KW_CEREMONY_KINDS;
        bool may_lack = !exists || kind > KW_CEREMONY_KINDS_FIRST;
        if (thresholds[kind] == 0 ? !may_lack : !exists || thresholds[kind] < 2 || thresholds[kind] > count)
            return false;
    }
    for (unsigned place = 0; place < count; place++)
        if (!valid_entry(block, place))
            return false;
    return kw_all_zero(entry(block, count), (KW_OFFICERS_MAX - count) * (size_t)KW_OFFICER_LEN);
}

/* The number of officers that the most demanding kind needs. */
static unsigned most_needed(const uint8_t *block)
{
    unsigned most = 0;
    for (unsigned kind = 1; kind <= KW_CEREMONY_KINDS; kind++)
        if (block[KW_OFFICERS_THRESHOLDS + kind] > most)
            most = block[KW_OFFICERS_THRESHOLDS + kind];
    return most;
}

bool kw_officers_enough(const uint8_t *block, uint64_t now)
{
    unsigned usable = 0;
    for (unsigned place = 0; place < block[0]; place++)
        usable += kw_get(entry(block, place) + KW_OFFICER_UNTIL, 8) > now;
    return usable >= most_needed(block);
}

CK_RV kw_officers_read(struct kw_officers *officers, const struct kw_inner *inner)
{
    CK_ULONG length;
    memset(officers, 0, sizeof *officers);
    CK_RV rv = kw_data_read(inner, KW_OFFICERS_LABEL, officers->block, sizeof officers->block, &length);
    if (rv != CKR_OK || length == 0)
        return rv;
    if (length != sizeof officers->block || !kw_officers_valid(officers->block))
        return CKR_DEVICE_ERROR;
    officers->present = true;
    return CKR_OK;
}

CK_RV kw_officers_write(struct kw_officers *officers, const struct kw_inner *inner, const uint8_t *block)
{
    CK_RV rv = kw_data_replace(inner, KW_OFFICERS_LABEL, block, KW_OFFICERS_LEN);
    return rv == CKR_OK ? kw_officers_read(officers, inner) : rv;
}

unsigned kw_officers_count(const struct kw_officers *officers)
{
    return officers->present ? officers->block[0] : 0;
}

unsigned kw_officers_needed(const struct kw_officers *officers, enum kw_ceremony_kind kind)
{
    const uint8_t *thresholds = officers->block + KW_OFFICERS_THRESHOLDS;
    unsigned count = thresholds[(unsigned)kind];
    /* A hand-over replaces the officers, and must not be the easier way to do that. */
    if (kind == KW_CEREMONY_HAND_OVER && count < thresholds[KW_CEREMONY_OFFICERS])
        count = thresholds[KW_CEREMONY_OFFICERS];
    return count != 0 ? count : most_needed(officers->block);
}

int kw_officers_find(const struct kw_officers *officers, const uint8_t key[32])
{
    for (unsigned place = 0; place < kw_officers_count(officers); place++)
        if (memcmp(entry(officers->block, place) + KW_OFFICER_KEY, key, 32) == 0)
            return (int)place;
    return -1;
}

const uint8_t *kw_officer(const struct kw_officers *officers, int place)
{
    return entry(officers->block, (unsigned)place);
}
