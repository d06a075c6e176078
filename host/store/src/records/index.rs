//! Finding sealed records by their digests.
//!
//! Digests are random, so a row written for each as it comes costs a page of the disk each, many times what a record has
//! itself. They are collected in memory instead, and written in their own order, some with every seal: a page then gets
//! many of them. Until then they stand on the disk by their batches, where whoever opens the file finds them.
//!
//! Invariant: what is sealed and kept is found, among what is collected or among the rows.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernel::id::{Digest, LogIndex};
use kernel::records::record::Record;
use kernel::records::sealed::SealedBatch;
use redb::{ReadTransaction, ReadableTable};

use super::Tables;
use crate::error::{StoreError, disk};
use crate::tables::{DIGESTS, UNINDEXED};

/// Records that are collected before they are written; while they are, half as many again are collected. They take some
/// 5 MB, and as long as there are no more than ten million rows, a page gets several of them.
pub(crate) const GENERATION: usize = 65_536;
/// For each record that is sealed so many are written: they are done before the next ones are collected.
const PACE: usize = 2;
/// For each record that is sealed so many rows are looked at for what was pruned: about one in so many is such a one.
const LOOK: usize = 16;
/// Batches of which one call says that they are written, besides two for each that is sealed.
const FINISHED: usize = 64;

/// The first eight bytes of a digest, the place of its batch's seal in the log, and its place in the batch. Two digests may
/// begin alike: who looks compares.
pub(crate) type Entry = (u64, u64, u32);

const LAST: Entry = (u64::MAX, u64::MAX, u32::MAX);

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
    /// Batches all of whose records have rows, which the disk does not say yet.
    finished: VecDeque<LogIndex>,
    /// Up to where rows were looked at for what was pruned; `None`: at none in this life.
    looked_to: Option<Entry>,
}

#[derive(Debug, Default)]
struct Generation {
    entries: BTreeSet<Entry>,
    batches: Vec<LogIndex>,
}

/// What one transaction changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    kept: Vec<(LogIndex, Vec<Entry>)>,
    written: Option<Entry>,
    finished: usize,
    looked_to: Option<Entry>,
}

