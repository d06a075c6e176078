//! Where a replica stands: the last entry of the log that its state holds, and the members of the group as of then. These
//! types are what stands on disk and travels between replicas; they are ours, so that no library changes bytes that were
//! stored before.

use kernel::id::{NodeId, Seat};
use minicbor::{Decode, Encode};

/// An entry's place in the log. Two entries at one place are the same entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Place {
    /// The term in which a leader put it there.
    #[n(0)]
    pub term: u64,
    /// Its index; the first entry of a log has 0.
    #[n(1)]
    pub index: u64,
}

/// Whom a replica supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Vote {
    /// The term.
    #[n(0)]
    pub term: u64,
    /// The candidate, or the leader.
    #[n(1)]
    pub replica: u64,
    /// A majority supports it: it leads.
    #[n(2)]
    pub committed: bool,
}

/// A member of the group as the log names it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Replica {
    /// Its key.
    #[n(0)]
    pub key: NodeId,
    /// `host:port` of its gRPC.
    #[n(1)]
    pub address: String,
    /// Its seat, where it has one.
    #[n(2)]
    pub seat: Option<Seat>,
}

impl Default for Replica {
    /// Nobody: no key is all zero.
    fn default() -> Self {
        Self { key: NodeId([0; 32]), address: String::new(), seat: None }
    }
}

/// The members of the group.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Membership {
    /// Voters, ascending: one set, or two while a change is under way and majorities of both are needed.
    #[n(0)]
    pub voters: Vec<Vec<u64>>,
    /// All replicas, ascending; those that are no voters are learners.
    #[n(1)]
    pub replicas: Vec<(u64, Replica)>,
}

/// How far a state is applied.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Mark {
    /// The last entry that is in the state; `None` = none yet.
    #[n(0)]
    pub applied: Option<Place>,
    /// The entry that brought the membership.
    #[n(1)]
    pub membership_at: Option<Place>,
    /// The members as of the last entry that is in the state.
    #[n(2)]
    pub membership: Membership,
}
