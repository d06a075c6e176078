//! How a policy gets into the log, and which supers can run it.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::Operator;
use crate::decide::{Description, Slot};
use crate::id::{Digest, Seat};

/// See [`Command::Chunk`](super::Command::Chunk).
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

/// See [`Command::Stage`](super::Command::Stage).
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

/// See [`Command::Ready`](super::Command::Ready).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ready {
    /// Whose acknowledgement.
    #[n(0)]
    pub seat: Seat,
    /// The policy.
    #[n(1)]
    pub policy: Digest,
}

/// See [`Command::Unready`](super::Command::Unready).
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
