//! Finding sealed records by their digests.
//!
//! Digests are random, so a row written for each as it comes costs a page of the disk each, many times what a record has
//! itself. They are collected in memory instead, and written in their own order, some with every seal: a page then gets
//! many of them. On the disk it only stands of which batches that is not done yet; whoever opens the file collects them
//! again from the batches.
//!
//! Invariant: what is sealed and kept is found, among what is collected or among the rows.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernel::id::{Digest, LogIndex};
use kernel::records::record::Record;
use kernel::records::sealed::SealedBatch;

use super::Tables;
use crate::error::{StoreError, disk};

/// Records that are collected before they are written; while they are, as many again may be collected. They take some
/// 5 MB, and as long as there are no more than ten million rows, a page gets several of them.
pub(crate) const GENERATION: usize = 65_536;
/// For each record that is sealed so many are written: they are done before the next ones are collected.
const PACE: usize = 2;

/// The first eight bytes of a digest, the place of its batch's seal in the log, and its place in the batch. Two digests may
/// begin alike: who looks compares.
pub(crate) type Entry = (u64, u64, u32);

/// What is collected.
#[derive(Debug)]
pub(crate) struct Index {
    generation: usize,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    collected: Generation,
    /// Being written, the lowest first.
    writing: Generation,
    /// The last one of it that was written.
    written_to: Option<Entry>,
}

#[derive(Debug, Default)]
struct Generation {
    entries: BTreeSet<Entry>,
    batches: Vec<LogIndex>,
}

/// What one transaction changes, to be told once it is on the disk.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    kept: Vec<(LogIndex, Vec<Entry>)>,
    written: Option<Entry>,
}

fn start(digest: &Digest) -> u64 {
    digest.0.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

fn entries(batch: &SealedBatch) -> Vec<Entry> {
    let starts = batch.records.iter().map(|record: &Record| start(&record.digest()));
    starts.zip(0..).map(|(start, place)| (start, batch.at.0, place)).collect()
}

/// All that a digest may be: whatever begins as it does.
pub(crate) fn like(digest: &Digest) -> std::ops::RangeInclusive<Entry> {
    let start = start(digest);
    (start, 0, 0)..=(start, u64::MAX, u32::MAX)
}

impl Index {
    /// Nothing is collected; so many are before they are written.
    pub(crate) fn new(generation: usize) -> Self {
        Self { generation, now: Mutex::default() }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects a batch whose records have no rows.
    pub(crate) fn collect(&self, batch: &SealedBatch) {
        self.now().collect(batch.at, entries(batch), self.generation);
    }

    /// What is collected and begins as a digest does.
    pub(crate) fn find(&self, digest: &Digest) -> Vec<Entry> {
        let now = self.now();
        let of = |generation: &Generation| generation.entries.range(like(digest)).copied().collect::<Vec<_>>();
        [of(&now.collected), of(&now.writing)].concat()
    }

    /// What a transaction changed is on the disk.
    pub(crate) fn commit(&self, changes: Changes) {
        let mut now = self.now();
        if let Some(last) = changes.written {
            now.writing.entries = now.writing.entries.split_off(&last);
            now.writing.entries.remove(&last);
            now.written_to = Some(last);
            if now.writing.entries.is_empty() {
                now.writing.batches.clear();
                now.written_to = None;
            }
        }
        for (at, entries) in changes.kept {
            now.collect(at, entries, self.generation);
        }
    }
}

impl Now {
    fn collect(&mut self, at: LogIndex, entries: Vec<Entry>, generation: usize) {
        self.collected.entries.extend(entries);
        self.collected.batches.push(at);
        if self.writing.entries.is_empty() && self.collected.entries.len() >= generation {
            self.writing = std::mem::take(&mut self.collected);
        }
    }
}

impl Tables<'_> {
    /// A batch is kept: its records are collected.
    pub(super) fn collect(&mut self, batch: &SealedBatch) -> Result<(), StoreError> {
        self.unindexed.insert(batch.at.0, [].as_slice()).map_err(disk)?;
        self.changes.kept.push((batch.at, entries(batch)));
        Ok(())
    }

    /// Writes some of what is collected, as it goes with so many records that are sealed. On its way it removes the rows of
    /// what was pruned, whose batches are there no more.
    pub(super) fn index_some(&mut self, index: &Index, sealed: usize, pruned: LogIndex) -> Result<(), StoreError> {
        let now = index.now();
        let some: Vec<Entry> = now.writing.entries.iter().take(sealed * PACE).copied().collect();
        let Some(last) = some.last().copied() else { return Ok(()) };
        let done = (some.len() == now.writing.entries.len()).then(|| now.writing.batches.clone());
        let after = now.written_to;
        drop(now);
        for entry in some.into_iter().filter(|(_, at, _)| *at > pruned.0) {
            self.digests.insert(entry, ()).map_err(disk)?;
        }
        if pruned > LogIndex(0) {
            let to = if done.is_some() { (u64::MAX, u64::MAX, u32::MAX) } else { last };
            self.digests.retain_in(after.unwrap_or_default()..=to, |(_, at, _), ()| at > pruned.0).map_err(disk)?;
        }
        for batch in done.into_iter().flatten() {
            self.unindexed.remove(batch.0).map_err(disk)?;
        }
        self.changes.written = Some(last);
        Ok(())
    }
}
