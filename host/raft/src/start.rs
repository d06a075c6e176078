//! How a replica begins: with a new cluster, where it left off, after a state of a release that had no log, or waiting for
//! an invitation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::command::Found;
use kernel::id::NodeId;
use kernel::state::State;
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, Raft, SnapshotPolicy};
use store::{Disk, Identity, Replica, SpoolRoom, Store};
use tokio::sync::{OnceCell, SetOnce, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wire::raft::{APPEND_ENTRIES, Invite};

use crate::group::{Core, Group, Inner, Leadership, Timing};
use crate::log::LogEnd;
use crate::machine::Watcher;
use crate::network::{Calls, Connector, Network};
use crate::open::{Files, OpenError, Replicated};
use crate::runs::Runs;
use crate::runtime;
use crate::service::Roster;
use crate::time::{SystemWall, Time, Wall};
use crate::view::{Tell, View};

/// Entries between two snapshots: some minutes of a busy cluster, and short enough to be applied again at a start.
const SNAPSHOT_ENTRIES: u64 = 8_192;
/// Entries that are kept behind a snapshot, so that a replica that was away for a moment needs none.
const KEPT_ENTRIES: u64 = 4_096;
/// Entries that are purged at one time.
const PURGED_ENTRIES: u64 = 512;
/// Bytes of the log: entries have up to 32 MiB, and a disk has its end.
const LOG_BYTES: u64 = 256 << 20;
/// Commands that wait to be put into the log; past it whoever proposes waits.
const WAITING: u64 = 4_096;
/// A snapshot without progress for so long is begun anew: packing and installing a large one takes seconds.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(60);
/// For a founder, or a group of one that goes on, to lead.
const LEAD_WITHIN: Duration = Duration::from_secs(30);

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Entries between two snapshots.
    pub snapshot: u64,
    /// Entries behind a snapshot, so that a replica that was away for a moment needs none.
    pub behind: u64,
    /// Entries that are purged at one time.
    pub purged: u64,
    /// Bytes of all entries that are applied: past it the older half goes, however few they are.
    pub bytes: u64,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { snapshot: SNAPSHOT_ENTRIES, behind: KEPT_ENTRIES, purged: PURGED_ENTRIES, bytes: LOG_BYTES }
    }
}

/// What a replica is opened with.
pub struct Parts {
    /// The super's key.
    pub key: NodeId,
    /// `host:port` of its gRPC, as the others reach it.
    pub address: String,
    /// The disk of its log.
    pub log: Disk,
    /// Its state.
    pub store: Arc<Store>,
    /// Where snapshots lie while they travel.
    pub spools: SpoolRoom,
    /// How it reaches the others.
    pub connector: Arc<dyn Connector>,
    /// Who may be a replica where the log does not say so yet.
    pub roster: Arc<dyn Roster>,
    /// Signs of life and silence.
    pub timing: Timing,
    /// How much of the log is kept.
    pub keeping: Keeping,
    /// Where blocking work runs.
    pub runs: Runs,
    /// Who else wants to know what was applied.
    pub watcher: Arc<dyn Watcher>,
    /// What an empty super founds, if it may. Its cluster's id is also what one that is not empty must belong to, and the
    /// founder's name is what this super calls itself when it is added to another group.
    pub found: Found,
    /// Whether it may; else it waits to be invited.
    pub may_found: bool,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("key", &self.key).field("found", &self.found.cluster).finish_non_exhaustive()
    }
}

/// Why a super cannot take its place.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its files.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store holds another cluster than the file names.
    #[error(
        "the store holds the cluster {found}, the config says cluster.id = \"{asked}\"; name another data_dir or mend the id"
    )]
    OtherCluster {
        /// In the store.
        found: String,
        /// In the file.
        asked: String,
    },
    /// The store belongs to another key.
    #[error(
        "the store belongs to the super {found}, this node's key is {ours}; put its key file back or name another data_dir"
    )]
    OtherKey {
        /// In the store.
        found: NodeId,
        /// This node's.
        ours: NodeId,
    },
    /// openraft did not begin.
    #[error("the group does not begin: {0}")]
    Core(String),
    /// It did not lead in time.
    #[error("this super is alone and does not lead after {} s: is its disk that slow?", LEAD_WITHIN.as_secs())]
    Late,
    /// It runs already.
    #[error("this replica has begun already")]
    Begun,
}

