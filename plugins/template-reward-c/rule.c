// A reward rule to start from: `points` for each round in which a member answers, twice as many from its hundredth round
// in the queue on.
//
// Change `pay_one`, and cases.toml, which says what must come out. `pingward policy build .` makes the component.

#include "pingward.h"

// Rounds after which a member is paid twice.
enum { LOYAL = 100 };

// What the config says.
static int64_t points;

// Reason codes.
static uint16_t answered, loyal;

void configure(pw_config *config) { points = (int64_t)pw_integer(config, "points", 10, 0, 1000); }

void about(pw_about *about) {
    answered = pw_reason(about, "answered");
    loyal = pw_reason(about, "answered, and has been here for %d rounds", LOYAL);
}

// What one member gets for one round. The host pays nobody who ends the round suspended or banned.
pw_pay pay_one(const pw_round *round, const pw_row *row, uint8_t *memory) {
    (void)round, (void)memory;
    // Nobody had a fair chance to see it, or it did not answer: nothing is paid, nothing is taken.
    if (row->presence != PW_UP) return (pw_pay){0};
    if (row->age >= LOYAL) return (pw_pay){.points = 2 * points, .reason = loyal};
    return (pw_pay){.points = points, .reason = answered};
}
