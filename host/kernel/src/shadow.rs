//! What would be if another policy decided in one slot: the cluster's own log, applied a second time to a state of its own
//! in which the other policy is active (PROTOCOLS 11.11).
//!
//! What was observed is taken over, what was decided is decided anew. A shadow sees the log and nothing else, so it cannot
//! touch what is decided for real; the same log and policies give the same shadow on any machine. A dry run is a shadow of
//! rounds that are past.
//!
//! Where the two worlds come apart, the second one knows less, and says so: a member that was put out for real is not asked
//! any more, so it is unknown to the shadow; one that the shadow alone had banned is still there when its ban is over, and
//! returns with the next round in which it is up. A claim that was paid takes what the shadow's member has, and is no over-claim
//! there.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::columns::Deciding;
use crate::command::{Amount, Claim, Command, Join, Operate, Operation, Settle};
use crate::decide::{Fault, Slot, presence};
use crate::id::{Digest, LogIndex, NodeId, RoundId};
use crate::members::Member;
use crate::outcome::{Outcome, Reject, Reply, RoundRecord, Write};
use crate::policies::{PolicyRow, Scheduled};
use crate::round::{At, Bits, Report};
use crate::standing::Standing;
use crate::state::{Effects, State};
use crate::units::Points;

/// Members whose differences are kept: those that differed first.
pub const MEMBERS: usize = 10_000;

/// Both worlds, and in what they differed.
#[derive(Clone, Debug)]
pub struct Shadow {
    slot: Slot,
    policy: Digest,
    /// As it is.
    real: State,
    /// As it would be.
    own: State,
    tally: Tally,
}

/// In what the two worlds differed so far.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tally {
    /// The round that was settled last when it began.
    pub since: RoundId,
    /// Rounds that were decided twice.
    pub rounds: u64,
    /// Those of them that were suspect: no ban policy was asked.
    pub suspect: u64,
    /// Rounds in which somebody was paid or placed otherwise.
    pub rounds_otherwise: u64,
    /// The first one.
    pub first: Option<RoundId>,
    /// Members that were ever paid or placed otherwise, those that are not kept in `members` among them.
    pub members_otherwise: u64,
    /// As it is.
    pub real: Sums,
    /// As it would be.
    pub own: Sums,
    /// By member, at most [`MEMBERS`].
    pub members: BTreeMap<NodeId, Differs>,
    /// The last fault of the shadowed policy, and its round.
    pub fault: Option<(RoundId, Fault)>,
    /// It failed so often that the cluster would have brought another policy back from this round on: nothing after it counts.
    pub returned: Option<RoundId>,
}

/// What one world decided in all rounds so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sums {
    /// Points, those that were taken subtracted.
    pub points: Points,
    /// Moves to warned.
    pub warned: u64,
    /// Moves to suspended.
    pub suspended: u64,
    /// Moves to banned.
    pub banned: u64,
    /// Decisions that a guardrail held back or put off.
    pub held: u64,
    /// Decisions cut to a bound.
    pub clamped: u64,
    /// Faults of the slot.
    pub faults: u64,
}

/// A member to whom the two worlds were not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// In which round first.
    pub first: RoundId,
    /// How it stands; `None` = forgotten.
    pub real: Option<Standing>,
    /// How it would stand.
    pub own: Option<Standing>,
    /// Why it would stand so; may be empty.
    pub reason: String,
    /// Points that it got in rounds since it differed.
    pub real_points: Points,
    /// Points that it would have got.
    pub own_points: Points,
}

/// What one round differed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Which.
    pub round: RoundId,
    /// Members that were paid otherwise.
    pub paid_otherwise: u32,
    /// Members that stand otherwise after it.
    pub placed_otherwise: u32,
    /// Points issued less points taken, as it is.
    pub real_points: Points,
    /// The same, as it would be.
    pub own_points: Points,
    /// The shadowed policy failed.
    pub fault: Option<Fault>,
}

