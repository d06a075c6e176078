//! A record as its author made it, and how a node hands on what it took in.

use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};
use sha2::Digest as _;

use crate::envelope::{FORWARD_TYPE, RECORD_TYPE, verify};
use crate::id::{ClusterId, Digest, NodeId, Signature};
use crate::limits::{FORWARD_RECORDS, RECORD_BODY, RECORD_HEADER};

/// A record: whose it is and what was signed. Nothing of it is ever encoded again.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Whose it is: the key that signed it and that pays for it.
    #[n(0)]
    pub author: NodeId,
    /// A line of JSON with cluster, nonce and expiry; a newline; the body.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// The author's, over the payload. `None`: the author is the node that forwarded it, and its signature over the forward
    /// counts for the record too.
    #[n(2)]
    pub signature: Option<Signature>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({:?} of {:?}, {} bytes)", self.digest(), self.author, self.payload.len())
    }
}

impl Record {
    /// What names the record: SHA-256 of the author's key and the payload as carried.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(sha2::Sha256::new().chain_update(self.author.0).chain_update(&self.payload).finalize().into())
    }

    /// The line of JSON; `None` where no newline ends it in time.
    #[must_use]
    pub fn header(&self) -> Option<&[u8]> {
        self.payload.get(..self.line()?)
    }

    /// What follows the line; empty where there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.line().and_then(|end| self.payload.get(end + 1..)).unwrap_or_default()
    }

    fn line(&self) -> Option<usize> {
        self.payload.iter().take(RECORD_HEADER).position(|byte| *byte == b'\n')
    }

    /// Whether it has the parts of a record, each within its bounds.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.line().is_some() && self.body().len() <= RECORD_BODY
    }

    /// Whether the signature that it carries is its author's. One that carries none is vouched for by its [`Forward`].
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signature.is_some_and(|signature| verify(&self.author, RECORD_TYPE, &self.payload, &signature))
    }
}

/// What a node signs of the records that it hands on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Forwarded {
    /// The cluster that it is for.
    #[n(0)]
    pub cluster: ClusterId,
    /// Drawn by the node: no two forwards are the same.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
    /// When it ends, ms since 1970.
    #[n(2)]
    pub expires_ms: u64,
    /// The digests of the records, in order: 1 to [`FORWARD_RECORDS`].
    #[n(3)]
    pub digests: Vec<Digest>,
}

impl Forwarded {
    /// The bytes that are signed.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        // Writing to memory does not fail.
        minicbor::to_vec(self).unwrap_or_default()
    }
}

/// Records that a node hands on, under its signature.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Forward {
    /// The node.
    #[n(0)]
    pub ingress: NodeId,
    /// [`Forwarded`] as CBOR, as carried.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// The node's, over the payload.
    #[n(2)]
    pub signature: Signature,
}

/// Why a forward or one of its records is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// The payload is not what a forward is.
    Malformed,
    /// The node's signature is not over this payload.
    Signature,
    /// It is for another cluster.
    Cluster,
    /// It names other records than those that came with it, or none, or too many.
    Records,
    /// A record has no line of JSON, or a body that is too long.
    Record,
    /// A record's signature is not its author's.
    Author,
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the forward cannot be read",
            Self::Signature => "the forwarding node's signature does not verify",
            Self::Cluster => "it is for another cluster",
            Self::Records => "it names other records than those that came with it",
            Self::Record => "a record is not a line of JSON, a newline and a body within the bounds",
            Self::Author => "a record's signature is not its author's",
        })
    }
}

impl core::error::Error for Forged {}

impl Forward {
    /// What the node signed.
    ///
    /// # Errors
    /// [`Forged::Malformed`].
    pub fn forwarded(&self) -> Result<Forwarded, Forged> {
        minicbor::decode(&self.payload).map_err(|_| Forged::Malformed)
    }

    /// Checks the node's signature, that the forward is for this cluster and names exactly these records, and that each
    /// record is its author's: by the author's own signature, or, where the node is the author, by the node's.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, cluster: &ClusterId, records: &[&Record]) -> Result<Forwarded, Forged> {
        let forwarded = self.forwarded()?;
        if forwarded.cluster != *cluster {
            return Err(Forged::Cluster);
        }
        let named = forwarded.digests.len();
        if named == 0 || named > FORWARD_RECORDS || named != records.len() {
            return Err(Forged::Records);
        }
        if records.iter().zip(&forwarded.digests).any(|(record, digest)| record.digest() != *digest) {
            return Err(Forged::Records);
        }
        if !verify(&self.ingress, FORWARD_TYPE, &self.payload, &self.signature) {
            return Err(Forged::Signature);
        }
        for record in records {
            if !record.is_well_formed() {
                return Err(Forged::Record);
            }
            if !self.vouches(record) && !record.is_signed() {
                return Err(Forged::Author);
            }
        }
        Ok(forwarded)
    }

    /// Whether its signature counts for the record.
    fn vouches(&self, record: &Record) -> bool {
        record.signature.is_none() && record.author == self.ingress
    }
}
