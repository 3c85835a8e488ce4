#include "centres.h"

#include <string.h>

#include "data_object.h"
#include "octets.h"
#include "officers.h"
#include "operations.h"

static const uint8_t *entry(const uint8_t *block, unsigned place)
{
    return block + KW_CENTRES_LIST + place * (size_t)KW_CENTRE_LEN;
}

static bool valid(const uint8_t *block)
{
    unsigned count = block[0];
    if (count > KW_CENTRES_MAX || !kw_all_zero(block + 1, KW_CENTRES_LIST - 1))
        return false;
    for (unsigned place = 0; place < count; place++) {
        const uint8_t *centre = entry(block, place);
        if (!kw_officers_name_valid(centre) || kw_all_zero(centre + 32, 32))
            return false;
        for (unsigned other = 0; other < place; other++)
            if (memcmp(centre, entry(block, other), 32) == 0 || memcmp(centre + 32, entry(block, other) + 32, 32) == 0)
                return false;
    }
    return kw_all_zero(entry(block, count), (KW_CENTRES_MAX - count) * (size_t)KW_CENTRE_LEN);
}

CK_RV kw_centres_read(struct kw_centres *centres, const struct kw_inner *inner)
{
    CK_ULONG length;
    memset(centres, 0, sizeof *centres);
    CK_RV rv = kw_data_read(inner, KW_CENTRES_LABEL, centres->block, sizeof centres->block, &length);
    if (rv != CKR_OK || length == 0)
        return rv;
    if (length != sizeof centres->block || !valid(centres->block))
        return CKR_DEVICE_ERROR;
    centres->present = true;
    return CKR_OK;
}

bool kw_centres_have(const struct kw_centres *centres, const uint8_t key[32])
{
    for (unsigned place = 0; centres->present && place < centres->block[0]; place++)
        if (memcmp(entry(centres->block, place) + 32, key, 32) == 0)
            return true;
    return false;
}

CK_RV kw_centres_operation(struct kw_module *module, uint8_t *answer)
{
    kw_put(answer, KW_OK, 2);
    memcpy(answer + 8, module->centres.block, KW_CENTRES_LEN);
    return CKR_OK;
}

CK_RV kw_set_centres(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    int place = -1;
    enum kw_reason reason = valid(item) ? KW_OK : KW_R_CENTRES_INVALID;
    CK_RV rv = CKR_OK;
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_SET_CENTRES, item, KW_CENTRES_LEN, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = kw_data_replace(&module->inner, KW_CENTRES_LABEL, item, KW_CENTRES_LEN);
    if (rv == CKR_OK && reason == KW_OK)
        rv = kw_centres_read(&module->centres, &module->inner);
    if (rv == CKR_OK && reason == KW_OK)
        kw_approval_done(module, place);
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}
