//! The life of a policy: its bytes come through the log in pieces, it is staged, acknowledged, activated at a round,
//! rolled back, or brought back by itself after faults (PROTOCOLS 11).
//!
//! Invariant: which policy decides a round follows from the log alone; a settlement that names another is refused.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::Operator;
use crate::decide::{Description, Fault, FaultKind, Slot};
use crate::id::{Digest, LogIndex, MemberNumber, NodeId, RoundId, Seat};
use crate::limits::{BLOCK_MEMBERS, DEADLINE_FAULTS, FAULT_WINDOW_ROUNDS, NOTICE_ROUNDS};
use crate::outcome::{Change, Notice, Reject, Reply, Write};
use crate::state::{Effects, State};

/// How the change log and events name an activation without notice.
pub(crate) const EMERGENCY: &str = "emergency: without the notice that the settings ask for";

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
    /// When it was staged.
    #[n(6)]
    pub staged: RoundId,
    /// When it was staged, or when the last slot let go of it: what nothing refers to is dropped after a while.
    #[n(7)]
    #[cbor(default)]
    pub unused_since: RoundId,
    /// Seats that cannot run it, and why, in order of seat.
    #[n(8)]
    #[cbor(default)]
    pub unready: Vec<(Seat, String)>,
    /// Validators that have compiled and self-tested it, in order of key; of a signing policy only.
    #[n(9)]
    #[cbor(default)]
    pub able: Vec<NodeId>,
    /// Validators that cannot run it, and why, in order of key.
    #[n(10)]
    #[cbor(default)]
    pub unable: Vec<(NodeId, String)>,
}

impl PolicyRow {
    /// Whether anybody said whether it can run it.
    pub(crate) const fn is_acknowledged(&self) -> bool {
        !(self.ready.is_empty() && self.unready.is_empty() && self.able.is_empty() && self.unable.is_empty())
    }
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
    /// Moves up to this round do not count towards the cap over time: an operator accepted them.
    #[n(9)]
    pub moves_accepted: RoundId,
    /// Runs beside the active one, without effect.
    #[n(10)]
    #[cbor(default)]
    pub shadow: Option<Shadowed>,
}

/// A policy that runs beside the active one. What it would have done is no part of the state: each super works it out for
/// itself, from this entry of the log on ([`shadow`](crate::shadow)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Shadowed {
    /// Which.
    #[n(0)]
    pub policy: Digest,
    /// The entry that began it.
    #[n(1)]
    pub since: LogIndex,
    /// The round that was settled last then.
    #[n(2)]
    pub round: RoundId,
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
    /// It was activated without the notice that the settings ask for.
    #[n(3)]
    #[cbor(default)]
    pub emergency: bool,
}

impl Scheduled {
    /// So that it decides from `round` on, as an operator wants.
    #[must_use]
    pub const fn from(round: RoundId, policy: Digest) -> Self {
        Self { policy: Some(policy), round, returned: false, emergency: false }
    }
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

    /// A block as it is to be stored; one that is all zero is dropped, so that who comes and goes leaves nothing behind.
    pub(crate) fn stored(&mut self, block: u32) -> Option<Vec<u8>> {
        if self.blocks.get(&block).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
            self.blocks.remove(&block);
        }
        self.blocks.get(&block).cloned()
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

impl State {
    /// The policy that decides the round after the last settled one.
    #[must_use]
    pub fn active(&self, slot: Slot) -> Option<(Digest, &PolicyRow)> {
        let digest = self.slot(slot).row.active?;
        self.policies.get(&digest).map(|row| (digest, row))
    }

    /// Whether something in the slot refers to a policy.
    pub(crate) fn refers(&self, slot: Slot, policy: &Digest) -> bool {
        let row = &self.slot(slot).row;
        let judged = || slot == Slot::Signing && self.known.pending.iter().any(|batch| self.judges(*batch, policy));
        row.policies().any(|used| used == *policy) || judged()
    }

    /// Whether a batch is judged by the policy.
    fn judges(&self, batch: u64, policy: &Digest) -> bool {
        self.batches.get(&batch).is_some_and(|batch| batch.policy == *policy)
    }

