//! What comes out of `apply`: a reply for whoever asked, rows for the store, notices for whoever watches.
//!
//! Invariant: `writes` are complete. Loaded into an empty state they give the state that `apply` left, which a test
//! checks after each of many random commands.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::{Amount, Operator};
use crate::decide::{Fault, Slot};
use crate::id::{Digest, LogIndex, MemberNumber, NodeId, RoundId, Seat, Term};
use crate::ledger::{Account, Wallet};
use crate::members::{Hot, Profile};
use crate::policies::{PolicyRow, SlotRow};
use crate::records::order::{Batch, Contents, Ordered};
use crate::records::validators::Validators;
use crate::round::{Marks, Presence};
use crate::standing::Standing;
use crate::state::Meta;
use crate::units::Points;

/// All that one command does.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// For whoever proposed it.
    pub reply: Result<Reply, Reject>,
    /// Rows, in order; to be stored in one transaction with the applied index.
    pub writes: Vec<Write>,
    /// For watchers; losing one is harmless.
    pub notices: Vec<Notice>,
}

/// A command that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// Done, nothing more to say.
    #[n(0)]
    Done,
    /// The member will be, or is, in the queue.
    #[n(1)]
    Joined {
        /// It is a new member.
        #[n(0)]
        new: bool,
    },
    /// The round is settled.
    #[n(2)]
    Settled {
        /// Which.
        #[n(0)]
        round: RoundId,
    },
    /// The claim was paid.
    #[n(3)]
    Claimed(#[n(0)] Claimed),
    /// It counts from this round.
    #[n(4)]
    From {
        /// The round.
        #[n(0)]
        round: RoundId,
        /// Members whose memory starts empty, or comes back as it was, because the schema differs; 0 = memory is kept.
        #[n(1)]
        memory_empty: u64,
    },
    /// So many members or lines were changed.
    #[n(5)]
    Changed {
        /// How many.
        #[n(0)]
        count: u64,
    },
    /// A piece was taken; the next one begins there.
    #[n(6)]
    Received {
        /// Bytes so far.
        #[n(0)]
        bytes: u32,
    },
    /// The candidate is staged.
    #[n(7)]
    Staged {
        /// Its digest.
        #[n(0)]
        policy: Digest,
        /// Members whose memory would start empty on activation; 0 = memory is kept.
        #[n(1)]
        memory_empty: u64,
    },
    /// What became of each record, in order.
    #[n(8)]
    Ordered(#[n(0)] Vec<Ordered>),
    /// The transfer was done.
    #[n(9)]
    Transferred(#[n(0)] Transferred),
}

/// A transfer that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transferred {
    /// What left the wallet.
    #[n(0)]
    pub amount: Points,
    /// What the other one got: less by the fee of a new wallet.
    #[n(1)]
    pub credited: Points,
    /// What is left in the wallet.
    #[n(2)]
    pub wallet: Points,
}

/// A paid claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claimed {
    /// What was asked.
    #[n(0)]
    pub amount: Amount,
    /// What the wallet got.
    #[n(1)]
    pub paid: Points,
    /// Earned points left.
    #[n(2)]
    pub earned: Points,
    /// The wallet's balance after it.
    #[n(3)]
    pub wallet: Points,
}

