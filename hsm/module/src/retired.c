#include "retired.h"

#include <string.h>

#include "data_object.h"

static void entry_of(const struct kw_record *record, uint8_t entry[KW_RETIRED_ENTRY])
{
    memcpy(entry, record->sgc, 6);
    entry[6] = record->krn;
    memcpy(entry + 7, record->kcv, 3);
}

CK_RV kw_retired_read(struct kw_retired *retired, const struct kw_inner *inner)
{
    CK_ULONG length;
    retired->count = 0;
    CK_RV rv = kw_data_read(inner, KW_RETIRED_LABEL, (uint8_t *)retired->entries, sizeof retired->entries, &length);
    if (rv != CKR_OK)
        return rv;
    if (length % KW_RETIRED_ENTRY != 0)
        return CKR_DEVICE_ERROR;
    retired->count = (unsigned)(length / KW_RETIRED_ENTRY);
    return CKR_OK;
}

bool kw_retired_has(const struct kw_retired *retired, const struct kw_record *record)
{
    uint8_t entry[KW_RETIRED_ENTRY];
    entry_of(record, entry);
    for (unsigned i = 0; i < retired->count; i++)
        if (memcmp(retired->entries[i], entry, sizeof entry) == 0)
            return true;
    return false;
}

CK_RV kw_retired_add(struct kw_retired *retired, const struct kw_inner *inner, const struct kw_record *record)
{
    if (retired->count >= KW_RETIRED_MAX)
        return CKR_DEVICE_ERROR;
    entry_of(record, retired->entries[retired->count]);
    return kw_data_replace(inner, KW_RETIRED_LABEL, (const uint8_t *)retired->entries,
                           (retired->count + 1UL) * (CK_ULONG)KW_RETIRED_ENTRY);
}
