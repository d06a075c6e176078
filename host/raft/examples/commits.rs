//! What a group of one commits on this machine: commands of 256 bytes through the log and the state, each proposer
//! waiting for its answer before it proposes again. `cargo run --release -p raft --features measure --example commits [FOLDER]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement that fails may panic, and prints"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kernel::command::{Command, Found, Ip, Join, Operate, Operation, Operator, Super};
use kernel::id::{ClusterId, Genesis, NodeId, ProtocolVersion};
use kernel::outcome::Notice;
use kernel::settings::Settings;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{Config, OptionalSend, Raft};
use raft::types::{RaftVote, Snapshot, Types};
use raft::{Batch, Files, Machine, Runs, Watcher};
use store::{Disk, Identity, Payload, Place, Replica, Spool, SpoolRoom, Store};

/// How long each number of proposers is measured.
const TIME: Duration = Duration::from_secs(5);
const NOW_MS: u64 = 1_700_000_000_000;

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

#[derive(Default)]
struct Count {
    batches: AtomicU64,
    commands: AtomicU64,
    took_us: AtomicU64,
}

impl Watcher for Count {
    fn applied(&self, what: &Batch) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.commands.fetch_add(what.commands as u64, Ordering::Relaxed);
        self.took_us.fetch_add(what.took.as_micros() as u64, Ordering::Relaxed);
    }

    fn told(&self, _: Vec<Notice>) {}
}

fn member(number: u64) -> NodeId {
    let mut key = [1; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    NodeId(key)
}

fn join(number: u64) -> Command {
    Command::Join(Join {
        node: member(number),
        name: String::new(),
        version: ProtocolVersion::OURS,
        software: "0.1.0".into(),
        ip: Ip::V4([10, (number >> 16) as u8, (number >> 8) as u8, number as u8]),
        port: 7_000,
        rest: None,
        now_ms: NOW_MS,
    })
}

fn command(members: u64, number: u64) -> Command {
    let what = Operation::SetClass { node: member(number % members), class: number as u32 };
    Command::Operate(Operate { by: Operator::Token, reason: "x".repeat(184), now_ms: NOW_MS, what })
}

/// Microseconds of one append of 256 bytes with fdatasync: the median of 200.
fn probe(folder: &std::path::Path) -> u128 {
    let mut file = std::fs::File::create(folder.join("probe")).unwrap();
    let mut took: Vec<_> = (0..200)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; 256]).unwrap();
            file.sync_data().unwrap();
            began.elapsed().as_micros()
        })
        .collect();
    took.sort_unstable();
    took[100]
}

#[tokio::main]
async fn main() {
    let base = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(base).unwrap();
    let store = Arc::new(Store::open(&Disk::file(folder.path().join("state.redb")), 1 << 30).unwrap());
    let files = Files::open(&Disk::file(folder.path().join("raft.redb")), store).unwrap();
    let (key, address) = (NodeId([9; 32]), "127.0.0.1:1".to_owned());
    let cluster = ClusterId { id: "bench".into(), genesis: Genesis([1; 16]) };
    let identity = Identity { cluster: cluster.clone(), replica: 0, key };
    let count = Arc::new(Count::default());
    let watcher: Arc<dyn Watcher> = count.clone();
    let on = files.start(identity, SpoolRoom::folder(folder.path()), Runs::OnThreads, watcher).unwrap();
    let config = Arc::new(Config::default().validate().unwrap());
    let raft: Raft<Types, Machine> = Raft::new(0, config, Nobody, on.log, on.machine.clone()).await.unwrap();
    let replica = Replica { key, address: address.clone(), name: String::new() };
    raft.initialize(BTreeMap::from([(0, replica)])).await.unwrap();
    raft.wait(Some(Duration::from_secs(20))).current_leader(0, "it leads").await.unwrap();
    let founder = Super { node: key, name: "super-1".into(), address };
    let founding = Found { cluster, founder, settings: Settings::default(), now_ms: NOW_MS };
    raft.client_write(Command::Found(Box::new(founding)).into()).await.unwrap().data.unwrap();
    let mut members = 0;
    while members < 1_000 && raft.client_write(join(members).into()).await.unwrap().data.is_ok() {
        members += 1;
    }
    let sample = store::Logged {
        place: Place { term: 1, index: 1_000_000 },
        payload: Payload::Command(Arc::new(command(members, 5))),
    };
    println!("{members} members, an entry has {} bytes", sample.to_bytes().unwrap().len());
    for proposers in [1_u64, 64, 512] {
        let fsync = probe(folder.path());
        let before = (count.batches.load(Ordering::Relaxed), count.commands.load(Ordering::Relaxed));
        let took = count.took_us.load(Ordering::Relaxed);
        let began = Instant::now();
        let tasks: Vec<_> = (0..proposers)
            .map(|proposer| {
                let raft = raft.clone();
                tokio::spawn(async move {
                    let (mut times, mut number) = (Vec::new(), proposer);
                    while began.elapsed() < TIME {
                        let asked = Instant::now();
                        raft.client_write(command(members, number).into()).await.unwrap().data.unwrap();
                        times.push(asked.elapsed().as_micros());
                        number += proposers;
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        let seconds = began.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        let batches = count.batches.load(Ordering::Relaxed) - before.0;
        let commands = count.commands.load(Ordering::Relaxed) - before.1;
        println!(
            "{proposers:>4} proposers: {:>6.0} commits/s, p50 {} us, p99 {} us; {:.1} a batch, {} us a batch; fdatasync {fsync} us",
            times.len() as f64 / seconds,
            at(50),
            at(99),
            commands as f64 / batches as f64,
            (count.took_us.load(Ordering::Relaxed) - took) / batches.max(1),
        );
    }
    raft.shutdown().await.unwrap();
}
