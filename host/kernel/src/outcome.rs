//! What comes out of `apply`: a reply for whoever asked, rows for the store, notices for whoever watches.
//!
//! Invariant: `writes` are complete. Loaded into an empty state they give the state that `apply` left, which a test
//! checks after each of many random commands.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::Amount;
use crate::decide::Slot;
use crate::id::{Digest, MemberNumber, NodeId, RoundId, Term};
use crate::ledger::Wallet;
use crate::members::{Hot, Profile};
use crate::policies::{PolicyRow, SlotRow};
use crate::records::order::{Batch, Contents, Ordered};
use crate::records::validators::Validators;
use crate::round::Presence;
use crate::standing::Standing;
use crate::state::Meta;
use crate::units::Points;

mod history;
mod reject;

pub use history::{Author, Change, Kind, Line, Move, RoundRecord, SlotRecord};
pub use reject::Reject;

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
