/* Data objects of the token that hold a block of ours: found by label, replaced as a whole. */
#ifndef KW_DATA_OBJECT_H
#define KW_DATA_OBJECT_H

#include "inner.h"

/*
 * Read the object of this label; its length is 0 if there is none. Two of one label, or one that is longer than `size`,
 * are a fault: a replacement that stopped half way, and nobody can say which is meant.
 */
CK_RV kw_data_read(const struct kw_inner *inner, const char *name, uint8_t *octets, CK_ULONG size, CK_ULONG *length);

/* Write the object, and remove the one before. */
CK_RV kw_data_replace(const struct kw_inner *inner, const char *name, const uint8_t *octets, CK_ULONG length);

#endif