/// A replica that does not run yet.
pub(crate) struct Stores {
    key: NodeId,
    files: Files,
    spools: SpoolRoom,
    view: Arc<View>,
    connector: Arc<dyn Connector>,
    runs: Runs,
    keeping: Keeping,
    /// The id that its cluster must have.
    cluster: String,
}

impl Group {
    /// Opens this super's part of the group. One that may found its cluster, and one that is its group's only voter, leads
    /// when this returns; any other one follows, or waits to be invited: see [`Group::joined`].
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(parts: Parts) -> Result<Self, StartError> {
        Self::open_by(parts, Arc::new(SystemWall)).await
    }

    /// The same by another wall clock than the machine's.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open_by(parts: Parts, wall: Arc<dyn Wall>) -> Result<Self, StartError> {
        let files = Files::open(&parts.log, Arc::clone(&parts.store))?;
        let state = files.state();
        check(&parts, state, files.identity())?;
        let voters = files.members()?.voters;
        let identity = match files.identity() {
            Some(identity) => Some(identity.clone()),
            None if state.is_founded() => {
                Some(state.meta.cluster.clone()).map(|cluster| Identity { cluster, replica: 0, key: parts.key })
            }
            None if parts.may_found => {
                Some(Identity { cluster: parts.found.cluster.clone(), replica: 0, key: parts.key })
            }
            None => None,
        };
        let founds = !state.is_founded() && parts.may_found && identity.as_ref().is_some_and(|who| who.replica == 0);
        let time = Arc::new(Time::new(state.meta.stamp_ms, wall));
        let view = Arc::new(View::new(Arc::clone(&time), parts.watcher));
        let found = identity
            .as_ref()
            .filter(|_| founds)
            .map(|who| Found { cluster: who.cluster.clone(), ..parts.found.clone() });
        let stores = Stores {
            key: parts.key,
            files,
            spools: parts.spools.clone(),
            view: Arc::clone(&view),
            connector: Arc::clone(&parts.connector),
            runs: parts.runs,
            keeping: parts.keeping,
            cluster: parts.found.cluster.id,
        };
        let inner = Arc::new(Inner {
            key: parts.key,
            address: parts.address,
            name: parts.found.founder.name,
            life: runtime::drawn(),
            roster: parts.roster,
            spools: parts.spools,
            view,
            calls: Calls::new(parts.connector),
            timing: parts.timing,
            runs: parts.runs,
            leadership: watch::Sender::new(Leadership::default()),
            time,
            core: OnceCell::new(),
            running: SetOnce::new(),
            stores: Mutex::new(Some(stores)),
            end: Mutex::new(None),
            found,
            changing: tokio::sync::Mutex::new(()),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
        });
        let group = Self { inner };
        tokio::spawn(Inner::watch_lead(Arc::clone(&group.inner)));
        tokio::spawn(Inner::watch_answers(Arc::clone(&group.inner)));
        tokio::spawn(Inner::watch_joint(Arc::clone(&group.inner)));
        tokio::spawn(Inner::watch_members(Arc::clone(&group.inner)));
        tokio::spawn(Inner::watch_log(Arc::clone(&group.inner), parts.keeping.bytes));
        if let Some(identity) = identity {
            // Who votes with others has to wait for them, also where the state does not know of them yet.
            let alone = if voters.is_empty() { founds } else { voters == [[identity.replica]] };
            let begun = Box::pin(group.begin(&identity, founds, alone)).await;
            if let Err(error) = begun {
                group.kill().await;
                return Err(error);
            }
        }
        Ok(group)
    }

    async fn begin(&self, identity: &Identity, founds: bool, alone: bool) -> Result<(), StartError> {
        let core = self.inner.run(identity).await?;
        if founds {
            let founder =
                Replica { key: self.inner.key, address: self.inner.address.clone(), name: self.inner.name.clone() };
            match core.raft.initialize(BTreeMap::from([(0, founder)])).await {
                // It was begun before, and the machine failed in the middle of it.
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if !alone {
            return Ok(());
        }
        // There is nobody to wait for.
        core.raft.trigger().elect(false).await.map_err(failed)?;
        let mut leadership = self.leadership();
        let leads = leadership.wait_for(|now| now.ready);
        match timeout(LEAD_WITHIN, leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StartError::Late),
        }
    }
}

