/* The key pair for one delivery of keys: made in the library, used once, destroyed with the ceremony that used it. */
#ifndef KW_TRANSPORT_H
#define KW_TRANSPORT_H

#include "inner.h"

#define KW_TRANSPORT_LABEL "keywatt-transport/1"

struct kw_transport {
    bool present;
    CK_OBJECT_HANDLE private_key;
    uint8_t point[KW_POINT_LEN];
};

/* Find the pair of the token, at login; none is no error, half of one or two are. */
CK_RV kw_transport_read(struct kw_transport *transport, const struct kw_inner *inner);

#endif
