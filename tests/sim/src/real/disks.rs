//! A super's machine: its disks, its clock, and the processes that start on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kernel::command::{Command, Found, Super as Holder};
use kernel::id::{ClusterId, LogIndex, NodeId};
use kernel::outcome::Write;
use kernel::state::State;
use raft::{Group, Keeping, Parts, Roster, Runs, Timing, Wall, Watcher};
use store::lossy::{Failure, Lossy, Power};
use store::{Disk, Identity, LogChange, LogFile, Mark, Membership, Place, Replica as Member, SpoolRoom, Store, Vote};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Note, Real, Replica};
use crate::raft::Id;
use crate::supers::START_MS;
use crate::world::World;
use crate::{MS, Plant, Us};

/// Between two signs of life of a leader.
const HEARTBEAT: Duration = Duration::from_millis(300);
/// Little of the log is kept, so that a replica that was away needs a snapshot.
const KEEPING: Keeping = Keeping { snapshot: 100, behind: 20, purged: 10, bytes: 64 << 20 };
/// All of the history: the oracle reads it.
const HISTORY_BYTES: u64 = 1 << 40;
/// The term of what a cluster begins with.
const TERM: u64 = 1;
/// Later than any run lasts, in operations of a disk.
const NEVER: u64 = 1 << 60;

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    key: NodeId,
    power: Arc<Power>,
    log: Arc<Lossy>,
    state: Arc<Lossy>,
    clock: Arc<Clock>,
    /// The last entry that was told of as applied.
    applied: u64,
}

/// A machine's wall clock.
#[derive(Debug)]
struct Clock {
    begin: Instant,
    off_ms: AtomicI64,
}

impl Wall for Clock {
    fn now_ms(&self) -> u64 {
        let now_us = self.begin.elapsed().as_micros() as Us;
        (START_MS + now_us / MS).saturating_add_signed(self.off_ms.load(Ordering::Relaxed))
    }
}

/// Every super may be a replica.
#[derive(Debug)]
struct Anybody;

impl Roster for Anybody {
    fn admits(&self, _: &NodeId) -> bool {
        true
    }
}

/// Tells the world what a replica has applied.
struct Teller {
    id: Id,
    life: u32,
    notes: mpsc::UnboundedSender<Note>,
}

impl Watcher for Teller {
    fn applied(&self, what: &raft::Batch) {
        let (id, life) = (self.id, self.life);
        let Some(at) = what.mark.applied else { return };
        let changed = what.mark.membership_at.map_or(0, |at| at.index);
        // The world may be over.
        let _ = self.notes.send(Note::Applied { id, life, index: at.index, changed, installed: what.installed });
    }

    fn told(&self, _: Vec<kernel::outcome::Notice>) {}
}

/// Where a super is reached.
pub(super) fn address(id: Id) -> String {
    format!("super-{id}:7001")
}

/// A process that was started: its replica, and what its disk held.
pub(crate) struct Started {
    pub(crate) replica: Replica,
    pub(crate) applied: u64,
    /// The entry that last changed the group.
    pub(crate) changed: u64,
    pub(crate) state: State,
}

impl Real {
    /// A machine with empty disks.
    pub(crate) fn new_machine(&mut self, key: NodeId) {
        let power = Arc::new(Power::default());
        let (log, state) = (Lossy::on(&power), Lossy::on(&power));
        let clock = Arc::new(Clock { begin: self.begin, off_ms: AtomicI64::new(0) });
        self.machines.push(Machine { key, power, log, state, clock, applied: 0 });
    }

    pub(crate) fn set_clock(&self, id: Id, off_ms: i64) {
        self.machine(id).clock.off_ms.store(off_ms, Ordering::Relaxed);
    }

    /// Puts the beginning of the log on every disk, as what is applied already.
    pub(crate) fn found(&self, commands: &[Command]) {
        let mut state = State::default();
        let mut writes: Vec<Write> = Vec::new();
        let entries: Vec<(LogIndex, &Command)> = (1..).map(LogIndex).zip(commands).collect();
        for (index, command) in &entries {
            writes.extend(state.apply(*index, command).writes);
        }
        let last = Place { term: TERM, index: commands.len() as u64 };
        let replicas: Vec<(u64, Member)> = (0..)
            .zip(&self.machines)
            .map(|(id, machine)| {
                let member = Member { key: machine.key, address: address(id), name: String::new() };
                (u64::from(id), member)
            })
            .collect();
        let voters = vec![replicas.iter().map(|(id, _)| *id).collect()];
        let membership = Membership { voters, replicas };
        let mark = Mark { applied: Some(last), membership_at: Some(Place { term: TERM, index: 0 }), membership };
        for (replica, machine) in (0..).zip(&self.machines) {
            let store = Store::open(&Disk::lossy(&machine.state), HISTORY_BYTES).expect("a new store");
            store.commit_marked(&entries, &writes, &mark).expect("the founding");
            let (log, _) = LogFile::open(&Disk::lossy(&machine.log)).expect("a new log");
            let identity = Identity { cluster: state.meta.cluster.clone(), replica, key: machine.key };
            log.bind(&identity, Some(Vote { term: TERM, replica: 0, committed: true })).expect("a new log");
            log.write(&[LogChange::Purge(last)], Some(last), Some(last)).expect("a new log");
        }
    }

