//! What a follower and a super say to each other, as plain types. A value made by [`convert`](crate::convert) is within
//! its bounds.

use std::fmt;

use kernel::id::{ClusterId, NodeId, ProtocolVersion, RoundId, Term};
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
