//! A keyframe: every row of the state as after one entry of the log, deflated. The bytes of components are left out, since
//! no rule reads them: a state that was taken out of a keyframe knows which ones there are and has none of their bytes.
//!
//! The rows are as their own tables have them, so a keyframe has no encoding of its own but a list of (table, key, value).

use kernel::id::LogIndex;
use kernel::outcome::Write;
use kernel::state::State;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use crate::Disk;
use crate::error::{StoreError, disk};
use crate::history::{put_numbered, room};
use crate::rows::pack::{self, Packer};
use crate::rows::{decode, each_named, each_numbered, encode, key32, load_all};
use crate::tables::{
    BATCHES, COMPONENTS, CONTENTS, HOT, KEYFRAMES, MEMORY, META, Named, Numbered, POLICIES, PROFILES, SLOTS, UPLOADS,
    VALIDATORS, WALLETS, create_all,
};

const TABLE: &str = "keyframes";
/// What is deflated is whole in memory: a state of more bytes gets no keyframe.
const BYTES_MAX: usize = 128 << 20;
/// Memory for the pages of a state that is taken out.
const CACHE_BYTES: usize = 8 << 20;

/// Tables by number; the place in this list is stored.
const NUMBERED: [Numbered; 7] = [META, HOT, SLOTS, MEMORY, VALIDATORS, BATCHES, CONTENTS];
/// Tables by bytes; the place in this list is stored. Of components only the keys.
const NAMED: [Named; 5] = [PROFILES, WALLETS, POLICIES, UPLOADS, COMPONENTS];
/// Place of the components.
const OF_COMPONENTS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
struct Rows {
    /// Table, key, value.
    #[n(0)]
    numbered: Vec<(u8, u64, ByteVec)>,
    /// Table, key, value.
    #[n(1)]
    named: Vec<(u8, ByteVec, ByteVec)>,
}

/// The row of the state that a reader sees; `None` when it is too large for one.
pub(crate) fn pack(reader: &ReadTransaction) -> Result<Option<Vec<u8>>, StoreError> {
    let (mut rows, mut bytes) = (Rows::default(), 0);
    for (table, place) in NUMBERED.into_iter().zip(0_u8..) {
        each_numbered(reader, table, |key, value| {
            bytes += 16 + value.len();
            if bytes <= BYTES_MAX {
                rows.numbered.push((place, key, value.to_vec().into()));
            }
            Ok(())
        })?;
    }
    for (table, place) in NAMED.into_iter().zip(0_u8..) {
        each_named(reader, table, |key, value| {
            let value = if usize::from(place) == OF_COMPONENTS { &[] } else { value };
            bytes += 16 + key.len() + value.len();
            if bytes <= BYTES_MAX {
                rows.named.push((place, key.to_vec().into(), value.to_vec().into()));
            }
            Ok(())
        })?;
    }
    if bytes > BYTES_MAX {
        return Ok(None);
    }
    encode(TABLE, &rows).map(|bytes| Some(Packer::new().pack(&bytes)))
}

/// The state of a row.
fn unpack(key: u64, row: &[u8]) -> Result<State, StoreError> {
    let rows: Rows = decode(TABLE, key, &pack::unpack(TABLE, key, row)?)?;
    let unknown = || StoreError::damaged(TABLE, key, "it has a table that is not known");
    // The tables are read by the code that reads them at a start.
    let database = Disk::memory().open(CACHE_BYTES)?;
    let transaction = database.begin_write().map_err(disk)?;
    create_all(&transaction)?;
    let mut components = Vec::new();
    for (place, key, value) in &rows.numbered {
        let table = *NUMBERED.get(usize::from(*place)).ok_or_else(unknown)?;
        transaction.open_table(table).map_err(disk)?.insert(key, value.as_slice()).map_err(disk)?;
    }
    for (place, key, value) in &rows.named {
        if usize::from(*place) == OF_COMPONENTS {
            components.push(kernel::id::Digest(key32(TABLE, key)?));
            continue;
        }
        let table = *NAMED.get(usize::from(*place)).ok_or_else(unknown)?;
        transaction.open_table(table).map_err(disk)?.insert(key.as_slice(), value.as_slice()).map_err(disk)?;
    }
    transaction.commit().map_err(disk)?;
    let mut state = State::default();
    load_all(&database.begin_read().map_err(disk)?, &mut |row| state.load(row))?;
    for component in components {
        state.load(Write::Component(component, Some([].into())));
    }
    state.loaded();
    Ok(state)
}

/// Keeps a keyframe; returns the room that it takes.
pub(crate) fn write(transaction: &WriteTransaction, index: LogIndex, row: &[u8]) -> Result<u64, StoreError> {
    put_numbered(transaction, KEYFRAMES, index.0, row)
}

/// Whether there is one of this log index.
pub(crate) fn is_kept(transaction: &WriteTransaction, index: LogIndex) -> Result<bool, StoreError> {
    let table = transaction.open_table(KEYFRAMES).map_err(disk)?;
    Ok(table.get(index.0).map_err(disk)?.is_some())
}

/// The latest state that is kept of those up to a log index.
pub(crate) fn read(reader: &ReadTransaction, index: LogIndex) -> Result<Option<State>, StoreError> {
    let table = reader.open_table(KEYFRAMES).map_err(disk)?;
    let Some(row) = table.range(..=index.0).map_err(disk)?.next_back() else { return Ok(None) };
    let (key, row) = row.map_err(disk)?;
    unpack(key.value(), row.value()).map(Some)
}

/// Drops keyframes that entries do not go on from any more; returns the room that they took.
pub(crate) fn drop_below(transaction: &WriteTransaction, index: LogIndex) -> Result<u64, StoreError> {
    let mut table = transaction.open_table(KEYFRAMES).map_err(disk)?;
    let mut freed = 0;
    loop {
        let oldest = table.first().map_err(disk)?.map(|(key, row)| (key.value(), row.value().len()));
        let Some((key, len)) = oldest.filter(|(key, _)| *key < index.0) else { return Ok(freed) };
        table.remove(key).map_err(disk)?;
        freed += room(8, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    #[test]
    fn a_keyframe_comes_back() {
        let bytes = |draw: &mut Draw| ByteVec::from(draw.some(|draw| draw.number() as u8));
        let any = |draw: &mut Draw| Rows {
            numbered: draw.some(|draw| (draw.below(4) as u8, draw.number(), bytes(draw))),
            named: draw.some(|draw| (draw.below(5) as u8, bytes(draw), bytes(draw))),
        };
        check::row(any, |row| encode(TABLE, row), |row| decode(TABLE, 0, row), "09376b5ee67fe8c5");
    }

    #[test]
    fn a_row_of_another_table_is_refused() {
        let rows = Rows { numbered: vec![(9, 1, vec![1].into())], ..Rows::default() };
        let row = Packer::new().pack(&encode(TABLE, &rows).unwrap());
        assert!(matches!(unpack(3, &row), Err(StoreError::Damaged { table: "keyframes", .. })));
    }
}
