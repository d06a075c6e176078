//! A wrong policy is taken back and what it did is made good: afterwards it is as if it had never been, to the point.

use std::collections::BTreeSet;

use super::rules::Rule;
use super::world::{Seen, World, node, policy};
use crate::command::{Command, Compensation, Operation};
use crate::decide::Slot;
use crate::id::{NodeId, RoundId};
use crate::outcome::Write;
use crate::settings::Settings;
use crate::standing::Standing;
use crate::state::State;
use crate::units::Points;

const RULES: [&str; 2] = ["flat:10", "strikes:1,2,4,5"];
/// Members of the clusters.
const MEMBERS: u8 = 40;
/// The round after which the wrong policy is activated.
const WRONG: u64 = 100;
/// Rounds in all.
const ROUNDS: u64 = 140;

/// Two clusters that see the same; one of them has a wrong policy for a while.
struct Twins {
    right: World,
    wrong: World,
    /// What the right one paid since the wrong policy came in, and the wrong one did not.
    owed: Vec<(NodeId, RoundId, i64)>,
}

fn all() -> Vec<NodeId> {
    (0..MEMBERS).map(|number| node(&format!("N{number:02}"))).collect()
}

fn founded() -> World {
    let mut settings = Settings::default();
    settings.put("guardrails.probation_rounds", "2").unwrap();
    let mut world = World::found(settings, &RULES);
    for number in 0..MEMBERS {
        let join = world.join(&format!("N{number:02}"));
        world.apply(Command::Join(join));
    }
    world.settle(&Seen::default());
    world
}

fn paid(world: &World, writes: &[Write]) -> Vec<(NodeId, i64)> {
    let record = writes.iter().find_map(|write| if let Write::Round(record) = write { Some(record) } else { None });
    let record = record.unwrap();
    record.members.iter().zip(&record.points).map(|(number, points)| (world.state.numbers[number], *points)).collect()
}

impl Twins {
    fn new() -> Self {
        Self { right: founded(), wrong: founded(), owed: Vec::new() }
    }

    fn settled(&self) -> u64 {
        self.wrong.state.meta.settled.0
    }

    /// A round in which one member is down, another one each time, in both clusters.
    fn round(&mut self) {
        let down: BTreeSet<NodeId> = all().into_iter().skip(self.settled() as usize % 7).step_by(19).take(1).collect();
        let seen = Seen { down, ..Seen::default() };
        // Whoever is out and may return does so at once.
        let back: Vec<NodeId> =
            self.wrong.state.members.iter().filter(|(_, m)| m.hot.place.is_out()).map(|(n, _)| *n).collect();
        for node in back {
            let join = self.wrong.join(&super::world::name(node));
            self.wrong.apply(Command::Join(join));
        }
        let (right, wrong) = (self.right.settle(&seen), self.wrong.settle(&seen));
        let got = paid(&self.wrong, &wrong.writes);
        for (node, points) in paid(&self.right, &right.writes) {
            let has = got.iter().find(|(other, _)| *other == node).map_or(0, |(_, points)| *points);
            if has != points {
                self.owed.push((node, RoundId(self.settled()), points - has));
            }
        }
    }

    fn rounds(&mut self, until: u64) {
        while self.settled() < until {
            self.round();
        }
    }

    /// Activates a rule in one of the clusters; gives the first round that it decides.
    fn goes_wrong(&mut self, rule: &str) -> RoundId {
        self.wrong.stage(rule, true);
        let what = Operation::Activate { slot: Rule::parse(rule).slot(), policy: policy(rule), round: None };
        self.wrong.operate("", what).reply.unwrap();
        self.wrong.state.meta.settled.plus(2)
    }

    /// Pays what was not paid.
    fn compensate(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        assert!(owed.iter().all(|(_, _, points)| *points > 0), "{owed:?}");
        let line = |(node, round, points)| Compensation { node, points: Points(points), round, reason: "ours".into() };
        let lines: Vec<Compensation> = owed.into_iter().map(line).collect();
        self.wrong.operate("made good", Operation::Compensate(lines)).reply.unwrap();
    }

    /// Whether both clusters stand the same: standing, strikes, points, and what the rules remember.
    fn assert_same(&self) {
        let told = |state: &State| -> Vec<(NodeId, Standing, u16, Points, bool)> {
            let row = |(node, member): (&NodeId, &crate::members::Member)| {
                let hot = &member.hot;
                (*node, hot.standing, hot.strikes, hot.earned, hot.place.is_queued())
            };
            state.members.iter().map(row).collect()
        };
        assert_eq!(told(&self.wrong.state), told(&self.right.state));
        assert_eq!(self.wrong.state.queue, self.right.state.queue);
        for slot in Slot::ALL {
            assert_eq!(self.wrong.state.slot(slot).row.active, self.right.state.slot(slot).row.active);
        }
        assert_eq!(self.wrong.state.meta.treasury, self.right.state.meta.treasury);
        assert_eq!(self.wrong.state.meta.tariff, self.right.state.meta.tariff);
    }

    fn put_out(&self) -> usize {
        self.wrong.state.members.values().filter(|member| member.hot.standing.is_out()).count()
    }

    /// Takes a ban rule back, lifts what it did and pays what nobody was paid; then both go on for a while.
    fn made_good(&mut self, rule: &str, since: RoundId) {
        self.wrong.operate("wrong", Operation::Rollback(Slot::Ban)).reply.unwrap();
        self.rounds(self.settled() + 2);
        self.wrong.operate("ours", Operation::LiftPolicy { policy: policy(rule), since }).reply.unwrap();
        self.rounds(ROUNDS);
        self.compensate();
        self.assert_same();
    }
}

#[test]
fn a_policy_that_bans_everybody_puts_out_a_fifth_and_is_undone_to_the_point() {
    let mut twins = Twins::new();
    twins.rounds(WRONG - 2);
    let since = twins.goes_wrong("tyrant:1000");
    twins.rounds(WRONG + 12);
    // 5 % of 40 are 2, at least 3 bans a round; the others of the round are suspended; a fifth of 40 in all.
    assert_eq!(twins.put_out(), 8, "the caps let so many through");
    assert!(twins.wrong.state.slot(Slot::Ban).row.held);
    twins.made_good("tyrant:1000", since);
}

#[test]
fn a_policy_that_suspends_one_after_the_other_is_held_and_undone_to_the_point() {
    let mut twins = Twins::new();
    twins.rounds(WRONG - 2);
    let since = twins.goes_wrong("creep:2");
    twins.rounds(WRONG + 5);
    assert_eq!(twins.put_out(), 3, "one each second round");
    twins.rounds(WRONG + 25);
    assert_eq!(twins.put_out(), 8, "and no more than a fifth");
    assert!(twins.wrong.state.slot(Slot::Ban).row.held);
    twins.made_good("creep:2", since);
}

#[test]
fn a_policy_that_pays_too_much_pays_nothing_and_is_undone_to_the_point() {
    let mut twins = Twins::new();
    twins.rounds(WRONG - 2);
    let before = twins.wrong.state.meta.issued;
    let from = twins.goes_wrong("all:1000000000000");
    twins.rounds(from.0 - 1);
    let issued = twins.wrong.state.meta.issued;
    assert!(issued > before);
    // Three faults, the last of which brings the rule before back, two rounds later.
    twins.rounds(from.0 + 3);
    assert_eq!(twins.wrong.state.meta.issued, issued, "not a point of it");
    assert_eq!(twins.wrong.state.slot(Slot::Reward).row.active, Some(policy("flat:10")), "it came back by itself");
    twins.rounds(ROUNDS);
    twins.compensate();
    twins.assert_same();
}
