//! What a policy is to the kernel: a pure function from one round's columns to one round's decisions.
//!
//! The population is the queue in ascending order of key, and every column has one entry a member in that order. The
//! WebAssembly behind [`Policy`] lives in the room `policy`; the kernel also takes native ones, which is how rules are
//! tested without an engine.
//!
//! Invariant: nothing here decides. Bounds on what a policy may decide are in `guardrails`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};

use crate::records::review::Review;
use crate::settings::Settings;

mod call;
mod check;
mod fault;

pub use call::{Call, Column, Members, RoundInput, flag, presence, sample};
pub use check::{check_judgement, check_reward};
pub(crate) use check::{lengths, reasons, standings};
pub use fault::{Fault, FaultKind};

/// Which rule a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Slot {
    /// Points for a round, and the tariff.
    #[n(0)]
    Reward,
    /// Standing: good, warned, suspended, banned.
    #[n(1)]
    Ban,
    /// Records: sign or refuse.
    #[n(2)]
    Signing,
}

impl Slot {
    /// All slots, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Reward, Self::Ban, Self::Signing];
    /// The slots that decide rounds: their policies run at settlements, on supers, with a memory of each member. The other
    /// one's runs on validators, when records come.
    pub const OF_ROUNDS: [Self; 2] = [Self::Reward, Self::Ban];

    /// The word in commands, config and routes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Ban => "ban",
            Self::Signing => "signing",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::str::FromStr for Slot {
    type Err = UnknownSlot;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|slot| slot.name() == text).ok_or(UnknownSlot)
    }
}

/// The text names no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSlot;

impl fmt::Display for UnknownSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the slots are `reward`, `ban` and `signing`")
    }
}

impl core::error::Error for UnknownSlot {}

/// What a policy says of itself when it is loaded with a config. Bounds are checked at admission.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Description {
    /// Its name, at most 64 printable characters.
    #[n(0)]
    pub name: String,
    /// Its version, at most 32 printable characters.
    #[n(1)]
    pub version: String,
    /// Bytes that it remembers of each member.
    #[n(2)]
    pub memory_bytes: u32,
    /// Names the meaning of those bytes: memory survives a swap between policies of the same schema and size.
    #[n(3)]
    pub memory_schema: String,
    /// Texts of its reason codes; code *i* is entry *i* - 1, code 0 is "none".
    #[n(4)]
    pub reasons: Vec<String>,
    /// Names of extra columns that it asks for.
    #[n(5)]
    pub extra: Vec<String>,
}

/// What an over-claim and a record cost: returned by the reward policy with each settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tariff {
    /// Over-claim penalty, basis points of the excess, up to 10,000.
    #[n(0)]
    pub overclaim_bp: u32,
    /// Over-claim penalty, at least this many points.
    #[n(1)]
    pub overclaim_min: u32,
    /// Points a record.
    #[n(2)]
    pub record_fee: u32,
    /// Points a KiB of record body.
    #[n(3)]
    pub record_fee_kib: u32,
}

impl Default for Tariff {
    /// PROTOCOLS 9.6: what `reward-flat` returns.
    fn default() -> Self {
        Self { overclaim_bp: 1_000, overclaim_min: 1, record_fee: 0, record_fee_kib: 0 }
    }
}

/// What a reward policy returns. Columns in the order of the input.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reward {
    /// Points for each member; below zero takes from what it earned.
    pub points: Vec<i64>,
    /// Reason codes.
    pub reasons: Vec<u16>,
    /// Memory for the next round.
    pub memory: Vec<u8>,
    /// Penalty and fees from now on.
    pub tariff: Tariff,
}

/// What a ban policy returns. Columns in the order of the input.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Strikes from now on.
    pub strikes: Vec<u16>,
    /// Standing codes 0 good, 1 warned, 2 suspended, 3 banned. Probation (4) is the host's alone.
    pub standing: Vec<u8>,
    /// Rounds from now until the earliest return; 0 = none.
    pub until: Vec<u32>,
    /// Reason codes.
    pub reasons: Vec<u16>,
    /// Memory for the next round.
    pub memory: Vec<u8>,
}

