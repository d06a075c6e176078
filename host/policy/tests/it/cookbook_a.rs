//! Rules of the cookbook, first half: a component decides what its source says, over rounds that carry its memory.

use kernel::decide::{
    Call, Column, Description, LimitSettings, Members, Policy, RoundInput, Slot, check_judgement, check_reward,
};
use kernel::id::Digest;
use pingward_sdk::{BanPolicy, RewardPolicy};
use policy::{Admitted, admit};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::guests::engine;
use crate::native;

const NTP_POOL: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/ntp-pool.wasm");
pub const COSMOS_WINDOW: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/cosmos-window.wasm");
const STORJ_ONLINE: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/storj-online.wasm");
pub const RIPE_ATLAS: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/ripe-atlas.wasm");

const HUB: &str = r#"{"jail_secs":600,"min_signed_bp":500,"window":10000}"#;

/// What is seen of one member in one round.
#[derive(Clone, Debug)]
struct Seen {
    presence: u8,
    facts: u16,
    rtt_us: u32,
    class: u32,
    flags: u32,
    /// Two bits a seat.
    views: u16,
}

/// One round of some members.
#[derive(Clone, Debug)]
pub struct Played {
    seen: Vec<Seen>,
    suspect: bool,
    elapsed_ms: u64,
}

fn seen() -> impl Strategy<Value = Seen> {
    let presence = prop_oneof![3 => Just(1_u8), 2 => Just(0_u8), 1 => Just(2_u8)];
    let rtt_us = prop_oneof![Just(0_u32), 1..200_000_u32, any::<u32>()];
    (presence, any::<u16>(), rtt_us, 0..3_u32, 0..8_u32, any::<u16>()).prop_map(
        |(presence, facts, rtt_us, class, flags, views)| Seen { presence, facts, rtt_us, class, flags, views },
    )
}

/// Some rounds of the same members.
pub fn rounds() -> impl Strategy<Value = Vec<Played>> {
    (0..12_usize).prop_flat_map(|members| {
        let elapsed_ms = prop_oneof![6 => Just(10_000_u64), 1 => 0..200_000_u64];
        let round = (prop::collection::vec(seen(), members), prop::bool::weighted(0.1), elapsed_ms);
        let round = round.prop_map(|(seen, suspect, elapsed_ms)| Played { seen, suspect, elapsed_ms });
        prop::collection::vec(round, 1..80)
    })
}

pub fn admitted(slot: Slot, component: &[u8], config: &str) -> Admitted {
    let limits = LimitSettings { state_bytes: 4_096, ..crate::guests::limits() };
    admit(engine(), slot, component, config, &limits).unwrap()
}

/// What lives from round to round.
struct Cluster {
    now_ms: u64,
    number: u64,
    standing: Vec<u8>,
    strikes: Vec<u16>,
    memory: Vec<u8>,
}

impl Cluster {
    fn new(members: usize, description: &Description) -> Self {
        Self {
            now_ms: 1_767_225_600_000,
            number: 1,
            standing: vec![0; members],
            strikes: vec![0; members],
            memory: vec![0; members * description.memory_bytes as usize],
        }
    }

    fn round(&mut self, played: &Played) -> RoundInput {
        self.now_ms += played.elapsed_ms;
        self.number += 1;
        RoundInput {
            number: self.number,
            now_ms: self.now_ms,
            elapsed_ms: played.elapsed_ms,
            interval_ms: 10_000,
            population: played.seen.len() as u32,
            suspect: played.suspect,
            seed: Digest::of(b"cookbook"),
        }
    }

