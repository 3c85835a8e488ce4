/* The state of the module; one a process. */
#ifndef KW_MODULE_H
#define KW_MODULE_H

#include "approval.h"
#include "audit_key.h"
#include "block_key.h"
#include "centres.h"
#include "config.h"
#include "inner.h"
#include "keystore.h"
#include "mandate.h"
#include "transport.h"

struct kw_counters {
    uint64_t issued, verified, key_changes, refused;
};

enum kw_login { KW_LOGIN_NONE, KW_LOGIN_USER };

struct kw_module {
    struct kw_config config;
    struct kw_inner inner;
    struct kw_keystore store;
    struct kw_audit audit;
    struct kw_officers officers;
    struct kw_centres centres;
    struct kw_transport transport;
    struct kw_block_key block_key;
    struct kw_approval approval;
    struct kw_mandate mandate;
    struct kw_counters counters;
    enum kw_login login;
    bool self_test_passed; /* at login */
    bool faulted;          /* a cipher or a self-test went wrong: nothing is done until the next login */
};

/* Minutes since 1970 in the system's zone. */
int64_t kw_clock_minutes(const struct kw_config *config);

/* The minute that an item is judged by: our clock, or in certification mode the one that the item brings. */
enum kw_reason kw_item_clock(const struct kw_config *config, int64_t given, int64_t *now);

/* The marks that answers made with this key and algorithm bear. */
uint8_t kw_marks(const struct kw_module *module, const struct kw_record *record, uint8_t ea);

#endif
