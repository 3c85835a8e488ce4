/*
 * One ceremony at a time: what is to be done, who has approved it, what of it is done. The module itself counts the
 * officers; the key loader can neither approve nor do anything that they have not seen.
 */
#ifndef KW_APPROVAL_H
#define KW_APPROVAL_H

#include "components.h"
#include "officers.h"

struct kw_approval {
    bool begun;
    enum kw_ceremony_kind kind;
    uint8_t plan[32];
    uint8_t actions[KW_ACTIONS_MAX][32];
    bool done[KW_ACTIONS_MAX];
    unsigned action_count;
    uint8_t actions_digest[32];
    uint8_t nonce[32];
    /* Those who judge this ceremony: the enrolled ones, or, on a token that has none yet, those it is to enrol. */
    struct kw_officers officers;
    bool approved_by[KW_OFFICERS_MAX];
    struct kw_components components;
};

unsigned kw_approval_count(const struct kw_approval *approval);

#endif
