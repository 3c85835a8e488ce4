#include <string.h>

#include "octets.h"
#include "operations.h"

/* The key that a destroy-key or retire-key item names, and whether that may be done with it now. */
static CK_RV find_key(const struct kw_module *module, enum kw_operation operation, const uint8_t *item,
                      const struct kw_key **key, int *place, enum kw_reason *reason)
{
    *key = kw_keystore_find(&module->store, item, item[6]);
    *place = -1;
    *reason = item[7] != 0 ? KW_R_REQUEST_MALFORMED : *key == NULL ? KW_R_KEY_UNKNOWN : KW_OK;
    return *reason == KW_OK ? kw_approval_of_action(module, operation, item, KW_DESTROY_ITEM_LEN, place, reason)
                            : CKR_OK;
}

CK_RV kw_destroy_key(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    const struct kw_key *key;
    int place;
    enum kw_reason reason;
    CK_RV rv = find_key(module, KW_OP_DESTROY_KEY, item, &key, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK) {
        rv = module->inner.functions->C_DestroyObject(module->inner.session, key->inner);
        if (rv == CKR_OK)
            rv = kw_keystore_read(&module->store, &module->inner, &module->config);
        if (rv == CKR_OK && kw_keystore_find(&module->store, item, item[6]) != NULL)
            rv = CKR_DEVICE_ERROR;
        if (rv == CKR_OK)
            kw_approval_done(module, place);
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}

CK_RV kw_retire_key(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    const struct kw_key *key;
    int place;
    enum kw_reason reason;
    CK_RV rv = find_key(module, KW_OP_RETIRE_KEY, item, &key, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK && key->retired)
        reason = KW_R_KEY_RETIRED;
    if (rv == CKR_OK && reason == KW_OK && module->store.retired.count >= KW_RETIRED_MAX)
        reason = KW_R_TOKEN_STORE_FULL;
    if (rv == CKR_OK && reason == KW_OK) {
        rv = kw_retired_add(&module->store.retired, &module->inner, &key->record);
        if (rv == CKR_OK)
            rv = kw_keystore_read(&module->store, &module->inner, &module->config);
        key = kw_keystore_find(&module->store, item, item[6]);
        if (rv == CKR_OK && (key == NULL || !key->retired))
            rv = CKR_DEVICE_ERROR;
        if (rv == CKR_OK)
            kw_approval_done(module, place);
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}
