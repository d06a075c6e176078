//! A cluster in a loop: supers, followers that die, flicker and come back, native policies, and nothing but time between
//! them. Everything of the kernel takes part: walks, partial reports, merge, guard, policies' columns, `apply`.

use alloc::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::fixture::{key, node, row, sign};
use super::lead::{Gathered, Lead, Step};
use super::opening::Attending;
use super::walk::{Carry, PingOut, PongIn, Timing, Walk, WalkStart};
use super::*;
use crate::columns::Deciding;
use crate::command::{
    Chunk, Command, Found, Ip, Join, Lead as LeadCommand, Operate, Operation, Operator, Ready, Settle, Stage,
};
use crate::decide::{Call, Description, Fault, Judgement, Policy, Reward, Run, Slot, Tariff, presence};
use crate::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, ProtocolVersion};
use crate::outcome::{Move, Notice, Reply, RoundRecord};
use crate::settings::Settings;
use crate::standing::Standing;
use crate::state::State;

const I: u64 = 1_000_000;
/// Half the grace: an honest follower is back within it.
const BACKOFF_US: u64 = 3 * I / 2;

/// Down adds a strike, up takes them away, unknown changes nothing. It remembers how often each was down.
struct Strikes(Description);

impl Policy for Strikes {
    fn description(&self) -> &Description {
        &self.0
    }

    fn reward(&self, _: &Call<'_>) -> Run<Reward> {
        unreachable!("a ban policy")
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        let mut judged = Judgement { memory: call.memory.to_vec(), ..Judgement::default() };
        let (rows, _) = judged.memory.as_chunks_mut::<2>();
        let m = call.members;
        for ((presence, strikes), row) in m.presence.iter().zip(&m.strikes).zip(rows) {
            let strikes = match *presence {
                presence::DOWN => {
                    *row = (u16::from_le_bytes(*row) + 1).to_le_bytes();
                    strikes + 1
                }
                presence::UP => 0,
                _ => *strikes,
            };
            judged.strikes.push(strikes);
            judged.standing.push(match strikes {
                0 => 0,
                1..3 => 1,
                3..5 => 2,
                _ => 3,
            });
            judged.until.push(if strikes >= 5 { 8 } else { 0 });
            judged.reasons.push(u16::from(strikes > 0));
        }
        Run::native(Ok(judged))
    }
}

/// Ten points for whoever is up.
struct Flat(Description);

impl Policy for Flat {
    fn description(&self) -> &Description {
        &self.0
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        let points = call.members.presence.iter().map(|p| if *p == presence::UP { 10 } else { 0 }).collect();
        let (reasons, memory) = (vec![0; call.members.len()], call.memory.to_vec());
        Run::native(Ok(Reward { points, reasons, memory, tariff: Tariff::default() }))
    }

