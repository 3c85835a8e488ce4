/*
 * The record of a vending key: everything that the module holds true of the key. It is the key's label in the token,
 * written once, and ends in a proof made with the key itself, so that no other record can be put on the key.
 *
 * keywatt-vk/1 sgc=201457 krn=1 kt=2 dkga=04 bdt=14 ken=255 act=- iut=- c0=00ff c2=fce7 kc=1 origin=public
 *     kcv=0a1b2c proof=0123456789abcdef      (one line, single blanks)
 *
 * A key with limits or a time of refresh has keywatt-vk/2, with rfr, ulm and clm between kc and origin.
 */
#ifndef KW_RECORD_H
#define KW_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keywatt_fm.h"

#define KW_RECORD_PREFIX "keywatt-vk/"
#define KW_RECORD_MAX 320
#define KW_PROOF_LEN 8

/* Where a key comes from; only a ceremony in the production profile makes a key fit for production. */
enum kw_origin { KW_ORIGIN_CEREMONY = 1, KW_ORIGIN_DEVELOPMENT = 2, KW_ORIGIN_PUBLIC = 3 };

struct kw_record {
    uint8_t sgc[6]; /* ASCII digits */
    uint8_t krn, kt, dkga, bdt, ken;
    bool key_change;         /* may take part in key changes */
    uint16_t class0, class2; /* allowed subclasses, bit n for subclass n */
    int64_t act, iut, rfr;   /* minutes since 1970 in the system's zone, 0 for none */
    uint64_t ulm, clm;       /* limits in units and in currency, least significant bits, 0 for none */
    enum kw_origin origin;
    uint8_t kcv[3];
    uint8_t proof[KW_PROOF_LEN];
};

/* Range checks of everything but kcv and proof. */
enum kw_reason kw_record_check(const struct kw_record *record);

/* Write the record; returns its length. Without the proof it ends after kcv: that text is what is proved. */
size_t kw_record_format(const struct kw_record *record, bool with_proof, char text[KW_RECORD_MAX]);

/* Parse a whole label; false unless formatting it again gives the same text and its checks pass. */
bool kw_record_parse(struct kw_record *record, const char *text, size_t length);

/*
 * Parse what a key block says of its key: a record of version 2 from "sgc=" on, without origin and proof. `origin` is
 * left at development.
 */
bool kw_record_parse_attributes(struct kw_record *record, const char *text, size_t length);

#endif
