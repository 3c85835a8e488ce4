/*
 * The module's own configuration: a file, never an argument of the caller. Lines of `name = value`; `#` begins a
 * comment; an unknown, repeated or missing name is an error. Owned by root, or the profile is development.
 */
#ifndef KW_CONFIG_H
#define KW_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "keywatt_fm.h"

#ifndef KW_CONFIG_PATH
#define KW_CONFIG_PATH "/etc/keywatt/module.conf"
#endif
#define KW_CONFIG_ENVIRONMENT "KEYWATT_MODULE_CONFIG"
#define KW_PATH_MAX 1024

struct kw_config {
    char library[KW_PATH_MAX];  /* library: path of the inner PKCS#11 library */
    char token_label[33];       /* token_label: blank padded, terminated */
    char module_id[65];         /* module_id: name of this module in answers and logs */
    enum kw_mode mode;          /* mode: online, ceremony or certification */
    enum kw_profile profile;    /* profile: development or production */
    int utc_offset_minutes;     /* utc_offset: +hh:mm, the time zone of token identifiers */
    int64_t tid_past_minutes;   /* tid_past_minutes: how far an identifier may lie behind the clock */
    int64_t tid_future_minutes; /* tid_future_minutes: how far before it */
    int64_t reserved_past_minutes, reserved_future_minutes; /* the same for the reserved identifier */
    bool root_owned;
};

/*
 * Read the file that the environment names, else the one of the fixed path. A file that the environment names can
 * choose the development profile only: in production nobody but root decides, at the one path.
 */
bool kw_config_find(struct kw_config *config);

/* Read and check the file; false for anything that is not exactly right. */
bool kw_config_read(struct kw_config *config, const char *path);

#endif
