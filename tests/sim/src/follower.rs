//! A follower: it attaches to its observers in rendezvous order, answers, notices what is gone, comes back, and claims.

use std::sync::Arc;

use kernel::command::{Amount, Claim, Join};
use kernel::id::{Digest, NodeId, ProtocolVersion, RoundId, Term};
use kernel::outcome::{Reject, Reply};

use crate::net::{Down, Up};
use crate::raft::Id;
use crate::random::mix;
use crate::world::{Event, Who, World};
use crate::{MS, S, Us};

/// First wait after an attempt on all supers; it doubles, up to half the grace.
const BACKOFF_US: Us = 500 * MS;
/// Over how long it comes back after a loss: what supers tell.
pub(crate) const SPREAD_US: Us = S;
/// A claim without an answer is sent again after this.
const ANSWER_US: Us = 2 * S;

/// How it fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// Its process has ended.
    Dead,
    /// Its process stands still.
    Paused,
    /// It answers two pings of three.
    Flaky,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialing { until_us: Us },
    Attached,
}

/// A stream to a super.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) id: Id,
    pub(crate) stream: u64,
    stage: Stage,
    heard_us: Us,
    /// A keep-alive waits for its answer since then.
    asked_us: Option<Us>,
}

#[derive(Clone, Debug)]
struct Claiming {
    claim: Claim,
    again_us: Us,
}

/// A follower.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) node: NodeId,
    pub(crate) health: Health,
    pub(crate) links: Vec<Link>,
    /// Supers that it knows.
    supers: Arc<[Id]>,
    /// How many of them it has tried since it last waited.
    tried: usize,
    failures: u32,
    dial_us: Us,
    pub(crate) due_us: Us,
    claiming: Option<Claiming>,
    claim_us: Us,
    sequence: u64,
    /// Since when nothing is wrong with it or its paths; `None`: something is.
    pub(crate) well_since_us: Option<Us>,
    /// Faults that hold it.
    pub(crate) held: u32,
    /// It died then, and is dead.
    pub(crate) dead_since_us: Option<Us>,
}

impl Follower {
    /// Whether it comes back later only.
    pub(crate) const fn is_waiting(&self, now_us: Us) -> bool {
        self.dial_us > now_us
    }
}

impl World {
    /// Followers come into being, most of them at the beginning.
    pub(crate) fn settle_in(&mut self) {
        let supers: Arc<[Id]> = (0..self.plan.supers).collect();
        for at in 0..self.plan.followers {
            let mut key = [0; 32];
            for (i, bytes) in key.chunks_mut(8).enumerate() {
                bytes.copy_from_slice(&mix(mix(self.seed) ^ (at * 8 + i) as u64).to_le_bytes());
            }
            let late = at >= 8 && self.random.chance_bp(2_000);
            let begin_us = if late { self.random.below(self.plan.quiet_us / 2) } else { self.random.below(3 * S) };
            self.oracle.followers.insert(NodeId(key), at);
            self.followers.push(Follower {
                node: NodeId(key),
                health: Health::Well,
                links: Vec::new(),
                supers: supers.clone(),
                tried: 0,
                failures: 0,
                dial_us: begin_us,
                due_us: begin_us,
                claiming: None,
                claim_us: begin_us + 20 * S + self.random.below(40 * S),
                sequence: 0,
                well_since_us: Some(begin_us),
                held: 0,
                dead_since_us: None,
            });
            self.at(begin_us, Event::Follower { at, at_us: begin_us });
        }
    }

    pub(crate) fn is_awake(&self, at: usize) -> bool {
        matches!(self.followers[at].health, Health::Well | Health::Flaky)
    }

    /// The hello of a follower.
    pub(crate) fn join_of(&self, at: usize) -> Join {
        Join {
            node: self.followers[at].node,
            name: String::new(),
            version: ProtocolVersion::OURS,
            software: "sim".into(),
            ip: kernel::command::Ip::V4([10, (at / 8) as u8, 0, at as u8]),
            port: 1,
            rest: None,
            now_ms: 0,
        }
    }

    /// It does what is due, and looks again when the next thing is.
    pub(crate) fn follow(&mut self, at: usize) {
        if !self.is_awake(at) {
            return;
        }
        self.watch_links(at);
        self.dial(at);
        self.claim(at);
        let (idle_us, patience_us) = self.silences();
        let observers = self.plan.settings.observers as usize;
        let follower = &mut self.followers[at];
        let links = follower.links.iter().map(|link| match link.stage {
            Stage::Dialing { until_us } => until_us,
            Stage::Attached => link.asked_us.map_or(link.heard_us + idle_us, |asked_us| asked_us + patience_us),
        });
        let is_dialing = follower.links.iter().any(|link| link.stage != Stage::Attached);
        let dial = (follower.links.len() < observers && !is_dialing).then_some(follower.dial_us);
        let claim = follower.claiming.as_ref().map_or(follower.claim_us, |claiming| claiming.again_us);
        let due_us = links.chain(dial).chain([claim]).min().unwrap_or(claim).max(self.now_us + 1);
        follower.due_us = due_us;
        self.at(due_us, Event::Follower { at, at_us: due_us });
    }

