// Rules for pingward in C: what a rule is asked, what it sees, and what it says.
//
// A rule defines `configure`, `about`, and `judge_one` (a ban rule), `pay_one` (a reward rule) or `review_one` (a signing
// rule). They are called in that order, for every round or batch in a fresh instance: a global variable holds what
// `configure` read, and nothing lives longer than the round but the member's memory. The same inputs must give the same
// answer.
//
// There is no libc: <stdint.h>, <stdbool.h>, <stddef.h>, <limits.h>, <string.h> (mem*, strlen, strcmp, strncmp) and
// <stdlib.h> (malloc, calloc, realloc, free, abort) are all. Nothing that is freed is used again before the round ends.
#ifndef PINGWARD_H
#define PINGWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What was seen of a member in the round.
typedef enum {
    PW_DOWN = 0,    // no valid answer, though there was a fair chance
    PW_UP = 1,      // it answered
    PW_UNKNOWN = 2, // nobody had a fair chance to see it: no news at all, move no counter
} pw_presence;

// A member's grade.
typedef enum {
    PW_GOOD = 0,
    PW_WARNED = 1,    // near a limit; nothing is taken away
    PW_SUSPENDED = 2, // still pinged, not paid
    PW_BANNED = 3,    // disconnected and refused until its ban is over
    PW_PROBATION = 4, // back from a ban; the host's to give: returning it counts as PW_GOOD
} pw_standing;

// Bits of `pw_row.facts`.
enum {
    PW_FACT_ABSENT = 1,
    PW_FACT_MISSED = 2,
    PW_FACT_LATE = 4,
    PW_FACT_STALE_NONCE = 8,
    PW_FACT_OUT_OF_TURN = 16,
    PW_FACT_MALFORMED = 32,
    PW_FACT_FLOOD = 64,
};

// Bits of `pw_row.flags`.
enum {
    PW_FLAG_MAINTENANCE = 1,     // it declared maintenance that covers this round
    PW_FLAG_NEWER_VERSION = 2,   // it speaks a newer protocol version than the host
    PW_FLAG_ASKED_TO_RETURN = 4, // since the settlement before
};

// A column that `about` asked for with `pw_extra`; `values` has one entry a member.
typedef struct {
    const char *name; // ends with a zero byte
    const int64_t *values;
} pw_column;

// The round, the same for all members.
typedef struct {
    uint64_t number;      // rises by one with each settled round
    uint64_t now_ms;      // time of the decision, ms since 1970
    uint64_t elapsed_ms;  // since the settlement before
    uint64_t interval_ms; // configured length of a round
    uint32_t population;  // number of members
    bool suspect;         // the host doubts what it saw
    const uint8_t *seed;  // 32 bytes for drawing lots
    // All members at once, one entry a member; `wit/policy.wit` says what each column is.
    const uint8_t *presence, *standing;
    const uint16_t *facts, *observers, *strikes;
    const uint32_t *rtt_us, *age, *class_, *group, *flags;
    const uint64_t *earned, *data;
    const pw_column *extra; // in the order in which `about` asked for them
    uint32_t extra_count;
} pw_round;

// All that is known of one member in one round.
typedef struct {
    uint32_t index; // its place in the columns; says nothing about the member
    pw_presence presence;
    pw_standing standing; // after the settlement before
    uint16_t facts;       // bits, see above
    uint16_t strikes;     // as the ban rule last returned them
    uint8_t asked, seen;  // observers that asked it, and that saw it
    uint32_t rtt_us;      // lowest round trip, microseconds; 0 = none
    uint32_t age;         // rounds in the queue since it joined
    uint32_t class_;      // a number that the operator gave it
    uint32_t group;       // its network group
    uint32_t flags;       // bits, see above
    uint64_t earned;      // points earned and not claimed
    uint64_t data;        // a number that the member writes itself: never trust it
} pw_row;

// It declared maintenance that covers this round.
static inline bool pw_in_maintenance(const pw_row *row) { return (row->flags & PW_FLAG_MAINTENANCE) != 0; }

// Good, warned and on probation are paid.
static inline bool pw_is_paid(pw_standing standing) { return standing != PW_SUSPENDED && standing != PW_BANNED; }

// What becomes of one member.
typedef struct {
    pw_standing standing; // from now on
    uint16_t strikes;     // from now on
    uint32_t until;       // rounds until the earliest return; for a ban the host keeps to it; 0 = none
    uint16_t reason;      // 0, or what `pw_reason` returned
} pw_verdict;

// Nothing moves.
static inline pw_verdict pw_stay(const pw_row *row) {
    return (pw_verdict){.standing = row->standing, .strikes = row->strikes};
}

// What one member gets.
typedef struct {
    int64_t points;  // below zero takes from what it earned
    uint16_t reason; // 0, or what `pw_reason` returned
} pw_pay;

