//! What happens before a settlement. All of it lives in memory: pings never touch the log.
//!
//! The leader opens round *n* ([`OpenRound`]). On every super [`walk`] gives each member of the queue one moment, and
//! for one in ten a second one; a ping leaves, a pong or the member's own ping keeps the turn. When its last window has
//! closed, the super says what it saw in one signed [`Partial`]. On the leader [`merge`] makes one [`Report`] of all
//! partial reports, [`guard`] marks it where our own fault is the likelier cause, and [`lead`] says when to open, merge
//! and settle. [`opening`] says when a leader may open a round, and when a super is open for attaching.
//!
//! Invariant: observations are worthless outside their round and term. Whatever carries a lower term is dropped.

pub mod draw;
pub mod walk;

pub mod merge;

pub mod guard;

pub mod lead;
pub mod opening;

mod bits;
mod partial;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod simulation;

pub use bits::Bits;
pub use partial::{Partial, SignedPartial, rtt_code, rtt_us};

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};

use crate::decide::presence;
use crate::id::{RoundId, Seat, Term};

/// Whether a member was there. `Unknown` is never `Down` and never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Presence {
    /// No valid answer, though there was a fair chance.
    #[n(0)]
    Down,
    /// Answered.
    #[n(1)]
    Up,
    /// Nobody had a fair chance to see it.
    #[default]
    #[n(2)]
    Unknown,
}

impl Presence {
    /// The code in the policies' column.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Down => presence::DOWN,
            Self::Up => presence::UP,
            Self::Unknown => presence::UNKNOWN,
        }
    }

    /// The value of a code; anything but 0 and 1 is unknown.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            presence::DOWN => Self::Down,
            presence::UP => Self::Up,
            _ => Self::Unknown,
        }
    }

    /// The word in logs and the API; `None` for unknown, which the API shows as null.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Down => Some("down"),
            Self::Up => Some("up"),
            Self::Unknown => None,
        }
    }
}

/// Bits of the facts column.
pub mod fact {
    /// No stream in its turn.
    pub const ABSENT: u16 = 1;
    /// A ping without a valid answer in its window.
    pub const MISSED: u16 = 2;
    /// An answer after its window.
    pub const LATE: u16 = 4;
    /// An answer with a nonce of an earlier ping.
    pub const STALE_NONCE: u16 = 8;
    /// A message without a live nonce.
    pub const OUT_OF_TURN: u16 = 16;
    /// A message that cannot be read.
    pub const MALFORMED: u16 = 32;
    /// Too many unasked messages: its stream was closed.
    pub const FLOOD: u16 = 64;

    /// Names of the bits, in order.
    pub const NAMES: [&str; 7] = ["absent", "missed", "late", "stale_nonce", "out_of_turn", "malformed", "flood"];
}

/// The leader's word that a round begins. It goes to every super, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OpenRound {
    /// The round.
    #[n(0)]
    pub round: RoundId,
    /// The leader's term.
    #[n(1)]
    pub term: Term,
    /// The last settled round when it opened: the walk covers the queue as after its settlement.
    #[n(2)]
    pub base: RoundId,
}

/// Something about one member, named by its place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct At<T> {
    /// Place in the queue, from 0.
    #[n(0)]
    pub at: u32,
    /// What.
    #[n(1)]
    pub value: T,
}

/// What state keeps of a seat between rounds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SeatRow {
    /// Which.
    #[n(0)]
    pub seat: Seat,
    /// The super on it.
    #[n(1)]
    pub holder: crate::command::Super,
    /// Its last partial report came in time.
    #[n(2)]
    pub came: bool,
    /// When it opened for attaching, as in its last partial report; 0 before the first.
    #[n(3)]
    pub open_since_ms: u64,
    /// Its grace lasts through this round.
    #[n(4)]
    pub grace_until: RoundId,
    /// Rounds in a row in which load extended its grace.
    #[n(5)]
    pub load_rounds: u32,
    /// It takes part in rounds whose base is this one or a later one.
    #[n(6)]
    #[cbor(default)]
    pub from: RoundId,
}

impl SeatRow {
    /// Whether its partial report of a round counts, and is waited for. One that was promoted after a round opened, or
    /// after the round on which it rests was settled, says nothing of it: whoever audits the round finds the same seats.
    #[must_use]
    pub fn takes_part(&self, open: &OpenRound) -> bool {
        self.from <= open.base
    }
}