    /// A stream on which nothing came for half a round is asked; one that does not answer for three quarters of another is
    /// gone. A super that is late by half a round begins its grace: whoever hung up earlier would be beside it.
    const fn silences(&self) -> (Us, Us) {
        (self.interval_us / 2, self.interval_us / 4 * 3)
    }

    /// Asks where nothing came, and hangs up where nothing is answered.
    fn watch_links(&mut self, at: usize) {
        let now_us = self.now_us;
        let (idle_us, patience_us) = self.silences();
        let mut lost = Vec::new();
        let mut asks = Vec::new();
        for link in &mut self.followers[at].links {
            match link.stage {
                Stage::Dialing { until_us } if now_us >= until_us => lost.push((link.id, link.stream, false)),
                Stage::Dialing { .. } => {}
                Stage::Attached => match link.asked_us {
                    Some(asked_us) if now_us >= asked_us + patience_us => lost.push((link.id, link.stream, true)),
                    Some(_) => {}
                    None if now_us >= link.heard_us + idle_us => {
                        link.asked_us = Some(now_us);
                        asks.push((link.id, link.stream));
                    }
                    None => {}
                },
            }
        }
        for (id, stream) in asks {
            self.send_up(at, id, stream, Up::KeepAlive);
        }
        for (id, stream, was_attached) in lost {
            self.send_up(at, id, stream, Up::Close);
            self.lost(at, id, stream, was_attached);
        }
    }

    /// A stream has ended, or none came to be.
    fn lost(&mut self, at: usize, id: Id, stream: u64, was_attached: bool) {
        let spread_us = self.random.below(SPREAD_US);
        let now_us = self.now_us;
        let follower = &mut self.followers[at];
        let before = follower.links.len();
        follower.links.retain(|link| (link.id, link.stream) != (id, stream));
        if follower.links.len() == before {
            return;
        }
        if was_attached {
            self.count("streams lost");
            self.tell(|world| format!("follower {at} loses super {id}, {} left", world.followers[at].links.len()));
            self.followers[at].dial_us = now_us + spread_us;
        } else {
            self.failed(at);
        }
    }

    /// An attempt failed: the next super at once, all of them again after a wait.
    fn failed(&mut self, at: usize) {
        let cap_us = self.plan.settings.grace_rounds * self.interval_us / 2;
        let now_us = self.now_us;
        let part = self.random.below(500);
        let newest = self.roster();
        let follower = &mut self.followers[at];
        follower.tried += 1;
        let others = follower.supers.len().saturating_sub(follower.links.len());
        if follower.tried < others {
            follower.dial_us = now_us + MS;
            return;
        }
        follower.tried = 0;
        let whole_us = (BACKOFF_US << follower.failures.min(10)).min(cap_us);
        follower.failures += 1;
        follower.dial_us = now_us + whole_us - whole_us * part / 1_000;
        // A bootstrap hands out the newest directory that it has seen.
        follower.supers = newest;
    }

    fn dial(&mut self, at: usize) {
        let now_us = self.now_us;
        let within_us = (5 * S).min(self.interval_us / 2);
        let observers = self.plan.settings.observers as usize;
        let stream = self.stream();
        let follower = &mut self.followers[at];
        let is_dialing = follower.links.iter().any(|link| link.stage != Stage::Attached);
        if follower.links.len() >= observers || is_dialing || now_us < follower.dial_us {
            return;
        }
        let mut order: Vec<Id> = follower.supers.to_vec();
        // Rendezvous: each follower has its own order of the supers, and may not choose.
        let own = u64::from_le_bytes(follower.node.0[..8].try_into().unwrap());
        order.sort_unstable_by_key(|id| mix(own ^ mix(u64::from(*id) + 1)));
        order.retain(|id| !follower.links.iter().any(|link| link.id == *id));
        let Some(id) = order.get(follower.tried % order.len().max(1)).copied() else {
            follower.dial_us = now_us + S;
            return;
        };
        let stage = Stage::Dialing { until_us: now_us + within_us };
        follower.links.push(Link { id, stream, stage, heard_us: now_us, asked_us: None });
        self.send_up(at, id, stream, Up::Hello);
    }

