//! The slowly changing part of a member. Keyed by node: a row that goes is named by it alone.

use kernel::id::NodeId;
use kernel::members::Profile;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_named, encode, hex, key32};
use crate::tables::PROFILES;

const TABLE: &str = "profiles";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_named(reader, PROFILES, &mut |key, bytes| {
        let row = decode(TABLE, hex(key), bytes)?;
        take(Write::Profile(NodeId(key32(TABLE, key)?), Some(Box::new(row))));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, key: &NodeId, row: Option<&Profile>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(PROFILES).map_err(disk)?;
    match row {
        Some(row) => table.insert(key.0.as_slice(), encode(TABLE, row)?.as_slice()).map_err(disk)?,
        None => table.remove(key.0.as_slice()).map_err(disk)?,
    };
    Ok(())
}
