//! What the log and the state promise, tried: openraft's own suite, a group of one, and machines that lose power.

mod cuts;
mod lone;
mod open;
mod order;
mod suite;

use std::sync::Arc;

use kernel::command::{Command, Found, Ip, Join, Lead, Super};
use kernel::id::{ClusterId, Genesis, NodeId, ProtocolVersion, Term};
use kernel::settings::Settings;
use store::{Disk, Identity, Replica, SpoolRoom, Store};

use crate::{Files, Replicated, Runs};

/// More than any test writes.
const PLENTY: u64 = 1 << 30;

fn cluster() -> ClusterId {
    ClusterId { id: "lab".into(), genesis: Genesis([3; 16]) }
}

fn key(replica: u64) -> NodeId {
    NodeId([200 + replica as u8; 32])
}

fn identity(replica: u64) -> Identity {
    Identity { cluster: cluster(), replica, key: key(replica) }
}

fn replica(id: u64) -> Replica {
    Replica { key: key(id), address: format!("10.0.0.{id}:7001"), name: format!("super-{id}") }
}

/// The disks of one replica.
#[derive(Clone)]
struct Disks {
    log: Disk,
    state: Disk,
}

impl Disks {
    fn memory() -> Self {
        Self { log: Disk::memory(), state: Disk::memory() }
    }

    fn files(&self) -> Files {
        let store = Arc::new(Store::open(&self.state, PLENTY).unwrap());
        Files::open(&self.log, store).unwrap()
    }

    fn start(&self, runs: Runs) -> Replicated {
        self.files().start(identity(0), SpoolRoom::memory(), runs, Arc::new(())).unwrap()
    }
}

fn found() -> Command {
    Command::Found(Box::new(Found {
        cluster: cluster(),
        founder: Super { node: key(0), name: "super-0".into(), address: "10.0.0.0:7001".into() },
        settings: Settings::default(),
        now_ms: 1_700_000_000_000,
    }))
}

fn lead(term: u64) -> Command {
    Command::Lead(Lead { term: Term(term), leader: key(0), now_ms: 1_700_000_000_000 })
}

fn join(number: u64) -> Command {
    let mut node = [1; 32];
    node[..8].copy_from_slice(&number.to_be_bytes());
    Command::Join(Join {
        node: NodeId(node),
        name: format!("follower-{number}"),
        version: ProtocolVersion::OURS,
        software: "0.1.0".into(),
        ip: Ip::V4([10, (number >> 16) as u8, (number >> 8) as u8, number as u8]),
        port: 7_000,
        rest: None,
        now_ms: 1_700_000_000_000 + number,
    })
}
