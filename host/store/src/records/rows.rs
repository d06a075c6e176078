//! The rows of a file of records: keys, encodings, and what can be wrong with them.

use kernel::id::{Digest, Genesis, LogIndex};
use kernel::records::sealed::SealedBatch;
use minicbor::{Decode, Encode};
use redb::{ReadableTable, Table};

use crate::error::{StoreError, disk};
use crate::rows::{decode, encode, hex};

const META_TABLE: &str = "records meta";
const SIGNED_TABLE: &str = "signed";
const SEALED_TABLE: &str = "sealed";
const HEADS_TABLE: &str = "sealed heads";
const SEALED_OF_TABLE: &str = "sealed of";
const SEQUENCES_TABLE: &str = "sequences";

/// Rows of the table of small things.
const GENESIS: u64 = 0;
const TALLY: u64 = 1;
const ABSTAIN: u64 = 2;

/// Bytes of the checksum after a root: a bit that the disk turns must not look like another root.
const SUM_BYTES: usize = 8;

/// What is held, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct Tally {
    /// Place of the seal up to which nothing is missing.
    #[n(0)]
    pub(crate) complete: LogIndex,
    /// Place of the latest seal that was pruned: nothing up to there is kept again.
    #[n(1)]
    pub(crate) pruned: LogIndex,
    /// The highest number of a sealed batch.
    #[n(2)]
    pub(crate) newest: u64,
    /// Records of sealed batches.
    #[n(3)]
    pub(crate) records: u64,
    /// Sealed batches.
    #[n(4)]
    pub(crate) batches: u64,
    /// The room that they take with what finds them.
    #[n(5)]
    pub(crate) bytes: u64,
}

/// What is needed of a sealed batch without its records.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Head {
    /// Place of the seal before it.
    #[n(0)]
    pub(crate) previous: LogIndex,
    /// Its number.
    #[n(1)]
    pub(crate) batch: u64,
    /// Sequence number of its first record.
    #[n(2)]
    pub(crate) first_sequence: u64,
    /// How many records it has.
    #[n(3)]
    pub(crate) count: u32,
    /// When it was ordered, ms since 1970.
    #[n(4)]
    pub(crate) ordered_ms: u64,
    /// The room that it takes with what finds it.
    #[n(5)]
    pub(crate) bytes: u64,
}

type Rows<'t> = Table<'t, u64, &'static [u8]>;

pub(crate) fn genesis(meta: &impl ReadableTable<u64, &'static [u8]>) -> Result<Genesis, StoreError> {
    let row = meta.get(GENESIS).map_err(disk)?;
    let row = row.as_ref().and_then(|row| row.value().try_into().ok());
    row.map(Genesis).ok_or_else(|| StoreError::damaged(META_TABLE, GENESIS, "it is no genesis"))
}

pub(crate) fn set_genesis(meta: &mut Rows<'_>, genesis: Genesis) -> Result<(), StoreError> {
    meta.insert(GENESIS, genesis.0.as_slice()).map_err(disk)?;
    Ok(())
}

pub(crate) fn tally(meta: &impl ReadableTable<u64, &'static [u8]>) -> Result<Tally, StoreError> {
    let row = meta.get(TALLY).map_err(disk)?;
    let row = row.ok_or_else(|| StoreError::damaged(META_TABLE, TALLY, "it is missing"))?;
    decode(META_TABLE, TALLY, row.value())
}

pub(crate) fn set_tally(meta: &mut Rows<'_>, tally: &Tally) -> Result<(), StoreError> {
    meta.insert(TALLY, encode(META_TABLE, tally)?.as_slice()).map_err(disk)?;
    Ok(())
}

pub(crate) fn abstain(meta: &impl ReadableTable<u64, &'static [u8]>) -> Result<Option<u64>, StoreError> {
    meta.get(ABSTAIN).map_err(disk)?.map(|row| decode(META_TABLE, ABSTAIN, row.value())).transpose()
}

pub(crate) fn set_abstain(meta: &mut Rows<'_>, batch: u64) -> Result<(), StoreError> {
    meta.insert(ABSTAIN, encode(META_TABLE, &batch)?.as_slice()).map_err(disk)?;
    Ok(())
}

/// The key of what was signed: batch, then attempt.
pub(crate) fn signed_key(batch: u64, attempt: u32) -> [u8; 12] {
    pair(batch, attempt)
}

/// The row of a root.
pub(crate) fn signed_row(key: &[u8; 12], root: Digest) -> Vec<u8> {
    [&root.0[..], &sum(key, &root.0)].concat()
}

/// The root of a row.
pub(crate) fn root_of(key: &[u8; 12], row: &[u8]) -> Result<Digest, StoreError> {
    let parts = row.split_first_chunk::<32>().filter(|(root, rest)| *rest == sum(key, root));
    let wrong = || StoreError::damaged(SIGNED_TABLE, hex(key), "it is not as it was written");
    parts.map(|(root, _)| Digest(*root)).ok_or_else(wrong)
}

