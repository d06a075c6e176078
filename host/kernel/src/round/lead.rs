//! The leader's pacing: when a round opens, when it is merged and settled, and what time is stamped on it.
//!
//! Round *n*+1 opens at *I* although *n* is not settled; *n*+2 waits for the settlement of *n* ([`opening`](super::opening)).
//! A round is merged when the partial reports of all seats are in, or at *I* + *T*.
//!
//! A new leader begins with a new [`Lead`]: whatever was observed before is thrown away, because observations are
//! worthless outside their round and term.
//!
//! Not here: who leads, whether policies are prepared, and the signatures of what the leader sends.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::merge::{self, PartialError};
use super::opening::Opening;
use super::walk::Timing;
use super::{OpenRound, Partial, Report, SignedPartial};
use crate::id::{NodeId, RoundId, Seat, Term};
use crate::limits::{CLOCK_EVEN_MS, CLOCK_OFF_MS, CLOCK_UNEVEN_MS};
use crate::state::State;

/// What the leader is to do now.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send this to every super, itself included.
    Open {
        /// The round.
        open: OpenRound,
        /// The queue that is walked.
        queue: Arc<[NodeId]>,
        /// How late it is: for the leader's own walk.
        waited_us: u64,
    },
    /// Merge what has come in, decide and propose.
    Settle(Box<Gathered>),
}

/// A round whose partial reports are in, or late.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The round.
    pub open: OpenRound,
    /// The queue that was walked.
    pub queue: Arc<[NodeId]>,
    /// What came, in order of seat.
    pub partials: Vec<Partial>,
    /// The same as it came.
    pub signed: Vec<SignedPartial>,
}

impl Gathered {
    /// The report, marked. `state`: the one that the step came from, or a later one in which no round was settled since.
    #[must_use]
    pub fn merge(&self, state: &State) -> Report {
        merge::merge(state, &self.open, &self.queue, &self.partials)
    }
}

#[derive(Clone, Debug)]
struct Round {
    open: OpenRound,
    queue: Arc<[NodeId]>,
    /// Not merged before this.
    not_before_us: u64,
    /// Merged from here on, whoever is missing.
    late_us: u64,
    partials: BTreeMap<Seat, (Partial, SignedPartial)>,
    is_settling: bool,
}

/// The leader of one term.
#[derive(Clone, Debug)]
pub struct Lead {
    opening: Opening,
    /// Open and not settled, at most two, ascending.
    rounds: VecDeque<Round>,
}

impl Lead {
    /// The leader of `term`, whose [`Command::Lead`](crate::command::Command::Lead) is applied. The first round opens
    /// at the first [`Lead::step`].
    #[must_use]
    pub const fn new(term: Term, now_us: u64) -> Self {
        Self { opening: Opening::new(term, now_us), rounds: VecDeque::new() }
    }

    /// Its term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.opening.term()
    }

    /// Whether the policies that will decide ([`opening::policies`](super::opening::policies)) are prepared here and now.
    /// While they are not, no round opens, and the lead is to go to a super on which they are.
    pub const fn prepared(&mut self, is: bool) {
        self.opening.prepared(is);
    }

    /// What is to be done now, one thing a call: call again until there is nothing. Before it, everything that waits in
    /// the mailbox is to be taken, so that a report that is there is not late. Due at [`Lead::next_due_us`], and at once
    /// when a partial report came or a round was settled.
    pub fn step(&mut self, now_us: u64, state: &State) -> Option<Step> {
        if state.meta.term != self.term() {
            return None;
        }
        // A settlement of a leader before us that still came counts, and takes its round from us.
        let settled = state.meta.settled;
        while self.rounds.front().is_some_and(|round| round.open.round <= settled) {
            self.rounds.pop_front();
        }
        self.gather(now_us, state).or_else(|| self.open(now_us, state))
    }

    /// When [`Lead::step`] is due by itself; `None` while all waits for a settlement.
    #[must_use]
    pub fn next_due_us(&self, settled: RoundId) -> Option<u64> {
        let opens = self.opening.due_us(settled);
        let first = self.rounds.iter().find(|round| round.open.round == settled.next() && !round.is_settling);
        opens.into_iter().chain(first.map(|round| round.late_us)).min()
    }

    /// Takes a partial report.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn partial(&mut self, signed: SignedPartial, state: &State) -> Result<(), PartialError> {
        let partial = merge::check(&signed, state)?;
        let Some(round) = self.rounds.iter_mut().find(|round| round.open == partial.open) else {
            return Err(PartialError::NotOpen { found: partial.open });
        };
        merge::check_lengths(&partial, round.queue.len())?;
        if round.is_settling || round.partials.contains_key(&partial.seat) {
            return Err(PartialError::Again);
        }
        round.partials.insert(partial.seat, (partial, signed));
        Ok(())
    }

    /// The settlement of a round was refused or could not be proposed: from `again_us` on it is merged anew, on the
    /// state of then.
    pub fn failed(&mut self, round: RoundId, again_us: u64) {
        if let Some(round) = self.rounds.iter_mut().find(|open| open.open.round == round) {
            round.is_settling = false;
            round.not_before_us = again_us;
            round.late_us = again_us;
        }
    }

    /// The rounds that are open, with their queues: for a super that connects while they are.
    pub fn rounds(&self) -> impl Iterator<Item = (OpenRound, &Arc<[NodeId]>)> {
        self.rounds.iter().map(|round| (round.open, &round.queue))
    }

    fn gather(&mut self, now_us: u64, state: &State) -> Option<Step> {
        let round = self.rounds.front_mut().filter(|round| round.open.round == state.meta.settled.next())?;
        let mut awaited = state.meta.seats.iter().filter(|row| row.takes_part(&round.open));
        let all_in = awaited.all(|row| round.partials.contains_key(&row.seat));
        let is_time = now_us >= round.late_us || all_in && now_us >= round.not_before_us;
        if round.is_settling || !is_time {
            return None;
        }
        round.is_settling = true;
        let (partials, signed) = round.partials.values().cloned().unzip();
        Some(Step::Settle(Box::new(Gathered { open: round.open, queue: round.queue.clone(), partials, signed })))
    }

    fn open(&mut self, now_us: u64, state: &State) -> Option<Step> {
        let (open, waited_us) = self.opening.may(now_us, state).ok()?;
        let timing = Timing::of(&state.meta.settings);
        self.opening.opened(open.round, now_us, timing.interval_us);
        self.rounds.push_back(Round {
            open,
            queue: state.queue.clone(),
            not_before_us: now_us,
            late_us: now_us.saturating_add(timing.interval_us).saturating_add(timing.timeout_us),
            partials: BTreeMap::new(),
            is_settling: false,
        });
        Some(Step::Open { open, queue: state.queue.clone(), waited_us })
    }
}

