/*
 * The inner PKCS#11 library, reached through sessions of our own: nothing that a caller leaves dangling in one of its
 * sessions can disturb them, and nothing here hands a caller an inner handle.
 */
#ifndef KW_INNER_H
#define KW_INNER_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "cryptoki.h"

struct kw_inner {
    void *handle;
    CK_FUNCTION_LIST_PTR functions;
    CK_SLOT_ID slot;
    bool has_slot;
    CK_TOKEN_INFO token; /* as it was when found: SoftHSM cannot tell it again from a read-only store after a login */
    CK_SESSION_HANDLE session; /* 0 while none is open */
    CK_OBJECT_HANDLE wrap_key; /* session key for DKGA02, made at login, known to nobody */
};

/* Load and initialise with operating-system locking, whatever our caller asked for. */
CK_RV kw_inner_open(struct kw_inner *inner, const char *library);
void kw_inner_close(struct kw_inner *inner);

/* Find the token by its label; with `or_blank`, else the first slot whose token is not initialised. */
CK_RV kw_inner_find_slot(struct kw_inner *inner, const char label[33], bool or_blank);

/* Open our session and log in; on any failure nothing stays open. */
CK_RV kw_inner_login(struct kw_inner *inner, bool read_write, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length);
void kw_inner_logout(struct kw_inner *inner);

/* HMAC-SHA-256 under a key of the token; 32 octets. */
CK_RV kw_inner_hmac(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t *data, CK_ULONG length,
                    uint8_t digest[32]);

/* One block of DES under a double-length key K||K of the token. */
CK_RV kw_inner_des(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t block[8], uint8_t result[8]);

/* K xor mask for a double-length key K||K of the token, without K ever leaving the library by itself. */
CK_RV kw_inner_xor_key(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t mask[8], uint8_t result[8]);

CK_RV kw_inner_sha256(const struct kw_inner *inner, const uint8_t *data, CK_ULONG length, uint8_t digest[32]);

/* Create a vending key: DKGA04 from 20 octets, DKGA02 from 8. With a label it is a token object, without a session one.
 */
CK_RV kw_inner_create_key(const struct kw_inner *inner, uint8_t dkga, const uint8_t *octets, const char *label,
                          CK_ULONG label_length, CK_OBJECT_HANDLE *key);

/*
 * Create an AES-256 key for one mechanism: CKM_AES_CMAC to sign, CKM_AES_CBC or CKM_AES_ECB to decrypt. With a label it
 * is a token object, without a session one.
 */
CK_RV kw_inner_aes_key(const struct kw_inner *inner, const uint8_t octets[32], CK_MECHANISM_TYPE allowed,
                       const char *label, CK_OBJECT_HANDLE *key);

CK_RV kw_inner_cmac(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t *data, CK_ULONG length,
                    uint8_t mac[16]);

/* Whole blocks of AES-CBC, or without an IV of AES-ECB. */
CK_RV kw_inner_aes_decrypt(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t *iv, const uint8_t *data,
                           CK_ULONG length, uint8_t *clear);

/* The ECDH secret of a private key on P-384 and an uncompressed point; `good` is false for a point off the curve. */
#define KW_SHARED_LEN 48
CK_RV kw_inner_ecdh(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const uint8_t point[KW_POINT_LEN],
                    uint8_t shared[KW_SHARED_LEN], bool *good);

#endif
