//! What a seed makes of a cluster: its size, its settings, and what goes wrong when.

use std::collections::BTreeSet;

use kernel::command::Command;
use kernel::decide::Slot;
use kernel::settings::Settings;

use crate::follower::Health;
use crate::net::Weather;
use crate::raft::{Id, Payload};
use crate::random::Random;
use crate::supers::Fate;
use crate::world::{Event, Who, World};
use crate::{MS, Options, S, Scene, Us};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A super's process is killed and starts again.
    Kill,
    /// The same with a loss of power: what was not synced is gone, and nobody is told.
    Power,
    /// A super stands still.
    Pause,
    /// The supers fall into two parts.
    Partition,
    /// One super does not reach another.
    OneWay,
    /// Messages between supers are lost, doubled and late.
    Weather,
    /// A super's disk is slow.
    SlowDisk,
    /// A super's clock is set.
    Clock,
    /// A super is added, or one is removed.
    Group,
    /// A follower's process ends, for a while or for good.
    Death,
    /// A follower stands still or answers now and then.
    Ill,
    /// A follower's path to a super is cut, one way or both.
    Path,
    /// Rules are swapped.
    Swap,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Kill,
        Self::Power,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Weather,
        Self::SlowDisk,
        Self::Clock,
        Self::Group,
        Self::Death,
        Self::Ill,
        Self::Path,
        Self::Swap,
    ];

    /// What is counted when one begins.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kills",
            Self::Power => "power cuts",
            Self::Pause => "pauses",
            Self::Partition => "partitions",
            Self::OneWay => "one-way cuts",
            Self::Weather => "storms",
            Self::SlowDisk => "slow disks",
            Self::Clock => "clock jumps",
            Self::Group => "group changes",
            Self::Death => "deaths",
            Self::Ill => "illnesses",
            Self::Path => "path cuts",
            Self::Swap => "swaps",
        }
    }

    /// Whether it happens to followers alone.
    const fn is_theirs(self) -> bool {
        matches!(self, Self::Death | Self::Ill | Self::Path)
    }
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    kind: Kind,
    length_us: Us,
    id: Id,
    at: usize,
    flag: bool,
    cuts: BTreeSet<(Id, Id)>,
}

/// The fate of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) supers: u8,
    pub(crate) followers: usize,
    pub(crate) interval_us: Us,
    pub(crate) settings: Settings,
    /// Faults stop then.
    pub(crate) quiet_us: Us,
    /// And the cluster has so long to come to rest.
    pub(crate) rest_us: Us,
    kinds: Vec<Kind>,
    /// Between two faults, about.
    gap_us: Us,
    /// How long one lasts, about.
    length_us: Us,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random, options: Options) -> Self {
        let mut supers = random.one_of(&[3, 3, 5]);
        let mut interval_us = random.one_of(&[S, S, S, 2 * S]);
        let mut followers = random.between(10, 41) as usize;
        let mut least_us = 550 * S;
        let mut gap_us = random.one_of(&[2, 5, 10, 30]) * interval_us;
        let mut kinds: Vec<Kind> = Vec::new();
        for kind in Kind::ALL {
            if random.chance_bp(4_500) {
                kinds.push(kind);
            }
        }
        match options.scene {
            Scene::Drawn => {}
            Scene::Paths | Scene::ShortPaths => {
                kinds.clear();
                followers = 100;
                interval_us = if options.scene == Scene::Paths { 10 * S } else { S };
                least_us = 3_600 * S;
            }
            Scene::Real => {
                // A flush takes no time there.
                kinds.retain(|kind| *kind != Kind::SlowDisk);
                interval_us = 4 * S;
                followers = random.between(6, 16) as usize;
                least_us = 380 * S;
                gap_us = random.one_of(&[1, 2, 4]) * interval_us;
            }
            Scene::Long => {
                kinds = vec![Kind::Kill, Kind::Power, Kind::Group, Kind::Swap, Kind::Death];
                (supers, followers, interval_us, gap_us) = (3, 5, S, 100 * S);
                least_us = 100_000 * S;
            }
        }
        let settings = Settings {
            interval_ms: interval_us / MS,
            require_declared_port: 0,
            // Every follower dies now and then: what is tried here is who is put out, not how many.
            moves_bp: 10_000,
            moves_rounds: 1,
            joins_group_round: 100,
            observers: if options.scene.has_bad_paths() { 2 } else { random.one_of(&[1, 2, 2]) },
            ..Settings::default()
        };
        let length_us = if options.length_us > 0 { options.length_us } else { least_us };
        Self {
            supers,
            followers,
            interval_us,
            settings,
            quiet_us: length_us.max(40 * interval_us),
            rest_us: 60 * interval_us,
            kinds,
            gap_us,
            length_us: random.one_of(&[1, 3, 6, 15]) * interval_us,
        }
    }
}

