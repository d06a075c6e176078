//! One replica: what it does with a message, with time, and with what is proposed to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Config, Entry, Id, Log, Message, Payload, Snapshot};
use crate::Us;
use crate::random::Random;

/// Between heartbeats, µs.
pub const HEARTBEAT_US: Us = 100_000;
/// Shortest wait for a leader before a vote, µs; the longest is twice that.
pub const ELECTION_US: Us = 500_000;
/// Entries in one message.
const ENTRIES: u64 = 64;
/// An answer that has not come by then is not waited for.
const ANSWER_US: Us = 250_000;
/// A snapshot takes longer.
const INSTALL_US: Us = 2_000_000;

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader or waits for one.
    Replica,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// What a leader knows of another replica.
#[derive(Clone, Copy, Debug)]
struct Peer {
    take: u64,
    matched: u64,
    waits_until_us: Us,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct Raft {
    /// Its number.
    pub id: Id,
    /// Its term, on the disk.
    pub term: u64,
    /// For whom it voted in it, on the disk.
    voted: Option<Id>,
    /// What it is.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<Id>,
    /// Its log.
    pub log: Log,
    /// Entries up to here are committed, as far as it knows.
    pub commit: u64,
    /// The group as of the last entry, and that entry.
    pub config: (u64, Config),
    votes: BTreeSet<Id>,
    peers: BTreeMap<Id, Peer>,
    election_us: Us,
    heartbeat_us: Us,
    heard_us: Option<Us>,
    /// A planted bug: one is a majority.
    pub no_quorum: bool,
    /// To be sent.
    pub out: Vec<(Id, Message)>,
}

impl Raft {
    /// A process that starts with what its disk holds.
    pub fn start(id: Id, disk: (u64, Option<Id>, Log), now_us: Us, random: &mut Random) -> Self {
        let (term, voted, log) = disk;
        Self {
            id,
            term,
            voted,
            role: Role::Replica,
            leader: None,
            commit: log.snapshot.index,
            config: log.config(),
            log,
            votes: BTreeSet::new(),
            peers: BTreeMap::new(),
            election_us: now_us + random.between(ELECTION_US, 2 * ELECTION_US),
            heartbeat_us: Us::MAX,
            heard_us: None,
            no_quorum: false,
            out: Vec::new(),
        }
    }

    /// What a crash leaves on the disk; `loses`: without what was not synced.
    #[must_use]
    pub fn disk(mut self, loses: bool) -> (u64, Option<Id>, Log) {
        if loses {
            self.log.lose();
        }
        (self.term, self.voted, self.log)
    }

    /// When [`Raft::tick`] is due.
    #[must_use]
    pub fn due_us(&self) -> Us {
        if self.role == Role::Leader { self.heartbeat_us } else { self.election_us }
    }

    /// Time has passed. True: it became the leader.
    pub fn tick(&mut self, now_us: Us, random: &mut Random) -> bool {
        if self.role == Role::Leader {
            if now_us >= self.heartbeat_us {
                self.heartbeat_us = now_us + HEARTBEAT_US;
                self.replicate(now_us, true);
            }
            return false;
        }
        if now_us < self.election_us {
            return false;
        }
        self.election_us = now_us + random.between(ELECTION_US, 2 * ELECTION_US);
        if !self.config.1.votes(self.id) {
            return false;
        }
        self.term += 1;
        self.voted = Some(self.id);
        self.role = Role::Candidate;
        self.leader = None;
        self.votes = BTreeSet::from([self.id]);
        let last = (self.log.last(), self.log.term(self.log.last()).unwrap_or_default());
        for to in self.config.1.everybody().into_iter().filter(|to| *to != self.id) {
            self.out.push((to, Message::Vote { term: self.term, last }));
        }
        self.count(now_us)
    }

    fn count(&mut self, now_us: Us) -> bool {
        if self.role != Role::Candidate || !self.config.1.is_quorum(|id| self.votes.contains(&id)) {
            return false;
        }
        self.role = Role::Leader;
        self.leader = Some(self.id);
        self.heartbeat_us = now_us + HEARTBEAT_US;
        self.peers.clear();
        self.replicate(now_us, true);
        true
    }

