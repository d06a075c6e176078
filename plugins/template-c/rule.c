// A ban rule to start from: who misses `limit` rounds in a row is suspended until it answers again; nobody is banned.
//
// Change `judge_one`, and cases.toml, which says what must come out. `pingward policy build .` makes the component.

#include "pingward.h"

// What the config says.
static uint16_t limit;

// Reason codes.
static uint16_t missed;

void configure(pw_config *config) { limit = (uint16_t)pw_integer(config, "limit", 3, 1, 1000); }

void about(pw_about *about) { missed = pw_reason(about, "missed %u rounds in a row", (unsigned)limit); }

// What becomes of one member after one round.
pw_verdict judge_one(const pw_round *round, const pw_row *row, uint8_t *memory) {
    (void)round, (void)memory;
    switch (row->presence) {
    case PW_UP: return (pw_verdict){.standing = PW_GOOD};
    case PW_DOWN: break;
    // Nobody had a fair chance to see it: no news moves nothing.
    case PW_UNKNOWN: return pw_stay(row);
    }
    if (pw_in_maintenance(row)) return pw_stay(row);
    pw_verdict verdict = pw_stay(row);
    if (row->strikes < UINT16_MAX) verdict.strikes = row->strikes + 1;
    if (verdict.strikes < limit) return verdict;
    return (pw_verdict){.standing = PW_SUSPENDED, .strikes = verdict.strikes, .until = 1, .reason = missed};
}
