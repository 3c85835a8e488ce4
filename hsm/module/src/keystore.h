/* The vending keys of the token, read at login: each with its record, each proved with the key itself. */
#ifndef KW_KEYSTORE_H
#define KW_KEYSTORE_H

#include "config.h"
#include "inner.h"
#include "retired.h"
#include "record.h"
#include "sta.h"

#define KW_KEYS_MAX 4096

struct kw_key {
    CK_OBJECT_HANDLE inner;
    struct kw_record record;
    bool retired; /* issues nothing any more, and no meter is changed to it */
};

struct kw_keystore {
    struct kw_key keys[KW_KEYS_MAX];
    bool doubtful[KW_KEYS_MAX];
    uint32_t count;
    uint32_t refused; /* objects that bear a record but fail their proof, a check or the profile */
    struct kw_sta_tables tables;
    uint8_t tables_digest[32];
    char tables_name[KW_TABLES_NAME_LEN + 1];
    bool sample_tables;
    struct kw_retired retired;
};

/* Read every key and the STA tables of the token. */
CK_RV kw_keystore_read(struct kw_keystore *store, const struct kw_inner *inner, const struct kw_config *config);

/* Find by supply group and revision; NULL if there is none. */
const struct kw_key *kw_keystore_find(const struct kw_keystore *store, const uint8_t sgc[6], uint8_t krn);

/* What proves a record: eight octets made with the key from the record's text. */
CK_RV kw_keystore_proof(const struct kw_inner *inner, CK_OBJECT_HANDLE key, const struct kw_record *record,
                        uint8_t proof[KW_PROOF_LEN]);

/* Whether a key of this origin may be used in this profile and mode. */
enum kw_reason kw_keystore_origin_allowed(enum kw_origin origin, const struct kw_config *config);

/* The label of the STA tables' data object begins with this; the name of the set follows. */
#define KW_TABLES_PREFIX "keywatt-sta-tables/1 "

/* Find the STA tables' data objects; at most `limit` handles. */
CK_RV kw_keystore_find_tables(const struct kw_inner *inner, CK_OBJECT_HANDLE *objects, CK_ULONG limit, CK_ULONG *count);

#endif
