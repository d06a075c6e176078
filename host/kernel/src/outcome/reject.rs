//! Why a command was refused.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::id::{Digest, RoundId, Seat, Term};
use crate::units::Points;

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
