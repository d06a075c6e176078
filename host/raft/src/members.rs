//! Changes of who belongs to the group.
//!
//! A super is added as a learner, promoted when it has caught up and stayed so, and removed. Each change goes through a
//! joint membership, one at a time. What would leave the group without a majority that answers is refused with the numbers.
//!
//! Invariant: a replica's number is never used twice. It is the place in the log of an entry that a majority has, and a
//! super that comes back with an empty disk gets a new one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kernel::id::{LogIndex, NodeId};
use kernel::limits::SEATS;
use openraft::ChangeMembers;
use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use store::Replica;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use wire::raft::{Change, Changed, Invite, Led};

use crate::group::hand_over::HAND_OVER;
use crate::group::{Core, Group, GroupError, Inner};
use crate::network::CallError;
use crate::status::{self, Member};
use crate::types::Types;

mod moves;

/// Replicas of a group, learners included: eight seats, and one that takes over for each.
pub const REPLICAS: usize = 16;
/// For a change, its two steps and an invitation.
const WITHIN: Duration = Duration::from_secs(20);
/// A learner that lacks more entries than this has not caught up: a burst of commands is not held against it.
pub(crate) const LAG: u64 = 256;
/// Between two attempts while nobody leads.
const AGAIN: Duration = Duration::from_millis(50);

/// Why a change of the group was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No answer came.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A rule says no.
    #[error("{detail}")]
    Refused {
        /// A word: `already_member`, `unknown_member`, `full`, `unreachable`, `not_caught_up`, `quorum`, `busy`, `invitation`,
        /// `twice`, `changed`.
        code: String,
        /// What, with the numbers, and how to mend it.
        detail: String,
    },
}

pub(crate) fn refused<T>(code: &str, detail: String) -> Result<T, ChangeError> {
    Err(ChangeError::Refused { code: code.into(), detail })
}

impl Group {
    /// Adds a super as a learner. It must be running, empty, and name the group's supers in its config. Gives the number of
    /// its replica. A super of that key that lost its disk stays until it is removed. One that runs at another address with
    /// its own disk keeps its number, and whether it votes: the group then looks for it there.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add(&self, key: NodeId, address: String) -> Result<u64, ChangeError> {
        self.change(Change::Add { key, address }, None).await
    }

    /// Makes a learner a voter, once it has caught up and stayed so. The kernel gives it the lowest free seat.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn promote(&self, key: NodeId) -> Result<u64, ChangeError> {
        self.change(Change::Promote(key), None).await
    }

    /// Removes a super; of two with one key the older one. A leader that removes itself hands the lead on first.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn remove(&self, key: NodeId) -> Result<u64, ChangeError> {
        self.change(Change::Remove(key), None).await
    }

    /// Changes the group; with a place in the log only while its last change stands there, see [`Group::members_at`]: so that
    /// of two who decide on what they read the second one is told.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change(&self, change: Change, only_at: Option<LogIndex>) -> Result<u64, ChangeError> {
        Inner::change(&self.inner, change, only_at.map(|at| at.0)).await
    }
}

impl Inner {
    /// Does it here or hands it to who leads.
    async fn change(inner: &Arc<Self>, change: Change, only_at: Option<u64>) -> Result<u64, ChangeError> {
        let core = inner.core()?;
        let deadline = Instant::now() + WITHIN;
        let mut metrics = core.raft.server_metrics();
        let mut to = None;
        loop {
            let changed = match to.take() {
                Some(leader) => match core.replica(leader) {
                    Some(replica) => {
                        let asked = (change.clone(), only_at);
                        match inner.calls.change(core.route(leader), &replica, asked, deadline).await {
                            Ok(changed) => changed,
                            Err(CallError::Lost { .. }) => Led::Answer(Changed::Unknown),
                            Err(CallError::NotSent { .. } | CallError::Refused { .. }) => Led::NotLeader(None),
                        }
                    }
                    None => Led::NotLeader(None),
                },
                None => Self::change_here(inner, change.clone(), only_at).await,
            };
            match changed {
                Led::Answer(Changed::Done(replica)) => return Ok(replica),
                Led::Answer(Changed::Refused { code, detail }) => return Err(ChangeError::Refused { code, detail }),
                Led::Answer(Changed::Unknown) => return Err(GroupError::Unknown.into()),
                Led::NotLeader(leader) => to = leader.filter(|leader| *leader != core.id),
            }
            if to.is_none() {
                tokio::select! {
                    biased;
                    () = sleep_until((Instant::now() + AGAIN).min(deadline)) => {}
                    _ = metrics.changed() => {}
                    () = inner.stopping.cancelled() => return Err(GroupError::Stopped.into()),
                }
            }
            if Instant::now() >= deadline {
                return Err(GroupError::NoLeader.into());
            }
        }
    }

