//! The group of supers, seen from one of them: propose, read, watch who leads, change who belongs to it.
//!
//! One super is a group of one, and nothing here asks how many there are.
//!
//! Invariants: an answer to a command means that a majority has it on its disks; where nobody knows, that is said. Who
//! leads may act on it only after an entry of its own term was applied here: then it knows all that was settled before.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::command::{Command, Found};
use kernel::id::{LogIndex, NodeId, RoundId, Term};
use kernel::outcome::{Notice, Reject, Reply};
use kernel::round::lead::Stamp;
use kernel::state::State;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver as _;
use store::{Identity, Replica, SpoolRoom};
use tokio::sync::{OnceCell, SetOnce, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::raft::{Invite, Invited, Route};

use crate::log::LogEnd;
use crate::machine::Machine;
use crate::network::{Calls, Network};
use crate::runs::Runs;
use crate::service::{self, Caller, RaftServer, Roster};
use crate::start::{StartError, Stores};
use crate::time::Time;
use crate::types::{StoredMembership, Types};
use crate::view::View;

mod aside;
pub(crate) mod hand_over;
mod joint;
mod lead;
mod log;
mod stop;

#[cfg(test)]
mod tests;

/// A group of supers, seen from one of them. Clones are the same.
#[derive(Clone, Debug)]
pub struct Group {
    pub(crate) inner: Arc<Inner>,
}

/// Everything that a replica is made of besides openraft's own tasks.
pub(crate) struct Inner {
    pub(crate) key: NodeId,
    pub(crate) address: String,
    /// What it calls itself.
    pub(crate) name: String,
    /// Drawn at each start, so that two processes with copies of one disk are told apart.
    pub(crate) life: u64,
    pub(crate) roster: Arc<dyn Roster>,
    pub(crate) spools: SpoolRoom,
    pub(crate) view: Arc<View>,
    pub(crate) calls: Calls,
    pub(crate) timing: Timing,
    pub(crate) runs: Runs,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) time: Arc<Time>,
    pub(crate) core: OnceCell<Core>,
    /// Wakes who waits for the core.
    pub(crate) running: SetOnce<()>,
    pub(crate) stores: Mutex<Option<Stores>>,
    /// For who wants the log's file back.
    pub(crate) end: Mutex<Option<LogEnd>>,
    /// What it founds when it first leads.
    pub(crate) found: Option<Found>,
    /// One change of the group at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) stopping: CancellationToken,
    pub(crate) stopped: CancellationToken,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replica = self.core.get().map(|core| core.id);
        f.debug_struct("Group").field("key", &self.key).field("replica", &replica).finish_non_exhaustive()
    }
}

/// A replica that runs.
#[derive(Clone)]
pub(crate) struct Core {
    pub(crate) id: u64,
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) machine: Machine,
    pub(crate) network: Network,
}

/// When a replica says that it lives, and when it takes silence for the leader's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two signs of life of the leader.
    pub heartbeat: Duration,
    /// The shortest silence after which another replica wants to lead.
    pub election_min: Duration,
    /// The longest one; each replica draws anew each time.
    pub election_max: Duration,
}

impl Timing {
    /// With this between two signs of life. A leader whose sign is not answered before the next one is due counts as without
    /// an answer, so it has to be more than a round trip between two supers.
    #[must_use]
    pub fn of(heartbeat: Duration) -> Self {
        Self { heartbeat, election_min: heartbeat * 6, election_max: heartbeat * 12 }
    }
}

impl Default for Timing {
    /// Fast enough that a round of 10 s does not notice a change of leader, slow enough for a busy machine.
    fn default() -> Self {
        Self::of(Duration::from_millis(50))
    }
}

/// Who leads, and whether it may open rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The term.
    pub term: Term,
    /// Who leads, as far as this super knows.
    pub leader: Option<NodeId>,
    /// This super leads, and an entry of this term is applied here: it knows all that was settled before.
    pub ready: bool,
}

/// How far this super has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Applied {
    /// The last applied command.
    pub index: LogIndex,
    /// The last settled round.
    pub settled: RoundId,
}

