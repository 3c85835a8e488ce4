#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW_MAX (60 * 24 * 62)

static bool read_text(char *target, size_t size, const char *value)
{
    size_t length = strlen(value);
    if (length == 0 || length >= size)
        return false;
    memcpy(target, value, length + 1);
    return true;
}

static bool read_minutes(int64_t *target, const char *value)
{
    char *end = NULL;
    long number = strtol(value, &end, 10);
    *target = number;
    return *value >= '0' && *value <= '9' && *end == '\0' && number <= WINDOW_MAX;
}

static bool read_offset(int *target, const char *value)
{
    static const char shape[] = "sdd:dd";
    for (unsigned i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == 'd'   ? (value[i] < '0' || value[i] > '9')
            : shape[i] == 's' ? (value[i] != '+' && value[i] != '-')
                              : value[i] != shape[i])
            return false;
    int hours = (value[1] - '0') * 10 + value[2] - '0', minutes = (value[4] - '0') * 10 + value[5] - '0';
    if (value[6] != '\0' || hours > 14 || minutes > 59)
        return false;
    *target = (value[0] == '-' ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

static bool read_choice(int *target, const char *value, const char *const names[])
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], value) == 0) {
            *target = i + 1;
            return true;
        }
    return false;
}

enum field {
    LIBRARY,
    TOKEN_LABEL,
    MODULE_ID,
    MODE,
    PROFILE,
    UTC_OFFSET,
    TID_PAST,
    TID_FUTURE,
    RES_PAST,
    RES_FUTURE,
    FIELDS
};

static const char *const field_names[FIELDS] = {
    "library",
    "token_label",
    "module_id",
    "mode",
    "profile",
    "utc_offset",
    "tid_past_minutes",
    "tid_future_minutes",
    "reserved_past_minutes",
    "reserved_future_minutes",
};

static bool read_field(struct kw_config *config, enum field field, const char *value)
{
    static const char *const modes[] = {"online", "ceremony", "certification", NULL};
    static const char *const profiles[] = {"development", "production", NULL};
    int choice = 0;
    bool ok;
    switch (field) {
    case LIBRARY:
        return value[0] == '/' && read_text(config->library, sizeof config->library, value);
    case TOKEN_LABEL:
        return read_text(config->token_label, sizeof config->token_label, value);
    case MODULE_ID:
        return read_text(config->module_id, sizeof config->module_id, value);
    case MODE:
        ok = read_choice(&choice, value, modes);
        config->mode = (enum kw_mode)choice;
        return ok;
    case PROFILE:
        ok = read_choice(&choice, value, profiles);
        config->profile = (enum kw_profile)choice;
        return ok;
    case UTC_OFFSET:
        return read_offset(&config->utc_offset_minutes, value);
    case TID_PAST:
        return read_minutes(&config->tid_past_minutes, value);
    case TID_FUTURE:
        return read_minutes(&config->tid_future_minutes, value);
    case RES_PAST:
        return read_minutes(&config->reserved_past_minutes, value);
    case RES_FUTURE:
        return read_minutes(&config->reserved_future_minutes, value);
    case FIELDS:
        break;
    }
    return false;
}

static char *trim(char *text)
{
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL)
        text[--length] = '\0';
    return text + strspn(text, " \t");
}

static bool read_line(struct kw_config *config, char *line, unsigned *seen)
{
    char *comment = strchr(line, '#'), *equals;
    if (comment != NULL)
        *comment = '\0';
    line = trim(line);
    if (*line == '\0')
        return true;
    equals = strchr(line, '=');
    if (equals == NULL)
        return false;
    *equals = '\0';
    const char *name = trim(line), *value = trim(equals + 1);
    for (unsigned field = 0; field < FIELDS; field++)
        if (strcmp(field_names[field], name) == 0) {
            bool repeated = *seen >> field & 1;
            *seen |= 1U << field;
            return !repeated && read_field(config, (enum field)field, value);
        }
    return false;
}

static void blank_pad(char label[33])
{
    size_t length = strlen(label);
    memset(label + length, ' ', 32 - length);
    label[32] = '\0';
}

bool kw_config_read(struct kw_config *config, const char *path)
{
    struct kw_config fresh;
    struct stat status;
    unsigned seen = 0;
    bool ok = true;
    char line[KW_PATH_MAX + 64];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0)
        return false;
    FILE *file = fdopen(descriptor, "r");
    if (file == NULL) {
        close(descriptor);
        return false;
    }
    memset(&fresh, 0, sizeof fresh);
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0 ||
        (status.st_uid != 0 && status.st_uid != geteuid()))
        ok = false;
    while (ok && fgets(line, sizeof line, file) != NULL)
        ok = (strchr(line, '\n') != NULL || feof(file)) && read_line(&fresh, line, &seen);
    ok = ok && !ferror(file) && seen == (1U << FIELDS) - 1;
    fclose(file);
    fresh.root_owned = ok && status.st_uid == 0;
    /* Whoever owns the file chooses the mode: only root may do so in production. */
    if (!ok || (fresh.profile == KW_PROFILE_PRODUCTION && !fresh.root_owned))
        return false;
    /* Certification plays with the clock: it and production exclude each other. */
    if (fresh.profile == KW_PROFILE_PRODUCTION && fresh.mode == KW_MODE_CERTIFICATION)
        return false;
    blank_pad(fresh.token_label);
    *config = fresh;
    return true;
}

bool kw_config_find(struct kw_config *config)
{
    const char *path = secure_getenv(KW_CONFIG_ENVIRONMENT);
    if (path == NULL || strcmp(path, KW_CONFIG_PATH) == 0)
        return kw_config_read(config, KW_CONFIG_PATH);
    return kw_config_read(config, path) && config->profile == KW_PROFILE_DEVELOPMENT;
}
