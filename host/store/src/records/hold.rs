//! What a validator holds before it signs: bodies, and the root that it signs of them.

use kernel::id::Digest;
use kernel::records::order::Contents;
use redb::{ReadableDatabase, ReadableTable};

use super::rows::{root_of, signed_key, signed_row};
use super::{Records, Tables};
use crate::error::{StoreError, disk};
use crate::rows::{decode, encode};
use crate::tables::BODIES;

const TABLE: &str = "bodies";
/// Pending batches of one list: no setting lets more of them wait.
const PENDING: usize = 65_536;

/// A batch that is about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// Its number.
    pub batch: u64,
    /// Which attempt at it.
    pub attempt: u32,
    /// The root that is to be signed.
    pub root: Digest,
    /// What it consists of.
    pub contents: &'a Contents,
}

/// Whether it may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Sign: bodies and root are on the disk.
    Sign,
    /// Refuse, and alarm: this root is the one that was signed. Nothing was written.
    Other(Digest),
    /// It is sealed, and no row says what was signed of this attempt: there is nothing left to sign. Nothing was written.
    Sealed,
}

impl Records {
    /// Holds a batch: its bodies and what is to be signed of it, in one durable transaction.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`]: nothing may be signed.
    pub fn hold(&self, batch: u64, attempt: u32, root: Digest, contents: &Contents) -> Result<Hold, StoreError> {
        let answers = self.hold_many(&[Holding { batch, attempt, root, contents }])?;
        answers.first().copied().ok_or_else(|| StoreError::damaged("signed", batch, "there is no answer"))
    }

    /// Holds several batches in one durable transaction; an answer each, in order. Where all is there already, the disk is
    /// not touched.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`]: nothing may be signed.
    pub fn hold_many(&self, batches: &[Holding<'_>]) -> Result<Vec<Hold>, StoreError> {
        self.hold_and_seal(batches, &[], 0).map(|(holds, _)| holds)
    }

    /// What a batch consists of that is held and not sealed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn contents(&self, batch: u64) -> Result<Option<Contents>, StoreError> {
        let table = self.database.begin_read().map_err(disk)?.open_table(BODIES).map_err(disk)?;
        table.get(batch).map_err(disk)?.map(|row| decode(TABLE, batch, row.value())).transpose()
    }

    /// The batches that are held and not sealed, ascending: the oldest 65,536 of them, which is all that may wait.
    ///
    /// # Errors
    /// [`StoreError::MustReopen`].
    pub fn pending(&self) -> Result<Vec<u64>, StoreError> {
        let table = self.database.begin_read().map_err(disk)?.open_table(BODIES).map_err(disk)?;
        let rows = table.iter().map_err(disk)?.take(PENDING);
        rows.map(|row| row.map(|(key, _)| key.value()).map_err(disk)).collect()
    }

    /// Lets the bodies of batches go that the log has sealed and that will not come as sealed ones, because nobody has them
    /// any more. What was signed of them is known as long as that of other sealed batches.
    ///
    /// # Errors
    /// [`StoreError::MustReopen`].
    pub fn let_go(&self, batches: &[u64]) -> Result<(), StoreError> {
        self.change(|tables, _| {
            let mut changed = false;
            for batch in batches {
                changed |= tables.is_over(*batch)?;
            }
            Ok((changed, ()))
        })
    }
}

impl Tables<'_> {
    pub(super) fn hold(&mut self, wanted: &Holding<'_>, written: &mut bool) -> Result<Hold, StoreError> {
        let key = signed_key(wanted.batch, wanted.attempt);
        let row = self.signed.get(key.as_slice()).map_err(disk)?;
        let signed = row.map(|row| root_of(&key, row.value())).transpose()?;
        if let Some(root) = signed.filter(|root| *root != wanted.root) {
            return Ok(Hold::Other(root));
        }
        if self.is_sealed(wanted.batch)? {
            return Ok(if signed.is_some() { Hold::Sign } else { Hold::Sealed });
        }
        if signed.is_none() {
            self.signed.insert(key.as_slice(), signed_row(&key, wanted.root).as_slice()).map_err(disk)?;
            *written = true;
        }
        if self.bodies.get(wanted.batch).map_err(disk)?.is_none() {
            self.bodies.insert(wanted.batch, encode(TABLE, wanted.contents)?.as_slice()).map_err(disk)?;
            *written = true;
        }
        Ok(Hold::Sign)
    }
}