fn sum(key: &[u8; 12], root: &[u8; 32]) -> [u8; SUM_BYTES] {
    let Digest(digest) = Digest::of_parts(&[key, root]);
    digest.first_chunk().copied().unwrap_or_default()
}

/// The bytes of a sealed batch.
pub(crate) fn sealed_row(batch: &SealedBatch) -> Result<Vec<u8>, StoreError> {
    encode(SEALED_TABLE, batch)
}

/// The sealed batch whose seal has a place.
pub(crate) fn sealed_of_row(at: LogIndex, row: &[u8]) -> Result<SealedBatch, StoreError> {
    let batch: SealedBatch = decode(SEALED_TABLE, at, row)?;
    if batch.at == at {
        Ok(batch)
    } else {
        Err(StoreError::damaged(SEALED_TABLE, at, format!("its place is {}", batch.at)))
    }
}

/// That a sealed batch lacks a record that is said to be in it.
pub(crate) fn lacks(at: LogIndex, place: u32) -> StoreError {
    StoreError::damaged(SEALED_TABLE, at, format!("it has no record {place}"))
}

pub(crate) fn head_row(head: &Head) -> Result<Vec<u8>, StoreError> {
    encode(HEADS_TABLE, head)
}

pub(crate) fn head_of_row(at: u64, row: &[u8]) -> Result<Head, StoreError> {
    decode(HEADS_TABLE, at, row)
}

/// The row of a place in the log.
pub(crate) fn place_row(at: LogIndex) -> [u8; 8] {
    at.0.to_be_bytes()
}

/// The place in the log of a batch's seal.
pub(crate) fn place_of_row(batch: u64, row: &[u8]) -> Result<LogIndex, StoreError> {
    let at = row.try_into().map(u64::from_be_bytes).map(LogIndex);
    at.map_err(|_| StoreError::damaged(SEALED_OF_TABLE, batch, "it is no place in the log"))
}

/// A place in the log, and a count or a place in the batch.
pub(crate) fn pair(at: u64, small: u32) -> [u8; 12] {
    let mut row = [0; 12];
    let (high, low) = row.split_at_mut(8);
    high.copy_from_slice(&at.to_be_bytes());
    low.copy_from_slice(&small.to_be_bytes());
    row
}

fn of_pair(row: &[u8]) -> Option<(LogIndex, u32)> {
    let (at, small) = row.split_first_chunk::<8>()?;
    Some((LogIndex(u64::from_be_bytes(*at)), u32::from_be_bytes(small.try_into().ok()?)))
}

/// The place of the seal of a batch with this first sequence number, and how many records it has.
pub(crate) fn sequence_of_row(first: u64, row: &[u8]) -> Result<(LogIndex, u32), StoreError> {
    of_pair(row).ok_or_else(|| StoreError::damaged(SEQUENCES_TABLE, first, "it has another length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;
    use crate::tests::records::{Sketch, made};

    #[test]
    fn numbers_and_heads_come_back() {
        let make = |draw: &mut Draw| Tally {
            complete: LogIndex(draw.number()),
            pruned: LogIndex(draw.number()),
            newest: draw.number(),
            records: draw.number(),
            batches: draw.number(),
            bytes: draw.number(),
        };
        check::row(make, |row| encode(META_TABLE, row), |bytes| decode(META_TABLE, 0, bytes), "2c47f734ff60ddf9");
        let make = |draw: &mut Draw| Head {
            previous: LogIndex(draw.number()),
            batch: draw.number(),
            first_sequence: draw.number(),
            count: draw.number() as u32,
            ordered_ms: draw.number(),
            bytes: draw.number(),
        };
        check::row(make, head_row, |bytes| head_of_row(0, bytes), "885847997e381885");
    }

    #[test]
    fn a_sealed_batch_comes_back() {
        let make = |draw: &mut Draw| {
            let sketch = Sketch { at: 9, previous: 5, number: 2, first_sequence: 3, ordered_ms: draw.number() };
            made(&sketch, draw.below(4) as usize, draw)
        };
        check::row(make, sealed_row, |bytes| sealed_of_row(LogIndex(9), bytes), "bb01538c7a7cb4d9");
        let bytes = sealed_row(&make(&mut Draw(1))).unwrap();
        assert!(matches!(sealed_of_row(LogIndex(8), &bytes), Err(StoreError::Damaged { table: "sealed", .. })));
    }

    #[test]
    fn a_root_comes_back_as_it_was_or_not_at_all() {
        let key = signed_key(7, 1);
        let make = Draw::digest;
        check::row(make, |root| Ok(signed_row(&key, *root)), |row| root_of(&key, row), "89c0422aa739eddd");
        let row = signed_row(&key, Digest([4; 32]));
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(root_of(&key, &flipped), Err(StoreError::Damaged { table: "signed", .. })));
        }
        assert!(root_of(&signed_key(7, 2), &row).is_err(), "it is of another attempt");
    }

    #[test]
    fn keys_are_in_the_order_of_batches() {
        let make = |draw: &mut Draw| (LogIndex(draw.number()), draw.number() as u32);
        check::keys(make, |(at, small)| pair(at.0, *small).to_vec(), of_pair);
    }
}
