//! What is kept of each member, and what a hello says.
//!
//! A member's row survives disconnecting, rejoining and bans; it is forgotten when it has been out for long with nothing
//! earned (PROTOCOLS 2, 6).

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::{Ip, Join};
use crate::id::{Digest, MemberNumber, ProtocolVersion, RoundId};
use crate::outcome::{Claimed, Reject};
use crate::round::Presence;
use crate::standing::Standing;
use crate::units::Points;

/// Where a member is, and where it will be after the next settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Place {
    /// Out of the queue. Why: its standing, or it left.
    #[default]
    #[n(0)]
    Out,
    /// In the queue from the next settlement.
    #[n(1)]
    Entering,
    /// In the queue.
    #[n(2)]
    Queued,
    /// Said goodbye: out at the next settlement.
    #[n(3)]
    Leaving,
    /// Speaks a version that is not accepted: out at the next settlement.
    #[n(4)]
    Outdated,
    /// Out of the queue since its version is not accepted.
    #[n(5)]
    OutOutdated,
}

impl Place {
    /// Whether policies and pings reach it: it is in the queue as after the last settlement.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        matches!(self, Self::Queued | Self::Leaving | Self::Outdated)
    }

    /// Whether it is neither in the queue nor on the way in.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::OutOutdated)
    }
}

/// The slowly changing part of a member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Profile {
    /// Given at its first join.
    #[n(0)]
    pub number: MemberNumber,
    /// Display name; may be empty.
    #[n(1)]
    pub name: String,
    /// Protocol version of its last hello.
    #[n(2)]
    pub version: ProtocolVersion,
    /// Software version of its last hello.
    #[n(3)]
    pub software: String,
    /// Source address of its last hello.
    #[n(4)]
    pub ip: Ip,
    /// Declared port of its last hello.
    #[n(5)]
    pub port: u16,
    /// The `address` of its last pong.
    #[n(6)]
    pub address: Option<String>,
    /// Its own REST address, as it tells it.
    #[n(7)]
    pub rest: Option<String>,
    /// The round that was settled last when it first joined.
    #[n(8)]
    pub joined: RoundId,
    /// When it first joined.
    #[n(9)]
    pub joined_ms: u64,
    /// Set by the operator.
    #[n(10)]
    pub class: u32,
    /// Index of its network group.
    #[n(11)]
    pub group: u32,
    /// Stamps of its goodbyes within 24 h.
    #[n(12)]
    pub goodbyes: Vec<u64>,
    /// Why it has the standing that it has; empty = none.
    #[n(13)]
    pub reason: String,
    /// The policy behind its standing; on probation the one that banned it.
    #[n(14)]
    pub decided_by: Option<Digest>,
    /// Its last claim.
    #[n(15)]
    pub claim: Option<LastClaim>,
    /// Hellos that went through the log since that round was settled.
    #[n(16)]
    #[cbor(default)]
    pub hellos: (RoundId, u32),
}

/// The last claim of a node: what a retry is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LastClaim {
    /// Its sequence.
    #[n(0)]
    pub sequence: u64,
    /// Its digest.
    #[n(1)]
    pub digest: Digest,
    /// What it was answered.
    #[n(2)]
    pub answer: ClaimAnswer,
    /// The round that was settled last when it was answered.
    #[n(3)]
    #[cbor(default)]
    pub round: RoundId,
    /// Claims of this key that were answered since that settlement, this one among them.
    #[n(4)]
    #[cbor(default)]
    pub since_round: u32,
    /// When it expires: until then it could be asked for again.
    #[n(5)]
    #[cbor(default)]
    pub expires_ms: u64,
}