    /// Adds an entry as the leader; its index.
    pub fn propose(&mut self, payload: Payload, now_us: Us) -> u64 {
        let changes = matches!(payload, Payload::Config(_));
        let index = self.log.push(Entry { term: self.term, payload: Arc::new(payload) });
        if changes {
            self.config = self.log.config();
        }
        self.replicate(now_us, false);
        index
    }

    /// Entries up to one are on the disk: acknowledges them.
    pub fn synced(&mut self, index: u64, term: u64) {
        if !self.log.synced(index, term) {
            return;
        }
        match (self.role, self.leader) {
            (Role::Leader, _) => self.advance(),
            (_, Some(leader)) if self.log.term(index) == Some(self.term) || index <= self.commit => {
                self.out.push((leader, Message::Appended { term: self.term, fits: true, index }));
            }
            _ => {}
        }
    }

    /// Whether another replica has all but a few of the entries.
    #[must_use]
    pub fn is_caught_up(&self, id: Id) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.matched + 10 >= self.commit)
    }

    /// A message came. True: it became the leader.
    pub fn take(&mut self, from: Id, message: Message, now_us: Us, random: &mut Random) -> bool {
        let term = match &message {
            Message::Vote { term, .. } => {
                // Whoever hears a leader does not help to replace it: a replica that was cut off, or removed, disturbs nobody.
                if self.heard_us.is_some_and(|heard_us| now_us < heard_us + ELECTION_US) || self.role == Role::Leader {
                    return false;
                }
                *term
            }
            Message::Voted { term, .. }
            | Message::Append { term, .. }
            | Message::Appended { term, .. }
            | Message::Install { term, .. } => *term,
        };
        if term > self.term {
            self.term = term;
            self.voted = None;
            self.step_down(now_us, random);
        }
        match message {
            Message::Vote { term, last } => self.vote(from, term, last, now_us, random),
            Message::Voted { term, granted } => {
                if term == self.term && granted {
                    self.votes.insert(from);
                    return self.count(now_us);
                }
            }
            Message::Append { term, before, entries, commit } => {
                if self.follows(from, term, now_us, random) {
                    self.append(from, before, entries, commit);
                }
            }
            Message::Install { term, snapshot } => {
                if self.follows(from, term, now_us, random) {
                    self.install(from, snapshot);
                }
            }
            Message::Appended { term, fits, index } => self.appended(from, (term, fits, index), now_us),
        }
        false
    }

    fn step_down(&mut self, now_us: Us, random: &mut Random) {
        self.role = Role::Replica;
        self.leader = None;
        self.election_us = now_us + random.between(ELECTION_US, 2 * ELECTION_US);
        self.heartbeat_us = Us::MAX;
    }

    fn vote(&mut self, from: Id, term: u64, last: (u64, u64), now_us: Us, random: &mut Random) {
        let ours = (self.log.term(self.log.last()).unwrap_or_default(), self.log.last());
        let granted = term == self.term && self.voted.is_none_or(|id| id == from) && (last.1, last.0) >= ours;
        if granted {
            self.voted = Some(from);
            self.election_us = now_us + random.between(ELECTION_US, 2 * ELECTION_US);
        }
        self.out.push((from, Message::Voted { term: self.term, granted }));
    }

    /// Takes the leader of a term for ours; false: it is of an earlier term, and is told so.
    fn follows(&mut self, from: Id, term: u64, now_us: Us, random: &mut Random) -> bool {
        if term < self.term {
            self.out.push((from, Message::Appended { term: self.term, fits: false, index: 0 }));
            return false;
        }
        self.step_down(now_us, random);
        self.leader = Some(from);
        self.heard_us = Some(now_us);
        true
    }

    fn append(&mut self, from: Id, before: (u64, u64), entries: Vec<Entry>, commit: u64) {
        let (index, term) = before;
        // What is in the snapshot is committed and need not be compared.
        let fits = index <= self.log.snapshot.index || self.log.term(index) == Some(term);
        if !fits {
            let again = index.saturating_sub(1).min(self.log.last());
            self.out.push((from, Message::Appended { term: self.term, fits, index: again }));
            return;
        }
        let last = index + entries.len() as u64;
        let mut changes = false;
        for (at, entry) in (index + 1..).zip(entries) {
            if at <= self.log.snapshot.index || self.log.term(at) == Some(entry.term) {
                continue;
            }
            if at <= self.log.last() {
                assert!(at > self.commit, "replica {} is to drop the committed entry {at}", self.id);
                self.log.cut(at - 1);
                changes = true;
            }
            changes |= matches!(&*entry.payload, Payload::Config(_));
            self.log.push(entry);
        }
        if changes {
            self.config = self.log.config();
        }
        self.commit = self.commit.max(commit.min(last));
        let index = self.log.durable().min(last);
        self.out.push((from, Message::Appended { term: self.term, fits, index }));
    }

    fn install(&mut self, from: Id, snapshot: Arc<Snapshot>) {
        let index = snapshot.index;
        if index > self.commit {
            self.commit = index;
            // Where the entry is there, those after it may be committed by this replica's word.
            if self.log.term(index) != Some(snapshot.term) {
                self.log = Log::after(snapshot);
                self.config = self.log.config();
            }
        }
        self.out.push((from, Message::Appended { term: self.term, fits: true, index: index.min(self.log.durable()) }));
    }

    fn appended(&mut self, from: Id, answer: (u64, bool, u64), now_us: Us) {
        let (term, fits, index) = answer;
        if self.role != Role::Leader || term != self.term {
            return;
        }
        let last = self.log.last();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.waits_until_us = 0;
        if fits {
            peer.matched = peer.matched.max(index);
            peer.take = peer.take.max(peer.matched + 1);
        } else {
            peer.take = (index + 1).max(peer.matched + 1);
        }
        let lacks = peer.take <= last;
        if fits {
            self.advance();
        }
        if lacks {
            self.send(from, now_us);
        }
    }

    fn replicate(&mut self, now_us: Us, beat: bool) {
        let everybody = self.config.1.everybody();
        let (own, last) = (self.id, self.log.last());
        self.peers.retain(|id, _| everybody.contains(id));
        for id in everybody.into_iter().filter(|id| *id != own) {
            let peer = self.peers.entry(id).or_insert(Peer { take: last + 1, matched: 0, waits_until_us: 0 });
            if beat || now_us >= peer.waits_until_us {
                self.send(id, now_us);
            }
        }
        self.advance();
    }

    fn send(&mut self, to: Id, now_us: Us) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let before = peer.take - 1;
        let Some(term) = self.log.term(before) else {
            if now_us >= peer.waits_until_us {
                peer.waits_until_us = now_us + INSTALL_US;
                self.out.push((to, Message::Install { term: self.term, snapshot: self.log.snapshot.clone() }));
            }
            return;
        };
        let waits = now_us < peer.waits_until_us;
        let until = if waits { before } else { self.log.last().min(before + ENTRIES) };
        let entries: Vec<Entry> = (peer.take..=until).filter_map(|index| self.log.get(index).cloned()).collect();
        if !entries.is_empty() {
            peer.waits_until_us = now_us + ANSWER_US;
        }
        let append = Message::Append { term: self.term, before: (before, term), entries, commit: self.commit };
        self.out.push((to, append));
    }

    fn advance(&mut self) {
        let matched = |id: Id| {
            if id == self.id { self.log.durable() } else { self.peers.get(&id).map_or(0, |peer| peer.matched) }
        };
        let is_enough = |index: u64| {
            (self.no_quorum && matched(self.id) >= index) || self.config.1.is_quorum(|id| matched(id) >= index)
        };
        // Entries of earlier terms are committed with one of this term only.
        let of_this_term = |index: &u64| self.log.term(*index) == Some(self.term);
        let candidates = (self.commit + 1..=self.log.last()).rev().take_while(of_this_term);
        if let Some(index) = candidates.into_iter().find(|index| is_enough(*index)) {
            self.commit = index;
        }
    }
}
