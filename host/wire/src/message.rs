//! What a follower and a super say to each other, as plain types. A value made by [`convert`](crate::convert) is within
//! its bounds.

use std::fmt;

use kernel::decide::Slot;
use kernel::id::{ClusterId, Digest, LogIndex, NodeId, ProtocolVersion, RoundId, Term};
use kernel::members::Refusal;
use kernel::outcome::Told;

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers pings.
    Follower,
    /// Signs records.
    Validator,
    /// Runs the rounds.
    Super,
    /// Hands out the directory.
    Bootstrap,
}

/// The first message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// `id#genesis`, or the bare id on the first contact.
    pub cluster: String,
    /// What it is for.
    pub role: Role,
    /// Display name; whether it is allowed is for the kernel to say.
    pub name: String,
    /// What it speaks.
    pub version: ProtocolVersion,
    /// Its software version.
    pub software: String,
    /// The port that it declares.
    pub port: u16,
    /// Its own REST address, as it tells it.
    pub rest: Option<String>,
}

/// A ping, of a super or of a follower in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The round.
    pub round: RoundId,
    /// Its term.
    pub term: Term,
    /// Drawn by the super.
    pub nonce: u64,
}

/// The answer to a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The round of the ping.
    pub round: RoundId,
    /// The term of the ping.
    pub term: Term,
    /// The nonce of the ping.
    pub nonce: u64,
    /// What the follower speaks.
    pub version: ProtocolVersion,
    /// Whatever it wants to tell policies.
    pub data: u64,
    /// At most 64 printable characters; may be empty.
    pub address: String,
}

/// What a follower says on its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromFollower {
    /// First, and never again.
    Hello(Hello),
    /// Answers a ping.
    Pong(Pong),
    /// Its own ping.
    Ping(Ping),
    /// It leaves.
    Goodbye,
    /// It asks to come back.
    Return,
    /// It asks whether the super is there, because nothing came for long.
    Alive,
    /// Something that cannot be read, and what about it.
    Malformed(Malformed),
}

/// What a super says on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToFollower {
    /// Answers the hello.
    Welcome(Welcome),
    /// Answers the hello, or comes later; the stream ends after it.
    Refused(Refusal),
    /// The follower's turn.
    Ping(Ping),
    /// Answers the follower's own ping.
    Pong {
        /// Its nonce.
        nonce: u64,
    },
    /// How the follower stands, after each settlement.
    Own(Own),
    /// The super is there.
    Alive,
}

/// A follower is welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Name and genesis.
    pub cluster: ClusterId,
    /// The leading super, where there is one.
    pub leader: Option<NodeId>,
    /// Round interval.
    pub interval_ms: u64,
    /// Ping timeout.
    pub timeout_ms: u64,
    /// Version of the settings in force.
    pub settings_version: u64,
    /// After a loss: come back within so many ms, at a random moment.
    pub reconnect_spread_ms: u64,
    /// Longest wait between two attempts.
    pub backoff_cap_ms: u64,
    /// The supers of the group, at most [`SUPERS`].
    pub supers: Vec<SuperAt>,
    /// To how many of them a follower attaches; 0 = not said.
    pub observers: u32,
    /// Version of the set of validators; 0 = there never was one.
    pub set_version: u64,
    /// The rules in force and those that are to come; `None` = not said.
    pub policies: Option<Policies>,
}

/// Supers that a welcome names: as many as there are seats.
pub const SUPERS: usize = kernel::limits::SEATS as usize;

/// Where a super is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuperAt {
    /// Its key.
    pub key: NodeId,
    /// `host:port` of its gRPC.
    pub address: String,
}

/// The rules in force and those that are to come, as a super knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    /// The place in the log as of which it is: of two supers, what is later counts.
    pub as_of: LogIndex,
    /// The round that was settled last then.
    pub settled: RoundId,
    /// At most one entry a slot.
    pub slots: Vec<SlotPolicies>,
}

/// A slot's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPolicies {
    /// The slot.
    pub slot: Slot,
    /// Decides the next round; `None` = the slot is neutral.
    pub active: Option<PolicyName>,
    /// What is to come.
    pub scheduled: Option<ScheduledPolicy>,
}

/// A policy, and what its author calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyName {
    /// Its identity.
    pub digest: Digest,
    /// Its name, at most [`POLICY_NAME_BYTES`].
    pub name: String,
    /// Its version, at most [`POLICY_VERSION_BYTES`].
    pub version: String,
}

/// A name on the wire: 64 characters of two bytes. Those of all slots have to fit into one message beside the supers.
pub const POLICY_NAME_BYTES: usize = 128;
/// A version: 32 characters of two bytes.
pub const POLICY_VERSION_BYTES: usize = 64;

/// A policy that will become active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledPolicy {
    /// Which; `None` = the slot becomes neutral.
    pub policy: Option<PolicyName>,
    /// The first round that it decides.
    pub round: RoundId,
    /// Why it comes; `None` = for a reason that is not known here.
    pub kind: Option<ScheduledKind>,
}

/// Why another policy comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledKind {
    /// An operator activated it, or rolled back.
    Scheduled,
    /// By itself: the one in force failed too often.
    Returned,
    /// An operator's emergency, without the usual notice.
    Emergency,
}

impl ScheduledKind {
    /// The word of the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Returned => "returned",
            Self::Emergency => "emergency",
        }
    }
}

/// A follower's own line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// What the settlement says of it.
    pub told: Told,
    /// About when its earliest return is, ms since 1970.
    pub until_ms: Option<u64>,
    /// What it should know.
    pub warning: Option<String>,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}
