//! Many partial reports, one report.
//!
//! Per member: any observer that saw it makes it up; else any void ping makes it unknown; else any miss makes it down;
//! else any absence that counts makes it down; else it is unknown.
//!
//! An absence does not count for members that a super asked last which is in its grace: whoever lost it is still on the
//! way to another. On that way the next super may fail too, and nobody knows to which of them the member was going: while
//! it is on its way, the grace of any super excuses it. Three graces in all ([`WAY_GRACES`]) is as long as a way may be, and
//! once an absence has counted no grace excuses the next, so that nobody who has gone hides behind supers that never stay
//! up. And an absence counts only at a super that is not in its grace itself: where all of them have just opened, nobody had
//! the time to come. A member that no super has asked since it entered the queue is on its way with or without a grace: its join may
//! have been committed long after it was told to try again. Whoever goes while its own supers are well is judged at once, whatever happens to the others.
//!
//! Invariant: `unknown` comes from us and `down` from the member. Nothing that a super failed to do makes a member down.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::{At, Bits, OpenRound, Partial, Presence, Report, SeatReport, SeatRow, SignedPartial, fact, guard};
use crate::decide::presence;
use crate::envelope::{PARTIAL_TYPE, verify};
use crate::id::{NodeId, RoundId, Seat};
use crate::limits::{LOAD_GRACE_ROUNDS, PONG_ADDRESS_CHARS, RECONNECT_SPREAD_MS, SEATS, WAY_GRACES};
use crate::members::{Hot, Member, Place, is_printable};
use crate::settings::Settings;
use crate::standing::Standing;
use crate::state::State;

/// Why a partial report is not taken. It then says nothing, as if it had not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartialError {
    /// Its signer sits on no seat.
    NoSeat,
    /// It names another seat than its signer's.
    WrongSeat {
        /// Its signer's.
        expected: Seat,
        /// The one that it names.
        found: Seat,
    },
    /// The signature is not over these bytes by this key.
    Signature,
    /// The bytes are no partial report.
    Encoding,
    /// It is of another cluster, or of another life of this one.
    Cluster {
        /// The one that it names.
        found: String,
    },
    /// Its signer was promoted after the round that it is of.
    TooNew {
        /// Takes part from this base on.
        from: RoundId,
    },
    /// It is of a round, term or base that is not open.
    NotOpen {
        /// What it is of.
        found: OpenRound,
    },
    /// A column or list does not fit the queue.
    Length {
        /// Which.
        what: &'static str,
    },
    /// A report of that seat is in already.
    Again,
}

impl fmt::Display for PartialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeat => f.write_str("its signer is no super of this cluster"),
            Self::WrongSeat { expected, found } => write!(f, "it names seat {found}, its signer sits on {expected}"),
            Self::Signature => f.write_str("its signature is not valid"),
            Self::Encoding => f.write_str("it cannot be decoded; do both supers run the same release?"),
            Self::Cluster { found } => write!(f, "it is of the cluster {found}"),
            Self::TooNew { from } => write!(f, "its signer takes part in rounds on {from} and later ones"),
            Self::NotOpen { found } => {
                write!(f, "round {} of term {} on {} is not open", found.round, found.term, found.base)
            }
            Self::Length { what } => write!(f, "`{what}` does not fit the queue"),
            Self::Again => f.write_str("a report of this seat is in already"),
        }
    }
}

impl core::error::Error for PartialError {}

/// Checks whose a partial report is, and of which cluster.
///
/// # Errors
/// The first thing that does not fit.
pub fn check(signed: &SignedPartial, state: &State) -> Result<Partial, PartialError> {
    let row = state.meta.seats.iter().find(|row| row.holder.node == signed.signer).ok_or(PartialError::NoSeat)?;
    if !verify(&signed.signer, PARTIAL_TYPE, &signed.payload, &signed.signature) {
        return Err(PartialError::Signature);
    }
    let partial: Partial = minicbor::decode(&signed.payload).map_err(|_| PartialError::Encoding)?;
    if partial.seat != row.seat {
        return Err(PartialError::WrongSeat { expected: row.seat, found: partial.seat });
    }
    if partial.cluster != state.meta.cluster.to_string() {
        return Err(PartialError::Cluster { found: partial.cluster });
    }
    if !row.takes_part(&partial.open) {
        return Err(PartialError::TooNew { from: row.from });
    }
    Ok(partial)
}

