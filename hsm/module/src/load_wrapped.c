#include <stdio.h>
#include <string.h>

#include "load_key.h"
#include "octets.h"
#include "operations.h"
#include "signatures.h"

#define NAMESPACE "key-load@keywatt.dev"
#define KDF_LABEL "keywatt-key-load/1"
#define KDF_LABEL_LEN (sizeof KDF_LABEL - 1)
#define TEXT_MAX 640

static CK_RV verify_centre(const struct kw_module *module, const uint8_t *item, const uint8_t load_digest[32],
                           enum kw_reason *reason)
{
    static const uint8_t none[32] = {0};
    const struct kw_inner *inner = &module->inner;
    struct kw_ssh_signature signature = {item + KW_WRAPPED_CENTRE, none, 0, none, item + KW_WRAPPED_SIGNATURE};
    uint8_t digest[32];
    char transport[65], load[65], point[65], wrapped[2 * KW_WRAPPED_MAX + 1], text[TEXT_MAX];
    bool genuine = false;
    CK_RV rv = kw_inner_sha256(inner, module->transport.point, KW_POINT_LEN, digest);
    if (rv != CKR_OK)
        return rv;
    kw_hex(digest, 32, transport);
    rv = kw_inner_sha256(inner, item + KW_WRAPPED_POINT, KW_POINT_LEN, digest);
    if (rv != CKR_OK)
        return rv;
    kw_hex(digest, 32, point);
    kw_hex(load_digest, 32, load);
    kw_hex(item + KW_WRAPPED_KEY, item[KW_WRAPPED_LEN], wrapped);
    int length = snprintf(
        text, sizeof text, "keywatt key-load 1\nmodule %s\nserial %.16s\ntransport %s\nload %s\npoint %s\nwrapped %s\n",
        module->config.module_id, (const char *)inner->token.serialNumber, transport, load, point, wrapped);
    if (length < 0 || (size_t)length >= sizeof text)
        return CKR_GENERAL_ERROR;
    rv = kw_ssh_verify(inner, &signature, NAMESPACE, (const uint8_t *)text, (size_t)length, &genuine);
    if (rv == CKR_OK && !genuine)
        *reason = KW_R_SIGNATURE_WRONG;
    return rv;
}

/* One-step key derivation of SP 800-56C with SHA-256; what is bound to the key enters it. */
static CK_RV wrapping_key(const struct kw_module *module, const uint8_t *item, const uint8_t load_digest[32],
                          const uint8_t shared[KW_SHARED_LEN], uint8_t key[32])
{
    uint8_t input[4 + KW_SHARED_LEN + KDF_LABEL_LEN + 32 + 2 * KW_POINT_LEN] = {0, 0, 0, 1};
    uint8_t *at = input + 4;
    memcpy(at, shared, KW_SHARED_LEN);
    at += KW_SHARED_LEN;
    memcpy(at, KDF_LABEL, KDF_LABEL_LEN);
    at += KDF_LABEL_LEN;
    memcpy(at, load_digest, 32);
    at += 32;
    memcpy(at, item + KW_WRAPPED_POINT, KW_POINT_LEN);
    memcpy(at + KW_POINT_LEN, module->transport.point, KW_POINT_LEN);
    CK_RV rv = kw_inner_sha256(&module->inner, input, sizeof input, key);
    explicit_bzero(input, sizeof input);
    return rv;
}

/*
 * AES key unwrap with padding, RFC 5649, on single blocks: the library's own mechanism leaves the key in memory that it
 * does not wipe (SoftHSM 2.6.1). One block where the key has eight octets, else six rounds over the semiblocks.
 */
