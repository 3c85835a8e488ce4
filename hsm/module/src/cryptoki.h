/* PKCS#11 v2.40 types, from p11-kit's header (Debian: libp11-kit-dev). */
#ifndef KW_CRYPTOKI_H
#define KW_CRYPTOKI_H

#define CRYPTOKI_COMPAT 1
#include <p11-kit/pkcs11.h>

/* PKCS#11 3.0, which older headers do not have. */
#ifndef CKM_EC_EDWARDS_KEY_PAIR_GEN
#define CKM_EC_EDWARDS_KEY_PAIR_GEN 0x1055UL
#endif
#ifndef CKM_EDDSA
#define CKM_EDDSA 0x1057UL
#endif
#ifndef CKK_EC_EDWARDS
#define CKK_EC_EDWARDS 0x40UL
#endif
#ifndef CKM_AES_CMAC
#define CKM_AES_CMAC 0x108AUL
#endif

#endif
