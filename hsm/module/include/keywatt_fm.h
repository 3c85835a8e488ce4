/*
 * Interface of the Keywatt functionality module: vendor mechanisms, reason codes and record layouts.
 *
 * Every request is one octet string given to C_Sign (mechanisms that use a vending key) or C_Digest (mechanisms that
 * use none); the answer is the signature or digest. Integers are big-endian. A request begins with a header of eight
 * octets: version (1), operation (1), count (2), zero (4); so does its answer. Items have fixed lengths, so that the
 * length of an answer is known before any work is done.
 */
#ifndef KEYWATT_FM_H
#define KEYWATT_FM_H

#include <stdint.h>

#define KW_INTERFACE_VERSION 1
#define KW_HEADER_LEN 8
#define KW_BATCH_MAX 1000

/* Vendor mechanisms: CKM_VENDOR_DEFINED | "KW" << 8 | operation. */
#define KW_MECHANISM_BASE 0x804B5700UL
enum kw_operation {
    KW_OP_ISSUE = 0x01,           /* C_Sign: class 0 and 2; C_Digest: class 1 */
    KW_OP_VERIFY = 0x02,          /* C_Sign: class 0 and 2; C_Digest: class 1 */
    KW_OP_KEY_CHANGE = 0x03,      /* C_Sign with the old key */
    KW_OP_CHECK_VALUE = 0x04,     /* C_Sign */
    KW_OP_STATUS = 0x05,          /* C_Digest */
    KW_OP_SELF_TEST = 0x06,       /* C_Digest */
    KW_OP_AUDIT_KEY = 0x07,       /* C_Digest */
    KW_OP_SIGN_CHECKPOINT = 0x08, /* C_Digest */
    KW_OP_INIT_TOKEN = 0x10,      /* C_Digest, ceremony */
    KW_OP_LOAD_KEY = 0x11,        /* C_Digest, ceremony */
    KW_OP_INSTALL_TABLES = 0x12,  /* C_Digest, ceremony */
    KW_OP_MAKE_AUDIT_KEY = 0x13,  /* C_Digest, ceremony */
    KW_OP_OFFICERS = 0x14,        /* C_Digest */
    KW_OP_SET_OFFICERS = 0x15,    /* C_Digest, ceremony */
    KW_OP_BEGIN_CEREMONY = 0x16,  /* C_Digest, ceremony */
    KW_OP_APPROVE = 0x17,         /* C_Digest, ceremony */
    KW_OP_COMPONENT = 0x18,       /* C_Digest, ceremony */
    KW_OP_DESTROY_KEY = 0x19,     /* C_Digest, ceremony */
    KW_OP_SIGN_RECORD = 0x1A,     /* C_Digest, ceremony */
    KW_OP_RETIRE_KEY = 0x1B,      /* C_Digest, ceremony */
    KW_OP_TRANSPORT_KEY = 0x1C,   /* C_Digest, ceremony */
    KW_OP_END_TRANSPORT = 0x1D,   /* C_Digest, ceremony */
    KW_OP_LOAD_WRAPPED = 0x1E,    /* C_Digest, ceremony */
    KW_OP_CENTRES = 0x1F,         /* C_Digest */
    KW_OP_SET_CENTRES = 0x20,     /* C_Digest, ceremony */
    KW_OP_SET_BLOCK_KEY = 0x21,   /* C_Digest, ceremony */
    KW_OP_LOAD_BLOCK = 0x22,      /* C_Digest, ceremony */
    KW_OP_SET_LEASE = 0x23,       /* C_Digest, ceremony */
    KW_OP_SET_POLICY = 0x24,      /* C_Digest, ceremony */
    KW_OP_MANDATE = 0x25,         /* C_Digest */
    KW_OP_PRESENT_LEASE = 0x26    /* C_Digest */
};
#define KW_MECHANISM(operation) (KW_MECHANISM_BASE | (unsigned long)(operation))

