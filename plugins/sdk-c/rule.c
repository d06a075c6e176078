// Between the contract and a rule of either slot.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

// Name and version of pingward.toml, as the compiler gets them.
#if !defined(PINGWARD_NAME) || !defined(PINGWARD_VERSION)
#error "build it with `pingward policy build`"
#endif

char *pw_text_of(const char *format, va_list values);

__attribute__((weak)) void before(const pw_round *round) { (void)round; }

static void add(policy_list_string_t *list, const char *text) {
    // Doubled whenever the length is a power of two.
    if (!(list->len & (list->len - 1))) list->ptr = realloc(list->ptr, 2 * (list->len + 1) * sizeof *list->ptr);
    list->ptr[list->len++] = pw_borrowed(text);
}

uint16_t pw_reason(pw_about *about, const char *format, ...) {
    va_list values;
    va_start(values, format);
    add(&about->reasons, pw_text_of(format, values));
    va_end(values);
    return (uint16_t)about->reasons.len;
}

void pw_memory(pw_about *about, uint32_t bytes, const char *schema) {
    about->memory_bytes = bytes;
    about->memory_schema = schema;
}

void pw_extra(pw_about *about, const char *name) { add(&about->extra, name); }

static pw_about asked(void) {
    pw_about said = {.memory_schema = ""};
    about(&said);
    return said;
}

const char *pw_described(const policy_string_t *config, pingward_policy_types_description_t *description) {
    const char *wrong = pw_configured(config);
    if (wrong) return wrong;
    pw_about said = asked();
    *description = (pingward_policy_types_description_t){
        .name = pw_borrowed(PINGWARD_NAME),
        .version = pw_borrowed(PINGWARD_VERSION),
        .memory_bytes = said.memory_bytes,
        .memory_schema = pw_borrowed(said.memory_schema),
        .reasons = said.reasons,
        .extra = said.extra,
    };
    return NULL;
}

const char *pw_begun(const pingward_policy_types_round_t *round, const pingward_policy_types_members_t *members,
                     const policy_list_u8_t *memory, pw_round *out, uint32_t *memory_bytes) {
    *memory_bytes = asked().memory_bytes;
    const struct {
        const char *name;
        size_t length;
    } columns[] = {
        {"presence", members->presence.len}, {"facts", members->facts.len},       {"rtt-us", members->rtt_us.len},
        {"observers", members->observers.len}, {"age", members->age.len},         {"standing", members->standing.len},
        {"strikes", members->strikes.len},   {"earned", members->earned.len},     {"data", members->data.len},
        {"class", members->class_.len},      {"group", members->group.len},       {"flags", members->flags.len},
    };
    uint32_t n = round->population;
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        if (columns[i].length != n) {
            return pw_text("column `%s` has %u entries for a population of %u", columns[i].name,
                           (unsigned)columns[i].length, n);
        }
    }
    if (memory->len != (uint64_t)n * *memory_bytes) {
        return pw_text("memory has %u bytes; %u members of %u bytes are %llu", (unsigned)memory->len, n, *memory_bytes,
                       (unsigned long long)n * *memory_bytes);
    }
    if (round->seed.len != 32) return pw_text("the seed has %u bytes, not 32", (unsigned)round->seed.len);
    pw_column *extra = malloc(members->extra.len * sizeof *extra);
    for (size_t i = 0; i < members->extra.len; i++) {
        const pingward_policy_types_column_t *column = &members->extra.ptr[i];
        // It comes without a zero byte at its end.
        char *name = malloc(column->name.len + 1);
        memcpy(name, column->name.ptr, column->name.len);
        if (column->values.len != n) {
            return pw_text("column `%s` has %u entries for a population of %u", name, (unsigned)column->values.len, n);
        }
        extra[i] = (pw_column){.name = name, .values = column->values.ptr};
    }
    *out = (pw_round){
        .number = round->number,
        .now_ms = round->now_ms,
        .elapsed_ms = round->elapsed_ms,
        .interval_ms = round->interval_ms,
        .population = n,
        .suspect = round->suspect,
        .seed = round->seed.ptr,
        .presence = members->presence.ptr,
        .facts = members->facts.ptr,
        .rtt_us = members->rtt_us.ptr,
        .observers = members->observers.ptr,
        .age = members->age.ptr,
        .standing = members->standing.ptr,
        .strikes = members->strikes.ptr,
        .earned = members->earned.ptr,
        .data = members->data.ptr,
        .class_ = members->class_.ptr,
        .group = members->group.ptr,
        .flags = members->flags.ptr,
        .extra = extra,
        .extra_count = (uint32_t)members->extra.len,
    };
    before(out);
    return NULL;
}
