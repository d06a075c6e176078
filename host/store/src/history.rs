//! The bound of history. Its bytes are counted in a row, so keeping the bound costs what was added, not what is there.
//!
//! Two shares: the span (commands, rounds, lines, keyframes) and the marks (moves, changes), which outlive the span because why a
//! member was put out, and who changed what, must stay to be read longer than the columns of the round.
//!
//! Invariant: the span is without holes. What is dropped is its oldest entry with all that came from it.

use redb::WriteTransaction;

use crate::error::{StoreError, disk};
use crate::rows::about::HistoryBytes;
use crate::rows::{change, entry, keyframe, line, moved, round};
use crate::tables::{Named, Numbered};

/// The marks' share of the whole: one in so many bytes.
const MARKS_DIVISOR: u64 = 4;
/// A page of the file.
const PAGE_BYTES: u64 = 4_096;
/// Bytes that the engine keeps of a row besides key and value, about.
const ROW_BYTES: u64 = 16;
/// Rows dropped in one commit besides as many as were added: a bound that was lowered is reached over several commits,
/// and none of them stalls the cluster.
const DROPS: usize = 64;

/// The room that a row takes in the file: a large one has a power of two of pages for itself, small ones share pages
/// that are two thirds full on average.
pub(crate) fn room(key_bytes: usize, value_bytes: usize) -> u64 {
    let bytes = (key_bytes + value_bytes) as u64 + ROW_BYTES;
    if bytes > PAGE_BYTES / 2 { bytes.next_power_of_two().max(PAGE_BYTES) } else { bytes + bytes / 2 }
}

/// Keeps a row of history; returns the room that it takes.
pub(crate) fn put_numbered(
    transaction: &WriteTransaction,
    table: Numbered,
    key: u64,
    value: &[u8],
) -> Result<u64, StoreError> {
    transaction.open_table(table).map_err(disk)?.insert(key, value).map_err(disk)?;
    Ok(room(8, value.len()))
}

/// Keeps a row of history; returns the room that it takes.
pub(crate) fn put_named(
    transaction: &WriteTransaction,
    table: Named,
    key: &[u8],
    value: &[u8],
) -> Result<u64, StoreError> {
    transaction.open_table(table).map_err(disk)?.insert(key, value).map_err(disk)?;
    Ok(room(key.len(), value.len()))
}

/// Drops the oldest until both shares keep their bound, or `added` rows and a few more are gone.
pub(crate) fn trim(
    transaction: &WriteTransaction,
    bytes: &mut HistoryBytes,
    max_bytes: u64,
    added: usize,
) -> Result<(), StoreError> {
    let marks_max = max_bytes / MARKS_DIVISOR;
    let drops = added.saturating_mul(2).saturating_add(DROPS);
    for _ in 0..drops {
        if bytes.span <= max_bytes - marks_max {
            break;
        }
        let Some((index, took)) = entry::drop_oldest(transaction)? else { break };
        let took = took
            + round::drop_up_to(transaction, index)?
            + line::drop_up_to(transaction, index)?
            + keyframe::drop_below(transaction, index)?;
        bytes.span = bytes.span.saturating_sub(took);
    }
    for _ in 0..drops {
        if bytes.marks <= marks_max {
            break;
        }
        let took = match (moved::oldest(transaction)?, change::oldest(transaction)?) {
            (None, None) => break,
            (Some(moved), Some(change)) if change < moved => change::drop_oldest(transaction)?,
            (Some(_), _) => moved::drop_oldest(transaction)?,
            (None, Some(_)) => change::drop_oldest(transaction)?,
        };
        bytes.marks = bytes.marks.saturating_sub(took);
    }
    Ok(())
}
