#include "approval.h"

#include <stdio.h>
#include <string.h>

#include "module.h"
#include "octets.h"
#include "operations.h"
#include "signatures.h"

#define NAMESPACE "approval@keywatt.dev"
/* The lines that are signed: ids and numbers of bounded length, digests as 64 characters. */
#define TEXT_MAX 512
#define RECORD_TEXT_MAX (TEXT_MAX + KW_OFFICERS_MAX * 120)

unsigned kw_approval_count(const struct kw_approval *approval)
{
    unsigned count = 0;
    for (unsigned i = 0; i < KW_OFFICERS_MAX; i++)
        count += approval->approved_by[i];
    return count;
}

static unsigned needed(const struct kw_approval *approval)
{
    return approval->officers.present ? kw_officers_needed(&approval->officers, approval->kind) : 0;
}

static bool is_open(const struct kw_approval *approval)
{
    return approval->begun && approval->officers.present && kw_approval_count(approval) >= needed(approval);
}

enum kw_reason kw_approval_open(const struct kw_module *module)
{
    const struct kw_approval *approval = &module->approval;
    if (!approval->begun)
        return KW_R_CEREMONY_NOT_BEGUN;
    return is_open(approval) ? KW_OK : KW_R_CEREMONY_NOT_APPROVED;
}

/* Development without officers, as it begins; a token that has officers obeys them in every profile. */
static bool is_free(const struct kw_module *module)
{
    return module->config.profile == KW_PROFILE_DEVELOPMENT && !module->officers.present && !module->approval.begun;
}

/* What a kind of ceremony is for: else the kind that needs the fewest officers would serve for everything. */
static bool belongs(enum kw_ceremony_kind kind, enum kw_operation operation, const uint8_t *item)
{
    switch (operation) {
    case KW_OP_SET_OFFICERS:
        return kind == KW_CEREMONY_INITIALISE || kind == KW_CEREMONY_OFFICERS || kind == KW_CEREMONY_HAND_OVER;
    case KW_OP_SET_CENTRES:
    case KW_OP_SET_BLOCK_KEY:
        return kind == KW_CEREMONY_OFFICERS;
    case KW_OP_MAKE_AUDIT_KEY:
        return kind == KW_CEREMONY_INITIALISE;
    case KW_OP_LOAD_KEY:
        return kind == (item[KW_LOAD_SOURCE] == KW_SOURCE_GENERATE ? KW_CEREMONY_GENERATE_KEY : KW_CEREMONY_LOAD_KEY);
    case KW_OP_INSTALL_TABLES:
        return kind == KW_CEREMONY_TABLES;
    case KW_OP_DESTROY_KEY:
        return kind == KW_CEREMONY_DESTROY_KEY;
    case KW_OP_RETIRE_KEY:
        return kind == KW_CEREMONY_RETIRE_KEY;
    case KW_OP_SET_LEASE:
        return kind == KW_CEREMONY_LEASE;
    case KW_OP_SET_POLICY:
        return kind == KW_CEREMONY_POLICY;
    case KW_OP_TRANSPORT_KEY:
    case KW_OP_END_TRANSPORT:
    case KW_OP_LOAD_WRAPPED:
    case KW_OP_LOAD_BLOCK:
        return kind == KW_CEREMONY_KEY_FILE;
    default:
        return false;
    }
}

static CK_RV digest_action(const struct kw_module *module, enum kw_operation operation, const uint8_t *item,
                           size_t length, uint8_t digest[32])
{
    uint8_t octets[1 + KW_OFFICERS_LEN];
    octets[0] = (uint8_t)operation;
    if (length > 0)
        memcpy(octets + 1, item, length);
    /* Officers approve what a key is for; the key itself they must not see. */
    if (operation == KW_OP_LOAD_KEY)
        memset(octets + 1 + KW_LOAD_KEY, 0, 20);
    CK_RV rv = kw_inner_sha256(&module->inner, octets, 1 + length, digest);
    explicit_bzero(octets, sizeof octets);
    return rv;
}

CK_RV kw_approval_of_action(const struct kw_module *module, enum kw_operation operation, const uint8_t *item,
                            size_t length, int *place, enum kw_reason *reason)
{
    const struct kw_approval *approval = &module->approval;
    uint8_t digest[32];
    *place = -1;
    *reason = KW_OK;
    if (is_free(module))
        return CKR_OK;
    *reason = kw_approval_open(module);
    if (*reason == KW_OK && !belongs(approval->kind, operation, item))
        *reason = KW_R_ACTION_NOT_APPROVED;
    if (*reason != KW_OK)
        return CKR_OK;
    CK_RV rv = digest_action(module, operation, item, length, digest);
    if (rv != CKR_OK)
        return rv;
    for (unsigned i = 0; i < approval->action_count && *place < 0; i++)
        if (!approval->done[i] && memcmp(approval->actions[i], digest, 32) == 0)
            *place = (int)i;
    if (*place < 0)
        *reason = KW_R_ACTION_NOT_APPROVED;
    return CKR_OK;
}