fn failed(error: impl fmt::Display) -> StartError {
    StartError::Core(error.to_string())
}

/// State, log and config must be of one cluster and one key.
fn check(parts: &Parts, state: &State, identity: Option<&Identity>) -> Result<(), StartError> {
    let asked = &parts.found.cluster.id;
    let founded = Some(&state.meta.cluster).filter(|_| state.is_founded());
    let clusters = [founded, identity.map(|identity| &identity.cluster)];
    if let Some(found) = clusters.into_iter().flatten().find(|found| found.id != *asked) {
        return Err(StartError::OtherCluster { found: found.to_string(), asked: asked.clone() });
    }
    // A state without a log is its founder's.
    let founder = state.meta.seats.first().map(|row| row.holder.node).filter(|_| identity.is_none());
    match identity.map(|identity| identity.key).or(founder) {
        Some(found) if found != parts.key => Err(StartError::OtherKey { found, ours: parts.key }),
        _ => Ok(()),
    }
}

impl Stores {
    /// Who a leader says that this replica is, where one did.
    pub(crate) fn invited(&self) -> Option<Identity> {
        self.files.identity().cloned()
    }

    /// Takes an invitation. The latest one counts as long as nothing came of an earlier one.
    pub(crate) fn invite(&mut self, invite: &Invite) -> Result<(), String> {
        if invite.cluster.id != self.cluster {
            return Err(format!("its config says cluster.id = \"{}\", the group is {}", self.cluster, invite.cluster));
        }
        let identity = Identity { cluster: invite.cluster.clone(), replica: invite.replica, key: self.key };
        self.files.invite(identity).map_err(|error| error.to_string())
    }

    /// Begins to be this replica.
    pub(crate) async fn run(self, identity: &Identity, timing: Timing) -> Result<(Core, LogEnd), StartError> {
        let watcher = Arc::new(Tell(Arc::downgrade(&self.view)));
        let Replicated { log, machine, end } = self.files.start(identity.clone(), self.spools, self.runs, watcher)?;
        self.view.shows(machine.clone());
        let network = Network::new(identity.replica, self.connector, self.runs);
        let config = config(timing, self.keeping)?;
        let raft = Raft::new(identity.replica, config, network.clone(), log, machine.clone()).await.map_err(failed)?;
        Ok((Core { id: identity.replica, raft, machine, network }, end))
    }
}

fn config(timing: Timing, keeping: Keeping) -> Result<Arc<Config>, StartError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // Silence is told in two parts: openraft lets the leader's lease run out, which is its longest election timeout, and
    // counts the drawn timeout only from then on.
    let lease = timing.election_max / 2;
    // It is also the time that a vote may take, which waits for a disk.
    let drawn = lease * 2 / 3;
    let config = Config {
        cluster_name: "pingward".into(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(drawn),
        election_timeout_max: ms(lease),
        enable_pre_vote: Some(true),
        // A start is another term: what was observed before it counts for nothing.
        enable_leader_restore: Some(false),
        max_payload_entries: APPEND_ENTRIES as u64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(keeping.snapshot),
        max_in_snapshot_log_to_keep: keeping.behind,
        purge_batch_size: keeping.purged,
        // Who lacks more than there is gets a snapshot.
        replication_lag_threshold: keeping.snapshot.saturating_add(keeping.behind),
        install_snapshot_timeout: ms(SNAPSHOT_WITHIN),
        api_channel_size: Some(WAITING),
        api_batch_capacity: WAITING,
        backoff: "50ms 100ms 200ms ..1s".into(),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_replica_wants_to_lead_after_the_silence_that_the_timing_names() {
        let ms = Duration::from_millis;
        for heartbeat in [ms(50), ms(20), ms(500)] {
            let timing = Timing::of(heartbeat);
            let config = config(timing, Keeping::default()).unwrap();
            let lease = config.election_timeout_max;
            assert!(ms(lease + config.election_timeout_min) >= timing.election_min, "{timing:?}");
            assert!(ms(lease + config.election_timeout_max) <= timing.election_max, "{timing:?}");
        }
    }
}