/// Checks that columns and lists fit a queue of `len` members.
///
/// # Errors
/// [`PartialError::Length`] with the first one that does not.
pub fn check_lengths(partial: &Partial, len: usize) -> Result<(), PartialError> {
    fn fits<T>(list: &[At<T>], len: usize) -> bool {
        list.is_sorted_by(|a, b| a.at < b.at) && list.last().is_none_or(|last| (last.at as usize) < len)
    }
    let addresses = &partial.addresses;
    [
        ("asked", partial.asked.is_well_formed(len)),
        ("seen", partial.seen.is_well_formed(len) && partial.seen.is_within(&partial.asked)),
        ("void", partial.void.is_well_formed(len) && partial.void.is_apart_from(&partial.asked)),
        ("returns", partial.returns.is_well_formed(len)),
        ("rtt", partial.rtt.len() == len),
        ("facts", fits(&partial.facts, len)),
        ("data", fits(&partial.data, len)),
        ("addresses", fits(addresses, len) && addresses.iter().all(|a| is_printable(&a.value, PONG_ADDRESS_CHARS))),
    ]
    .into_iter()
    .find(|(_, fits)| !fits)
    .map_or(Ok(()), |(what, _)| Err(PartialError::Length { what }))
}

/// Merges what the seats saw of the round that `open` names, and marks the result. `queue` is the one as after
/// `open.base`; the report is in the order of the queue of `state`, where the round before is the last settled one.
/// Every partial report went through [`check`] and [`check_lengths`], one a seat.
#[must_use]
pub fn merge(state: &State, open: &OpenRound, queue: &[NodeId], partials: &[Partial]) -> Report {
    let mut partials: Vec<&Partial> = partials.iter().collect();
    partials.sort_by_key(|partial| partial.seat);
    let settings = &state.meta.settings;
    let len = state.queue.len();
    let places = Places::of(queue, &state.queue);

    // Those who lost a super come back to the others over the spread that these tell them.
    let spread_ms = partials.iter().map(|partial| partial.spread_ms).max().unwrap_or_default();
    let grace_rounds = grace_rounds(settings, spread_ms);
    let of_seat = |row: &SeatRow| partials.iter().find(|partial| partial.seat == row.seat).copied();
    let takes_part = state.meta.seats.iter().filter(|row| row.takes_part(open));
    let seats: Vec<SeatReport> = takes_part
        .chain(&state.meta.left)
        .map(|row| {
            let mut seat = seat_report(row, of_seat(row), open.round, grace_rounds, settings.interval_ms);
            seat.rtt = of_seat(row).map(|partial| places.column(&partial.rtt, len)).unwrap_or_default();
            seat
        })
        .collect();
    let in_grace = seats.iter().filter(|seat| seat.grace_until >= open.round).map(|seat| bit(seat.seat));
    let grace = Grace { seats: in_grace.fold(0, |mask, bit| mask | bit), way_rounds: way_rounds(grace_rounds) };

    let mut report = Report {
        round: open.round,
        term: open.term,
        presence: Vec::with_capacity(len),
        facts: Vec::with_capacity(len),
        asked: Vec::with_capacity(len),
        seen: Vec::with_capacity(len),
        data: vec![0; len],
        addresses: Vec::new(),
        returns: Bits::zeros(len),
        seats,
        marks: super::Marks::default(),
    };
    for (at, (_, member)) in state.queued().enumerate() {
        let said = places.base(at).map_or(Said::default(), |place| Said::of(&partials, place));
        report.presence.push(said.presence(member, grace).code());
        report.facts.push(said.facts());
        report.asked.push(said.asked);
        report.seen.push(said.seen);
    }
    for partial in &partials {
        take_lists(&mut report, partial, &places);
    }
    report.marks = guard::derive(&report, state);
    report
}

/// Rounds of a grace: the setting, and at least twice the reconnect spread.
#[must_use]
pub fn grace_rounds(settings: &Settings, spread_ms: u64) -> u64 {
    let spread_ms = spread_ms.min(RECONNECT_SPREAD_MS);
    settings.grace_rounds.max((2 * spread_ms).div_ceil(settings.interval_ms.max(1)))
}

