//! What the supers of a group say to each other about their log, as plain types. [`convert`] makes them of protobuf and
//! back; whatever comes out of it is within the bounds below.

use kernel::id::{ClusterId, NodeId};

pub mod convert;

/// The longest command that may enter the log: a settlement of a million members has some 30 MiB.
pub const COMMAND_BYTES: usize = 32 << 20;
/// An entry of the log: a command and its place.
pub const ENTRY_BYTES: usize = COMMAND_BYTES + (1 << 10);
/// Entries of one append, bytes: who sends ends a message at the first entry that goes beyond, but sends at least one.
pub const APPEND_BYTES: usize = 1 << 20;
/// Entries of one append: as many as openraft hands out at most.
pub const APPEND_ENTRIES: usize = 1_024;
/// Commands that are forwarded in one call.
pub const FORWARD_COMMANDS: usize = 256;
/// The same, bytes: who sends ends a call at the first command that goes beyond, but sends at least one.
pub const FORWARD_BYTES: usize = 1 << 20;
/// A piece of a snapshot: small enough that nothing else on the connection waits long.
pub const PIECE_BYTES: usize = 256 << 10;
/// A snapshot, all pieces: the state of a million members with memory of 4 KiB each.
pub const SNAPSHOT_BYTES: u64 = 8 << 30;
/// Members of a group with their addresses.
pub const MARK_BYTES: usize = 64 << 10;
/// Any message: the largest is one entry behind a full append.
pub const MESSAGE_BYTES: usize = ENTRY_BYTES + APPEND_BYTES + (64 << 10);
/// `host:port`: the longest name that the domain name system knows, and a port.
pub const ADDRESS_BYTES: usize = 253 + 6;
/// What a super calls itself.
pub const NAME_BYTES: usize = 64;

/// An entry's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The term in which a leader put it there.
    pub term: u64,
    /// Its index; the first entry has 0.
    pub index: u64,
}

/// Whom a replica supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The candidate, or the leader.
    pub replica: u64,
    /// A majority supports it: it leads.
    pub committed: bool,
}

/// From which replica to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who says it.
    pub from: u64,
    /// For whom it is.
    pub to: u64,
}

/// Entries for a replica; none: a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// From whom to whom.
    pub route: Route,
    /// The leader's.
    pub vote: Vote,
    /// The entry right before these; `None` at the beginning of the log.
    pub previous: Option<Place>,
    /// Up to where a majority has the log.
    pub committed: Option<Place>,
    /// Each as it is stored, at most [`ENTRY_BYTES`]; at most [`APPEND_ENTRIES`].
    pub entries: Vec<Vec<u8>>,
}

/// Answers an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The log is the leader's up to and with this entry.
    Matching(Option<Place>),
    /// Another entry, or none, is there.
    Conflict(Place),
    /// The caller leads no more.
    Higher(Vote),
}

/// Asks for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// From whom to whom.
    pub route: Route,
    /// What it would be.
    pub vote: Vote,
    /// The last entry of the candidate.
    pub last: Option<Place>,
    /// The leader asked the candidate to lead.
    pub hand_over: bool,
}

/// Answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteAnswer {
    /// What the replica supports.
    pub vote: Vote,
    /// The candidate has it.
    pub granted: bool,
    /// The replica's last entry.
    pub last: Option<Place>,
}

/// The leader wishes that another replica leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// From whom to whom.
    pub route: Route,
    /// The leader's.
    pub vote: Vote,
    /// Who is to lead.
    pub to: u64,
    /// What it must have.
    pub last: Option<Place>,
}

/// Answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedOver {
    /// It is being done.
    Taken,
    /// Another leads already.
    VoteChanged {
        /// The caller's.
        expected: Vote,
        /// The replica's.
        actual: Vote,
    },
    /// The replica is not so far.
    NotFlushed {
        /// What it must have.
        expected: Option<Place>,
        /// What it has.
        actual: Option<Place>,
    },
}

/// A piece of a snapshot's transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// First, and never again.
    Head(SnapshotHead),
    /// The bytes, in order; at most [`PIECE_BYTES`].
    Piece(Vec<u8>),
}

/// See [`SnapshotPart::Head`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// From whom to whom.
    pub route: Route,
    /// The leader's.
    pub vote: Vote,
    /// How far the state in it is applied and the members as of then, as they are stored; at most [`MARK_BYTES`].
    pub mark: Vec<u8>,
}

/// Commands for the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// From whom to whom.
    pub route: Route,
    /// Each as it is stored, at most [`COMMAND_BYTES`]; at most [`FORWARD_COMMANDS`].
    pub commands: Vec<Vec<u8>>,
}

/// What became of a forwarded command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What `apply` said, as it is stored.
    Accepted(Vec<u8>),
    /// Why it refused, as it is stored.
    Refused(Vec<u8>),
    /// Nobody knows whether it counts.
    Unknown,
}

/// Answers something that only a leader can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Led<T> {
    /// The leader's answer.
    Answer(T),
    /// The callee does not lead; this one does, as far as it knows.
    NotLeader(Option<u64>),
}

/// An operator's change of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A super becomes a learner.
    Add {
        /// Its key.
        key: NodeId,
        /// `host:port` of its gRPC, at most [`ADDRESS_BYTES`] printable characters.
        address: String,
    },
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A super goes.
    Remove(NodeId),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Done: the number of the replica that was changed.
    Done(u64),
    /// Refused.
    Refused {
        /// A word.
        code: String,
        /// The rest.
        detail: String,
    },
    /// Nobody knows whether it counts.
    Unknown,
}

/// A super that takes an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// What it calls itself, at most [`NAME_BYTES`] printable characters.
    pub name: String,
    /// Drawn at its start: two answers with different ones are of two processes.
    pub life: u64,
}

/// Tells an empty super which replica it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Its number.
    pub replica: u64,
    /// It is only asked whether it is that replica already, and stays what it is.
    pub known: bool,
}
