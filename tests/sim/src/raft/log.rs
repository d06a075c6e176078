//! A replica's log: what is on the disk, what is only in memory, and the snapshot before it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Config, Entry, Payload, Snapshot};

/// Entries after a snapshot. A crash may take those that are not on the disk.
#[derive(Clone, Debug)]
pub struct Log {
    /// What came before the entries.
    pub snapshot: Arc<Snapshot>,
    /// Index and term of the entry before the first one that is kept: at or before the snapshot's.
    start: (u64, u64),
    entries: VecDeque<Entry>,
    /// Entries up to here are on the disk.
    durable: u64,
}

impl Log {
    /// An empty one behind a snapshot.
    #[must_use]
    pub fn after(snapshot: Arc<Snapshot>) -> Self {
        let start = (snapshot.index, snapshot.term);
        Self { durable: start.0, start, snapshot, entries: VecDeque::new() }
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.start.0 + self.entries.len() as u64
    }

    /// Entries that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries up to here are on the disk.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// An entry that is kept.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.start.0 + 1)?;
        self.entries.get(at as usize)
    }

    /// The term of an entry, or of the one before the first that is kept.
    #[must_use]
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.start.0 {
            return Some(self.start.1);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// Adds an entry in memory; its index.
    pub fn push(&mut self, entry: Entry) -> u64 {
        self.entries.push_back(entry);
        self.last()
    }

    /// Drops the entries after one: a leader has others.
    pub fn cut(&mut self, index: u64) {
        self.entries.truncate(index.saturating_sub(self.start.0) as usize);
        self.durable = self.durable.min(self.last());
    }

    /// Entries up to an index are on the disk, if that one is still of this term.
    pub fn synced(&mut self, index: u64, term: u64) -> bool {
        let holds = self.term(index) == Some(term) && index > self.durable;
        if holds {
            self.durable = index;
        }
        holds
    }

    /// What a crash leaves that takes what was not on the disk.
    pub fn lose(&mut self) {
        self.cut(self.durable);
    }

    /// Keeps a snapshot and drops entries up to `keep` before its end.
    pub fn compact(&mut self, snapshot: Arc<Snapshot>, keep: u64) {
        let until = snapshot.index.saturating_sub(keep);
        while self.start.0 < until {
            let Some(entry) = self.entries.pop_front() else { break };
            self.start = (self.start.0 + 1, entry.term);
        }
        self.snapshot = snapshot;
    }

    /// The group as of the last entry, and the entry that made it so.
    #[must_use]
    pub fn config(&self) -> (u64, Config) {
        for (at, entry) in self.entries.iter().enumerate().rev() {
            if let Payload::Config(config) = &*entry.payload {
                return (self.start.0 + 1 + at as u64, config.clone());
            }
        }
        self.snapshot.config.clone()
    }
}
