//! Who may sign records: the set, in a single row.

use kernel::outcome::Write;
use kernel::records::validators::Validators;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::VALIDATORS;

const TABLE: &str = "validators";
const KEY: u64 = 0;

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, VALIDATORS, |key, bytes| {
        take(Write::Validators(Box::new(decode(TABLE, key, bytes)?)));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, row: &Validators) -> Result<(), StoreError> {
    let bytes = encode(TABLE, row)?;
    transaction.open_table(VALIDATORS).map_err(disk)?.insert(KEY, bytes.as_slice()).map_err(disk)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::records::validators::Validator;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    #[test]
    fn a_set_comes_back() {
        let validator = |draw: &mut Draw| Validator {
            node: draw.node(),
            name: draw.text(),
            address: draw.text(),
            came: draw.coin(),
        };
        let any = |draw: &mut Draw| Validators {
            version: draw.number(),
            set: draw.some(validator),
            former: draw.some(Draw::node),
            sets: draw.some(|draw| (draw.number(), draw.some(Draw::node))),
        };
        check::row(any, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "cc856c7eab8d2595");
    }
}