impl Shadow {
    /// Begins: from the next settlement on the policy decides in the slot, with the memory of the active one where the schema
    /// is the same, else with none. `state` is as after some entry of the log. The bytes of components are not needed.
    #[must_use]
    pub fn begin(state: State, slot: Slot, policy: Digest, row: &PolicyRow) -> Self {
        let mut real = state;
        // No policy that can be shadowed sees records.
        (real.batches, real.contents, real.known) = Default::default();
        let mut own = real.clone();
        let mut fx = Effects::default();
        let next = own.meta.settled.next();
        own.policies.entry(policy).or_insert_with(|| row.clone());
        own.slot_mut(slot).row.scheduled = Some(Scheduled::from(next, policy));
        own.switch(slot, next, &mut fx);
        // Whoever was put out by the active policy does not count towards the cap of another one.
        let settled = own.meta.settled;
        own.slot_mut(slot).row.moves_accepted = settled;
        let tally = Tally { since: settled, ..Tally::default() };
        Self { slot, policy, real, own, tally }
    }

    /// The slot.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// The policy that is shadowed.
    #[must_use]
    pub const fn policy(&self) -> Digest {
        self.policy
    }

    /// The entry of the log that it followed last.
    #[must_use]
    pub const fn applied(&self) -> LogIndex {
        self.real.meta.applied
    }

    /// The round that it followed last.
    #[must_use]
    pub const fn settled(&self) -> RoundId {
        self.real.meta.settled
    }

    /// In what the worlds differed so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The policies that decide its next round.
    pub fn policies(&self) -> impl Iterator<Item = Digest> {
        Slot::OF_ROUNDS.into_iter().filter_map(|slot| self.own.slot(slot).row.active)
    }

    /// Name of a member; empty where it has none or is forgotten.
    #[must_use]
    pub fn name(&self, node: &NodeId) -> &str {
        self.real.members.get(node).map_or("", |member| &member.profile.name)
    }

    /// Follows one entry of the log. `decide` runs the policies that are given with what they would have seen, and makes the
    /// settlement of it. Gives a round where the entry settled one.
    pub fn follow(
        &mut self,
        index: LogIndex,
        command: &Command,
        decide: &mut dyn FnMut(Deciding) -> Settle,
    ) -> Option<Round> {
        if self.tally.returned.is_some() {
            return None;
        }
        if is_about_records(command) {
            for state in [&mut self.real, &mut self.own] {
                state.meta.applied = index;
            }
            return None;
        }
        let order = matches!(command, Command::Settle(_)).then(|| self.real.queue.clone());
        let outcome = self.real.apply(index, command);
        match (command, order) {
            // Whoever claimed too much paid for it: that is no refusal without effect.
            (Command::Claim(claim), _) if matches!(outcome.reply, Err(Reject::Overclaim { .. })) => {
                self.own.apply(index, &Command::Claim(*claim));
                None
            }
            _ if outcome.reply.is_err() => {
                self.own.meta.applied = index;
                None
            }
            (Command::Settle(settle), Some(order)) => self.settle(index, settle, &order, &outcome, decide),
            (other, _) => {
                self.other(index, other);
                None
            }
        }
    }

    /// Everything but a settlement is as it is, where it does not decide about the slot itself.
    fn other(&mut self, index: LogIndex, command: &Command) {
        let counts = if let Command::OperateIf(only) = command {
            Some(Command::Operate(only.operate.clone()))
        } else if let Command::Claim(claim) = command {
            self.claim(claim).map(Command::Claim)
        } else {
            Some(command.clone())
        };
        let about_the_slot = |command: &Command| matches!(command, Command::Operate(Operate { what, .. }) if self.is_about_the_slot(what));
        match counts.filter(|command| !about_the_slot(command)) {
            Some(command) => drop(self.own.apply(index, &command)),
            None => self.own.meta.applied = index,
        }
    }

    fn is_about_the_slot(&self, what: &Operation) -> bool {
        match what {
            Operation::AcceptPolicy(slot)
            | Operation::Rollback(slot)
            | Operation::Activate { slot, .. }
            | Operation::Emergency { slot, .. }
            | Operation::Shadow { slot, .. }
            | Operation::SetBuiltin { slot, .. }
            | Operation::FileSaid { slot, .. } => *slot == self.slot,
            Operation::AcceptRound
            | Operation::Ban { .. }
            | Operation::LiftNodes(_)
            | Operation::LiftPolicy { .. }
            | Operation::Compensate(_)
            | Operation::SetClass { .. }
            | Operation::Set(_)
            | Operation::FileSettings(_)
            | Operation::AddValidator(_)
            | Operation::RemoveValidator(_)
            | Operation::RetryBatch(_) => false,
        }
    }

