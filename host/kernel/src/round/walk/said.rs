//! What a super says of each member when its walk is over.

use alloc::vec::Vec;

use super::{Carry, Moment, Ping, Walk};
use crate::id::NodeId;
use crate::round::{At, Bits, Partial, fact, rtt_code};

impl Walk {
    /// What this super saw, once the walk is over. `is_known(node, address)`: state has this address of the member
    /// already. Asked earlier, pings without a result are void.
    pub fn partial(&mut self, is_known: impl Fn(&NodeId, &str) -> bool) -> Partial {
        self.said = true;
        let len = self.queue.len();
        let mut partial = Partial {
            cluster: self.cluster.clone(),
            open: self.open,
            seat: self.seat,
            asked: Bits::zeros(len),
            seen: Bits::zeros(len),
            void: Bits::zeros(len),
            facts: Vec::new(),
            rtt: Vec::with_capacity(len),
            data: Vec::new(),
            addresses: Vec::new(),
            returns: self.returns.clone(),
            lag_ms: self.worst_lag_us / 1_000,
            open_since_ms: self.open_since_ms,
            open_all_round: self.open_all_round,
            refused: self.refused,
            secret: self.secret,
            spread_ms: self.spread_ms,
        };
        for (place, (turn, node)) in self.turns.iter().zip(self.queue.iter()).enumerate() {
            let at = place as u32;
            let moments = turn.moments.iter().filter_map(|index| self.schedule.get(*index as usize));
            let (said, late) = verdict(moments);
            match said {
                Ping::Answered => {
                    partial.asked.set(place);
                    partial.seen.set(place);
                }
                Ping::Missed => partial.asked.set(place),
                Ping::Absent => {}
                Ping::Void | Ping::Waiting | Ping::Live => partial.void.set(place),
            }
            let facts = turn.facts | if late { fact::LATE } else { 0 };
            if facts != 0 {
                partial.facts.push(At { at, value: facts });
            }
            partial.rtt.push(if turn.rtt_us == 0 { 0 } else { rtt_code(turn.rtt_us) });
            if turn.data != 0 {
                partial.data.push(At { at, value: turn.data });
            }
            if !turn.address.is_empty() && !is_known(node, &turn.address) {
                partial.addresses.push(At { at, value: turn.address.clone() });
            }
        }
        partial
    }

    /// What came after [`Walk::partial`], for the next walk.
    #[must_use]
    pub fn carry(&mut self) -> Carry {
        core::mem::take(&mut self.carry)
    }
}

/// What is said of a member, and whether an answer of it was late. A void ping does not count: the other one decides,
/// unless that found no stream, which may be our doing too.
pub(super) fn verdict<'a>(moments: impl Iterator<Item = &'a Moment>) -> (Ping, bool) {
    let (mut missed, mut void, mut absent, mut answered, mut late) = (false, false, false, false, false);
    for moment in moments {
        match moment.state {
            Ping::Missed => {
                missed = true;
                late |= moment.late;
            }
            Ping::Answered => answered = true,
            Ping::Absent => absent = true,
            Ping::Void | Ping::Waiting | Ping::Live => void = true,
        }
    }
    let said = match (missed, void, absent, answered) {
        (true, ..) => Ping::Missed,
        (false, true, true, _) | (false, true, false, false) => Ping::Void,
        (false, false, true, _) => Ping::Absent,
        (false, _, false, true) => Ping::Answered,
        (false, false, false, false) => Ping::Void,
    };
    (said, late)
}
