/* Components of a key as they are entered, each by another officer; combined here and nowhere else. */
#ifndef KW_COMPONENTS_H
#define KW_COMPONENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keywatt_fm.h"

struct kw_components {
    uint8_t octets[KW_COMPONENTS_MAX][KW_COMPONENT_MAX];
    uint8_t entered[KW_COMPONENTS_MAX]; /* how many octets of each are there */
    int officer[KW_COMPONENTS_MAX];     /* who enters it */
    unsigned total;                     /* 0 before the first */
    size_t key_length;
};

/* Whether every component is whole. */
bool kw_components_whole(const struct kw_components *components);

/* The xor of all, of the length of the components; a DES key with its parity set. */
void kw_components_combine(const struct kw_components *components, uint8_t *key);

/* Set the parity of a DES key's octets. */
void kw_set_odd_parity(uint8_t *octets, size_t length);

#endif
