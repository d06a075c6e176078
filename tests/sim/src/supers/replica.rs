//! Who puts the log in order for a super: the model, or the Raft that the program has.

use std::collections::BTreeMap;

use kernel::id::NodeId;

use crate::Us;
use crate::raft::{Id, Raft, Role};
use crate::real;

/// See the module.
#[derive(Debug)]
pub(crate) enum Replica {
    Model(Box<Raft>),
    Real(real::Replica),
}

impl Replica {
    pub(crate) fn model(&self) -> Option<&Raft> {
        match self {
            Self::Model(raft) => Some(raft),
            Self::Real(_) => None,
        }
    }

    pub(crate) fn model_mut(&mut self) -> Option<&mut Raft> {
        match self {
            Self::Model(raft) => Some(raft),
            Self::Real(_) => None,
        }
    }

    pub(crate) const fn real(&self) -> Option<&real::Replica> {
        match self {
            Self::Model(_) => None,
            Self::Real(replica) => Some(replica),
        }
    }

    pub(crate) const fn real_mut(&mut self) -> Option<&mut real::Replica> {
        match self {
            Self::Model(_) => None,
            Self::Real(replica) => Some(replica),
        }
    }

    /// The term, as far as it knows.
    pub(crate) fn term(&self) -> u64 {
        match self {
            Self::Model(raft) => raft.term,
            Self::Real(replica) => replica.term(),
        }
    }

    pub(crate) fn leads(&self) -> bool {
        match self {
            Self::Model(raft) => raft.role == Role::Leader,
            Self::Real(replica) => replica.leads(),
        }
    }

    /// Who leads, as far as it knows.
    pub(crate) fn leader(&self, by_key: &BTreeMap<NodeId, Id>) -> Option<Id> {
        match self {
            Self::Model(raft) => raft.leader,
            Self::Real(replica) => replica.leader_of(by_key),
        }
    }

    /// Whether it votes, as the last entry of its own log about the group says.
    pub(crate) fn votes(&self, id: Id) -> bool {
        match self {
            Self::Model(raft) => raft.config.1.votes(id),
            Self::Real(replica) => replica.votes(),
        }
    }

    /// When it wants to look at its clock; the real one has its own.
    pub(crate) fn due_us(&self) -> Us {
        match self {
            Self::Model(raft) => raft.due_us(),
            Self::Real(_) => Us::MAX,
        }
    }
}
