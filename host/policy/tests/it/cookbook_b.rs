//! Rules of the cookbook decide as components what their source says, over random rounds whose memory is carried on.

use kernel::decide::{Call, Judgement, Members, Policy, Reward, RoundInput, Slot, check_judgement, check_reward};
use kernel::id::Digest;
use policy::{Admitted, admit};
use proptest::prelude::*;

use crate::guests::{engine, limits};
use crate::native;

const LIDO_CSM: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/lido-csm.wasm");
const OXEN_CREDIT: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/oxen-credit.wasm");
const SOLANA_TVC: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/solana-tvc.wasm");
const TOR_FLAGS: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/tor-flags.wasm");

const MINUTE_MS: u64 = 60_000;

/// What is new of a member in a round: presence, round trip, and whether the host does as the policy says.
type Seen = (u8, u32, bool);

/// What is new in a round: minutes since the one before, suspect, and the members.
type Step = (u64, bool, Vec<Seen>);

/// What does not change of a member: age, class, network group, flags.
type Fixed = (u32, u32, u32, u32);

#[derive(Clone, Debug)]
struct History {
    members: Vec<Fixed>,
    /// What the first round finds in memory, over and over; a new member's is zero.
    found: Vec<u8>,
    steps: Vec<Step>,
}

fn history() -> impl Strategy<Value = History> {
    (1..24_usize).prop_flat_map(|population| {
        let seen = (
            prop_oneof![5 => Just(1_u8), 4 => Just(0), 1 => Just(2)],
            prop_oneof![Just(0), 1..2_000_000_u32, any::<u32>()],
            prop_oneof![3 => Just(true), 1 => Just(false)],
        );
        let step = (
            prop_oneof![9 => Just(10_u64), 1 => 1..3_000_u64],
            prop_oneof![9 => Just(false), 1 => Just(true)],
            prop::collection::vec(seen, population),
        );
        let members = prop::collection::vec((0..4_u32, 0..3_u32, 0..4_u32, 0..8_u32), population);
        let found = prop_oneof![3 => Just(vec![0]), 1 => prop::collection::vec(any::<u8>(), 1..97)];
        (members, found, prop::collection::vec(step, 1..40)).prop_map(|(members, found, steps)| History {
            members,
            found,
            steps,
        })
    })
}

/// The cluster between rounds.
struct Cluster {
    round: RoundInput,
    members: Members,
    memory: Vec<u8>,
}

impl Cluster {
    fn new(history: &History, memory_bytes: u32) -> Self {
        let population = history.members.len();
        Self {
            round: RoundInput {
                number: 1,
                now_ms: 1_767_225_600_000,
                elapsed_ms: 10 * MINUTE_MS,
                interval_ms: 10 * MINUTE_MS,
                population: population as u32,
                suspect: false,
                seed: Digest::of(b"cookbook"),
            },
            members: Members {
                presence: vec![1; population],
                facts: vec![0; population],
                rtt_us: vec![0; population],
                observers: vec![0x0101; population],
                age: history.members.iter().map(|member| member.0).collect(),
                standing: vec![0; population],
                strikes: vec![0; population],
                earned: vec![0; population],
                data: vec![0; population],
                class: history.members.iter().map(|member| member.1).collect(),
                group: history.members.iter().map(|member| member.2).collect(),
                flags: history.members.iter().map(|member| member.3).collect(),
                extra: Vec::new(),
            },
            memory: history.found.iter().copied().cycle().take(population * memory_bytes as usize).collect(),
        }
    }

    fn next(&mut self, step: &Step) {
        self.round.number += 1;
        self.round.elapsed_ms = step.0 * MINUTE_MS;
        self.round.now_ms += self.round.elapsed_ms;
        self.round.suspect = step.1;
        self.members.presence = step.2.iter().map(|seen| seen.0).collect();
        self.members.rtt_us = step.2.iter().map(|seen| seen.1).collect();
        self.members.age.iter_mut().for_each(|age| *age += 1);
    }

    fn call<'a>(&'a self, config: &'a str) -> Call<'a> {
        Call { config, round: &self.round, members: &self.members, memory: &self.memory }
    }

    /// Does what the policy wants; where the host does not, a ban is put off. A ban that is carried out is over at once.
    fn obey(&mut self, judged: Judgement, step: &Step) {
        for ((now, wanted), seen) in self.members.standing.iter_mut().zip(&judged.standing).zip(&step.2) {
            *now = match (*wanted, seen.2) {
                (3, true) => 4,
                (3, false) => 2,
                (0 | 1, _) if *now == 4 && seen.2 => 4,
                (wanted, _) => wanted,
            };
        }
        self.members.strikes = judged.strikes;
        self.memory = judged.memory;
    }
}

fn admitted(slot: Slot, component: &[u8], config: &str) -> Admitted {
    admit(engine(), slot, component, config, &limits()).unwrap()
}