static CK_RV unwrap(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t *item,
                    uint8_t octets[KW_WRAPPED_MAX], enum kw_reason *reason)
{
    static const uint8_t start[4] = {0xA6, 0x59, 0x59, 0xA6};
    unsigned semiblocks = item[KW_WRAPPED_LEN] / 8U - 1U, length = item[KW_LOAD_KEY_LEN];
    uint8_t block[16], opened[16], parts[KW_WRAPPED_MAX];
    CK_RV rv = CKR_OK;
    memcpy(parts, item + KW_WRAPPED_KEY + 8, semiblocks * 8U);
    memcpy(block, item + KW_WRAPPED_KEY, 8);
    if (semiblocks == 1) {
        memcpy(block + 8, parts, 8);
        rv = kw_inner_aes_decrypt(inner, key, NULL, block, sizeof block, opened);
        memcpy(block, opened, 8);
        memcpy(parts, opened + 8, 8);
    }
    for (unsigned step = 6 * semiblocks; rv == CKR_OK && semiblocks > 1 && step > 0; step--) {
        uint8_t *part = parts + (step - 1) % semiblocks * 8;
        block[7] ^= (uint8_t)step;
        memcpy(block + 8, part, 8);
        rv = kw_inner_aes_decrypt(inner, key, NULL, block, sizeof block, opened);
        memcpy(block, opened, 8);
        memcpy(part, opened + 8, 8);
    }
    if (rv == CKR_OK && (memcmp(block, start, 4) != 0 || kw_get(block + 4, 4) != length ||
                         !kw_all_zero(parts + length, semiblocks * 8U - length)))
        *reason = KW_R_WRAPPED_KEY_WRONG;
    if (rv == CKR_OK && *reason == KW_OK)
        memcpy(octets, parts, length);
    explicit_bzero(block, sizeof block);
    explicit_bzero(opened, sizeof opened);
    explicit_bzero(parts, sizeof parts);
    return rv;
}

static CK_RV open_key(const struct kw_module *module, const uint8_t *item, const uint8_t load_digest[32],
                      uint8_t octets[KW_WRAPPED_MAX], enum kw_reason *reason)
{
    const struct kw_inner *inner = &module->inner;
    uint8_t shared[KW_SHARED_LEN] = {0}, key[32] = {0};
    CK_OBJECT_HANDLE unwrapping;
    bool good = false;
    CK_RV rv = kw_inner_ecdh(inner, module->transport.private_key, item + KW_WRAPPED_POINT, shared, &good);
    if (rv == CKR_OK && !good) {
        *reason = KW_R_WRAPPED_KEY_WRONG;
        return CKR_OK;
    }
    if (rv == CKR_OK)
        rv = wrapping_key(module, item, load_digest, shared, key);
    if (rv == CKR_OK)
        rv = kw_inner_aes_key(inner, key, CKM_AES_ECB, NULL, &unwrapping);
    explicit_bzero(shared, sizeof shared);
    explicit_bzero(key, sizeof key);
    if (rv != CKR_OK)
        return rv;
    rv = unwrap(inner, unwrapping, item, octets, reason);
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, unwrapping);
    return rv != CKR_OK ? rv : destroyed;
}

static enum kw_reason read_item(const struct kw_module *module, const uint8_t *item, struct kw_record *record)
{
    unsigned length = item[KW_WRAPPED_LEN];
    enum kw_reason reason = kw_load_record(item, KW_SOURCE_WRAPPED, record);
    if (reason != KW_OK)
        return reason;
    /* RFC 5649: eight octets more than the key, which is padded to whole eights. */
    unsigned expected = record->dkga == 4 ? 32 : 16;
    if (!item[KW_LOAD_HAS_EXPECTED] || length != expected || item[KW_WRAPPED_POINT] != 0x04 ||
        !kw_all_zero(item + KW_WRAPPED_KEY + length, KW_WRAPPED_MAX - length) ||
        !kw_all_zero(item + KW_WRAPPED_ZERO, 6))
        return KW_R_REQUEST_MALFORMED;
    if (!module->transport.present)
        return KW_R_TRANSPORT_KEY_MISSING;
    return kw_centres_have(&module->centres, item + KW_WRAPPED_CENTRE) ? KW_OK : KW_R_CENTRE_UNKNOWN;
}

CK_RV kw_load_wrapped(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_record record;
    uint8_t octets[KW_WRAPPED_MAX] = {0}, load_digest[32];
    int place = -1;
    enum kw_reason reason = read_item(module, item, &record);
    CK_RV rv = kw_inner_sha256(&module->inner, item, KW_LOAD_ITEM_LEN, load_digest);
    if (rv == CKR_OK && reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_LOAD_WRAPPED, item, KW_WRAPPED_ITEM_LEN, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = verify_centre(module, item, load_digest, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = open_key(module, item, load_digest, octets, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = kw_load_octets(module, &record, octets, item + KW_LOAD_EXPECTED, true, &reason);
    explicit_bzero(octets, sizeof octets);
    if (rv != CKR_OK)
        return rv;
    /* A key that is there as it was approved needs nothing more. */
    if (reason == KW_OK || reason == KW_R_KEY_ALREADY_LOADED)
        kw_approval_done(module, place);
    kw_load_answer(&record, reason, answer);
    return CKR_OK;
}