/// Why a command was refused. A refusal is a reply: it is the same on every replica and changes nothing, except that an
/// over-claim costs its penalty.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reject {
    /// The cluster exists already.
    #[n(0)]
    AlreadyFounded,
    /// Nothing can happen before the cluster is founded.
    #[n(1)]
    NotFounded,
    /// The term is not above the last one.
    #[n(2)]
    StaleTerm {
        /// The term in force.
        #[n(0)]
        term: Term,
    },
    /// The round is not the next one, or a digest or settings version is not the one in force for it.
    #[n(3)]
    StaleSettlement {
        /// The last settled round.
        #[n(0)]
        settled: RoundId,
        /// What does not fit.
        #[n(1)]
        why: String,
    },
    /// No such member.
    #[n(4)]
    UnknownNode,
    /// A super cannot be a member of the queue.
    #[n(5)]
    WrongRole,
    /// The member is banned.
    #[n(6)]
    Banned {
        /// Last round of the ban.
        #[n(0)]
        until: RoundId,
        /// Why.
        #[n(1)]
        reason: String,
    },
    /// The protocol version is not accepted.
    #[n(7)]
    OutdatedVersion {
        /// What is.
        #[n(0)]
        accept: String,
    },
    /// The queue, the table of members or the network group is full.
    #[n(8)]
    Full {
        /// What is full, and its bound.
        #[n(0)]
        what: String,
    },
    /// Too many joins, or claims of one key, in this round: try again after it.
    #[n(9)]
    SlowDown,
    /// A name, address or reason is too long or has characters that are not allowed.
    #[n(10)]
    Malformed {
        /// What and how to mend it.
        #[n(0)]
        what: String,
    },
    /// More was claimed than was earned. Nothing is paid.
    #[n(11)]
    Overclaim {
        /// What it cost.
        #[n(0)]
        penalty: Points,
        /// Earned points left.
        #[n(1)]
        earned: Points,
    },
    /// The sequence is not above the last one used.
    #[n(12)]
    StaleSequence {
        /// The lowest one that is free.
        #[n(0)]
        next: u64,
    },
    /// The signed payload has expired.
    #[n(13)]
    Expired {
        /// The cluster's time, ms since 1970.
        #[n(0)]
        now_ms: u64,
    },
    /// The signed payload expires too far ahead.
    #[n(14)]
    ExpiresTooLate {
        /// The latest expiry that is taken now, ms since 1970.
        #[n(0)]
        latest_ms: u64,
    },
    /// Nothing is earned, or the amount does not cover the fee of a new wallet.
    #[n(15)]
    NothingToPay {
        /// The least amount that can be paid.
        #[n(0)]
        least: Points,
        /// Earned points.
        #[n(1)]
        earned: Points,
    },
    /// A setting was not taken; none of the change was.
    #[n(16)]
    Setting {
        /// Which.
        #[n(0)]
        key: String,
        /// Why not.
        #[n(1)]
        error: crate::settings::SettingError,
    },
    /// No such policy in the slot.
    #[n(17)]
    UnknownPolicy,
    /// The slot has no previous policy.
    #[n(18)]
    NothingToRollBack,
    /// A majority of the supers has not acknowledged the policy.
    #[n(20)]
    NotReady {
        /// Seats that are missing.
        #[n(0)]
        missing: Vec<Seat>,
    },
    /// The round is too early.
    #[n(21)]
    TooEarly {
        /// The earliest one.
        #[n(0)]
        earliest: RoundId,
    },
    /// A piece does not fit: out of order, too big, or the whole does not have its digest.
    #[n(22)]
    BadChunk {
        /// Bytes received so far; send from there.
        #[n(0)]
        received: u32,
        /// What does not fit.
        #[n(1)]
        why: String,
    },
    /// No round is settled yet.
    #[n(23)]
    NothingSettled,
    /// A length of time or amount is out of its bounds.
    #[n(24)]
    OutOfBounds {
        /// Which.
        #[n(0)]
        what: String,
        /// Smallest.
        #[n(1)]
        min: u64,
        /// Largest.
        #[n(2)]
        max: u64,
    },
    /// What the decision is about is no longer as it was read. Nothing was done.
    #[n(25)]
    Changed {
        /// Its tag now.
        #[n(0)]
        tag: Digest,
    },
    /// The slot `signing` has no policy: nobody could judge a record.
    #[n(26)]
    NoPolicy,
    /// There are no validators: nobody could sign a record.
    #[n(27)]
    NoValidators,
    /// Records wait for signatures, and there is no room for more.
    #[n(28)]
    RecordsFull {
        /// What is full.
        #[n(0)]
        what: String,
    },
    /// The wallet does not hold enough.
    #[n(29)]
    Insufficient {
        /// What it takes.
        #[n(0)]
        needed: Points,
        /// What it holds.
        #[n(1)]
        balance: Points,
    },
    /// No such batch, or it is sealed.
    #[n(30)]
    UnknownBatch,
    /// Another attempt at the batch is under way.
    #[n(31)]
    StaleAttempt {
        /// Which.
        #[n(0)]
        attempt: u32,
    },
    /// The set of validators is another one by now.
    #[n(32)]
    StaleSet {
        /// Its version.
        #[n(0)]
        version: u64,
    },
    /// Signatures do not prove what they should.
    #[n(33)]
    Unsigned {
        /// Why not.
        #[n(0)]
        why: String,
    },
    /// No such validator in the set.
    #[n(34)]
    UnknownValidator,
    /// Too few validators have acknowledged the policy.
    #[n(35)]
    ValidatorsNotReady {
        /// How many have.
        #[n(0)]
        ready: u32,
        /// How many must.
        #[n(1)]
        needed: u32,
    },
}

