/* The key management centres whose key files this token takes; replaced as a whole, by those who change officers. */
#ifndef KW_CENTRES_H
#define KW_CENTRES_H

#include "inner.h"

#define KW_CENTRES_LABEL "keywatt-centres/1"

struct kw_centres {
    bool present;
    uint8_t block[KW_CENTRES_LEN];
};

CK_RV kw_centres_read(struct kw_centres *centres, const struct kw_inner *inner);

/* Whether a centre has this key. */
bool kw_centres_have(const struct kw_centres *centres, const uint8_t key[32]);

#endif