/* Issue item: 64 octets. */
#define KW_ISSUE_ITEM_LEN 64
#define KW_ISSUE_CLASS 0
#define KW_ISSUE_SUBCLASS 1
#define KW_ISSUE_EA 2
#define KW_ISSUE_FLAGS 3
#define KW_ISSUE_RND 4
#define KW_ISSUE_TCT 5
#define KW_ISSUE_TI 6     /* 2 ASCII digits */
#define KW_ISSUE_PAN 8    /* 18 ASCII digits */
#define KW_ISSUE_ZERO 26  /* 6 */
#define KW_ISSUE_TID 32   /* 4 */
#define KW_ISSUE_ZERO2 36 /* 4 */
#define KW_ISSUE_CLOCK 40 /* 8, minutes since 1970 in the system's zone; certification mode only, else 0 */
#define KW_ISSUE_VALUE 48 /* 16, signed */
#define KW_ISSUE_FLAG_RESERVED_TID 0x01
#define KW_ISSUE_FLAG_VALIDATE_ONLY 0x02 /* every rule, but no key is derived and the digits stay zero octets */

/* Issue answer: 48 octets. */
#define KW_ISSUED_ITEM_LEN 48
#define KW_ISSUED_REASON 0 /* 2 */
#define KW_ISSUED_CLASS 2
#define KW_ISSUED_SUBCLASS 3
#define KW_ISSUED_MARKS 4
#define KW_ISSUED_RND 5
#define KW_ISSUED_TID 8     /* 4 */
#define KW_ISSUED_DIGITS 12 /* 20 ASCII digits */
#define KW_ISSUED_VALUE 32  /* 16, signed: what is granted */

#define KW_MARK_CERTIFICATION 0x01
#define KW_MARK_TEST_KEY 0x02
#define KW_MARK_SAMPLE_TABLES 0x04

/* Verify item: 48 octets. */
#define KW_VERIFY_ITEM_LEN 48
#define KW_VERIFY_EA 0
#define KW_VERIFY_TCT 1
#define KW_VERIFY_ZERO 2    /* 2 */
#define KW_VERIFY_TI 4      /* 2 */
#define KW_VERIFY_PAN 6     /* 18 */
#define KW_VERIFY_DIGITS 24 /* 20 */
#define KW_VERIFY_ZERO2 44  /* 4 */

/* Verify answer: 32 octets. A key-change token shows its subclass and nothing else. */
#define KW_VERIFIED_ITEM_LEN 32
#define KW_VERIFIED_REASON 0 /* 2 */
#define KW_VERIFIED_CLASS 2
#define KW_VERIFIED_SUBCLASS 3
#define KW_VERIFIED_MARKS 4
#define KW_VERIFIED_RND 5
#define KW_VERIFIED_FLAGS 6
#define KW_VERIFIED_TID 8    /* 4 */
#define KW_VERIFIED_VALUE 16 /* 16, signed */
#define KW_VERIFIED_FLAG_KEY_CHANGE 0x01
#define KW_VERIFIED_FLAG_KEY_EXPIRED 0x02

/* Key-change item: 64 octets. */
#define KW_CHANGE_ITEM_LEN 64
#define KW_CHANGE_EA 0
#define KW_CHANGE_SET_SIZE 1
#define KW_CHANGE_TCT 2
#define KW_CHANGE_NEW_KRN 3
#define KW_CHANGE_OLD_TI 4   /* 2 */
#define KW_CHANGE_NEW_TI 6   /* 2 */
#define KW_CHANGE_PAN 8      /* 18 */
#define KW_CHANGE_NEW_SGC 26 /* 6 */
#define KW_CHANGE_CLOCK 32   /* 8 */
#define KW_CHANGE_FLAGS 40
#define KW_CHANGE_ZERO 41 /* 23 */
#define KW_CHANGE_FLAG_VALIDATE_ONLY 0x01

