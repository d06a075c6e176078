// A signing rule to start from: a body of at most `limit` bytes of text is signed, and anything else is refused.
//
// Change `review_one`, and cases.toml, which says what must come out. `pingward policy build .` makes the component.

#include "pingward.h"

// What the config says.
static uint32_t limit;

// Reason codes.
static uint16_t too_long, no_text;

void configure(pw_config *config) { limit = (uint32_t)pw_integer(config, "limit", 1000, 1, 65536); }

void about(pw_about *about) {
    too_long = pw_reason(about, "the body has more than %u bytes", (unsigned)limit);
    no_text = pw_reason(about, "the body is no text");
}

// Signs one record, or says why not; its author reads these words.
uint16_t review_one(const pw_batch *batch, const pw_record *record) {
    (void)batch;
    if (record->length > limit) return too_long;
    if (!pw_is_text(record)) return no_text;
    return 0;
}
