//! All that may enter the replicated log. Whatever changes the cluster is one of these; numbers are stored and never
//! used again for another meaning.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::id::{ClusterId, LogIndex, NodeId, ProtocolVersion, Term};
use crate::records::order::Order;
use crate::records::seal::Seal;
use crate::records::validators::{Able, Came, Evidence};
use crate::settings::Settings;

mod operate;
mod settle;
mod signed;
mod stage;
mod stamped;

pub use operate::{Compensation, Operate, OperateIf, Operation, Operator, Restore, SettingChange};
pub use settle::{Answer, BanColumns, Decided, RewardColumns, Settle};
pub use signed::{Amount, Claim, Transfer};
pub use stage::{Chunk, Ready, Stage, Unready};

/// A source address: where a node's stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Ip {
    /// IPv4.
    #[n(0)]
    V4(#[cbor(n(0), with = "minicbor::bytes")] [u8; 4]),
    /// IPv6.
    #[n(1)]
    V6(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Command {
    /// Founds the cluster. The first entry, and refused ever after.
    #[n(0)]
    Found(#[n(0)] Box<Found>),
    /// A leader's first entry in its term: it may open rounds once this is applied.
    #[n(1)]
    Lead(#[n(0)] Lead),
    /// A node wants to be in the queue: a new key, one that comes back, or one whose hello says something new.
    #[n(2)]
    Join(#[n(0)] Join),
    /// A follower said goodbye.
    #[n(3)]
    Leave(#[n(0)] Leave),
    /// A member speaks a protocol version that is not accepted.
    #[n(4)]
    Outdated(#[n(0)] Outdated),
    /// Settles a round.
    #[n(5)]
    Settle(#[n(0)] Box<Settle>),
    /// Moves earned points to a wallet.
    #[n(6)]
    Claim(#[n(0)] Claim),
    /// An operator's decision.
    #[n(7)]
    Operate(#[n(0)] Operate),
    /// A piece of a component.
    #[n(8)]
    Chunk(#[n(0)] Chunk),
    /// Makes an uploaded component with a config a candidate.
    #[n(9)]
    Stage(#[n(0)] Stage),
    /// A super has compiled and self-tested a policy.
    #[n(10)]
    Ready(#[n(0)] Ready),
    /// The supers after a change of the group.
    #[n(11)]
    Supers(#[n(0)] Supers),
    /// An operator's decision that counts only if what it is about is still as it was read.
    #[n(12)]
    OperateIf(#[n(0)] OperateIf),
    /// Makes a state that was brought back from a backup a cluster of its own. Whoever brings it back applies it, before
    /// there is a log; nobody proposes it.
    #[n(13)]
    Restore(#[n(0)] Box<Restore>),
    /// A super cannot run a policy.
    #[n(14)]
    Unready(#[n(0)] Unready),
    /// Gives records their order.
    #[n(15)]
    Order(#[n(0)] Box<Order>),
    /// Seals a batch of records.
    #[n(16)]
    Seal(#[n(0)] Box<Seal>),
    /// Moves points from one wallet to another.
    #[n(17)]
    Transfer(#[n(0)] Transfer),
    /// A validator signed two roots.
    #[n(18)]
    Evidence(#[n(0)] Box<Evidence>),
    /// A validator is there for the first time.
    #[n(19)]
    Came(#[n(0)] Came),
    /// A validator can run a signing policy, or cannot.
    #[n(20)]
    Able(#[n(0)] Able),
}

/// See [`Command::Found`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Found {
    /// Name and genesis.
    #[n(0)]
    pub cluster: ClusterId,
    /// The founder: it gets seat 0.
    #[n(1)]
    pub founder: Super,
    /// From the founder's file.
    #[n(2)]
    pub settings: Settings,
    /// Stamp, ms since 1970.
    #[n(3)]
    pub now_ms: u64,
}

/// A super of the group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Super {
    /// Its key.
    #[n(0)]
    pub node: NodeId,
    /// Its display name.
    #[n(1)]
    pub name: String,
    /// `host:port` of its gRPC.
    #[n(2)]
    pub address: String,
}

impl Super {
    /// Its name for people, or its key where it has none.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.name.is_empty() { alloc::format!("{}", self.node) } else { self.name.clone() }
    }
}

/// See [`Command::Lead`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lead {
    /// The new term.
    #[n(0)]
    pub term: Term,
    /// Who leads.
    #[n(1)]
    pub leader: NodeId,
    /// Stamp.
    #[n(2)]
    pub now_ms: u64,
}

/// See [`Command::Join`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Join {
    /// Its key, from TLS.
    #[n(0)]
    pub node: NodeId,
    /// Display name, at most 32 of `[a-z0-9-]`; may be empty.
    #[n(1)]
    pub name: String,
    /// The protocol version of its hello.
    #[n(2)]
    pub version: ProtocolVersion,
    /// Its software version, at most 32 printable characters.
    #[n(3)]
    pub software: String,
    /// Where it came from.
    #[n(4)]
    pub ip: Ip,
    /// The port that it declared.
    #[n(5)]
    pub port: u16,
    /// Its own REST address as it tells it, at most 64 printable characters; never dialled.
    #[n(6)]
    pub rest: Option<String>,
    /// Stamp.
    #[n(7)]
    pub now_ms: u64,
}

/// See [`Command::Leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Leave {
    /// Who.
    #[n(0)]
    pub node: NodeId,
    /// Stamp.
    #[n(1)]
    pub now_ms: u64,
}

/// See [`Command::Outdated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Outdated {
    /// Who.
    #[n(0)]
    pub node: NodeId,
    /// What it speaks.
    #[n(1)]
    pub version: ProtocolVersion,
    /// Stamp.
    #[n(2)]
    pub now_ms: u64,
}

/// See [`Command::Supers`]. The leader proposes it after every change of the group that is committed, and once in each of
/// its terms; the same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Supers {
    /// Place in the log of the change of the group that made it so. A later change counts, whatever comes last.
    #[n(0)]
    pub changed: LogIndex,
    /// Every super that votes, in any order: 1 to [`SEATS`](crate::limits::SEATS).
    #[n(1)]
    pub supers: Vec<Super>,
    /// Stamp.
    #[n(2)]
    pub now_ms: u64,
}

/// A command with its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place.
    pub index: LogIndex,
    /// What.
    pub command: Command,
}