/// One line that a policy wrote to `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error.
    pub level: u8,
    /// Escaped and bounded.
    pub message: String,
}

/// What one evaluation gave and cost.
#[derive(Clone, Debug)]
pub struct Run<T> {
    /// The decision, or the fault that stands in its place.
    pub result: Result<T, Fault>,
    /// Fuel used.
    pub fuel: u64,
    /// Lines that it logged.
    pub log: Vec<LogLine>,
}

impl<T> Run<T> {
    /// A run that cost nothing, as native policies give.
    #[must_use]
    pub const fn native(result: Result<T, Fault>) -> Self {
        Self { result, fuel: 0, log: Vec::new() }
    }
}

/// A rule that is ready to run. An implementation is pure: the same call gives the same answer and changes nothing.
pub trait Policy: Send + Sync {
    /// What it said of itself for its config.
    fn description(&self) -> &Description;

    /// Decides points. Only of a reward policy.
    fn reward(&self, call: &Call<'_>) -> Run<Reward>;

    /// Judges standing. Only of a ban policy.
    fn judge(&self, call: &Call<'_>) -> Run<Judgement>;

    /// Reviews records: a code for each one, 0 = sign. Only of a signing policy.
    fn review(&self, review: &Review<'_>) -> Run<Vec<u16>> {
        let _ = review;
        Run::native(Err(Fault::new(FaultKind::NotPrepared, "this policy fills another slot")))
    }
}

/// Bounds on one evaluation, already scaled to a population (PROTOCOLS 5.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Fuel.
    pub fuel: u64,
    /// Guest memory, bytes.
    pub memory_bytes: u64,
    /// Data that may cross out of the component, bytes.
    pub output_bytes: u64,
    /// Wall clock, ms: the net, not the limit of record.
    pub deadline_ms: u64,
    /// `log` text, bytes a round.
    pub log_bytes: u64,
}

/// What [`PolicyLimits`] are computed from: cluster settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LimitSettings {
    /// Fuel that each call has.
    #[n(0)]
    pub fuel_base: u64,
    /// And for each member.
    #[n(1)]
    pub fuel_member: u64,
    /// Guest memory that each call has, bytes.
    #[n(2)]
    pub memory_base_bytes: u64,
    /// And for each member, besides three times its `memory-bytes`.
    #[n(3)]
    pub memory_member_bytes: u64,
    /// Data out beyond the columns' own size, bytes.
    #[n(4)]
    pub output_base_bytes: u64,
    /// Wall clock, ms.
    #[n(5)]
    pub deadline_ms: u64,
    /// `log` text a round, bytes.
    #[n(6)]
    pub log_bytes: u64,
    /// Largest `memory-bytes` of a policy.
    #[n(7)]
    pub state_bytes: u32,
}

impl Default for LimitSettings {
    /// Those of a new cluster.
    fn default() -> Self {
        Settings::default().policy_limits()
    }
}

impl LimitSettings {
    /// The limits of one call over `columns_bytes` of columns for `population` members with `memory_bytes` each.
    #[must_use]
    pub const fn scaled(&self, population: u64, memory_bytes: u64, columns_bytes: u64) -> PolicyLimits {
        PolicyLimits {
            fuel: self.fuel_base.saturating_add(self.fuel_member.saturating_mul(population)),
            memory_bytes: self
                .memory_base_bytes
                .saturating_add(self.memory_member_bytes.saturating_add(3 * memory_bytes).saturating_mul(population)),
            output_bytes: self
                .output_base_bytes
                .saturating_add(columns_bytes)
                .saturating_add(memory_bytes.saturating_mul(population)),
            deadline_ms: self.deadline_ms,
            log_bytes: self.log_bytes,
        }
    }
}
