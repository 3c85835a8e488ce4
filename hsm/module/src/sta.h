/* EA07, the Standard Transfer Algorithm (IEC 62055-41, 6.4.5), on any set of tables. */
#ifndef KW_STA_H
#define KW_STA_H

#include <stdbool.h>
#include <stdint.h>

/* T1, T2 and P as the standard names them, and their inverses. */
struct kw_sta_tables {
    uint8_t t1[16], t2[16], p[64];
    uint8_t d1[16], d2[16], p_inverse[64];
};

/* Fill the tables from T1 || T2 || P (96 octets); false unless each is a permutation of its range. */
bool kw_sta_load(struct kw_sta_tables *tables, const uint8_t octets[96]);

/* The sample tables that the standard prints, as T1 || T2 || P. */
extern const uint8_t kw_sta_sample[96];

uint64_t kw_sta_encrypt(const struct kw_sta_tables *tables, uint64_t key, uint64_t block);
uint64_t kw_sta_decrypt(const struct kw_sta_tables *tables, uint64_t key, uint64_t block);

#endif
