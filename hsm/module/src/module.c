#include "module.h"

#include <time.h>

#include "civil_time.h"

int64_t kw_clock_minutes(const struct kw_config *config)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return 0;
    int64_t seconds = (int64_t)now.tv_sec + config->utc_offset_minutes * INT64_C(60);
    return seconds / 60;
}

enum kw_reason kw_item_clock(const struct kw_config *config, int64_t given, int64_t *now)
{
    if (config->mode != KW_MODE_CERTIFICATION) {
        *now = kw_clock_minutes(config);
        return given == 0 ? KW_OK : KW_R_CLOCK_NOT_SETTABLE;
    }
    *now = given;
    return given > 0 && given < KW_CIVIL_LIMIT ? KW_OK : KW_R_CLOCK_MISSING;
}

uint8_t kw_marks(const struct kw_module *module, const struct kw_record *record, uint8_t ea)
{
    uint8_t marks = module->config.mode == KW_MODE_CERTIFICATION ? KW_MARK_CERTIFICATION : 0;
    if (record != NULL && record->origin != KW_ORIGIN_CEREMONY)
        marks |= KW_MARK_TEST_KEY;
    if (ea == 7 && module->store.sample_tables)
        marks |= KW_MARK_SAMPLE_TABLES;
    return marks;
}
