//! The one loop: the earliest event happens, the oracle looks, and what follows is put in line.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use kernel::id::NodeId;
use kernel::round::lead::Gathered;

use crate::faults::{Fault, Plan};
use crate::follower::Follower;
use crate::net::{Down, Net, Peer, Up};
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::raft::{Id, Message};
use crate::random::{Random, mix};
use crate::real::Real;
use crate::supers::Super;
use crate::{Options, Played, Scene, Us};

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message between replicas arrives.
    Raft { to: Id, from: Id, message: Box<Message> },
    /// Another message between supers arrives.
    Peer { to: Id, from: Id, message: Box<Peer> },
    /// Something of a follower arrives at a super.
    Up { to: Id, from: usize, stream: u64, up: Up },
    /// Something of a super arrives at a follower.
    Down { to: usize, from: Id, stream: u64, down: Down },
    /// A super looks at its clock.
    Super { id: Id, at_us: Us },
    /// A follower looks at its clock.
    Follower { at: usize, at_us: Us },
    /// Entries are on a super's disk.
    Synced { id: Id, life: u32, index: u64, term: u64 },
    /// A leader's policies have run.
    Decided { id: Id, life: u32, gathered: Box<Gathered> },
    /// A super or a follower goes on after a pause.
    Wake { who: Who },
    /// A fault begins.
    Begin(Box<Fault>),
    /// A fault ends.
    End(Box<Fault>),
    /// The operator looks at the group.
    Operator,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Super(Id),
    Follower(usize),
}

#[derive(Debug)]
struct Due {
    at_us: Us,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// A cluster, its network and its fate.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) now_us: Us,
    due: BinaryHeap<Reverse<Due>>,
    order: u64,
    pub(crate) events: u64,
    digest: u64,
    pub(crate) random: Random,
    pub(crate) interval_us: Us,
    pub(crate) net: Net,
    pub(crate) supers: Vec<Super>,
    pub(crate) followers: Vec<Follower>,
    /// Supers by key.
    pub(crate) by_key: BTreeMap<NodeId, Id>,
    pub(crate) plan: Plan,
    pub(crate) operator: Operator,
    pub(crate) oracle: Oracle,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    lines: Vec<String>,
    streams: u64,
    pub(crate) real: Option<Real>,
}

impl World {
    /// The world of a seed, at its beginning.
    #[must_use]
    pub fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(mix(seed ^ 0x7069_6e67));
        let plan = Plan::draw(&mut random, options);
        let mut world = Self {
            seed,
            options,
            now_us: 0,
            due: BinaryHeap::new(),
            order: 0,
            events: 0,
            digest: mix(seed),
            random,
            interval_us: plan.interval_us,
            net: Net::default(),
            supers: Vec::new(),
            followers: Vec::new(),
            by_key: BTreeMap::new(),
            plan,
            operator: Operator::default(),
            oracle: Oracle::default(),
            counts: BTreeMap::new(),
            lines: Vec::new(),
            streams: 0,
            real: (options.scene == Scene::Real).then(|| Real::new(seed)),
        };
        world.net.wires = world.real.as_ref().map(|real| real.wires());
        world.found();
        world.settle_in();
        world.begin_faults();
        world.at(crate::S, Event::Operator);
        world
    }

    /// Plays to the end, or to the first thing that is wrong.
    #[must_use]
    pub fn play(mut self) -> Played {
        let end_us = self.end_us();
        while self.oracle.wrong.is_none() {
            if self.due_us() > end_us {
                self.now_us = end_us;
                self.look_at_the_end();
                break;
            }
            self.step();
        }
        self.played()
    }

    /// The end of the run.
    pub(crate) const fn end_us(&self) -> Us {
        self.plan.quiet_us + self.plan.rest_us
    }

    /// When the next event is due.
    pub(crate) fn due_us(&self) -> Us {
        self.due.peek().map_or(Us::MAX, |Reverse(due)| due.at_us)
    }

    /// The next event happens.
    pub(crate) fn step(&mut self) {
        let Some(Reverse(Due { at_us, event, .. })) = self.due.pop() else { return };
        self.now_us = at_us.max(self.now_us);
        self.events += 1;
        self.happen(event);
        self.look();
    }

    /// What became of the run.
    pub(crate) fn played(mut self) -> Played {
        let mut lines = std::mem::take(&mut self.lines);
        if let Some(wrong) = &self.oracle.wrong {
            lines.push(format!("{} wrong: {wrong}", self.clock()));
        }
        Played {
            seed: self.seed,
            simulated_us: self.now_us,
            events: self.events,
            digest: self.digest,
            counts: self.counts,
            wrong: self.oracle.wrong,
            lines,
        }
    }

    /// Puts an event in line. Events of one moment happen in the order in which they were put.
    pub(crate) fn at(&mut self, at_us: Us, event: Event) {
        self.order += 1;
        self.due.push(Reverse(Due { at_us: at_us.max(self.now_us), order: self.order, event }));
    }

    /// Something is counted.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Something is told, where somebody listens.
    pub(crate) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.options.told {
            let line = format!("{} {}", self.clock(), line(self));
            self.lines.push(line);
        }
    }

    fn clock(&self) -> String {
        format!("{:>4}.{:06}", self.now_us / crate::S, self.now_us % crate::S)
    }

    /// A number for a stream.
    pub(crate) const fn stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    pub(crate) fn note(&mut self, parts: [u64; 3]) {
        self.digest = parts.iter().fold(mix(self.digest ^ self.now_us), |digest, part| mix(digest ^ part));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Super { id, at_us } => {
                if self.supers[usize::from(id)].due_us == at_us {
                    self.note([1, id.into(), 0]);
                    self.wakes(Who::Super(id));
                }
            }
            Event::Follower { at, at_us } => {
                if self.followers[at].due_us == at_us {
                    self.note([2, at as u64, 0]);
                    self.wakes(Who::Follower(at));
                }
            }
            Event::Raft { to, from, message } => {
                self.note([3, to.into(), from.into()]);
                self.raft_arrives(to, from, *message);
            }
            Event::Peer { to, from, message } => {
                self.note([4, to.into(), from.into()]);
                self.peer_arrives(to, from, *message);
            }
            Event::Up { to, from, stream, up } => {
                self.note([5, to.into(), stream]);
                self.up_arrives(to, from, stream, up);
            }
            Event::Down { to, from, stream, down } => {
                self.note([6, to as u64, stream]);
                self.down_arrives(to, from, stream, down);
            }
            Event::Synced { id, life, index, term } => {
                self.note([7, id.into(), index]);
                self.synced(id, life, index, term);
            }
            Event::Decided { id, life, gathered } => {
                self.note([8, id.into(), gathered.open.round.0]);
                self.decided(id, life, *gathered);
            }
            Event::Wake { who } => self.wakes(who),
            Event::Begin(fault) => {
                self.note([9, 0, 0]);
                self.begin(*fault);
            }
            Event::End(fault) => {
                self.note([9, 1, 0]);
                self.end(*fault);
            }
            Event::Operator => self.operate(),
        }
    }

    /// A process goes on, unless it still stands still.
    fn wakes(&mut self, who: Who) {
        match who {
            Who::Super(id) => self.drive(id),
            Who::Follower(at) => self.follow(at),
        }
    }
}
