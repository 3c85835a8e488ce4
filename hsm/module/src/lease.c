/* The lease to vend: presented with the signatures of officers, and judged before every token. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "civil_time.h"
#include "module.h"
#include "octets.h"
#include "operations.h"
#include "signatures.h"

#define NAMESPACE "lease@keywatt.dev"
#define TEXT_MAX 512
/* How far the clock may be behind the time that leases are judged by, before nothing is issued at all. */
#define BACKWARD_MINUTES 10

static int64_t seconds_of(clockid_t clock)
{
    struct timespec now;
    return clock_gettime(clock, &now) == 0 ? (int64_t)now.tv_sec : 0;
}

/* Time since the machine started goes on by itself: setting the clock back, again and again, gains nothing. */
static int64_t lease_seconds(struct kw_mandate *mandate)
{
    int64_t wall = seconds_of(CLOCK_REALTIME), boot = seconds_of(CLOCK_BOOTTIME);
    int64_t elapsed = boot > mandate->anchor_boot ? boot - mandate->anchor_boot : 0;
    if (mandate->anchor_utc == 0 || wall >= mandate->anchor_utc + elapsed) {
        mandate->anchor_utc = wall;
        mandate->anchor_boot = boot;
        return wall;
    }
    return mandate->anchor_utc + elapsed;
}

uint64_t kw_lease_minute(struct kw_module *module)
{
    return (uint64_t)(lease_seconds(&module->mandate) / 60);
}

bool kw_lease_is_early(const struct kw_lease *lease)
{
    return (uint64_t)(seconds_of(CLOCK_REALTIME) / 60) + BACKWARD_MINUTES < lease->from;
}

static int text_of(const struct kw_module *module, const struct kw_lease *lease, char *text, size_t size)
{
    char from[KW_CIVIL_LEN + 1] = {0}, until[KW_CIVIL_LEN + 1] = {0};
    kw_civil_format(from, (int64_t)lease->from);
    kw_civil_format(until, (int64_t)lease->until);
    int length = snprintf(text, size, "keywatt lease 1\nmodule %s\nnumber %llu\nfrom %s\nuntil %s\n",
                          module->config.module_id, (unsigned long long)lease->number, from, until);
    return length > 0 && (size_t)length < size ? length : -1;
}

/* Whether this is the signature of an officer within the term; `place` is the officer's. */
static CK_RV judge(struct kw_module *module, const uint8_t *item, const char *text, size_t length, uint64_t now,
                   int *place)
{
    bool genuine = false;
    *place = kw_officers_find(&module->officers, item);
    if (*place < 0)
        return CKR_OK;
    const uint8_t *officer = kw_officer(&module->officers, *place);
    struct kw_ssh_signature signature = {officer + KW_OFFICER_KEY, officer + KW_OFFICER_APPLICATION,
                                         item[KW_APPROVE_FLAGS], item + KW_APPROVE_COUNTER,
                                         item + KW_APPROVE_SIGNATURE};
    CK_RV rv = kw_ssh_verify(&module->inner, &signature, NAMESPACE, (const uint8_t *)text, length, &genuine);
    bool in_term = now >= kw_get(officer + KW_OFFICER_FROM, 8) && now < kw_get(officer + KW_OFFICER_UNTIL, 8);
    if (!genuine || !in_term)
        *place = -1;
    return rv;
}

static CK_RV count_signers(struct kw_module *module, const struct kw_lease *lease, const uint8_t *item,
                           unsigned *signers)
{
    bool signed_by[KW_OFFICERS_MAX] = {false};
    uint64_t latest = kw_get(item + KW_PRESENT_LATEST, 8), now = kw_lease_minute(module);
    char text[TEXT_MAX];
    int length = text_of(module, lease, text, sizeof text), place;
    *signers = 0;
    if (length < 0)
        return CKR_GENERAL_ERROR;
    for (unsigned i = 0; i < item[KW_PRESENT_COUNT]; i++) {
        const uint8_t *one = item + KW_PRESENT_SIGNATURES + i * (size_t)KW_APPROVE_ITEM_LEN;
        CK_RV rv = judge(module, one, text, (size_t)length, latest > now ? latest : now, &place);
        if (rv != CKR_OK)
            return rv;
        if (place < 0 || signed_by[place])
            continue;
        signed_by[place] = true;
        ++*signers;
    }
    return CKR_OK;
}