    /// Does it, if this replica leads. Whoever asked may hang up meanwhile: the second step of a change is taken all the same.
    pub(crate) async fn change_here(inner: &Arc<Self>, change: Change, only_at: Option<u64>) -> Led<Changed> {
        let inner = Arc::clone(inner);
        let whole = tokio::spawn(async move { Self::change_whole(&inner, change, only_at).await });
        whole.await.unwrap_or(Led::Answer(Changed::Unknown))
    }

    async fn change_whole(inner: &Arc<Self>, change: Change, only_at: Option<u64>) -> Led<Changed> {
        let core = match inner.core() {
            Ok(core) => core,
            Err(_) => return Led::NotLeader(None),
        };
        {
            let metrics = core.raft.server_metrics();
            let now = metrics.borrow_watched();
            if !now.state.is_leader() {
                return Led::NotLeader(now.current_leader);
            }
        }
        let Ok(_one) = inner.changing.try_lock() else {
            let detail = "another change of the group is under way; ask again when it is done".to_owned();
            return Led::Answer(Changed::Refused { code: "busy".into(), detail });
        };
        let editor = Editor { inner, core };
        let done = async {
            // Nothing else changes the group until this is done, and another leader's change makes this one fail.
            editor.is_unchanged(only_at)?;
            match change {
                Change::Add { key, address } => editor.add(key, address).await,
                Change::Promote(key) => editor.promote(key).await,
                Change::Remove(key) => editor.remove(key).await,
            }
        };
        let done = async {
            let replica = done.await?;
            // Whoever asks next sees it in the state, seat and all. What is not there yet comes with the next change of the log.
            if let Err(error) = inner.tell_supers(core, false).await {
                tracing::debug!(%error, "the state does not know the supers yet");
            }
            Ok(replica)
        };
        Led::Answer(match timeout(WITHIN, done).await {
            Ok(Ok(replica)) => Changed::Done(replica),
            Ok(Err(ChangeError::Refused { code, detail })) => Changed::Refused { code, detail },
            Ok(Err(ChangeError::Group(GroupError::NoLeader))) => return Led::NotLeader(None),
            Ok(Err(ChangeError::Group(_))) | Err(_) => Changed::Unknown,
        })
    }
}

/// Changes the group on the replica that leads.
struct Editor<'a> {
    inner: &'a Inner,
    core: &'a Core,
}

