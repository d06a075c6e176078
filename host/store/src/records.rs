//! Users' records on a validator or follower: one file, `records.redb`.
//!
//! A validator writes what it is about to sign before it signs it: [`Records::hold`] puts the bodies of a batch and the row
//! (batch, attempt) → root on the disk in one transaction. An attestation says "I hold it", and no second root is ever signed
//! where a row stands. Once a quorum has signed, [`Records::seal`] keeps the batch with its proof, by the place of its seal
//! in the log, and lets the pending bodies go. Sealed batches are found by digest, by batch and by sequence number,
//! streamed to others in the order of their seals, and dropped from the oldest on.
//!
//! Each sealed batch names the seal before it. They may come in any order; [`Records::complete_to`] is how far there is
//! nothing missing between them.
//!
//! Invariants: what a call acknowledged is on the disk, as a whole or not at all. A row (batch, attempt) never changes its
//! root, and goes only when its batch is sealed. Every list is bounded.
//!
//! Not here, on purpose: signatures, certificates and quorums. Whoever calls has checked a batch before it is kept; places
//! in the log are not signed, so those that contradict what is held are told and left out.

mod hold;
mod index;
mod look;
mod prune;
mod rows;
mod seal;
mod tables;

use std::sync::{Mutex, PoisonError};

use kernel::id::{Genesis, LogIndex};
use redb::{Database, ReadableDatabase, TableHandle as _};

use crate::Disk;
use crate::commit::begin;
use crate::error::{StoreError, disk};
use crate::rows::about::{self, About};
use crate::tables::{ABOUT, RECORDS_META};

pub use hold::{Hold, Holding};
#[cfg(test)]
pub(crate) use index::start;
pub use look::{Figures, Sequenced};
pub use seal::{KEEP_ROWS, Kept};

use index::{GENERATION, Index};
use rows::Tally;
use tables::Tables;

/// Memory for pages of the file: what is streamed is read once.
const CACHE_BYTES: usize = 16 << 20;

/// An open file of records. Reads may run beside a write; writes wait for each other.
#[derive(Debug)]
pub struct Records {
    pub(crate) database: Database,
    index: Index,
    /// Held by who changes what is indexed, until the index knows.
    writer: Mutex<()>,
}

impl Records {
    /// Opens the records of a cluster's life on a disk, or makes a new file there.
    ///
    /// # Errors
    /// [`StoreError`]: each variant says what to do; [`StoreError::OtherCluster`] for the records of another genesis.
    pub fn open(on: &Disk, genesis: Genesis) -> Result<Self, StoreError> {
        Self::open_collecting(on, genesis, GENERATION)
    }

    /// The same, where so many records are collected before the rows of their digests are written.
    pub(crate) fn open_collecting(on: &Disk, genesis: Genesis, generation: usize) -> Result<Self, StoreError> {
        let database = on.open(CACHE_BYTES)?;
        let reader = database.begin_read().map_err(disk)?;
        if reader.list_tables().map_err(disk)?.next().is_none() {
            initialise(&database, genesis)?;
            let index = Index::open(generation, &database.begin_read().map_err(disk)?)?;
            return Ok(Self { database, index, writer: Mutex::default() });
        }
        if !reader.list_tables().map_err(disk)?.any(|table| table.name() == RECORDS_META.name()) {
            return Err(StoreError::damaged("records meta", "-", "this file holds no records"));
        }
        about::read(&reader)?.check_records()?;
        let found = rows::genesis(&reader.open_table(RECORDS_META).map_err(disk)?)?;
        if found != genesis {
            return Err(StoreError::OtherCluster { found, expected: genesis });
        }
        let index = Index::open(generation, &reader)?;
        Ok(Self { database, index, writer: Mutex::default() })
    }

    /// Whether the file was made anew and nobody has said yet what that means: a validator that signed before, with a file
    /// that is gone, does not know what. It stays so, over a crash too, until [`Records::set_abstain_below`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn is_fresh(&self) -> Result<bool, StoreError> {
        Ok(self.abstain_row()?.is_none())
    }

    /// The first batch that may be signed with this table; 0 where that was never set.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn abstain_below(&self) -> Result<u64, StoreError> {
        Ok(self.abstain_row()?.unwrap_or(0))
    }

    /// Sets the first batch that may be signed with this table. It never falls: what may have been signed without a row
    /// stays so.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn set_abstain_below(&self, batch: u64) -> Result<(), StoreError> {
        let transaction = begin(&self.database)?;
        {
            let mut meta = transaction.open_table(RECORDS_META).map_err(disk)?;
            let batch = rows::abstain(&meta)?.unwrap_or(0).max(batch);
            rows::set_abstain(&mut meta, batch)?;
        }
        transaction.commit().map_err(disk)
    }

    fn abstain_row(&self) -> Result<Option<u64>, StoreError> {
        rows::abstain(&self.database.begin_read().map_err(disk)?.open_table(RECORDS_META).map_err(disk)?)
    }

    /// How far nothing is missing: the place of the latest seal up to which every batch is held, was pruned or was skipped;
    /// 0 before the first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn complete_to(&self) -> Result<LogIndex, StoreError> {
        Ok(self.tally()?.complete)
    }

    /// Nothing that was sealed up to a place in the log is asked for: nobody has it any more, or it is not wanted. What is
    /// held of it stays, and what comes of it later is kept.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn skip_to(&self, at: LogIndex) -> Result<(), StoreError> {
        self.change(|tables, tally| {
            let behind = tally.complete < at;
            if behind {
                tally.complete = at;
                tables.advance(tally)?;
            }
            Ok((behind, ()))
        })
    }

    fn tally(&self) -> Result<Tally, StoreError> {
        rows::tally(&self.database.begin_read().map_err(disk)?.open_table(RECORDS_META).map_err(disk)?)
    }

    /// One durable transaction; without a change, which `work` tells with its answer, the disk is not touched.
    fn change<T>(
        &self,
        work: impl FnOnce(&mut Tables<'_>, &mut Tally) -> Result<(bool, T), StoreError>,
    ) -> Result<T, StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = begin(&self.database)?;
        let (changed, mut changes, answer) = {
            let mut tables = Tables::open(&transaction)?;
            let before = rows::tally(&tables.meta)?;
            let mut tally = before.clone();
            let (changed, answer) = work(&mut tables, &mut tally)?;
            if tally != before {
                rows::set_tally(&mut tables.meta, &tally)?;
            }
            (changed || tally != before, tables.changes, answer)
        };
        if changed {
            self.index.collect(&mut changes);
            transaction.commit().map_err(disk)?;
            self.index.commit(&changes);
        } else {
            transaction.abort().map_err(disk)?;
        }
        Ok(answer)
    }
}

/// The first transaction: every table, so that readers never meet a missing one, the format, and whose records they are.
fn initialise(database: &Database, genesis: Genesis) -> Result<(), StoreError> {
    let transaction = begin(database)?;
    transaction.open_table(ABOUT).map_err(disk)?;
    about::set_format(&transaction, &About::new_records())?;
    {
        let mut tables = Tables::open(&transaction)?;
        rows::set_genesis(&mut tables.meta, genesis)?;
        rows::set_tally(&mut tables.meta, &Tally::default())?;
    }
    transaction.commit().map_err(disk)
}
