#include <string.h>

#include "octets.h"
#include "operations.h"

#ifndef KW_SOURCE_DIGEST
#error "KW_SOURCE_DIGEST must be 64 hexadecimal digits: the build passes the digest of the sources"
#endif
#define KW_FM_VERSION_MAJOR 0
#define KW_FM_VERSION_MINOR 1

static uint8_t hex(char digit)
{
    return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

CK_RV kw_status(struct kw_module *module, uint8_t *answer)
{
    static const char source[] = KW_SOURCE_DIGEST;
    _Static_assert(sizeof source == 65, "a SHA-256 in hexadecimal");
    const struct kw_config *config = &module->config;
    struct kw_inner *inner = &module->inner;
    CK_SLOT_INFO slot;
    CK_INFO library;
    answer[KW_STATUS_MODE] = (uint8_t)config->mode;
    answer[KW_STATUS_PROFILE] = (uint8_t)config->profile;
    answer[KW_STATUS_CONFIG_ROOT_OWNED] = config->root_owned;
    answer[KW_STATUS_SELF_TEST] = module->self_test_passed;
    answer[KW_STATUS_SAMPLE_TABLES] = module->store.sample_tables;
    answer[KW_STATUS_LOGGED_IN] = module->login == KW_LOGIN_USER;
    kw_put(answer + KW_STATUS_UTC_OFFSET, (uint64_t)(int64_t)config->utc_offset_minutes, 2);
    kw_put(answer + KW_STATUS_CLOCK, (uint64_t)kw_clock_minutes(config), 8);
    kw_put(answer + KW_STATUS_KEYS, module->store.count, 4);
    kw_put(answer + KW_STATUS_KEYS_REFUSED, module->store.refused, 4);
    kw_put(answer + KW_STATUS_ISSUED, module->counters.issued, 8);
    kw_put(answer + KW_STATUS_VERIFIED, module->counters.verified, 8);
    kw_put(answer + KW_STATUS_KEY_CHANGES, module->counters.key_changes, 8);
    kw_put(answer + KW_STATUS_REFUSED, module->counters.refused, 8);
    memcpy(answer + KW_STATUS_TABLES_NAME, module->store.tables_name, KW_TABLES_NAME_LEN);
    memcpy(answer + KW_STATUS_TABLES_DIGEST, module->store.tables_digest, 32);
    for (unsigned i = 0; i < 32; i++)
        answer[KW_STATUS_SOURCE_DIGEST + i] = (uint8_t)(hex(source[2 * i]) << 4 | hex(source[2 * i + 1]));
    memcpy(answer + KW_STATUS_MODULE_ID, config->module_id, strlen(config->module_id));
    memcpy(answer + KW_STATUS_TOKEN_LABEL, config->token_label, 32);
    if (inner->has_slot)
        memcpy(answer + KW_STATUS_TOKEN_SERIAL, inner->token.serialNumber, 16);
    if (inner->has_slot && inner->functions->C_GetSlotInfo(inner->slot, &slot) == CKR_OK)
        answer[KW_STATUS_HARDWARE] = (slot.flags & CKF_HW_SLOT) != 0;
    if (inner->functions->C_GetInfo(&library) == CKR_OK) {
        memcpy(answer + KW_STATUS_LIBRARY, library.libraryDescription, 32);
        answer[KW_STATUS_LIBRARY_VERSION] = library.libraryVersion.major;
        answer[KW_STATUS_LIBRARY_VERSION + 1] = library.libraryVersion.minor;
    }
    kw_put(answer + KW_STATUS_PAST_WINDOW, (uint64_t)config->tid_past_minutes, 4);
    kw_put(answer + KW_STATUS_FUTURE_WINDOW, (uint64_t)config->tid_future_minutes, 4);
    answer[KW_STATUS_FM_VERSION] = KW_FM_VERSION_MAJOR;
    answer[KW_STATUS_FM_VERSION + 1] = KW_FM_VERSION_MINOR;
    return CKR_OK;
}