/// Why a command or a read got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The node is stopping. Whether the command counts is unknown; commands are safe to send again.
    #[error("this node is stopping; ask again when it is back")]
    Stopped,
    /// Nobody leads, or no majority answers. Nothing was done.
    #[error("no leader that a majority follows: nothing was done; are a majority of the supers up?")]
    NoLeader,
    /// No answer came in time. The command may count now, later, or never.
    #[error("no answer in time: whether it counts is not known yet; look at the state, then ask again")]
    Unknown,
    /// A command that the log does not take.
    #[error("this is longer than {} bytes, which is what the log takes", wire::raft::COMMAND_BYTES)]
    TooLong,
    /// This super is in no group yet.
    #[error("this super belongs to no group yet: add it with `pingward cluster add` on the group")]
    NotInGroup,
}

impl Group {
    /// Puts a command into the log, through whoever leads, and waits until it is applied and durable. A refusal is an
    /// answer.
    ///
    /// # Errors
    /// [`GroupError`]: no answer came.
    pub async fn propose(&self, command: Command) -> Result<Result<Reply, Reject>, GroupError> {
        Inner::propose(&self.inner, Arc::new(command)).await
    }

    /// Puts commands into the log, one behind the other as far as the leader stays the same, and waits for all. Answers
    /// come in the order of the commands.
    pub async fn propose_many(&self, commands: Vec<Command>) -> Vec<Result<Result<Reply, Reject>, GroupError>> {
        Inner::propose_many(&self.inner, commands).await
    }

    /// Reads the state as after the last command that was applied here. Keep it short: commands wait meanwhile.
    pub fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        self.inner.view.read(f)
    }

    /// Waits until this super has applied everything that was acknowledged anywhere before the call: what is then read is
    /// linearizable. Gives the index of the log that it waited for.
    ///
    /// # Errors
    /// [`GroupError::NoLeader`], [`GroupError::Stopped`] or [`GroupError::NotInGroup`].
    pub async fn linearizable(&self) -> Result<LogIndex, GroupError> {
        self.inner.linearizable().await
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// How far the log is applied here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.inner.view.applied()
    }

    /// What happens, from now on: on each super that is up to date, what is committed in the present leader's term. What a
    /// super has to catch up with after a start, and what an earlier leader left, is not told.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.inner.view.notices()
    }

    /// The stamp for a command that is proposed now, ms since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.stamp().now_ms
    }

    /// The same, and by how much this machine's clock is off where that is more than it may be (PROTOCOLS 8.4).
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.inner.time.stamp()
    }

    /// The gRPC service that answers the other replicas. Each request needs a [`Caller`].
    #[must_use]
    pub fn server(&self) -> RaftServer {
        service::server(Arc::clone(&self.inner))
    }

    /// Waits until there is a cluster here: at once where it was founded, else when this super was added and has its state.
    ///
    /// # Errors
    /// [`GroupError::Stopped`].
    pub async fn joined(&self) -> Result<(), GroupError> {
        let mut applied = self.applied();
        loop {
            if self.read(State::is_founded) {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.inner.stopping.cancelled() => return Err(GroupError::Stopped),
                changed = applied.changed() => changed.map_err(|_| GroupError::Stopped)?,
            }
        }
    }

    /// Whether this replica votes, as the last entry of its own log about the members says.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.inner.core.get().is_some_and(|core| core.members().membership().voter_ids().any(|id| id == core.id))
    }

    /// Whether a key is that of a replica, voter or learner.
    #[must_use]
    pub fn has_member(&self, key: &NodeId) -> bool {
        self.inner.core.get().is_some_and(|core| core.members().nodes().any(|(_, replica)| replica.key == *key))
    }

    /// Where this super's snapshots lie while they travel.
    #[must_use]
    pub fn spools(&self) -> &SpoolRoom {
        &self.inner.spools
    }

    /// The number of this replica; `None` before it belongs to a group.
    #[must_use]
    pub fn replica(&self) -> Option<u64> {
        self.inner.core.get().map(|core| core.id)
    }

    /// Fires when nothing of the group touches the disk any more.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.inner.stopped.clone()
    }
}