impl Editor<'_> {
    fn metrics(&self) -> RaftMetrics<Types> {
        self.core.raft.metrics().borrow_watched().clone()
    }

    fn members(&self) -> Vec<Member> {
        status::members(self.inner, self.core, &self.metrics())
    }

    fn is_unchanged(&self, only_at: Option<u64>) -> Result<(), ChangeError> {
        let now = status::changed_at(&self.metrics()).0;
        match only_at {
            Some(at) if at != now => {
                refused("changed", format!("the group was last changed at entry {now} of the log, not at {at}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn add(&self, key: NodeId, address: String) -> Result<u64, ChangeError> {
        let members = self.members();
        let mut why = String::new();
        // Of two with one key the younger one is the likelier.
        for member in members.iter().rev().filter(|member| member.key == key && member.address != address) {
            match self.is_at(member, &address).await {
                Ok(there) => return self.moves(&members, member, address, there).await,
                Err(reason) => why = format!(" there, not at {address}: {reason}"),
            }
        }
        if let Some(member) = members.iter().find(|member| member.key == key && member.reachable == Some(true)) {
            let (id, at) = (member.replica, &member.address);
            return refused("already_member", format!("{key} is replica {id} of the group at {at} and answers{why}"));
        }
        if members.len() >= REPLICAS {
            return refused("full", format!("the group has {REPLICAS} replicas, which is the most; remove one first"));
        }
        // A place in the log that a majority has is nobody else's, ever.
        let place = written(self.core.raft.write_blank().await)?.log_id.index;
        let mut replica = Replica { key, address, name: String::new() };
        let cluster = self.inner.view.read(|state| state.meta.cluster.clone());
        match self.inner.calls.invite(&replica, &Invite { cluster, replica: place, known: false }).await {
            Ok(Ok(invited)) => replica.name = invited.name,
            Ok(Err(why)) => return refused("invitation", format!("{} does not join: {why}", replica.address)),
            Err(error) => {
                let cure = "is it running, and does the key belong to that address?";
                return refused("unreachable", format!("{error}; {cure}"));
            }
        }
        written(self.core.raft.add_learner(place, replica, false).await)?;
        Ok(place)
    }

    async fn promote(&self, key: NodeId) -> Result<u64, ChangeError> {
        let members = self.members();
        let Some(learner) = members.iter().rfind(|member| member.key == key) else {
            return refused("unknown_member", format!("{key} is no member of the group; add it first"));
        };
        if learner.voter {
            return refused("already_member", format!("{key} is a voter already"));
        }
        let voters: Vec<&Member> = members.iter().filter(|member| member.voter).collect();
        // Of two replicas of one key, only one has a seat.
        let seated: BTreeSet<NodeId> = voters.iter().map(|member| member.key).filter(|of| *of != key).collect();
        if seated.len() >= usize::from(SEATS) {
            return refused("full", format!("all {SEATS} seats are taken; remove a voter first"));
        }
        self.is_stable(learner.replica).await?;
        let id = learner.replica;
        let after: Vec<&Member> = voters.iter().copied().chain([learner]).collect();
        majority(&voters, &after)?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await?;
        Ok(id)
    }

    /// Waits until a learner has had all entries for as long as a change of leader may take.
    async fn is_stable(&self, id: u64) -> Result<(), ChangeError> {
        let lag = |metrics: &RaftMetrics<Types>| {
            let members = status::members(self.inner, self.core, metrics);
            members.into_iter().find(|member| member.replica == id)
        };
        let mut metrics = self.core.raft.metrics();
        let until = Instant::now() + self.inner.timing.election_max;
        loop {
            let now = metrics.borrow_and_update().clone();
            let Some(member) = lag(&now) else {
                return refused("unknown_member", format!("replica {id} is no member of the group any more"));
            };
            if member.reachable != Some(true) {
                return refused("unreachable", format!("{} does not answer", member.address));
            }
            if member.lag.is_none_or(|lag| lag > LAG) {
                let lacks = member.lag.map_or_else(|| "all".to_owned(), |lag| lag.to_string());
                let detail =
                    format!("{} lacks {lacks} entries of the log, {LAG} are allowed; ask again later", member.address);
                return refused("not_caught_up", detail);
            }
            match timeout_at(until, metrics.changed()).await {
                Err(_) => return Ok(()),
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(GroupError::Stopped.into()),
            }
        }
    }

    async fn remove(&self, key: NodeId) -> Result<u64, ChangeError> {
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.key == key) else {
            return refused("unknown_member", format!("{key} is no member of the group"));
        };
        let id = member.replica;
        if !member.voter {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await?;
            return Ok(id);
        }
        let before: Vec<&Member> = members.iter().filter(|member| member.voter).collect();
        let after: Vec<&Member> = before.iter().copied().filter(|member| member.replica != id).collect();
        if after.is_empty() {
            return refused("quorum", "0 of 0 voters would remain: the last voter cannot be removed".into());
        }
        majority(&before, &after)?;
        if id == self.core.id {
            // It would have to lead on without a vote until its own end is committed. Who leads next does it.
            let leader = self.inner.hand_on(self.core, None, Instant::now() + HAND_OVER).await?;
            tracing::info!(%leader, "the lead was handed on: this super is being removed");
            return Err(GroupError::NoLeader.into());
        }
        let vote = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
        self.change(vote).await?;
        Ok(id)
    }

    async fn change(&self, change: ChangeMembers<u64, Replica>) -> Result<(), ChangeError> {
        written(self.core.raft.change_membership(change, false).await).map(|_| ())
    }
}

/// Both the voters of before and those of after must have a majority that answers: a change needs both.
fn majority(before: &[&Member], after: &[&Member]) -> Result<(), ChangeError> {
    let reachable = |voters: &[&Member]| voters.iter().filter(|member| member.reachable == Some(true)).count();
    for (voters, when) in [(before, "answer now"), (after, "would remain reachable")] {
        let (there, all) = (reachable(voters), voters.len());
        if there <= all / 2 {
            let least = all / 2 + 1;
            let detail = format!("{there} of {all} voters {when}, {least} are needed; bring one back first");
            return refused("quorum", detail);
        }
    }
    Ok(())
}

type Written = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

fn written(written: Written) -> Result<ClientWriteResponse<Types>, ChangeError> {
    match written {
        Ok(response) => Ok(response),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(GroupError::NoLeader.into()),
        Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(GroupError::Unknown.into()),
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)))) => {
            refused("busy", "another change of the group is not finished; ask again later".into())
        }
        Err(RaftError::APIError(error)) => refused("refused", error.to_string()),
        Err(RaftError::Fatal(_)) => Err(GroupError::Stopped.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(replica: u64, reachable: bool) -> Member {
        Member {
            replica,
            key: NodeId([replica as u8; 32]),
            name: String::new(),
            address: format!("10.0.0.{replica}:7001"),
            seat: Some(kernel::id::Seat(replica as u8)),
            voter: true,
            leader: replica == 0,
            lag: Some(0),
            reachable: Some(reachable),
        }
    }

    #[test]
    fn a_change_needs_a_majority_that_answers_before_and_after_it() {
        let all = [member(0, true), member(1, true), member(2, false)];
        let of = |ids: &[usize]| ids.iter().map(|at| &all[*at]).collect::<Vec<_>>();
        assert_eq!(majority(&of(&[0, 1, 2]), &of(&[0, 1])), Ok(()), "who is silent may go");
        assert_eq!(
            majority(&of(&[0, 1, 2]), &of(&[0, 2])).unwrap_err().to_string(),
            "1 of 2 voters would remain reachable, 2 are needed; bring one back first"
        );
        assert!(majority(&of(&[0, 2]), &of(&[0])).is_err(), "the change itself needs both");
    }
}
