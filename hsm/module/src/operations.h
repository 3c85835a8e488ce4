/* The vendor mechanisms: octets in, octets out. Each file below implements one operation on one item. */
#ifndef KW_OPERATIONS_H
#define KW_OPERATIONS_H

#include <stddef.h>

#include "module.h"

/* Length of the answer to a request; 0 if the request is malformed as a whole. `key` is NULL for C_Digest. */
size_t kw_answer_length(enum kw_operation operation, const struct kw_key *key, const uint8_t *request, size_t length);

/* Do the work; `answer` has the length that kw_answer_length gave. CKR_OK means that every item has its reason. */
CK_RV kw_operate(struct kw_module *module, enum kw_operation operation, const struct kw_key *key,
                 const uint8_t *request, size_t length, uint8_t *answer);

/* Whether the operation exists in this mode, with or without a key. */
bool kw_operation_allowed(enum kw_mode mode, enum kw_operation operation, bool with_key);

/* One item each. A return other than CKR_OK is a fault of the inner library: no answer of the batch is released. */
CK_RV kw_issue(struct kw_module *module, const struct kw_key *key, const uint8_t *item, uint8_t *answer);
CK_RV kw_verify(struct kw_module *module, const struct kw_key *key, const uint8_t *item, uint8_t *answer);
CK_RV kw_key_change(struct kw_module *module, const struct kw_key *old_key, const uint8_t *item, uint8_t *answer);
CK_RV kw_check_value(struct kw_module *module, const struct kw_key *key, uint8_t *answer);
CK_RV kw_status(struct kw_module *module, uint8_t *answer);
CK_RV kw_audit_key(struct kw_module *module, uint8_t *answer);
CK_RV kw_make_audit_key(struct kw_module *module, uint8_t *answer);
CK_RV kw_sign_checkpoint(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_load_key(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_install_tables(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_officers_operation(struct kw_module *module, uint8_t *answer);
CK_RV kw_set_officers(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_begin_ceremony(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_approve(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_component(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_destroy_key(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_sign_record(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_retire_key(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_transport_key(struct kw_module *module, uint8_t *answer);
CK_RV kw_end_transport(struct kw_module *module, uint8_t *answer);
CK_RV kw_load_wrapped(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_centres_operation(struct kw_module *module, uint8_t *answer);
CK_RV kw_set_centres(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_set_block_key(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_load_block(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_set_lease(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_set_policy(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_mandate(struct kw_module *module, uint8_t *answer);
CK_RV kw_present_lease(struct kw_module *module, const uint8_t *item, uint8_t *answer);
CK_RV kw_init_token(struct kw_module *module, const uint8_t *item, uint8_t *answer);

/* Known answers: of the ciphers and codecs, and (once logged in) of both derivations inside the inner library. */
bool kw_self_test_pure(void);
CK_RV kw_self_test_inner(const struct kw_inner *inner);

/* Whether enough officers have approved the ceremony that is under way. */
enum kw_reason kw_approval_open(const struct kw_module *module);

/*
 * Whether this very action may be done now: it is one of the approved ones and was not done. `place` is for
 * kw_approval_done, once it is. Development without officers needs no approval.
 */
CK_RV kw_approval_of_action(const struct kw_module *module, enum kw_operation operation, const uint8_t *item,
                            size_t length, int *place, enum kw_reason *reason);
void kw_approval_done(struct kw_module *module, int place);

/* Whether a lease may take the place of the one in force, and whether it begins later than now. */
enum kw_reason kw_lease_follows(struct kw_module *module, const struct kw_lease *lease);
bool kw_lease_is_early(const struct kw_lease *lease);

/* The minute since 1970 UTC by which leases are judged: it never goes back, whatever the clock says. */
uint64_t kw_lease_minute(struct kw_module *module);

/* Whether nothing is issued without a lease, and whether the one in force allows a token at this minute. */
bool kw_lease_required(const struct kw_module *module);
enum kw_reason kw_lease_check(struct kw_module *module);

/* The check value of a key's octets: 8 of a DES vending key, 20 of a 160-bit one, 32 of an AES key. */
CK_RV kw_check_value_of(const struct kw_module *module, size_t key_length, const uint8_t *octets, uint8_t value[3]);
unsigned kw_check_algorithm(size_t key_length);

/* Whether as many components are there as were approved, with the check values that were (or zeros). */
CK_RV kw_components_match(const struct kw_module *module, size_t key_length, unsigned total, const uint8_t values[4],
                          enum kw_reason *reason);

/* Sign a text that was composed in this module with the audit key. */
CK_RV kw_audit_sign(const struct kw_module *module, const uint8_t *text, size_t length, uint8_t signature[64]);

#endif
