/*
 * The key that signs the log's checkpoints: Ed25519, made inside the library, never out of it. It signs nothing but
 * what is composed here from typed fields, so that nobody can have a note of their own wording signed.
 */
#ifndef KW_AUDIT_KEY_H
#define KW_AUDIT_KEY_H

#include "inner.h"

#define KW_AUDIT_KEY_LABEL "keywatt-audit/1"

struct kw_audit {
    bool present;
    CK_OBJECT_HANDLE private_key;
    uint8_t public_key[KW_AUDIT_PUBLIC_LEN];
    bool has_signed; /* in this login */
    uint64_t last_size;
    uint8_t last_root[32];
};

/* Find the key pair of the token, at login; a token without one is no error, one with half of it or two is. */
CK_RV kw_audit_read(struct kw_audit *audit, const struct kw_inner *inner);

/* Make the key pair. */
CK_RV kw_audit_generate(struct kw_audit *audit, const struct kw_inner *inner);

#endif