/* Key-change answer: 96 octets. */
#define KW_CHANGED_ITEM_LEN 96
#define KW_CHANGED_REASON 0 /* 2 */
#define KW_CHANGED_COUNT 2
#define KW_CHANGED_MARKS 3
#define KW_CHANGED_KEN 4
#define KW_CHANGED_KRN 5
#define KW_CHANGED_KT 6
#define KW_CHANGED_ROLLOVER 7
#define KW_CHANGED_DIGITS 8 /* 4 x 20 */

/* Check-value answer: 16 octets after the header; the request is a bare header. */
#define KW_CHECKED_ITEM_LEN 16
#define KW_CHECKED_REASON 0 /* 2 */
#define KW_CHECKED_ALGORITHM 2
#define KW_CHECKED_VALUE 3 /* 3 */
#define KW_CHECK_ALGORITHM_DES_ZEROS 1
#define KW_CHECK_ALGORITHM_SHA256_01 2
#define KW_CHECK_ALGORITHM_CMAC_ZEROS 3 /* AES-CMAC(key, 16 zero octets)[0..2], of AES keys */

/* Load-key item: 96 octets; the answer is a check-value answer. */
#define KW_LOAD_ITEM_LEN 96
#define KW_LOAD_SGC 0 /* 6 */
#define KW_LOAD_KRN 6
#define KW_LOAD_KT 7
#define KW_LOAD_DKGA 8
#define KW_LOAD_BDT 9
#define KW_LOAD_KEN 10
#define KW_LOAD_KEY_CHANGE 11
#define KW_LOAD_CLASS0 12 /* 2, one bit a subclass */
#define KW_LOAD_CLASS2 14 /* 2 */
#define KW_LOAD_ACT 16    /* 8, minutes since 1970, 0 for none */
#define KW_LOAD_IUT 24    /* 8 */
#define KW_LOAD_KEY_LEN 32
#define KW_LOAD_SOURCE 33
#define KW_LOAD_HAS_EXPECTED 34
#define KW_LOAD_EXPECTED 35   /* 3: the check value that the key must have, or zeros */
#define KW_LOAD_COMPONENTS 38 /* how many components; 0 from elsewhere */
#define KW_LOAD_ZERO 39
#define KW_LOAD_KEY 40            /* 20, the rest zero */
#define KW_LOAD_VALUES 60         /* 4: SHA-256(check values of the components, 3 octets each)[0..3], or zeros */
#define KW_LOAD_REFRESH 64        /* 8: until when it may be used unless it is loaded again, as ACT; 0 for ever */
#define KW_LOAD_UNIT_LIMIT 72     /* 8: ULM, least significant bits of a unit; 0 for none */
#define KW_LOAD_CURRENCY_LIMIT 80 /* 8: CLM, 1e-5 of the base currency; 0 for none */
#define KW_LOAD_ZERO2 88          /* 8 */

/* Where the key of a load-key item is. In production never in the item. */
enum kw_key_source {
    KW_SOURCE_ITEM = 0,
    KW_SOURCE_COMPONENTS = 1, /* the components that were entered, xored here */
    KW_SOURCE_GENERATE = 2,   /* drawn here */
    KW_SOURCE_WRAPPED = 3     /* wrapped by a centre; of KW_OP_LOAD_WRAPPED alone */
};

/*
 * Officers: who may approve what. Block of 1824 octets: count (1), zero (15), for each kind of ceremony how many must
 * approve (16; the place is the kind), then 16 officers of 112 octets, those beyond the count zero: name (32 printable
 * characters without blanks at the ends, zero padded), Ed25519 key (32), SHA-256 of the application of a FIDO2 key or
 * zeros (32), valid from and until (8 each, minutes since 1970 UTC). Answer of KW_OP_OFFICERS: reason (2), zero (6),
 * block. Item of KW_OP_SET_OFFICERS: block; its answer is a check-value answer.
 */
