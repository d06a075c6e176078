//! When a leader may open a round, and when a super is open for attaching. Both are asked by whoever runs a super, and by
//! whoever simulates one.
//!
//! A leader opens *n* when an entry of its own term is applied, so that it knows what was settled before it; when the
//! policies that will decide *n* are prepared on its machine; and when *n* - 2 is settled, so that at most two rounds are
//! open. What it waits for the last is its own lag.
//!
//! A super is open for attaching while it takes part in rounds. One that hears of no round, or whose report of the last
//! one did not come through, keeps followers where no ping of them counts. It lets them go in time to be at another one
//! before its grace is over, which began with the first report that did not come: after two intervals at the latest, so
//! that two are left for the way. Waiting for a second lost report was too long by half a round.
//!
//! Invariant: neither depends on anything but its arguments.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{OpenRound, SeatRow};
use crate::decide::Slot;
use crate::id::{Digest, NodeId, RoundId, Term};
use crate::limits::{IDLE_INTERVALS, QUEUES};
use crate::state::State;

/// Why a leader does not open a round now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// No entry of its own term is applied yet, or there is a later leader.
    Term,
    /// A policy that will decide is not prepared here: the lead belongs to a super on which it is.
    Prepared,
    /// This round must be settled first.
    Settlement(RoundId),
    /// It is not due before this, µs.
    Due(u64),
}

/// The rounds that a leader of one term opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    term: Term,
    /// The last one that was opened.
    opened: Option<RoundId>,
    /// When the next one is due.
    due_us: u64,
    prepared: bool,
}

impl Opening {
    /// The leader of `term`. Its first round is due at once.
    #[must_use]
    pub const fn new(term: Term, now_us: u64) -> Self {
        Self { term, opened: None, due_us: now_us, prepared: true }
    }

    /// Its term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Whether all of [`policies`] are prepared here and now.
    pub const fn prepared(&mut self, is: bool) {
        self.prepared = is;
    }

    /// When the next round is due; `None` while it waits for a settlement or a policy.
    #[must_use]
    pub fn due_us(&self, settled: RoundId) -> Option<u64> {
        (self.prepared && self.next(settled).since(settled) <= 2).then_some(self.due_us)
    }

    /// The round that may be opened now, and how long it waited after it was due, µs.
    ///
    /// # Errors
    /// What it waits for.
    pub fn may(&self, now_us: u64, state: &State) -> Result<(OpenRound, u64), Wait> {
        let settled = state.meta.settled;
        let round = self.next(settled);
        if state.meta.term != self.term {
            return Err(Wait::Term);
        }
        if !self.prepared {
            return Err(Wait::Prepared);
        }
        if round.since(settled) > 2 {
            return Err(Wait::Settlement(settled.next()));
        }
        if now_us < self.due_us {
            return Err(Wait::Due(self.due_us));
        }
        // A new leader waited for nothing: that it is new is known from its term.
        let waited_us = if self.opened.is_some() { now_us - self.due_us } else { 0 };
        Ok((OpenRound { round, term: self.term, base: settled }, waited_us))
    }

    /// The round was opened. The next one is due an interval from now, not from when this one was due: a round is never
    /// shorter than the walk through it.
    pub const fn opened(&mut self, round: RoundId, now_us: u64, interval_us: u64) {
        self.opened = Some(round);
        self.due_us = now_us.saturating_add(interval_us);
    }

    fn next(&self, settled: RoundId) -> RoundId {
        self.opened.map_or(settled, |opened| opened.max(settled)).next()
    }
}

