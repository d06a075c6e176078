//! One super's walk over the queue: whom to ping when, and what to say of each member afterwards.
//!
//! Every member of the queue, attached or not, has one moment in `[0, I - T)` and one in ten a second one. Moments and
//! nonces are drawn from a secret that the super discloses in its partial report, so that anyone can draw them again and
//! nobody can know them before. A ping without a stream finds the member *absent*; one that is sent opens a window of
//! `T` in which a pong with its nonce, or the member's own ping with it, keeps the turn.
//!
//! # What the shell owes
//! 1. Read the clock, take everything that waits in the mailbox, and only then call [`Walk::tick`] with that reading:
//!    sockets are drained before deadlines are judged. A message counts by the time at which it came off the socket,
//!    also when that is known only after its deadline was judged.
//! 2. Call [`Walk::tick`] again by [`Walk::next_due_us`], which comes at least every `T`/8 while a window may be open: a
//!    call that is late by more than `T`/4 is a pause of ours and voids what it may have spoiled.
//! 3. One stream a key: [`Walk::detach`] is for the end of a member's newest stream only.
//! 4. Messages go to the walk of their round and term, and those that fit none to the newest walk.
//!
//! Invariant: a member is said to have missed only a ping in whose whole window this super was on time.
//!
//! Not here: streams, signatures, and what an absence is worth, which [`merge`](super::merge) knows.

mod hear;
mod said;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::draw::{self, Drawn};
use super::{Bits, OpenRound, fact};
use crate::id::{NodeId, RoundId, Seat, Term};
use crate::limits::VOID_LAG_DIVISOR;
use crate::settings::Settings;

/// The lengths of a round that a walk needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// *I*, µs.
    pub interval_us: u64,
    /// *T*, µs.
    pub timeout_us: u64,
    /// Share of members that get a second ping, basis points.
    pub second_ping_bp: u64,
}

impl Timing {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            interval_us: settings.interval_ms.saturating_mul(1_000),
            timeout_us: settings.timeout_ms().saturating_mul(1_000),
            second_ping_bp: settings.second_ping_bp,
        }
    }

    /// Pings leave before this, µs after the start.
    const fn span_us(&self) -> u64 {
        self.interval_us.saturating_sub(self.timeout_us)
    }

    /// A loop later than this voids.
    const fn void_lag_us(&self) -> u64 {
        self.timeout_us / VOID_LAG_DIVISOR
    }
}

/// What a walk begins with. Times in µs are of one monotonic clock of the shell, whatever its zero.
#[derive(Clone, Debug)]
pub struct WalkStart {
    /// `id#genesis`.
    pub cluster: String,
    /// The leader's word.
    pub open: OpenRound,
    /// This super's seat.
    pub seat: Seat,
    /// The queue as after the settlement of `open.base`.
    pub queue: Arc<[NodeId]>,
    /// From the settings in force.
    pub timing: Timing,
    /// Drawn for this walk alone.
    pub secret: [u8; 16],
    /// The walk starts here.
    pub now_us: u64,
    /// Lag from before the walk: how late the leader opened the round, on the leader, and what is still to be told
    /// ([`Attending::owed_us`](super::opening::Attending::owed_us)).
    pub waited_us: u64,
    /// When this super opened for attaching, ms since 1970.
    pub open_since_ms: u64,
    /// It is open for attaching during the whole round; a super that stops being so makes no report of it.
    pub open_all_round: bool,
    /// Its reconnect spread, ms.
    pub spread_ms: u64,
    /// What came after the partial report of the walk before ([`Walk::carry`]).
    pub carry: Carry,
}

/// What came in after a walk's partial report and belongs into the next one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Carry {
    /// Members that asked to return.
    pub returns: BTreeSet<NodeId>,
    /// Handshakes refused for load.
    pub refused: u32,
}

/// A ping that is to leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingOut {
    /// To whom.
    pub node: NodeId,
    /// Its nonce.
    pub nonce: u64,
}

/// What a message of a member was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It keeps the turn. A member's own ping is to be answered.
    Kept,
    /// A valid message that changes nothing: a wish to return.
    Noted,
    /// After its window.
    Late,
    /// With the nonce of an earlier ping.
    StaleNonce,
    /// Without a live nonce.
    OutOfTurn,
    /// It cannot be read.
    Malformed,
    /// It belongs to an earlier term, to a ping that does not count, or comes from outside the queue.
    Dropped,
    /// Unasked, and one too many: close the stream.
    Flood,
}