#define KW_OFFICERS_MAX 16
#define KW_OFFICER_LEN 112
#define KW_OFFICER_NAME_LEN 32
#define KW_OFFICER_KEY 32
#define KW_OFFICER_APPLICATION 64
#define KW_OFFICER_FROM 96
#define KW_OFFICER_UNTIL 104
#define KW_OFFICERS_THRESHOLDS 16
#define KW_OFFICERS_LIST 32
#define KW_OFFICERS_LEN (KW_OFFICERS_LIST + KW_OFFICERS_MAX * KW_OFFICER_LEN)
#define KW_OFFICERS_ANSWER_LEN (8 + KW_OFFICERS_LEN)

enum kw_ceremony_kind {
    KW_CEREMONY_INITIALISE = 1,
    KW_CEREMONY_OFFICERS = 2,
    KW_CEREMONY_LOAD_KEY = 3,
    KW_CEREMONY_GENERATE_KEY = 4,
    KW_CEREMONY_KEY_FILE = 5,
    KW_CEREMONY_TABLES = 6,
    KW_CEREMONY_BACKUP = 7,
    KW_CEREMONY_RESTORE = 8,
    KW_CEREMONY_DESTROY_KEY = 9,
    KW_CEREMONY_HAND_OVER = 10,
    KW_CEREMONY_LEASE = 11,
    KW_CEREMONY_POLICY = 12,
    KW_CEREMONY_RETIRE_KEY = 13
};
#define KW_CEREMONY_KINDS 13
/* A kind above this came later: where an enrolment names no number for it, it needs as many as any other kind. */
#define KW_CEREMONY_KINDS_FIRST 12

/*
 * Begin-ceremony item: kind (1), number of actions (1), zero (6), SHA-256 of the plan (32), then 32 actions of 32
 * octets, those beyond the number zero. An action is SHA-256 of an operation's code (1) and its item, with the key of
 * a load-key item zeroed: nothing else can be done in this ceremony, and each action once. Answer: reason (2), needed
 * approvals (1), enrolled officers (1), zero (4), nonce (32).
 */
#define KW_ACTIONS_MAX 32
#define KW_BEGIN_KIND 0
#define KW_BEGIN_COUNT 1
#define KW_BEGIN_PLAN 8
#define KW_BEGIN_ACTIONS 40
#define KW_BEGIN_ITEM_LEN (KW_BEGIN_ACTIONS + KW_ACTIONS_MAX * 32)
#define KW_BEGUN_ITEM_LEN 40
#define KW_BEGUN_NEEDED 2
#define KW_BEGUN_ENROLLED 3
#define KW_BEGUN_NONCE 8

/*
 * Approve item: the officer's key (32), flags (1) and counter (4) of a FIDO2 signature or zeros, zero (3), Ed25519
 * signature (64), as ssh-keygen -Y sign makes it with namespace "approval@keywatt.dev" and SHA-512 over the lines
 *
 *     keywatt approval 1 / module ID / kind N / plan HEX / actions HEX / nonce HEX
 *
 * each ended by LF, actions being SHA-256 over the actions. Answer: reason (2), approvals (1), needed (1), zero (12).
 */
#define KW_APPROVE_ITEM_LEN 104
#define KW_APPROVE_FLAGS 32
#define KW_APPROVE_COUNTER 33
#define KW_APPROVE_ZERO 37 /* 3 */
#define KW_APPROVE_SIGNATURE 40
#define KW_APPROVED_COUNT 2
#define KW_APPROVED_NEEDED 3

/*
 * Component item: number (1, from 1), of how many (1), offset (1), length of this part (1), length of the key (1: 8,
 * 20, or 32 for a key block protection key), zero (3), key of the officer who enters it (32), part (20, the rest zero),
 * zero (4). Parts follow each other from offset 0; offset 0 begins the component anew. Answer: check-value answer; the
 * value when the component is whole.
 */
#define KW_COMPONENT_ITEM_LEN 64
#define KW_COMPONENT_TOTAL 1
#define KW_COMPONENT_OFFSET 2
#define KW_COMPONENT_PART 3
#define KW_COMPONENT_KEY_LEN 4
#define KW_COMPONENT_ZERO 5 /* 3 */
#define KW_COMPONENT_OFFICER 8
#define KW_COMPONENT_OCTETS 40
#define KW_COMPONENT_ZERO2 60 /* 4 */
#define KW_COMPONENTS_MAX 8
#define KW_COMPONENT_MAX 32 /* octets of the longest */

