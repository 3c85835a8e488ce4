#include <string.h>

#include "octets.h"
#include "operations.h"

#define PIN_FIELD_LEN 64
#define LABEL_LEN 32

/* 1 to 32 printable characters without blanks, then zeros. */
static bool read_table_name(const uint8_t *field, size_t *length)
{
    for (*length = 0; *length < KW_TABLES_NAME_LEN && field[*length] != 0; (*length)++)
        if (field[*length] <= ' ' || field[*length] > '~')
            return false;
    return *length > 0 && kw_all_zero(field + *length, KW_TABLES_NAME_LEN - *length);
}

CK_RV kw_install_tables(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_HANDLE previous[8], created;
    CK_ULONG count = 0;
    struct kw_sta_tables tables;
    char label[sizeof KW_TABLES_PREFIX + KW_TABLES_NAME_LEN] = KW_TABLES_PREFIX;
    const struct kw_inner *inner = &module->inner;
    size_t name_length;
    bool valid = read_table_name(item, &name_length) && kw_sta_load(&tables, item + KW_TABLES_NAME_LEN);
    bool sample = memcmp(item + KW_TABLES_NAME_LEN, kw_sta_sample, KW_TABLES_OCTETS) == 0;
    explicit_bzero(&tables, sizeof tables);
    if (!valid || (sample && module->config.profile == KW_PROFILE_PRODUCTION)) {
        kw_put(answer + KW_CHECKED_REASON, valid ? KW_R_SAMPLE_TABLES_REFUSED : KW_R_STA_TABLES_INVALID, 2);
        return CKR_OK;
    }
    memcpy(label + sizeof KW_TABLES_PREFIX - 1, item, name_length);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_MODIFIABLE, &no, sizeof no},
        {CKA_LABEL, label, sizeof KW_TABLES_PREFIX - 1 + name_length},
        {CKA_VALUE, (void *)(item + KW_TABLES_NAME_LEN), KW_TABLES_OCTETS},
    };
    int place;
    enum kw_reason reason;
    CK_RV rv = kw_approval_of_action(module, KW_OP_INSTALL_TABLES, item, KW_TABLES_ITEM_LEN, &place, &reason);
    if (rv != CKR_OK || reason != KW_OK) {
        kw_put(answer + KW_CHECKED_REASON, reason, 2);
        return rv;
    }
    rv = kw_keystore_find_tables(inner, previous, 8, &count);
    if (rv == CKR_OK)
        rv = inner->functions->C_CreateObject(inner->session, template, sizeof template / sizeof *template, &created);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++)
        rv = inner->functions->C_DestroyObject(inner->session, previous[i]);
    if (rv == CKR_OK)
        kw_approval_done(module, place);
    return rv == CKR_OK ? kw_keystore_read(&module->store, inner, &module->config) : rv;
}

static CK_ULONG pin_length(const uint8_t *field)
{
    size_t length = 0;
    while (length < PIN_FIELD_LEN && field[length] != 0)
        length++;
    return kw_all_zero(field + length, PIN_FIELD_LEN - length) ? length : 0;
}

/* Initialise the blank token under the configured label, and set the user's PIN; nobody is logged in afterwards. */
CK_RV kw_init_token(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_inner *inner = &module->inner;
    uint8_t so_pin[PIN_FIELD_LEN], user_pin[PIN_FIELD_LEN], label[LABEL_LEN];
    CK_ULONG so_length = pin_length(item + LABEL_LEN), user_length = pin_length(item + LABEL_LEN + PIN_FIELD_LEN);
    CK_TOKEN_INFO info;
    if (memcmp(item, module->config.token_label, LABEL_LEN) != 0 || so_length == 0 || user_length == 0) {
        kw_put(answer + KW_CHECKED_REASON, KW_R_REQUEST_MALFORMED, 2);
        return CKR_OK;
    }
    CK_RV rv = kw_inner_find_slot(inner, module->config.token_label, true);
    if (rv == CKR_OK)
        rv = inner->functions->C_GetTokenInfo(inner->slot, &info);
    if (rv == CKR_OK && (info.flags & CKF_TOKEN_INITIALIZED)) {
        kw_put(answer + KW_CHECKED_REASON, KW_R_KEY_EXISTS, 2); /* a token of this label stands: never wiped here */
        return CKR_OK;
    }
    memcpy(label, item, LABEL_LEN);
    memcpy(so_pin, item + LABEL_LEN, PIN_FIELD_LEN);
    memcpy(user_pin, item + LABEL_LEN + PIN_FIELD_LEN, PIN_FIELD_LEN);
    if (rv == CKR_OK)
        rv = inner->functions->C_InitToken(inner->slot, so_pin, so_length, label);
    if (rv == CKR_OK)
        rv = kw_inner_find_slot(inner, module->config.token_label, false);
    if (rv == CKR_OK)
        rv = kw_inner_login(inner, true, CKU_SO, so_pin, so_length);
    if (rv == CKR_OK) {
        rv = inner->functions->C_InitPIN(inner->session, user_pin, user_length);
        kw_inner_logout(inner);
    }
    explicit_bzero(so_pin, sizeof so_pin);
    explicit_bzero(user_pin, sizeof user_pin);
    return rv;
}
