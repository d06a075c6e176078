//! All tables of the file, open in one write.

use kernel::id::LogIndex;
use redb::{ReadableTable, Table, WriteTransaction};

use super::index::{Changes, Entry};
use super::rows::{self, Head, Tally};
use crate::error::{StoreError, disk};
use crate::tables::{
    BODIES, DIGESTS, RECORDS_META, SEALED, SEALED_HEADS, SEALED_OF, SEQUENCES, SIGNED, SPENT, UNINDEXED,
};

type NumberedRows<'t> = Table<'t, u64, &'static [u8]>;
type NamedRows<'t> = Table<'t, &'static [u8], &'static [u8]>;

pub(crate) struct Tables<'t> {
    pub(crate) meta: NumberedRows<'t>,
    pub(crate) signed: NamedRows<'t>,
    pub(crate) bodies: NumberedRows<'t>,
    pub(crate) sealed: NumberedRows<'t>,
    pub(crate) heads: NumberedRows<'t>,
    pub(crate) sealed_of: NumberedRows<'t>,
    pub(crate) sequences: NumberedRows<'t>,
    pub(crate) digests: Table<'t, Entry, ()>,
    pub(crate) unindexed: NumberedRows<'t>,
    pub(crate) spent: NumberedRows<'t>,
    /// What the transaction changes beside the tables.
    pub(crate) changes: Changes,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: transaction.open_table(RECORDS_META).map_err(disk)?,
            signed: transaction.open_table(SIGNED).map_err(disk)?,
            bodies: transaction.open_table(BODIES).map_err(disk)?,
            sealed: transaction.open_table(SEALED).map_err(disk)?,
            heads: transaction.open_table(SEALED_HEADS).map_err(disk)?,
            sealed_of: transaction.open_table(SEALED_OF).map_err(disk)?,
            sequences: transaction.open_table(SEQUENCES).map_err(disk)?,
            digests: transaction.open_table(DIGESTS).map_err(disk)?,
            unindexed: transaction.open_table(UNINDEXED).map_err(disk)?,
            spent: transaction.open_table(SPENT).map_err(disk)?,
            changes: Changes::default(),
        })
    }

    /// Whether a batch is known to be sealed. Of one that was pruned that is known as long as its rows are there.
    pub(crate) fn is_sealed(&self, batch: u64) -> Result<bool, StoreError> {
        Ok(self.sealed_of.get(batch).map_err(disk)?.is_some() || self.spent.get(batch).map_err(disk)?.is_some())
    }

    /// The first seal after a place in the log.
    pub(crate) fn head_after(&self, at: LogIndex) -> Result<Option<(LogIndex, Head)>, StoreError> {
        let Some(first) = at.0.checked_add(1) else { return Ok(None) };
        let Some(row) = self.heads.range(first..).map_err(disk)?.next() else { return Ok(None) };
        let (key, row) = row.map_err(disk)?;
        let key = key.value();
        Ok(Some((LogIndex(key), rows::head_of_row(key, row.value())?)))
    }

    /// Follows the seals as long as each goes on from where nothing is missing.
    pub(crate) fn advance(&self, tally: &mut Tally) -> Result<(), StoreError> {
        while let Some((at, head)) = self.head_after(tally.complete)? {
            if head.previous > tally.complete {
                break;
            }
            tally.complete = at;
        }
        Ok(())
    }

    /// A batch is sealed: its pending bodies go, and its rows may in time. Tells whether that changed anything.
    pub(crate) fn is_over(&mut self, batch: u64) -> Result<bool, StoreError> {
        let had_bodies = self.bodies.remove(batch).map_err(disk)?.is_some();
        let (first, last) = (rows::signed_key(batch, 0), rows::signed_key(batch, u32::MAX));
        let signed = self.signed.range::<&[u8]>(first.as_slice()..=last.as_slice()).map_err(disk)?.next().is_some();
        let is_new = signed && self.spent.insert(batch, [].as_slice()).map_err(disk)?.is_none();
        Ok(had_bodies || is_new)
    }
}