/* Destroy-key and retire-key item: SGC (6), KRN (1), zero (1). */
#define KW_DESTROY_ITEM_LEN 8

/*
 * Transport key: an ECDH key pair (P-384) for one delivery of keys, made here; a second one takes the place of the
 * first. The request is a bare header. Answer: reason (2), zero (6), public point (97, uncompressed), zero (7),
 * signature (64) of the audit key over the lines
 *
 *     keywatt transport 1 / module ID / serial SERIAL / profile N / point HEX
 *
 * KW_OP_END_TRANSPORT destroys it (bare header, check-value answer): what was wrapped for it never opens again.
 */
#define KW_POINT_LEN 97
#define KW_TRANSPORT_LEN 176
#define KW_TRANSPORT_POINT 8
#define KW_TRANSPORT_SIGNATURE 112

/*
 * Load-wrapped item: load-key item (96; source WRAPPED, key zero, expected check value present), the centre's ephemeral
 * point (97), length of the wrapped key (1: 16 or 32), wrapped key (40, the rest zero), key of the centre (32), its
 * Ed25519 signature (64), zero (6). Answer: check-value answer.
 *
 * The wrapped key is AES-256 key wrap with padding (RFC 5649) under SHA-256(00000001 || Z || "keywatt-key-load/1" ||
 * SHA-256(load-key item) || ephemeral point || transport point), Z being the ECDH secret (SP 800-56A, one-step KDF of
 * SP 800-56C). The centre signs as ssh-keygen -Y sign does, namespace "key-load@keywatt.dev", the lines
 *
 *     keywatt key-load 1 / module ID / serial SERIAL / transport HEX / load HEX / point HEX / wrapped HEX
 *
 * transport and point being SHA-256 of the points, load SHA-256 of the load-key item, wrapped the wrapped key.
 */
#define KW_WRAPPED_POINT 96
#define KW_WRAPPED_LEN 193
#define KW_WRAPPED_KEY 194 /* 40 */
#define KW_WRAPPED_CENTRE 234
#define KW_WRAPPED_SIGNATURE 266
#define KW_WRAPPED_ZERO 330 /* 6 */
#define KW_WRAPPED_ITEM_LEN 336
#define KW_WRAPPED_MAX 40

/*
 * Centres: key management centres whose key files are taken. Block of 520 octets: count (1), zero (7), then 8 centres
 * of name (32, as of officers) and Ed25519 key (32), those beyond the count zero. Answer of KW_OP_CENTRES: reason (2),
 * zero (6), block. Item of KW_OP_SET_CENTRES: block; its answer is a check-value answer.
 */
#define KW_CENTRES_MAX 8
#define KW_CENTRE_LEN 64
#define KW_CENTRES_LIST 8
#define KW_CENTRES_LEN (KW_CENTRES_LIST + KW_CENTRES_MAX * KW_CENTRE_LEN)
#define KW_CENTRES_ANSWER_LEN (8 + KW_CENTRES_LEN)

/*
 * Set-block-key item: number of components (1), length (1: 32), has expected (1), expected check value (3), SHA-256 of
 * the check values of the components [0..3] or zeros (4), zero (6). The key block protection key comes in components,
 * as a vending key does, and takes the place of the one before. Answer: check-value answer.
 */
#define KW_BLOCK_KEY_ITEM_LEN 16
#define KW_BLOCK_KEY_LEN 32

/*
 * Load-block item: a key block of ANSI X9.143 (TR-31), version D, in ASCII, zero padded. Key usage "41", algorithm H
 * (DKGA04) or D (DKGA02), mode of use X, key version "00", exportability N; optional block "41" holds the attributes,
 * the text of a key's record from "sgc=" to "kcv=" without origin. Answer: check-value answer.
 */