    /// Members whose memory would start empty if `policy` became active in the slot; 0 = memory is kept.
    #[must_use]
    pub fn memory_empty(&self, slot: Slot, policy: Digest) -> u64 {
        let kept = match (self.active(slot), self.policies.get(&policy)) {
            (Some((_, old)), Some(new)) => same_schema(&old.description, &new.description),
            _ => false,
        };
        if kept || self.slot(slot).memory.blocks.is_empty() { 0 } else { self.members.len() as u64 }
    }

    /// The earliest round from which an activation counts, from now.
    fn notice(&self, slot: Slot, emergency: bool) -> Result<RoundId, Reject> {
        let settings = &self.meta.settings;
        if emergency && settings.notice_always == 1 {
            let what =
                "emergency: the setting guardrails.notice_always allows none; leave it out, or change the setting";
            return Err(Reject::Malformed { what: what.into() });
        }
        // Where nothing decides yet, nobody is taken by surprise.
        let asked = if emergency || self.slot(slot).row.active.is_none() { 0 } else { settings.notice_rounds };
        Ok(self.meta.settled.plus(asked.max(NOTICE_ROUNDS)))
    }

    pub(crate) fn activate(
        &mut self,
        slot: Slot,
        policy: Digest,
        (round, emergency): (Option<RoundId>, bool),
        by: Operator,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let row = self.policies.get(&policy).filter(|row| row.slot == slot).ok_or(Reject::UnknownPolicy)?;
        let seats = &self.meta.seats;
        let missing: Vec<Seat> = seats.iter().map(|s| s.seat).filter(|seat| !row.ready.contains(seat)).collect();
        if (seats.len() - missing.len()) * 2 <= seats.len() {
            return Err(Reject::NotReady { missing });
        }
        let able = row.able.iter().filter(|node| self.validators.get(node).is_some()).count();
        if slot == Slot::Signing && able < self.quorum() {
            return Err(Reject::ValidatorsNotReady { ready: able as u32, needed: self.quorum() as u32 });
        }
        // An empty slot before the first settlement: no settlement of another policy can be in flight, and the first round
        // is to be decided by the founder's rules.
        let next = self.meta.settled.next();
        let founding = next == RoundId(1) && self.slot(slot).row.active.is_none();
        let earliest = self.notice(slot, emergency)?;
        let earliest = if founding { next } else { earliest };
        let round = round.unwrap_or(earliest);
        if round < earliest {
            return Err(Reject::TooEarly { earliest });
        }
        // In its place the policy that failed would go on until then.
        if let Some(back) = self.slot(slot).row.scheduled.filter(|s| s.returned && s.round < round) {
            let what = alloc::format!("round: the automatic return to {} comes first", name_of(back.policy));
            return Err(Reject::OutOfBounds { what, min: earliest.0, max: back.round.0 });
        }
        let memory_empty = self.memory_empty(slot, policy);
        self.schedule(slot, Scheduled { emergency, ..Scheduled::from(round, policy) }, Some(by), fx);
        if founding {
            // Where it waits for a later round, nothing happens yet.
            self.switch(slot, next, fx);
        }
        Ok(Reply::From { round, memory_empty })
    }

    /// Brings the previous policy back, in place of whatever is scheduled: whoever rolls back wants the active one gone.
    /// Where there is none, an activation that is to come is taken back.
    pub(crate) fn rollback(&mut self, slot: Slot, by: Operator, fx: &mut Effects) -> Result<Reply, Reject> {
        let row = &mut self.slot_mut(slot).row;
        let (scheduled, active, previous) = (row.scheduled, row.active, row.previous);
        let Some(previous) = previous else {
            let scheduled = row.scheduled.take().ok_or(Reject::NothingToRollBack)?;
            fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
            self.cancelled(slot, scheduled, active, Some(by), fx);
            self.note_unused(slot, &SlotRow { scheduled: Some(scheduled), ..SlotRow::default() }, fx);
            return Ok(Reply::From { round: self.meta.settled.next(), memory_empty: 0 });
        };
        let round = self.meta.settled.plus(NOTICE_ROUNDS);
        // It is on its way there already, by itself or because it was asked for before.
        if let Some(back) = scheduled.filter(|s| s.returned || s.policy == Some(previous) && s.round <= round) {
            return Ok(Reply::From { round: back.round, memory_empty: 0 });
        }
        let memory_empty = if self.slot(slot).saved.blocks.is_empty() { self.memory_empty(slot, previous) } else { 0 };
        self.schedule(slot, Scheduled::from(round, previous), Some(by), fx);
        Ok(Reply::From { round, memory_empty })
    }

