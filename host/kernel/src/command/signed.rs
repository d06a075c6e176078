//! What the keys of nodes and wallets sign.

use minicbor::{Decode, Encode};

use crate::id::{Digest, NodeId};

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

/// See [`Command::Claim`](super::Command::Claim). The signature was verified before it was proposed.
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

/// See [`Command::Transfer`](super::Command::Transfer). The signature was verified before it was proposed.
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
