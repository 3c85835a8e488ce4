/*
 * What the officers allow this module: until when it issues (the lease), and by which policy. Ceremonies write it into
 * the token; between them a lease that officers have signed is presented by the module process at each login.
 */
#ifndef KW_MANDATE_H
#define KW_MANDATE_H

#include "inner.h"

#define KW_MANDATE_LABEL "keywatt-mandate/1"

struct kw_lease {
    uint64_t number; /* 0: there is none */
    uint64_t from, until;
};

struct kw_mandate {
    struct kw_lease kept;  /* in the token */
    struct kw_lease lease; /* in force: the kept one, or a later one that was presented */
    uint64_t policy_number;
    uint8_t policy_digest[32];
    /* Seconds since 1970 UTC at a moment of the machine's uptime: time goes on from there, however the clock is set. */
    int64_t anchor_utc, anchor_boot;
};

/* Read the object, at login; a token without one is no error, one with two is. */
CK_RV kw_mandate_read(struct kw_mandate *mandate, const struct kw_inner *inner);

#endif
