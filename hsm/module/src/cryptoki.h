/* PKCS#11 v2.40 types, from p11-kit's header (Debian: libp11-kit-dev). */
#ifndef KW_CRYPTOKI_H
#define KW_CRYPTOKI_H

#define CRYPTOKI_COMPAT 1
#include <p11-kit/pkcs11.h>

#endif