/// One row for the store. The first part is the state; the last is what is kept to be looked at and is no part of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The single row of small things.
    Meta(Box<Meta>),
    /// A member's slowly changing part; `None` = forgotten.
    Profile(NodeId, Option<Box<Profile>>),
    /// The part of up to 256 members that changes each round: number / 256, then all members in it in order of number.
    /// Empty = no member left.
    Hot(u32, Vec<(MemberNumber, Hot)>),
    /// A wallet; `None` = dropped.
    Wallet(NodeId, Option<Wallet>),
    /// A slot.
    Slot(Slot, Box<SlotRow>),
    /// A policy that is staged or in use; `None` = dropped.
    Policy(Digest, Option<Box<PolicyRow>>),
    /// A complete component; `None` = dropped.
    Component(Digest, Option<Arc<[u8]>>),
    /// A component of which pieces are missing: size and what is there; `None` = complete or given up.
    Upload(Digest, Option<(u32, Vec<u8>)>),
    /// Policy memory of one block of members; `None` = all zero. `saved` is the memory kept with the previous policy.
    Memory {
        /// Whose.
        slot: Slot,
        /// Kept for a rollback.
        saved: bool,
        /// Number / 256.
        block: u32,
        /// 256 x memory-bytes.
        bytes: Option<Vec<u8>>,
    },
    /// The set of validators.
    Validators(Box<Validators>),
    /// A batch of records; `None` = nothing of it must be known any more.
    Batch(u64, Option<Arc<Batch>>),
    /// The records of a batch that is not sealed; `None` = it is.
    Contents(u64, Option<Arc<Contents>>),

    /// A settled round.
    Round(Box<RoundRecord>),
    /// A change of standing.
    Move(Box<Move>),
    /// A line of the ledger that is not a round's pay.
    Line(Line),
    /// A line of the change log.
    Change(Change),
}

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
    /// [`Presence`] codes, in the order of `members`.
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

/// What watchers are told. Whatever it says can also be read from state or history.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A round was settled.
    Round(Box<RoundRecord>),
    /// A member's standing changed.
    Moved(Box<Move>),
    /// A claim was paid or penalised.
    Claimed {
        /// Whose.
        node: NodeId,
        /// What became of it.
        answer: Result<Claimed, (Points, Points)>,
    },
    /// A policy was staged, scheduled, came into force, or came back by itself.
    Policy {
        /// The slot.
        slot: Slot,
        /// Which.
        policy: Option<Digest>,
        /// `staged`, `ready`, `unready`, `scheduled`, `active`, `returned`, `fault`, `held`, `neutral`, `shadow`, `shadow_ended`.
        what: &'static str,
        /// The round from which it counts, or in which it happened.
        round: RoundId,
        /// More for people.
        detail: String,
    },
    /// So many suspect rounds in a row: an operator should say whether the loss is real.
    AskOperator {
        /// The round.
        round: RoundId,
        /// How many in a row.
        rounds: u32,
    },
    /// The leader changed.
    Leader {
        /// The term.
        term: Term,
        /// Who.
        leader: NodeId,
    },
    /// Members whose streams are to be closed: banned, outdated or gone.
    Closed(Vec<NodeId>),
    /// An operator changed something.
    Changed(Change),
    /// A batch was ordered, or another attempt at it begins.
    Ordered(Arc<Batch>),
    /// A batch was sealed.
    Sealed(Arc<Batch>),
    /// The set of validators changed, or the name or address of one.
    Validators {
        /// Its version.
        version: u64,
    },
}

/// One line for one member after a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub node: NodeId,
    /// The settled round.
    pub round: RoundId,
    /// Was it there.
    pub presence: Presence,
    /// Its standing.
    pub standing: Standing,
    /// Why, where there is a reason.
    pub reason: String,
    /// Earned points.
    pub earned: Points,
    /// Its own wallet's points.
    pub wallet: Points,
    /// Earliest return.
    pub until: Option<RoundId>,
}