/// What a leader writes into commands as the cluster's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Ms since 1970.
    pub now_ms: u64,
    /// This machine's clock is off by so much, ms (ahead is positive), and was not used. For log, event and `status`.
    pub off_ms: Option<i64>,
}

/// The cluster's time as one super knows it: the last stamp, and when it saw it on a clock that cannot be set.
///
/// Who of the two is right, this machine's clock or the stamps, cannot be known here. A clock that jumps is not followed;
/// one that has run evenly for long beside stamps that are far from it is approached, so that a machine that started with
/// a wrong clock does not call the right one wrong for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    last: Option<(u64, u64)>,
    /// Whether the last stamp comes from a clock. If not, one that is ahead is taken at any distance.
    anchored: bool,
    /// While the clock is off: by how much it is ahead of the one that cannot be set, ms, and since when.
    even: Option<(i128, u64)>,
}

impl Clock {
    /// A command with this stamp was applied. Every super tells, so that one that becomes the leader knows the time.
    pub fn saw(&mut self, stamp_ms: u64, now_us: u64) {
        if self.last.is_none_or(|(last_ms, _)| last_ms < stamp_ms) {
            self.last = Some((stamp_ms, now_us));
            self.anchored = true;
        }
    }

    /// The stamp of a command that is made now. `last_ms`: the latest stamp in state. A machine that has seen no stamp
    /// since it started cannot know how long the cluster stood still, and takes its clock, unless that is behind the
    /// latest stamp; after that a clock that runs more than [`CLOCK_OFF_MS`] away from the elapsed time does not count.
    /// Stamps never fall.
    pub fn stamp(&mut self, last_ms: u64, clock_ms: u64, now_us: u64) -> Stamp {
        let (seen_ms, seen_us) = self.last.filter(|(seen_ms, _)| *seen_ms >= last_ms).unwrap_or((last_ms, now_us));
        // Parts of a ms are not lost, however often a stamp is made.
        let elapsed_ms = now_us.saturating_sub(seen_us) / 1_000;
        let expected_ms = seen_ms.saturating_add(elapsed_ms);
        let is_ahead = clock_ms > expected_ms;
        if clock_ms.abs_diff(expected_ms) <= CLOCK_OFF_MS || is_ahead && !self.anchored {
            let now_ms = clock_ms.max(last_ms);
            *self = Self { last: Some((now_ms, now_us)), anchored: true, even: None };
            return Stamp { now_ms, off_ms: None };
        }
        let pairs = elapsed_ms / 2;
        let (gone_ms, spent_ms) = match (self.runs_evenly(clock_ms, now_us), is_ahead) {
            (false, _) => (elapsed_ms, elapsed_ms),
            (true, true) => (3 * pairs, 2 * pairs),
            (true, false) => (pairs, 2 * pairs),
        };
        let now_ms = seen_ms.saturating_add(gone_ms);
        self.last = Some((now_ms, seen_us.saturating_add(spent_ms.saturating_mul(1_000))));
        let off = i64::try_from(i128::from(clock_ms) - i128::from(expected_ms)).unwrap_or(i64::MAX);
        Stamp { now_ms, off_ms: Some(off) }
    }

    /// Whether a clock that is off has not been set for long.
    fn runs_evenly(&mut self, clock_ms: u64, now_us: u64) -> bool {
        let ahead_ms = i128::from(clock_ms) - i128::from(now_us / 1_000);
        let is_same = |(first_ms, _): &(i128, u64)| ahead_ms.abs_diff(*first_ms) <= u128::from(CLOCK_UNEVEN_MS);
        let (_, since_us) = *self.even.insert(self.even.filter(is_same).unwrap_or((ahead_ms, now_us)));
        now_us.saturating_sub(since_us) >= CLOCK_EVEN_MS * 1_000
    }
}

#[cfg(test)]
mod tests;
