//! A line of the change log: it outlives the span, as moves do.

use kernel::id::LogIndex;
use kernel::outcome::Change;
use redb::{ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::history::{put_named, room};
use crate::read::LineKey;
use crate::rows::{decode, encode, hex};
use crate::tables::CHANGES;

const TABLE: &str = "changes";

/// Keeps a change; returns the room that it takes.
pub(crate) fn write(transaction: &WriteTransaction, row: &Change) -> Result<u64, StoreError> {
    let key = LineKey { index: row.index, part: row.part };
    put_named(transaction, CHANGES, &key.bytes(), &encode(TABLE, row)?)
}

pub(crate) fn decode_row(key: &[u8], row: &[u8]) -> Result<Change, StoreError> {
    decode(TABLE, hex(key), row)
}

/// The log index of the oldest change.
pub(crate) fn oldest(transaction: &WriteTransaction) -> Result<Option<LogIndex>, StoreError> {
    let table = transaction.open_table(CHANGES).map_err(disk)?;
    let first = table.first().map_err(disk)?;
    let index = |key: &[u8]| {
        let key = LineKey::of_bytes(key);
        key.map(|key| key.index).ok_or_else(|| StoreError::damaged(TABLE, "first", "its key has another length"))
    };
    first.map(|(key, _)| index(key.value())).transpose()
}

/// Drops the oldest change; returns the room that it took.
pub(crate) fn drop_oldest(transaction: &WriteTransaction) -> Result<u64, StoreError> {
    let mut table = transaction.open_table(CHANGES).map_err(disk)?;
    let oldest = table.pop_first().map_err(disk)?;
    Ok(oldest.map_or(0, |(key, row)| room(key.value().len(), row.value().len())))
}

#[cfg(test)]
mod tests {
    use kernel::command::Operator;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn any(draw: &mut Draw) -> Change {
        Change {
            index: LogIndex(draw.number()),
            part: draw.number() as u32,
            now_ms: draw.number(),
            by: draw.maybe(|draw| draw.one_of(&[Operator::Token, Operator::Socket, Operator::File, Operator::Console])),
            what: draw.text(),
            from: draw.text(),
            to: draw.text(),
            reason: draw.text(),
        }
    }

    #[test]
    fn a_change_comes_back() {
        check::row(any, |row| encode(TABLE, row), |bytes| decode_row(&[], bytes), "54e80380ea56ff59");
    }
}
