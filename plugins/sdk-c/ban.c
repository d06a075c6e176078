// The world `ban-policy`: from the contract's types to the rule and back.
#include <stdlib.h>

#include "internal.h"

typedef exports_pingward_policy_ban_description_t description_t;
typedef exports_pingward_policy_ban_judgement_t judgement_t;

bool exports_pingward_policy_ban_describe(policy_string_t *config, description_t *description, policy_string_t *error) {
    const char *wrong = pw_described(config, description);
    if (wrong) *error = pw_borrowed(wrong);
    return !wrong;
}

bool exports_pingward_policy_ban_judge(policy_string_t *config, exports_pingward_policy_ban_round_t *asked,
                                       exports_pingward_policy_ban_members_t *members, policy_list_u8_t *memory,
                                       judgement_t *judgement, policy_string_t *error) {
    pw_round round;
    uint32_t memory_bytes;
    const char *wrong = pw_configured(config);
    if (!wrong) wrong = pw_begun(asked, members, memory, &round, &memory_bytes);
    if (wrong) {
        *error = pw_borrowed(wrong);
        return false;
    }
    uint32_t n = round.population;
    uint8_t *standing = malloc(n);
    uint16_t *strikes = malloc(n * sizeof *strikes), *reasons = malloc(n * sizeof *reasons);
    uint32_t *until = malloc(n * sizeof *until);
    for (uint32_t i = 0; i < n; i++) {
        pw_row row = pw_row_at(&round, i);
        pw_verdict verdict = judge_one(&round, &row, memory->ptr + (size_t)i * memory_bytes);
        standing[i] = verdict.standing == PW_PROBATION ? PW_GOOD : (uint8_t)verdict.standing;
        strikes[i] = verdict.strikes;
        until[i] = verdict.until;
        reasons[i] = verdict.reason;
    }
    *judgement = (judgement_t){
        .strikes = {strikes, n},
        .standing = {standing, n},
        .until = {until, n},
        .reasons = {reasons, n},
        .memory = *memory,
    };
    return true;
}
