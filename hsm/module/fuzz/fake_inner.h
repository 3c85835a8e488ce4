/* An inner library for fuzzing: answers at once, with octets that depend on what it was given; fails when told to. */
#ifndef KW_FAKE_INNER_H
#define KW_FAKE_INNER_H

#include "inner.h"

/* After so many calls every further one fails with CKR_DEVICE_ERROR; UINT32_MAX for never. */
void kw_fake_inner(struct kw_inner *inner, uint32_t calls_until_failure);

#endif
