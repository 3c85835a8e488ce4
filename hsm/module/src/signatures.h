/* Signatures of officers, as ssh-keygen -Y sign makes them (PROTOCOL.sshsig), with plain or FIDO2 Ed25519 keys. */
#ifndef KW_SIGNATURES_H
#define KW_SIGNATURES_H

#include "inner.h"

struct kw_ssh_signature {
    const uint8_t *key;         /* 32 */
    const uint8_t *application; /* 32: its SHA-256 for a FIDO2 key, zeros for a plain one */
    uint8_t flags;              /* of a FIDO2 signature */
    const uint8_t *counter;     /* 4 */
    const uint8_t *signature;   /* 64 */
};

/* Verify over a message of at most 1,024 octets; a fault of the library is no verdict. */
CK_RV kw_ssh_verify(const struct kw_inner *inner, const struct kw_ssh_signature *signature, const char *namespace,
                    const uint8_t *message, size_t length, bool *genuine);

#endif