/// The policies that decide the next round, or will decide it once what is scheduled is in force.
#[must_use]
pub fn policies(state: &State) -> Vec<Digest> {
    let next = state.meta.settled.next();
    let of = |slot: Slot| {
        let row = &state.slot(slot).row;
        // The round after the next one may be opened before the next is settled.
        let scheduled = row.scheduled.filter(|scheduled| scheduled.round <= next.next());
        [row.active, scheduled.and_then(|scheduled| scheduled.policy)]
    };
    let mut all: Vec<Digest> = Slot::OF_ROUNDS.into_iter().flat_map(of).flatten().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether a super is open for attaching, since when, and for which of its rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attending {
    heard_us: Option<u64>,
    open_since_us: Option<u64>,
    /// Partial reports that left, of rounds that are not settled: which round, and the lag that it told.
    said: VecDeque<(RoundId, u64)>,
    /// The last settled round of those that it reported is without its report.
    is_lost: bool,
    /// The worst lag that no report has told yet.
    untold_us: u64,
}

impl Attending {
    /// The leader's word that a round begins was taken. `at_us`: the earliest time at which it may have come. What is found
    /// after a pause may be as old as the pause, and the leader out of reach since.
    pub fn heard(&mut self, at_us: u64) {
        self.heard_us = self.heard_us.max(Some(at_us));
    }

    /// A partial report left that told this lag.
    pub fn said(&mut self, round: RoundId, lag_us: u64) {
        // A report counts in ms.
        if lag_us / 1_000 >= self.untold_us / 1_000 {
            self.untold_us = 0;
        }
        self.said.push_back((round, lag_us));
        // Two rounds are open at most; a round may be opened again by the next leader.
        while self.said.len() > QUEUES {
            self.said.pop_front();
        }
    }

    /// This super was late by so much, in a walk or outside of one.
    pub fn lagged(&mut self, lag_us: u64) {
        self.untold_us = self.untold_us.max(lag_us);
    }

    /// The lag that the next walk begins with, µs. What a report told that was thrown away, because the leader changed or it
    /// was late, is told again: followers hung up all the same, and the grace that they are due begins with a report.
    #[must_use]
    pub fn owed_us(&self) -> u64 {
        self.said.iter().map(|(_, lag_us)| *lag_us).fold(self.untold_us, u64::max)
    }

    /// A round was settled here. `row`: this super's seat as after it.
    pub fn settled(&mut self, round: RoundId, row: Option<&SeatRow>) {
        let Some(row) = row else { return };
        let (of_it, later): (VecDeque<_>, VecDeque<_>) = self.said.drain(..).partition(|(said, _)| *said <= round);
        self.said = later;
        self.is_lost = !row.came && (self.is_lost || of_it.iter().any(|(said, _)| *said == round));
        if !row.came {
            of_it.into_iter().for_each(|(_, lag_us)| self.lagged(lag_us));
        }
    }

    /// Looks whether it is open now. One that is not sends its followers away and makes no report of the rounds in which
    /// it closed. `row`: its seat, `None` for one that has none.
    pub fn look(&mut self, now_us: u64, interval_us: u64, row: Option<&SeatRow>) -> bool {
        let idle_us = interval_us.saturating_mul(IDLE_INTERVALS);
        let hears = self.heard_us.is_some_and(|heard_us| now_us.saturating_sub(heard_us) < idle_us);
        let is_open = row.is_some() && hears && !self.is_lost;
        self.open_since_us = if is_open { self.open_since_us.or(Some(now_us)) } else { None };
        is_open
    }

    /// Since when it is open, µs.
    #[must_use]
    pub const fn open_since_us(&self) -> Option<u64> {
        self.open_since_us
    }

    /// When [`Attending::look`] may say something else by itself.
    #[must_use]
    pub fn due_us(&self, interval_us: u64) -> Option<u64> {
        let idle_us = interval_us.saturating_mul(IDLE_INTERVALS);
        self.open_since_us.and(self.heard_us).map(|heard_us| heard_us.saturating_add(idle_us))
    }
}

/// The queues as after the last settlements: a walk covers the one as after its base, also where a later round has been
/// settled since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    kept: VecDeque<(RoundId, Arc<[NodeId]>)>,
}

impl Queues {
    /// Keeps the queue of a state. The same again is harmless.
    pub fn keep(&mut self, state: &State) {
        if self.kept.back().is_some_and(|(round, _)| *round >= state.meta.settled) {
            return;
        }
        self.kept.push_back((state.meta.settled, state.queue.clone()));
        while self.kept.len() > QUEUES {
            self.kept.pop_front();
        }
    }

    /// The queue as after a settlement; `None` where that is not applied here yet, or too long ago.
    #[must_use]
    pub fn of(&self, base: RoundId) -> Option<&Arc<[NodeId]>> {
        self.kept.iter().find(|(round, _)| *round == base).map(|(_, queue)| queue)
    }
}

#[cfg(test)]
mod tests;
