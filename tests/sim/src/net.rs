//! The network. Between supers messages are lost, doubled, delayed and reordered, and whoever sends tries again. Between
//! followers and supers there are streams: what is lost comes later, in order, and a cut holds it until it heals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::command::{Claim, Join};
use kernel::id::{RoundId, Term};
use kernel::outcome::{Reject, Reply};
use kernel::round::{OpenRound, SignedPartial};

use crate::raft::{Id, Message};
use crate::real::Wires;
use crate::world::{Event, World};
use crate::{MS, Us};

/// Between supers, besides Raft.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// A round begins.
    Open(OpenRound),
    /// What a super saw.
    Partial(OpenRound, Box<SignedPartial>),
    /// The leader has it, or has no use for it.
    Got(OpenRound),
    /// A super asks the leader to propose.
    Ask(u64, Box<Ask>),
    /// What became of it.
    Answer(u64, Box<Result<Reply, Reject>>),
}

/// What a super asks the leader to propose; the leader stamps it.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Join(Join),
    Claim(Claim),
}

/// From a follower to a super.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    /// It dials and says hello.
    Hello,
    /// An answer to a ping.
    Pong { round: RoundId, term: Term, nonce: u64 },
    /// Are you there?
    KeepAlive,
    /// It wants its points.
    Claim(Claim),
    /// Its process has ended or hung up.
    Close,
}

/// From a super to a follower.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    /// It may stay. These are the supers.
    Welcome(Arc<[Id]>),
    /// It may not; come back after so long, µs; 0 = try another.
    Refused(Us),
    /// A turn.
    Ping { round: RoundId, term: Term, nonce: u64, supers: Arc<[Id]> },
    /// I am.
    KeptAlive,
    /// What became of a claim.
    Claimed { sequence: u64, answer: Box<Result<Reply, Reject>> },
    /// The stream has ended.
    Close,
}

/// How bad the network between supers is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost_bp: u64,
    pub(crate) doubled_bp: u64,
    pub(crate) delay_us: Us,
}

/// What lies between a follower and a super.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path {
    /// Cut so many times, by direction.
    up_cuts: u32,
    down_cuts: u32,
    held_up: Vec<(u64, Up)>,
    held_down: Vec<(u64, Down)>,
    up_us: Us,
    down_us: Us,
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Net {
    weather: Weather,
    /// The connections of the real Raft, which suffer from the same.
    pub(crate) wires: Option<Wires>,
    /// From, to: how many faults cut it.
    cuts: BTreeMap<(Id, Id), u32>,
    paths: BTreeMap<(usize, Id), Path>,
    /// Loss and jitter of all paths.
    pub(crate) path_lost_bp: u64,
    pub(crate) path_jitter_us: Us,
}

impl Net {
    pub(crate) fn cut(&mut self, pairs: &BTreeSet<(Id, Id)>, cut: bool) {
        for pair in pairs {
            let cuts = self.cuts.entry(*pair).or_default();
            *cuts = if cut { *cuts + 1 } else { cuts.saturating_sub(1) };
        }
        if let Some(wires) = &self.wires {
            wires.cut(pairs, cut);
        }
    }

    /// A super stands still, or goes on: its replica, which has a clock of its own, reaches nobody meanwhile.
    pub(crate) fn stall(&self, id: Id, stalled: bool) {
        if let Some(wires) = &self.wires {
            wires.cut(&(0..32).flat_map(|other| [(id, other), (other, id)]).collect(), stalled);
        }
    }

    pub(crate) fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
        if let Some(wires) = &self.wires {
            wires.set_weather(weather);
        }
    }

    fn is_cut(&self, from: Id, to: Id) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|cuts| *cuts > 0)
    }
}

impl World {
    pub(crate) fn send_raft(&mut self, from: Id, to: Id, message: Message) {
        let install_us = if matches!(message, Message::Install { .. }) { 100 * MS } else { 0 };
        for at_us in self.ways(from, to) {
            let message = Box::new(message.clone());
            self.at(at_us + install_us, Event::Raft { to, from, message });
        }
    }

    pub(crate) fn send_peer(&mut self, from: Id, to: Id, message: &Peer) {
        if from == to {
            return self.at(self.now_us, Event::Peer { to, from, message: Box::new(message.clone()) });
        }
        for at_us in self.ways(from, to) {
            self.at(at_us, Event::Peer { to, from, message: Box::new(message.clone()) });
        }
    }

    /// When a message between supers arrives: never, once, or twice.
    fn ways(&mut self, from: Id, to: Id) -> Vec<Us> {
        let weather = self.net.weather;
        if self.net.is_cut(from, to) {
            return Vec::new();
        }
        if self.random.chance_bp(weather.lost_bp) {
            self.count("messages lost");
            return Vec::new();
        }
        let copies = if self.random.chance_bp(weather.doubled_bp) { 2 } else { 1 };
        if copies == 2 {
            self.count("messages doubled");
        }
        (0..copies)
            .map(|_| self.now_us + 200 + self.random.below(2 * MS) + self.random.below(weather.delay_us))
            .collect()
    }

    /// A follower sends on a stream.
    pub(crate) fn send_up(&mut self, from: usize, to: Id, stream: u64, up: Up) {
        let delay_us = self.path_delay();
        let now_us = self.now_us;
        let path = self.net.paths.entry((from, to)).or_default();
        if path.up_cuts > 0 {
            path.held_up.push((stream, up));
            return;
        }
        path.up_us = path.up_us.max(now_us + delay_us);
        let at_us = path.up_us;
        self.at(at_us, Event::Up { to, from, stream, up });
    }

    /// A super sends on a stream.
    pub(crate) fn send_down(&mut self, from: Id, to: usize, stream: u64, down: Down) {
        let delay_us = self.path_delay();
        let now_us = self.now_us;
        let path = self.net.paths.entry((to, from)).or_default();
        if path.down_cuts > 0 {
            path.held_down.push((stream, down));
            return;
        }
        path.down_us = path.down_us.max(now_us + delay_us);
        let at_us = path.down_us;
        self.at(at_us, Event::Down { to, from, stream, down });
    }

    /// What is lost is sent again after 200 ms, then twice that, and so on.
    fn path_delay(&mut self) -> Us {
        let mut delay_us = 500 + self.random.below(4 * MS) + self.random.below(self.net.path_jitter_us);
        let mut again_us = 200 * MS;
        while self.random.chance_bp(self.net.path_lost_bp) {
            delay_us += again_us;
            again_us *= 2;
        }
        delay_us
    }

    /// Cuts or heals a path. What was held comes after it has healed, as when it is sent again.
    pub(crate) fn cut_path(&mut self, at: usize, id: Id, way: (bool, bool), cut: bool) {
        let path = self.net.paths.entry((at, id)).or_default();
        let change = |cuts: &mut u32| *cuts = if cut { *cuts + 1 } else { cuts.saturating_sub(1) };
        if way.0 {
            change(&mut path.up_cuts);
        }
        if way.1 {
            change(&mut path.down_cuts);
        }
        let (mut ups, mut downs) = (Vec::new(), Vec::new());
        if path.up_cuts == 0 {
            ups = std::mem::take(&mut path.held_up);
        }
        if path.down_cuts == 0 {
            downs = std::mem::take(&mut path.held_down);
        }
        for (stream, up) in ups {
            self.send_up(at, id, stream, up);
        }
        for (stream, down) in downs {
            self.send_down(id, at, stream, down);
        }
    }
}