// Penalty and fees until the next settlement.
typedef struct {
    uint32_t overclaim_bp;   // share of what was claimed too much, basis points, 0 to 10,000
    uint32_t overclaim_min;  // but at least so many points, 0 to 1,000
    uint32_t record_fee;     // points for a record, 0 to 1,000
    uint32_t record_fee_kib; // and for each KiB of its body, 0 to 1,000
} pw_tariff;

#define PW_USUAL_TARIFF ((pw_tariff){.overclaim_bp = 1000, .overclaim_min = 1, .record_fee = 0, .record_fee_kib = 0})

// What is known of a batch of records, the same for every validator.
typedef struct {
    uint64_t number;     // of the batch; rises by one with each
    uint64_t round;      // that was settled last when it was ordered; 0 = none yet
    uint64_t ordered_ms; // when it was ordered, ms since 1970
    uint32_t set_size;   // validators in the set
    uint32_t records;    // in this call
} pw_batch;

// A record, as its author handed it in. Its signature was verified, and its fee is paid.
typedef struct {
    uint32_t index;        // its place in this call, from 0
    uint64_t sequence;     // its number in the order of all records
    const uint8_t *author; // the author's key, 32 bytes
    const uint8_t *digest; // what names it, 32 bytes
    uint64_t expires_ms;   // when its author wished it to be ordered at the latest; it was
    const uint8_t *body;   // any bytes, without a zero byte at their end
    uint32_t length;       // of the body, 0 to 65,536
} pw_record;

// The body is text: UTF-8.
bool pw_is_text(const pw_record *record);

// ---- What a rule calls -------------------------------------------------------------------------------------------

// Formats know %s, %d, %u, %lld, %llu and %%. Texts live until the round ends.
#define PW_FORMAT(at) __attribute__((format(printf, at, at + 1)))

// The config: a JSON object. Keys that nobody took are refused for the rule.
typedef struct pw_config pw_config;

// A whole number within bounds, or the usual one if the key is not there.
uint64_t pw_integer(pw_config *config, const char *key, uint64_t usual, uint64_t low, uint64_t high);
bool pw_boolean(pw_config *config, const char *key, bool usual);
const char *pw_string(pw_config *config, const char *key, const char *usual);
// Refuses the config; say which key is wrong and what it may be. The first refusal counts.
void pw_refuse(pw_config *config, const char *format, ...) PW_FORMAT(2);

// What the rule says of itself. Name and version are those of pingward.toml.
typedef struct pw_about pw_about;

// Adds the text of a reason and returns its code: 1, 2, 3 and so on.
uint16_t pw_reason(pw_about *about, const char *format, ...) PW_FORMAT(2);
// So many bytes are remembered of each member; `schema` names their meaning: change it when they mean something else.
void pw_memory(pw_about *about, uint32_t bytes, const char *schema);
// Asks for a column, such as `observer.0.presence`.
void pw_extra(pw_about *about, const char *name);

char *pw_text(const char *format, ...) PW_FORMAT(1);
// One line for the operator. Levels: 0 trace, 1 debug, 2 info, 3 warn, 4 error. Few of them: more than 64 KiB a round
// is a fault.
void pw_log(uint8_t level, const char *format, ...) PW_FORMAT(2);
// Ends the round for this rule with a text for the operator: it is a fault, nothing is decided.
_Noreturn void pw_fail(const char *format, ...) PW_FORMAT(1);

// Numbers in a member's memory, lowest byte first.
static inline uint16_t pw_get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static inline uint32_t pw_get32(const uint8_t *at) { return pw_get16(at) | (uint32_t)pw_get16(at + 2) << 16; }
static inline uint64_t pw_get64(const uint8_t *at) { return pw_get32(at) | (uint64_t)pw_get32(at + 4) << 32; }
static inline void pw_put16(uint8_t *at, uint16_t value) { at[0] = (uint8_t)value, at[1] = (uint8_t)(value >> 8); }
static inline void pw_put32(uint8_t *at, uint32_t value) {
    pw_put16(at, (uint16_t)value), pw_put16(at + 2, (uint16_t)(value >> 16));
}
static inline void pw_put64(uint8_t *at, uint64_t value) {
    pw_put32(at, (uint32_t)value), pw_put32(at + 4, (uint32_t)(value >> 32));
}

// ---- What a rule defines -----------------------------------------------------------------------------------------

// Reads the config.
void configure(pw_config *config);
// Says what the rule is under that config.
void about(pw_about *about);
// Ban rules: what becomes of one member. `memory` has the bytes that `about` asked for; zeros for a new member.
pw_verdict judge_one(const pw_round *round, const pw_row *row, uint8_t *memory);
// Reward rules: what one member gets.
pw_pay pay_one(const pw_round *round, const pw_row *row, uint8_t *memory);

// Signing rules: 0 signs the record; what `pw_reason` returned refuses it, and its author reads that text.
uint16_t review_one(const pw_batch *batch, const pw_record *record);

// May be defined besides: is called before the members of a round, to look at all of them at once.
void before(const pw_round *round);
// May be defined besides, for reward rules; PW_USUAL_TARIFF if it is not.
pw_tariff tariff(void);

#endif
