//! What validators sign of a batch, and what proves that a quorum did.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};

use super::tree;
use crate::envelope::{ATTESTATION_TYPE, verify};
use crate::id::{ClusterId, Digest, NodeId, Signature};

/// What a validator signs: "I hold this batch, and by this policy its root is this".
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attestation {
    /// The cluster, with its genesis.
    #[n(0)]
    pub cluster: ClusterId,
    /// The batch.
    #[n(1)]
    pub batch: u64,
    /// Which attempt at it; the first is 0.
    #[n(2)]
    pub attempt: u32,
    /// Version of the set of validators that the signature counts in.
    #[n(3)]
    pub set_version: u64,
    /// The signing policy.
    #[n(4)]
    pub policy: Digest,
    /// Sequence number of the batch's first record; the others follow.
    #[n(5)]
    pub first_sequence: u64,
    /// Records in the batch.
    #[n(6)]
    pub count: u32,
    /// Root over the [`Leaf`]s.
    #[n(7)]
    pub root: Digest,
}

impl Attestation {
    /// The bytes that are signed.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        // Writing to memory does not fail.
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// Whether the signature over it is the validator's.
    #[must_use]
    pub fn is_signed_by(&self, validator: &NodeId, signature: &Signature) -> bool {
        verify(validator, ATTESTATION_TYPE, &self.payload(), signature)
    }
}

/// What a validator says of a record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Verdict {
    /// It is signed.
    #[n(0)]
    Signed,
    /// It is refused, for this reason, in the policy's words.
    #[n(1)]
    Refused(#[n(0)] String),
}

impl Verdict {
    /// The word in the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Refused(_) => "refused",
        }
    }

    /// Why it is refused; empty where it is not.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Signed => "",
            Self::Refused(reason) => reason,
        }
    }
}

/// What of a record is under the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// Its sequence number.
    pub sequence: u64,
    /// What names it.
    pub digest: Digest,
    /// What was found.
    pub verdict: &'a Verdict,
}

impl Leaf<'_> {
    /// Its hash: sequence (8 bytes, big endian), digest, 0 signed or 1 refused, reason.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut bytes = Vec::with_capacity(41 + self.verdict.reason().len());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.digest.0);
        bytes.push(u8::from(*self.verdict != Verdict::Signed));
        bytes.extend(self.verdict.reason().as_bytes());
        tree::leaf(&bytes)
    }
}

/// The hashes of a batch's leaves.
#[must_use]
pub fn leaves<'a>(first_sequence: u64, records: impl IntoIterator<Item = (Digest, &'a Verdict)>) -> Vec<Digest> {
    let numbered = (first_sequence..).zip(records);
    numbered.map(|(sequence, (digest, verdict))| Leaf { sequence, digest, verdict }.hash()).collect()
}

/// A batch's attestation with the signatures of a quorum.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    /// What was signed.
    #[n(0)]
    pub attestation: Attestation,
    /// By whom, in ascending order of key.
    #[n(1)]
    pub signatures: Vec<(NodeId, Signature)>,
}

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// Too few distinct signatures of members of the set.
    Quorum {
        /// Valid ones.
        valid: usize,
        /// Needed.
        needed: usize,
    },
    /// A signature does not verify.
    Signature(NodeId),
    /// A signer is not in the set.
    Stranger(NodeId),
    /// A signer stands there twice.
    Twice(NodeId),
    /// The record's path does not lead to the root.
    Path,
    /// The record's place is not in the batch, or its sequence number is not the one of its place.
    Place,
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quorum { valid, needed } => write!(f, "{valid} valid signatures of the set, {needed} are needed"),
            Self::Signature(node) => write!(f, "the signature of {node} does not verify"),
            Self::Stranger(node) => write!(f, "{node} is not in the set of validators"),
            Self::Twice(node) => write!(f, "{node} stands there twice"),
            Self::Path => f.write_str("the record's path does not lead to the root that was signed"),
            Self::Place => f.write_str("the record's place or sequence number is not one of the batch"),
        }
    }
}

impl core::error::Error for Unproven {}

impl Certificate {
    /// Checks that at least `quorum` distinct members of the set signed it. Every signature that is there must be valid and of
    /// a member: one byte that is not what it was makes the whole worthless.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, set: &BTreeSet<NodeId>, quorum: usize) -> Result<(), Unproven> {
        let payload = self.attestation.payload();
        let mut signers = BTreeSet::new();
        if let Some((stranger, _)) = self.signatures.iter().find(|(node, _)| !set.contains(node)) {
            return Err(Unproven::Stranger(*stranger));
        }
        if let Some((twice, _)) = self.signatures.iter().find(|(node, _)| !signers.insert(*node)) {
            return Err(Unproven::Twice(*twice));
        }
        // A quorum of nobody proves nothing.
        let needed = quorum.max(1);
        if self.signatures.len() < needed {
            return Err(Unproven::Quorum { valid: self.signatures.len(), needed });
        }
        let forged = self.signatures.iter().find(|(node, sig)| !verify(node, ATTESTATION_TYPE, &payload, sig));
        forged.map_or(Ok(()), |(node, _)| Err(Unproven::Signature(*node)))
    }

    /// Those who signed.
    #[must_use]
    pub fn signers(&self) -> BTreeSet<NodeId> {
        self.signatures.iter().map(|(node, _)| *node).collect()
    }
}

/// That a record has its place under a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Proof {
    /// The batch's.
    #[n(0)]
    pub certificate: Certificate,
    /// The record's place in it, from 0.
    #[n(1)]
    pub index: u32,
    /// What was found.
    #[n(2)]
    pub verdict: Verdict,
    /// From the record's leaf up to the root.
    #[n(3)]
    pub path: Vec<Digest>,
}

impl Proof {
    /// The record's sequence number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.certificate.attestation.first_sequence.saturating_add(self.index as u64)
    }

    /// Checks that the record of this digest has this place. The signatures are another matter: [`Certificate::check`].
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, digest: Digest) -> Result<(), Unproven> {
        let signed = &self.certificate.attestation;
        if self.index >= signed.count {
            return Err(Unproven::Place);
        }
        let leaf = Leaf { sequence: self.sequence(), digest, verdict: &self.verdict }.hash();
        let root = tree::root_of(leaf, self.index as usize, signed.count as usize, &self.path);
        if root == Some(signed.root) { Ok(()) } else { Err(Unproven::Path) }
    }
}
