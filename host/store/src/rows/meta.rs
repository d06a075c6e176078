//! The single row of small things, with the log index that was applied last.

use kernel::id::LogIndex;
use kernel::outcome::Write;
use kernel::state::Meta;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::META;

const TABLE: &str = "meta";
const KEY: u64 = 0;

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, META, &mut |key, bytes| {
        take(Write::Meta(Box::new(decode(TABLE, key, bytes)?)));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, meta: &Meta) -> Result<(), StoreError> {
    let bytes = encode(TABLE, meta)?;
    transaction.open_table(META).map_err(disk)?.insert(KEY, bytes.as_slice()).map_err(disk)?;
    Ok(())
}

/// The log index that was applied last; 0 on a new disk.
pub(crate) fn applied(transaction: &WriteTransaction) -> Result<LogIndex, StoreError> {
    let table = transaction.open_table(META).map_err(disk)?;
    let row = table.get(KEY).map_err(disk)?;
    row.map_or(Ok(LogIndex(0)), |row| decode::<Meta>(TABLE, KEY, row.value()).map(|meta| meta.applied))
}
