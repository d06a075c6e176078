//! The directory: where the supers and validators of a cluster are, who may sign and who might before, signed by a super
//! (PROTOCOLS 1.7). It is also the file of keys that `pingward verify` takes.

use std::collections::BTreeSet;

use kernel::envelope::{DIRECTORY_TYPE, verify};
use kernel::id::{NodeId, Signature};
use kernel::records::validators::least_quorum;
use kernel::state::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::PeerAddress;
use crate::keys::{Envelope, NodeKey};
use crate::rest::signed::base64;

/// A directory counts for so long from its time (PROTOCOLS 1.7).
pub const VALID_MS: u64 = 7 * 24 * 3_600_000;
/// Bytes of a directory that are read: that of 8 supers, 64 validators and 256 earlier sets has some 1.2 MB.
pub const BYTES: usize = 4 << 20;

/// What it says. Type `application/vnd.pingward.directory+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Directory {
    /// `id#genesis`.
    pub cluster: String,
    /// Rises with what it says: the place in the log as of which it is true.
    pub version: u64,
    /// When it was signed, ms since 1970; it counts for 7 days.
    pub time_ms: u64,
    /// The supers.
    pub supers: Vec<SuperEntry>,
    /// The validators.
    pub validators: ValidatorSet,
}

/// A super.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SuperEntry {
    /// Its key.
    pub node: String,
    /// Its display name.
    pub name: String,
    /// `host:port` of its gRPC.
    pub address: String,
    /// Its seat.
    pub seat: u8,
}

/// The set of validators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidatorSet {
    /// Version of the set; 0 = there never was one.
    pub version: u64,
    /// Signatures that seal a batch.
    pub quorum: u64,
    /// Its members.
    pub set: Vec<ValidatorEntry>,
    /// This set and earlier ones: a certificate counts in the set whose version it names.
    pub sets: Vec<SetEntry>,
}

/// A validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidatorEntry {
    /// Its key.
    pub node: String,
    /// Its display name.
    pub name: String,
    /// `host:port` of its gRPC.
    pub address: String,
}

/// The keys of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetEntry {
    /// Its version.
    pub version: u64,
    /// Its keys.
    pub keys: Vec<String>,
}

/// Why a directory is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is none.
    #[error("this is no directory: {0}")]
    Malformed(String),
    /// No signature of it verifies.
    #[error("the directory's signature does not verify")]
    Forged,
    /// Nobody whom this node knows signed it.
    #[error(
        "the directory is signed by {0}, a super that this node knows nothing of; pin its key in the config to trust it"
    )]
    Stranger(NodeId),
    /// Another cluster's.
    #[error("the directory is that of {found}, and this node belongs to {expected}")]
    Cluster {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Its time is over, or this node's clock is off.
    #[error(
        "this node's clock or the directory is off by {0} hours: set the clock, or ask another node for a newer directory"
    )]
    Stale(u64),
}

impl Directory {
    /// What the state says now.
    #[must_use]
    pub fn of(state: &State, now_ms: u64) -> Self {
        let supers = state.meta.seats.iter().map(|row| SuperEntry {
            node: row.holder.node.to_string(),
            name: row.holder.name.clone(),
            address: row.holder.address.clone(),
            seat: row.seat.0,
        });
        let validators = &state.validators;
        let set = validators.set.iter().map(|one| ValidatorEntry {
            node: one.node.to_string(),
            name: one.name.clone(),
            address: one.address.clone(),
        });
        let sets = validators.sets.iter().map(|(version, keys)| SetEntry {
            version: *version,
            keys: keys.iter().map(ToString::to_string).collect(),
        });
        Self {
            cluster: state.meta.cluster.to_string(),
            version: state.meta.applied.0,
            time_ms: now_ms,
            supers: supers.collect(),
            validators: ValidatorSet {
                version: validators.version,
                quorum: state.quorum() as u64,
                set: set.collect(),
                sets: sets.collect(),
            },
        }
    }