    /// Says in the change log that an activation that was to come does not.
    fn cancelled(&self, slot: Slot, gone: Scheduled, to: Option<Digest>, by: Option<Operator>, fx: &mut Effects) {
        fx.change(Change {
            now_ms: self.meta.stamp_ms,
            by,
            what: alloc::format!("policy {slot} from round {} cancelled", gone.round),
            from: name_of(gone.policy),
            to: name_of(to),
            ..Change::default()
        });
    }

    fn schedule(&mut self, slot: Slot, scheduled: Scheduled, by: Option<Operator>, fx: &mut Effects) {
        let row = &mut self.slot_mut(slot).row;
        let gone = row.scheduled.replace(scheduled);
        fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
        if let Some(gone) = gone.filter(|gone| *gone != scheduled) {
            self.cancelled(slot, gone, scheduled.policy, by, fx);
            self.note_unused(slot, &SlotRow { scheduled: Some(gone), ..SlotRow::default() }, fx);
        }
        fx.notices.push(Notice::Policy {
            slot,
            policy: scheduled.policy,
            what: if scheduled.returned { "returned" } else { "scheduled" },
            round: scheduled.round,
            detail: if scheduled.emergency { EMERGENCY.into() } else { String::new() },
        });
    }

    /// Counts what became of the slot in round `round`, and brings the previous policy back after too many deterministic
    /// faults: else the builtin, else the slot stays neutral.
    pub(crate) fn count_fault(&mut self, slot: Slot, round: RoundId, fault: Option<&Fault>, fx: &mut Effects) {
        let bound = self.meta.settings.return_faults as usize;
        let row = &mut self.slot_mut(slot).row;
        let before = row.clone();
        row.faults.retain(|at| round.since(*at) < FAULT_WINDOW_ROUNDS);
        let Some(fault) = fault else {
            row.deadline_faults = 0;
            if *row != before {
                fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
            }
            return;
        };
        row.faults_total = row.faults_total.saturating_add(1);
        let mut detail = fault.to_string();
        if fault.kind.is_deterministic() {
            row.faults.push(round);
            row.deadline_faults = 0;
        } else if fault.kind == FaultKind::Deadline {
            row.deadline_faults = row.deadline_faults.saturating_add(1);
            if row.deadline_faults >= DEADLINE_FAULTS {
                detail = alloc::format!("{} times in a row: {detail}", row.deadline_faults);
            }
        }
        // What an operator has scheduled to replace it in time, and a return that is on its way, stand.
        let replaced = row.scheduled.is_some_and(|s| s.returned || s.round <= round.plus(NOTICE_ROUNDS));
        let returns = row.faults.len() >= bound && !replaced;
        if returns {
            row.faults.clear();
        }
        let other = |digest: &Digest| Some(*digest) != row.active;
        let target = row.previous.filter(other).or(row.builtin.filter(other));
        let policy = row.active;
        fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
        fx.notices.push(Notice::Policy { slot, policy, what: "fault", round, detail: detail.clone() });
        if returns {
            let from = round.plus(NOTICE_ROUNDS);
            fx.change(Change {
                now_ms: self.meta.stamp_ms,
                what: alloc::format!("policy {slot} returned from round {from}"),
                from: name_of(policy),
                to: name_of(target),
                reason: detail,
                ..Change::default()
            });
            self.schedule(slot, Scheduled { policy: target, round: from, returned: true, emergency: false }, None, fx);
        }
    }

