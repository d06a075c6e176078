//! How a batch is sealed: a quorum of the set has signed its root, which makes its records final (PROTOCOLS 10.14, 10.15).

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::certificate::{Attestation, Certificate, Verdict, leaves};
use super::order::Batch;
use super::review::{POLICY_FAULT_REASON, verdicts};
use super::sealed::Proofs;
use super::tree;
use crate::id::{ClusterId, Digest, LogIndex, NodeId, Signature};
use crate::outcome::{Notice, Reject, Reply, Write};
use crate::state::{Effects, State};

/// Seals a batch: [`Command::Seal`](crate::command::Command::Seal).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Seal {
    /// The batch.
    #[n(0)]
    pub batch: u64,
    /// The attempt that was signed.
    #[n(1)]
    pub attempt: u32,
    /// The version of the set that signed.
    #[n(2)]
    pub set_version: u64,
    /// Codes of the policy, one a record: see [`judge`](super::review::judge).
    #[n(3)]
    pub codes: Vec<u16>,
    /// Signatures over the attestation that follows.
    #[n(4)]
    pub signatures: Vec<(NodeId, Signature)>,
}

/// What is kept of the seal of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// Its place in the log.
    #[n(0)]
    pub at: LogIndex,
    /// Place of the seal before it: who has all up to there and this one has all up to here.
    #[n(1)]
    pub previous: LogIndex,
    /// The version of the set that signed.
    #[n(2)]
    pub set_version: u64,
    /// The root that was signed.
    #[n(3)]
    pub root: Digest,
    /// Codes of the policy, one a record.
    #[n(4)]
    pub codes: Vec<u16>,
    /// What the codes above 0 say, as often as one occurs: code and text, in order of code.
    #[n(5)]
    pub reasons: Vec<(u16, String)>,
    /// Signatures of a quorum, in ascending order of key.
    #[n(6)]
    pub signatures: Vec<(NodeId, Signature)>,
}

impl Sealed {
    /// What was found of each record.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let told = |code: &u16| match self.reasons.iter().find(|(known, _)| known == code) {
            Some((_, reason)) => Verdict::Refused(reason.clone()),
            None => Verdict::Signed,
        };
        self.codes.iter().map(told).collect()
    }
}

impl Batch {
    /// What a validator of a version of the set signs of the batch, as it stands at its present attempt, with this root.
    #[must_use]
    pub fn attestation(&self, cluster: &ClusterId, set_version: u64, root: Digest) -> Attestation {
        Attestation {
            cluster: cluster.clone(),
            batch: self.number,
            attempt: self.attempt,
            set_version,
            policy: self.policy,
            first_sequence: self.first_sequence,
            count: self.count,
            root,
        }
    }

    /// Its certificate; `None` while it is not sealed.
    #[must_use]
    pub fn certificate(&self, cluster: &ClusterId) -> Option<Certificate> {
        let sealed = self.sealed.as_ref()?;
        let attestation = self.attestation(cluster, sealed.set_version, sealed.root);
        Some(Certificate { attestation, signatures: sealed.signatures.clone() })
    }

    /// What proves its records; `None` while it is not sealed, and once its digests are forgotten.
    #[must_use]
    pub fn proofs(&self, cluster: &ClusterId) -> Option<Proofs> {
        let (sealed, certificate) = (self.sealed.as_ref()?, self.certificate(cluster)?);
        let verdicts = sealed.verdicts();
        let leaves = leaves(self.first_sequence, self.records.iter().map(|entered| entered.digest).zip(&verdicts));
        (!leaves.is_empty()).then(|| Proofs::new(certificate, verdicts, leaves))
    }
}

impl State {
    /// What a validator signs of a batch, given what it found of each record; `None` where a code is none of the policy's,
    /// or there are more or fewer of them than records.
    #[must_use]
    pub fn attestation(&self, batch: &Batch, codes: &[u16]) -> Option<Attestation> {
        let reasons = self.policies.get(&batch.policy).map_or(&[][..], |row| &row.description.reasons);
        let verdicts = verdicts(codes, reasons).filter(|verdicts| verdicts.len() == batch.records.len())?;
        let digests = batch.records.iter().map(|entered| entered.digest);
        let root = tree::root(leaves(batch.first_sequence, digests.zip(&verdicts)));
        Some(batch.attestation(&self.meta.cluster, self.validators.version, root))
    }

    /// Seals a batch by the signatures of a quorum of the set. Again for a batch that is sealed: the same answer.
    pub(crate) fn seal(&mut self, seal: &Seal, fx: &mut Effects) -> Result<Reply, Reject> {
        let batch = self.batches.get(&seal.batch).ok_or(Reject::UnknownBatch)?;
        if batch.sealed.is_some() {
            return Ok(Reply::Done);
        }
        if seal.attempt != batch.attempt {
            return Err(Reject::StaleAttempt { attempt: batch.attempt });
        }
        if seal.set_version != self.validators.version {
            return Err(Reject::StaleSet { version: self.validators.version });
        }
        let bad = |why: &str| Reject::Unsigned { why: why.to_string() };
        let attestation =
            self.attestation(batch, &seal.codes).ok_or_else(|| bad("the verdicts are not those of the batch"))?;
        let root = attestation.root;
        let mut signatures = seal.signatures.clone();
        signatures.sort_unstable_by_key(|(node, _)| *node);
        let certificate = Certificate { attestation, signatures };
        certificate.check(&self.validators.keys(), self.quorum()).map_err(|why| bad(&why.to_string()))?;

        let number = seal.batch;
        let described = self.policies.get(&batch.policy).map_or(&[][..], |row| &row.description.reasons);
        let mut used: Vec<u16> = seal.codes.iter().copied().filter(|code| *code != 0).collect();
        used.sort_unstable();
        used.dedup();
        let text = |code: u16| described.get(usize::from(code) - 1).map_or(POLICY_FAULT_REASON, |text| text.as_str());
        let reasons = used.into_iter().map(|code| (code, text(code).to_string())).collect();
        let sealed = Sealed {
            at: fx.index,
            previous: self.meta.records.sealed_at,
            set_version: seal.set_version,
            root,
            codes: seal.codes.clone(),
            reasons,
            signatures: certificate.signatures,
        };
        let refused = sealed.codes.iter().filter(|code| **code != 0).count() as u64;
        let Some(batch) = self.batches.get_mut(&number) else { return Err(Reject::UnknownBatch) };
        Arc::make_mut(batch).sealed = Some(Box::new(sealed));
        let batch = batch.clone();
        self.contents.remove(&number);
        self.known.seal(&batch);
        let counters = &mut self.meta.records;
        counters.sealed += 1;
        counters.sealed_at = fx.index;
        counters.refused += refused;
        counters.signed += u64::from(batch.count).saturating_sub(refused);
        fx.writes.push(Write::Batch(number, Some(batch.clone())));
        fx.writes.push(Write::Contents(number, None));
        fx.notices.push(Notice::Sealed(batch));
        Ok(Reply::Done)
    }
}
