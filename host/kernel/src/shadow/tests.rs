use alloc::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::command::{Answer, Leave, Operator};
use crate::decide::{Call, Description, FaultKind, Judgement, Policy, Reward, Run};
use crate::policies::{Shadowed, inflate_delta};
use crate::round::{Presence, cause, fixture};
use crate::scripts::rules::{Row, Rule};
use crate::scripts::world::{Seen, World, node, policy};
use crate::settings::Settings;

/// A rule of the scripts as a policy.
struct Native {
    rule: Rule,
    description: Description,
}

impl Native {
    fn of(name: &str) -> Self {
        let rule = Rule::parse(name);
        Self { description: rule.description(), rule }
    }

    fn ask<A, T>(
        &self,
        call: &Call<'_>,
        ask: impl Fn(&[Row<'_>]) -> Answer<A>,
        make: impl Fn(A, &dyn Fn(&[u8]) -> Vec<u8>) -> T,
    ) -> Run<T> {
        let columns = call.members;
        let bytes = self.description.memory_bytes as usize;
        let member = |strikes: &u16| {
            let mut member = Member::new(fixture::profile(0));
            member.hot.strikes = *strikes;
            member
        };
        let members: Vec<Member> = columns.strikes.iter().map(member).collect();
        let rows: Vec<Row<'_>> = members
            .iter()
            .enumerate()
            .map(|(at, member)| Row {
                member,
                presence: Presence::from_code(columns.presence[at]),
                memory: &call.memory[at * bytes..(at + 1) * bytes],
            })
            .collect();
        let after = |delta: &[u8]| {
            let change = inflate_delta(delta, call.memory.len()).unwrap();
            call.memory.iter().zip(change).map(|(before, change)| before ^ change).collect()
        };
        let result = match ask(&rows) {
            Answer::Columns(columns) => Ok(make(columns, &after)),
            Answer::Fault(fault) => Err(fault),
            Answer::NotCalled => Err(Fault::new(FaultKind::Trap, "not called")),
        };
        Run { result, fuel: 1, log: Vec::new() }
    }
}

impl Policy for Native {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        self.ask(
            call,
            |rows| self.rule.reward(rows),
            |columns, after| Reward {
                memory: after(&columns.delta),
                points: columns.points,
                reasons: columns.reasons,
                tariff: columns.tariff,
            },
        )
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        self.ask(
            call,
            |rows| self.rule.judge(rows),
            |columns, after| Judgement {
                memory: after(&columns.delta),
                strikes: columns.strikes,
                standing: columns.standing,
                until: columns.until,
                reasons: columns.reasons,
            },
        )
    }
}

/// A cluster whose log a shadow follows.
struct Both {
    world: World,
    shadow: Shadow,
    rules: BTreeMap<Digest, Native>,
    index: LogIndex,
}

impl Both {
    /// A cluster of these rules with members A to J, all up once, and the shadow of another rule from there on.
    fn new(rules: &[&str], shadowed: &str, more: &[(&str, &str)]) -> Self {
        let mut settings = Settings::default();
        for (key, value) in [("guardrails.moves_bp", "10000"), ("guardrails.bans_round_bp", "10000")].iter().chain(more)
        {
            settings.put(key, value).unwrap();
        }
        let mut world = World::found(settings, rules);
        for name in ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"] {
            let join = world.join(name);
            world.apply(Command::Join(join));
        }
        world.settle(&Seen::default());
        world.settle(&Seen::default());
        world.stage(shadowed, true);
        let digest = policy(shadowed);
        let slot = Rule::parse(shadowed).slot();
        let shadow = Shadow::begin(world.state.clone(), slot, digest, &world.state.policies[&digest]);
        let rules = rules.iter().chain([&shadowed]).map(|rule| (policy(rule), Native::of(rule))).collect();
        Self { index: world.state.meta.applied, world, shadow, rules }
    }

    fn apply(&mut self, command: Command) -> Option<Round> {
        self.world.apply(command.clone());
        self.index = LogIndex(self.index.0 + 1);
        let rules = &self.rules;
        let find =
            |policy: Option<Digest>| policy.and_then(|policy| rules.get(&policy)).map(|rule| rule as &dyn Policy);
        self.shadow.follow(self.index, &command, &mut |deciding| {
            let (ban, reward) = deciding.policies();
            deciding.run(find(ban), find(reward), "native").0
        })
    }

    fn round(&mut self, down: &[&str]) -> Round {
        self.seen(&Seen { down: down.iter().map(|name| node(name)).collect(), ..Seen::default() })
    }