/// Where a digest is among others.
pub(crate) fn start(digest: &Digest) -> u64 {
    digest.0.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

fn entries(at: LogIndex, starts: impl Iterator<Item = u64>) -> Vec<Entry> {
    starts.zip(0..).map(|(start, place)| (start, at.0, place)).collect()
}

/// All that a digest may be: whatever begins as it does.
pub(crate) fn like(digest: &Digest) -> std::ops::RangeInclusive<Entry> {
    let start = start(digest);
    (start, 0, 0)..=(start, u64::MAX, u32::MAX)
}

impl Index {
    /// What stands in a file by its batches and has no rows yet. So many are collected before they are written.
    pub(crate) fn open(generation: usize, reader: &ReadTransaction) -> Result<Self, StoreError> {
        let mut now = Now::default();
        let mut all = BTreeSet::new();
        for row in reader.open_table(UNINDEXED).map_err(disk)?.iter().map_err(disk)? {
            let (at, row) = row.map_err(disk)?;
            let at = LogIndex(at.value());
            let (starts, rest) = row.value().as_chunks::<8>();
            if !rest.is_empty() {
                return Err(StoreError::damaged("not indexed", at, "it has another length"));
            }
            all.extend(entries(at, starts.iter().copied().map(u64::from_be_bytes)));
            now.collected.batches.push(at);
        }
        // An earlier life may have written some of them: it is not done again, or lives that are short would never end it.
        let rows = reader.open_table(DIGESTS).map_err(disk)?;
        let mut open = BTreeSet::new();
        for entry in all {
            if rows.get(entry).map_err(disk)?.is_none() {
                open.insert(entry.1);
                now.collected.entries.insert(entry);
            }
        }
        let batches = std::mem::take(&mut now.collected.batches);
        let (open, finished): (Vec<_>, Vec<_>) = batches.into_iter().partition(|at| open.contains(&at.0));
        now.collected.batches = open;
        now.finished = finished.into();
        now.turn(generation);
        Ok(Self { generation, now: Mutex::new(now) })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is collected and begins as a digest does.
    pub(crate) fn find(&self, digest: &Digest) -> Vec<Entry> {
        let now = self.now();
        let of = |generation: &Generation| generation.entries.range(like(digest)).copied().collect::<Vec<_>>();
        [of(&now.collected), of(&now.writing)].concat()
    }

    /// What a transaction keeps, before it is on the disk: who sees its batches finds their records.
    pub(crate) fn collect(&self, changes: &mut Changes) {
        let mut now = self.now();
        for (at, entries) in changes.kept.drain(..) {
            now.collected.entries.extend(entries);
            now.collected.batches.push(at);
        }
    }

    /// What a transaction wrote is on the disk.
    pub(crate) fn commit(&self, changes: &Changes) {
        let mut now = self.now();
        now.looked_to = changes.looked_to.or(now.looked_to);
        now.finished.drain(..changes.finished);
        if let Some(last) = changes.written {
            now.writing.entries = now.writing.entries.split_off(&last);
            now.writing.entries.remove(&last);
        }
        if now.writing.entries.is_empty() {
            let batches = std::mem::take(&mut now.writing.batches);
            now.finished.extend(batches);
        }
        now.turn(self.generation);
    }
}

impl Now {
    /// Begins to write what is collected, where that is enough and what came before it is written.
    fn turn(&mut self, generation: usize) {
        if self.writing.entries.is_empty() && self.collected.entries.len() >= generation {
            self.writing = std::mem::take(&mut self.collected);
        }
    }
}

impl Tables<'_> {
    /// A batch is kept: its records are collected.
    pub(super) fn collect(&mut self, batch: &SealedBatch) -> Result<(), StoreError> {
        let starts: Vec<u64> = batch.records.iter().map(|record| start(&Record::digest(record))).collect();
        let row: Vec<u8> = starts.iter().flat_map(|start| start.to_be_bytes()).collect();
        self.unindexed.insert(batch.at.0, row.as_slice()).map_err(disk)?;
        self.changes.kept.push((batch.at, entries(batch.at, starts.into_iter())));
        Ok(())
    }

    /// Writes some of what is collected and removes some rows of what was pruned, as it goes with so many batches and records
    /// that are sealed.
    pub(super) fn index_some(
        &mut self,
        index: &Index,
        (batches, records): (usize, usize),
        pruned: LogIndex,
    ) -> Result<(), StoreError> {
        let now = index.now();
        let some: Vec<Entry> = now.writing.entries.iter().take(records * PACE).copied().collect();
        let finished: Vec<LogIndex> = now.finished.iter().take(batches * 2 + FINISHED).copied().collect();
        // Digests are random, so lives that are short begin at another row each time.
        let looked_to = now.looked_to.or_else(|| self.changes.kept.first()?.1.first().copied());
        drop(now);
        self.changes.written = some.last().copied();
        for entry in some.into_iter().filter(|(_, at, _)| *at > pruned.0) {
            self.digests.insert(entry, ()).map_err(disk)?;
        }
        self.changes.finished = finished.len();
        for at in finished {
            self.unindexed.remove(at.0).map_err(disk)?;
        }
        if pruned > LogIndex(0) {
            let from = looked_to.filter(|from| *from < LAST).unwrap_or_default();
            let mut rows = self.digests.range(from..).map_err(disk)?.skip(records * LOOK);
            let to = rows.next().transpose().map_err(disk)?.map_or(LAST, |(key, _)| key.value());
            drop(rows);
            self.digests.retain_in(from..=to, |(_, at, _), ()| at > pruned.0).map_err(disk)?;
            self.changes.looked_to = Some(to);
        }
        Ok(())
    }
}
