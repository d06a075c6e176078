//! A component decides what its source says, over random rounds and configs.

use kernel::decide::{Call, Members, Policy, RoundInput, Slot, check_judgement, check_reward};
use kernel::id::Digest;
use policy::{Admitted, admit};
use proptest::prelude::*;

use crate::guests::{BAN_STRIKES, REWARD_FLAT, engine};
use crate::native;

type Row = ((u8, u16, u32, u16, u32), (u8, u16, u64, u64), (u32, u32, u32));

fn row() -> impl Strategy<Value = Row> {
    (
        (0..3_u8, any::<u16>(), any::<u32>(), any::<u16>(), prop_oneof![0..20_u32, any::<u32>()]),
        (0..5_u8, prop_oneof![0..8_u16, any::<u16>()], any::<u64>(), any::<u64>()),
        (any::<u32>(), any::<u32>(), 0..8_u32),
    )
}

fn columns(rows: &[Row]) -> Members {
    Members {
        presence: rows.iter().map(|row| row.0.0).collect(),
        facts: rows.iter().map(|row| row.0.1).collect(),
        rtt_us: rows.iter().map(|row| row.0.2).collect(),
        observers: rows.iter().map(|row| row.0.3).collect(),
        age: rows.iter().map(|row| row.0.4).collect(),
        standing: rows.iter().map(|row| row.1.0).collect(),
        strikes: rows.iter().map(|row| row.1.1).collect(),
        earned: rows.iter().map(|row| row.1.2).collect(),
        data: rows.iter().map(|row| row.1.3).collect(),
        class: rows.iter().map(|row| row.2.0).collect(),
        group: rows.iter().map(|row| row.2.1).collect(),
        flags: rows.iter().map(|row| row.2.2).collect(),
        extra: Vec::new(),
    }
}

fn round(population: usize, suspect: bool) -> RoundInput {
    RoundInput {
        number: 7,
        now_ms: 1_767_225_600_000,
        elapsed_ms: 10_000,
        interval_ms: 10_000,
        population: population as u32,
        suspect,
        seed: Digest::of(b"twins"),
    }
}

fn admitted(slot: Slot, component: &[u8], config: &str) -> Admitted {
    admit(engine(), slot, component, config, &crate::guests::limits()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn ban_strikes_judges_as_its_source_does(
        rounds in prop::collection::vec((prop::collection::vec(row(), 0..60), any::<bool>()), 1..8),
        limits in (1..4_u16, 0..3_u16, 0..3_u16, 1..100_u32),
    ) {
        let (warn, suspend, ban) = (limits.0, limits.0 + limits.1, limits.0 + limits.1 + limits.2);
        let config = format!(r#"{{"ban":{ban},"ban_rounds":{},"suspend":{suspend},"warn":{warn}}}"#, limits.3);
        let component = admitted(Slot::Ban, BAN_STRIKES, &config);
        for (rows, suspect) in rounds {
            let (round, members) = (round(rows.len(), suspect), columns(&rows));
            let call = Call { config: &config, round: &round, members: &members, memory: &[] };
            let judged = component.policy.judge(&call).result.unwrap();
            check_judgement(&judged, rows.len(), &component.description).unwrap();
            prop_assert_eq!(judged, native::judge::<ban_strikes::Strikes>(&call).unwrap());
        }
    }

    #[test]
    fn reward_flat_pays_as_its_source_does(
        rows in prop::collection::vec(row(), 0..200),
        points in 0..1_000_u32,
        age in 0..20_u32,
        suspect: bool,
    ) {
        let config = format!(r#"{{"min_age_rounds":{age},"points_per_round":{points}}}"#);
        let component = admitted(Slot::Reward, REWARD_FLAT, &config);
        let (round, members) = (round(rows.len(), suspect), columns(&rows));
        let call = Call { config: &config, round: &round, members: &members, memory: &[] };
        let settled = component.policy.reward(&call).result.unwrap();
        check_reward(&settled, rows.len(), &component.description).unwrap();
        prop_assert_eq!(settled, native::settle::<reward_flat::Flat>(&call).unwrap());
    }
}

#[test]
fn a_history_of_one_member_goes_as_the_config_says() {
    let config = r#"{"ban":4,"ban_rounds":5,"suspend":2,"warn":1}"#;
    let component = admitted(Slot::Ban, BAN_STRIKES, config);
    let (mut standing, mut strikes) = (0, 0);
    let mut seen = Vec::new();
    for presence in [1, 0, 0, 2, 0, 0] {
        let row = ((presence, 0, 0, 0, 9), (standing, strikes, 0, 0), (0, 0, 0));
        let members = columns(&[row]);
        let call = Call { config, round: &round(1, false), members: &members, memory: &[] };
        let judged = component.policy.judge(&call).result.unwrap();
        (standing, strikes) = (judged.standing[0], judged.strikes[0]);
        seen.push((standing, strikes, judged.until[0]));
    }
    assert_eq!(seen, [(0, 0, 0), (1, 1, 0), (2, 2, 1), (2, 2, 1), (2, 3, 1), (3, 4, 5)]);
}

#[test]
fn fuel_is_the_same_in_every_run_and_grows_with_the_population() {
    let component = admitted(Slot::Ban, BAN_STRIKES, "{}");
    let fuel = |population: usize| {
        let rows = vec![((0, 2, 0, 256, 9), (0, 1, 5, 6), (0, 3, 0)); population];
        let (round, members) = (round(population, false), columns(&rows));
        let call = Call { config: "{}", round: &round, members: &members, memory: &[] };
        component.policy.judge(&call).fuel
    };
    assert_eq!(fuel(500), fuel(500));
    let each = (fuel(1_500) - fuel(500)) / 1_000;
    assert!((1..2_000).contains(&each), "{each} a member");
}