    fn seen(&mut self, seen: &Seen) -> Round {
        self.world.now_ms += self.world.state.meta.settings.interval_ms;
        let settle = self.world.settlement(seen);
        self.apply(Command::Settle(Box::new(settle))).unwrap()
    }

    fn operate(&mut self, what: Operation) {
        let operate = Operate { by: Operator::Socket, reason: "why".into(), now_ms: self.world.now_ms, what };
        assert_eq!(self.apply(Command::Operate(operate)), None);
    }

    fn stands(&self, name: &str) -> (Standing, Standing) {
        let of = |state: &State| state.members[&node(name)].hot.standing;
        (of(&self.shadow.real), of(&self.shadow.own))
    }
}

#[test]
fn a_shadow_of_the_policy_that_decides_differs_in_nothing() {
    let mut both = Both::new(&["flat:10", "strikes:1,2,4,5"], "strikes:1,2,4,5", &[]);
    let names = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"];
    let mut draw = 7_u64;
    let mut put_out = 0;
    for _ in 0..300 {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = draw >> 33;
        let down: BTreeSet<_> =
            names.iter().enumerate().filter(|(at, _)| bits >> at & 3 == 3).map(|(_, n)| node(n)).collect();
        let causes = if bits.is_multiple_of(17) { cause::LAG } else { 0 };
        let now_ms = both.world.now_ms;
        let name = names[(bits >> 20) as usize % names.len()];
        match bits >> 16 & 7 {
            0 => drop(both.apply(Command::Leave(Leave { node: node(name), now_ms }))),
            1 => {
                let amount = Amount::Exactly(1 + (bits & 63));
                let claim = Claim {
                    node: node(name),
                    sequence: bits,
                    expires_ms: now_ms + 1_000,
                    amount,
                    to: node(name),
                    digest: Digest::of(&bits.to_le_bytes()),
                    now_ms,
                };
                both.apply(Command::Claim(claim));
            }
            2 => both.operate(Operation::LiftNodes(vec![node(name)])),
            _ => drop(both.apply(Command::Join(both.world.join(name)))),
        }
        let round = both.seen(&Seen { down, causes, ..Seen::default() });
        assert_eq!((round.paid_otherwise, round.placed_otherwise), (0, 0), "{round:?}");
        assert_eq!(both.shadow.real, both.world.state, "the log is followed to the byte");
        assert_eq!(both.shadow.own.members, both.world.state.members);
        assert_eq!(both.shadow.own.slots[1].memory, both.world.state.slots[1].memory);
        put_out = both.shadow.tally.own.banned;
    }
    assert!(put_out > 5, "{put_out} bans");
    let tally = both.shadow.tally();
    assert_eq!((tally.rounds, tally.real, tally.members_otherwise, tally.first), (300, tally.own, 0, None));
}

#[test]
fn what_is_decided_is_the_same_to_the_byte_with_a_shadow_and_without() {
    let mut both = Both::new(&["flat:10", "strikes:1,2,4,5"], "lenient", &[]);
    both.round(&["A", "B"]);
    let without = both.world.state.clone();
    let mut with = without.clone();
    let shadow = Shadowed { policy: policy("lenient"), since: LogIndex(1), round: RoundId(1) };
    with.slot_mut(Slot::Ban).row.shadow = Some(shadow);
    let report = both.world.settlement(&Seen { down: [node("A")].into(), ..Seen::default() }).report;
    let find =
        |policy: Option<Digest>| policy.and_then(|policy| both.rules.get(&policy)).map(|rule| rule as &dyn Policy);
    let made = [without, with].map(|state| {
        let deciding = Deciding::gather(&state, report.clone(), Vec::new(), 7);
        let (ban, reward) = deciding.policies();
        minicbor::to_vec(deciding.run(find(ban), find(reward), "native").0).unwrap()
    });
    assert!(made[0] == made[1] && made[0].len() > 100);
}

