//! openraft's values and ours. What is stored or sent is of the store's types ([`Place`], [`Vote`], [`Membership`],
//! [`Logged`]), so that a new version of openraft cannot change the bytes of an old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kernel::command::Command;
use kernel::outcome::{Reject, Reply};
use openraft::EntryPayload;
use openraft::impls::leader_id_std;
use store::{Logged, Mark, Membership, Payload, Place, Replica, Vote};

use crate::runtime::Runtime;

openraft::declare_raft_types!(
    /// The types of the group.
    pub Types:
        D = Proposed,
        R = Result<Reply, Reject>,
        NodeId = u64,
        Node = Replica,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

/// openraft's place of an entry.
pub type RaftPlace = openraft::type_config::alias::LogIdOf<Types>;
/// openraft's vote.
pub type RaftVote = openraft::type_config::alias::VoteOf<Types>;
/// openraft's entry.
pub type RaftEntry = openraft::type_config::alias::EntryOf<Types>;
/// openraft's membership.
pub type RaftMembership = openraft::Membership<u64, Replica>;
/// openraft's membership with the entry that brought it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
/// What openraft knows of a snapshot besides its bytes.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
/// A snapshot: what is known of it, and its bytes.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<Types, store::Spool>;

/// A command that is put into the log. Clones share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed(pub Arc<Command>);

impl From<Command> for Proposed {
    fn from(command: Command) -> Self {
        Self(Arc::new(command))
    }
}

impl fmt::Display for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }
}

/// Ours of openraft's.
#[must_use]
pub const fn place(from: &RaftPlace) -> Place {
    Place { term: from.leader_id.term, index: from.index }
}

/// openraft's of ours.
#[must_use]
pub fn raft_place(from: Place) -> RaftPlace {
    RaftPlace::new_term_index(from.term, from.index)
}

/// Ours of openraft's.
#[must_use]
pub const fn vote(from: &RaftVote) -> Vote {
    Vote { term: from.leader_id.term, replica: from.leader_id.voted_for, committed: from.committed }
}

/// openraft's of ours.
#[must_use]
pub fn raft_vote(from: Vote) -> RaftVote {
    if from.committed {
        RaftVote::new_committed(from.term, from.replica)
    } else {
        RaftVote::new(from.term, from.replica)
    }
}

/// Ours of openraft's.
#[must_use]
pub fn membership(from: &RaftMembership) -> Membership {
    Membership {
        voters: from.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
        replicas: from.nodes().map(|(id, replica)| (*id, replica.clone())).collect(),
    }
}

/// openraft's of ours.
///
/// # Errors
/// What is wrong with it: an empty set of voters, or a voter that no replica stands behind.
pub fn raft_membership(from: Membership) -> Result<RaftMembership, BadMembership> {
    let voters: Vec<BTreeSet<u64>> = from.voters.into_iter().map(|set| set.into_iter().collect()).collect();
    let replicas: BTreeMap<u64, Replica> = from.replicas.into_iter().collect();
    RaftMembership::new(voters, replicas).map_err(|error| BadMembership(error.to_string()))
}

/// A membership that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no membership of a group: {0}")]
pub struct BadMembership(String);

/// Ours of openraft's.
#[must_use]
pub fn logged(from: &RaftEntry) -> Logged {
    let payload = match &from.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(Proposed(command)) => Payload::Command(Arc::clone(command)),
        EntryPayload::Membership(members) => Payload::Membership(membership(members)),
    };
    Logged { place: place(&from.log_id), payload }
}

/// openraft's of ours.
///
/// # Errors
/// [`BadMembership`].
pub fn raft_entry(from: Logged) -> Result<RaftEntry, BadMembership> {
    let payload = match from.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Command(command) => EntryPayload::Normal(Proposed(command)),
        Payload::Membership(members) => EntryPayload::Membership(raft_membership(members)?),
    };
    Ok(RaftEntry { log_id: raft_place(from.place), payload })
}

/// Ours of openraft's: how far a state is applied, and the members as of then.
#[must_use]
pub fn mark(applied: Option<&RaftPlace>, members: &StoredMembership) -> Mark {
    Mark {
        applied: applied.map(place),
        membership_at: members.log_id().as_ref().map(place),
        membership: membership(members.membership()),
    }
}

/// openraft's of ours.
///
/// # Errors
/// [`BadMembership`].
pub fn raft_mark(from: Mark) -> Result<(Option<RaftPlace>, StoredMembership), BadMembership> {
    let members = raft_membership(from.membership)?;
    Ok((from.applied.map(raft_place), StoredMembership::new(from.membership_at.map(raft_place), members)))
}

#[cfg(test)]
mod tests {
    use kernel::command::Lead;
    use kernel::id::{NodeId, Term};

    use super::*;

    fn members() -> Membership {
        let replica =
            |n: u8| Replica { key: NodeId([n; 32]), address: format!("10.0.0.{n}:7000"), name: format!("super-{n}") };
        Membership {
            voters: vec![vec![1, 2], vec![2, 3]],
            replicas: (1..5).map(|n: u8| (u64::from(n), replica(n))).collect(),
        }
    }

    #[test]
    fn what_is_stored_comes_back_as_it_went() {
        let command = Command::Lead(Lead { term: Term(7), leader: NodeId([1; 32]), now_ms: 5 });
        let payloads = [Payload::Blank, Payload::Command(Arc::new(command)), Payload::Membership(members())];
        for (payload, index) in payloads.into_iter().zip(0..) {
            let entry = Logged { place: Place { term: 3, index }, payload };
            let bytes = entry.to_bytes().unwrap();
            let there = raft_entry(Logged::of_bytes(&bytes).unwrap()).unwrap();
            assert_eq!(logged(&there), entry);
        }
        for ours in [false, true].map(|committed| Vote { term: 9, replica: 4, committed }) {
            assert_eq!(vote(&raft_vote(ours)), ours);
        }
        for (applied, membership) in [(None, Membership::default()), (Some(Place { term: 3, index: 8 }), members())] {
            let ours = Mark { applied, membership_at: applied, membership };
            let (applied, members) = raft_mark(ours.clone()).unwrap();
            assert_eq!(mark(applied.as_ref(), &members), ours);
        }
    }

    #[test]
    fn a_voter_without_a_replica_is_refused() {
        let mut members = members();
        members.replicas.remove(0);
        assert!(raft_membership(members).is_err());
        assert!(raft_membership(Membership { voters: vec![vec![]], replicas: Vec::new() }).is_err());
    }
}
