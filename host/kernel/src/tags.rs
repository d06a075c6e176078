//! Whether something is still as it was when somebody read it.
//!
//! A tag is a digest of a part of the state. Whoever reads the part gets its tag; a decision that names a tag counts only
//! while the part still has it. That is looked at when the decision is applied, so nothing can come in between.
//!
//! A part is what people change: the settings, the policies, a member's class. What every round changes, such as strikes and
//! points, is in no tag: else nobody could ever decide by it.

use alloc::vec::Vec;

use minicbor::Encode;

use crate::command::{OperateIf, Operation};
use crate::id::{Digest, NodeId};
use crate::outcome::{Reject, Reply};
use crate::state::{Effects, State};

impl State {
    /// The tag of the settings in force and to come.
    #[must_use]
    pub fn settings_tag(&self) -> Digest {
        let meta = &self.meta;
        tag(1, &(&meta.settings_version, &meta.settings, &meta.settings_next))
    }

    /// The tag of both slots, of all policies that are staged or in use, and of who is to acknowledge them.
    #[must_use]
    pub fn policies_tag(&self) -> Digest {
        let slots: Vec<_> = self.slots.iter().map(|slot| &slot.row).collect();
        let policies: Vec<_> = self.policies.iter().collect();
        let seats: Vec<_> = self.meta.seats.iter().map(|row| (row.seat, row.holder.node)).collect();
        tag(2, &(slots, policies, seats))
    }

    /// The tag of a member's class; `None` where there is no such member.
    #[must_use]
    pub fn class_tag(&self, node: &NodeId) -> Option<Digest> {
        let profile = &self.members.get(node)?.profile;
        Some(tag(3, &(node, profile.number, profile.class)))
    }

    /// The tag of the set of validators, with their names and addresses.
    #[must_use]
    pub fn validators_tag(&self) -> Digest {
        tag(4, &self.validators)
    }

    /// The tag of what a decision is about; `None` where that has none.
    fn tag_for(&self, what: &Operation) -> Option<Digest> {
        match what {
            Operation::Set(_) | Operation::FileSettings(_) => Some(self.settings_tag()),
            Operation::AcceptPolicy(_)
            | Operation::Activate { .. }
            | Operation::Emergency { .. }
            | Operation::Shadow { .. }
            | Operation::Rollback(_)
            | Operation::SetBuiltin { .. }
            | Operation::FileSaid { .. } => Some(self.policies_tag()),
            Operation::SetClass { node, .. } => self.class_tag(node),
            Operation::AcceptRound
            | Operation::Ban { .. }
            | Operation::LiftNodes(_)
            | Operation::LiftPolicy { .. }
            | Operation::Compensate(_)
            | Operation::RetryBatch(_) => None,
            Operation::AddValidator(_) | Operation::RemoveValidator(_) => Some(self.validators_tag()),
        }
    }

    pub(crate) fn operate_if(&mut self, only: &OperateIf, fx: &mut Effects) -> Result<Reply, Reject> {
        match self.tag_for(&only.operate.what) {
            Some(tag) if tag != only.tag => Err(Reject::Changed { tag }),
            Some(_) => self.operate(&only.operate, fx),
            // A class that is set for nobody is refused as ever.
            None if matches!(only.operate.what, Operation::SetClass { .. }) => self.operate(&only.operate, fx),
            None => Err(Reject::Malformed { what: "the tag: what this decides about has none".into() }),
        }
    }
}

fn tag<T: Encode<()>>(kind: u8, part: &T) -> Digest {
    // Encoding into memory does not fail.
    Digest::of(&minicbor::to_vec((kind, part)).unwrap_or_default())
}

#[cfg(test)]
mod tests;
