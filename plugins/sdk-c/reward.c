// The world `reward-policy`: from the contract's types to the rule and back.
#include <stdlib.h>

#include "internal.h"

typedef exports_pingward_policy_reward_description_t description_t;
typedef exports_pingward_policy_reward_settlement_t settlement_t;

__attribute__((weak)) pw_tariff tariff(void) { return PW_USUAL_TARIFF; }

bool exports_pingward_policy_reward_describe(policy_string_t *config, description_t *description,
                                             policy_string_t *error) {
    const char *wrong = pw_described(config, description);
    if (wrong) *error = pw_borrowed(wrong);
    return !wrong;
}

bool exports_pingward_policy_reward_settle(policy_string_t *config, exports_pingward_policy_reward_round_t *asked,
                                           exports_pingward_policy_reward_members_t *members,
                                           policy_list_u8_t *memory, settlement_t *settlement, policy_string_t *error) {
    pw_round round;
    uint32_t memory_bytes;
    const char *wrong = pw_configured(config);
    if (!wrong) wrong = pw_begun(asked, members, memory, &round, &memory_bytes);
    if (wrong) {
        *error = pw_borrowed(wrong);
        return false;
    }
    uint32_t n = round.population;
    int64_t *points = malloc(n * sizeof *points);
    uint16_t *reasons = malloc(n * sizeof *reasons);
    for (uint32_t i = 0; i < n; i++) {
        pw_row row = pw_row_at(&round, i);
        pw_pay pay = pay_one(&round, &row, memory->ptr + (size_t)i * memory_bytes);
        points[i] = pay.points;
        reasons[i] = pay.reason;
    }
    pw_tariff now = tariff();
    *settlement = (settlement_t){
        .points = {points, n},
        .reasons = {reasons, n},
        .memory = *memory,
        .tariff = {now.overclaim_bp, now.overclaim_min, now.record_fee, now.record_fee_kib},
    };
    return true;
}