void kw_approval_done(struct kw_module *module, int place)
{
    if (place >= 0)
        module->approval.done[place] = true;
}

CK_RV kw_begin_ceremony(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_approval *approval = &module->approval;
    unsigned kind = item[KW_BEGIN_KIND], count = item[KW_BEGIN_COUNT];
    const uint8_t *actions = item + KW_BEGIN_ACTIONS;
    /* Whatever was under way ends here, with its approvals and components. */
    explicit_bzero(approval, sizeof *approval);
    if (kind < 1 || kind > KW_CEREMONY_KINDS || count > KW_ACTIONS_MAX || !kw_all_zero(item + 2, 6) ||
        !kw_all_zero(actions + count * 32U, (KW_ACTIONS_MAX - count) * 32U)) {
        kw_put(answer, KW_R_REQUEST_MALFORMED, 2);
        return CKR_OK;
    }
    if (!module->officers.present && kind != KW_CEREMONY_INITIALISE) {
        kw_put(answer, KW_R_OFFICERS_MISSING, 2);
        return CKR_OK;
    }
    /* Else the officers of a token could be replaced by as many as an initialisation needs. */
    if (module->officers.present && kind == KW_CEREMONY_INITIALISE) {
        kw_put(answer, KW_R_ACTION_NOT_APPROVED, 2);
        return CKR_OK;
    }
    CK_RV rv = module->inner.functions->C_GenerateRandom(module->inner.session, approval->nonce, 32);
    if (rv == CKR_OK)
        rv = kw_inner_sha256(&module->inner, actions, count * 32U, approval->actions_digest);
    if (rv != CKR_OK)
        return rv;
    approval->begun = true;
    approval->kind = (enum kw_ceremony_kind)kind;
    approval->action_count = count;
    memcpy(approval->plan, item + KW_BEGIN_PLAN, 32);
    memcpy(approval->actions, actions, sizeof approval->actions);
    approval->officers = module->officers;
    kw_put(answer, KW_OK, 2);
    answer[KW_BEGUN_NEEDED] = (uint8_t)needed(approval);
    answer[KW_BEGUN_ENROLLED] = (uint8_t)kw_officers_count(&approval->officers);
    memcpy(answer + KW_BEGUN_NONCE, approval->nonce, 32);
    return CKR_OK;
}

/* The lines that approvals and records have in common. */
static int head(const struct kw_module *module, const char *what, char *text, size_t size)
{
    const struct kw_approval *approval = &module->approval;
    char plan[65], actions[65], nonce[65];
    kw_hex(approval->plan, 32, plan);
    kw_hex(approval->actions_digest, 32, actions);
    kw_hex(approval->nonce, 32, nonce);
    int length = snprintf(text, size, "keywatt %s 1\nmodule %s\nkind %u\nplan %s\nactions %s\nnonce %s\n", what,
                          module->config.module_id, (unsigned)approval->kind, plan, actions, nonce);
    return length > 0 && (size_t)length < size ? length : -1;
}

static uint64_t utc_minutes(const struct kw_module *module)
{
    return (uint64_t)(kw_clock_minutes(&module->config) - module->config.utc_offset_minutes);
}

static CK_RV judge(const struct kw_module *module, const uint8_t *item, int place, enum kw_reason *reason)
{
    const uint8_t *officer = kw_officer(&module->approval.officers, place);
    uint64_t now = utc_minutes(module);
    struct kw_ssh_signature signature = {officer + KW_OFFICER_KEY, officer + KW_OFFICER_APPLICATION,
                                         item[KW_APPROVE_FLAGS], item + KW_APPROVE_COUNTER,
                                         item + KW_APPROVE_SIGNATURE};
    char text[TEXT_MAX];
    bool genuine = false;
    int length = head(module, "approval", text, sizeof text);
    if (length < 0)
        return CKR_GENERAL_ERROR;
    CK_RV rv = kw_ssh_verify(&module->inner, &signature, NAMESPACE, (const uint8_t *)text, (size_t)length, &genuine);
    if (rv != CKR_OK)
        return rv;
    *reason = !genuine ? KW_R_SIGNATURE_WRONG
              : now < kw_get(officer + KW_OFFICER_FROM, 8) || now >= kw_get(officer + KW_OFFICER_UNTIL, 8)
                  ? KW_R_OFFICER_NOT_VALID
                  : KW_OK;
    return CKR_OK;
}

