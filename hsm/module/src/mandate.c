#include "mandate.h"

#include <string.h>

#include "civil_time.h"
#include "data_object.h"
#include "module.h"
#include "octets.h"
#include "operations.h"

static struct kw_lease lease_of(const uint8_t *octets)
{
    struct kw_lease lease = {kw_get(octets + KW_LEASE_NUMBER, 8), kw_get(octets + KW_LEASE_FROM, 8),
                             kw_get(octets + KW_LEASE_UNTIL, 8)};
    return lease;
}

static void put_lease(const struct kw_lease *lease, uint8_t *octets)
{
    kw_put(octets + KW_LEASE_NUMBER, lease->number, 8);
    kw_put(octets + KW_LEASE_FROM, lease->from, 8);
    kw_put(octets + KW_LEASE_UNTIL, lease->until, 8);
}

static void put_policy(const struct kw_mandate *mandate, uint8_t *octets)
{
    kw_put(octets, mandate->policy_number, 8);
    memcpy(octets + 8, mandate->policy_digest, 32);
}

static bool is_same(const struct kw_lease *one, const struct kw_lease *other)
{
    return one->number == other->number && one->from == other->from && one->until == other->until;
}

static bool lease_valid(const struct kw_lease *lease)
{
    return lease->number > 0 && lease->number <= UINT32_MAX && lease->from <= lease->until &&
           lease->until < (uint64_t)KW_CIVIL_LIMIT && lease->until - lease->from <= KW_LEASE_MAX;
}

CK_RV kw_mandate_read(struct kw_mandate *mandate, const struct kw_inner *inner)
{
    uint8_t block[KW_MANDATE_LEN];
    CK_ULONG length;
    int64_t utc = mandate->anchor_utc, boot = mandate->anchor_boot; /* another login does not make it earlier */
    memset(mandate, 0, sizeof *mandate);
    mandate->anchor_utc = utc;
    mandate->anchor_boot = boot;
    CK_RV rv = kw_data_read(inner, KW_MANDATE_LABEL, block, sizeof block, &length);
    if (rv != CKR_OK || length == 0)
        return rv;
    if (length != sizeof block)
        return CKR_DEVICE_ERROR;
    mandate->kept = lease_of(block);
    if (mandate->kept.number != 0 && !lease_valid(&mandate->kept))
        return CKR_DEVICE_ERROR;
    mandate->lease = mandate->kept;
    mandate->policy_number = kw_get(block + KW_LEASE_LEN, 8);
    memcpy(mandate->policy_digest, block + KW_LEASE_LEN + 8, 32);
    return CKR_OK;
}

/* Nothing but a kept lease and the policy is written: what was presented stays with whoever presents it. */
static CK_RV keep(const struct kw_mandate *mandate, const struct kw_inner *inner)
{
    uint8_t block[KW_MANDATE_LEN];
    put_lease(&mandate->kept, block);
    put_policy(mandate, block + KW_LEASE_LEN);
    return kw_data_replace(inner, KW_MANDATE_LABEL, block, sizeof block);
}

enum kw_reason kw_lease_follows(struct kw_module *module, const struct kw_lease *lease)
{
    const struct kw_lease *before = &module->mandate.lease;
    if (!lease_valid(lease))
        return KW_R_LEASE_INVALID;
    /* The very lease that is in force may be presented again: every login begins without it. */
    if (lease->number < before->number || (lease->number == before->number && !is_same(lease, before)))
        return KW_R_LEASE_OUTDATED;
    /* One that begins later would take the place of the one in force, and allow nothing yet. */
    return lease->number != before->number && kw_lease_is_early(lease) ? KW_R_LEASE_CLOCK : KW_OK;
}

/* Put a mandate in place of the one before, if officers have approved the action that does it. */
static CK_RV adopt(struct kw_module *module, const struct kw_mandate *changed, enum kw_operation operation,
                   const uint8_t *item, size_t length, enum kw_reason reason, uint8_t *answer)
{
    int place = -1;
    CK_RV rv = CKR_OK;
    if (reason == KW_OK)
        rv = kw_approval_of_action(module, operation, item, length, &place, &reason);
    if (rv == CKR_OK && reason == KW_OK)
        rv = keep(changed, &module->inner);
    if (rv == CKR_OK && reason == KW_OK) {
        module->mandate = *changed;
        kw_approval_done(module, place);
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}

CK_RV kw_set_lease(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_mandate changed = module->mandate;
    changed.kept = changed.lease = lease_of(item);
    enum kw_reason reason = kw_all_zero(item + KW_LEASE_LEN, KW_SET_LEASE_ITEM_LEN - KW_LEASE_LEN)
                                ? kw_lease_follows(module, &changed.kept)
                                : KW_R_REQUEST_MALFORMED;
    return adopt(module, &changed, KW_OP_SET_LEASE, item, KW_SET_LEASE_ITEM_LEN, reason, answer);
}

CK_RV kw_set_policy(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_mandate changed = module->mandate;
    changed.policy_number = kw_get(item, 8);
    memcpy(changed.policy_digest, item + 8, 32);
    enum kw_reason reason = KW_OK;
    if (changed.policy_number == 0 || !kw_all_zero(item + KW_POLICY_LEN, KW_SET_POLICY_ITEM_LEN - KW_POLICY_LEN))
        reason = KW_R_REQUEST_MALFORMED;
    else if (changed.policy_number <= module->mandate.policy_number)
        reason = KW_R_POLICY_OUTDATED;
    return adopt(module, &changed, KW_OP_SET_POLICY, item, KW_SET_POLICY_ITEM_LEN, reason, answer);
}

CK_RV kw_mandate(struct kw_module *module, uint8_t *answer)
{
    kw_put(answer, KW_OK, 2);
    answer[2] = kw_lease_required(module);
    put_lease(&module->mandate.lease, answer + 8);
    put_policy(&module->mandate, answer + 8 + KW_LEASE_LEN);
    kw_put(answer + 8 + KW_MANDATE_LEN, kw_lease_minute(module), 8);
    return CKR_OK;
}
