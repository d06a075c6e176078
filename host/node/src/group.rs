//! This super's part of the group: its disks, its connections to the other supers, and its end with the node.
//!
//! What a group does is the room `raft`'s; here is only what makes it one node's: it counts, it ends when the node ends,
//! and a disk that fails ends the node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kernel::command::Found;
use kernel::outcome::Notice;
use raft::{Batch, Keeping, Parts, Runs, Timing, Watcher};
use store::{Disk, SpoolRoom, Store, StoreError};

use crate::metrics::Metrics;
use crate::tasks::Tasks;

pub use links::Links;
pub use raft::{Applied, Group, GroupError, Leadership, StartError};

mod links;

#[cfg(test)]
mod tests;

/// The state's file in the data folder.
pub(crate) const STATE_FILE: &str = "super.redb";
/// The log's.
pub(crate) const LOG_FILE: &str = "raft.redb";
/// For another super to take the lead of one that stops.
const HAND_OVER: Duration = Duration::from_secs(5);

/// What a super keeps. Clones are the same disks.
#[derive(Clone, Debug)]
pub struct Disks {
    state: Disk,
    log: Disk,
    spools: SpoolRoom,
}

impl Disks {
    /// In a data folder.
    #[must_use]
    pub fn folder(folder: &Path) -> Self {
        Self {
            state: Disk::file(folder.join(STATE_FILE)),
            log: Disk::file(folder.join(LOG_FILE)),
            spools: SpoolRoom::folder(folder),
        }
    }

    /// In memory: gone with the last clone.
    #[must_use]
    pub fn memory() -> Self {
        Self { state: Disk::memory(), log: Disk::memory(), spools: SpoolRoom::memory() }
    }

    /// Opens the state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(&self, history_max_bytes: u64) -> Result<Store, StoreError> {
        Store::open(&self.state, history_max_bytes)
    }
}

/// What a super's part of the group is opened with.
pub struct Opening {
    /// Where its log is.
    pub disks: Disks,
    /// Its state, open.
    pub store: Arc<Store>,
    /// It has no state yet.
    pub is_empty: bool,
    /// What it founds, if it may; its id is what a cluster that is there must have.
    pub found: Found,
    /// Whether it may found.
    pub may_found: bool,
    /// Its way to the other supers.
    pub links: Links,
    /// Between two signs of life of the leader.
    pub heartbeat: Duration,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// Opens this super's part of the group, which ends with the node's tasks. Gives it, and whether the cluster was founded by
/// this call.
///
/// # Errors
/// [`StartError`].
pub async fn open(opening: Opening, tasks: &Tasks) -> Result<(Group, bool), StartError> {
    let Opening { disks, store, is_empty, found, may_found, links, heartbeat, metrics } = opening;
    let links = Arc::new(links);
    let parts = Parts {
        key: found.founder.node,
        address: found.founder.address.clone(),
        log: disks.log,
        store,
        spools: disks.spools,
        connector: Arc::clone(&links) as Arc<dyn raft::Connector>,
        roster: links,
        timing: Timing::of(heartbeat),
        keeping: Keeping::default(),
        runs: Runs::OnThreads,
        watcher: Arc::new(Counting(metrics)),
        found,
        may_found,
    };
    let group = Group::open(parts).await?;
    // No task of the node's: it outlives them, because what they rest on ends after them.
    tokio::spawn(end(group.clone(), tasks.clone()));
    let founded = is_empty && may_found && group.replica() == Some(0);
    Ok((group, founded))
}

/// Ends the group with the node, and the node with the group.
async fn end(group: Group, tasks: Tasks) {
    let (killed, drained) = (tasks.killed(), tasks.drained());
    tokio::select! {
        biased;
        () = killed.cancelled() => {}
        why = group.failed() => tasks.fail(format!("a commit failed, the node must start again: {why}")),
        () = drained.cancelled() => tokio::select! {
            () = killed.cancelled() => {}
            () = group.stop(HAND_OVER) => return,
        },
    }
    group.kill().await;
}

/// Counts commits.
struct Counting(Arc<Metrics>);

impl Watcher for Counting {
    fn applied(&self, batch: &Batch) {
        if batch.commands > 0 {
            self.0.commit_seconds.observe(batch.took.as_secs_f64());
            self.0.commit_commands.observe(batch.commands as f64);
        }
    }

    fn told(&self, _: Vec<Notice>) {}
}

/// A group of one for tests: on these disks, with nobody to talk to.
#[cfg(test)]
pub(crate) async fn alone(
    disks: &Disks,
    store: Arc<Store>,
    found: Found,
    metrics: Arc<Metrics>,
    tasks: &Tasks,
) -> Result<(Group, bool), StartError> {
    let links = Links::none();
    let is_empty = !store.load().map_err(raft::OpenError::from)?.is_founded();
    let heartbeat = Timing::default().heartbeat;
    let disks = disks.clone();
    let opening = Opening { disks, store, is_empty, found, may_found: true, links, heartbeat, metrics };
    open(opening, tasks).await
}