/// Trusted rounds that a member may be on its way.
#[must_use]
pub fn way_rounds(grace_rounds: u64) -> u64 {
    grace_rounds.saturating_mul(WAY_GRACES).max(LOAD_GRACE_ROUNDS.into())
}

/// Whose absence does not count in a round.
#[derive(Clone, Copy, Debug)]
struct Grace {
    /// One bit a seat that is in its grace.
    seats: u8,
    way_rounds: u64,
}

impl Grace {
    fn excuses(self, hot: &Hot) -> bool {
        let excused = match hot.asked_seats {
            // It has not arrived yet.
            0 => true,
            last => self.seats & last != 0 || hot.away > 0 && self.seats != 0,
        };
        excused && u64::from(hot.away) < self.way_rounds
    }
}

/// What becomes of a seat in a round: its grace begins, goes on or ends (PROTOCOLS 3.10). Round trips are left out.
#[must_use]
pub fn seat_report(
    row: &SeatRow,
    partial: Option<&Partial>,
    round: RoundId,
    grace_rounds: u64,
    interval_ms: u64,
) -> SeatReport {
    let mut seat = SeatReport {
        seat: row.seat,
        came: partial.is_some(),
        lag_ms: partial.map_or(0, |partial| partial.lag_ms),
        open_since_ms: partial.map_or(row.open_since_ms, |partial| partial.open_since_ms),
        refused: partial.map_or(0, |partial| partial.refused),
        grace_until: row.grace_until,
        load_rounds: 0,
        rtt: Vec::new(),
    };
    let until = round.plus(grace_rounds);
    let started = seat.open_since_ms != row.open_since_ms;
    let died = !seat.came && row.came;
    // Whoever heard nothing of a super for a whole round has hung up as if it had died. Of a pause that began between two
    // walks only the part in the second one is measured.
    let paused = seat.lag_ms >= interval_ms / 2;
    if started || died || paused {
        seat.grace_until = seat.grace_until.max(until);
    }
    // A row of load goes on while the grace lasts, and is made good by as many quiet rounds after it, else a pause of one
    // round would begin it anew for ever.
    let loaded = seat.refused > 0;
    let goes_on = row.load_rounds > 0 && row.grace_until >= round;
    seat.load_rounds = if loaded || goes_on {
        row.load_rounds.saturating_add(1).min(LOAD_GRACE_ROUNDS + 1)
    } else {
        row.load_rounds.saturating_sub(1)
    };
    if loaded && seat.load_rounds <= LOAD_GRACE_ROUNDS {
        let left = u64::from(LOAD_GRACE_ROUNDS - seat.load_rounds);
        seat.grace_until = seat.grace_until.max(round.plus(grace_rounds.min(left)));
    }
    seat
}

const fn bit(seat: Seat) -> u8 {
    if seat.0 < SEATS { 1 << seat.0 } else { 0 }
}

/// What all observers said of one member, one bit a seat.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    asked: u8,
    seen: u8,
    void: u8,
    absent: u8,
}

impl Said {
    fn of(partials: &[&Partial], place: usize) -> Self {
        let mut said = Self::default();
        for partial in partials {
            let bit = bit(partial.seat);
            if partial.asked.get(place) {
                said.asked |= bit;
                if partial.seen.get(place) {
                    said.seen |= bit;
                }
            } else if partial.void.get(place) {
                said.void |= bit;
            } else if partial.open_all_round {
                said.absent |= bit;
            }
        }
        said
    }

    fn presence(self, member: &Member, grace: Grace) -> Presence {
        let down = self.asked & !self.seen != 0 || self.absent & !grace.seats != 0 && !grace.excuses(&member.hot);
        match member.hot.place {
            _ if self.seen != 0 => Presence::Up,
            _ if self.void != 0 || !down => Presence::Unknown,
            // It said goodbye, or its version is not accepted any more: it leaves without a strike.
            Place::Leaving | Place::Outdated => Presence::Unknown,
            // Banned by hand since the settlement before: its stream was closed by us.
            _ if member.hot.standing == Standing::Banned => Presence::Unknown,
            Place::Out | Place::Entering | Place::Queued | Place::OutOutdated => Presence::Down,
        }
    }

