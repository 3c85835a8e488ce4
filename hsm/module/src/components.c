#include "components.h"

#include <string.h>

#include "module.h"
#include "octets.h"
#include "operations.h"

bool kw_components_whole(const struct kw_components *components)
{
    for (unsigned i = 0; i < components->total; i++)
        if (components->entered[i] != components->key_length)
            return false;
    return components->total >= 2;
}

void kw_set_odd_parity(uint8_t *octets, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (__builtin_parity(octets[i]) == 0)
            octets[i] ^= 1;
}

void kw_components_combine(const struct kw_components *components, uint8_t *key)
{
    memset(key, 0, components->key_length);
    for (unsigned i = 0; i < components->total; i++)
        for (size_t octet = 0; octet < components->key_length; octet++)
            key[octet] ^= components->octets[i][octet];
    if (components->key_length == 8)
        kw_set_odd_parity(key, 8);
}

/* The officer has approved this ceremony and enters no other component: nobody knows two of them. */
static enum kw_reason check_officer(const struct kw_approval *approval, unsigned place, int officer)
{
    if (officer < 0)
        return KW_R_OFFICER_UNKNOWN;
    if (!approval->approved_by[officer])
        return KW_R_CEREMONY_NOT_APPROVED;
    for (unsigned i = 0; i < approval->components.total; i++)
        if (i != place && approval->components.officer[i] == officer)
            return KW_R_OFFICER_REPEATED;
    return KW_OK;
}

static enum kw_reason take_part(struct kw_approval *approval, const uint8_t *item)
{
    struct kw_components *components = &approval->components;
    unsigned place = item[0] - 1U, total = item[KW_COMPONENT_TOTAL];
    size_t offset = item[KW_COMPONENT_OFFSET], part = item[KW_COMPONENT_PART], length = item[KW_COMPONENT_KEY_LEN];
    bool of_vending_key = approval->kind == KW_CEREMONY_LOAD_KEY && (length == 8 || length == 20);
    bool of_block_key = approval->kind == KW_CEREMONY_OFFICERS && length == KW_BLOCK_KEY_LEN;
    if (approval->kind != KW_CEREMONY_LOAD_KEY && approval->kind != KW_CEREMONY_OFFICERS)
        return KW_R_ACTION_NOT_APPROVED;
    if (item[0] == 0 || total < 2 || total > KW_COMPONENTS_MAX || place >= total ||
        (!of_vending_key && !of_block_key) || part == 0 || part > 20 || offset + part > length ||
        !kw_all_zero(item + KW_COMPONENT_ZERO, 3) || !kw_all_zero(item + KW_COMPONENT_ZERO2, 4) ||
        !kw_all_zero(item + KW_COMPONENT_OCTETS + part, 20 - part))
        return KW_R_COMPONENT_INVALID;
    if (components->total != 0 && (components->total != total || components->key_length != length))
        return KW_R_COMPONENT_INVALID;
    int officer = kw_officers_find(&approval->officers, item + KW_COMPONENT_OFFICER);
    enum kw_reason reason = check_officer(approval, place, officer);
    if (reason != KW_OK)
        return reason;
    if (components->total == 0) {
        components->total = total;
        components->key_length = length;
        for (unsigned i = 0; i < total; i++)
            components->officer[i] = -1;
    }
    if (components->officer[place] >= 0 && components->officer[place] != officer)
        return KW_R_OFFICER_REPEATED;
    if (offset == 0)
        components->entered[place] = 0;
    if (components->entered[place] != offset)
        return KW_R_COMPONENT_INVALID;
    components->officer[place] = officer;
    memcpy(components->octets[place] + offset, item + KW_COMPONENT_OCTETS, part);
    components->entered[place] = (uint8_t)(offset + part);
    return KW_OK;
}

CK_RV kw_components_match(const struct kw_module *module, size_t key_length, unsigned total, const uint8_t values[4],
                          enum kw_reason *reason)
{
    const struct kw_components *components = &module->approval.components;
    uint8_t read[KW_COMPONENTS_MAX * 3], digest[32];
    CK_RV rv = CKR_OK;
    if (!kw_components_whole(components) || components->key_length != key_length || components->total != total)
        *reason = KW_R_COMPONENTS_MISSING;
    if (*reason != KW_OK || kw_all_zero(values, 4))
        return CKR_OK;
    for (unsigned i = 0; rv == CKR_OK && i < components->total; i++)
        rv = kw_check_value_of(module, key_length, components->octets[i], read + i * 3U);
    if (rv == CKR_OK)
        rv = kw_inner_sha256(&module->inner, read, components->total * 3U, digest);
    if (rv == CKR_OK && memcmp(digest, values, 4) != 0)
        *reason = KW_R_CHECK_VALUE_DIFFERS;
    return rv;
}

CK_RV kw_component(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_approval *approval = &module->approval;
    enum kw_reason reason = kw_approval_open(module);
    if (reason == KW_OK)
        reason = take_part(approval, item);
    CK_RV rv = CKR_OK;
    if (reason == KW_OK) {
        unsigned place = item[0] - 1U;
        size_t length = approval->components.key_length;
        if (approval->components.entered[place] == length) {
            if (kw_all_zero(approval->components.octets[place], length)) {
                approval->components.entered[place] = 0;
                reason = KW_R_COMPONENT_INVALID;
            } else {
                rv = kw_check_value_of(module, length, approval->components.octets[place], answer + KW_CHECKED_VALUE);
                answer[KW_CHECKED_ALGORITHM] = (uint8_t)kw_check_algorithm(length);
            }
        }
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}
