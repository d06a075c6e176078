//! The queue: who has a turn. It changes only when a round is settled.
//!
//! Those who said goodbye, were banned or turned out to be outdated leave it then; those who joined enter it. Who has been
//! out of it for long with nothing earned is forgotten, because keys are free and rows are not (PROTOCOLS 6.5, 6.6).

use alloc::vec::Vec;

use crate::decide::Slot;
use crate::id::{MemberNumber, NodeId, RoundId};
use crate::limits::BLOCK_MEMBERS;
use crate::members::{Place, network};
use crate::outcome::{Notice, Told, Write};
use crate::policies::Memory;
use crate::round::Presence;
use crate::standing::Standing;
use crate::state::{Effects, State};
use crate::units::Points;

impl State {
    /// Moves members in and out of the queue and forgets those that are long gone. The queue changes here and nowhere else.
    pub(crate) fn turn_queue(&mut self, round: RoundId, fx: &mut Effects) {
        let keep_rounds = self.meta.settings.rounds_in_days(self.meta.settings.forget_days);
        let stamp_ms = self.meta.stamp_ms;
        let mut queue = Vec::with_capacity(self.queue.len() + self.meta.joins as usize);
        let mut closed = Vec::new();
        let mut forgotten = Vec::new();
        for (node, member) in &mut self.members {
            let hot = &mut member.hot;
            let before = hot.place;
            hot.place = match before {
                Place::Out | Place::OutOutdated => before,
                _ if hot.standing == Standing::Banned => Place::Out,
                Place::Entering => {
                    // Whoever asked it before it left has no part in where it is.
                    (hot.asked_seats, hot.away) = (0, 0);
                    Place::Queued
                }
                Place::Queued => Place::Queued,
                Place::Leaving => Place::Out,
                Place::Outdated => Place::OutOutdated,
            };
            if hot.place == Place::Queued {
                queue.push(*node);
            } else if !before.is_out() {
                hot.left = round;
                hot.presence = Presence::Unknown;
                hot.trusted_up = false;
                hot.rtt_us = 0;
                closed.push(*node);
            } else if hot.earned == Points::ZERO
                && round.since(hot.left.max(hot.until)) > keep_rounds
                // Rounds can have been longer than they are. A claim that is alive must not outlive its counter.
                && member.profile.claim.as_ref().is_none_or(|claim| claim.expires_ms <= stamp_ms)
            {
                forgotten.push(*node);
                continue;
            }
            if hot.place != before || hot.by_hand {
                hot.by_hand = false;
                fx.hot(member.profile.number);
            }
        }
        for node in forgotten {
            self.forget(node, fx);
        }
        self.queue = queue.into();
        if !closed.is_empty() {
            fx.notices.push(Notice::Closed(closed));
        }
    }

    fn forget(&mut self, node: NodeId, fx: &mut Effects) {
        let Some(member) = self.members.remove(&node) else { return };
        let number = member.profile.number;
        self.numbers.remove(&number);
        self.ungroup(network(&member.profile.ip));
        fx.writes.push(Write::Profile(node, None));
        fx.hot(number);
        for slot in Slot::ALL {
            for saved in [false, true] {
                self.clear_memory(slot, saved, number, fx);
            }
        }
    }

    /// Sets what a policy of the slot remembers of a member to zero: the active one, or the one whose memory is saved.
    pub(crate) fn clear_memory(&mut self, slot: Slot, saved: bool, number: MemberNumber, fx: &mut Effects) {
        let block = number.0 / BLOCK_MEMBERS;
        let state = self.slot_mut(slot);
        let memory = if saved { &mut state.saved } else { &mut state.memory };
        if memory.clear(number) {
            let bytes = memory.stored(block);
            if saved && memory.blocks.is_empty() {
                // An empty saved memory has no row size: nothing stored says one.
                *memory = Memory::default();
            }
            fx.writes.push(Write::Memory { slot, saved, block, bytes });
        }
    }

    /// What a member is told after a settlement.
    #[must_use]
    pub fn told(&self, node: &NodeId) -> Option<Told> {
        let member = self.members.get(node)?;
        Some(Told {
            node: *node,
            round: self.meta.settled,
            presence: member.hot.presence,
            standing: member.hot.standing,
            reason: member.profile.reason.clone(),
            earned: member.hot.earned,
            wallet: self.wallets.get(node).map_or(Points::ZERO, |wallet| wallet.balance),
            until: Some(member.hot.until).filter(|until| *until > RoundId(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Operation};
    use crate::scripts::world::{Seen, World, node};
    use crate::settings::Settings;

    #[test]
    fn a_block_of_memory_goes_with_the_last_row_in_it() {
        let mut world = World::found(Settings::default(), &["strikes"]);
        let join = world.join("A");
        world.apply(Command::Join(join));
        world.settle(&Seen::default());
        world.settle(&Seen { down: [node("A")].into(), ..Seen::default() });
        assert_eq!(world.state.slot(Slot::Ban).memory.blocks.len(), 1);
        let lifted = world.operate("", Operation::LiftNodes(vec![node("A")]));
        assert!(world.state.slot(Slot::Ban).memory.blocks.is_empty());
        let gone = Write::Memory { slot: Slot::Ban, saved: false, block: 0, bytes: None };
        assert!(lifted.writes.contains(&gone));
    }
}