#[test]
fn a_stricter_rule_bans_whom_the_active_one_only_warns() {
    let mut both =
        Both::new(&["flat:10", "strikes:1,5,9,9"], "strikes:1,2,3,4", &[("guardrails.probation_rounds", "2")]);
    let nothing = both.round(&[]);
    assert_eq!((nothing.paid_otherwise, nothing.placed_otherwise, nothing.real_points), (0, 0, Points(100)));
    both.round(&["A"]);
    assert_eq!(both.stands("A"), (Standing::Warned, Standing::Warned));
    let first = both.round(&["A"]);
    assert_eq!(both.stands("A"), (Standing::Warned, Standing::Suspended));
    assert_eq!((first.placed_otherwise, both.shadow.tally().first), (1, Some(first.round)));
    let banned = both.round(&["A"]);
    assert_eq!(both.stands("A"), (Standing::Warned, Standing::Banned));
    // It is there for real, and would not be paid while its ban lasts: 4 rounds.
    for _ in 0..4 {
        let round = both.round(&[]);
        assert_eq!((round.paid_otherwise, round.own_points), (1, Points(90)));
    }
    // Up after its ban: it attaches, and is in the queue from the next round on.
    let back = both.round(&[]);
    assert_eq!(back.round, RoundId(banned.round.0 + 5));
    assert_eq!(both.stands("A").1, Standing::Probation);
    assert_eq!(both.round(&[]).own_points, Points(100));
    both.round(&[]);
    assert_eq!(both.stands("A"), (Standing::Good, Standing::Good), "{:?}", both.shadow.tally());
    let tally = both.shadow.tally();
    assert_eq!((tally.own.banned, tally.real.banned, tally.members_otherwise), (1, 0, 1));
    let differs = &tally.members[&node("A")];
    assert_eq!((differs.first, differs.real_points, differs.own_points), (first.round, Points(70), Points(20)));
}

#[test]
fn of_a_member_that_is_out_for_real_the_shadow_knows_nothing() {
    let mut both = Both::new(&["flat:10", "strikes:1,2,3,4"], "lenient", &[]);
    for _ in 0..3 {
        both.round(&["B"]);
    }
    assert_eq!(both.stands("B"), (Standing::Banned, Standing::Good));
    let round = both.round(&[]);
    assert_eq!((round.own_points, round.placed_otherwise), (Points(90), 1));
    assert_eq!(both.shadow.own.members[&node("B")].hot.presence, Presence::Unknown);
    assert!(both.shadow.own.members[&node("B")].hot.place.is_queued());
    let lines = both.shadow.tally();
    assert_eq!((lines.real.banned, lines.own.banned), (1, 0));
}

#[test]
fn what_an_operator_decides_about_the_slot_leaves_the_shadow_as_it_is() {
    let mut both = Both::new(&["flat:10", "lenient"], "strikes:1,2,3,4", &[]);
    both.operate(Operation::Shadow { slot: Slot::Ban, policy: Some(policy("strikes:1,2,3,4")) });
    both.world.stage("tyrant:3", true);
    both.index = both.world.state.meta.applied;
    // The log that staged it was not followed; what follows is about the slot only.
    both.shadow.real = both.world.state.clone();
    both.operate(Operation::Activate { slot: Slot::Ban, policy: policy("tyrant:3"), round: None });
    both.operate(Operation::Rollback(Slot::Ban));
    both.round(&["C"]);
    assert_eq!(both.shadow.policies().nth(1), Some(policy("strikes:1,2,3,4")));
    assert_eq!(both.stands("C"), (Standing::Good, Standing::Warned));
}

#[test]
fn a_shadow_that_fails_three_times_ends_as_it_would_have_ended() {
    let mut both = Both::new(&["flat:10", "lenient"], "broken-ban", &[]);
    for rounds in 1..=2 {
        assert!(both.round(&["A"]).fault.is_some());
        assert_eq!((both.shadow.tally().own.faults, both.shadow.tally().returned), (rounds, None));
    }
    let last = both.round(&[]);
    assert_eq!(both.shadow.tally().returned, Some(last.round));
    let settle = both.world.settlement(&Seen::default());
    let tally = both.shadow.tally().clone();
    assert_eq!(both.apply(Command::Settle(Box::new(settle))), None);
    assert_eq!(*both.shadow.tally(), tally);
}

#[test]
fn a_reward_rule_is_shadowed_on_points_alone() {
    let mut both = Both::new(&["flat:10", "strikes:1,2,3,4"], "all:3", &[]);
    let round = both.round(&["A", "B"]);
    assert_eq!((round.real_points, round.own_points, round.paid_otherwise), (Points(80), Points(30), 10));
    // A claim of more than the shadow's member has takes what it has.
    let now_ms = both.world.now_ms;
    let claim = Claim {
        node: node("C"),
        sequence: 1,
        expires_ms: now_ms + 1,
        amount: Amount::Exactly(20),
        to: node("C"),
        digest: Digest::of(b"claim"),
        now_ms,
    };
    both.apply(Command::Claim(claim));
    assert_eq!(both.shadow.own.members[&node("C")].hot.penalties, Points::ZERO);
    assert_eq!((both.shadow.own.sum(), both.shadow.real.sum()), (0, 0));
}
