//! Dropping the oldest.

use kernel::id::LogIndex;
use redb::ReadableTable;

use super::rows::{Head, Tally};
use super::{Records, Tables};
use crate::error::{StoreError, disk};

/// Batches that one call drops at most.
const BATCHES: usize = 64;

impl Records {
    /// Drops the oldest sealed batches, by the place of their seals, while they take more room than `keep_bytes` or the
    /// oldest was ordered before `older_than_ms` (ms since 1970). The newest always stays. The work of a call is bounded:
    /// tells whether there is more to do. What is dropped is not missing: [`Records::complete_to`] never falls.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn prune(&self, keep_bytes: Option<u64>, older_than_ms: Option<u64>) -> Result<bool, StoreError> {
        self.change(|tables, tally| {
            let newest = tables.heads.last().map_err(disk)?.map_or(0, |(key, _)| key.value());
            let mut batches = 0;
            while let Some((at, head)) = tables.head_after(LogIndex(0))? {
                let is_over = keep_bytes.is_some_and(|keep| tally.bytes > keep)
                    || older_than_ms.is_some_and(|than| head.ordered_ms < than);
                if at.0 >= newest || !is_over {
                    break;
                }
                if batches >= BATCHES {
                    tables.pass(tally)?;
                    return Ok((true, true));
                }
                tables.drop_sealed(at, &head, tally)?;
                batches += 1;
            }
            tables.pass(tally)?;
            Ok((batches > 0, false))
        })
    }
}

impl Tables<'_> {
    /// What was pruned is not waited for.
    fn pass(&self, tally: &mut Tally) -> Result<(), StoreError> {
        tally.complete = tally.complete.max(tally.pruned);
        self.advance(tally)
    }

    fn drop_sealed(&mut self, at: LogIndex, head: &Head, tally: &mut Tally) -> Result<(), StoreError> {
        // The rows of their digests go when others are written beside them.
        self.unindexed.remove(at.0).map_err(disk)?;
        self.sealed.remove(at.0).map_err(disk)?;
        self.heads.remove(at.0).map_err(disk)?;
        self.sealed_of.remove(head.batch).map_err(disk)?;
        self.sequences.remove(head.first_sequence).map_err(disk)?;
        tally.pruned = at;
        tally.records = tally.records.saturating_sub(u64::from(head.count));
        tally.batches = tally.batches.saturating_sub(1);
        tally.bytes = tally.bytes.saturating_sub(head.bytes);
        Ok(())
    }
}