    fn columns(&self, seen: &[Seen], description: &Description) -> Members {
        let zeros = seen.len();
        let extra = description.extra.iter().map(|name| {
            let seat: u16 = name.split('.').nth(1).unwrap().parse().unwrap();
            let view = |seen: &Seen| i64::from(seen.views >> (2 * seat) & 3).min(2);
            let value = |seen: &Seen| if name.ends_with("presence") { view(seen) } else { seen.rtt_us.into() };
            Column { name: name.to_string(), values: seen.iter().map(value).collect() }
        });
        Members {
            presence: seen.iter().map(|seen| seen.presence).collect(),
            facts: seen.iter().map(|seen| seen.facts).collect(),
            rtt_us: seen.iter().map(|seen| seen.rtt_us).collect(),
            observers: vec![0x0101; zeros],
            age: vec![self.number as u32; zeros],
            standing: self.standing.clone(),
            strikes: self.strikes.clone(),
            earned: vec![0; zeros],
            data: vec![0; zeros],
            class: seen.iter().map(|seen| seen.class).collect(),
            group: vec![0; zeros],
            flags: seen.iter().map(|seen| seen.flags).collect(),
            extra: extra.collect(),
        }
    }
}

fn judges_as_its_source<P: BanPolicy>(component: &[u8], config: &str, rounds: &[Played]) -> Result<(), TestCaseError> {
    judges_as::<P>(&admitted(Slot::Ban, component, config), config, rounds)
}

/// Judges the rounds one after the other as the native rule does.
pub fn judges_as<P: BanPolicy>(component: &Admitted, config: &str, rounds: &[Played]) -> Result<(), TestCaseError> {
    let members = rounds.first().map_or(0, |played| played.seen.len());
    let mut cluster = Cluster::new(members, &component.description);
    for played in rounds {
        let round = cluster.round(played);
        let columns = cluster.columns(&played.seen, &component.description);
        let call = Call { config, round: &round, members: &columns, memory: &cluster.memory };
        let judged = component.policy.judge(&call).result.unwrap();
        check_judgement(&judged, members, &component.description).unwrap();
        prop_assert_eq!(&judged, &native::judge::<P>(&call).unwrap());
        (cluster.standing, cluster.strikes, cluster.memory) = (judged.standing, judged.strikes, judged.memory);
        // As the host does: who is back from a ban is on probation.
        cluster.standing.iter_mut().filter(|standing| **standing == 3).for_each(|standing| *standing = 4);
    }
    Ok(())
}

fn settles_as_its_source<P: RewardPolicy>(
    component: &[u8],
    config: &str,
    rounds: &[Played],
) -> Result<(), TestCaseError> {
    settles_as::<P>(&admitted(Slot::Reward, component, config), config, rounds)
}

