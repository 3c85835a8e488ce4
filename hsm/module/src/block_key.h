/* The key block protection key (X9.143): AES-256, from components, one a token. */
#ifndef KW_BLOCK_KEY_H
#define KW_BLOCK_KEY_H

#include "inner.h"

#define KW_BLOCK_KEY_LABEL "keywatt-block-key/1"

struct kw_block_key {
    bool present;
    CK_OBJECT_HANDLE key;
};

CK_RV kw_block_key_read(struct kw_block_key *block_key, const struct kw_inner *inner);

#endif
