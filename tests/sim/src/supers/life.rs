//! How a super's process begins, stands still, goes on and ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kernel::id::{RoundId, Term};
use kernel::round::lead::Clock;
use kernel::round::opening::{Attending, Queues};
use kernel::round::walk::Carry;

use super::{Fate, Kept, Process, Replica};
use crate::Us;
use crate::raft::{Config, Id, Raft};
use crate::world::{Event, Who, World};

impl World {
    /// It goes on, where its pause is over.
    pub(super) fn wake(&mut self, id: Id) {
        let now_us = self.now_us;
        let sup = &mut self.supers[usize::from(id)];
        if matches!(&sup.fate, Fate::Paused(_, until_us) if now_us >= *until_us) {
            let Fate::Paused(process, _) = std::mem::replace(&mut sup.fate, Fate::Retired) else { unreachable!() };
            sup.fate = Fate::Up(process);
        }
    }

    /// It stands still for so long.
    pub(crate) fn pause(&mut self, id: Id, length_us: Us) {
        let until_us = self.now_us + length_us;
        let sup = &mut self.supers[usize::from(id)];
        if let Fate::Up(_) = sup.fate {
            let Fate::Up(mut process) = std::mem::replace(&mut sup.fate, Fate::Retired) else { unreachable!() };
            process.drains_until_us = until_us;
            sup.fate = Fate::Paused(process, until_us);
            self.at(until_us + 1, Event::Wake { who: Who::Super(id) });
        }
    }

    /// Its process ends. `loses`: with what was not synced; `silent`: the machine is gone too, and nobody is told.
    pub(crate) fn crash(&mut self, id: Id, loses: bool, silent: bool) {
        let sup = &mut self.supers[usize::from(id)];
        let fate = std::mem::replace(&mut sup.fate, Fate::Retired);
        match fate {
            Fate::Up(process) | Fate::Paused(process, _) => {
                let attached: Vec<(usize, u64)> = process.attached.values().copied().collect();
                let disk = match process.raft {
                    Replica::Model(raft) => Kept::Model(Box::new(raft.disk(loses))),
                    Replica::Real(replica) => {
                        let real = self.real.as_ref().expect("it is real");
                        real.crash(id, replica, (loses, silent), self.options.plant);
                        Kept::OnDisks
                    }
                };
                sup.fate = Fate::Down { disk, silent };
                sup.life += 1;
                if !silent {
                    for (to, stream) in attached {
                        self.send_down(id, to, stream, crate::net::Down::Close);
                    }
                }
            }
            fate @ (Fate::Down { .. } | Fate::Retired) => sup.fate = fate,
        }
    }

    /// Its process starts on what the disk holds.
    pub(crate) fn restart(&mut self, id: Id) {
        let now_us = self.now_us;
        let sup = &mut self.supers[usize::from(id)];
        if !matches!(sup.fate, Fate::Down { .. }) {
            return;
        }
        let Fate::Down { disk, .. } = std::mem::replace(&mut sup.fate, Fate::Retired) else { unreachable!() };
        self.count("restarts");
        self.start(id, disk, now_us);
    }

    /// A process on a disk.
    pub(crate) fn start(&mut self, id: Id, disk: Kept, now_us: Us) {
        let plant = self.options.plant;
        let (raft, applied, state, config) = match disk {
            Kept::Model(disk) => {
                let mut raft = Raft::start(id, *disk, now_us, &mut self.random);
                raft.no_quorum = plant == crate::Plant::NoQuorum;
                let snapshot = raft.log.snapshot.clone();
                let (state, config) = (snapshot.state.clone(), snapshot.config.clone());
                (Replica::Model(Box::new(raft)), snapshot.index, state, config)
            }
            Kept::OnDisks => {
                let life = self.supers[usize::from(id)].life + 1;
                let cluster = self.oracle.state.meta.cluster.clone();
                let real = self.real.as_mut().expect("it is real");
                let started = real.start(id, life, plant, cluster);
                self.reached(id, started.applied);
                (Replica::Real(started.replica), started.applied, started.state, (started.changed, Config::default()))
            }
        };
        let mut process = Process {
            applied,
            state,
            config,
            syncing: raft.model().map_or(0, |raft| raft.log.last()),
            raft,
            clock: Clock::default(),
            lead: None,
            told_supers: 0,
            walks: VecDeque::new(),
            carry: Carry::default(),
            reports: VecDeque::new(),
            pending: None,
            opened: (Term(0), RoundId(0)),
            attending: Attending::default(),
            open_since_ms: 0,
            queues: Queues::default(),
            attached: BTreeMap::new(),
            waiting: BTreeMap::new(),
            asked: u64::from(self.supers[usize::from(id)].life) << 32,
            proposals: BTreeMap::new(),
            again_us: now_us,
            late_us: 0,
            drains_until_us: now_us,
            roster: Arc::from([]),
        };
        if process.state.is_founded() {
            process.queues.keep(&process.state);
        }
        let sup = &mut self.supers[usize::from(id)];
        sup.life += 1;
        sup.due_us = now_us + 1;
        sup.fate = Fate::Up(Box::new(process));
        self.note_roster(id);
        self.at(now_us + 1, Event::Super { id, at_us: now_us + 1 });
    }
}