    /// What is left of a claim that was paid: the shadow's member may have earned less.
    fn claim(&self, claim: &Claim) -> Option<Claim> {
        let has = self.own.members.get(&claim.node)?.hot.earned;
        let amount = match claim.amount {
            Amount::Exactly(points) if i64::try_from(points).is_ok_and(|points| points <= has.0) => claim.amount,
            Amount::Exactly(_) | Amount::All => Amount::All,
        };
        (has > Points::ZERO).then_some(Claim { amount, ..*claim })
    }

    fn settle(
        &mut self,
        index: LogIndex,
        settle: &Settle,
        order: &[NodeId],
        real: &Outcome,
        decide: &mut dyn FnMut(Deciding) -> Settle,
    ) -> Option<Round> {
        self.bring_back(index, settle, order);
        let report = settle.report.of(order, &self.own.queue);
        let deciding = Deciding::gather(&self.own, report, Vec::new(), settle.now_ms);
        let made = decide(deciding);
        let own = self.own.apply(index, &Command::Settle(Box::new(made)));
        let round = self.compare((record(real)?, real), (record(&own)?, &own));
        let row = &self.own.slot(self.slot).row;
        if row.active != Some(self.policy) || row.scheduled.is_some_and(|scheduled| scheduled.returned) {
            self.tally.returned = Some(round.round);
        }
        Some(round)
    }

    /// Whoever the shadow had banned for a time that is over is there still, and attaches as soon as it is up: no join says
    /// so, because for real it never left.
    fn bring_back(&mut self, index: LogIndex, settle: &Settle, order: &[NodeId]) {
        for (at, node) in order.iter().enumerate() {
            let over = |member: &Member| {
                let hot = &member.hot;
                hot.standing == Standing::Banned && hot.place.is_out() && hot.until <= self.own.meta.settled
            };
            if settle.report.presence.get(at) != Some(&presence::UP) || !self.own.members.get(node).is_some_and(over) {
                continue;
            }
            let Some(profile) = self.real.members.get(node).map(|member| &member.profile) else { continue };
            let join = Join {
                node: *node,
                name: profile.name.clone(),
                version: profile.version,
                software: profile.software.clone(),
                ip: profile.ip,
                port: profile.port,
                rest: profile.rest.clone(),
                now_ms: settle.now_ms,
            };
            let _ = self.own.apply(index, &Command::Join(join));
        }
    }

    fn compare(
        &mut self,
        (real, real_outcome): (&RoundRecord, &Outcome),
        (own, own_outcome): (&RoundRecord, &Outcome),
    ) -> Round {
        let paid = |record: &RoundRecord, state: &State| -> BTreeMap<NodeId, Points> {
            let rows = record.members.iter().zip(&record.points).filter(|(_, points)| **points != 0);
            rows.filter_map(|(number, points)| Some((*state.numbers.get(number)?, Points(*points)))).collect()
        };
        let (real_paid, own_paid) = (paid(real, &self.real), paid(own, &self.own));
        let sum = |paid: &BTreeMap<NodeId, Points>| paid.values().fold(Points::ZERO, |sum, points| sum.plus(*points));
        let (real_points, own_points) = (sum(&real_paid), sum(&own_paid));
        let mut round = Round {
            round: real.round,
            paid_otherwise: 0,
            placed_otherwise: 0,
            real_points,
            own_points,
            fault: own.slots.iter().find(|part| part.slot == self.slot).and_then(|part| part.fault.clone()),
        };
        let nodes: alloc::collections::BTreeSet<NodeId> =
            self.real.members.keys().chain(self.own.members.keys()).copied().collect();
        for node in nodes {
            let of = |paid: &BTreeMap<NodeId, Points>| paid.get(&node).copied().unwrap_or(Points::ZERO);
            let (real_points, own_points) = (of(&real_paid), of(&own_paid));
            let (real_member, own_member) = (self.real.members.get(&node), self.own.members.get(&node));
            let stands = |member: Option<&Member>| member.map(|member| member.hot.standing);
            let (real_stands, own_stands) = (stands(real_member), stands(own_member));
            round.paid_otherwise += u32::from(real_points != own_points);
            round.placed_otherwise += u32::from(real_stands != own_stands);
            let known = self.tally.members.contains_key(&node);
            if !known && real_points == own_points && real_stands == own_stands {
                continue;
            }
            if !known {
                self.tally.members_otherwise += 1;
                if self.tally.members.len() >= MEMBERS {
                    continue;
                }
            }
            let row = self.tally.members.entry(node).or_insert(Differs {
                first: real.round,
                real: None,
                own: None,
                reason: String::new(),
                real_points: Points::ZERO,
                own_points: Points::ZERO,
            });
            (row.real, row.own) = (real_stands, own_stands);
            row.reason = own_member.map_or_else(String::new, |member| member.profile.reason.clone());
            row.real_points = row.real_points.plus(real_points);
            row.own_points = row.own_points.plus(own_points);
        }
        let tally = &mut self.tally;
        tally.rounds += 1;
        tally.suspect += u64::from(real.marks.is_suspect());
        if round.paid_otherwise + round.placed_otherwise > 0 {
            tally.rounds_otherwise += 1;
            tally.first.get_or_insert(real.round);
        }
        tally.real.add(real, real_outcome, real_points, self.slot);
        tally.own.add(own, own_outcome, own_points, self.slot);
        if let Some(fault) = &round.fault {
            tally.fault = Some((real.round, fault.clone()));
        }
        round
    }
}

