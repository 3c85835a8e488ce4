#include "officers.h"

#include <string.h>

#include "octets.h"

#define LABEL_LEN (sizeof KW_OFFICERS_LABEL - 1)

static const uint8_t *entry(const uint8_t *block, unsigned place)
{
    return block + KW_OFFICERS_LIST + place * (size_t)KW_OFFICER_LEN;
}

static bool valid_name(const uint8_t *name)
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
    if (!valid_name(officer) || kw_all_zero(officer + KW_OFFICER_KEY, 32))
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
        if (exists ? thresholds[kind] < 2 || thresholds[kind] > count : thresholds[kind] != 0)
            return false;
    }
    for (unsigned place = 0; place < count; place++)
        if (!valid_entry(block, place))
            return false;
    return kw_all_zero(entry(block, count), (KW_OFFICERS_MAX - count) * (size_t)KW_OFFICER_LEN);
}

bool kw_officers_enough(const uint8_t *block, uint64_t now)
{
    unsigned usable = 0, most = 0;
    for (unsigned place = 0; place < block[0]; place++)
        usable += kw_get(entry(block, place) + KW_OFFICER_UNTIL, 8) > now;
    for (unsigned kind = 1; kind <= KW_CEREMONY_KINDS; kind++)
        if (block[KW_OFFICERS_THRESHOLDS + kind] > most)
            most = block[KW_OFFICERS_THRESHOLDS + kind];
    return usable >= most;
}

static CK_RV find_objects(const struct kw_inner *inner, CK_OBJECT_HANDLE *objects, CK_ULONG limit, CK_ULONG *count)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_LABEL, (void *)KW_OFFICERS_LABEL, LABEL_LEN},
    };
    *count = 0;
    CK_RV rv = inner->functions->C_FindObjectsInit(inner->session, template, sizeof template / sizeof *template);
    if (rv != CKR_OK)
        return rv;
    rv = inner->functions->C_FindObjects(inner->session, objects, limit, count);
    CK_RV ended = inner->functions->C_FindObjectsFinal(inner->session);
    return rv != CKR_OK ? rv : ended;
}

CK_RV kw_officers_read(struct kw_officers *officers, const struct kw_inner *inner)
{
    CK_OBJECT_HANDLE objects[2];
    CK_ULONG count;
    memset(officers, 0, sizeof *officers);
    CK_RV rv = find_objects(inner, objects, 2, &count);
    if (rv != CKR_OK || count == 0)
        return rv;
    if (count > 1)
        return CKR_DEVICE_ERROR; /* a replacement that stopped half way: nobody can say which list is meant */
    CK_ATTRIBUTE value = {CKA_VALUE, officers->block, sizeof officers->block};
    rv = inner->functions->C_GetAttributeValue(inner->session, objects[0], &value, 1);
    if (rv != CKR_OK || value.ulValueLen != sizeof officers->block || !kw_officers_valid(officers->block))
        return CKR_DEVICE_ERROR;
    officers->present = true;
    return CKR_OK;
}

CK_RV kw_officers_write(struct kw_officers *officers, const struct kw_inner *inner, const uint8_t *block)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_HANDLE previous[2], created;
    CK_ULONG count;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_LABEL, (void *)KW_OFFICERS_LABEL, LABEL_LEN},
        {CKA_VALUE, (void *)block, KW_OFFICERS_LEN},
    };
    CK_RV rv = find_objects(inner, previous, 2, &count);
    if (rv == CKR_OK)
        rv = inner->functions->C_CreateObject(inner->session, template, sizeof template / sizeof *template, &created);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++)
        rv = inner->functions->C_DestroyObject(inner->session, previous[i]);
    return rv == CKR_OK ? kw_officers_read(officers, inner) : rv;
}

unsigned kw_officers_count(const struct kw_officers *officers)
{
    return officers->present ? officers->block[0] : 0;
}

unsigned kw_officers_needed(const struct kw_officers *officers, enum kw_ceremony_kind kind)
{
    return officers->block[KW_OFFICERS_THRESHOLDS + (unsigned)kind];
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
