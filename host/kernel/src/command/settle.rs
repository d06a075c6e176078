//! What settles a round: what was seen, and what the policies made of it.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::decide::{Fault, Tariff};
use crate::id::{Digest, LogIndex, RoundId, Term};
use crate::round::{Report, SignedPartial};

/// See [`Command::Settle`](super::Command::Settle).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Settle {
    /// The round: last settled + 1, else the settlement is refused. Same as in the report.
    #[n(0)]
    pub round: RoundId,
    /// The term in which it was observed.
    #[n(1)]
    pub term: Term,
    /// Stamp.
    #[n(2)]
    pub now_ms: u64,
    /// Version of the settings in force for the round, else the settlement is refused.
    #[n(3)]
    pub settings_version: u64,
    /// What was observed, merged and marked.
    #[n(4)]
    pub report: Report,
    /// What it was merged from: evidence for audits; no rule reads it.
    #[n(5)]
    pub partials: Vec<SignedPartial>,
    /// The ban policy's part.
    #[n(6)]
    pub ban: Decided<BanColumns>,
    /// The reward policy's part.
    #[n(7)]
    pub reward: Decided<RewardColumns>,
    /// Name and version of the engine that ran them.
    #[n(8)]
    pub engine: String,
    /// The state columns that the policies saw are those after this entry of the log, which is the settlement of the
    /// round before or a later one.
    #[n(9)]
    pub columns: LogIndex,
}

/// What a slot contributed to a settlement.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Decided<T> {
    /// The policy that was active for the round; `None` for a slot without one. Another one: the settlement is refused.
    #[n(0)]
    pub policy: Option<Digest>,
    /// SHA-256 of what it saw; `None` where it was not called.
    #[n(1)]
    pub input: Option<Digest>,
    /// Its answer.
    #[n(2)]
    pub answer: Answer<T>,
    /// Fuel that it used.
    #[n(3)]
    pub fuel: u64,
}

/// See [`Decided`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer<T> {
    /// It decided.
    #[n(0)]
    Columns(#[n(0)] T),
    /// It failed: the neutral decision stands in its place.
    #[n(1)]
    Fault(#[n(0)] Fault),
    /// It was not called: no policy in the slot, or a suspect round.
    #[n(2)]
    NotCalled,
}

impl<T> Answer<T> {
    /// The fault, where it failed.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            Self::Columns(_) | Self::NotCalled => None,
        }
    }
}

/// A ban policy's answer as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct BanColumns {
    /// Strikes from now on.
    #[n(0)]
    pub strikes: Vec<u16>,
    /// Standing codes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub standing: Vec<u8>,
    /// Rounds until the earliest return.
    #[n(2)]
    pub until: Vec<u32>,
    /// Reason codes.
    #[n(3)]
    pub reasons: Vec<u16>,
    /// Change of memory: XOR against the memory before, deflated (PROTOCOLS 5.7).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub delta: Vec<u8>,
}

/// A reward policy's answer as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct RewardColumns {
    /// Points.
    #[n(0)]
    pub points: Vec<i64>,
    /// Reason codes.
    #[n(1)]
    pub reasons: Vec<u16>,
    /// Change of memory, as in [`BanColumns::delta`].
    #[cbor(n(2), with = "minicbor::bytes")]
    pub delta: Vec<u8>,
    /// Penalty and fees.
    #[n(3)]
    pub tariff: Tariff,
}
