/* What a caller may see of a vending key: public attributes, made up from its record; never a value. */
#ifndef KW_ATTRIBUTES_H
#define KW_ATTRIBUTES_H

#include "cryptoki.h"
#include "keystore.h"

/* Fill one attribute as C_GetAttributeValue does; CKR_ATTRIBUTE_SENSITIVE for the value of the key. */
CK_RV kw_attribute_get(const struct kw_key *key, CK_ATTRIBUTE_PTR attribute);

/* Whether the key has this value of this attribute; an attribute that we do not show never matches. */
bool kw_attribute_matches(const struct kw_key *key, CK_ATTRIBUTE_TYPE type, const uint8_t *value, CK_ULONG length);

#endif