/// Why a round is suspect. Bits, because several may hold.
pub mod cause {
    /// Too many of those up in the last trusted round are down.
    pub const MISSING: u8 = 1;
    /// Half or more of the supers that reported were late themselves.
    pub const LAG: u8 = 2;
    /// The leader changed.
    pub const LEADER: u8 = 4;
    /// Observers contradict each other.
    pub const DISAGREEMENT: u8 = 8;

    /// Names of the bits, in order.
    pub const NAMES: [&str; 4] = ["many_missing", "lag", "leader_change", "disagreement"];
}

/// The guard's verdict with the numbers from which anyone can derive it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Marks {
    /// [`cause`] bits; 0 = trusted.
    #[n(0)]
    pub causes: u8,
    /// Up in the last trusted round, still in the queue, down now.
    #[n(1)]
    pub missing: u32,
    /// Up in the last trusted round and still in the queue.
    #[n(2)]
    pub trusted_up: u32,
    /// Partial reports that came.
    #[n(3)]
    pub partials: u32,
    /// Those whose worst lag was above the bound.
    #[n(4)]
    pub lagging: u32,
    /// Members asked by two or more observers.
    #[n(5)]
    pub asked_twice: u32,
    /// Those of them that were seen by one and missed by another.
    #[n(6)]
    pub disputed: u32,
    /// Term of the settlement before.
    #[n(7)]
    pub term_before: Term,
}

impl Marks {
    /// Whether the round is suspect.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.causes != 0
    }
}

/// What one seat contributed to a report.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SeatReport {
    /// Which.
    #[n(0)]
    pub seat: Seat,
    /// Its partial report came in time.
    #[n(1)]
    pub came: bool,
    /// As in the partial report; 0 where none came.
    #[n(2)]
    pub lag_ms: u64,
    /// As in the partial report; the value before where none came.
    #[n(3)]
    pub open_since_ms: u64,
    /// As in the partial report.
    #[n(4)]
    pub refused: u32,
    /// Its grace lasts through this round.
    #[n(5)]
    pub grace_until: RoundId,
    /// Rounds in a row in which load extended its grace.
    #[n(6)]
    pub load_rounds: u32,
    /// Its round trips, codes in the order of the report; empty where none came.
    #[n(7)]
    pub rtt: Vec<u16>,
}

/// The merged whole: what policies get. Columns are in the order of the queue as after the settlement of the round
/// before.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Report {
    /// The round.
    #[n(0)]
    pub round: RoundId,
    /// The term in which it was observed.
    #[n(1)]
    pub term: Term,
    /// [`Presence`] codes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub presence: Vec<u8>,
    /// Fact bits, OR-ed over observers.
    #[n(3)]
    pub facts: Vec<u16>,
    /// One bit a seat that asked (its ping counted).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub asked: Vec<u8>,
    /// One bit a seat that saw it.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub seen: Vec<u8>,
    /// `data` of its last pong, from the lowest seat that saw it.
    #[n(6)]
    pub data: Vec<u64>,
    /// Members whose pong gave another address than state has.
    #[n(7)]
    pub addresses: Vec<At<String>>,
    /// Members that asked to return.
    #[n(8)]
    pub returns: Bits,
    /// Every seat that is taken.
    #[n(9)]
    pub seats: Vec<SeatReport>,
    /// The guard's verdict.
    #[n(10)]
    pub marks: Marks,
}

impl Report {
    /// Members in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.presence.len()
    }

    /// Whether the queue was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.presence.is_empty()
    }

    /// Whether all columns have this length: decoded ones may not.
    #[must_use]
    pub fn is_well_formed(&self, len: usize) -> bool {
        self.presence.len() == len
            && self.facts.len() == len
            && self.asked.len() == len
            && self.seen.len() == len
            && self.data.len() == len
            && self.returns.is_well_formed(len)
            && self.seats.iter().all(|seat| seat.rtt.is_empty() || seat.rtt.len() == len)
    }

    /// Presence of the member at a place.
    #[must_use]
    pub fn presence(&self, at: usize) -> Presence {
        self.presence.get(at).map_or(Presence::Unknown, |code| Presence::from_code(*code))
    }

    /// The lowest round trip that any observer measured of the member at a place, µs; 0 = none.
    #[must_use]
    pub fn rtt_us(&self, at: usize) -> u32 {
        let codes = self.seats.iter().filter_map(|seat| seat.rtt.get(at).copied()).filter(|code| *code != 0);
        codes.min().map_or(0, rtt_us)
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("unknown"))
    }
}
