//! The life of a policy: its bytes come through the log in pieces, it is staged, acknowledged, activated at a round,
//! rolled back, or brought back by itself after faults (PROTOCOLS 11).
//!
//! Invariant: which policy decides a round follows from the log alone; a settlement that names another is refused.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::decide::{Description, Slot};
use crate::id::{Digest, MemberNumber, RoundId, Seat};
use crate::limits::BLOCK_MEMBERS;

/// A policy that is staged or in use.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PolicyRow {
    /// The slot.
    #[n(0)]
    pub slot: Slot,
    /// Digest of its component's bytes.
    #[n(1)]
    pub component: Digest,
    /// Its config, canonical JSON.
    #[n(2)]
    pub config: String,
    /// SHA-256 of the config.
    #[n(3)]
    pub config_digest: Digest,
    /// What it says of itself.
    #[n(4)]
    pub description: Description,
    /// Seats that have compiled and self-tested it.
    #[n(5)]
    pub ready: Vec<Seat>,
    /// When it was staged: unreferenced ones are dropped after a while.
    #[n(6)]
    pub staged: RoundId,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct SlotRow {
    /// Decides the round after the last settled one. `None` = the slot is neutral.
    #[n(0)]
    pub active: Option<Digest>,
    /// What was active before: a rollback brings it back.
    #[n(1)]
    pub previous: Option<Digest>,
    /// The last resort of an automatic return.
    #[n(2)]
    pub builtin: Option<Digest>,
    /// Becomes active for that round.
    #[n(3)]
    pub scheduled: Option<Scheduled>,
    /// Rounds of deterministic faults within the window.
    #[n(4)]
    pub faults: Vec<RoundId>,
    /// Wall-clock faults in a row.
    #[n(5)]
    pub deadline_faults: u32,
    /// Moves are being held back by the cap over time.
    #[n(6)]
    pub held: bool,
    /// What the config file last named.
    #[n(7)]
    pub file_said: Option<Digest>,
    /// All faults since founding.
    #[n(8)]
    pub faults_total: u64,
}

/// A policy that will become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Scheduled {
    /// Which; `None` = the slot becomes neutral.
    #[n(0)]
    pub policy: Option<Digest>,
    /// For which round first.
    #[n(1)]
    pub round: RoundId,
    /// The one that it replaces is not kept as previous: it failed.
    #[n(2)]
    pub returned: bool,
}

/// What a policy remembers: one row of fixed size a member, in blocks of 256 members by number. A block that is absent is
/// all zero.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Memory {
    /// Bytes a member.
    pub row_bytes: usize,
    /// Blocks by number / 256.
    pub blocks: BTreeMap<u32, Vec<u8>>,
}

impl Memory {
    /// Empty memory of that row size.
    #[must_use]
    pub const fn new(row_bytes: usize) -> Self {
        Self { row_bytes, blocks: BTreeMap::new() }
    }

    fn place(&self, number: MemberNumber) -> (u32, core::ops::Range<usize>) {
        let start = (number.0 % BLOCK_MEMBERS) as usize * self.row_bytes;
        (number.0 / BLOCK_MEMBERS, start..start + self.row_bytes)
    }

    /// A member's row, appended to `out`; zeros where nothing is stored.
    pub fn read(&self, number: MemberNumber, out: &mut Vec<u8>) {
        let (block, range) = self.place(number);
        match self.blocks.get(&block).and_then(|bytes| bytes.get(range)) {
            Some(row) => out.extend_from_slice(row),
            None => out.resize(out.len() + self.row_bytes, 0),
        }
    }

    /// A member's row to write to; its block comes into being.
    pub fn row_mut(&mut self, number: MemberNumber) -> Option<&mut [u8]> {
        let (block, range) = self.place(number);
        let size = self.row_bytes * BLOCK_MEMBERS as usize;
        let bytes = self.blocks.entry(block).or_default();
        bytes.resize(size, 0);
        bytes.get_mut(range)
    }

    /// Sets a member's row to zero; `true` when it was not.
    pub fn clear(&mut self, number: MemberNumber) -> bool {
        let (block, range) = self.place(number);
        let Some(row) = self.blocks.get_mut(&block).and_then(|bytes| bytes.get_mut(range)) else { return false };
        let was_set = row.iter().any(|byte| *byte != 0);
        row.fill(0);
        was_set
    }
}

/// A slot in memory: its row, and what its policies remember.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SlotState {
    /// What is stored of it besides memory.
    pub row: SlotRow,
    /// Memory of the active policy.
    pub memory: Memory,
    /// Memory kept with the previous policy, where its schema differs.
    pub saved: Memory,
}