    /// A process starts on what a machine's disks hold.
    pub(crate) fn start(&mut self, id: Id, life: u32, plant: Plant, cluster: ClusterId) -> Started {
        let machine = &self.machines[usize::from(id)];
        // All of what was not synced is lost: what survives of it by chance is for the tests of the store.
        machine.power.start_again(&[&machine.log, &machine.state], &mut |end| end - 1);
        if plant == Plant::SettledTwice && id == 1 && life > 1 {
            settle_again(&Disk::lossy(&machine.state));
        }
        if plant == Plant::LyingDisk {
            machine.power.fail_at(NEVER, Failure::LyingSync);
        }
        let store = Arc::new(Store::open(&Disk::lossy(&machine.state), HISTORY_BYTES).expect("its own store"));
        let state = store.load().expect("its own state");
        let mark = store.mark().expect("its own mark");
        let index = |place: Option<Place>| place.map_or(0, |place| place.index);
        let (applied, changed) = (index(mark.applied), index(mark.membership_at));
        let founder = Holder { node: machine.key, name: String::new(), address: address(id) };
        let settings = kernel::settings::Settings::default();
        let parts = Parts {
            key: machine.key,
            address: address(id),
            log: Disk::lossy(&machine.log),
            store: Arc::clone(&store),
            spools: SpoolRoom::memory(),
            connector: self.wires.connector(id, machine.key),
            roster: Arc::new(Anybody),
            timing: Timing::of(HEARTBEAT),
            keeping: KEEPING,
            runs: Runs::Inline,
            watcher: Arc::new(Teller { id, life, notes: self.notes.clone() }),
            found: Found { cluster, founder, settings, now_ms: 0 },
            may_found: false,
        };
        let (clock, notes) = (Arc::clone(&machine.clock), self.notes.clone());
        tokio::spawn(async move {
            let opened = Group::open_by(parts, clock).await.map_err(|error| error.to_string());
            let _ = notes.send(Note::Opened { id, life, group: Box::new(opened) });
        });
        Started { replica: Replica::new(machine.key, store), applied, changed, state }
    }

    /// A process serves.
    pub(super) fn serve(&self, id: Id, life: u32, group: &Group) {
        self.wires.up(id, self.machine(id).key, &address(id), group.server());
        let (leads, notes) = (group.leadership(), self.notes.clone());
        tokio::spawn(tell_leads(id, life, leads, notes));
        let (group, notes) = (group.clone(), self.notes.clone());
        tokio::spawn(async move {
            let stopped = group.stopped();
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                why = group.failed() => drop(notes.send(Note::Failed { id, life, why })),
            }
        });
    }

    /// A process ends, with its machine's power where it `loses`.
    pub(crate) fn crash(&self, id: Id, replica: Replica, (loses, silent): (bool, bool), plant: Plant) {
        let machine = self.machine(id);
        let failure = match (loses, plant) {
            (true, Plant::LyingDisk) => Failure::LyingSync,
            (true, _) => Failure::PowerCut,
            (false, _) => Failure::Refusal,
        };
        machine.power.fail_at(1, failure);
        self.wires.down(id, &address(id), silent);
        if let Some(group) = replica.into_group() {
            tokio::spawn(async move { group.kill().await });
        }
    }

    /// What a replica applied; `None`: it had applied more before.
    pub(super) fn reached(&mut self, id: Id, applied: u64) -> Option<u64> {
        let before = &mut self.machines[usize::from(id)].applied;
        let at = *before;
        *before = applied.max(at);
        (applied >= at).then_some(at)
    }
}

async fn tell_leads(
    id: Id,
    life: u32,
    mut leads: tokio::sync::watch::Receiver<raft::Leadership>,
    notes: mpsc::UnboundedSender<Note>,
) {
    loop {
        let now = *leads.borrow_and_update();
        if notes.send(Note::Leads { id, life, now }).is_err() || leads.changed().await.is_err() {
            return;
        }
    }
}

/// A planted bug: the last settlement takes effect again, on the disk.
fn settle_again(disk: &Disk) {
    let store = Store::open(disk, HISTORY_BYTES).expect("its own store");
    let mut state = store.load().expect("its own state");
    let Ok(Some(settle)) = store.settlement(state.meta.settled) else { return };
    let at = state.meta.applied;
    state.meta.settled = kernel::id::RoundId(settle.round.0 - 1);
    let outcome = state.apply(at, &Command::Settle(Box::new(settle)));
    if outcome.reply.is_ok() {
        let writes: Vec<Write> =
            outcome.writes.into_iter().filter(|write| !matches!(write, Write::Round(_) | Write::Line(_))).collect();
        store.commit_marked(&[], &writes, &store.mark().expect("its own mark")).expect("its own store");
    }
}

impl World {
    /// How far a replica has come is on its disk, whatever happens.
    pub(crate) fn reached(&mut self, id: Id, applied: u64) {
        let real = self.real.as_mut().expect("it is real");
        if real.reached(id, applied).is_none() {
            self.oracle.wrong(format!("super {id} has lost what it had applied: it is at entry {applied}"));
        }
    }
}