impl Core {
    /// The members as the last entry says that this replica has, whether a majority has it or not.
    pub(crate) fn members(&self) -> Arc<StoredMembership> {
        Arc::clone(&self.raft.server_metrics().borrow_watched().membership_config)
    }

    pub(crate) fn replica(&self, id: u64) -> Option<Replica> {
        self.members().membership().get_node(&id).cloned()
    }

    pub(crate) const fn route(&self, to: u64) -> Route {
        Route { from: self.id, to }
    }
}

impl Inner {
    /// This replica, where the number is its own. One that was invited begins with the first message for it.
    pub(crate) async fn core_for(&self, caller: Caller, id: u64) -> Result<&Core, Status> {
        if self.stopping.is_cancelled() {
            return Err(Status::unavailable("this replica is stopping"));
        }
        if let Some(core) = self.core.get() {
            return if core.id == id { Ok(core) } else { Err(other(core.id, id)) };
        }
        if !self.roster.admits(&caller.0) {
            return Err(Status::permission_denied(format!("{} is not among the supers that this one knows", caller.0)));
        }
        let invited = self.stores.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Stores::invited);
        match invited {
            Some(invited) if invited.replica == id => {
                self.run(&invited).await.map_err(|error| Status::unavailable(error.to_string()))
            }
            Some(invited) => Err(other(invited.replica, id)),
            None => Err(Status::failed_precondition("this super is empty and was not invited")),
        }
    }

    /// Waits until this replica runs; `None` where it never will.
    pub(crate) async fn running(&self) -> Option<&Core> {
        self.running.wait().await;
        self.core.get()
    }

    /// Runs something beside the core until the group stops.
    pub(crate) async fn until_stopping(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => {}
            () = work => {}
        }
    }

    /// Begins to be a replica, once.
    pub(crate) async fn run(&self, identity: &Identity) -> Result<&Core, StartError> {
        let core = self
            .core
            .get_or_try_init(|| async {
                let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).take();
                let stores = stores.ok_or(StartError::Begun)?;
                let (core, end) = Box::pin(stores.run(identity, self.timing)).await?;
                *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
                Ok::<_, StartError>(core)
            })
            .await?;
        // Whoever gave it the core before has said so already.
        let _ = self.running.set(());
        Ok(core)
    }

    /// The leader of another group says that this super is to be one of its replicas.
    pub(crate) async fn invited(&self, caller: Caller, invite: &Invite) -> Result<Invited, String> {
        let accepted = Invited { name: self.name.clone(), life: self.life };
        if let Some(core) = self.core.get() {
            let cluster = &core.machine.identity().cluster;
            if core.id == invite.replica && *cluster == invite.cluster {
                return Ok(accepted);
            }
            return Err(format!(
                "this super is replica {} of {cluster}; to add it elsewhere, stop it and give it an empty data_dir",
                core.id
            ));
        }
        if invite.known {
            let ours = self.stores.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Stores::invited);
            return match ours {
                Some(ours) if ours.replica == invite.replica && ours.cluster == invite.cluster => Ok(accepted),
                Some(ours) => Err(format!("this super is to be replica {} of {}", ours.replica, ours.cluster)),
                None => Err("this super is empty".into()),
            };
        }
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let stores = stores.as_mut().ok_or("this super is just being invited; ask again")?;
        stores.invite(invite)?;
        tracing::info!(by = %caller.0, cluster = %invite.cluster, replica = invite.replica, "invited into a group");
        Ok(accepted)
    }

    pub(crate) fn core(&self) -> Result<&Core, GroupError> {
        if self.stopping.is_cancelled() {
            return Err(GroupError::Stopped);
        }
        self.core.get().ok_or(GroupError::NotInGroup)
    }
}

fn other(ours: u64, asked: u64) -> Status {
    Status::failed_precondition(format!("this is replica {ours}, not {asked}"))
}
