/*
 * Fuzzes the request parser and all operations: octet 0 chooses the operation, 1 the mode and profile, 2 the key (or
 * none), 3 when the inner library begins to fail; the rest is the request. Seeds are well-formed requests.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fake_inner.h"
#include "octets.h"
#include "operations.h"

static struct kw_module module;
static uint8_t answer[KW_HEADER_LEN + KW_BATCH_MAX * 320 + KW_OFFICERS_ANSWER_LEN];

static void add_key(const char *sgc, uint8_t kt, uint8_t dkga, uint8_t bdt, uint8_t ken)
{
    struct kw_key *key = &module.store.keys[module.store.count++];
    memset(key, 0, sizeof *key);
    memcpy(key->record.sgc, sgc, 6);
    key->inner = module.store.count;
    key->record.krn = 1;
    key->record.kt = kt;
    key->record.dkga = dkga;
    key->record.bdt = bdt;
    key->record.ken = ken;
    key->record.key_change = true;
    key->record.class0 = 0x00FF;
    key->record.class2 = 0xFCE7;
    key->record.origin = KW_ORIGIN_PUBLIC;
}

/* Two officers, and a ceremony that both have approved (or none has). */
static void enrol(bool approved, enum kw_ceremony_kind kind)
{
    uint8_t *block = module.officers.block;
    block[0] = 2;
    memset(block + KW_OFFICERS_THRESHOLDS + 1, 2, KW_CEREMONY_KINDS);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *officer = block + KW_OFFICERS_LIST + i * (size_t)KW_OFFICER_LEN;
        memset(officer, 'A' + (int)i, 4);
        memset(officer + KW_OFFICER_KEY, (int)i + 1, 32);
        officer[KW_OFFICER_UNTIL] = 1;
    }
    if (!kw_officers_valid(block))
        abort();
    module.officers.present = module.approval.begun = true;
    module.approval.officers = module.officers;
    module.approval.kind = kind;
    module.approval.approved_by[0] = module.approval.approved_by[1] = approved;
}

static void prepare(uint8_t choice, uint8_t failing)
{
    memset(&module.config, 0, sizeof module.config);
    module.config.mode = (enum kw_mode)(choice % 3 + 1);
    module.config.profile = choice & 8 ? KW_PROFILE_PRODUCTION : KW_PROFILE_DEVELOPMENT;
    module.config.tid_past_minutes = module.config.reserved_past_minutes = 60;
    module.config.tid_future_minutes = module.config.reserved_future_minutes = 1 << 20;
    memset(module.config.token_label, ' ', 32);
    kw_fake_inner(&module.inner, failing < 128 ? UINT32_MAX : failing - 128U);
    module.faulted = false;
    module.store.count = 0;
    module.store.sample_tables = true;
    if (!kw_sta_load(&module.store.tables, kw_sta_sample))
        abort();
    memset(&module.audit, 0, sizeof module.audit);
    module.audit.present = choice & 16;
    memset(module.config.module_id, 'm', sizeof module.config.module_id - 1);
    memset(&module.officers, 0, sizeof module.officers);
    memset(&module.approval, 0, sizeof module.approval);
    memset(&module.centres, 0, sizeof module.centres);
    module.centres.present = module.transport.present = module.block_key.present = true;
    module.centres.block[0] = 1;
    memset(module.centres.block + KW_CENTRES_LIST + 32, 1, 32);
    module.store.retired.count = 0;
    memset(&module.mandate, 0, sizeof module.mandate);
    if (!(choice & 4))
        module.mandate.lease = (struct kw_lease){1, 0, UINT32_MAX};
    if (choice & 32)
        enrol(choice & 64, choice & 128 ? KW_CEREMONY_OFFICERS : KW_CEREMONY_LOAD_KEY);
    add_key("201457", 2, 4, 14, 255);
    add_key("123456", 2, 2, 93, 255);
    add_key("600002", 1, 4, 14, 255);
    add_key("600008", 3, 2, 14, 255);
    add_key("600009", 2, 4, 35, 10);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum kw_operation operations[] = {
        KW_OP_ISSUE,          KW_OP_VERIFY,         KW_OP_KEY_CHANGE,      KW_OP_CHECK_VALUE,  KW_OP_STATUS,
        KW_OP_SELF_TEST,      KW_OP_AUDIT_KEY,      KW_OP_SIGN_CHECKPOINT, KW_OP_INIT_TOKEN,   KW_OP_LOAD_KEY,
        KW_OP_INSTALL_TABLES, KW_OP_MAKE_AUDIT_KEY, KW_OP_OFFICERS,        KW_OP_SET_OFFICERS, KW_OP_BEGIN_CEREMONY,
        KW_OP_APPROVE,        KW_OP_COMPONENT,      KW_OP_DESTROY_KEY,     KW_OP_SIGN_RECORD,  KW_OP_RETIRE_KEY,
        KW_OP_TRANSPORT_KEY,  KW_OP_END_TRANSPORT,  KW_OP_LOAD_WRAPPED,    KW_OP_CENTRES,      KW_OP_SET_CENTRES,
        KW_OP_SET_BLOCK_KEY,  KW_OP_LOAD_BLOCK,     KW_OP_SET_LEASE,       KW_OP_SET_POLICY,   KW_OP_MANDATE,
        KW_OP_PRESENT_LEASE,
    };
    struct kw_record record;
    if (size < 4)
        return 0;
    prepare(data[1], data[3]);
    enum kw_operation operation = operations[data[0] % (sizeof operations / sizeof *operations)];
    uint32_t chosen = data[2] % (module.store.count + 1);
    const struct kw_key *key = chosen == module.store.count ? NULL : &module.store.keys[chosen];
    const uint8_t *request = data + 4;
    size_t length = size - 4;
    kw_record_parse(&record, (const char *)request, length);
    kw_record_parse_attributes(&record, (const char *)request, length);
    if (!kw_operation_allowed(module.config.mode, operation, key != NULL))
        return 0;
    size_t needed = kw_answer_length(operation, key, request, length);
    if (needed == 0)
        return 0;
    if (needed > sizeof answer)
        abort();
    /* The request in memory of its own length, so that one octet too many is seen. */
    uint8_t *copy = malloc(length);
    memcpy(copy, request, length);
    CK_RV rv = kw_operate(&module, operation, key, copy, length, answer);
    free(copy);
    if (rv != CKR_OK && !kw_all_zero(answer, needed))
        abort(); /* a fault must leave nothing of the batch behind */
    if (rv == CKR_OK && operation == KW_OP_ISSUE)
        for (size_t at = KW_HEADER_LEN; at < needed; at += KW_ISSUED_ITEM_LEN) {
            uint8_t token_class = answer[at + KW_ISSUED_CLASS], subclass = answer[at + KW_ISSUED_SUBCLASS];
            bool refused = kw_get(answer + at + KW_ISSUED_REASON, 2) != KW_OK;
            if (refused && !kw_all_zero(answer + at + KW_ISSUED_CLASS, KW_ISSUED_ITEM_LEN - KW_ISSUED_CLASS))
                abort();
            /* No section of a key ever comes out of issue, and class 1 has no key. */
            if (!refused && token_class == 2 && (subclass == 3 || subclass == 4 || subclass == 8 || subclass == 9))
                abort();
            if (!refused && (token_class == 1) != (key == NULL))
                abort();
        }
    return 0;
}
