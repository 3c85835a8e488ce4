/*
 * The officers of this token: who they are, and how many of them each kind of ceremony needs. A data object of the
 * token, read at login; it is replaced as a whole.
 */
#ifndef KW_OFFICERS_H
#define KW_OFFICERS_H

#include "inner.h"

#define KW_OFFICERS_LABEL "keywatt-officers/1"

struct kw_officers {
    bool present;
    uint8_t block[KW_OFFICERS_LEN];
};

/* Read the object, at login; a token without one is no error, one with two is. */
CK_RV kw_officers_read(struct kw_officers *officers, const struct kw_inner *inner);

/* Replace the object by a block that is valid, and read it back. */
CK_RV kw_officers_write(struct kw_officers *officers, const struct kw_inner *inner, const uint8_t *block);

/* Whether a block is one: two officers at least, of different names and keys, and every kind needs two at least. */
bool kw_officers_valid(const uint8_t *block);

/* Whether a name is 1 to 32 printable characters without blanks at the ends, zero padded. */
bool kw_officers_name_valid(const uint8_t *name);

/* Whether so many officers of a block are within their term, or before it, that every kind can be approved. */
bool kw_officers_enough(const uint8_t *block, uint64_t now);

unsigned kw_officers_count(const struct kw_officers *officers);
unsigned kw_officers_needed(const struct kw_officers *officers, enum kw_ceremony_kind kind);

/* The place of the officer with this key, or -1. */
int kw_officers_find(const struct kw_officers *officers, const uint8_t key[32]);

const uint8_t *kw_officer(const struct kw_officers *officers, int place);

#endif