static bool well_formed(const uint8_t *item)
{
    unsigned count = item[KW_PRESENT_COUNT];
    const uint8_t *signatures = item + KW_PRESENT_SIGNATURES;
    if (count > KW_OFFICERS_MAX || item[KW_PRESENT_ANEW] > 1 || !kw_all_zero(item + KW_PRESENT_ZERO, 6))
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!kw_all_zero(signatures + i * (size_t)KW_APPROVE_ITEM_LEN + KW_APPROVE_ZERO, 3))
            return false;
    return kw_all_zero(signatures + count * (size_t)KW_APPROVE_ITEM_LEN,
                       (KW_OFFICERS_MAX - count) * (size_t)KW_APPROVE_ITEM_LEN);
}

CK_RV kw_present_lease(struct kw_module *module, const uint8_t *item, uint8_t *answer)
{
    struct kw_mandate *mandate = &module->mandate;
    struct kw_lease lease = {kw_get(item + KW_LEASE_NUMBER, 8), kw_get(item + KW_LEASE_FROM, 8),
                             kw_get(item + KW_LEASE_UNTIL, 8)};
    uint64_t latest = kw_get(item + KW_PRESENT_LATEST, 8);
    unsigned signers = 0;
    CK_RV rv = CKR_OK;
    enum kw_reason reason = !well_formed(item) || latest >= (uint64_t)KW_CIVIL_LIMIT ? KW_R_REQUEST_MALFORMED
                                                                                     : kw_lease_follows(module, &lease);
    if (reason == KW_OK && !module->officers.present)
        reason = KW_R_OFFICERS_MISSING;
    if (reason == KW_OK)
        rv = count_signers(module, &lease, item, &signers);
    if (rv == CKR_OK && reason == KW_OK && signers < kw_officers_needed(&module->officers, KW_CEREMONY_LEASE))
        reason = KW_R_LEASE_NOT_SIGNED;
    if (rv == CKR_OK && reason == KW_OK) {
        /* Officers sign when a lease begins: a new one says anew what time it is, after a clock that ran ahead. */
        bool anew = item[KW_PRESENT_ANEW];
        if (anew || latest > kw_lease_minute(module)) {
            mandate->anchor_utc = anew ? 0 : (int64_t)latest * 60;
            mandate->anchor_boot = seconds_of(CLOCK_BOOTTIME);
        }
        mandate->lease = lease;
    }
    kw_put(answer + KW_CHECKED_REASON, reason, 2);
    return rv;
}

/* In production always; in development once there is one, so that tests and demonstrations stay simple. */
bool kw_lease_required(const struct kw_module *module)
{
    return module->config.profile == KW_PROFILE_PRODUCTION || module->mandate.lease.number != 0;
}

enum kw_reason kw_lease_check(struct kw_module *module)
{
    struct kw_mandate *mandate = &module->mandate;
    uint64_t wall, now;
    if (!kw_lease_required(module))
        return KW_OK;
    if (mandate->lease.number == 0)
        return KW_R_LEASE_MISSING;
    now = kw_lease_minute(module);
    wall = (uint64_t)(seconds_of(CLOCK_REALTIME) / 60);
    if (now >= mandate->lease.until)
        return KW_R_LEASE_OVER;
    return wall + BACKWARD_MINUTES < now || kw_lease_is_early(&mandate->lease) ? KW_R_LEASE_CLOCK : KW_OK;
}
