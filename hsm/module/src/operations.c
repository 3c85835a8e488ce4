#include "operations.h"

#include <string.h>

#include "octets.h"

/* Lengths of an item and of its answer; items without a key where `keyless`. */
struct shape {
    size_t item, answer;
    bool with_key, keyless, ceremony, online;
    unsigned items_max; /* 0: a bare header asks for one answer */
};

static const struct shape *shape_of(enum kw_operation operation)
{
    static const struct shape issue = {KW_ISSUE_ITEM_LEN, KW_ISSUED_ITEM_LEN, true, true, false, true, KW_BATCH_MAX};
    static const struct shape verify = {KW_VERIFY_ITEM_LEN, KW_VERIFIED_ITEM_LEN, true, true, false, true,
                                        KW_BATCH_MAX};
    static const struct shape change = {KW_CHANGE_ITEM_LEN, KW_CHANGED_ITEM_LEN, true, false, false, true,
                                        KW_BATCH_MAX};
    static const struct shape check = {0, KW_CHECKED_ITEM_LEN, true, false, true, true, 0};
    static const struct shape status = {0, KW_STATUS_LEN, false, true, true, true, 0};
    static const struct shape test = {0, KW_CHECKED_ITEM_LEN, false, true, true, true, 0};
    static const struct shape load = {KW_LOAD_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape tables = {KW_TABLES_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape init = {KW_INIT_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape audit = {0, KW_AUDIT_KEY_LEN, false, true, true, true, 0};
    static const struct shape checkpoint = {KW_CHECKPOINT_ITEM_LEN, KW_SIGNED_ITEM_LEN, false, true, false, true, 1};
    static const struct shape make_audit = {0, KW_AUDIT_KEY_LEN, false, true, true, false, 0};
    static const struct shape officers = {0, KW_OFFICERS_ANSWER_LEN, false, true, true, true, 0};
    static const struct shape set_officers = {KW_OFFICERS_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape begin = {KW_BEGIN_ITEM_LEN, KW_BEGUN_ITEM_LEN, false, true, true, false, 1};
    static const struct shape approve = {KW_APPROVE_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape component = {KW_COMPONENT_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape destroy = {KW_DESTROY_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape record = {KW_RECORD_ITEM_LEN, KW_SIGNED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape transport = {0, KW_TRANSPORT_LEN, false, true, true, false, 0};
    static const struct shape end_transport = {0, KW_CHECKED_ITEM_LEN, false, true, true, false, 0};
    static const struct shape wrapped = {KW_WRAPPED_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape centres = {0, KW_CENTRES_ANSWER_LEN, false, true, true, true, 0};
    static const struct shape set_centres = {KW_CENTRES_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape block_key = {KW_BLOCK_KEY_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape block = {KW_BLOCK_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape lease = {KW_SET_LEASE_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape policy = {KW_SET_POLICY_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, true, false, 1};
    static const struct shape mandate = {0, KW_MANDATE_ANSWER_LEN, false, true, true, true, 0};
    static const struct shape present = {KW_PRESENT_ITEM_LEN, KW_CHECKED_ITEM_LEN, false, true, false, true, 1};
    switch (operation) {
    case KW_OP_ISSUE:
        return &issue;
    case KW_OP_VERIFY:
        return &verify;
    case KW_OP_KEY_CHANGE:
        return &change;
    case KW_OP_CHECK_VALUE:
        return &check;
    case KW_OP_STATUS:
        return &status;
    case KW_OP_SELF_TEST:
        return &test;
    case KW_OP_LOAD_KEY:
        return &load;
    case KW_OP_INSTALL_TABLES:
        return &tables;
    case KW_OP_INIT_TOKEN:
        return &init;
    case KW_OP_AUDIT_KEY:
        return &audit;
    case KW_OP_SIGN_CHECKPOINT:
        return &checkpoint;
    case KW_OP_MAKE_AUDIT_KEY:
        return &make_audit;
    case KW_OP_OFFICERS:
        return &officers;
    case KW_OP_SET_OFFICERS:
        return &set_officers;
    case KW_OP_BEGIN_CEREMONY:
        return &begin;
    case KW_OP_APPROVE:
        return &approve;
    case KW_OP_COMPONENT:
        return &component;
    case KW_OP_DESTROY_KEY:
        return &destroy;
    case KW_OP_RETIRE_KEY:
        return &destroy;
    case KW_OP_SIGN_RECORD:
        return &record;
    case KW_OP_TRANSPORT_KEY:
        return &transport;
    case KW_OP_END_TRANSPORT:
        return &end_transport;
    case KW_OP_LOAD_WRAPPED:
        return &wrapped;
    case KW_OP_CENTRES:
        return &centres;
    case KW_OP_SET_CENTRES:
        return &set_centres;
    case KW_OP_SET_BLOCK_KEY:
        return &block_key;
    case KW_OP_LOAD_BLOCK:
        return &block;
    case KW_OP_SET_LEASE:
        return &lease;
    case KW_OP_SET_POLICY:
        return &policy;
    case KW_OP_MANDATE:
        return &mandate;
    case KW_OP_PRESENT_LEASE:
        return &present;
    }
    return NULL;
}

bool kw_operation_allowed(enum kw_mode mode, enum kw_operation operation, bool with_key)
{
    const struct shape *shape = shape_of(operation);
    if (shape == NULL || !(with_key ? shape->with_key : shape->keyless))
        return false;
    return mode == KW_MODE_CEREMONY ? shape->ceremony : shape->online;
}

size_t kw_answer_length(enum kw_operation operation, const struct kw_key *key, const uint8_t *request, size_t length)
{
    const struct shape *shape = shape_of(operation);
    if (shape == NULL || !(key != NULL ? shape->with_key : shape->keyless) || length < KW_HEADER_LEN)
        return 0;
    if (request[0] != KW_INTERFACE_VERSION || request[1] != operation || !kw_all_zero(request + 4, 4))
        return 0;
    size_t count = (size_t)kw_get(request + 2, 2);
    if (shape->items_max == 0)
        return count == 0 && length == KW_HEADER_LEN ? KW_HEADER_LEN + shape->answer : 0;
    if (count == 0 || count > shape->items_max || length != KW_HEADER_LEN + count * shape->item)
        return 0;
    return KW_HEADER_LEN + count * shape->answer;
}

/* A known answer that is wrong once is never trusted again in this login. */
static CK_RV self_test(struct kw_module *module)
{
    CK_RV rv = kw_self_test_pure() ? kw_self_test_inner(&module->inner) : CKR_DEVICE_ERROR;
    if (rv != CKR_OK)
        module->faulted = true;
    return rv;
}

static CK_RV operate_one(struct kw_module *module, enum kw_operation operation, const struct kw_key *key,
                         const uint8_t *item, uint8_t *answer)
{
    switch (operation) {
    case KW_OP_ISSUE:
        return kw_issue(module, key, item, answer);
    case KW_OP_VERIFY:
        return kw_verify(module, key, item, answer);
    case KW_OP_KEY_CHANGE:
        return kw_key_change(module, key, item, answer);
    case KW_OP_CHECK_VALUE:
        return kw_check_value(module, key, answer);
    case KW_OP_STATUS:
        return kw_status(module, answer);
    case KW_OP_SELF_TEST:
        return self_test(module);
    case KW_OP_LOAD_KEY:
        return kw_load_key(module, item, answer);
    case KW_OP_INSTALL_TABLES:
        return kw_install_tables(module, item, answer);
    case KW_OP_INIT_TOKEN:
        return kw_init_token(module, item, answer);
    case KW_OP_AUDIT_KEY:
        return kw_audit_key(module, answer);
    case KW_OP_SIGN_CHECKPOINT:
        return kw_sign_checkpoint(module, item, answer);
    case KW_OP_MAKE_AUDIT_KEY:
        return kw_make_audit_key(module, answer);
    case KW_OP_OFFICERS:
        return kw_officers_operation(module, answer);
    case KW_OP_SET_OFFICERS:
        return kw_set_officers(module, item, answer);
    case KW_OP_BEGIN_CEREMONY:
        return kw_begin_ceremony(module, item, answer);
    case KW_OP_APPROVE:
        return kw_approve(module, item, answer);
    case KW_OP_COMPONENT:
        return kw_component(module, item, answer);
    case KW_OP_DESTROY_KEY:
        return kw_destroy_key(module, item, answer);
    case KW_OP_SIGN_RECORD:
        return kw_sign_record(module, item, answer);
    case KW_OP_RETIRE_KEY:
        return kw_retire_key(module, item, answer);
    case KW_OP_TRANSPORT_KEY:
        return kw_transport_key(module, answer);
    case KW_OP_END_TRANSPORT:
        return kw_end_transport(module, answer);
    case KW_OP_LOAD_WRAPPED:
        return kw_load_wrapped(module, item, answer);
    case KW_OP_CENTRES:
        return kw_centres_operation(module, answer);
    case KW_OP_SET_CENTRES:
        return kw_set_centres(module, item, answer);
    case KW_OP_SET_BLOCK_KEY:
        return kw_set_block_key(module, item, answer);
    case KW_OP_LOAD_BLOCK:
        return kw_load_block(module, item, answer);
    case KW_OP_SET_LEASE:
        return kw_set_lease(module, item, answer);
    case KW_OP_SET_POLICY:
        return kw_set_policy(module, item, answer);
    case KW_OP_MANDATE:
        return kw_mandate(module, answer);
    case KW_OP_PRESENT_LEASE:
        return kw_present_lease(module, item, answer);
    }
    return CKR_MECHANISM_INVALID;
}

CK_RV kw_operate(struct kw_module *module, enum kw_operation operation, const struct kw_key *key,
                 const uint8_t *request, size_t length, uint8_t *answer)
{
    const struct shape *shape = shape_of(operation);
    size_t total = kw_answer_length(operation, key, request, length);
    if (shape == NULL || total == 0)
        return CKR_DATA_INVALID;
    memset(answer, 0, total);
    memcpy(answer, request, 4);
    size_t count = shape->items_max == 0 ? 1 : (size_t)kw_get(request + 2, 2);
    for (size_t i = 0; i < count && !(module->faulted && operation != KW_OP_STATUS); i++) {
        uint8_t *item_answer = answer + KW_HEADER_LEN + i * shape->answer;
        CK_RV rv = operate_one(module, operation, key, request + KW_HEADER_LEN + i * shape->item, item_answer);
        if (rv != CKR_OK) {
            explicit_bzero(answer, total);
            return rv;
        }
    }
    if (module->faulted && operation != KW_OP_STATUS) {
        explicit_bzero(answer, total);
        return CKR_DEVICE_ERROR;
    }
    return CKR_OK;
}