/// See [`LastClaim::answer`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ClaimAnswer {
    /// Paid.
    #[n(0)]
    Paid(#[n(0)] Claimed),
    /// Over-claimed.
    #[n(1)]
    Refused(#[n(0)] Reject),
}

/// The part of a member that changes each round.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Hot {
    /// In the queue or out of it.
    #[n(0)]
    pub place: Place,
    /// Its grade.
    #[n(1)]
    pub standing: Standing,
    /// Strikes.
    #[n(2)]
    pub strikes: u16,
    /// Last round of a ban; earliest return of a suspension; 0 = none.
    #[n(3)]
    pub until: RoundId,
    /// Rounds of probation left.
    #[n(4)]
    pub probation_left: u32,
    /// Rounds in the queue.
    #[n(5)]
    pub age: u32,
    /// Balance of its `earned` account.
    #[n(6)]
    pub earned: Points,
    /// All that it ever claimed.
    #[n(7)]
    pub claimed: Points,
    /// All penalties that it ever paid.
    #[n(8)]
    pub penalties: Points,
    /// In the last settled round.
    #[n(9)]
    pub presence: Presence,
    /// It was up in the last trusted round in which it could be seen.
    #[n(10)]
    pub trusted_up: bool,
    /// The last round in which it was up; 0 = none.
    #[n(11)]
    pub last_up: RoundId,
    /// Seats that asked it last, one bit each; 0 = none has since it entered the queue, or all that had are gone.
    #[n(12)]
    pub asked_seats: u8,
    /// The round in which it was last moved to suspended or banned by a policy; 0 = never, or not counted any more.
    #[n(13)]
    pub moved_out: RoundId,
    /// The round that was settled last when it left the queue.
    #[n(14)]
    pub left: RoundId,
    /// An operator decided about it since the last settlement: the judgement in flight does not count.
    #[n(15)]
    pub by_hand: bool,
    /// Its lowest round trip in the last settled round, µs; 0 = none.
    #[n(16)]
    pub rtt_us: u32,
    /// The `data` of its last pong.
    #[n(17)]
    pub data: u64,
    /// The policy whose wish to put it out was last held back.
    #[n(18)]
    pub held_by: Option<Digest>,
    /// In which round that was; 0 = never.
    #[n(19)]
    pub held_at: RoundId,
    /// Trusted rounds in a row in which it was on its way: absent, and not to blame. 0 once it was asked; [`GONE`] once an
    /// absence has counted.
    #[n(20)]
    #[cbor(default)]
    pub away: u16,
}

/// [`Hot::away`] of a member whose absence has counted: no grace excuses it before a super has asked it again.
pub const GONE: u16 = u16::MAX;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Changes when it attaches, claims or moves.
    pub profile: Profile,
    /// Changes each round.
    pub hot: Hot,
}

impl Member {
    /// A new member, out of the queue.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self { profile, hot: Hot::default() }
    }
}

/// The network group of an address: its /24 or /64.
#[must_use]
pub fn network(ip: &Ip) -> Ip {
    match ip {
        Ip::V4([a, b, c, _]) => Ip::V4([*a, *b, *c, 0]),
        Ip::V6(bytes) => {
            let mut net = [0; 16];
            for (to, from) in net.iter_mut().zip(bytes.iter().take(8)) {
                *to = *from;
            }
            Ip::V6(net)
        }
    }
}

/// A hello and what the super knows of the stream that it came on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The join that it asks for.
    pub join: Join,
    /// The cluster that the node names, `id#genesis`, or the bare id on its first contact.
    pub cluster: String,
    /// The source port that the super sees.
    pub source_port: u16,
    /// Another connected key holds the same address and port.
    pub port_taken: bool,
    /// The super sheds load: come back after so many ms.
    pub busy_ms: Option<u64>,
}

/// Why a node is turned away, in the order in which it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It means another cluster, or another life of this one.
    WrongCluster {
        /// What this cluster is called.
        ours: String,
    },
    /// Its protocol version is not accepted.
    Outdated {
        /// What is.
        accept: String,
    },
    /// It is banned.
    Banned {
        /// Last round of the ban.
        until: RoundId,
        /// About when that is, ms since 1970.
        until_ms: u64,
        /// Why.
        reason: String,
    },
    /// It does not connect from the port that it declares.
    PortMismatch {
        /// Declared.
        declared: u16,
        /// Seen.
        seen: u16,
    },
    /// Another connected node has that address and port.
    PortTaken,
    /// The super sheds load.
    Busy {
        /// Come back after, ms.
        retry_ms: u64,
    },
    /// No room in the queue, the table of members or the network group.
    Full {
        /// Which, with its bound.
        what: String,
        /// Come back after, ms.
        retry_ms: u64,
    },
    /// Too many joins in this round.
    SlowDown {
        /// Come back after, ms.
        retry_ms: u64,
    },
    /// The key belongs to a super.
    WrongRole,
    /// The hello has a text that is not allowed.
    Malformed {
        /// Which and how to mend it.
        what: String,
    },
}

impl Refusal {
    /// The word in messages, metrics and the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongCluster { .. } => "wrong_cluster",
            Self::Outdated { .. } => "outdated",
            Self::Banned { .. } => "banned",
            Self::PortMismatch { .. } => "port_mismatch",
            Self::PortTaken => "port_taken",
            Self::Busy { .. } => "busy",
            Self::Full { .. } => "full",
            Self::SlowDown { .. } => "slow_down",
            Self::WrongRole => "wrong_role",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// Whether a text is short and printable ASCII.
#[must_use]
pub fn is_printable(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}
