//! A policy that is staged or in use.

use kernel::id::Digest;
use kernel::outcome::Write;
use kernel::policies::PolicyRow;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_named, encode, hex, key32};
use crate::tables::POLICIES;

const TABLE: &str = "policies";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_named(reader, POLICIES, &mut |key, bytes| {
        let row = decode(TABLE, hex(key), bytes)?;
        take(Write::Policy(Digest(key32(TABLE, key)?), Some(Box::new(row))));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, key: &Digest, row: Option<&PolicyRow>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(POLICIES).map_err(disk)?;
    match row {
        Some(row) => table.insert(key.0.as_slice(), encode(TABLE, row)?.as_slice()).map_err(disk)?,
        None => table.remove(key.0.as_slice()).map_err(disk)?,
    };
    Ok(())
}
