//! A super: a replica of the log, the kernel's state, and in memory what pings need.
//!
//! Each does in its one loop what the node's does: it takes what has come, then looks at deadlines, and measures how late
//! it is itself.

pub(crate) use founding::{activate, stage};
pub(crate) use replica::Replica;

mod apply;
mod founding;
mod life;
mod replica;
mod rounds;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use kernel::command::Super as Holder;
use kernel::id::{NodeId, RoundId, Term};
use kernel::limits::VOID_LAG_DIVISOR;
use kernel::round::lead::{Clock, Lead};
use kernel::round::opening::{Attending, Queues};
use kernel::round::walk::{Carry, Walk};
use kernel::round::{OpenRound, SeatRow, SignedPartial};
use kernel::state::State;

use crate::net::Peer;
use crate::raft::{Config, Id, Log, Message, Payload};
use crate::world::{Event, World};
use crate::{MS, Us, real};

/// Where time begins, ms since 1970.
pub(crate) const START_MS: u64 = 1_700_000_000_000;
/// Entries after which a snapshot is made, and how many before its end are kept for replicas that are a little behind.
const SNAPSHOT_ENTRIES: usize = 300;
const KEPT_ENTRIES: u64 = 50;

/// What a disk holds while its process is down.
type Disk = (u64, Option<Id>, Log);

/// Where that is.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Here.
    Model(Box<Disk>),
    /// On disks that are simulated as such.
    OnDisks,
}

/// How a super fares.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Its process runs.
    Up(Box<Process>),
    /// It stands still until then.
    Paused(Box<Process>, Us),
    /// It is down; `silent`: so is the machine.
    Down { disk: Kept, silent: bool },
    /// It was removed, and is switched off for good.
    Retired,
}

/// A super and its machine.
#[derive(Debug)]
pub(crate) struct Super {
    pub(crate) node: NodeId,
    key: SigningKey,
    pub(crate) fate: Fate,
    /// Counts its processes.
    pub(crate) life: u32,
    pub(crate) due_us: Us,
    /// A flush takes about this long.
    pub(crate) disk_us: Us,
    /// Its wall clock is ahead by so much, ms.
    pub(crate) clock_off_ms: i64,
}

/// A walk, and to whom its report goes.
#[derive(Debug)]
struct Watched {
    walk: Walk,
    leader: Id,
}

/// Who waits for an answer of the leader.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Join { from: usize, stream: u64 },
    Claim { from: usize, stream: u64, sequence: u64 },
}

/// What lives as long as a process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) raft: Replica,
    pub(crate) state: State,
    pub(crate) applied: u64,
    /// The group as of the last applied entry.
    pub(crate) config: (u64, Config),
    /// The last entry that is on its way to the disk.
    syncing: u64,
    clock: Clock,
    pub(crate) lead: Option<Lead>,
    /// The group of which the leader has told the state.
    told_supers: u64,
    walks: VecDeque<Watched>,
    carry: Carry,
    /// Reports that have left and are not settled.
    reports: VecDeque<(OpenRound, Id, SignedPartial)>,
    /// A round whose base is not applied here yet.
    pending: Option<(OpenRound, Id, Us)>,
    /// The last walk that began.
    opened: (Term, RoundId),
    attending: Attending,
    open_since_ms: u64,
    queues: Queues,
    pub(crate) attached: BTreeMap<NodeId, (usize, u64)>,
    waiting: BTreeMap<u64, Waiting>,
    asked: u64,
    /// What was proposed here: by index, the term and who asked.
    proposals: BTreeMap<u64, (u64, Id, u64)>,
    again_us: Us,
    /// How late it is in what it does now.
    late_us: Us,
    /// Everything that came during a pause is taken before deadlines are looked at.
    drains_until_us: Us,
    roster: Arc<[Id]>,
}

impl Super {
    pub(crate) fn process(&mut self) -> Option<&mut Process> {
        match &mut self.fate {
            Fate::Up(process) | Fate::Paused(process, _) => Some(process),
            Fate::Down { .. } | Fate::Retired => None,
        }
    }

    pub(crate) fn running(&self) -> Option<&Process> {
        match &self.fate {
            Fate::Up(process) | Fate::Paused(process, _) => Some(process),
            Fate::Down { .. } | Fate::Retired => None,
        }
    }

    pub(crate) fn holder(&self) -> Holder {
        Holder { node: self.node, name: String::new(), address: String::new() }
    }
}

impl Process {
    fn seat(&self, node: NodeId) -> Option<&SeatRow> {
        self.state.meta.seats.iter().find(|row| row.holder.node == node)
    }

    pub(crate) fn leads(&self) -> bool {
        self.raft.leads()
    }

    fn timeout_us(&self) -> Us {
        self.state.meta.settings.timeout_ms() * MS
    }
}

impl World {
    /// A message of another replica.
    pub(crate) fn raft_arrives(&mut self, to: Id, from: Id, message: Message) {
        self.wake(to);
        let now_us = self.now_us;
        let sup = &mut self.supers[usize::from(to)];
        match &mut sup.fate {
            Fate::Up(process) => {
                let raft = process.raft.model_mut().expect("a message of the model");
                if raft.take(from, message, now_us, &mut self.random) {
                    self.became_leader(to);
                }
                self.drive(to);
            }
            Fate::Paused(_, until_us) => {
                let at_us = *until_us;
                self.at(at_us, Event::Raft { to, from, message: Box::new(message) });
            }
            Fate::Down { .. } | Fate::Retired => {}
        }
    }

