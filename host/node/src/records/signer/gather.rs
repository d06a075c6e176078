//! Signatures: this validator's for whoever asks, those of the others in its turn, and what they prove against each other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kernel::envelope::ATTESTATION_TYPE;
use kernel::id::{Digest, NodeId, Signature};
use kernel::records::certificate::Attestation;
use kernel::records::order::Batch;
use kernel::records::seal::Seal;
use kernel::records::validators::least_quorum;
use tokio::time::timeout;
use wire::records::Attest;

use super::{Found, Signer};

/// Another validator waits no longer than this for a signature.
const LONGEST_ATTEST: Duration = Duration::from_secs(10);

impl Signer {
    /// What this validator found of a batch, once it has; and the batch. `None`: it does not come within the time.
    async fn found(&self, number: u64, within: Duration) -> Option<(Arc<Batch>, Found)> {
        let waiting = async {
            let mut changed = self.inner.changed.subscribe();
            loop {
                let work = self.now().works.get(&number).map(|work| (Arc::clone(&work.batch), work.found.clone()));
                if let Some((batch, mut found)) = work {
                    // A work that is put aside is followed by another one, or its batch was sealed.
                    let known = found.wait_for(|found| *found != Found::Judging).await.map(|found| found.clone());
                    if let Ok(found) = known {
                        return (batch, found);
                    }
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(within, waiting).await.ok()
    }

    fn attestation(&self, batch: &Batch, root: Digest) -> Attestation {
        batch.attestation(&self.inner.cluster, self.now().validators.version, root)
    }

    /// Remembers what another validator signed, whose signature was checked.
    fn hear(&self, node: NodeId, attestation: &Attestation, signature: Signature) {
        let mut now = self.now();
        if let Some(evidence) = now.witness.hear(node, attestation, signature) {
            now.accused.entry(node).or_insert(evidence);
        }
    }

    fn sign(&self, attestation: &Attestation) -> Signature {
        self.inner.key.sign(ATTESTATION_TYPE, &attestation.payload())
    }

    /// Another validator has signed a batch and asks for this one's signature, which it gets once the same root stands in
    /// this one's table.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn attest(&self, from: NodeId, ask: &Attest) -> Result<Signature, String> {
        let faults = &self.inner.faults;
        if faults.mute.load(std::sync::atomic::Ordering::Relaxed) {
            return std::future::pending().await;
        }
        if self.now().validators.get(&from).is_none() {
            return Err("the caller is not in the set".into());
        }
        if !ask.attestation.is_signed_by(&from, &ask.signature) {
            return Err("the caller's signature does not verify".into());
        }
        let within = self.now().turn.min(LONGEST_ATTEST);
        let known = self.found(ask.attestation.batch, within).await;
        // Of batches that are open here, and no others: what is remembered is bounded, and nobody is to crowd it out.
        if let Some((batch, _)) = &known
            && batch.attempt == ask.attestation.attempt
        {
            self.hear(from, &ask.attestation, ask.signature);
        }
        let (batch, root) = match known {
            Some((batch, Found::Held { root, .. })) => (batch, root),
            Some((_, Found::Abstains(why))) => return Err(why),
            Some((_, Found::Judging)) | None => return Err("this batch is not judged here yet".into()),
        };
        let ours = self.attestation(&batch, root);
        if ours == ask.attestation {
            return Ok(self.sign(&ours));
        }
        if (ours.attempt, &ours.cluster) == (ask.attestation.attempt, &ask.attestation.cluster)
            && ours.root != ask.attestation.root
        {
            tracing::error!(
                batch = ours.batch, %from, ours = %ours.root, theirs = %ask.attestation.root,
                "another validator signed another root for this batch than this one found"
            );
            return Err(format!("this validator found the root {}", ours.root));
        }
        Err("it is of another attempt, or of another set".into())
    }

    /// Gathers the signatures of a batch, and gives what seals it. `None`: too few came.
    pub async fn gather(&self, number: u64, attempt: u32) -> Option<Seal> {
        let (quorum, turn, set) = {
            let now = self.now();
            (now.quorum.max(least_quorum(now.validators.set.len())), now.turn, now.validators.set.clone())
        };
        let (batch, found) = self.found(number, turn).await?;
        let Found::Held { codes, root } = found else { return None };
        if batch.attempt != attempt {
            return None;
        }
        let attestation = self.attestation(&batch, root);
        let mut signatures = vec![(self.inner.key.id(), self.sign(&attestation))];
        let shown = if self.inner.faults.lies.load(std::sync::atomic::Ordering::Relaxed) {
            Attestation { root: Digest::of(b"a lie"), ..attestation.clone() }
        } else {
            attestation.clone()
        };
        let ask = Attest { signature: self.sign(&shown), attestation: shown };
        let others = set.into_iter().filter(|other| other.node != self.inner.key.id());
        let mut asked: FuturesUnordered<_> = others
            .map(|other| {
                let answer = self.inner.others.ask(other.node, other.address, ask.clone());
                async move { (other.node, timeout(turn, answer).await) }
            })
            .collect();
        while signatures.len() < quorum {
            let (node, answer) = asked.next().await?;
            match answer {
                Ok(Ok(signature)) if attestation.is_signed_by(&node, &signature) => {
                    self.hear(node, &attestation, signature);
                    signatures.push((node, signature));
                }
                Ok(Ok(_)) => tracing::warn!(batch = number, %node, "a signature that does not verify"),
                Ok(Err(why)) => tracing::debug!(batch = number, %node, why, "no signature"),
                Err(_) => tracing::debug!(batch = number, %node, "no signature in time"),
            }
        }
        if self.now().witness.doubts(&attestation) {
            // The answer of whoever showed another root is the proof, also where it is not needed.
            let (signer, truth) = (self.clone(), attestation.clone());
            tokio::spawn(async move {
                while let Some((node, answer)) = asked.next().await {
                    if let Ok(Ok(signature)) = answer
                        && truth.is_signed_by(&node, &signature)
                    {
                        signer.hear(node, &truth, signature);
                    }
                }
            });
        }
        if self.inner.faults.withholds.load(std::sync::atomic::Ordering::Relaxed) {
            return None;
        }
        signatures.sort_unstable_by_key(|(node, _)| *node);
        let set_version = attestation.set_version;
        Some(Seal { batch: number, attempt, set_version, codes: (*codes).clone(), signatures })
    }

    /// A batch was sealed: whoever signed it and showed this validator another root before is accused.
    pub fn convict(&self, batch: &Batch) {
        let Some(certificate) = batch.certificate(&self.inner.cluster) else { return };
        let mut now = self.now();
        for evidence in now.witness.convicts(&certificate) {
            now.accused.entry(evidence.validator).or_insert(evidence);
        }
    }
}
