//! Who belongs to the group, and how each of them keeps up, as this replica knows it.

use std::collections::{BTreeMap, BTreeSet};

use kernel::id::{LogIndex, NodeId, Seat};
use openraft::Instant as _;
use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver as _;

use crate::group::{Core, Group, GroupError, Inner};
use crate::types::Types;

/// A super of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The number of its replica.
    pub replica: u64,
    /// Its key.
    pub key: NodeId,
    /// `host:port` of its gRPC.
    pub address: String,
    /// Its seat, where it has one.
    pub seat: Option<Seat>,
    /// It votes; else it is a learner.
    pub voter: bool,
    /// It leads.
    pub leader: bool,
    /// Entries of the log that it lacks; `None` where this replica does not lead and cannot know.
    pub lag: Option<u64>,
    /// It answered the leader of late; `None` where this replica does not lead and cannot know.
    pub reachable: Option<bool>,
}

impl Group {
    /// All members, in order of their numbers.
    ///
    /// # Errors
    /// [`GroupError::NotInGroup`] or [`GroupError::Stopped`].
    pub fn members(&self) -> Result<Vec<Member>, GroupError> {
        Ok(self.members_at()?.1)
    }

    /// The same, and where in the log the change stands that made it so: see [`Group::change`].
    ///
    /// # Errors
    /// As [`Group::members`].
    pub fn members_at(&self) -> Result<(LogIndex, Vec<Member>), GroupError> {
        let core = self.inner.core()?;
        let metrics = core.raft.metrics().borrow_watched().clone();
        Ok((changed_at(&metrics), members(&self.inner, core, &metrics)))
    }
}

/// Where in the log the last change of the group stands.
pub(crate) fn changed_at(metrics: &RaftMetrics<Types>) -> LogIndex {
    LogIndex(metrics.membership_config.log_id().as_ref().map_or(0, |at| at.index))
}

/// All members as these numbers say. Who has not answered for the longest silence of a leader counts as not reachable.
pub(crate) fn members(inner: &Inner, core: &Core, metrics: &RaftMetrics<Types>) -> Vec<Member> {
    let silence = inner.timing.election_max;
    let seats: BTreeMap<NodeId, Seat> =
        inner.view.read(|state| state.meta.seats.iter().map(|row| (row.holder.node, row.seat)).collect());
    let config = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = config.voter_ids().collect();
    let leads = metrics.state.is_leader();
    let last = metrics.last_log_index;
    let member = |(id, replica): (&u64, &store::Replica)| {
        let us = *id == core.id;
        let matched = metrics.replication.as_ref().and_then(|all| all.get(id)).map(|at| at.as_ref().map(|at| at.index));
        let next = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
        let lag = if us { Some(0) } else { matched.map(|matched| next(last).saturating_sub(next(matched))) };
        let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(id).copied().flatten());
        let reachable = us || heard.is_some_and(|heard| heard.elapsed() < silence);
        Member {
            replica: *id,
            key: replica.key,
            address: replica.address.clone(),
            seat: seats.get(&replica.key).copied().filter(|_| voters.contains(id)),
            voter: voters.contains(id),
            leader: metrics.current_leader == Some(*id),
            lag: lag.filter(|_| leads),
            reachable: leads.then_some(reachable),
        }
    };
    config.nodes().map(member).collect()
}