#define KW_BLOCK_ITEM_LEN 512

/*
 * Sign-record item: SHA-256 of the record (32). Answer: as of sign-checkpoint. Signed by the audit key are the lines
 *
 *     keywatt record 1 / module ID / kind N / plan HEX / actions HEX / nonce HEX / done N of M / approvals N of M
 *     / officer HEX NAME ... / record HEX
 *
 * and the ceremony ends with it.
 */
#define KW_RECORD_ITEM_LEN 32

/*
 * Mandate: what the officers allow this module, kept in the token by ceremonies. Block of 64 octets: lease (24), policy
 * (40), zeros where there is none. A lease is number (8, from 1), from and until (8 each, minutes since 1970 UTC; the
 * second is the first minute in which it is over), at most KW_LEASE_MAX minutes apart. A policy is number (8, from 1)
 * and the SHA-256 of its canonical form (32).
 *
 * Set-lease item: lease, zero (8). Set-policy item: policy, zero (8). Their answers are check-value answers. Answer of
 * KW_OP_MANDATE: reason (2), whether a lease is required (1), zero (5), lease in force (24), policy (40), the latest
 * minute known (8, since 1970 UTC).
 *
 * Present-lease item: lease, number of signatures (1), whether its time begins anew (1), zero (6), the latest minute
 * that the caller knows of (8, since 1970 UTC, or 0; officers' terms are judged by it), then 16 signatures as approve
 * items (104 each), those beyond the number zero. Signed with namespace "lease@keywatt.dev" are the lines
 *
 *     keywatt lease 1 / module ID / number N / from YYYY-MM-DDTHH:MM / until YYYY-MM-DDTHH:MM
 *
 * each ended by LF, times in UTC. It is in force until the next login or a lease with a greater number; signatures that
 * prove nothing do not count. Answer: check-value answer.
 */
#define KW_LEASE_LEN 24
#define KW_LEASE_NUMBER 0
#define KW_LEASE_FROM 8
#define KW_LEASE_UNTIL 16
#define KW_LEASE_MAX (92 * 24 * 60)
#define KW_POLICY_LEN 40
#define KW_MANDATE_LEN (KW_LEASE_LEN + KW_POLICY_LEN)
#define KW_SET_LEASE_ITEM_LEN 32
#define KW_SET_POLICY_ITEM_LEN 48
#define KW_MANDATE_ANSWER_LEN (8 + KW_MANDATE_LEN + 8)
#define KW_PRESENT_COUNT 24
#define KW_PRESENT_ANEW 25
#define KW_PRESENT_ZERO 26 /* 6 */
#define KW_PRESENT_LATEST 32
#define KW_PRESENT_SIGNATURES 40
#define KW_PRESENT_ITEM_LEN (KW_PRESENT_SIGNATURES + KW_OFFICERS_MAX * KW_APPROVE_ITEM_LEN)

/* Install-tables item: name (32, zero padded), T1 (16), T2 (16), P (64); the answer is reason (2) and zeros, 16. */
#define KW_TABLES_ITEM_LEN 128
#define KW_TABLES_NAME_LEN 32
#define KW_TABLES_OCTETS 96

/* Init-token item: label (32, blank padded), SO PIN (64, zero padded), user PIN (64); the answer as above. */
#define KW_INIT_ITEM_LEN 160

/* Audit-key answer: 48 octets after the header; the request is a bare header. */
#define KW_AUDIT_KEY_LEN 48
#define KW_AUDIT_REASON 0 /* 2 */
#define KW_AUDIT_ALGORITHM 2
#define KW_AUDIT_PUBLIC 8 /* 32 */
#define KW_AUDIT_PUBLIC_LEN 32
#define KW_AUDIT_ALGORITHM_ED25519 1

/* Sign-checkpoint item: 40 octets; answer: 72. Signed is the text "module id LF size LF base64 of the root LF". */
#define KW_CHECKPOINT_ITEM_LEN 40
#define KW_CHECKPOINT_SIZE 0 /* 8 */
#define KW_CHECKPOINT_ROOT 8 /* 32 */
#define KW_SIGNED_ITEM_LEN 72
#define KW_SIGNED_REASON 0    /* 2 */
#define KW_SIGNED_SIGNATURE 8 /* 64 */

