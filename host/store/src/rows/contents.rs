//! The records of a batch that is not sealed, with the forwards that vouch for them.

use std::sync::Arc;

use kernel::outcome::Write;
use kernel::records::order::Contents;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::CONTENTS;

const TABLE: &str = "contents";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, CONTENTS, |key, bytes| {
        take(Write::Contents(key, Some(Arc::new(decode(TABLE, key, bytes)?))));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, number: u64, row: Option<&Contents>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(CONTENTS).map_err(disk)?;
    match row {
        Some(row) => table.insert(number, encode(TABLE, row)?.as_slice()).map_err(disk)?,
        None => table.remove(number).map_err(disk)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    #[test]
    fn contents_come_back() {
        check::row(Draw::contents, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "fdea0841907c6390");
    }
}
