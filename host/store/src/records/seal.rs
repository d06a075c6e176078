//! Keeping sealed batches.

use kernel::records::sealed::SealedBatch;
use redb::ReadableTable;

use super::rows::{self, Head, Tally, signed_key};
use super::{Hold, Holding, Records, Tables};
use crate::error::{StoreError, disk};
use crate::history::room;

/// Sealed batches after whose last number what was signed of an older one is forgotten.
pub const KEEP_ROWS: u64 = 10_000;
/// Sealed batches whose rows one call drops besides two for each that it keeps: a bound that was lowered is reached over
/// several calls, and none of them takes long.
const SWEEP: usize = 64;

/// What became of a sealed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept from now on.
    New,
    /// It was held already.
    Held,
    /// It is older than what was pruned, and is not kept again.
    Past,
    /// It contradicts itself or what is held: numbers of records that do not fit, or a place in the log, a batch number or
    /// sequence numbers that another one has. Nothing of it was written. Places in the log are not signed, so whoever sent
    /// it may be wrong, or who sent the other one.
    Unfit,
}

impl Records {
    /// Keeps sealed batches, whose certificates were checked, in one durable transaction; an answer each, in order. Their
    /// pending bodies go. What was signed of batches that are more than `keep_rows` older than the newest sealed one is
    /// forgotten ([`KEEP_ROWS`]).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn seal(&self, batches: &[SealedBatch], keep_rows: u64) -> Result<Vec<Kept>, StoreError> {
        self.hold_and_seal(&[], batches, keep_rows).map(|(_, kept)| kept)
    }

    /// [`Records::hold_many`] and [`Records::seal`] in one durable transaction, in this order: what waits for the disk costs
    /// it once.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`]: nothing may be signed.
    pub fn hold_and_seal(
        &self,
        held: &[Holding<'_>],
        sealed: &[SealedBatch],
        keep_rows: u64,
    ) -> Result<(Vec<Hold>, Vec<Kept>), StoreError> {
        self.change(|tables, tally| {
            let mut written = false;
            let holds = held.iter().map(|batch| tables.hold(batch, &mut written)).collect::<Result<_, _>>()?;
            let (mut kept, mut changed, before) = (Vec::with_capacity(sealed.len()), false, tally.records);
            for batch in sealed {
                let answer = tables.keep(batch, tally)?;
                // Of a batch that comes too late to be kept, it is known all the same that it is sealed.
                changed |= answer == Kept::New || answer == Kept::Past && tables.is_over(batch.number())?;
                kept.push(answer);
            }
            if changed {
                tables.advance(tally)?;
                tables.sweep(tally.newest.saturating_sub(keep_rows), sealed.len() * 2 + SWEEP)?;
                let records = (tally.records - before) as usize;
                tables.index_some(&self.index, (sealed.len(), records), tally.pruned)?;
            }
            Ok((written || changed, (holds, kept)))
        })
    }
}

impl Tables<'_> {
    fn keep(&mut self, batch: &SealedBatch, tally: &mut Tally) -> Result<Kept, StoreError> {
        let (at, number) = (batch.at, batch.number());
        if let Some(row) = self.sealed_of.get(number).map_err(disk)? {
            return Ok(if rows::place_of_row(number, row.value())? == at { Kept::Held } else { Kept::Unfit });
        }
        if !is_whole(batch) {
            return Ok(Kept::Unfit);
        }
        if at <= tally.pruned {
            return Ok(Kept::Past);
        }
        if self.contradicts(batch)? {
            return Ok(Kept::Unfit);
        }
        let row = rows::sealed_row(batch)?;
        let count = batch.certificate.attestation.count;
        let head = Head {
            previous: batch.previous,
            batch: number,
            first_sequence: batch.first_sequence(),
            count,
            ordered_ms: batch.ordered_ms,
            bytes: room(8, row.len()) + u64::from(count) * room(20, 0),
        };
        self.sealed.insert(at.0, row.as_slice()).map_err(disk)?;
        self.heads.insert(at.0, rows::head_row(&head)?.as_slice()).map_err(disk)?;
        self.sealed_of.insert(number, rows::place_row(at).as_slice()).map_err(disk)?;
        self.sequences.insert(head.first_sequence, rows::pair(at.0, count).as_slice()).map_err(disk)?;
        self.collect(batch)?;
        self.is_over(number)?;
        tally.newest = tally.newest.max(number);
        tally.records += u64::from(count);
        tally.batches += 1;
        tally.bytes += head.bytes;
        Ok(Kept::New)
    }

    /// Whether no log can have this batch beside those that are held: nothing is sealed between a seal and the one that it
    /// names as the one before it, and no record has two sequence numbers.
    fn contradicts(&self, batch: &SealedBatch) -> Result<bool, StoreError> {
        if self.head_after(batch.previous)?.is_some_and(|(next, _)| next <= batch.at) {
            return Ok(true);
        }
        if self.head_after(batch.at)?.is_some_and(|(_, next)| next.previous < batch.at) {
            return Ok(true);
        }
        let first = batch.first_sequence();
        let end = first.saturating_add(batch.records.len() as u64);
        let Some(row) = self.sequences.range(..end).map_err(disk)?.next_back() else { return Ok(false) };
        let (before, row) = row.map_err(disk)?;
        let (_, count) = rows::sequence_of_row(before.value(), row.value())?;
        Ok(before.value().saturating_add(u64::from(count)) > first)
    }

    /// Forgets what was signed of sealed batches below a number, of so many of them at most.
    fn sweep(&mut self, below: u64, at_most: usize) -> Result<(), StoreError> {
        for _ in 0..at_most {
            let oldest = self.spent.first().map_err(disk)?.map(|(key, _)| key.value());
            let Some(batch) = oldest.filter(|batch| *batch < below) else { break };
            let (first, last) = (signed_key(batch, 0), signed_key(batch, u32::MAX));
            let range = first.as_slice()..=last.as_slice();
            self.signed.retain_in::<&[u8], _>(range, |_, _| false).map_err(disk)?;
            self.spent.remove(batch).map_err(disk)?;
        }
        Ok(())
    }
}

/// Whether its parts belong together.
fn is_whole(batch: &SealedBatch) -> bool {
    let records = batch.records.len();
    batch.previous < batch.at
        && records > 0
        && records == batch.verdicts.len()
        && records == batch.certificate.attestation.count as usize
}
