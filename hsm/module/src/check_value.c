#include <string.h>

#include "octets.h"
#include "operations.h"

CK_RV kw_check_value(struct kw_module *module, const struct kw_key *key, uint8_t *answer)
{
    static const uint8_t zeros[8] = {0};
    uint8_t proof[KW_PROOF_LEN], encrypted[8];
    const uint8_t *value = key->record.kcv;
    CK_RV rv = kw_keystore_proof(&module->inner, key->inner, &key->record, proof);
    if (rv != CKR_OK)
        return rv;
    /* The proof covers the recorded value; under DES the value is computed afresh as well. */
    if (memcmp(proof, key->record.proof, sizeof proof) != 0)
        return CKR_DEVICE_ERROR;
    answer[KW_CHECKED_ALGORITHM] = KW_CHECK_ALGORITHM_SHA256_01;
    if (key->record.dkga == 2) {
        rv = kw_inner_des(&module->inner, key->inner, zeros, encrypted);
        if (rv != CKR_OK || memcmp(encrypted, value, 3) != 0)
            return CKR_DEVICE_ERROR;
        answer[KW_CHECKED_ALGORITHM] = KW_CHECK_ALGORITHM_DES_ZEROS;
    }
    memcpy(answer + KW_CHECKED_VALUE, value, 3);
    kw_put(answer + KW_CHECKED_REASON, KW_OK, 2);
    return CKR_OK;
}
