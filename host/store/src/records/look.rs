//! Finding what is sealed: by place in the log, batch, digest and sequence number.

use kernel::id::{Digest, LogIndex};
use kernel::records::sealed::SealedBatch;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use super::index::like;
use super::{Records, rows};
use crate::error::{StoreError, disk};
use crate::tables::{DIGESTS, RECORDS_META, SEALED, SEALED_OF, SEQUENCES};

/// Most items of a list, whatever was asked.
const PAGE: usize = 1_000;

/// Where the record of a sequence number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// The number.
    pub sequence: u64,
    /// Place in the log of its batch's seal.
    pub at: LogIndex,
    /// Its place in the batch, from 0.
    pub place: u32,
}

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Figures {
    /// Records of sealed batches.
    pub records: u64,
    /// Sealed batches.
    pub batches: u64,
    /// The room that they take in the file with what finds them, bytes.
    pub bytes: u64,
    /// The lowest sequence number of a sealed record.
    pub first_sequence: Option<u64>,
    /// The highest one.
    pub last_sequence: Option<u64>,
    /// Place of the latest seal that was pruned; 0 = none.
    pub pruned_to: LogIndex,
    /// As [`Records::complete_to`].
    pub complete_to: LogIndex,
}

impl Records {
    /// Sealed batches after a place in the log, in the order of their seals, as far as nothing is missing: as many as have
    /// at most so many bytes as they are stored, and one at least; never more than 1,000. What was pruned or skipped is
    /// left out: the first one then names another one before it than `at`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn after(&self, at: LogIndex, max_bytes: usize, max: usize) -> Result<Vec<SealedBatch>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let complete = rows::tally(&reader.open_table(RECORDS_META).map_err(disk)?)?.complete;
        let (mut batches, mut bytes) = (Vec::new(), 0_usize);
        if at >= complete {
            return Ok(batches);
        }
        let table = reader.open_table(SEALED).map_err(disk)?;
        for row in table.range(at.0 + 1..=complete.0).map_err(disk)?.take(max.clamp(1, PAGE)) {
            let (key, row) = row.map_err(disk)?;
            bytes = bytes.saturating_add(row.value().len());
            if bytes > max_bytes && !batches.is_empty() {
                break;
            }
            batches.push(rows::sealed_of_row(LogIndex(key.value()), row.value())?);
        }
        Ok(batches)
    }

    /// The sealed batch whose seal has a place in the log.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn sealed_at(&self, at: LogIndex) -> Result<Option<SealedBatch>, StoreError> {
        sealed(&self.database.begin_read().map_err(disk)?, at)
    }

    /// The sealed batch of a number.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn by_batch(&self, batch: u64) -> Result<Option<SealedBatch>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let row = reader.open_table(SEALED_OF).map_err(disk)?.get(batch).map_err(disk)?;
        let Some(row) = row else { return Ok(None) };
        sealed(&reader, rows::place_of_row(batch, row.value())?)
    }

    /// The sealed batch of a record, and the record's place in it; the latest one, where it is in several: a digest that was
    /// forgotten may be ordered again.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn by_digest(&self, digest: &Digest) -> Result<Option<(SealedBatch, u32)>, StoreError> {
        // In this order: what is no longer collected when it is looked for has its rows when the reader begins.
        let mut found = self.index.find(digest);
        let reader = self.database.begin_read().map_err(disk)?;
        for row in reader.open_table(DIGESTS).map_err(disk)?.range(like(digest)).map_err(disk)? {
            found.push(row.map_err(disk)?.0.value());
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        for (_, at, place) in found {
            let Some(batch) = sealed(&reader, LogIndex(at))? else { continue };
            let record = batch.records.get(place as usize).ok_or_else(|| rows::lacks(LogIndex(at), place))?;
            if record.digest() == *digest {
                return Ok(Some((batch, place)));
            }
        }
        Ok(None)
    }

    /// Sealed records after a sequence number, ascending; at most 1,000. Numbers of batches that are not held are left out.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn by_sequence(&self, after: u64, limit: usize) -> Result<Vec<Sequenced>, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let table = self.database.begin_read().map_err(disk)?.open_table(SEQUENCES).map_err(disk)?;
        let mut found = Vec::new();
        let Some(next) = after.checked_add(1) else { return Ok(found) };
        // The batch that the first one is in may begin before it.
        let first = table.range(..=next).map_err(disk)?.next_back();
        let first = first.transpose().map_err(disk)?.map_or(next, |(key, _)| key.value());
        for row in table.range(first..).map_err(disk)? {
            let (key, row) = row.map_err(disk)?;
            let (at, count) = rows::sequence_of_row(key.value(), row.value())?;
            let before = u32::try_from(next.saturating_sub(key.value())).unwrap_or(u32::MAX);
            for place in before..count {
                if found.len() == limit {
                    return Ok(found);
                }
                found.push(Sequenced { sequence: key.value().saturating_add(u64::from(place)), at, place });
            }
        }
        Ok(found)
    }

    /// What is held, in numbers.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn figures(&self) -> Result<Figures, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let tally = rows::tally(&reader.open_table(RECORDS_META).map_err(disk)?)?;
        let table = reader.open_table(SEQUENCES).map_err(disk)?;
        let mut last_sequence = None;
        if let Some((key, row)) = table.last().map_err(disk)? {
            let (_, count) = rows::sequence_of_row(key.value(), row.value())?;
            last_sequence = Some(key.value().saturating_add(u64::from(count).saturating_sub(1)));
        }
        Ok(Figures {
            records: tally.records,
            batches: tally.batches,
            bytes: tally.bytes,
            first_sequence: table.first().map_err(disk)?.map(|(key, _)| key.value()),
            last_sequence,
            pruned_to: tally.pruned,
            complete_to: tally.complete,
        })
    }
}

fn sealed(reader: &ReadTransaction, at: LogIndex) -> Result<Option<SealedBatch>, StoreError> {
    let row = reader.open_table(SEALED).map_err(disk)?.get(at.0).map_err(disk)?;
    row.map(|row| rows::sealed_of_row(at, row.value())).transpose()
}
