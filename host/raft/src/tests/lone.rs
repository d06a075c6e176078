//! A group of one, through openraft: commands that come together cost one flush, and a start finds what was left.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::outcome::{Notice, Reject};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{Config, OptionalSend, Raft, SnapshotPolicy};
use store::lossy::{Failure, Lossy, Power};
use store::{Disk, Replica, Spool, SpoolRoom};

use super::{Disks, found, identity, join, lead, replica};
use crate::types::{RaftVote, Snapshot, Types};
use crate::{Batch, LogEnd, Machine, Runs, Watcher};

/// Nobody is there.
struct Nobody;

fn nobody() -> Unreachable<Types> {
    Unreachable::new(&std::io::Error::other("nobody is there"))
}

impl RaftNetworkFactory<Types> for Nobody {
    type Network = Self;

    async fn new_client(&mut self, _: u64, _: &Replica) -> Self {
        Self
    }
}

impl RaftNetworkV2<Types> for Nobody {
    type SnapshotData = Spool;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(nobody().into())
    }

    async fn vote(&mut self, _: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(nobody().into())
    }

    async fn full_snapshot(
        &mut self,
        _: RaftVote,
        _: Snapshot,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(nobody().into())
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Seen {
    applied: Mutex<Vec<Batch>>,
    notices: AtomicUsize,
}

impl Watcher for Seen {
    fn applied(&self, what: &Batch) {
        self.applied.lock().unwrap().push(what.clone());
    }

    fn told(&self, notices: Vec<Notice>) {
        self.notices.fetch_add(notices.len(), Ordering::Relaxed);
    }
}

type Lone = Raft<Types, Machine>;

async fn start(disks: &Disks, seen: Arc<Seen>) -> (Lone, Machine, LogEnd) {
    let files = disks.files();
    let new = files.identity().is_none();
    let on = files.start(identity(0), SpoolRoom::memory(), Runs::OnThreads, seen).unwrap();
    let config = Config {
        heartbeat_interval: 20,
        election_timeout_min: 50,
        election_timeout_max: 90,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(200),
        max_in_snapshot_log_to_keep: 50,
        purge_batch_size: 10,
        ..Config::default()
    };
    let config = Arc::new(config.validate().unwrap());
    let raft = Lone::new(0, config, Nobody, on.log, on.machine.clone()).await.unwrap();
    if new {
        raft.initialize([(0, replica(0))].into_iter().collect::<std::collections::BTreeMap<_, _>>()).await.unwrap();
    }
    raft.wait(Some(Duration::from_secs(20))).current_leader(0, "it leads").await.unwrap();
    (raft, on.machine, on.end)
}

async fn write(raft: &Lone, command: kernel::command::Command) -> Result<kernel::outcome::Reply, Reject> {
    raft.client_write(command.into()).await.unwrap().data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_come_together_cost_one_flush() {
    let power = Arc::new(Power::default());
    let disks = Disks { log: Disk::lossy(&Lossy::on(&power)), state: Disk::lossy(&Lossy::on(&power)) };
    let seen = Arc::new(Seen::default());
    let (raft, machine, end) = start(&disks, Arc::clone(&seen)).await;
    write(&raft, found()).await.unwrap();
    write(&raft, lead(1)).await.unwrap();
    assert_eq!(write(&raft, found()).await, Err(Reject::AlreadyFounded));
    let before = seen.applied.lock().unwrap().len();
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let raft = raft.clone();
            tokio::spawn(async move { raft.client_write(join(number).into()).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let seen_now = seen.applied.lock().unwrap().clone();
    let batches = seen_now.len() - before;
    assert!(batches < 120, "1000 commands took {batches} transactions");
    let last = seen_now.last().unwrap();
    assert_eq!(last.mark, machine.mark());
    assert_eq!(machine.read(|state| (state.meta.applied, state.members.len())).0, last.index);
    assert!(seen.notices.load(Ordering::Relaxed) > 0);
    raft.shutdown().await.unwrap();
    drop((raft, machine));
    end.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_finds_what_was_left_and_the_log_stays_short() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name| Disk::file(folder.path().join(name));
    let disks = Disks { log: file("raft.redb"), state: file("state.redb") };
    let mut states = Vec::new();
    for life in 0..3 {
        let (raft, machine, end) = start(&disks, Arc::default()).await;
        if let Some(before) = states.last() {
            assert_eq!(&machine.read(Clone::clone), before, "life {life}");
        } else {
            write(&raft, found()).await.unwrap();
        }
        for number in 0..300 {
            let _ = write(&raft, join(life * 1_000 + number)).await;
        }
        states.push(machine.read(Clone::clone));
        let purged = |metrics: &openraft::RaftMetrics<Types>| metrics.purged.is_some_and(|place| place.index > 100);
        raft.wait(Some(Duration::from_secs(20))).metrics(purged, "the log is purged").await.unwrap();
        raft.shutdown().await.unwrap();
        drop((raft, machine));
        end.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_group() {
    let power = Arc::new(Power::default());
    let disks = Disks { log: Disk::lossy(&Lossy::on(&power)), state: Disk::lossy(&Lossy::on(&power)) };
    let (raft, machine, _end) = start(&disks, Arc::default()).await;
    write(&raft, found()).await.unwrap();
    let before = machine.read(Clone::clone);
    power.fail_at(1, Failure::Refusal);
    assert!(raft.client_write(join(1).into()).await.is_err());
    let ended = |metrics: &openraft::RaftMetrics<Types>| metrics.running_state.is_err();
    let _ = raft.wait(Some(Duration::from_secs(20))).metrics(ended, "it has ended").await;
    assert!(raft.client_write(join(2).into()).await.is_err());
    assert_eq!(machine.read(Clone::clone), before, "nobody sees what is not on the disk");
}