impl Sums {
    fn add(&mut self, record: &RoundRecord, outcome: &Outcome, points: Points, slot: Slot) {
        for write in &outcome.writes {
            let Write::Move(moved) = write else { continue };
            match moved.to {
                Standing::Warned => self.warned += 1,
                Standing::Suspended => self.suspended += 1,
                Standing::Banned => self.banned += 1,
                Standing::Good | Standing::Probation => {}
            }
        }
        self.points = self.points.plus(points);
        self.held += u64::from(record.held) + u64::from(record.deferred);
        self.clamped += u64::from(record.clamped);
        self.faults += record.slots.iter().filter(|part| part.slot == slot && part.fault.is_some()).count() as u64;
    }
}

impl Report {
    /// The same for another queue. Of members that it does not have nothing is known.
    #[must_use]
    pub fn of(&self, order: &[NodeId], queue: &[NodeId]) -> Self {
        // Both are in ascending order of key.
        let places: Vec<Option<usize>> = queue.iter().map(|node| order.binary_search(node).ok()).collect();
        let place = |at: u32| {
            let node = order.get(at as usize)?;
            u32::try_from(queue.binary_search(node).ok()?).ok()
        };
        fn column<T: Copy>(from: &[T], places: &[Option<usize>], none: T) -> Vec<T> {
            places.iter().map(|place| place.and_then(|at| from.get(at).copied()).unwrap_or(none)).collect()
        }
        let mut returns = Bits::zeros(queue.len());
        for (at, place) in places.iter().enumerate() {
            if place.is_some_and(|place| self.returns.get(place)) {
                returns.set(at);
            }
        }
        let addresses = self.addresses.iter();
        let seats = self.seats.iter().map(|seat| {
            let rtt = if seat.rtt.is_empty() { Vec::new() } else { column(&seat.rtt, &places, 0) };
            crate::round::SeatReport { rtt, ..seat.clone() }
        });
        Self {
            round: self.round,
            term: self.term,
            presence: column(&self.presence, &places, presence::UNKNOWN),
            facts: column(&self.facts, &places, 0),
            asked: column(&self.asked, &places, 0),
            seen: column(&self.seen, &places, 0),
            data: column(&self.data, &places, 0),
            addresses: addresses
                .filter_map(|said| Some(At { at: place(said.at)?, value: said.value.clone() }))
                .collect(),
            returns,
            seats: seats.collect(),
            marks: self.marks,
        }
    }
}

/// Whether a command is about records alone.
const fn is_about_records(command: &Command) -> bool {
    matches!(command, Command::Order(_) | Command::Seal(_) | Command::Evidence(_) | Command::Came(_) | Command::Able(_))
}

/// The record of the round that an entry settled.
fn record(outcome: &Outcome) -> Option<&RoundRecord> {
    if !matches!(outcome.reply, Ok(Reply::Settled { .. })) {
        return None;
    }
    outcome.writes.iter().find_map(|write| if let Write::Round(record) = write { Some(&**record) } else { None })
}

#[cfg(test)]
mod tests;
