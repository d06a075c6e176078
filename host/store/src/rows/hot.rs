//! The part of a member that changes each round, 256 members a row: one settlement rewrites a few dozen rows in place of
//! ten thousand.

use kernel::id::MemberNumber;
use kernel::members::Hot;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::HOT;

const TABLE: &str = "hot";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, HOT, &mut |key, bytes| {
        let block = u32::try_from(key).map_err(|error| StoreError::damaged(TABLE, key, error))?;
        take(Write::Hot(block, decode(TABLE, key, bytes)?));
        Ok(())
    })
}

pub(crate) fn write(
    transaction: &WriteTransaction,
    block: u32,
    rows: &[(MemberNumber, Hot)],
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(HOT).map_err(disk)?;
    if rows.is_empty() {
        table.remove(u64::from(block)).map_err(disk)?;
    } else {
        table.insert(u64::from(block), encode(TABLE, &rows)?.as_slice()).map_err(disk)?;
    }
    Ok(())
}