/// Pays the rounds one after the other as the native rule does.
pub fn settles_as<P: RewardPolicy>(component: &Admitted, config: &str, rounds: &[Played]) -> Result<(), TestCaseError> {
    let members = rounds.first().map_or(0, |played| played.seen.len());
    let mut cluster = Cluster::new(members, &component.description);
    for played in rounds {
        let round = cluster.round(played);
        // Some are suspended in some rounds.
        cluster.standing = played.seen.iter().map(|seen| if seen.flags == 7 { 2 } else { 0 }).collect();
        let columns = cluster.columns(&played.seen, &component.description);
        let call = Call { config, round: &round, members: &columns, memory: &cluster.memory };
        let settled = component.policy.reward(&call).result.unwrap();
        check_reward(&settled, members, &component.description).unwrap();
        prop_assert_eq!(&settled, &native::settle::<P>(&call).unwrap());
        cluster.memory = settled.memory;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn ntp_pool_judges_as_its_source_does(
        rounds in rounds(),
        observers in 0..=8_u8,
        latency in 0..=100_u8,
        start in 0..=20_u8,
        slow in 0..60_u8,
    ) {
        let config = format!(
            r#"{{"latency_percent":{latency},"observers":{observers},"slow_probe_secs":{slow},"start":{start}}}"#
        );
        judges_as_its_source::<ntp_pool::NtpPool>(NTP_POOL, &config, &rounds)?;
    }

    #[test]
    fn cosmos_window_judges_as_its_source_does(
        rounds in rounds(),
        window in 1..30_u16,
        min_signed_bp in 0..=10_000_u16,
        jail_secs in 0..60_u8,
    ) {
        let config = format!(r#"{{"jail_secs":{jail_secs},"min_signed_bp":{min_signed_bp},"window":{window}}}"#);
        judges_as_its_source::<cosmos_window::Window>(COSMOS_WINDOW, &config, &rounds)?;
        judges_as_its_source::<cosmos_window::Window>(COSMOS_WINDOW, HUB, &rounds)?;
    }

    #[test]
    fn storj_online_judges_as_its_source_does(
        rounds in rounds(),
        windows in 1..6_u16,
        online_bp in 0..=10_000_u16,
        grace_secs in 0..300_u16,
        disqualify: bool,
    ) {
        let config = format!(
            r#"{{"disqualify":{disqualify},"grace_secs":{grace_secs},"online_bp":{online_bp},"window_secs":60,"windows":{windows}}}"#
        );
        judges_as_its_source::<storj_online::Online>(STORJ_ONLINE, &config, &rounds)?;
        judges_as_its_source::<storj_online::Online>(STORJ_ONLINE, "{}", &rounds)?;
    }

    #[test]
    fn ripe_atlas_pays_as_its_source_does(
        rounds in rounds(),
        per_minute in prop::sample::select(vec![0_u64, 1, 15, 600]),
        post_secs in prop::sample::select(vec![0_u64, 10, 60, 300]),
    ) {
        let config = format!(r#"{{"credits_per_minute":{per_minute},"post_secs":{post_secs}}}"#);
        settles_as_its_source::<ripe_atlas::Credits>(RIPE_ATLAS, &config, &rounds)?;
    }
}

/// Fuel that one member costs that missed every second of so many rounds a minute apart: the difference between two
/// populations of its like.
fn fuel_each(slot: Slot, component: &[u8], config: &str, rounds: u64) -> u64 {
    let component = admitted(slot, component, config);
    let play = |cluster: &mut Cluster, presence: u8, population: usize| {
        let seen = Seen { presence, facts: 0, rtt_us: 9_000, class: 1, flags: 0, views: presence.into() };
        let played = Played { seen: vec![seen; population], suspect: false, elapsed_ms: 60_000 };
        let round = cluster.round(&played);
        let columns = cluster.columns(&played.seen, &component.description);
        let call = Call { config, round: &round, members: &columns, memory: &cluster.memory };
        match slot {
            Slot::Reward => {
                let run = component.policy.reward(&call);
                cluster.memory = run.result.unwrap().memory;
                run.fuel
            }
            Slot::Ban => {
                let run = component.policy.judge(&call);
                let judged = run.result.unwrap();
                (cluster.standing, cluster.strikes, cluster.memory) = (judged.standing, judged.strikes, judged.memory);
                run.fuel
            }
            Slot::Signing => panic!("it decides no rounds"),
        }
    };
    let mut one = Cluster::new(1, &component.description);
    for round in 0..rounds {
        play(&mut one, (round % 2) as u8, 1);
    }
    let fuel = |population: usize| {
        let mut many = Cluster::new(population, &component.description);
        (many.now_ms, many.number) = (one.now_ms, one.number);
        (many.standing, many.memory) = (one.standing.repeat(population), one.memory.repeat(population));
        play(&mut many, 0, population)
    };
    (fuel(1_500) - fuel(500)) / 1_000
}

#[test]
fn a_member_costs_far_less_fuel_than_its_share_of_20000() {
    // Name, component, config; how many rounds before, and the most that it may cost.
    let ban: [(&str, &[u8], &str, u64, u64); 6] = [
        ("ntp-pool", NTP_POOL, "{}", 30, 4_000),
        ("ntp-pool, 8 observers", NTP_POOL, r#"{"observers":8}"#, 30, 8_000),
        ("cosmos-window", COSMOS_WINDOW, "{}", 120, 2_000),
        ("cosmos-window, hub", COSMOS_WINDOW, HUB, 120, 2_000),
        ("storj-online", STORJ_ONLINE, r#"{"window_secs":60}"#, 62, 4_000),
        ("storj-online, most windows", STORJ_ONLINE, r#"{"window_secs":60,"windows":360}"#, 362, 20_000),
    ];
    for (name, component, config, rounds, most) in ban {
        let each = fuel_each(Slot::Ban, component, config, rounds);
        assert!((1..most).contains(&each), "{name}: {each} a member");
    }
    let each = fuel_each(Slot::Reward, RIPE_ATLAS, "{}", 5);
    assert!((1..1_000).contains(&each), "ripe-atlas: {each} a member");
}
