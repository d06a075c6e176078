// The world `signing-policy`: from the contract's types to the rule and back.
#include <stdlib.h>

#include "internal.h"

typedef exports_pingward_policy_signing_description_t description_t;

bool exports_pingward_policy_signing_describe(policy_string_t *config, description_t *description,
                                              policy_string_t *error) {
    const char *wrong = pw_described(config, description);
    if (wrong) *error = pw_borrowed(wrong);
    return !wrong;
}

bool exports_pingward_policy_signing_review(policy_string_t *config,
                                            exports_pingward_policy_signing_list_record_t *records,
                                            exports_pingward_policy_signing_context_t *context,
                                            policy_list_u16_t *codes, policy_string_t *error) {
    pingward_policy_types_description_t description;
    // The codes are those that `about` gave out.
    const char *wrong = pw_described(config, &description);
    uint32_t n = (uint32_t)records->len;
    pw_batch batch = {
        .number = context->batch,
        .round = context->round,
        .ordered_ms = context->ordered_ms,
        .set_size = context->set_size,
        .records = n,
    };
    uint16_t *out = malloc(n * sizeof *out);
    for (uint32_t i = 0; i < n && !wrong; i++) {
        const exports_pingward_policy_signing_record_t *from = &records->ptr[i];
        if (from->author.len != 32 || from->digest.len != 32) wrong = "author and digest have 32 bytes";
        pw_record record = {
            .index = i,
            .sequence = from->sequence,
            .author = from->author.ptr,
            .digest = from->digest.ptr,
            .expires_ms = from->expires_ms,
            .body = from->body.ptr,
            .length = (uint32_t)from->body.len,
        };
        if (!wrong) out[i] = review_one(&batch, &record);
    }
    if (wrong) {
        *error = pw_borrowed(wrong);
        return false;
    }
    *codes = (policy_list_u16_t){out, n};
    return true;
}

bool pw_is_text(const pw_record *record) {
    const uint8_t *at = record->body, *end = at + record->length;
    while (at < end) {
        uint8_t first = *at++;
        if (first < 0x80) continue;
        // The second byte has bounds of its own: no character is written longer than it must be, none is half of a pair,
        // and none is beyond the last one.
        uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        int more = first >= 0xc2 && first <= 0xdf ? 1 : (first & 0xf0) == 0xe0 ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
        if (more == 0 || end - at < more || *at < low || *at > high) return false;
        for (at++; --more > 0; at++) {
            if ((*at & 0xc0) != 0x80) return false;
        }
    }
    return true;
}
