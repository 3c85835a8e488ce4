#include "block_key.h"

#include <string.h>

#include "octets.h"
#include "operations.h"

#define LABEL_LEN (sizeof KW_BLOCK_KEY_LABEL - 1)

CK_RV kw_block_key_read(struct kw_block_key *block_key, const struct kw_inner *inner)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_BBOOL yes = CK_TRUE;
    CK_OBJECT_HANDLE objects[2];
    CK_ULONG count = 0;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_LABEL, (void *)KW_BLOCK_KEY_LABEL, LABEL_LEN},
    };
    block_key->present = false;
    CK_RV rv = inner->functions->C_FindObjectsInit(inner->session, template, sizeof template / sizeof *template);
    if (rv != CKR_OK)
        return rv;
    rv = inner->functions->C_FindObjects(inner->session, objects, 2, &count);
    CK_RV ended = inner->functions->C_FindObjectsFinal(inner->session);
    if (rv != CKR_OK || ended != CKR_OK || count == 0)
        return rv != CKR_OK ? rv : ended;
    if (count > 1)
        return CKR_DEVICE_ERROR;
    block_key->key = objects[0];
    block_key->present = true;
    return CKR_OK;
}

static CK_RV write_key(struct kw_module *module, const uint8_t octets[KW_BLOCK_KEY_LEN])
{
    const struct kw_inner *inner = &module->inner;
    CK_OBJECT_HANDLE created;
    CK_RV rv = CKR_OK;
    if (module->block_key.present)
        rv = inner->functions->C_DestroyObject(inner->session, module->block_key.key);
    if (rv == CKR_OK)
        rv = kw_inner_aes_key(inner, octets, CKM_AES_CMAC, KW_BLOCK_KEY_LABEL, &created);
    if (rv == CKR_OK)
        rv = kw_block_key_read(&module->block_key, inner);
    return rv == CKR_OK && !module->block_key.present ? CKR_DEVICE_ERROR : rv;
}

CK_RV kw_set_block_key(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    const struct kw_components *components = &module->approval.components;
    uint8_t octets[KW_BLOCK_KEY_LEN] = {0}, value[3] = {0};
    int place = -1;
    enum kw_reason reason = KW_OK;
    CK_RV rv = CKR_OK;
    if (item[0] < 2 || item[0] > KW_COMPONENTS_MAX || item[1] != KW_BLOCK_KEY_LEN || item[2] > 1 ||
        (item[2] == 0 && !kw_all_zero(item + 3, 3)) || !kw_all_zero(item + 10, 6))
        reason = KW_R_REQUEST_MALFORMED;
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_SET_BLOCK_KEY, item, KW_BLOCK_KEY_ITEM_LEN, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = kw_components_match(module, KW_BLOCK_KEY_LEN, item[0], item + 6, &reason);
    if (rv == CKR_OK && reason == KW_OK) {
        kw_components_combine(components, octets);
        rv = kw_check_value_of(module, KW_BLOCK_KEY_LEN, octets, value);
        if (rv == CKR_OK && item[2] && memcmp(value, item + 3, 3) != 0)
            reason = KW_R_CHECK_VALUE_DIFFERS;
        else if (kw_all_zero(octets, sizeof octets))
            reason = KW_R_KEY_INVALID;
    }
    if (rv == CKR_OK && reason == KW_OK)
        rv = write_key(module, octets);
    explicit_bzero(octets, sizeof octets);
    if (rv != CKR_OK)
        return rv;
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    if (reason != KW_OK)
        return CKR_OK;
    kw_approval_done(module, place);
    explicit_bzero(&module->approval.components, sizeof module->approval.components);
    answer[KW_CHECKED_ALGORITHM] = KW_CHECK_ALGORITHM_CMAC_ZEROS;
    memcpy(answer + KW_CHECKED_VALUE, value, 3);
    return CKR_OK;
}
