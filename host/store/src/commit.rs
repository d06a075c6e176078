//! One durable transaction: what a batch of commands did, and up to which log index.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use kernel::command::{Command, Entry};
use kernel::decide::Slot;
use kernel::id::{ClusterId, Digest, LogIndex, NodeId};
use kernel::outcome::Write;
use kernel::state::Meta;
use redb::{Database, Durability, ReadableDatabase, WriteTransaction};

use crate::Store;
use crate::error::{StoreError, disk};
use crate::history;
use crate::rows::about::{self, HistoryBytes};
use crate::rows::mark::{self, Mark};
use crate::rows::pack::Packer;
use crate::rows::{
    change, component, entry, hot, line, memory, meta, moved, policy, profile, round, slot, upload, wallet,
};
use crate::tables::MARK;

/// Which row of the state a write is. A batch may write a row many times; only the last one counts, so it alone is
/// encoded and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Meta,
    Profile(NodeId),
    Hot(u32),
    Wallet(NodeId),
    Slot(Slot),
    Policy(Digest),
    Component(Digest),
    Upload(Digest),
    Memory(Slot, bool, u32),
}

impl Store {
    /// Stores what was applied without a log: entries are kept as history, `writes` are all rows that applying them gave,
    /// in order. When it returns, all of it is on the disk; when it fails, none of it counts.
    ///
    /// # Errors
    /// [`StoreError::AlreadyApplied`] and [`StoreError::Mismatch`] change nothing and leave the store open; after
    /// [`StoreError::MustReopen`] the store is shut.
    pub fn commit(&self, entries: &[Entry], writes: &[Write]) -> Result<(), StoreError> {
        let entries: Vec<_> = entries.iter().map(|entry| (entry.index, &entry.command)).collect();
        let lone = metas(writes).next().and_then(Mark::lone);
        self.put(&entries, writes, lone.map(|mark| (mark, true)))
    }

    /// Stores what was applied of a log: its commands as history, `writes` as in [`Store::commit`], and with them how far
    /// the log is applied, also where no command was among its entries. When it returns, all of it is on the disk; when it
    /// fails, none of it counts.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_marked(
        &self,
        commands: &[(LogIndex, &Command)],
        writes: &[Write],
        mark: &Mark,
    ) -> Result<(), StoreError> {
        self.put(commands, writes, Some((mark.clone(), false)))
    }

    fn put(
        &self,
        entries: &[(LogIndex, &Command)],
        writes: &[Write],
        mark: Option<(Mark, bool)>,
    ) -> Result<(), StoreError> {
        let transaction = begin(&self.database)?;
        check(entries, writes, meta::applied(&transaction)?)?;
        if let Some((mark, lone)) = mark {
            mark::write(&transaction, mark, lone)?;
        }
        let mut bytes = about::history(&transaction)?;
        let packer = &mut *self.packer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = BTreeMap::new();
        let mut marks = 0;
        for write in writes {
            match row(write) {
                Some(row) => {
                    rows.insert(row, write);
                }
                None => marks += keep(&transaction, packer, write, &mut bytes)?,
            }
        }
        for write in rows.into_values() {
            store(&transaction, write)?;
        }
        for (index, command) in entries {
            bytes.span += entry::write(&transaction, packer, *index, command)?;
        }
        history::trim(&transaction, &mut bytes, self.history_max_bytes, entries.len() + marks)?;
        about::set_history(&transaction, bytes)?;
        transaction.commit().map_err(disk)
    }

    /// How far the log is applied, and the members of the group as of then; all empty on a new disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn mark(&self) -> Result<Mark, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        Ok(mark::read(&reader.open_table(MARK).map_err(disk)?)?.map(|row| row.mark).unwrap_or_default())
    }

    /// The cluster whose state this is; an empty name before the founding.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn cluster(&self) -> Result<ClusterId, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        Ok(meta::now(&reader)?.map(|meta| meta.cluster).unwrap_or_default())
    }

    /// Whether the state came about without a log, by a release that had none: its first log goes on after it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn is_without_log(&self) -> Result<bool, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        Ok(mark::read(&reader.open_table(MARK).map_err(disk)?)?.is_some_and(|row| row.lone))
    }
}