    /// Another message of a super.
    pub(crate) fn peer_arrives(&mut self, to: Id, from: Id, message: Peer) {
        self.wake(to);
        match &self.supers[usize::from(to)].fate {
            Fate::Up(_) => {}
            Fate::Paused(_, until_us) => {
                let at_us = *until_us;
                return self.at(at_us, Event::Peer { to, from, message: Box::new(message) });
            }
            Fate::Down { .. } | Fate::Retired => return,
        }
        match message {
            Peer::Open(open) => self.hears(to, from, open, 0),
            Peer::Partial(open, signed) => {
                let process = self.supers[usize::from(to)].process().expect("it runs");
                // A replica that is to lead and does not know it yet is told again.
                if let Some(lead) = &mut process.lead {
                    // One that is late, or came before, says nothing.
                    let _ = lead.partial(*signed, &process.state);
                    self.send_peer(to, from, &Peer::Got(open));
                }
            }
            Peer::Got(open) => {
                let process = self.supers[usize::from(to)].process().expect("it runs");
                process.reports.retain(|(other, ..)| *other != open);
            }
            Peer::Ask(number, ask) => self.asked(to, from, number, *ask),
            Peer::Answer(number, answer) => self.answered(to, number, *answer),
        }
        self.drive(to);
    }

    /// Entries are on the disk.
    pub(crate) fn synced(&mut self, id: Id, life: u32, index: u64, term: u64) {
        let sup = &mut self.supers[usize::from(id)];
        if sup.life == life
            && let Some(process) = sup.process()
        {
            // The disk goes on while the process stands still; what it says is read later.
            process.raft.model_mut().expect("a disk of the model").synced(index, term);
            if matches!(sup.fate, Fate::Up(_)) {
                self.drive(id);
            }
        }
    }

    /// Everything that is due on a super, and when to look again.
    pub(crate) fn drive(&mut self, id: Id) {
        let now_us = self.now_us;
        self.wake(id);
        let sup = &mut self.supers[usize::from(id)];
        let due_us = sup.due_us;
        let Fate::Up(process) = &mut sup.fate else { return };
        if now_us <= process.drains_until_us {
            return;
        }
        let late_us = now_us.saturating_sub(due_us);
        process.late_us = late_us;
        if late_us > process.timeout_us() / VOID_LAG_DIVISOR {
            process.attending.lagged(late_us);
        }
        let random = &mut self.random;
        if process.raft.model_mut().is_some_and(|raft| raft.tick(now_us, random)) {
            self.became_leader(id);
        }
        self.apply(id);
        self.attend(id);
        self.open_pending(id);
        self.walk(id);
        self.lead(id);
        self.send_again(id);
        self.flush(id);
        self.look_again(id);
    }

    /// Hands what the replica said to the network, and what is new in its log to the disk.
    fn flush(&mut self, id: Id) {
        let now_us = self.now_us;
        let sup = &mut self.supers[usize::from(id)];
        let (life, disk_us) = (sup.life, sup.disk_us);
        let Some(process) = sup.process() else { return };
        let Some(raft) = process.raft.model_mut() else { return };
        let out = std::mem::take(&mut raft.out);
        let last = raft.log.last();
        let sync = (last > raft.log.durable() && last != process.syncing).then_some(last);
        let term = raft.log.term(last).unwrap_or_default();
        process.syncing = last;
        for (to, message) in out {
            self.send_raft(id, to, message);
        }
        if let Some(index) = sync {
            let at_us = now_us + disk_us / 2 + self.random.below(disk_us);
            self.at(at_us, Event::Synced { id, life, index, term });
        }
    }

    fn look_again(&mut self, id: Id) {
        let (now_us, interval_us) = (self.now_us, self.interval_us);
        let sup = &mut self.supers[usize::from(id)];
        let Fate::Up(process) = &sup.fate else { return };
        let walks = process.walks.iter().filter_map(|watched| watched.walk.next_due_us());
        let settled = process.state.meta.settled;
        let lead = process.lead.as_ref().and_then(|lead| lead.next_due_us(settled));
        let attending = process.attending.due_us(interval_us);
        // A beat, so that a pause outside of walks is noticed too.
        let beat_us = now_us + process.timeout_us() / 2;
        let due_us =
            walks.chain(lead).chain(attending).chain([process.raft.due_us(), beat_us]).min().unwrap_or(beat_us);
        let due_us = due_us.max(now_us + 1);
        if sup.due_us != due_us {
            sup.due_us = due_us;
            self.at(due_us, Event::Super { id, at_us: due_us });
        }
    }

    /// Its wall clock, ms since 1970.
    fn wall_ms(&self, id: Id) -> u64 {
        (START_MS + self.now_us / MS).saturating_add_signed(self.supers[usize::from(id)].clock_off_ms)
    }

    /// What a leader stamps now.
    fn stamp(&mut self, id: Id) -> u64 {
        let (wall_ms, now_us) = (self.wall_ms(id), self.now_us);
        let Some(process) = self.supers[usize::from(id)].process() else { return wall_ms };
        if let Some(now_ms) = process.raft.real().and_then(real::Replica::now_ms) {
            return now_ms;
        }
        process.clock.stamp(process.state.meta.stamp_ms, wall_ms, now_us).now_ms
    }

    /// Proposes as the leader.
    pub(crate) fn propose(&mut self, id: Id, payload: Payload) -> u64 {
        let now_us = self.now_us;
        let process = self.supers[usize::from(id)].process().expect("a leader runs");
        assert!(process.leads(), "super {id} proposes and does not lead");
        match (process.raft.model_mut(), payload) {
            (Some(raft), payload) => raft.propose(payload, now_us),
            (None, Payload::Command(command)) => {
                let about = real::About::of(&command);
                self.hand_in(id, command, about);
                0
            }
            (None, Payload::Config(_)) => unreachable!("the group is asked for it"),
        }
    }
}