fn judges_alike(
    component: &[u8],
    config: &str,
    history: &History,
    source: fn(&Call<'_>) -> Result<Judgement, String>,
) -> Result<(), TestCaseError> {
    let component = admitted(Slot::Ban, component, config);
    let mut cluster = Cluster::new(history, component.description.memory_bytes);
    for step in &history.steps {
        cluster.next(step);
        let call = cluster.call(config);
        let judged = component.policy.judge(&call).result.unwrap();
        check_judgement(&judged, history.members.len(), &component.description).unwrap();
        prop_assert_eq!(&judged, &source(&call).unwrap());
        cluster.obey(judged, step);
    }
    Ok(())
}

fn pays_alike(
    component: &[u8],
    config: &str,
    history: &History,
    source: fn(&Call<'_>) -> Result<Reward, String>,
) -> Result<(), TestCaseError> {
    let component = admitted(Slot::Reward, component, config);
    let mut cluster = Cluster::new(history, component.description.memory_bytes);
    for step in &history.steps {
        cluster.next(step);
        // Some are not paid.
        cluster.members.standing = step.2.iter().map(|seen| if seen.2 { 0 } else { 2 }).collect();
        let call = cluster.call(config);
        let settled = component.policy.reward(&call).result.unwrap();
        check_reward(&settled, history.members.len(), &component.description).unwrap();
        prop_assert_eq!(&settled, &source(&call).unwrap());
        cluster.memory = settled.memory;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn lido_csm_judges_as_its_source_does(
        history in history(),
        (frame, leeway, strikes, class) in (20..200_u32, 0..3_000_u32, 1..4_u32, 0..3_u32),
    ) {
        let config = format!(
            r#"{{"frame_minutes":{frame},"identified_class":{class},"leeway_bp":{leeway},"strikes":{strikes}}}"#
        );
        judges_alike(LIDO_CSM, &config, &history, native::judge::<lido_csm::FrameStrikes>)?;
    }

    #[test]
    fn oxen_credit_judges_as_its_source_does(
        history in history(),
        (start, least, proof) in (0..300_u32, 0..200_u32, 0..60_u32),
    ) {
        let config = format!(
            r#"{{"credit_minutes_per_day":700,"least_minutes":{least},"proof_minutes":{proof},"start_minutes":{start}}}"#
        );
        judges_alike(OXEN_CREDIT, &config, &history, native::judge::<oxen_credit::DowntimeCredit>)?;
    }

    #[test]
    fn solana_tvc_pays_as_its_source_does(
        history in history(),
        (grace, most, unit) in (1..9_u32, 1..30_u32, 1..200_000_u32),
    ) {
        let config = format!(r#"{{"grace":{grace},"most":{most},"unit_us":{unit}}}"#);
        pays_alike(SOLANA_TVC, &config, &history, native::settle::<solana_tvc::TimelyCredits>)?;
    }

    #[test]
    fn tor_flags_pays_as_its_source_does(
        history in history(),
        (running, step, stable, group) in (0..60_u32, 30..900_u32, 0..3_000_u32, 0..6_u32),
    ) {
        let config = format!(
            r#"{{"per_group":{group},"running_minutes":{running},"stable_minutes":{stable},"step_minutes":{step}}}"#
        );
        pays_alike(TOR_FLAGS, &config, &history, native::settle::<tor_flags::Flags>)?;
    }
}

/// What a member costs when everybody has a history, well below the limit of a new cluster.
#[test]
fn fuel_a_member_is_far_below_the_limit() {
    let steps = |population: usize| {
        let seen = |i: usize, round: usize| (u8::from(!(i * 7 + round).is_multiple_of(5)), 90_000 + i as u32, true);
        (0..6).map(|round| (3_000, false, (0..population).map(|i| seen(i, round)).collect())).collect()
    };
    let fuel = |slot, component: &[u8], population: usize| {
        let members = (0..population as u32).map(|i| (i, i % 3, i / 2, 0)).collect();
        let history = History { members, found: vec![0], steps: steps(population) };
        let component = admitted(slot, component, "{}");
        let mut cluster = Cluster::new(&history, component.description.memory_bytes);
        let mut last = 0;
        for step in &history.steps {
            cluster.next(step);
            let call = cluster.call("{}");
            (last, cluster.memory) = match slot {
                Slot::Ban => {
                    let run = component.policy.judge(&call);
                    (run.fuel, run.result.unwrap().memory)
                }
                Slot::Reward => {
                    let run = component.policy.reward(&call);
                    (run.fuel, run.result.unwrap().memory)
                }
                Slot::Signing => panic!("it decides no rounds"),
            };
        }
        last
    };
    let rules = [
        ("lido-csm", Slot::Ban, LIDO_CSM),
        ("oxen-credit", Slot::Ban, OXEN_CREDIT),
        ("solana-tvc", Slot::Reward, SOLANA_TVC),
        ("tor-flags", Slot::Reward, TOR_FLAGS),
    ];
    for (name, slot, component) in rules {
        let each = (fuel(slot, component, 1_500) - fuel(slot, component, 500)) / 1_000;
        println!("{name}: {each} fuel a member");
        assert!(each < 5_000, "{name}: {each} a member");
    }
}
