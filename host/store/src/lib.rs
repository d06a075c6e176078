//! Bytes on disk: one file that holds a cluster's state and its history, and one for the log that they come from.
//!
//! [`Store::commit`] writes what `apply` returned, with the log index that it brought, in one durable transaction;
//! [`Store::load`] gives that state back. What was settled, who moved, which points went where and who changed what is
//! kept beside it as history, deflated and bounded: the oldest span goes first.
//!
//! [`LogFile`] is the log of a replica: two files, because each has one writer and a state must not wait for a log's flush.
//! [`Store::commit_marked`] stores what came of a log, with how far it is applied; [`Store::snapshot`] and
//! [`Store::install`] carry a whole store to another replica.
//!
//! [`Records`] is the file in which validators and followers keep users' records.
//!
//! Invariants: after a crash the file opens at exactly a committed prefix, and nothing that was acknowledged is lost. A
//! log index is never stored twice. Every read is bounded by its page.
//!
//! Not here, on purpose: rules (the kernel has them), a second engine for memory mode (the same code runs on a backend
//! in memory), and a cache (the state is in memory already).
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )
)]

mod account;
mod commit;
mod disk;
mod error;
mod history;
mod log;
#[cfg(any(test, feature = "lossy"))]
pub mod lossy;
mod read;
mod records;
mod replay;
mod rows;
mod snapshot;
mod spool;
mod tables;

#[cfg(test)]
mod tests;

use std::sync::Mutex;

use kernel::state::State;
use redb::{Database, ReadableDatabase, TableHandle as _};

pub use account::AccountLine;
pub use disk::Disk;
pub use error::StoreError;
pub use log::{Identity, LogChange, LogFile, LogHead};
pub use read::{LineKey, MoveKey, Page};
pub use records::{Figures, Hold, Holding, KEEP_ROWS, Kept, Records, Sequenced};
pub use replay::{KEYFRAME_ROUNDS, keyframe_is_due};
pub use rows::logged::{Logged, Payload};
pub use rows::mark::{Mark, Membership, Place, Replica, Vote};
pub use snapshot::Backup;
pub use spool::{Spool, SpoolRoom};

use error::disk;
use rows::about::{self, About};
use rows::pack::Packer;
use rows::{mark, meta};

/// Memory for pages of the file. State is in memory already: this serves history and the trees' inner pages.
const CACHE_BYTES: usize = 32 << 20;

/// An open store. Reads may run beside a commit; commits wait for each other.
#[derive(Debug)]
pub struct Store {
    database: Database,
    history_max_bytes: u64,
    packer: Mutex<Packer>,
}

impl Store {
    /// Opens the store on a disk, or makes a new one there. History is kept up to `history_max_bytes`.
    ///
    /// # Errors
    /// [`StoreError`]: each variant says what to do.
    pub fn open(disk: &Disk, history_max_bytes: u64) -> Result<Self, StoreError> {
        let database = disk.open(CACHE_BYTES)?;
        let store = Self { database, history_max_bytes, packer: Mutex::new(Packer::new()) };
        match store.about()? {
            Some(about) => {
                about.check()?;
                store.complete(&about)?;
            }
            None => store.initialise()?,
        }
        Ok(store)
    }

    /// The state as of the last commit; an empty one on a new disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a row cannot be read, [`StoreError::MustReopen`] when the disk fails.
    pub fn load(&self) -> Result<State, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let mut state = State::default();
        rows::load_all(&reader, &mut |row| state.load(row))?;
        state.loaded();
        Ok(state)
    }

    /// What the file says of itself; `None` when nothing was ever written.
    fn about(&self) -> Result<Option<About>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        if reader.list_tables().map_err(disk)?.next().is_none() {
            return Ok(None);
        }
        about::read(&reader).map(Some)
    }

    /// The first transaction: every table, so that readers never meet a missing one, and the format.
    fn initialise(&self) -> Result<(), StoreError> {
        let transaction = commit::begin(&self.database)?;
        tables::create_all(&transaction)?;
        about::write(&transaction, &About::new())?;
        transaction.commit().map_err(disk)
    }

    /// Makes the tables that a file of an earlier release lacks, and brings it to the newest format. Where it has all,
    /// nothing is written.
    fn complete(&self, about: &About) -> Result<(), StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        // Tables that came together have one name here.
        let newer = [tables::KEYFRAMES.name(), tables::CONTENTS.name()];
        let whole =
            reader.list_tables().map_err(disk)?.filter(|table| newer.contains(&table.name())).count() == newer.len();
        if whole && !about.is_old() {
            return Ok(());
        }
        let transaction = commit::begin(&self.database)?;
        tables::create_all(&transaction)?;
        if about.is_old() {
            if let Some(mark) = meta::now(&reader)?.as_ref().and_then(Mark::lone) {
                mark::write(&transaction, mark, true)?;
            }
            about::set_format(&transaction, &About::new())?;
        }
        transaction.commit().map_err(disk)
    }
}