    fn judge(&self, _: &Call<'_>) -> Run<Judgement> {
        unreachable!("a reward policy")
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Steady,
    /// Answers two pings of three.
    Flaky,
    /// Its stream ends and nothing comes from it.
    Dead,
    /// Its stream stays and nothing comes from it.
    Mute,
}

#[derive(Clone, Debug)]
struct Follower {
    life: Life,
    /// Streams, by seat; or when it comes back to it.
    back_us: Vec<Option<u64>>,
}

struct Observer {
    walks: VecDeque<Walk>,
    carry: Carry,
    open_since_ms: u64,
    /// Neither walks nor speaks until then.
    asleep_us: u64,
    said: VecDeque<bool>,
    attending: Attending,
}

struct Sim {
    state: State,
    index: u64,
    now_us: u64,
    random: Random,
    lead: Lead,
    observers: Vec<Observer>,
    followers: BTreeMap<NodeId, Follower>,
    pongs: Vec<(u64, Seat, OpenRound, PingOut)>,
    strikes: Strikes,
    flat: Flat,
    rounds: Vec<RoundRecord>,
    moves: Vec<Move>,
    /// When each round opened first.
    opened: BTreeMap<RoundId, u64>,
}

impl Sim {
    /// `observers`: supers that each follower attaches to.
    fn new(seats: u8, observers: u8, members: u8, seed: u64) -> Self {
        let describe = |name: &str, memory_bytes| Description {
            name: name.into(),
            memory_bytes,
            reasons: vec!["missed".into()],
            ..Description::default()
        };
        let mut sim = Self {
            state: State::default(),
            index: 0,
            now_us: 0,
            random: Random(seed | 1),
            lead: Lead::new(Term(1), 0),
            observers: Vec::new(),
            followers: BTreeMap::new(),
            pongs: Vec::new(),
            strikes: Strikes(describe("strikes", 2)),
            flat: Flat(describe("flat", 0)),
            rounds: Vec::new(),
            moves: Vec::new(),
            opened: BTreeMap::new(),
        };
        let settings = Settings { interval_ms: I / 1_000, ..Settings::default() };
        let cluster = ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) };
        sim.apply(Command::Found(Box::new(Found { cluster, founder: row(0).holder, settings, now_ms: 0 })));
        for seat in 1..seats {
            sim.state.meta.seats.push(SeatRow { open_since_ms: 0, ..row(seat) });
        }
        for seat in 0..seats {
            sim.observers.push(Observer {
                walks: VecDeque::new(),
                carry: Carry::default(),
                open_since_ms: 1 + u64::from(seat),
                asleep_us: 0,
                said: VecDeque::new(),
                attending: Attending::default(),
            });
        }
        sim.install(Slot::Ban, sim.strikes.0.clone());
        sim.install(Slot::Reward, sim.flat.0.clone());
        sim.term(1);
        for i in 0..members {
            let join = Join {
                node: node(i),
                name: String::new(),
                version: ProtocolVersion::OURS,
                software: "1".into(),
                ip: Ip::V4([127, 0, 0, 1]),
                port: 1,
                rest: None,
                now_ms: 0,
            };
            sim.apply(Command::Join(join));
            let streams = (0..seats).map(|seat| ((seat + i) % seats < observers).then_some(0)).collect();
            sim.followers.insert(node(i), Follower { life: Life::Steady, back_us: streams });
        }
        sim
    }

    fn install(&mut self, slot: Slot, description: Description) {
        let bytes = description.name.clone().into_bytes();
        let component = Digest::of(&bytes);
        let size = bytes.len() as u32;
        self.apply(Command::Chunk(Chunk { component, size, offset: 0, bytes }));
        let (config, by) = ("{}".into(), Operator::File);
        let staged = self.apply(Command::Stage(Stage { slot, component, config, description, by, now_ms: 0 }));
        let Reply::Staged { policy, .. } = staged else { panic!("{staged:?}") };
        for seat in 0..self.observers.len() as u8 {
            self.apply(Command::Ready(Ready { seat: Seat(seat), policy }));
        }
        let what = Operation::Activate { slot, policy, round: None };
        self.apply(Command::Operate(Operate { by, reason: String::new(), now_ms: 0, what }));
    }

    fn term(&mut self, term: u64) {
        let leader = NodeId(key(0).verifying_key().to_bytes());
        self.apply(Command::Lead(LeadCommand { term: Term(term), leader, now_ms: self.now_us / 1_000 }));
        self.lead = Lead::new(Term(term), self.now_us);
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        let outcome = self.state.apply(LogIndex(self.index), &command);
        assert_eq!(self.state.sum(), 0);
        for notice in outcome.notices {
            match notice {
                Notice::Round(record) => {
                    for (observer, row) in self.observers.iter_mut().zip(&self.state.meta.seats) {
                        observer.attending.settled(record.round, Some(row));
                    }
                    self.rounds.push(*record);
                }
                Notice::Moved(moved) => self.moves.push(*moved),
                Notice::Claimed { .. }
                | Notice::Policy { .. }
                | Notice::AskOperator { .. }
                | Notice::Leader { .. }
                | Notice::Closed(_)
                | Notice::Ordered(_)
                | Notice::Sealed(_)
                | Notice::Validators { .. }
                | Notice::Changed(_) => {}
            }
        }
        outcome.reply.unwrap()
    }

    fn attached(&self, node: &NodeId, seat: usize) -> bool {
        let Some(follower) = self.followers.get(node) else { return false };
        let standing = self.state.members[node].hot.standing;
        follower.life != Life::Dead
            && standing != Standing::Banned
            && follower.back_us[seat].is_some_and(|at_us| at_us <= self.now_us)
    }

    fn kill(&mut self, i: u8, life: Life) {
        self.followers.get_mut(&node(i)).unwrap().life = life;
    }

    /// `kill -9` and a start: streams and walks are gone, followers come back within their backoff.
    fn restart(&mut self, seat: usize, down_us: u64) {
        let up_us = self.now_us + down_us;
        let observer = &mut self.observers[seat];
        observer.walks.clear();
        observer.said.clear();
        observer.attending = Attending::default();
        observer.asleep_us = up_us;
        observer.open_since_ms = 1_000 + up_us;
        self.lose(seat, self.now_us, up_us);
    }

    /// Followers notice at `lost_us` that a super is gone, and it can be reached again from `up_us` on. Whoever has no
    /// other dials the next one, and not one that does not answer while another may.
    fn lose(&mut self, seat: usize, lost_us: u64, up_us: u64) {
        let seats = self.observers.len();
        for follower in self.followers.values_mut().filter(|follower| follower.back_us[seat].is_some()) {
            follower.back_us[seat] = None;
            let is_alone = follower.back_us.iter().all(|back| back.is_none_or(|at_us| at_us > lost_us));
            let answers_us = |to: usize| if to == seat { up_us } else { self.observers[to].asleep_us.max(lost_us) };
            let others = (1..=seats).map(|step| (seat + step) % seats);
            let to = if is_alone { others.min_by_key(|to| answers_us(*to)).unwrap() } else { seat };
            follower.back_us[to] = Some(answers_us(to) + self.random.below(BACKOFF_US));
        }
    }

    /// SIGSTOP of one super: it goes on with what it was at, and finds its streams dead after a long pause.
    fn pause(&mut self, seat: usize, pause_us: u64) {
        // One that is not up yet does not come up earlier for it.
        let until_us = self.observers[seat].asleep_us.max(self.now_us + pause_us);
        self.observers[seat].asleep_us = until_us;
        // A super's loop measures how late it is outside of walks too.
        self.observers[seat].attending.lagged(pause_us);
        if pause_us > I {
            self.lose(seat, self.now_us + I, until_us);
        }
    }

    /// Goes on until that time.
    fn run(&mut self, until_us: u64) {
        while self.now_us < until_us {
            let awake = |observer: &Observer, at_us: u64| at_us.max(observer.asleep_us);
            let walks = self.observers.iter().filter_map(|observer| {
                let due = observer.walks.iter().filter_map(Walk::next_due_us).min()?;
                Some(awake(observer, due))
            });
            let pongs = self.pongs.iter().map(|(at_us, seat, ..)| awake(&self.observers[usize::from(seat.0)], *at_us));
            // The leader is on seat 0.
            let lead = self.lead.next_due_us(self.state.meta.settled).map(|us| awake(&self.observers[0], us));
            let next_us = walks.chain(pongs).chain(lead).min().unwrap_or(until_us).max(self.now_us);
            self.now_us = next_us.min(until_us);
            if next_us > until_us {
                return;
            }
            self.deliver();
            self.walk();
            self.follow_lead();
        }
    }

    fn deliver(&mut self) {
        let (now_us, observers) = (self.now_us, &mut self.observers);
        let is_due = |(at_us, seat, ..): &(u64, Seat, OpenRound, PingOut), observers: &[Observer]| {
            (*at_us).max(observers[usize::from(seat.0)].asleep_us) <= now_us
        };
        let due: Vec<_> = self.pongs.extract_if(.., |pong| is_due(pong, observers)).collect();
        for (_, seat, open, ping) in due {
            let pong = PongIn { round: open.round, term: open.term, nonce: ping.nonce, data: 1, address: "" };
            let mut walks = observers[usize::from(seat.0)].walks.iter_mut();
            if let Some(walk) = walks.find(|walk| walk.open() == open) {
                walk.pong(&ping.node, &pong, now_us);
            }
        }
    }

    fn walk(&mut self) {
        for seat in 0..self.observers.len() {
            if self.observers[seat].asleep_us > self.now_us {
                continue;
            }
            for at in 0..self.observers[seat].walks.len() {
                for node in self.followers.keys() {
                    let attached = self.attached(node, seat);
                    let walk = &mut self.observers[seat].walks[at];
                    if attached { walk.attach(node) } else { walk.detach(node) }
                }
                let walk = &mut self.observers[seat].walks[at];
                let mut pings = Vec::new();
                walk.tick(self.now_us, &mut pings);
                let open = walk.open();
                for ping in pings {
                    let answers = match self.followers[&ping.node].life {
                        Life::Steady => true,
                        Life::Flaky => self.random.below(3) > 0,
                        Life::Dead | Life::Mute => false,
                    };
                    if answers {
                        let at_us = self.now_us + 100 + self.random.below(5_000);
                        self.pongs.push((at_us, Seat(seat as u8), open, ping));
                    }
                }
                let observer = &mut self.observers[seat];
                if observer.walks[at].is_over() && !observer.said[at] {
                    observer.said[at] = true;
                    let partial = observer.walks[at].partial(|_, _| false);
                    observer.attending.said(open.round, 1_000 * partial.lag_ms);
                    let _stale = self.lead.partial(sign(&partial), &self.state);
                }
            }
        }
    }

    fn follow_lead(&mut self) {
        if self.observers[0].asleep_us > self.now_us {
            return;
        }
        while let Some(step) = self.lead.step(self.now_us, &self.state) {
            match step {
                Step::Open { open, queue, waited_us } => {
                    self.opened.entry(open.round).or_insert(self.now_us);
                    for seat in 0..self.observers.len() {
                        // A word to one that sleeps or is gone is lost.
                        if self.observers[seat].asleep_us <= self.now_us {
                            self.open(seat, open, queue.clone(), if seat == 0 { waited_us } else { 0 });
                        }
                    }
                }
                Step::Settle(gathered) => {
                    let settle = self.decide(&gathered);
                    let reply = self.apply(Command::Settle(Box::new(settle)));
                    assert_eq!(reply, Reply::Settled { round: gathered.open.round });
                }
            }
        }
    }

    fn open(&mut self, seat: usize, open: OpenRound, queue: alloc::sync::Arc<[NodeId]>, waited_us: u64) {
        let observer = &mut self.observers[seat];
        while observer.walks.len() > 1 {
            observer.carry = observer.walks.pop_front().map(|mut walk| walk.carry()).unwrap_or_default();
            observer.said.pop_front();
        }
        let mut secret = [0; 16];
        secret.iter_mut().for_each(|byte| *byte = self.random.below(256) as u8);
        observer.walks.push_back(Walk::new(WalkStart {
            cluster: self.state.meta.cluster.to_string(),
            open,
            seat: Seat(seat as u8),
            queue,
            timing: Timing::of(&self.state.meta.settings),
            secret,
            now_us: self.now_us,
            waited_us: waited_us.max(observer.attending.owed_us()),
            open_since_ms: observer.open_since_ms,
            open_all_round: true,
            spread_ms: 1_000,
            carry: core::mem::take(&mut observer.carry),
        }));
        observer.said.push_back(false);
    }

    fn decide(&self, gathered: &Gathered) -> Settle {
        let report = gathered.merge(&self.state);
        let trusted = self.state.queued().enumerate().filter(|(_, (_, member))| member.hot.trusted_up);
        let missing = trusted.filter(|(at, _)| report.presence(*at) == Presence::Down).count();
        let first = self.state.meta.trusted == RoundId(0);
        assert_eq!(report.marks.missing as usize, if first { 0 } else { missing });
        assert_eq!(report.marks.partials as usize, gathered.signed.len());
        assert_eq!(report.marks.causes & cause::LEADER != 0, report.term > report.marks.term_before && !first);
        let deciding = Deciding::gather(&self.state, report, gathered.signed.clone(), self.now_us / 1_000);
        let (settle, log) = deciding.run(Some(&self.strikes), Some(&self.flat), "native");
        assert!(log.is_empty());
        settle
    }

    /// What the records say of one member, oldest first: presence and whether the round was trusted.
    fn seen(&self, i: u8) -> impl Iterator<Item = (&RoundRecord, Presence)> {
        let number = self.state.members[&node(i)].profile.number;
        self.rounds.iter().filter_map(move |record| {
            let at = record.members.iter().position(|member| *member == number)?;
            Some((record, Presence::from_code(record.presence[at])))
        })
    }

    fn check_books(&self) {
        for (node, member) in &self.state.members {
            let number = member.profile.number;
            let of =
                |record: &RoundRecord| record.members.iter().position(|m| *m == number).map(|at| record.points[at]);
            assert_eq!(member.hot.earned.0, self.rounds.iter().filter_map(of).sum::<i64>(), "{node}");
        }
    }

    /// The policy's memory counts what the records say.
    fn check_memory(&self, i: u8) {
        let downs = self.seen(i).filter(|(record, p)| *p == Presence::Down && !record.marks.is_suspect()).count();
        let mut row = Vec::new();
        self.state.slot(Slot::Ban).memory.read(self.state.members[&node(i)].profile.number, &mut row);
        assert_eq!(u16::from_le_bytes([row[0], row[1]]) as usize, downs, "member {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_dead_are_suspended_in_the_third_round_and_the_living_never_struck(
        seed in any::<u64>(),
        (seats, observers) in (1_u8..4, 1_u8..3),
        died_us in 8 * I..20 * I,
        mute in any::<bool>(),
    ) {
        let mut sim = Sim::new(seats, observers, 30, seed);
        for i in 20..24 {
            sim.kill(i, Life::Flaky);
        }
        sim.run(died_us);
        sim.kill(7, if mute { Life::Mute } else { Life::Dead });
        sim.run(200 * I);
        prop_assert!(sim.rounds.len() >= 195, "{}", sim.rounds.len());
        for i in (0..20).filter(|i| *i != 7) {
            // Round 1 was opened before anybody was in the queue.
            prop_assert!(sim.seen(i).all(|(_, presence)| presence == Presence::Up), "member {} of {}", i, seats);
        }
        let after = sim.opened.iter().filter(|(_, at_us)| **at_us > died_us).map(|(round, _)| *round);
        let third = after.into_iter().nth(2).unwrap();
        let suspended = sim.moves.iter().find(|m| m.node == node(7) && m.to == Standing::Suspended).unwrap();
        prop_assert!(suspended.round <= third, "died at {}, round {} began third, suspended in {}", died_us, third, suspended.round);
        prop_assert_eq!(sim.state.members[&node(7)].hot.standing, Standing::Banned);
        for i in 0..30 {
            sim.check_memory(i);
        }
        sim.check_books();
        prop_assert!(sim.rounds.iter().all(|record| record.marks.causes == 0));
        prop_assert!(sim.rounds.iter().flat_map(|r| &r.slots).all(|slot| slot.fault.is_none() && slot.called));
    }

    #[test]
    fn whatever_the_supers_go_through_nobody_is_struck(
        seed in any::<u64>(),
        (seats, observers) in (1_u8..6, 1_u8..3),
        troubles in proptest::collection::vec((0..4_u8, 1..5 * I), 1..12),
    ) {
        let mut sim = Sim::new(seats, observers, 12, seed);
        let mut term = 1;
        sim.run(10 * I);
        for (kind, length_us) in troubles {
            let seat = sim.random.below(seats.into()) as usize;
            match kind {
                0 => sim.pause(seat, length_us),
                1 => sim.restart(seat, length_us),
                // The leader's place changes hands, with or without its process.
                2 => term += 1,
                _ => {
                    term += 1;
                    sim.restart(0, length_us);
                }
            }
            if term > sim.state.meta.term.0 {
                sim.term(term);
            }
            // One after the other, and one into the other.
            let rests = [0, I, 3 * I, 12 * I];
            let longest_us = rests[sim.random.below(4) as usize];
            let rest_us = sim.random.below(1 + longest_us);
            let within_us = if sim.random.below(2) == 0 { length_us } else { sim.random.below(length_us) };
            sim.run(sim.now_us + within_us + rest_us);
        }
        sim.run(sim.now_us + 10 * I);
        for record in sim.rounds.iter().filter(|record| !record.marks.is_suspect()) {
            prop_assert_eq!(record.counts.1, 0, "round {} of {} seats: {:?}", record.round, seats, record.marks);
        }
        prop_assert!(sim.moves.is_empty(), "{:?}", sim.moves);
        sim.check_books();
        let last = sim.rounds.last().unwrap();
        prop_assert_eq!((last.counts, last.marks.causes), ((12, 0, 0), 0));
    }

    #[test]
    fn an_outage_of_half_strikes_nobody_until_an_operator_says_that_it_is_real(seed in any::<u64>()) {
        let mut sim = Sim::new(1, 1, 20, seed);
        sim.run(10 * I);
        for i in 0..8 {
            sim.kill(i, Life::Dead);
        }
        sim.run(25 * I);
        let suspect = sim.rounds.iter().rev().take(10);
        prop_assert!(suspect.clone().all(|record| record.marks.causes == cause::MISSING && record.issued.0 == 120));
        prop_assert!(sim.moves.is_empty());
        let operate = Operate { by: Operator::Socket, reason: "fire".into(), now_ms: 0, what: Operation::AcceptRound };
        sim.apply(Command::Operate(operate));
        sim.run(28 * I);
        prop_assert!(sim.moves.iter().any(|moved| moved.node < node(8)));
        prop_assert!(sim.moves.iter().all(|moved| moved.node < node(8)));
    }
}

/// A policy that is not prepared costs its slot the round and stops nothing.
#[test]
fn a_policy_that_is_not_prepared_leaves_its_slot_neutral() {
    let mut sim = Sim::new(1, 1, 3, 5);
    sim.run(3 * I);
    let report = Report { round: sim.state.meta.settled.next(), term: Term(1), ..Report::default() };
    let report = Report {
        presence: vec![1; 3],
        facts: vec![0; 3],
        asked: vec![1; 3],
        seen: vec![1; 3],
        data: vec![0; 3],
        returns: Bits::zeros(3),
        ..report
    };
    let deciding = Deciding::gather(&sim.state, report, Vec::new(), 4_000);
    let (settle, _) = deciding.run(None, Some(&sim.flat), "native");
    sim.apply(Command::Settle(Box::new(settle)));
    let record = sim.rounds.last().unwrap();
    let faults: Vec<Option<&Fault>> = record.slots.iter().map(|slot| slot.fault.as_ref()).collect();
    assert_eq!((faults.len(), faults.iter().flatten().count(), record.issued.0), (2, 1, 30));
}
