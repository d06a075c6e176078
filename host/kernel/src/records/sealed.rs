//! A sealed batch as nodes hold it, hand it on and prove records with it: everything in one piece, so that one check of a
//! certificate serves all of its records.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::certificate::{Certificate, Proof, Unproven, Verdict, leaves};
use super::record::Record;
use super::tree::{self, Tree};
use crate::id::{Digest, LogIndex, NodeId};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SealedBatch {
    /// Place in the log of its seal.
    #[n(0)]
    pub at: LogIndex,
    /// Place of the seal before it; 0 = it is the first. Whoever holds all up to there and this one holds all up to here.
    #[n(1)]
    pub previous: LogIndex,
    /// When it was ordered, ms since 1970.
    #[n(2)]
    pub ordered_ms: u64,
    /// What proves it.
    #[n(3)]
    pub certificate: Certificate,
    /// What was found of each record, in order.
    #[n(4)]
    pub verdicts: Vec<Verdict>,
    /// The records, in order.
    #[n(5)]
    pub records: Vec<Record>,
}

impl SealedBatch {
    /// Checks that these records with these verdicts are what a quorum of the set signed. Places in the log and the time are
    /// not signed: they order what is held and prove nothing.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, set: &BTreeSet<NodeId>, quorum: usize) -> Result<(), Unproven> {
        let signed = &self.certificate.attestation;
        if self.records.len() != signed.count as usize || self.verdicts.len() != self.records.len() {
            return Err(Unproven::Place);
        }
        if tree::root(self.leaves()) != signed.root {
            return Err(Unproven::Path);
        }
        self.certificate.check(set, quorum)
    }

    /// The batch's number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.certificate.attestation.batch
    }

    /// Sequence number of the first record.
    #[must_use]
    pub const fn first_sequence(&self) -> u64 {
        self.certificate.attestation.first_sequence
    }

    /// What proves its records.
    #[must_use]
    pub fn proofs(&self) -> Proofs {
        Proofs::new(self.certificate.clone(), self.verdicts.clone(), self.leaves())
    }

    fn leaves(&self) -> Vec<Digest> {
        leaves(self.first_sequence(), self.records.iter().map(Record::digest).zip(&self.verdicts))
    }
}

/// What proves the records of a sealed batch: made once for all of them.
#[derive(Clone, Debug)]
pub struct Proofs {
    certificate: Certificate,
    verdicts: Vec<Verdict>,
    tree: Tree,
}

impl Proofs {
    pub(super) fn new(certificate: Certificate, verdicts: Vec<Verdict>, leaves: Vec<Digest>) -> Self {
        Self { certificate, verdicts, tree: Tree::new(leaves) }
    }

    /// What proves a record's place; `None` where there is no such place.
    #[must_use]
    pub fn of(&self, index: u32) -> Option<Proof> {
        let path = self.tree.path(index as usize)?;
        let verdict = self.verdicts.get(index as usize)?.clone();
        Some(Proof { certificate: self.certificate.clone(), index, verdict, path })
    }
}