/* Status answer: 320 octets after the header; the request is a bare header. */
#define KW_STATUS_LEN 320
#define KW_STATUS_MODE 0
#define KW_STATUS_PROFILE 1
#define KW_STATUS_CONFIG_ROOT_OWNED 2
#define KW_STATUS_SELF_TEST 3
#define KW_STATUS_SAMPLE_TABLES 4
#define KW_STATUS_LOGGED_IN 5
#define KW_STATUS_UTC_OFFSET 6        /* 2, signed minutes */
#define KW_STATUS_CLOCK 8             /* 8, minutes since 1970 in the system's zone */
#define KW_STATUS_KEYS 16             /* 4 */
#define KW_STATUS_KEYS_REFUSED 20     /* 4 */
#define KW_STATUS_ISSUED 24           /* 8 */
#define KW_STATUS_VERIFIED 32         /* 8 */
#define KW_STATUS_KEY_CHANGES 40      /* 8 */
#define KW_STATUS_REFUSED 48          /* 8 */
#define KW_STATUS_TABLES_NAME 56      /* 32 */
#define KW_STATUS_TABLES_DIGEST 88    /* 32 */
#define KW_STATUS_SOURCE_DIGEST 120   /* 32 */
#define KW_STATUS_MODULE_ID 152       /* 64, zero padded */
#define KW_STATUS_TOKEN_LABEL 216     /* 32 */
#define KW_STATUS_TOKEN_SERIAL 248    /* 16 */
#define KW_STATUS_LIBRARY 264         /* 32, description of the inner library */
#define KW_STATUS_LIBRARY_VERSION 296 /* 2 */
#define KW_STATUS_PAST_WINDOW 300     /* 4, minutes */
#define KW_STATUS_FUTURE_WINDOW 304   /* 4 */
#define KW_STATUS_FM_VERSION 308      /* 2, major and minor */
#define KW_STATUS_HARDWARE 310        /* 1 if the inner library calls its slot hardware */

enum kw_mode { KW_MODE_ONLINE = 1, KW_MODE_CEREMONY = 2, KW_MODE_CERTIFICATION = 3 };
enum kw_profile { KW_PROFILE_DEVELOPMENT = 1, KW_PROFILE_PRODUCTION = 2 };

