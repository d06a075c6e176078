//! What comes in from members while they are walked: what keeps a turn, what is a fact, and what is one message too many.

use super::{Heard, Ping, PongIn, Walk};
use crate::id::{NodeId, RoundId, Term};
use crate::limits::{PONG_ADDRESS_CHARS, UNASKED_MESSAGES};
use crate::members::is_printable;
use crate::round::fact;

impl Walk {
    /// A pong came off the socket at `at_us`.
    pub fn pong(&mut self, node: &NodeId, pong: &PongIn<'_>, at_us: u64) -> Heard {
        if !is_printable(pong.address, PONG_ADDRESS_CHARS) {
            return self.malformed(node);
        }
        let heard = self.answer(node, (pong.round, pong.term), pong.nonce, at_us, true);
        if let (Heard::Kept, Some(turn)) = (heard, self.turn(node)) {
            turn.data = pong.data;
            turn.address.clear();
            turn.address.push_str(pong.address);
        }
        heard
    }

    /// A member's own ping came off the socket at `at_us`. [`Heard::Kept`]: answer it.
    pub fn ping(&mut self, node: &NodeId, of: (RoundId, Term), nonce: u64, at_us: u64) -> Heard {
        self.answer(node, of, nonce, at_us, false)
    }

    /// A message that is understood and changes nothing: counted as one that nobody asked for.
    pub fn unasked(&mut self, node: &NodeId) -> Heard {
        self.note(node, Heard::Dropped)
    }

    /// A message that cannot be read.
    pub fn malformed(&mut self, node: &NodeId) -> Heard {
        self.note(node, Heard::Malformed)
    }

    /// A member asks to return.
    pub fn asks_to_return(&mut self, node: &NodeId) -> Heard {
        let Ok(place) = self.queue.binary_search(node) else { return self.note(node, Heard::Dropped) };
        let again = if self.said { !self.carry.returns.insert(*node) } else { self.returns.get(place) };
        self.returns.set(place);
        if again { self.note(node, Heard::Dropped) } else { Heard::Noted }
    }

    fn answer(&mut self, node: &NodeId, of: (RoundId, Term), nonce: u64, at_us: u64, is_pong: bool) -> Heard {
        let (round, term) = of;
        if term < self.open.term {
            return self.note(node, Heard::Dropped);
        }
        if round < self.open.round {
            return self.note(node, Heard::StaleNonce);
        }
        let timeout_us = self.timing.timeout_us;
        let ours = (round, term) == (self.open.round, self.open.term);
        let Some(turn) = self.queue.binary_search(node).ok().and_then(|place| self.turns.get_mut(place)) else {
            return self.note(node, Heard::OutOfTurn);
        };
        let index = turn.moments.into_iter().find(|index| {
            let moment = self.schedule.get(*index as usize);
            moment.is_some_and(|m| m.nonce == nonce && !matches!(m.state, Ping::Waiting | Ping::Absent))
        });
        let moment = index.filter(|_| ours).and_then(|index| self.schedule.get_mut(index as usize));
        let Some(moment) = moment else { return self.note(node, Heard::OutOfTurn) };
        if at_us > moment.sent_us.saturating_add(timeout_us) {
            match moment.state {
                // It waited on us as long as we on it: no fact. Counted all the same, for it may come again and again.
                Ping::Void => return self.note(node, Heard::Dropped),
                Ping::Live | Ping::Missed if !moment.late => {
                    moment.late = true;
                    return Heard::Late;
                }
                Ping::Live | Ping::Missed | Ping::Answered | Ping::Waiting | Ping::Absent => {}
            }
            return self.note(node, Heard::StaleNonce);
        }
        // A void ping that had not left has no answer; one that had and was answered in time shows that the member is up.
        let done = if is_pong { &mut moment.ponged } else { &mut moment.pinged };
        if core::mem::replace(done, true) {
            return self.note(node, Heard::StaleNonce);
        }
        moment.state = Ping::Answered;
        if is_pong {
            let rtt_us = at_us.saturating_sub(moment.sent_us).clamp(1, u64::from(u32::MAX)) as u32;
            turn.rtt_us = if turn.rtt_us == 0 { rtt_us } else { turn.rtt_us.min(rtt_us) };
        }
        // An answered window is closed: the walk may be over with it.
        self.judge(0);
        Heard::Kept
    }

    /// Counts a message that nobody asked for.
    fn note(&mut self, node: &NodeId, heard: Heard) -> Heard {
        let Some(turn) = self.queue.binary_search(node).ok().and_then(|place| self.turns.get_mut(place)) else {
            let unasked = self.strangers.entry(*node).or_default();
            *unasked = unasked.saturating_add(1);
            return if *unasked > UNASKED_MESSAGES { Heard::Flood } else { Heard::Dropped };
        };
        turn.unasked = turn.unasked.saturating_add(1);
        turn.facts |= heard.fact();
        if turn.unasked > UNASKED_MESSAGES {
            turn.facts |= fact::FLOOD;
            return Heard::Flood;
        }
        heard
    }
}
