#include <string.h>

#include "amount.h"
#include "civil_time.h"
#include "decoder_key.h"
#include "frame.h"
#include "misty1.h"
#include "octets.h"
#include "operations.h"

static bool ciphers_are_right(void)
{
    static const uint8_t key[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                    0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF};
    struct kw_misty1_schedule schedule;
    struct kw_sta_tables tables;
    kw_misty1_expand(&schedule, key); /* RFC 2994, appendix A */
    bool misty1 = kw_misty1_encrypt(&schedule, UINT64_C(0x0123456789ABCDEF)) == UINT64_C(0x8B1DA5F56AB3D07C) &&
                  kw_misty1_decrypt(&schedule, UINT64_C(0x04B68240B13BE95D)) == UINT64_C(0xFEDCBA9876543210);
    /* IEC 62055-41, worked example with the sample tables */
    const uint64_t sta_key = UINT64_C(0x0ABC12DEF3456789), block = UINT64_C(0x0B19EB230100C207);
    bool sta = kw_sta_load(&tables, kw_sta_sample) &&
               kw_sta_encrypt(&tables, sta_key, block) == UINT64_C(0xC45ED1619406DF95) &&
               kw_sta_decrypt(&tables, sta_key, UINT64_C(0xC45ED1619406DF95)) == block;
    return misty1 && sta;
}

static bool codecs_are_right(void)
{
    struct kw_frame currency = {0, 4, UINT64_C(0x06d6f5160aa)}; /* CTSA20 step 1 */
    struct kw_frame service = {0, 0, UINT64_C(0xB19EB230100)};
    uint8_t digits[KW_TOKEN_DIGITS], token_class;
    uint64_t block;
    uint16_t field;
    uint32_t wide;
    int64_t base;
    kw_number_format(digits, 0, UINT64_C(0xC45ED1619406DF95));
    return kw_frame_crc(&currency) == 0x72f9 && kw_frame_crc(&service) == 0xC207 &&
           memcmp(digits, "51043465443420856213", KW_TOKEN_DIGITS) == 0 &&
           kw_number_parse(digits, &token_class, &block) && token_class == 0 && block == UINT64_C(0xC45ED1619406DF95) &&
           kw_amount16_encode(180215, &field) == KW_OK && field == 0x8000 &&
           kw_amount16_encode(18201625, &field) == KW_R_AMOUNT_TOO_LARGE &&
           kw_currency_encode(-100000, &wide) == KW_OK && wide == 0x860A9 && kw_base_minutes(14, &base) &&
           base == INT64_C(16071) * 1440;
}

bool kw_self_test_pure(void)
{
    return ciphers_are_right() && codecs_are_right();
}

/* Derive with a session key made of a public test key, and compare. */
static CK_RV derivation_is_right(const struct kw_inner *inner, const struct kw_record *record, uint8_t ea,
                                 const uint8_t *vending_key, const uint8_t *expected, size_t length)
{
    static const uint8_t pan[] = "600727000000000009", ti[] = "01";
    struct kw_meter meter = {pan, ti, ea};
    struct kw_decoder_key key;
    enum kw_reason reason;
    CK_OBJECT_HANDLE object;
    CK_RV rv = kw_inner_create_key(inner, record->dkga, vending_key, NULL, 0, &object);
    if (rv != CKR_OK)
        return rv;
    rv = kw_decoder_key_derive(inner, object, record, &meter, &key, &reason);
    if (rv == CKR_OK && (reason != KW_OK || memcmp(key.octets, expected, length) != 0))
        rv = CKR_DEVICE_ERROR;
    kw_decoder_key_wipe(&key);
    CK_RV destroyed = inner->functions->C_DestroyObject(inner->session, object);
    return rv != CKR_OK ? rv : destroyed;
}

CK_RV kw_self_test_inner(const struct kw_inner *inner)
{
    static const uint8_t vending_key[20] = {0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0x94, 0x94,
                                            0x94, 0x94, 0x94, 0x94, 0x94, 0x94, 0x01, 0x23, 0x45, 0x67};
    static const uint8_t dk11[16] = {0x92, 0x9B, 0xD3, 0xA4, 0x15, 0xC9, 0x42, 0x0A,
                                     0x05, 0xEC, 0x5E, 0xE9, 0xF3, 0xCE, 0x91, 0xC3};
    static const uint8_t dk07[8] = {0x87, 0xF3, 0xEC, 0xBB, 0x2E, 0x46, 0xB4, 0x8F};
    static const uint8_t dk_des[8] = {0xE6, 0x53, 0x34, 0x1F, 0x9D, 0x5B, 0xF3, 0x6F};
    struct kw_record dkga04 = {.sgc = "201457", .krn = 1, .kt = 2, .dkga = 4, .bdt = 14};
    struct kw_record dkga02 = {.sgc = "123456", .krn = 1, .kt = 2, .dkga = 2, .bdt = 93};
    CK_RV rv = derivation_is_right(inner, &dkga04, 11, vending_key, dk11, sizeof dk11);
    if (rv == CKR_OK)
        rv = derivation_is_right(inner, &dkga04, 7, vending_key, dk07, sizeof dk07);
    return rv == CKR_OK ? derivation_is_right(inner, &dkga02, 7, vending_key, dk_des, sizeof dk_des) : rv;
}