impl World {
    pub(crate) fn begin_faults(&mut self) {
        if self.options.scene.has_bad_paths() {
            self.net.path_lost_bp = 100;
            self.net.path_jitter_us = 200 * MS;
        }
        for kind in self.plan.kinds.clone() {
            let at_us = 12 * self.interval_us + self.random.about(self.plan.gap_us * 4);
            self.next_fault(kind, at_us);
        }
    }

    fn next_fault(&mut self, kind: Kind, at_us: Us) {
        if at_us >= self.plan.quiet_us {
            return;
        }
        let fault = self.draw_fault(kind, at_us);
        self.at(at_us, Event::Begin(Box::new(fault)));
    }

    fn draw_fault(&mut self, kind: Kind, at_us: Us) -> Fault {
        let id = self.random.below(self.supers.len() as u64) as Id;
        let other = self.random.below(self.supers.len() as u64) as Id;
        let mut length_us = self.random.about(self.plan.length_us);
        if kind == Kind::Pause && self.random.coin() {
            length_us = self.random.below(400 * MS);
        }
        let mut cuts = BTreeSet::new();
        if kind == Kind::Partition {
            let ids: Vec<Id> = (0..self.supers.len() as Id).collect();
            let side: BTreeSet<Id> = ids.iter().copied().filter(|_| self.random.coin()).collect();
            let pairs = ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b)));
            cuts.extend(pairs.filter(|(a, b)| side.contains(a) != side.contains(b)));
        } else if kind == Kind::OneWay {
            cuts.insert((id, other));
        }
        length_us = length_us.min(self.plan.quiet_us.saturating_sub(at_us)).max(MS);
        let at = self.random.below(self.followers.len() as u64) as usize;
        Fault { kind, length_us, id, at, flag: self.random.coin(), cuts }
    }

    /// A fault begins.
    pub(crate) fn begin(&mut self, fault: Fault) {
        let Fault { kind, length_us, id, at, flag, .. } = fault;
        // The more can go wrong, the longer it lets wait for itself.
        let kinds = self.plan.kinds.iter().filter(|other| other.is_theirs() == kind.is_theirs()).count() as u64;
        let gap_us = self.plan.gap_us * if kind.is_theirs() { 1 } else { 2 + kinds };
        let next_us = self.now_us + self.random.about(gap_us);
        self.next_fault(kind, next_us);
        self.count(kind.name());
        let what = kind.name();
        self.tell(|_| format!("{what}: super {id}, follower {at}, {} ms, {flag}", length_us / MS));
        if !kind.is_theirs() {
            self.oracle.trouble(self.now_us);
        }
        match kind {
            Kind::Kill => self.crash(id, false, false),
            Kind::Power => self.crash(id, true, flag),
            Kind::Pause => {
                self.net.stall(id, true);
                self.pause(id, length_us);
            }
            Kind::Partition | Kind::OneWay => self.net.cut(&fault.cuts, true),
            Kind::Weather => {
                self.net.set_weather(Weather {
                    lost_bp: self.random.below(3_000),
                    doubled_bp: self.random.below(2_000),
                    delay_us: self.random.below(300 * MS),
                });
            }
            Kind::SlowDisk => self.supers[usize::from(id)].disk_us = self.random.between(20 * MS, 600 * MS),
            Kind::Clock => {
                let jump_ms = self.random.below(2 * 3_600_000) as i64 - 3_600_000;
                self.set_clock(id, jump_ms);
            }
            Kind::Group => return self.change_group(flag, id),
            Kind::Swap => return self.swap(flag),
            Kind::Death => return self.begin_death(fault),
            Kind::Ill => return self.begin_illness(fault),
            Kind::Path => {
                self.hold(at);
                self.cut_path(at, id, (true, flag), true);
            }
        }
        self.oracle.troubles += u32::from(!kind.is_theirs());
        self.at(self.now_us + length_us, Event::End(Box::new(fault)));
    }

    /// A fault ends.
    pub(crate) fn end(&mut self, fault: Fault) {
        let Fault { kind, id, at, flag, .. } = fault;
        let what = kind.name();
        self.tell(|_| format!("{what} end: super {id}, follower {at}"));
        match kind {
            Kind::Kill | Kind::Power => self.restart(id),
            // It wakes by itself.
            Kind::Pause => self.net.stall(id, false),
            Kind::Partition | Kind::OneWay => self.net.cut(&fault.cuts, false),
            Kind::Weather => self.net.set_weather(Weather::default()),
            Kind::SlowDisk => self.supers[usize::from(id)].disk_us = 3 * MS,
            Kind::Clock => self.set_clock(id, 0),
            Kind::Group | Kind::Swap => {}
            Kind::Death => {
                self.revive(at);
                self.followers[at].dead_since_us = None;
                self.release(at);
            }
            Kind::Ill => {
                self.followers[at].health = Health::Well;
                self.at(self.now_us + 1, Event::Wake { who: Who::Follower(at) });
                self.release(at);
            }
            Kind::Path => {
                self.cut_path(at, id, (true, flag), false);
                self.release(at);
            }
        }
        if !kind.is_theirs() {
            self.oracle.troubles -= 1;
            self.oracle.trouble(self.now_us);
        }
    }

    fn set_clock(&mut self, id: Id, off_ms: i64) {
        self.supers[usize::from(id)].clock_off_ms = off_ms;
        if let Some(real) = &self.real {
            real.set_clock(id, off_ms);
        }
    }

    /// Something is wrong with a follower: what becomes of it is its own.
    fn hold(&mut self, at: usize) {
        self.followers[at].held += 1;
        self.followers[at].well_since_us = None;
    }

    fn release(&mut self, at: usize) {
        let now_us = self.now_us;
        let follower = &mut self.followers[at];
        follower.held -= 1;
        if follower.held == 0 {
            follower.well_since_us = Some(now_us);
        }
    }

    fn begin_death(&mut self, fault: Fault) {
        let at = fault.at;
        if self.followers[at].health != Health::Well {
            return;
        }
        self.hold(at);
        self.die(at, fault.flag);
        self.followers[at].dead_since_us = Some(self.now_us);
        // Every fourth is for good.
        let forever = self.random.below(4) == 0;
        if !forever {
            let length_us = fault.length_us + self.random.below(12) * self.interval_us;
            let end_us = (self.now_us + length_us).min(self.plan.quiet_us);
            self.at(end_us, Event::End(Box::new(fault)));
        }
    }

    fn begin_illness(&mut self, fault: Fault) {
        let (at, end_us) = (fault.at, self.now_us + fault.length_us);
        if self.followers[at].health != Health::Well {
            return;
        }
        self.hold(at);
        self.followers[at].health = if fault.flag { Health::Paused } else { Health::Flaky };
        if fault.flag {
            self.followers[at].due_us = end_us;
        }
        self.at(end_us, Event::End(Box::new(fault)));
    }

    /// The leader that most would follow, if there is one.
    pub(crate) fn leader(&self) -> Option<Id> {
        let leads = |(id, sup): (usize, &crate::supers::Super)| match &sup.fate {
            Fate::Up(process) if process.lead.is_some() && process.leads() => Some((process.raft.term(), id as Id)),
            Fate::Up(_) | Fate::Paused(..) | Fate::Down { .. } | Fate::Retired => None,
        };
        self.supers.iter().enumerate().filter_map(leads).max().map(|(_, id)| id)
    }

    /// Puts a new version of a rule in force.
    fn swap(&mut self, ban: bool) {
        let Some(leader) = self.leader() else { return };
        let version = self.random.below(3);
        let (slot, name) = if ban { (Slot::Ban, "strikes") } else { (Slot::Reward, "flat") };
        let state = &self.supers[usize::from(leader)].running().expect("it leads").state;
        let seats: Vec<u8> = state.meta.seats.iter().map(|row| row.seat.0).collect();
        let now_ms = state.meta.stamp_ms;
        let (policy, mut commands) = crate::supers::stage(slot, format!("{name} {version}").as_bytes(), seats, now_ms);
        let rolls_back = self.random.below(4) == 0;
        if rolls_back {
            let what = kernel::command::Operation::Rollback(slot);
            let by = kernel::command::Operator::Socket;
            let operate = kernel::command::Operate { by, reason: String::new(), now_ms, what };
            commands = vec![Command::Operate(operate)];
        } else {
            commands.push(crate::supers::activate(slot, policy, now_ms));
        }
        for command in commands {
            self.propose(leader, Payload::Command(command));
        }
        self.drive(leader);
    }
}
