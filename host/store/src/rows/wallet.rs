//! A wallet.

use kernel::id::NodeId;
use kernel::ledger::Wallet;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_named, encode, hex, key32};
use crate::tables::WALLETS;

const TABLE: &str = "wallets";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_named(reader, WALLETS, |key, bytes| {
        let row = decode(TABLE, hex(key), bytes)?;
        take(Write::Wallet(NodeId(key32(TABLE, key)?), Some(row)));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, key: &NodeId, row: Option<&Wallet>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(WALLETS).map_err(disk)?;
    match row {
        Some(row) => table.insert(key.0.as_slice(), encode(TABLE, row)?.as_slice()).map_err(disk)?,
        None => table.remove(key.0.as_slice()).map_err(disk)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::units::Points;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    #[test]
    fn a_wallet_comes_back() {
        let any = |draw: &mut Draw| Wallet {
            balance: Points(draw.number() as i64),
            empty_since_ms: draw.maybe(Draw::number),
            ..Wallet::default()
        };
        check::row(any, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "1f2f3f6a543400d1");
    }
}
