//! The key table: every table of the files with its number. Numbers and names are stored; a number is never used again
//! for another meaning, and an encoding that changes gets a new table.
//!
//! Keys and values are `u64` and byte strings only, so that the engine's own encodings are never relied on. Keys made
//! here are big-endian, so that their order is that of their numbers. Where there is a choice, keys are in the order of
//! time: those inserts are the cheap ones.

use redb::{TableDefinition, WriteTransaction};

use crate::error::{StoreError, disk};

/// A table by number.
pub(crate) type Numbered = TableDefinition<'static, u64, &'static [u8]>;
/// A table by bytes.
pub(crate) type Named = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// 0 → format and release; 1 → bytes of history.
pub(crate) const ABOUT: Numbered = TableDefinition::new("01 about");

// The state. All of it is read at a start.

/// 0 → `Meta`.
pub(crate) const META: Numbered = TableDefinition::new("02 meta");
/// Node → `Profile`.
pub(crate) const PROFILES: Named = TableDefinition::new("03 profiles");
/// Member number / 256 → numbers and `Hot` of those members.
pub(crate) const HOT: Numbered = TableDefinition::new("04 hot");
/// Key → `Wallet`.
pub(crate) const WALLETS: Named = TableDefinition::new("05 wallets");
/// Number of the slot → `SlotRow`.
pub(crate) const SLOTS: Numbered = TableDefinition::new("06 slots");
/// Digest → `PolicyRow`.
pub(crate) const POLICIES: Named = TableDefinition::new("07 policies");
/// Digest → the component's bytes.
pub(crate) const COMPONENTS: Named = TableDefinition::new("08 components");
/// Digest → size, and the bytes that are there.
pub(crate) const UPLOADS: Named = TableDefinition::new("09 uploads");
/// Slot, saved or not, member number / 256 → policy memory of those members.
pub(crate) const MEMORY: Numbered = TableDefinition::new("10 memory");
/// 0 → how far the log is applied, and the members as of then.
pub(crate) const MARK: Numbered = TableDefinition::new("11 mark");
/// 0 → `Validators`.
pub(crate) const VALIDATORS: Numbered = TableDefinition::new("12 validators");
/// Number → `Batch`.
pub(crate) const BATCHES: Numbered = TableDefinition::new("13 batches");
/// Number → `Contents` of a batch that is not sealed.
pub(crate) const CONTENTS: Numbered = TableDefinition::new("14 contents");

// History. Read page by page.

/// Log index → command, deflated.
pub(crate) const ENTRIES: Numbered = TableDefinition::new("20 entries");
/// Round → `RoundRecord` without its columns.
pub(crate) const ROUNDS: Numbered = TableDefinition::new("21 rounds");
/// Round → the columns of its `RoundRecord`, deflated.
pub(crate) const COLUMNS: Numbered = TableDefinition::new("22 columns");
/// Round, log index, node → `Move`.
pub(crate) const MOVES: Named = TableDefinition::new("23 moves");
/// Node, round, log index → nothing: the moves of a node.
pub(crate) const MOVES_OF: Named = TableDefinition::new("24 moves of");
/// Log index, part → `Line`.
pub(crate) const LINES: Named = TableDefinition::new("25 lines");
/// Key, log index, part → nothing: the lines of a node's or wallet's accounts.
pub(crate) const LINES_OF: Named = TableDefinition::new("26 lines of");
/// Log index, part → `Change`.
pub(crate) const CHANGES: Named = TableDefinition::new("27 changes");
/// Log index → every row of the state after it, deflated.
pub(crate) const KEYFRAMES: Numbered = TableDefinition::new("28 keyframes");

// The file of the log, which has `ABOUT` too.

/// Index → checksum and entry.
pub(crate) const LOG: Numbered = TableDefinition::new("40 log");
/// 0 → vote; 1 → committed; 2 → purged; 3 → whose log it is.
pub(crate) const LOG_META: Numbered = TableDefinition::new("41 log meta");

// The file of users' records, which has `ABOUT` too.

/// 0 → genesis of the cluster; 1 → what is held, in numbers; 2 → the batch below which nothing is signed.
pub(crate) const RECORDS_META: Numbered = TableDefinition::new("50 records meta");
/// Batch, attempt → root that was signed, and checksum.
pub(crate) const SIGNED: Named = TableDefinition::new("51 signed");
/// Batch → `Contents` of one that is not sealed.
pub(crate) const BODIES: Numbered = TableDefinition::new("52 bodies");
/// Log index of the seal → `SealedBatch`.
pub(crate) const SEALED: Numbered = TableDefinition::new("53 sealed");
/// Log index of the seal → what is needed of it without its records.
pub(crate) const SEALED_HEADS: Numbered = TableDefinition::new("54 sealed heads");
/// Batch → log index of its seal.
pub(crate) const SEALED_OF: Numbered = TableDefinition::new("55 sealed of");
/// First sequence number of a sealed batch → log index of its seal, and how many records it has.
pub(crate) const SEQUENCES: Numbered = TableDefinition::new("56 sequences");
/// Batch that is sealed and has rows in `SIGNED` → nothing.
pub(crate) const SPENT: Numbered = TableDefinition::new("58 spent");
/// The start of a record's digest, log index of its batch's seal, its place in the batch → nothing.
pub(crate) const DIGESTS: TableDefinition<'_, (u64, u64, u32), ()> = TableDefinition::new("59 digests");
/// Log index of a seal of whose records not all may be in `DIGESTS` → the starts of their digests, in order.
pub(crate) const UNINDEXED: Numbered = TableDefinition::new("60 not indexed");

/// Makes all tables of a new file.
pub(crate) fn create_all(transaction: &WriteTransaction) -> Result<(), StoreError> {
    for table in [ABOUT, META, HOT, SLOTS, MEMORY, MARK, ENTRIES, ROUNDS, COLUMNS, KEYFRAMES] {
        transaction.open_table(table).map_err(disk)?;
    }
    for table in [VALIDATORS, BATCHES, CONTENTS] {
        transaction.open_table(table).map_err(disk)?;
    }
    for table in [PROFILES, WALLETS, POLICIES, COMPONENTS, UPLOADS, MOVES, MOVES_OF, LINES, LINES_OF, CHANGES] {
        transaction.open_table(table).map_err(disk)?;
    }
    Ok(())
}