impl Heard {
    /// The word in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Noted => "noted",
            Self::Late => "late",
            Self::StaleNonce => "stale_nonce",
            Self::OutOfTurn => "out_of_turn",
            Self::Malformed => "malformed",
            Self::Dropped => "dropped",
            Self::Flood => "flood",
        }
    }

    const fn fact(self) -> u16 {
        match self {
            Self::StaleNonce => fact::STALE_NONCE,
            Self::OutOfTurn => fact::OUT_OF_TURN,
            Self::Malformed => fact::MALFORMED,
            // Whether a late answer is a fact is known when its ping is.
            Self::Kept | Self::Noted | Self::Late | Self::Dropped | Self::Flood => 0,
        }
    }
}

/// A pong as it came off the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PongIn<'a> {
    /// Of which round it says it is.
    pub round: RoundId,
    /// Of which term.
    pub term: Term,
    /// Its nonce.
    pub nonce: u64,
    /// Its `data`.
    pub data: u64,
    /// Its `address`; empty = none.
    pub address: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    /// Its moment is still to come.
    Waiting,
    /// Its window is open.
    Live,
    Answered,
    Missed,
    Absent,
    Void,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    at_us: u64,
    place: u32,
    nonce: u64,
    state: Ping,
    /// When it left, or was found to have nowhere to go. Ascending.
    sent_us: u64,
    ponged: bool,
    pinged: bool,
    late: bool,
}

impl Moment {
    const fn new(drawn: Drawn) -> Self {
        let Drawn { at_us, place, nonce } = drawn;
        Self { at_us, place, nonce, state: Ping::Waiting, sent_us: 0, ponged: false, pinged: false, late: false }
    }
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Turn {
    attached: bool,
    facts: u16,
    unasked: u16,
    rtt_us: u32,
    data: u64,
    address: String,
    /// Places in the schedule.
    moments: [u32; 2],
}

/// One super's walk over one round.
#[derive(Clone, Debug)]
pub struct Walk {
    cluster: String,
    open: OpenRound,
    seat: Seat,
    queue: Arc<[NodeId]>,
    timing: Timing,
    secret: [u8; 16],
    start_us: u64,
    open_since_ms: u64,
    open_all_round: bool,
    spread_ms: u64,
    /// All moments, ascending. Those before `next` are past, those before `judged` are closed.
    schedule: Vec<Moment>,
    next: usize,
    judged: usize,
    turns: Vec<Turn>,
    returns: Bits,
    refused: u32,
    worst_lag_us: u64,
    due_us: u64,
    /// Unasked messages from streams of keys that are not in this queue.
    strangers: BTreeMap<NodeId, u16>,
    said: bool,
    carry: Carry,
}

impl Walk {
    /// Draws the schedule. Nothing leaves before the first [`Walk::tick`].
    #[must_use]
    pub fn new(start: WalkStart) -> Self {
        let WalkStart { open, queue, timing, secret, now_us, .. } = start;
        let mut turns = vec![
            Turn {
                attached: false,
                facts: 0,
                unasked: 0,
                rtt_us: 0,
                data: 0,
                address: String::new(),
                moments: [NONE; 2]
            };
            queue.len()
        ];
        let drawn = draw::schedule(&secret, &open, queue.len(), timing.span_us(), timing.second_ping_bp);
        let schedule: Vec<Moment> = drawn.into_iter().map(Moment::new).collect();
        for (index, moment) in schedule.iter().enumerate() {
            if let Some([first, second]) = turns.get_mut(moment.place as usize).map(|turn| &mut turn.moments) {
                let free = if *first == NONE { first } else { second };
                *free = index as u32;
            }
        }
        let mut returns = Bits::zeros(queue.len());
        for node in &start.carry.returns {
            if let Ok(place) = queue.binary_search(node) {
                returns.set(place);
            }
        }
        Self {
            cluster: start.cluster,
            open,
            seat: start.seat,
            queue,
            timing,
            secret,
            start_us: now_us,
            open_since_ms: start.open_since_ms,
            open_all_round: start.open_all_round,
            spread_ms: start.spread_ms,
            schedule,
            next: 0,
            judged: 0,
            turns,
            returns,
            refused: start.carry.refused,
            worst_lag_us: start.waited_us,
            due_us: now_us,
            strangers: BTreeMap::new(),
            said: false,
            carry: Carry::default(),
        }
    }

    /// The round, its term and base.
    #[must_use]
    pub const fn open(&self) -> OpenRound {
        self.open
    }

    /// The queue that it walks.
    #[must_use]
    pub const fn queue(&self) -> &Arc<[NodeId]> {
        &self.queue
    }

    /// The members in the order of their first moments: the order that becomes public when the round is settled.
    pub fn order(&self) -> impl Iterator<Item = NodeId> {
        let first = |(index, moment): (usize, &Moment)| {
            let turn = self.turns.get(moment.place as usize)?;
            let [first, second] = turn.moments;
            // A second ping may come before the first; either tells when the member's turn begins.
            (first.min(second) == index as u32).then(|| self.queue.get(moment.place as usize).copied())?
        };
        self.schedule.iter().enumerate().filter_map(first)
    }