    /// The facts that follow from the bitmaps. Absent is who was absent everywhere: with more supers than a member
    /// attaches to, it always is somewhere.
    const fn facts(self) -> u16 {
        let mut facts = 0;
        if self.absent != 0 && self.asked == 0 && self.void == 0 {
            facts |= fact::ABSENT;
        }
        if self.asked & !self.seen != 0 {
            facts |= fact::MISSED;
        }
        facts
    }
}

/// Takes a partial report's sparse lists. Called in ascending order of seat: the lowest one that saw a member counts.
fn take_lists(report: &mut Report, partial: &Partial, places: &Places) {
    const OBSERVED: u16 = fact::LATE | fact::STALE_NONCE | fact::OUT_OF_TURN | fact::MALFORMED | fact::FLOOD;
    let bit = bit(partial.seat);
    for At { at, value } in &partial.facts {
        if let Some(facts) = places.now(*at).and_then(|at| report.facts.get_mut(at)) {
            *facts |= value & OBSERVED;
        }
    }
    let is_lowest =
        |seen: &[u8], at: usize| seen.get(at).is_some_and(|seen| seen.trailing_zeros() == bit.trailing_zeros());
    for At { at, value } in &partial.data {
        if let Some(at) = places.now(*at).filter(|at| is_lowest(&report.seen, *at))
            && let Some(data) = report.data.get_mut(at)
        {
            *data = *value;
        }
    }
    for At { at, value } in &partial.addresses {
        if let Some(at) = places.now(*at).filter(|at| is_lowest(&report.seen, *at)) {
            report.addresses.push(At { at: at as u32, value: value.clone() });
        }
    }
    for at in (0..partial.returns.len()).filter(|at| partial.returns.get(*at)) {
        if let Some(at) = places.now(at as u32) {
            report.returns.set(at);
        }
    }
}

/// Where the members of one queue are in the other. Both ascend.
struct Places {
    /// By place in the queue of now, the place in the base queue; empty where both are the same.
    base: Vec<u32>,
    /// The other way round.
    now: Vec<u32>,
    len: usize,
}

const GONE: u32 = u32::MAX;

impl Places {
    fn of(base: &[NodeId], now: &[NodeId]) -> Self {
        let mut places = Self { base: Vec::new(), now: Vec::new(), len: now.len() };
        if base == now {
            return places;
        }
        places.base = vec![GONE; now.len()];
        places.now = vec![GONE; base.len()];
        let mut olds = base.iter().zip(places.now.iter_mut()).enumerate().peekable();
        for (at, (node, to)) in now.iter().zip(places.base.iter_mut()).enumerate() {
            while olds.next_if(|(_, (old, _))| *old < node).is_some() {}
            if let Some((place, (_, from))) = olds.next_if(|(_, (old, _))| *old == node) {
                *to = place as u32;
                *from = at as u32;
            }
        }
        places
    }

    fn is_same(&self) -> bool {
        self.base.is_empty() && self.now.is_empty()
    }

    fn base(&self, at: usize) -> Option<usize> {
        if self.is_same() {
            return Some(at);
        }
        self.base.get(at).filter(|place| **place != GONE).map(|place| *place as usize)
    }

    fn now(&self, place: u32) -> Option<usize> {
        if self.is_same() {
            return Some(place as usize).filter(|at| *at < self.len);
        }
        self.now.get(place as usize).filter(|at| **at != GONE).map(|at| *at as usize)
    }

    fn column(&self, column: &[u16], len: usize) -> Vec<u16> {
        if self.is_same() {
            return column.to_vec();
        }
        (0..len).map(|at| self.base(at).and_then(|place| column.get(place)).copied().unwrap_or_default()).collect()
    }
}

/// Members up, down and unknown in a presence column.
#[must_use]
pub fn counts(column: &[u8]) -> (u32, u32, u32) {
    let count = |code: u8| column.iter().filter(|c| **c == code).count() as u32;
    let (up, down) = (count(presence::UP), count(presence::DOWN));
    (up, down, column.len() as u32 - up - down)
}

#[cfg(test)]
mod tests;
