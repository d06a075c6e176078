// Between the files of the SDK; nothing of this is for rules.
#ifndef PINGWARD_INTERNAL_H
#define PINGWARD_INTERNAL_H

#include "pingward.h"
#include "policy.h"

struct pw_about {
    uint32_t memory_bytes;
    const char *memory_schema;
    policy_list_string_t reasons, extra;
};

policy_string_t pw_borrowed(const char *text);
// Calls `configure`. What is wrong with the config, or NULL.
const char *pw_configured(const policy_string_t *config);
// Calls `configure` and `about`. What is wrong, or NULL.
const char *pw_described(const policy_string_t *config, pingward_policy_types_description_t *description);
// Checks the lengths and gives the round to `before`. What is wrong, or NULL.
const char *pw_begun(const pingward_policy_types_round_t *round, const pingward_policy_types_members_t *members,
                     const policy_list_u8_t *memory, pw_round *out, uint32_t *memory_bytes);

static inline pw_row pw_row_at(const pw_round *round, uint32_t i) {
    return (pw_row){
        .index = i,
        .presence = (pw_presence)round->presence[i],
        .standing = (pw_standing)round->standing[i],
        .facts = round->facts[i],
        .strikes = round->strikes[i],
        .asked = (uint8_t)(round->observers[i] >> 8),
        .seen = (uint8_t)round->observers[i],
        .rtt_us = round->rtt_us[i],
        .age = round->age[i],
        .class_ = round->class_[i],
        .group = round->group[i],
        .flags = round->flags[i],
        .earned = round->earned[i],
        .data = round->data[i],
    };
}

#endif
