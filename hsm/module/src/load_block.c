/*
 * Key blocks of ANSI X9.143 (TR-31), version D: AES-CBC with a CMAC over header and key, both under keys derived from
 * the key block protection key. What the block says of its key is in its header, and under the CMAC.
 */
#include <string.h>

#include "load_key.h"
#include "octets.h"
#include "operations.h"

#define HEADER_LEN 16
#define MAC_LEN 16
#define CIPHER_MAX 64
#define KEY_BITS_LEN 2

/* A block whose form is right; nothing of it is proven. */
struct block {
    const uint8_t *text;
    size_t clear_length; /* header and optional blocks: what the CMAC covers before the key */
    uint8_t cipher[CIPHER_MAX];
    size_t cipher_length;
    uint8_t mac[MAC_LEN];
    struct kw_record record;
};

static int hex_digit(uint8_t character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    return character >= 'A' && character <= 'F' ? character - 'A' + 10 : -1;
}

static bool read_hex(const uint8_t *text, size_t octets, uint8_t *out)
{
    for (size_t i = 0; i < octets; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static size_t decimal(const uint8_t *text, unsigned digits)
{
    size_t value = 0;
    for (unsigned i = 0; i < digits; i++)
        value = value * 10 + (size_t)(text[i] - '0');
    return value;
}

/* The optional blocks: the attributes once, and padding at the end; whoever reads it otherwise reads something else. */
static bool read_optional(struct block *block, size_t length)
{
    const uint8_t *text = block->text;
    size_t at = HEADER_LEN;
    bool found = false;
    for (size_t count = decimal(text + 12, 2); count > 0; count--) {
        uint8_t size;
        if (length - at < 4 || !read_hex(text + at + 2, 1, &size) || size < 4 || size > length - at)
            return false;
        if (memcmp(text + at, "41", 2) == 0) {
            if (found || !kw_record_parse_attributes(&block->record, (const char *)text + at + 4, size - 4U))
                return false;
            found = true;
        } else if (memcmp(text + at, "PB", 2) != 0 || !found || count != 1) {
            return false;
        }
        at += size;
    }
    block->clear_length = at;
    return found && at % 16 == 0;
}

static bool read_block(const uint8_t *item, struct block *block)
{
    size_t length = 0;
    memset(block, 0, sizeof *block);
    while (length < KW_BLOCK_ITEM_LEN && item[length] != 0)
        length++;
    if (length < HEADER_LEN || !kw_all_zero(item + length, KW_BLOCK_ITEM_LEN - length))
        return false;
    block->text = item;
    if (item[0] != 'D' || !kw_all_digits(item + 1, 4) || decimal(item + 1, 4) != length ||
        memcmp(item + 5, "41", 2) != 0 || memcmp(item + 8, "X00N", 4) != 0 || !kw_all_digits(item + 12, 2) ||
        memcmp(item + 14, "00", 2) != 0 || !read_optional(block, length))
        return false;
    if (item[7] != (block->record.dkga == 4 ? 'H' : 'D'))
        return false;
    size_t rest = length - block->clear_length;
    if (rest % 32 != 0 || rest < 2 * (MAC_LEN + 16) || rest > 2 * (MAC_LEN + CIPHER_MAX))
        return false;
    block->cipher_length = rest / 2 - MAC_LEN;
    return read_hex(item + block->clear_length, block->cipher_length, block->cipher) &&
           read_hex(item + length - 2 * MAC_LEN, MAC_LEN, block->mac);
}

/* AES-256 keys of both uses: CMAC in counter mode over usage (0 encryption, 1 authentication), algorithm and length. */
static CK_RV derive(const struct kw_module *module, uint8_t usage, CK_MECHANISM_TYPE use, CK_OBJECT_HANDLE *key)
{
    uint8_t input[8] = {1, 0, usage, 0, 0x00, 0x04, 0x01, 0x00}, octets[32];
    CK_RV rv = kw_inner_cmac(&module->inner, module->block_key.key, input, sizeof input, octets);
    input[0] = 2;
    if (rv == CKR_OK)
        rv = kw_inner_cmac(&module->inner, module->block_key.key, input, sizeof input, octets + 16);
    if (rv == CKR_OK)
        rv = kw_inner_aes_key(&module->inner, octets, use, NULL, key);
    explicit_bzero(octets, sizeof octets);
    return rv;
}

static CK_RV decrypt(const struct kw_module *module, const struct block *block, uint8_t clear[CIPHER_MAX])
{
    const struct kw_inner *inner = &module->inner;
    CK_OBJECT_HANDLE key;
    CK_RV rv = derive(module, 0, CKM_AES_CBC, &key);
    if (rv != CKR_OK)
        return rv;
    rv = kw_inner_aes_decrypt(inner, key, block->mac, block->cipher, (CK_ULONG)block->cipher_length, clear);
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, key);
    return rv != CKR_OK ? rv : destroyed;
}

static CK_RV authenticate(const struct kw_module *module, const struct block *block, const uint8_t clear[CIPHER_MAX],
                          bool *genuine)
{
    const struct kw_inner *inner = &module->inner;
    uint8_t covered[KW_BLOCK_ITEM_LEN + CIPHER_MAX], mac[MAC_LEN] = {0};
    CK_OBJECT_HANDLE key;
    CK_RV rv = derive(module, 1, CKM_AES_CMAC, &key);
    if (rv != CKR_OK)
        return rv;
    memcpy(covered, block->text, block->clear_length);
    memcpy(covered + block->clear_length, clear, block->cipher_length);
    rv = kw_inner_cmac(inner, key, covered, (CK_ULONG)(block->clear_length + block->cipher_length), mac);
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, key);
    *genuine = rv == CKR_OK && memcmp(mac, block->mac, MAC_LEN) == 0;
    explicit_bzero(covered, sizeof covered);
    return rv != CKR_OK ? rv : destroyed;
}

CK_RV kw_load_block(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct block block;
    uint8_t clear[CIPHER_MAX] = {0};
    bool genuine = false;
    int place = -1;
    CK_RV rv = CKR_OK;
    enum kw_reason reason = read_block(item, &block) ? KW_OK : KW_R_KEY_BLOCK_INVALID;
    if (reason == KW_OK && !module->block_key.present)
        reason = KW_R_BLOCK_KEY_MISSING;
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, KW_OP_LOAD_BLOCK, item, KW_BLOCK_ITEM_LEN, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = decrypt(module, &block, clear);
    if (rv == CKR_OK && reason == KW_OK)
        rv = authenticate(module, &block, clear, &genuine);
    if (rv == CKR_OK && reason == KW_OK) {
        size_t length = block.record.dkga == 4 ? 20 : 8;
        uint8_t expected[3];
        memcpy(expected, block.record.kcv, sizeof expected);
        if (!genuine || kw_get(clear, KEY_BITS_LEN) != length * 8)
            reason = KW_R_KEY_BLOCK_WRONG;
        else
            rv = kw_load_octets(module, &block.record, clear + KEY_BITS_LEN, expected, true, &reason);
    }
    explicit_bzero(clear, sizeof clear);
    if (rv != CKR_OK)
        return rv;
    /* A key that is there as it was approved needs nothing more. */
    if (reason == KW_OK || reason == KW_R_KEY_ALREADY_LOADED)
        kw_approval_done(module, place);
    kw_load_answer(&block.record, reason, answer);
    return CKR_OK;
}
