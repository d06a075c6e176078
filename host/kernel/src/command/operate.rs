//! What operators decide.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::Super;
use crate::decide::Slot;
use crate::id::{Digest, Genesis, NodeId, RoundId};
use crate::records::validators::Validator;
use crate::units::Points;

/// Who an operator was: how a request proved that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Operator {
    /// The admin token over TCP.
    #[n(0)]
    Token,
    /// The admin socket.
    #[n(1)]
    Socket,
    /// The node's own config file, at a start or SIGHUP.
    #[n(2)]
    File,
    /// The demo's console.
    #[n(3)]
    Console,
}

/// See [`Command::Operate`](super::Command::Operate).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Operate {
    /// Who decided.
    #[n(0)]
    pub by: Operator,
    /// Why, at most 200 bytes; kept in the change log.
    #[n(1)]
    pub reason: String,
    /// Stamp.
    #[n(2)]
    pub now_ms: u64,
    /// What.
    #[n(3)]
    pub what: Operation,
}

/// See [`Command::OperateIf`](super::Command::OperateIf).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OperateIf {
    /// What was read: [`settings_tag`](crate::state::State::settings_tag) and its like.
    #[n(0)]
    pub tag: Digest,
    /// What is decided.
    #[n(1)]
    pub operate: Operate,
}

/// See [`Command::Restore`](super::Command::Restore).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Restore {
    /// Of the new cluster.
    #[n(0)]
    pub genesis: Genesis,
    /// Who brings it back: it gets seat 0.
    #[n(1)]
    pub founder: Super,
    /// Stamp.
    #[n(2)]
    pub now_ms: u64,
}

/// An operator's decisions.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Operation {
    /// "The loss is real": those up in the last settled round become the trusted presence.
    #[n(0)]
    AcceptRound,
    /// Sets a slot's count of moves to zero, so that held moves may take effect.
    #[n(1)]
    AcceptPolicy(#[n(0)] Slot),
    /// Bans a member for so many rounds from the last settled one.
    #[n(2)]
    Ban {
        /// Who.
        #[n(0)]
        node: NodeId,
        /// How long, 1 to the longest ban.
        #[n(1)]
        rounds: u64,
    },
    /// Makes members good again: strikes 0, the ban policy's memory of them 0.
    #[n(3)]
    LiftNodes(#[n(0)] Vec<NodeId>),
    /// The same for all that a policy put out since a round.
    #[n(4)]
    LiftPolicy {
        /// The policy whose suspensions and bans are lifted.
        #[n(0)]
        policy: Digest,
        /// From this round on.
        #[n(1)]
        since: RoundId,
    },
    /// Pays members from the treasury.
    #[n(5)]
    Compensate(#[n(0)] Vec<Compensation>),
    /// Sets a member's class.
    #[n(6)]
    SetClass {
        /// Who.
        #[n(0)]
        node: NodeId,
        /// A number that policies see.
        #[n(1)]
        class: u32,
    },
    /// Changes settings, all or none.
    #[n(7)]
    Set(#[n(0)] Vec<SettingChange>),
    /// A staged policy counts from a round: last settled + 2 or later; `None` = the earliest.
    #[n(8)]
    Activate {
        /// The slot.
        #[n(0)]
        slot: Slot,
        /// The policy.
        #[n(1)]
        policy: Digest,
        /// From when.
        #[n(2)]
        round: Option<RoundId>,
    },
    /// The previous policy counts again.
    #[n(9)]
    Rollback(#[n(0)] Slot),
    /// Marks a staged policy as the slot's builtin: the last resort of an automatic return.
    #[n(10)]
    SetBuiltin {
        /// The slot.
        #[n(0)]
        slot: Slot,
        /// The policy.
        #[n(1)]
        policy: Digest,
    },
    /// Remembers what the config file last said of a slot, so that only a change of the file counts.
    #[n(11)]
    FileSaid {
        /// The slot.
        #[n(0)]
        slot: Slot,
        /// Digest of what the file names.
        #[n(1)]
        policy: Digest,
    },
    /// The same as [`Operation::Activate`], without the notice that the settings ask for.
    #[n(13)]
    Emergency {
        /// The slot.
        #[n(0)]
        slot: Slot,
        /// The policy.
        #[n(1)]
        policy: Digest,
        /// From when.
        #[n(2)]
        round: Option<RoundId>,
    },
    /// A staged policy runs beside the active one from now on, without effect.
    #[n(14)]
    Shadow {
        /// The slot.
        #[n(0)]
        slot: Slot,
        /// The policy; `None` = none any more.
        #[n(1)]
        policy: Option<Digest>,
    },
    /// All settings that the config file says. What it says otherwise than the last time is changed as by
    /// [`Operation::Set`], and a key that it says no longer goes back to its default; the rest stays as the log left it.
    #[n(12)]
    FileSettings(#[n(0)] Vec<SettingChange>),
    /// A node may sign records from now on, or has another name or address.
    #[n(15)]
    AddValidator(#[n(0)] Validator),
    /// A validator may not sign any more.
    #[n(16)]
    RemoveValidator(#[n(0)] NodeId),
    /// Another attempt at a batch that no quorum signs, under the signing policy that is in force now.
    #[n(17)]
    RetryBatch(#[n(0)] u64),
}

/// One line of a compensation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Compensation {
    /// Who.
    #[n(0)]
    pub node: NodeId,
    /// How much, at least 1.
    #[n(1)]
    pub points: Points,
    /// The round that it makes good.
    #[n(2)]
    pub round: RoundId,
    /// Why, at most 200 bytes.
    #[n(3)]
    pub reason: String,
}

/// One changed setting, as text.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SettingChange {
    /// `section.name`.
    #[n(0)]
    pub key: String,
    /// The value.
    #[n(1)]
    pub value: String,
}
