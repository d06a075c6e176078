//! Who knows the truth: which follower was up and could reach its supers, what was committed, what was acknowledged.
//!
//! It applies the committed log to a state of its own, compares every replica with it, and looks at each settlement with
//! eyes that no super has. The first thing that is wrong ends the run.

mod claims;
mod end;
mod rounds;
mod same;

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::id::{NodeId, RoundId, Term};
use kernel::round::OpenRound;
use kernel::state::State;

pub(crate) use claims::Ledger;

use crate::Us;
use crate::raft::{Id, Payload};
use crate::world::World;

/// Applied entries that a log holds at most: those between two snapshots, those kept behind one, and room for a flush.
const LOG_ENTRIES: u64 = 600;
/// Entries, hashes and rounds that the oracle keeps: more than a replica that was down for the longest time lacks.
const KEPT: u64 = 20_000;

/// See the head of the module.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The first thing that was wrong.
    pub(crate) wrong: Option<String>,
    leaders: BTreeMap<u64, Id>,
    /// The committed log.
    log: BTreeMap<u64, (u64, Arc<Payload>)>,
    /// What is older than any replica can be is not kept.
    dropped: u64,
    /// As after the last committed entry.
    pub(crate) state: State,
    applied: u64,
    hashes: BTreeMap<u64, u64>,
    /// When a leader opened a round.
    opened: BTreeMap<(Term, RoundId), Us>,
    /// Since which round a member is in the queue.
    queued: BTreeMap<NodeId, RoundId>,
    /// Rounds that began after a follower's death, while all was well.
    dead_rounds: BTreeMap<usize, (Us, u32)>,
    pub(crate) followers: BTreeMap<NodeId, usize>,
    ledger: Ledger,
    /// Faults of supers that last.
    pub(crate) troubles: u32,
    /// When the last one began or ended.
    trouble_us: Us,
    settled_us: Vec<Us>,
    /// Terms and commits as they were seen last.
    seen: BTreeMap<Id, (u32, u64, u64)>,
}

impl Oracle {
    /// The cluster is founded.
    pub(crate) fn begin(&mut self, index: u64, state: &State, _supers: Vec<Id>) {
        (self.applied, self.dropped) = (index, index);
        self.state = state.clone();
    }

    /// Something is wrong; only the first thing counts.
    pub(crate) fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// A fault of a super began or ended.
    pub(crate) fn trouble(&mut self, now_us: Us) {
        self.trouble_us = self.trouble_us.max(now_us);
    }

    /// A replica leads a term.
    pub(crate) fn elected(&mut self, term: u64, id: Id) {
        let leader = *self.leaders.entry(term).or_insert(id);
        if leader != id {
            self.wrong(format!("supers {leader} and {id} lead term {term}"));
        }
    }

    /// A leader opened a round.
    pub(crate) fn opened(&mut self, open: &OpenRound, now_us: Us) {
        if self.opened.insert((open.term, open.round), now_us).is_some() {
            self.wrong(format!("round {} was opened twice in term {}", open.round, open.term));
        }
    }

    /// Forgets what nobody can come back to.
    fn forget(&mut self) {
        self.dropped = self.applied.saturating_sub(KEPT).max(self.dropped);
        self.log = self.log.split_off(&self.dropped);
        self.hashes = self.hashes.split_off(&self.dropped);
        let now_us = self.opened.values().copied().max().unwrap_or_default();
        self.opened.retain(|_, opened_us| *opened_us + KEPT * crate::S > now_us);
    }

    /// A replica takes an entry for committed.
    pub(crate) fn committed(&mut self, index: u64, term: u64, payload: &Arc<Payload>) {
        if index <= self.dropped {
            return;
        }
        if index <= self.applied && !self.log.contains_key(&index) {
            self.wrong(format!("entry {index} was applied by somebody, and by nobody who applied later ones"));
        }
        let (first_term, first) = self.log.entry(index).or_insert_with(|| (term, payload.clone()));
        if *first_term != term || !Arc::ptr_eq(first, payload) && **first != **payload {
            let first_term = *first_term;
            self.wrong(format!("entry {index} was committed in term {first_term} and otherwise in term {term}"));
        }
    }
}

impl Oracle {
    /// Whether a command is committed there.
    pub(crate) fn has_command(&self, index: u64) -> bool {
        self.log.get(&index).is_some_and(|(_, payload)| matches!(&**payload, Payload::Command(_)))
    }
}

impl World {
    /// The supers of the newest directory.
    pub(crate) fn roster(&self) -> Arc<[Id]> {
        self.oracle.state.meta.seats.iter().filter_map(|row| self.by_key.get(&row.holder.node).copied()).collect()
    }

    /// What must hold after every event.
    pub(crate) fn look(&mut self) {
        for (id, sup) in self.supers.iter().enumerate() {
            let Some(process) = sup.running() else { continue };
            let id = id as Id;
            let Some(raft) = process.raft.model() else {
                let term = process.raft.term();
                let before = self.oracle.seen.insert(id, (sup.life, term, process.applied));
                let falls = |(life, was, applied)| life == sup.life && (term < was || process.applied < applied);
                if before.is_some_and(falls) {
                    self.oracle.wrong(format!("super {id}: its term or what it has applied fell"));
                }
                continue;
            };
            let before = self.oracle.seen.insert(id, (sup.life, raft.term, raft.commit));
            let kept = process.applied.saturating_sub(raft.log.last() - raft.log.len() as u64);
            if kept > LOG_ENTRIES {
                self.oracle.wrong(format!("super {id} keeps {kept} entries that are applied"));
            }
            let fits = process.applied <= raft.commit
                && raft.commit <= raft.log.last()
                && raft.log.durable() <= raft.log.last();
            if !fits {
                let what = (process.applied, raft.commit, raft.log.durable(), raft.log.last());
                self.oracle.wrong(format!("super {id}: applied, committed, on disk, in the log: {what:?}"));
            }
            let falls =
                before.is_some_and(|(life, term, commit)| raft.term < term || life == sup.life && raft.commit < commit);
            if falls {
                self.oracle.wrong(format!("super {id}: its term or what is committed fell"));
            }
        }
    }
}
