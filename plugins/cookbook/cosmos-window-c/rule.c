// Cosmos' signing window: the last so many rounds as bits, and how many of them were missed. More than the limit, once
// a whole window has been seen, suspends for a time; after that the member must ask to come back, and starts anew.
//
// The same as ../cosmos-window, which says more of it: config, decisions, reasons and memory are equal, so that one may
// take over from the other on a live network.

#include <string.h>

#include "pingward.h"

// What the config says.
static uint16_t window, missed_max;
static uint32_t jail_secs;

// Reason codes.
static uint16_t missed, too_many, waits, may_ask, back, unknown;

// The fixed part of a member's memory; a bit for each round of the window, 1 = missed, follows it.
typedef struct {
    uint16_t index;      // where the next round's bit goes
    uint16_t missed;     // bits that are set
    uint32_t counted;    // rounds since the start
    uint32_t until_secs; // seconds since 1970 from which it may come back; 0 = it is not suspended
} head;

enum { HEAD = 12 };

static head read_head(const uint8_t *memory) {
    return (head){pw_get16(memory), pw_get16(memory + 2), pw_get32(memory + 4), pw_get32(memory + 8)};
}

static void write_head(uint8_t *memory, head head) {
    pw_put16(memory, head.index), pw_put16(memory + 2, head.missed);
    pw_put32(memory + 4, head.counted), pw_put32(memory + 8, head.until_secs);
}

static uint32_t ring_bytes(void) { return ((uint32_t)window + 7) / 8; }

void configure(pw_config *config) {
    uint64_t rounds = pw_integer(config, "window", 100, 1, 32672);
    uint64_t min_signed_bp = pw_integer(config, "min_signed_bp", 5000, 0, 10000);
    jail_secs = (uint32_t)pw_integer(config, "jail_secs", 600, 0, 31536000);
    // Rounded to the nearest, as there.
    uint64_t min_signed = (rounds * min_signed_bp + 5000) / 10000;
    window = (uint16_t)rounds;
    missed_max = (uint16_t)(rounds - min_signed);
}

void about(pw_about *about) {
    pw_memory(about, HEAD + ring_bytes(), pw_text("cosmos-window/1/%u", (unsigned)window));
    missed = pw_reason(about, "missed; strikes are the misses among the last %u rounds, %u are allowed",
                       (unsigned)window, (unsigned)missed_max);
    too_many = pw_reason(about, "missed more than %u of the last %u rounds: suspended for %u s", (unsigned)missed_max,
                         (unsigned)window, (unsigned)jail_secs);
    waits = pw_reason(about, "is suspended; may ask to return when the time is over");
    may_ask = pw_reason(about, "is suspended; the time is over, it may ask to return");
    back = pw_reason(about, "asked to return: starts with an empty window");
    unknown = pw_reason(about, "was not observed: nothing moves");
}

// Rounds until a time; 0 when it is over: a follower asks to return once nothing is said of an earliest return.
static uint32_t rounds_until(const pw_round *round, uint32_t until_secs, uint64_t now) {
    if (until_secs <= now) return 0;
    uint64_t interval_ms = round->interval_ms ? round->interval_ms : 1;
    uint64_t rounds = ((until_secs - now) * 1000 + interval_ms - 1) / interval_ms;
    return rounds < UINT32_MAX ? (uint32_t)rounds : UINT32_MAX;
}

// It comes back when its time is over and it asks.
static pw_verdict suspended(const pw_round *round, const pw_row *row, head *head, uint64_t now) {
    pw_verdict verdict = {.standing = PW_SUSPENDED};
    if (now < head->until_secs) {
        verdict.until = rounds_until(round, head->until_secs, now);
        verdict.reason = waits;
    } else if (row->flags & PW_FLAG_ASKED_TO_RETURN) {
        memset(head, 0, sizeof *head);
        verdict = (pw_verdict){.standing = PW_GOOD, .reason = back};
    } else {
        verdict.reason = may_ask;
    }
    return verdict;
}

// Puts a round's bit in place of the oldest one.
static void count(bool is_missed, head *head, uint8_t *ring) {
    // Memory comes back as it was given; a byte behind the ring would be another member's all the same.
    if (head->index >= window) return;
    uint8_t *byte = &ring[head->index / 8], bit = (uint8_t)(1u << (head->index % 8));
    if (*byte & bit && head->missed) head->missed--;
    if (is_missed) head->missed++;
    *byte = is_missed ? *byte | bit : *byte & (uint8_t)~bit;
    head->index = head->index + 1 < window ? head->index + 1 : 0;
    if (head->counted < UINT32_MAX) head->counted++;
}

// What becomes of one member after one round.
static pw_verdict judge(const pw_round *round, const pw_row *row, head *head, uint8_t *ring) {
    uint64_t now = round->now_ms / 1000;
    if (round->suspect || row->presence == PW_UNKNOWN) {
        pw_verdict verdict = pw_stay(row);
        verdict.until = rounds_until(round, head->until_secs, now);
        verdict.reason = unknown;
        return verdict;
    }
    if (head->until_secs) return suspended(round, row, head, now);
    bool is_missed = row->presence == PW_DOWN;
    count(is_missed, head, ring);
    if (head->counted > window && head->missed > missed_max) {
        uint64_t until = now + jail_secs;
        memset(head, 0, sizeof *head);
        memset(ring, 0, ring_bytes());
        head->until_secs = until < 1 ? 1 : until < UINT32_MAX ? (uint32_t)until : UINT32_MAX;
        return (pw_verdict){
            .standing = PW_SUSPENDED, .until = rounds_until(round, head->until_secs, now), .reason = too_many};
    }
    return (pw_verdict){.standing = PW_GOOD, .strikes = head->missed, .reason = is_missed ? missed : 0};
}

pw_verdict judge_one(const pw_round *round, const pw_row *row, uint8_t *memory) {
    head head = read_head(memory);
    pw_verdict verdict = judge(round, row, &head, memory + HEAD);
    write_head(memory, head);
    return verdict;
}
