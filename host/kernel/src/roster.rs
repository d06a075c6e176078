//! Who sits where: the supers of the group and their seats (PROTOCOLS 1.9).
//!
//! A super gets the lowest free seat when it is promoted and keeps it until it is removed. Raft changes the group; the
//! leader tells the state what came of it. A seat counts from the round after the one in which it is given, so that a
//! round is observed by the same seats from its opening to its settlement.
//!
//! Removing a super is our doing as much as its death: whom it asked last has its grace to get to another one. Until that
//! has passed the seat stays taken, so that nobody's bits are read as another's.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Super, Supers};
use crate::id::{RoundId, Seat};
use crate::limits::SEATS;
use crate::outcome::{Change, Reject, Reply, Write};
use crate::round::SeatRow;
use crate::state::{Effects, State};

impl State {
    pub(crate) fn supers(&mut self, roster: &Supers, fx: &mut Effects) -> Result<Reply, Reject> {
        self.check_roster(roster)?;
        let now_ms = self.stamp(roster.now_ms);
        self.meta.supers_changed = roster.changed;

        let seats = core::mem::take(&mut self.meta.seats);
        let (mut stay, gone): (Vec<SeatRow>, Vec<SeatRow>) =
            seats.into_iter().partition(|row| roster.supers.iter().any(|new| new.node == row.holder.node));
        for row in &gone {
            fx.change(told(now_ms, "removed", row));
            self.forget_replica(row.seat, fx);
        }
        // The latest to go are the last to give way.
        self.meta.left.extend(gone);
        for row in &mut stay {
            if let Some(new) = roster.supers.iter().find(|new| new.node == row.holder.node) {
                row.holder = new.clone();
            }
        }
        // Seats do not depend on the order in which the supers are named.
        let mut new: Vec<&Super> =
            roster.supers.iter().filter(|new| !stay.iter().any(|row| row.holder.node == new.node)).collect();
        new.sort_unstable_by_key(|new| new.node);
        let room = usize::from(SEATS).saturating_sub(stay.len() + new.len());
        let surplus = self.meta.left.len().saturating_sub(room);
        let give_way: Vec<Seat> = self.meta.left.iter().take(surplus).map(|row| row.seat).collect();
        self.forget_seats(|row| give_way.contains(&row.seat), fx);
        for holder in new {
            let taken = |seat: u8| stay.iter().chain(&self.meta.left).any(|row| row.seat.0 == seat);
            let Some(seat) = (0..SEATS).find(|seat| !taken(*seat)) else { break };
            let row = SeatRow {
                seat: Seat(seat),
                holder: holder.clone(),
                came: false,
                open_since_ms: 0,
                grace_until: RoundId(0),
                load_rounds: 0,
                from: self.meta.settled.next(),
            };
            fx.change(told(now_ms, "promoted", &row));
            stay.push(row);
        }
        stay.sort_unstable_by_key(|row| row.seat);
        self.meta.seats = stay;
        Ok(Reply::Done)
    }

    fn check_roster(&self, roster: &Supers) -> Result<(), Reject> {
        let (supers, last) = (&roster.supers, self.meta.supers_changed);
        if roster.changed < last {
            return Err(Reject::OutOfBounds { what: "the change of the group".into(), min: last.0, max: u64::MAX });
        }
        if supers.is_empty() || supers.len() > usize::from(SEATS) {
            let what = "the number of supers".to_string();
            return Err(Reject::OutOfBounds { what, min: 1, max: SEATS.into() });
        }
        let mut nodes: Vec<_> = supers.iter().map(|new| new.node).collect();
        nodes.sort_unstable();
        if nodes.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(Reject::Malformed { what: "a super that is named twice".into() });
        }
        // A key holds one role at a time.
        if nodes.iter().any(|node| self.members.get(node).is_some_and(|member| !member.hot.place.is_out())) {
            return Err(Reject::WrongRole);
        }
        Ok(())
    }

    /// Forgets removed supers: their seats are free, and nobody was asked by them.
    pub(crate) fn forget_seats(&mut self, forgets: impl Fn(&SeatRow) -> bool, fx: &mut Effects) {
        let gone = self.meta.left.extract_if(.., |row| forgets(row));
        let bits = gone.filter(|row| row.seat.0 < SEATS).fold(0_u8, |bits, row| bits | 1 << row.seat.0);
        if bits == 0 {
            return;
        }
        for member in self.members.values_mut().filter(|member| member.hot.asked_seats & bits != 0) {
            member.hot.asked_seats &= !bits;
            fx.hot(member.profile.number);
        }
    }

    /// What a removed super said of policies says nothing of whoever gets its seat.
    fn forget_replica(&mut self, seat: Seat, fx: &mut Effects) {
        for (digest, row) in &mut self.policies {
            let before = row.ready.len() + row.unready.len();
            row.ready.retain(|ready| *ready != seat);
            row.unready.retain(|(unready, _)| *unready != seat);
            if row.ready.len() + row.unready.len() == before {
                continue;
            }
            fx.writes.push(Write::Policy(*digest, Some(Box::new(row.clone()))));
        }
    }
}

fn told(now_ms: u64, what: &str, row: &SeatRow) -> Change {
    let name = row.holder.shown();
    let (seat, free) = (format!("seat {}", row.seat), String::new());
    let (from, to) = if what == "removed" { (seat, free) } else { (free, seat) };
    Change { now_ms, what: format!("super {name} {what}"), from, to, ..Change::default() }
}

#[cfg(test)]
mod tests;