CK_RV kw_approve(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_approval *approval = &module->approval;
    enum kw_reason reason = KW_OK;
    CK_RV rv = CKR_OK;
    int place = kw_officers_find(&approval->officers, item);
    if (!kw_all_zero(item + KW_APPROVE_ZERO, 3))
        reason = KW_R_REQUEST_MALFORMED;
    else if (!approval->begun)
        reason = KW_R_CEREMONY_NOT_BEGUN;
    else if (!approval->officers.present)
        reason = KW_R_OFFICERS_MISSING;
    else if (place < 0)
        reason = KW_R_OFFICER_UNKNOWN;
    else if (approval->approved_by[place])
        reason = KW_R_OFFICER_REPEATED;
    else
        rv = judge(module, item, place, &reason);
    if (rv != CKR_OK)
        return rv;
    if (reason == KW_OK)
        approval->approved_by[place] = true;
    kw_put(answer, reason, 2);
    answer[KW_APPROVED_COUNT] = (uint8_t)kw_approval_count(approval);
    answer[KW_APPROVED_NEEDED] = (uint8_t)needed(approval);
    return CKR_OK;
}

CK_RV kw_officers_operation(struct kw_module *module, uint8_t *answer)
{
    kw_put(answer, module->officers.present ? KW_OK : KW_R_OFFICERS_MISSING, 2);
    memcpy(answer + 8, module->officers.block, KW_OFFICERS_LEN);
    return CKR_OK;
}

/* On a token without officers, those whom the approved action will enrol are the ones who must approve it. */
static CK_RV propose(struct kw_module *module, const uint8_t *item, enum kw_reason *reason)
{
    struct kw_approval *approval = &module->approval;
    uint8_t digest[32];
    CK_RV rv = digest_action(module, KW_OP_SET_OFFICERS, item, KW_OFFICERS_LEN, digest);
    if (rv != CKR_OK)
        return rv;
    *reason = KW_R_ACTION_NOT_APPROVED;
    for (unsigned i = 0; i < approval->action_count; i++)
        if (memcmp(approval->actions[i], digest, 32) == 0)
            *reason = KW_OK;
    if (*reason == KW_OK) {
        approval->officers.present = true;
        memcpy(approval->officers.block, item, KW_OFFICERS_LEN);
    }
    return CKR_OK;
}

CK_RV kw_set_officers(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_approval *approval = &module->approval;
    enum kw_reason reason = KW_OK;
    int place = -1;
    CK_RV rv = CKR_OK;
    if (!kw_officers_valid(item) || !kw_officers_enough(item, utc_minutes(module)))
        reason = KW_R_OFFICERS_INVALID;
    else if (!approval->begun)
        reason = KW_R_CEREMONY_NOT_BEGUN;
    else if (!module->officers.present && !approval->officers.present)
        rv = propose(module, item, &reason);
    else {
        rv = kw_approval_of_action(module, KW_OP_SET_OFFICERS, item, KW_OFFICERS_LEN, &place, &reason);
        if (rv == CKR_OK && reason == KW_OK)
            rv = kw_officers_write(&module->officers, &module->inner, item);
        if (rv == CKR_OK && reason == KW_OK)
            kw_approval_done(module, place);
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}

CK_RV kw_sign_record(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_approval *approval = &module->approval;
    char text[RECORD_TEXT_MAX], hex[65], name[KW_OFFICER_NAME_LEN + 1] = {0};
    unsigned done = 0;
    enum kw_reason reason = KW_OK;
    if (!approval->begun)
        reason = KW_R_CEREMONY_NOT_BEGUN;
    else if (!module->audit.present)
        reason = KW_R_AUDIT_KEY_MISSING;
    kw_put(answer + KW_SIGNED_REASON, reason, 2);
    if (reason != KW_OK)
        return CKR_OK;
    int length = head(module, "record", text, sizeof text);
    if (length < 0)
        return CKR_GENERAL_ERROR;
    size_t used = (size_t)length;
    for (unsigned i = 0; i < approval->action_count; i++)
        done += approval->done[i];
    used += (size_t)snprintf(text + used, sizeof text - used, "done %u of %u\napprovals %u of %u\n", done,
                             approval->action_count, kw_approval_count(approval), needed(approval));
    for (int i = 0; i < KW_OFFICERS_MAX && used < sizeof text; i++) {
        if (!approval->approved_by[i])
            continue;
        kw_hex(kw_officer(&approval->officers, i) + KW_OFFICER_KEY, 32, hex);
        memcpy(name, kw_officer(&approval->officers, i), KW_OFFICER_NAME_LEN);
        used += (size_t)snprintf(text + used, sizeof text - used, "officer %s %s\n", hex, name);
    }
    kw_hex(item, 32, hex);
    if (used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "record %s\n", hex);
    if (used >= sizeof text)
        return CKR_GENERAL_ERROR;
    CK_RV rv = kw_audit_sign(module, (const uint8_t *)text, used, answer + KW_SIGNED_SIGNATURE);
    /* A ceremony has one record, and ends with it. */
    explicit_bzero(approval, sizeof *approval);
    return rv;
}
