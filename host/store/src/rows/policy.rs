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
    each_named(reader, POLICIES, |key, bytes| {
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

#[cfg(test)]
mod tests {
    use kernel::decide::{Description, Slot};
    use kernel::id::{RoundId, Seat};

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn any(draw: &mut Draw) -> PolicyRow {
        PolicyRow {
            slot: draw.one_of(&Slot::ALL),
            component: draw.digest(),
            config: draw.text(),
            config_digest: draw.digest(),
            description: Description {
                name: draw.text(),
                version: draw.text(),
                memory_bytes: draw.number() as u32,
                memory_schema: draw.text(),
                reasons: draw.some(Draw::text),
                extra: draw.some(Draw::text),
            },
            ready: draw.some(|draw| Seat(draw.below(8) as u8)),
            staged: RoundId(draw.number()),
            unused_since: RoundId(draw.number()),
            unready: draw.some(|draw| (Seat(draw.below(8) as u8), draw.text())),
            able: Vec::new(),
            unable: Vec::new(),
        }
    }

    #[test]
    fn a_policy_comes_back() {
        check::row(any, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "d0377428402628ef");
    }
}