    /// A member has a stream. At the start of a walk: once for each that has one.
    pub fn attach(&mut self, node: &NodeId) {
        if let Some(turn) = self.turn(node) {
            turn.attached = true;
        }
    }

    /// A member's newest stream ended.
    pub fn detach(&mut self, node: &NodeId) {
        self.strangers.remove(node);
        if let Some(turn) = self.turn(node) {
            turn.attached = false;
        }
    }

    /// A handshake was refused for load.
    pub fn refuse(&mut self) {
        let refused = if self.said { &mut self.carry.refused } else { &mut self.refused };
        *refused = refused.saturating_add(1);
    }

    /// What is to be done by now: pings that leave are added to `pings`, windows that ended are closed.
    pub fn tick(&mut self, now_us: u64, pings: &mut Vec<PingOut>) {
        if self.is_over() {
            return;
        }
        let (due_us, void_lag_us) = (self.due_us, self.timing.void_lag_us());
        let late_us = now_us.saturating_sub(due_us);
        let stalled = late_us > void_lag_us;
        self.lagged(now_us, late_us);
        self.judge(now_us);

        let last_us = self.start_us.saturating_add(self.timing.span_us()).saturating_add(void_lag_us);
        let past = self.schedule.get_mut(self.next..).unwrap_or_default();
        for moment in past.iter_mut().take_while(|moment| self.start_us.saturating_add(moment.at_us) <= now_us) {
            let attached = self.turns.get(moment.place as usize).is_some_and(|turn| turn.attached);
            moment.sent_us = now_us;
            moment.state = match attached {
                // Its window would reach into the time in which the leader waits for the report.
                true if now_us >= last_us => Ping::Void,
                true => Ping::Live,
                // It may have hung up because it heard nothing of us.
                false if stalled => Ping::Void,
                false => Ping::Absent,
            };
            if let (Ping::Live, Some(node)) = (moment.state, self.queue.get(moment.place as usize)) {
                pings.push(PingOut { node: *node, nonce: moment.nonce });
            }
            self.next += 1;
        }
        self.judge(now_us);
        self.due_us = self.next_us(now_us);
    }

    /// When [`Walk::tick`] is due; `None` when the walk is over.
    #[must_use]
    pub fn next_due_us(&self) -> Option<u64> {
        (!self.is_over()).then_some(self.due_us)
    }

    /// Something of ours was late by so much until now: whatever it may have spoiled does not count.
    fn lagged(&mut self, now_us: u64, late_us: u64) {
        self.worst_lag_us = self.worst_lag_us.max(late_us);
        if late_us <= self.timing.void_lag_us() {
            return;
        }
        let since_us = now_us.saturating_sub(late_us);
        for moment in self.schedule.get_mut(..self.next).unwrap_or_default().iter_mut().rev() {
            if moment.sent_us.saturating_add(self.timing.timeout_us) < since_us {
                break;
            }
            match moment.state {
                Ping::Live | Ping::Missed => moment.state = Ping::Void,
                Ping::Absent if moment.sent_us >= since_us => moment.state = Ping::Void,
                Ping::Waiting | Ping::Answered | Ping::Absent | Ping::Void => {}
            }
        }
    }

    /// Whether the last window has closed: the partial report can leave.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.judged == self.schedule.len()
    }

    fn turn(&mut self, node: &NodeId) -> Option<&mut Turn> {
        let place = self.queue.binary_search(node).ok()?;
        self.turns.get_mut(place)
    }

    /// Closes windows: those that ended, and those that were answered.
    fn judge(&mut self, now_us: u64) {
        let timeout_us = self.timing.timeout_us;
        for moment in self.schedule.get_mut(self.judged..self.next).unwrap_or_default() {
            if moment.state == Ping::Live {
                if now_us < moment.sent_us.saturating_add(timeout_us) {
                    break;
                }
                moment.state = Ping::Missed;
            }
            self.judged += 1;
        }
    }

    fn next_us(&self, now_us: u64) -> u64 {
        let next = self.schedule.get(self.next).map(|moment| self.start_us.saturating_add(moment.at_us));
        let Some(oldest) = self.schedule.get(self.judged).filter(|moment| moment.state == Ping::Live) else {
            return next.unwrap_or(now_us);
        };
        let closes = oldest.sent_us.saturating_add(self.timing.timeout_us);
        let beat = now_us.saturating_add((self.timing.timeout_us / 8).max(1));
        closes.min(beat).min(next.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