/* Reason codes of an item; the names reach a client unchanged. */
enum kw_reason {
    KW_OK = 0,
    KW_R_REQUEST_MALFORMED = 1,
    KW_R_PAN_INVALID = 2,
    KW_R_PAN_CHECK_DIGIT = 3,
    KW_R_DRN_CHECK_DIGIT = 4,
    KW_R_IIN_INVALID = 5,
    KW_R_TARIFF_INDEX_INVALID = 6,
    KW_R_SGC_INVALID = 7,
    KW_R_KEY_REVISION_INVALID = 8,
    KW_R_KEY_TYPE_INVALID = 9,
    KW_R_KEY_EXPIRY_INVALID = 10,
    KW_R_EA_UNKNOWN = 11,
    KW_R_EA09_WITHDRAWN = 12,
    KW_R_DKGA_UNKNOWN = 13,
    KW_R_DKGA_WITHDRAWN = 14,
    KW_R_EA_DKGA_MISMATCH = 15,
    KW_R_TCT_INVALID = 16,
    KW_R_BASE_DATE_INVALID = 17,
    KW_R_TOKEN_CLASS_RESERVED = 18,
    KW_R_SUBCLASS_RESERVED = 19,
    KW_R_KEY_CHANGE_NOT_ISSUABLE = 20,
    KW_R_CLASS_NOT_ALLOWED = 21,
    KW_R_CREDIT_UNDER_DEFAULT_KEY = 22,
    KW_R_COMMON_KEY_CARRIER = 23,
    KW_R_COMMON_KEY_UNSETTLED = 24,
    KW_R_AMOUNT_ZERO = 25,
    KW_R_AMOUNT_NEGATIVE = 26,
    KW_R_AMOUNT_TOO_LARGE = 27,
    KW_R_FIELD_OUT_OF_RANGE = 28,
    KW_R_TID_INVALID = 29,
    KW_R_TID_RESERVED = 30,
    KW_R_TID_OUT_OF_WINDOW = 31,
    KW_R_KEY_EXPIRED = 32,
    KW_R_KEY_NOT_ACTIVE = 33,
    KW_R_KEY_ISSUE_PERIOD_OVER = 34,
    KW_R_KEY_TYPE_TRANSITION = 35,
    KW_R_KEY_CHANGE_SET_INVALID = 36,
    KW_R_NEW_KEY_UNKNOWN = 37,
    KW_R_TOKEN_NUMBER_FORMAT = 38,
    KW_R_TOKEN_NUMBER_RANGE = 39,
    KW_R_CRC_MISMATCH = 40,
    KW_R_CERTIFICATION_KEY = 41,
    KW_R_CLOCK_NOT_SETTABLE = 42,
    KW_R_CLOCK_MISSING = 43,
    KW_R_SAMPLE_TABLES_REFUSED = 44,
    KW_R_KEY_EXISTS = 45,
    KW_R_KEY_ALREADY_LOADED = 46,
    KW_R_KEY_PARITY = 47,
    KW_R_KEY_INVALID = 48,
    KW_R_TEST_KEY_REFUSED = 49,
    KW_R_STA_TABLES_INVALID = 50,
    KW_R_TOKEN_STORE_FULL = 51,
    KW_R_CIPHER_FAULT = 52,
    KW_R_LIBRARY_FAULT = 53,
    KW_R_VERIFICATION_LIMIT = 54,
    KW_R_AUDIT_KEY_MISSING = 55,
    KW_R_LOG_INCONSISTENT = 56,
    /* Given by the module process, which keeps the log and hears of witnesses; never by this library. */
    KW_R_LOG_NOT_WITNESSED = 57,
    KW_R_OFFICERS_INVALID = 58,
    KW_R_OFFICERS_MISSING = 59,
    KW_R_OFFICER_UNKNOWN = 60,
    KW_R_OFFICER_NOT_VALID = 61,
    KW_R_OFFICER_REPEATED = 62,
    KW_R_SIGNATURE_WRONG = 63,
    KW_R_CEREMONY_NOT_BEGUN = 64,
    KW_R_CEREMONY_NOT_APPROVED = 65,
    KW_R_ACTION_NOT_APPROVED = 66,
    KW_R_COMPONENT_INVALID = 67,
    KW_R_COMPONENTS_MISSING = 68,
    KW_R_CHECK_VALUE_DIFFERS = 69,
    KW_R_CLEAR_KEY_REFUSED = 70,
    KW_R_KEY_UNKNOWN = 71,
    KW_R_KEY_REFRESH_DUE = 72,
    KW_R_KEY_VALUE_LIMIT = 73,
    KW_R_KEY_RETIRED = 74,
    KW_R_TRANSPORT_KEY_MISSING = 75,
    KW_R_CENTRE_UNKNOWN = 76,
    KW_R_CENTRES_INVALID = 77,
    KW_R_WRAPPED_KEY_WRONG = 78,
    KW_R_BLOCK_KEY_MISSING = 79,
    KW_R_KEY_BLOCK_INVALID = 80,
    KW_R_KEY_BLOCK_WRONG = 81,
    KW_R_LEASE_MISSING = 82,
    KW_R_LEASE_OVER = 83,
    KW_R_LEASE_CLOCK = 84,
    KW_R_LEASE_INVALID = 85,
    KW_R_LEASE_OUTDATED = 86,
    KW_R_LEASE_NOT_SIGNED = 87,
    KW_R_POLICY_OUTDATED = 88
};

#endif
