//! All that may enter the replicated log. Whatever changes the cluster is one of these; numbers are stored and never
//! used again for another meaning.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::decide::{Description, Fault, Slot, Tariff};
use crate::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, ProtocolVersion, RoundId, Seat, Term};
use crate::records::order::Order;
use crate::records::seal::Seal;
use crate::records::validators::{Able, Came, Evidence, Validator};
use crate::round::{Report, SignedPartial};
use crate::settings::Settings;
use crate::units::Points;

mod stamped;

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

/// See [`Command::Settle`].
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

/// How much a claim asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Amount {
    /// So many points, at least 1.
    #[n(0)]
    Exactly(#[n(0)] u64),
    /// All there is; never an over-claim.
    #[n(1)]
    All,
}

/// See [`Command::Claim`]. The signature was verified before it was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// Who signed it.
    #[n(0)]
    pub node: NodeId,
    /// Rises with each claim of the node; gaps are allowed.
    #[n(1)]
    pub sequence: u64,
    /// When it ends, ms since 1970.
    #[n(2)]
    pub expires_ms: u64,
    /// How much.
    #[n(3)]
    pub amount: Amount,
    /// The wallet that is credited.
    #[n(4)]
    pub to: NodeId,
    /// SHA-256 of the payload as carried: the same digest gets the same answer.
    #[n(5)]
    pub digest: Digest,
    /// Stamp.
    #[n(6)]
    pub now_ms: u64,
}

/// See [`Command::Transfer`]. The signature was verified before it was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transfer {
    /// Whose wallet pays: the key that signed it.
    #[n(0)]
    pub from: NodeId,
    /// Rises with each transfer of the key; gaps are allowed.
    #[n(1)]
    pub sequence: u64,
    /// When it ends, ms since 1970.
    #[n(2)]
    pub expires_ms: u64,
    /// The wallet that is credited.
    #[n(3)]
    pub to: NodeId,
    /// How much leaves the wallet, at least 1.
    #[n(4)]
    pub amount: u64,
    /// SHA-256 of the payload as carried: the same digest gets the same answer.
    #[n(5)]
    pub digest: Digest,
    /// Stamp.
    #[n(6)]
    pub now_ms: u64,
}

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

/// See [`Command::Operate`].
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

/// See [`Command::OperateIf`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OperateIf {
    /// What was read: [`settings_tag`](crate::state::State::settings_tag) and its like.
    #[n(0)]
    pub tag: Digest,
    /// What is decided.
    #[n(1)]
    pub operate: Operate,
}

/// See [`Command::Restore`].
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

/// See [`Command::Chunk`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chunk {
    /// Digest of the whole component.
    #[n(0)]
    pub component: Digest,
    /// Size of the whole, bytes.
    #[n(1)]
    pub size: u32,
    /// Where this piece begins: pieces come in order; an earlier one again is harmless.
    #[n(2)]
    pub offset: u32,
    /// The piece, at most [`CHUNK_BYTES`](crate::limits::CHUNK_BYTES).
    #[cbor(n(3), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// See [`Command::Stage`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stage {
    /// The slot.
    #[n(0)]
    pub slot: Slot,
    /// The component, uploaded before.
    #[n(1)]
    pub component: Digest,
    /// Its config: JSON, keys sorted, no spaces.
    #[n(2)]
    pub config: String,
    /// What it said of itself at admission.
    #[n(3)]
    pub description: Description,
    /// Who staged it.
    #[n(4)]
    pub by: Operator,
    /// Stamp.
    #[n(5)]
    pub now_ms: u64,
}

/// See [`Command::Ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ready {
    /// Whose acknowledgement.
    #[n(0)]
    pub seat: Seat,
    /// The policy.
    #[n(1)]
    pub policy: Digest,
}

/// See [`Command::Unready`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Unready {
    /// Who cannot.
    #[n(0)]
    pub seat: Seat,
    /// The policy.
    #[n(1)]
    pub policy: Digest,
    /// Why, for people; what is beyond [`REASON_BYTES`](crate::limits::REASON_BYTES) is cut.
    #[n(2)]
    pub why: String,
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