    /// Signed, as it travels.
    #[must_use]
    pub fn signed(&self, key: &NodeKey) -> Envelope {
        // A directory is always JSON.
        key.envelope(DIRECTORY_TYPE, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads an envelope and checks its signature: gives the directory and its signer. Whether that one is to be trusted is
    /// for [`Directory::trusted`].
    ///
    /// # Errors
    /// [`DirectoryError::Malformed`], [`DirectoryError::Forged`].
    pub fn open(bytes: &[u8]) -> Result<(Self, NodeId), DirectoryError> {
        let bad = |what: &str| DirectoryError::Malformed(what.to_owned());
        if bytes.len() > BYTES {
            return Err(bad("it is too long"));
        }
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| bad(&error.to_string()))?;
        let [signature] = envelope.signatures.as_slice() else { return Err(bad("exactly one signature is taken")) };
        let payload = base64(&envelope.payload).ok_or_else(|| bad("its payload is not base64"))?;
        let sig = base64(&signature.sig).and_then(|sig| sig.try_into().ok());
        let sig: [u8; 64] = sig.ok_or_else(|| bad("its signature is not 64 bytes in base64"))?;
        let signer = NodeId::parse(&signature.keyid).map_err(|error| bad(&error.to_string()))?;
        if envelope.payload_type != DIRECTORY_TYPE || !verify(&signer, DIRECTORY_TYPE, &payload, &Signature(sig)) {
            return Err(DirectoryError::Forged);
        }
        let directory: Self = serde_json::from_slice(&payload).map_err(|error| bad(&error.to_string()))?;
        Ok((directory, signer))
    }

    /// Whether a node may go by it: a super that it trusts signed it, it is of its cluster, and its time has not passed.
    ///
    /// # Errors
    /// What does not fit.
    pub fn trusted(
        &self,
        signer: NodeId,
        trusts: &BTreeSet<NodeId>,
        cluster: &str,
        now_ms: u64,
    ) -> Result<(), DirectoryError> {
        let named =
            if cluster.contains('#') { self.cluster.as_str() } else { self.cluster.split('#').next().unwrap_or("") };
        if named != cluster {
            return Err(DirectoryError::Cluster { found: self.cluster.clone(), expected: cluster.to_owned() });
        }
        if !trusts.contains(&signer) {
            return Err(DirectoryError::Stranger(signer));
        }
        let off_ms = now_ms.abs_diff(self.time_ms);
        if off_ms > VALID_MS {
            return Err(DirectoryError::Stale(off_ms / 3_600_000));
        }
        Ok(())
    }

    /// The keys of its supers.
    #[must_use]
    pub fn super_keys(&self) -> BTreeSet<NodeId> {
        self.supers.iter().filter_map(|one| NodeId::parse(&one.node).ok()).collect()
    }

    /// The supers, as addresses with their keys.
    #[must_use]
    pub fn super_addresses(&self) -> Vec<PeerAddress> {
        self.supers.iter().filter_map(|one| pinned(&one.node, &one.address)).collect()
    }

    /// The validators, as addresses with their keys.
    #[must_use]
    pub fn validator_addresses(&self) -> Vec<PeerAddress> {
        self.validators.set.iter().filter_map(|one| pinned(&one.node, &one.address)).collect()
    }

    /// The keys of the set of a version, and how many of them make a quorum at least.
    #[must_use]
    pub fn set_of(&self, version: u64) -> Option<(BTreeSet<NodeId>, usize)> {
        let set = self.validators.sets.iter().find(|set| set.version == version)?;
        let keys: BTreeSet<NodeId> = set.keys.iter().filter_map(|key| NodeId::parse(key).ok()).collect();
        // Two thirds and one more is the least that any setting allows, so what has it was sealed by a quorum.
        let quorum = least_quorum(set.keys.len());
        Some((keys, quorum))
    }
}

fn pinned(node: &str, address: &str) -> Option<PeerAddress> {
    let key = NodeId::parse(node).ok()?;
    let address = crate::config::address(address).ok()?;
    Some(PeerAddress { key: Some(key), ..address })
}