/// A transaction that is on the disk when it is committed. Two phases: a crash, and an author of stored bytes who knows
/// how checksums are made, never get half of one accepted. The allocator's state goes with it, so that opening after a
/// crash takes milliseconds whatever the size of the file.
pub(crate) fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(disk)?;
    transaction.set_durability(Durability::Immediate).map_err(disk)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Entries rise, come after what is stored, and end where the rows do.
fn check(entries: &[(LogIndex, &Command)], writes: &[Write], applied: LogIndex) -> Result<(), StoreError> {
    let mut last = applied;
    for (index, _) in entries {
        if *index <= last {
            return Err(StoreError::AlreadyApplied { index: *index, applied: last });
        }
        last = *index;
    }
    let rows = metas(writes).map(|meta| meta.applied).next().unwrap_or(applied);
    if rows == last { Ok(()) } else { Err(StoreError::Mismatch { entries: last, rows }) }
}

/// The rows of small things, the last one first.
fn metas(writes: &[Write]) -> impl Iterator<Item = &Meta> {
    writes.iter().rev().filter_map(|write| if let Write::Meta(meta) = write { Some(&**meta) } else { None })
}

/// The row of the state that a write is; `None` for history.
fn row(write: &Write) -> Option<Row> {
    match write {
        Write::Meta(_) => Some(Row::Meta),
        Write::Profile(node, _) => Some(Row::Profile(*node)),
        Write::Hot(block, _) => Some(Row::Hot(*block)),
        Write::Wallet(key, _) => Some(Row::Wallet(*key)),
        Write::Slot(slot, _) => Some(Row::Slot(*slot)),
        Write::Policy(digest, _) => Some(Row::Policy(*digest)),
        Write::Component(digest, _) => Some(Row::Component(*digest)),
        Write::Upload(digest, _) => Some(Row::Upload(*digest)),
        Write::Memory { slot, saved, block, bytes: _ } => Some(Row::Memory(*slot, *saved, *block)),
        Write::Round(_) | Write::Move(_) | Write::Line(_) | Write::Change(_) => None,
        Write::Validators(_) | Write::Batch(..) | Write::Contents(..) => None,
    }
}

/// Stores a row of the state.
fn store(transaction: &WriteTransaction, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Meta(row) => meta::write(transaction, row),
        Write::Profile(node, row) => profile::write(transaction, node, row.as_deref()),
        Write::Hot(block, rows) => hot::write(transaction, *block, rows),
        Write::Wallet(key, row) => wallet::write(transaction, key, row.as_ref()),
        Write::Slot(slot, row) => slot::write(transaction, *slot, row),
        Write::Policy(digest, row) => policy::write(transaction, digest, row.as_deref()),
        Write::Component(digest, bytes) => component::write(transaction, digest, bytes.as_ref()),
        Write::Upload(digest, row) => upload::write(transaction, digest, row.as_ref()),
        Write::Memory { slot, saved, block, bytes } => {
            memory::write(transaction, *slot, *saved, *block, bytes.as_deref())
        }
        Write::Round(_) | Write::Move(_) | Write::Line(_) | Write::Change(_) => Ok(()),
        Write::Validators(_) | Write::Batch(..) | Write::Contents(..) => Ok(()),
    }
}

/// Keeps a row of history; returns how many marks it is.
fn keep(
    transaction: &WriteTransaction,
    packer: &mut Packer,
    write: &Write,
    bytes: &mut HistoryBytes,
) -> Result<usize, StoreError> {
    match write {
        Write::Round(record) => bytes.span += round::write(transaction, packer, record)?,
        Write::Line(row) => bytes.span += line::write(transaction, row)?,
        Write::Move(row) => {
            bytes.marks += moved::write(transaction, row)?;
            return Ok(1);
        }
        Write::Change(row) => {
            bytes.marks += change::write(transaction, row)?;
            return Ok(1);
        }
        Write::Meta(_)
        | Write::Profile(..)
        | Write::Hot(..)
        | Write::Wallet(..)
        | Write::Slot(..)
        | Write::Policy(..)
        | Write::Component(..)
        | Write::Upload(..)
        | Write::Validators(_)
        | Write::Batch(..)
        | Write::Contents(..)
        | Write::Memory { .. } => {}
    }
    Ok(0)
}