    /// Puts what is scheduled for the next round in force. Called at the end of a settlement.
    pub(crate) fn switch(&mut self, slot: Slot, next: RoundId, fx: &mut Effects) {
        let Some(scheduled) = self.slot(slot).row.scheduled.filter(|s| s.round <= next) else { return };
        let describe =
            |digest: Option<Digest>| digest.and_then(|d| self.policies.get(&d)).map(|r| r.description.clone());
        let (old, new) = (describe(self.slot(slot).row.active), describe(scheduled.policy));
        let kept = matches!((&old, &new), (Some(old), Some(new)) if same_schema(old, new));
        let state = self.slot_mut(slot);
        let row = state.row.clone();
        let before = (state.memory.clone(), state.saved.clone());
        let from = state.row.active;
        if !kept && from != scheduled.policy {
            let bytes = new.map_or(0, |new| new.memory_bytes as usize);
            let comes_back = scheduled.policy.is_some() && state.row.previous == scheduled.policy;
            let next = if comes_back && state.saved.row_bytes == bytes {
                core::mem::take(&mut state.saved)
            } else {
                Memory::new(bytes)
            };
            state.saved = core::mem::replace(&mut state.memory, next);
        } else if from != scheduled.policy {
            state.saved = Memory::default();
        }
        if scheduled.returned {
            state.saved = Memory::default();
            state.row.previous = None;
        } else if from != scheduled.policy {
            state.row.previous = from;
        }
        state.row.active = scheduled.policy;
        state.row.scheduled = None;
        // What decides needs no shadow.
        state.row.shadow.take_if(|shadow| Some(shadow.policy) == scheduled.policy);
        state.row.faults.clear();
        state.row.deadline_faults = 0;
        state.row.held = false;
        // An empty saved memory has no row size: nothing stored says one.
        if state.saved.blocks.is_empty() {
            state.saved = Memory::default();
        }
        for (saved, old, new) in [(false, &before.0, &state.memory), (true, &before.1, &state.saved)] {
            let gone = old.blocks.keys().filter(|block| !new.blocks.contains_key(block)).map(|block| (*block, None));
            let there = new.blocks.iter().filter(|(block, bytes)| old.blocks.get(block) != Some(bytes));
            let there = there.map(|(block, bytes)| (*block, Some(bytes.clone())));
            fx.writes.extend(gone.chain(there).map(|(block, bytes)| Write::Memory { slot, saved, block, bytes }));
        }
        fx.writes.push(Write::Slot(slot, Box::new(state.row.clone())));
        self.note_unused(slot, &row, fx);
        let what = if scheduled.policy.is_some() { "active" } else { "neutral" };
        fx.notices.push(Notice::Policy { slot, policy: scheduled.policy, what, round: next, detail: String::new() });
    }
}

impl SlotRow {
    /// All policies that the slot refers to; one may come twice.
    pub(crate) fn policies(&self) -> impl Iterator<Item = Digest> {
        let (scheduled, shadow) = (self.scheduled.and_then(|s| s.policy), self.shadow.map(|s| s.policy));
        [self.active, self.previous, self.builtin, scheduled, shadow].into_iter().flatten()
    }
}

pub(crate) fn same_schema(a: &Description, b: &Description) -> bool {
    a.memory_bytes == b.memory_bytes && a.memory_schema == b.memory_schema
}

pub(crate) fn name_of(policy: Option<Digest>) -> String {
    policy.map_or_else(|| "neutral".to_string(), |digest| digest.to_string())
}

/// The change of a memory as it travels: XOR against the memory before, deflated; empty when nothing changed.
#[must_use]
pub fn delta(before: &[u8], after: &[u8]) -> Vec<u8> {
    if before == after {
        return Vec::new();
    }
    let xor: Vec<u8> = before.iter().zip(after).map(|(a, b)| a ^ b).collect();
    // Nearly all of it is zeros, which the fastest level packs as well as the others and ten times as fast.
    miniz_oxide::deflate::compress_to_vec(&xor, 1)
}

/// The XOR of a delta, exactly `len` bytes; `None` when it is malformed or inflates to another length.
#[must_use]
pub fn inflate_delta(delta: &[u8], len: usize) -> Option<Vec<u8>> {
    if delta.is_empty() {
        return Some(alloc::vec![0; len]);
    }
    miniz_oxide::inflate::decompress_to_vec_with_limit(delta, len).ok().filter(|xor| xor.len() == len)
}
