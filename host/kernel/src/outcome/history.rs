//! Rows of history: what happened, for who asks later.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::Operator;
use crate::decide::{Fault, Slot};
use crate::id::{Digest, LogIndex, MemberNumber, NodeId, RoundId, Term};
use crate::ledger::Account;
use crate::round::Marks;
use crate::standing::Standing;
use crate::units::Points;

/// A settled round as history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RoundRecord {
    /// Which.
    #[n(0)]
    pub round: RoundId,
    /// In which term it was observed.
    #[n(1)]
    pub term: Term,
    /// Stamp of the settlement.
    #[n(2)]
    pub now_ms: u64,
    /// Its place in the log.
    #[n(3)]
    pub index: LogIndex,
    /// SHA-256 of the settlement's command: the seed of the next round.
    #[n(4)]
    pub digest: Digest,
    /// The guard's verdict.
    #[n(5)]
    pub marks: Marks,
    /// Members up, down, unknown.
    #[n(6)]
    pub counts: (u32, u32, u32),
    /// Each slot's part, in order of slot.
    #[n(7)]
    pub slots: Vec<SlotRecord>,
    /// Version of the settings in force.
    #[n(8)]
    pub settings_version: u64,
    /// Points issued.
    #[n(9)]
    pub issued: Points,
    /// Moves to a worse or better standing.
    #[n(10)]
    pub moves: u32,
    /// New bans that the cap of a round put off.
    #[n(11)]
    pub deferred: u32,
    /// Moves that the cap over time held back.
    #[n(12)]
    pub held: u32,
    /// Decisions cut to a bound.
    #[n(13)]
    pub clamped: u32,
    /// Members of the round, ascending.
    #[n(14)]
    pub members: Vec<MemberNumber>,
    /// [`Presence`](crate::round::Presence) codes, in the order of `members`.
    #[cbor(n(15), with = "minicbor::bytes")]
    pub presence: Vec<u8>,
    /// Points that each one got or lost, in the order of `members`.
    #[n(16)]
    pub points: Vec<i64>,
    /// Reason codes of the reward policy, in the order of `members`; empty when there was no decision.
    #[n(17)]
    pub reasons: Vec<u16>,
}

/// A slot's part in a settled round.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SlotRecord {
    /// The slot.
    #[n(0)]
    pub slot: Slot,
    /// The policy that decided.
    #[n(1)]
    pub policy: Option<Digest>,
    /// What it saw.
    #[n(2)]
    pub input: Option<Digest>,
    /// It failed.
    #[n(3)]
    pub fault: Option<Fault>,
    /// It was called.
    #[n(4)]
    pub called: bool,
    /// Fuel.
    #[n(5)]
    pub fuel: u64,
}

/// Who changed a member's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Author {
    /// The ban policy of this digest.
    #[n(0)]
    Policy(#[n(0)] Digest),
    /// The host: a ban that ended, a probation that ended.
    #[n(1)]
    Host,
    /// An operator.
    #[n(2)]
    Operator(#[n(0)] Operator),
}

/// A change of standing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Move {
    /// Log index: with the node it names the move.
    #[n(0)]
    pub index: LogIndex,
    /// Who moved.
    #[n(1)]
    pub node: NodeId,
    /// The round that was settled last.
    #[n(2)]
    pub round: RoundId,
    /// Stamp.
    #[n(3)]
    pub now_ms: u64,
    /// Before.
    #[n(4)]
    pub from: Standing,
    /// After.
    #[n(5)]
    pub to: Standing,
    /// Strikes after it.
    #[n(6)]
    pub strikes: u16,
    /// Last round of a ban, earliest return of a suspension; `None` where there is none.
    #[n(7)]
    pub until: Option<RoundId>,
    /// Why, as text.
    #[n(8)]
    pub reason: String,
    /// By whom.
    #[n(9)]
    pub by: Author,
}

/// What a ledger line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// A round's pay (kept in the round's record).
    #[n(0)]
    Reward,
    /// Points taken by the reward policy (kept in the round's record).
    #[n(1)]
    Deduction,
    /// A claim.
    #[n(2)]
    Claim,
    /// An over-claim's penalty.
    #[n(3)]
    Penalty,
    /// A compensation.
    #[n(4)]
    Compensation,
    /// The fee of a new wallet.
    #[n(5)]
    WalletFee,
    /// A transfer between wallets.
    #[n(6)]
    Transfer,
    /// What a record cost.
    #[n(7)]
    RecordFee,
}

impl Kind {
    /// The word in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Deduction => "deduction",
            Self::Claim => "claim",
            Self::Penalty => "penalty",
            Self::Compensation => "compensation",
            Self::WalletFee => "wallet_fee",
            Self::Transfer => "transfer",
            Self::RecordFee => "record_fee",
        }
    }
}

/// One movement of points.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Line {
    /// Its place in the log.
    #[n(0)]
    pub index: LogIndex,
    /// Its place among the lines of that entry.
    #[n(1)]
    pub part: u32,
    /// The round that was settled last, or that a compensation makes good.
    #[n(2)]
    pub round: RoundId,
    /// What for.
    #[n(3)]
    pub kind: Kind,
    /// From.
    #[n(4)]
    pub from: Account,
    /// To.
    #[n(5)]
    pub to: Account,
    /// How much, above zero.
    #[n(6)]
    pub points: Points,
    /// The policy behind it, where there is one.
    #[n(7)]
    pub policy: Option<Digest>,
    /// Why; may be empty.
    #[n(8)]
    pub reason: String,
    /// Stamp.
    #[n(9)]
    pub now_ms: u64,
}

/// A line of the change log: who changed what, when, from what to what, and why.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Change {
    /// Its place in the log.
    #[n(0)]
    pub index: LogIndex,
    /// Its place among the lines of that entry.
    #[n(1)]
    pub part: u32,
    /// Stamp.
    #[n(2)]
    pub now_ms: u64,
    /// By whom; `None` = the cluster itself (automatic return).
    #[n(3)]
    pub by: Option<Operator>,
    /// What, such as `setting round.interval_ms` or `policy ban`.
    #[n(4)]
    pub what: String,
    /// Before.
    #[n(5)]
    pub from: String,
    /// After.
    #[n(6)]
    pub to: String,
    /// Why.
    #[n(7)]
    pub reason: String,
}
