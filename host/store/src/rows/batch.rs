//! A batch of records: its number and place, what it is judged under, the digests of its records, and its seal.

use std::sync::Arc;

use kernel::outcome::Write;
use kernel::records::order::Batch;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::BATCHES;

const TABLE: &str = "batches";

fn decode_row(key: u64, bytes: &[u8]) -> Result<Batch, StoreError> {
    let batch: Batch = decode(TABLE, key, bytes)?;
    if batch.number == key {
        Ok(batch)
    } else {
        Err(StoreError::damaged(TABLE, key, format!("it is batch {}", batch.number)))
    }
}

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, BATCHES, |key, bytes| {
        take(Write::Batch(key, Some(Arc::new(decode_row(key, bytes)?))));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, number: u64, row: Option<&Batch>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(BATCHES).map_err(disk)?;
    match row {
        Some(row) => table.insert(number, encode(TABLE, row)?.as_slice()).map_err(disk)?,
        None => table.remove(number).map_err(disk)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::id::{LogIndex, RoundId};
    use kernel::records::order::Entered;
    use kernel::records::seal::Sealed;
    use kernel::units::Points;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn sealed(draw: &mut Draw) -> Sealed {
        Sealed {
            at: LogIndex(draw.number()),
            previous: LogIndex(draw.number()),
            set_version: draw.number(),
            root: draw.digest(),
            codes: draw.some(|draw| draw.number() as u16),
            reasons: draw.some(|draw| (draw.number() as u16, draw.text())),
            signatures: draw.some(|draw| (draw.node(), draw.signature())),
        }
    }

    fn any(draw: &mut Draw) -> Batch {
        Batch {
            number: draw.number(),
            at: LogIndex(draw.number()),
            ordered_ms: draw.number(),
            round: RoundId(draw.number()),
            set_size: draw.number() as u32,
            policy: draw.digest(),
            attempt: draw.number() as u32,
            first_sequence: draw.number(),
            count: draw.number() as u32,
            bytes: draw.number(),
            expires_ms: draw.number(),
            records: draw.some(|draw| Entered {
                digest: draw.digest(),
                author: draw.node(),
                fee: Points(draw.number() as i64),
            }),
            sealed: draw.maybe(|draw| Box::new(sealed(draw))),
        }
    }

    #[test]
    fn a_batch_comes_back() {
        let of_bytes = |bytes: &[u8]| decode::<Batch>(TABLE, 0, bytes);
        check::row(any, |row| encode(TABLE, row), of_bytes, "cd83f1ee8abc2040");
    }

    #[test]
    fn a_batch_under_another_number_is_refused() {
        let batch = Batch { number: 7, ..any(&mut Draw(1)) };
        let bytes = encode(TABLE, &batch).unwrap();
        assert_eq!(decode_row(7, &bytes).unwrap(), batch);
        assert!(matches!(decode_row(8, &bytes), Err(StoreError::Damaged { table: "batches", .. })));
    }
}
