#include <string.h>

#include "octets.h"
#include "operations.h"

unsigned kw_check_algorithm(size_t key_length)
{
    switch (key_length) {
    case 8:
        return KW_CHECK_ALGORITHM_DES_ZEROS;
    case 20:
        return KW_CHECK_ALGORITHM_SHA256_01;
    default:
        return KW_CHECK_ALGORITHM_CMAC_ZEROS;
    }
}

static CK_RV des_of_zeros(const struct kw_inner *inner, const uint8_t *octets, uint8_t result[8])
{
    static const uint8_t zeros[8] = {0};
    CK_OBJECT_HANDLE key;
    CK_RV rv = kw_inner_create_key(inner, 2, octets, NULL, 0, &key);
    if (rv != CKR_OK)
        return rv;
    rv = kw_inner_des(inner, key, zeros, result);
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, key);
    return rv != CKR_OK ? rv : destroyed;
}

static CK_RV cmac_of_zeros(const struct kw_inner *inner, const uint8_t *octets, uint8_t result[16])
{
    static const uint8_t zeros[16] = {0};
    CK_OBJECT_HANDLE key;
    CK_RV rv = kw_inner_aes_key(inner, octets, CKM_AES_CMAC, NULL, &key);
    if (rv != CKR_OK)
        return rv;
    rv = kw_inner_cmac(inner, key, zeros, sizeof zeros, result);
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, key);
    return rv != CKR_OK ? rv : destroyed;
}

CK_RV kw_check_value_of(const struct kw_module *module, size_t key_length, const uint8_t *octets, uint8_t value[3])
{
    const struct kw_inner *inner = &module->inner;
    uint8_t prefixed[21], result[32] = {0};
    CK_RV rv;
    switch (kw_check_algorithm(key_length)) {
    case KW_CHECK_ALGORITHM_DES_ZEROS:
        rv = des_of_zeros(inner, octets, result);
        break;
    case KW_CHECK_ALGORITHM_SHA256_01:
        prefixed[0] = 0x01;
        memcpy(prefixed + 1, octets, 20);
        rv = kw_inner_sha256(inner, prefixed, sizeof prefixed, result);
        explicit_bzero(prefixed, sizeof prefixed);
        break;
    default:
        rv = cmac_of_zeros(inner, octets, result);
    }
    memcpy(value, result, 3);
    explicit_bzero(result, sizeof result);
    return rv;
}

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