    /// Something came from a super.
    pub(crate) fn down_arrives(&mut self, at: usize, from: Id, stream: u64, down: Down) {
        match self.followers[at].health {
            Health::Well | Health::Flaky => {}
            // The machine is there and the process is not, or it will read this when it goes on.
            Health::Dead => return,
            Health::Paused => {
                let wake_us = self.followers[at].due_us;
                return self.at(wake_us, Event::Down { to: at, from, stream, down });
            }
        }
        let now_us = self.now_us;
        let follower = &mut self.followers[at];
        let Some(link) = follower.links.iter_mut().find(|link| (link.id, link.stream) == (from, stream)) else {
            if !matches!(down, Down::Close | Down::Refused(_)) {
                self.send_up(at, from, stream, Up::Close);
            }
            return;
        };
        link.heard_us = now_us;
        link.asked_us = None;
        match down {
            Down::Welcome(supers) => {
                link.stage = Stage::Attached;
                (follower.supers, follower.tried, follower.failures) = (supers, 0, 0);
            }
            Down::Refused(wait_us) => {
                follower.links.retain(|link| (link.id, link.stream) != (from, stream));
                if wait_us > 0 {
                    follower.tried = 0;
                    follower.dial_us = now_us + wait_us;
                } else {
                    self.failed(at);
                }
            }
            Down::Ping { round, term, nonce, supers } => {
                follower.supers = supers;
                let is_deaf = follower.health == Health::Flaky && self.random.below(3) == 0;
                if !is_deaf {
                    self.answer(at, from, stream, (round, term, nonce));
                }
            }
            Down::KeptAlive => {}
            Down::Claimed { sequence, answer } => self.claimed(at, sequence, &answer),
            Down::Close => {
                let was_attached = link.stage == Stage::Attached;
                self.lost(at, from, stream, was_attached);
            }
        }
        self.follow(at);
    }

    fn answer(&mut self, at: usize, id: Id, stream: u64, ping: (RoundId, Term, u64)) {
        let (round, term, nonce) = ping;
        self.send_up(at, id, stream, Up::Pong { round, term, nonce });
    }

    /// Asks for what it has earned, now and then for more, and again until there is an answer.
    fn claim(&mut self, at: usize) {
        let now_us = self.now_us;
        let is_due = match &self.followers[at].claiming {
            Some(claiming) => now_us >= claiming.again_us,
            None => now_us >= self.followers[at].claim_us,
        };
        if !is_due {
            return;
        }
        let amount = match self.random.below(4) {
            0 => Amount::All,
            1 => Amount::Exactly(1_000_000),
            _ => Amount::Exactly(1 + self.random.below(100)),
        };
        let follower = &mut self.followers[at];
        let node = follower.node;
        let claiming = follower.claiming.get_or_insert_with(|| {
            follower.sequence += 1;
            let sequence = follower.sequence;
            let digest = Digest::of(&[&node.0[..], &sequence.to_le_bytes()].concat());
            let expires_ms = now_us / MS + 10 * 60 * 1_000;
            let claim = Claim { node, sequence, expires_ms, amount, to: node, digest, now_ms: 0 };
            Claiming { claim, again_us: 0 }
        });
        claiming.again_us = now_us + ANSWER_US;
        let claim = claiming.claim;
        let attached: Vec<(Id, u64)> =
            follower.links.iter().filter(|l| l.stage == Stage::Attached).map(|l| (l.id, l.stream)).collect();
        if !attached.is_empty() {
            let (id, stream) = self.random.one_of(&attached);
            self.count("claims sent");
            self.send_up(at, id, stream, Up::Claim(claim));
        }
    }

    fn claimed(&mut self, at: usize, sequence: u64, answer: &Result<Reply, Reject>) {
        let wait_us = 20 * S + self.random.below(40 * S);
        let now_us = self.now_us;
        let follower = &mut self.followers[at];
        let Some(claiming) = follower.claiming.take_if(|claiming| claiming.claim.sequence == sequence) else { return };
        follower.claim_us = now_us + wait_us;
        self.oracle.acknowledged(&claiming.claim, answer);
        self.count("claims answered");
    }

    /// Its process ends; with a word to its supers where the machine lives on.
    pub(crate) fn die(&mut self, at: usize, silently: bool) {
        let links = std::mem::take(&mut self.followers[at].links);
        self.followers[at].health = Health::Dead;
        if !silently {
            for link in links {
                self.send_up(at, link.id, link.stream, Up::Close);
            }
        }
    }

    /// It starts anew.
    pub(crate) fn revive(&mut self, at: usize) {
        let now_us = self.now_us;
        let follower = &mut self.followers[at];
        follower.health = Health::Well;
        (follower.tried, follower.failures, follower.dial_us) = (0, 0, now_us);
        follower.links.clear();
        self.at(now_us, Event::Wake { who: Who::Follower(at) });
    }
}
