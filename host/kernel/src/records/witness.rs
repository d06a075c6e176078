//! What a validator saw the others sign, so that one that signs two roots for one batch and attempt is found out by whoever
//! saw both (PROTOCOLS 10.22).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{NodeId, Signature};
use crate::records::certificate::{Attestation, Certificate};
use crate::records::validators::{Attested, Evidence};

/// Attestations that are remembered; past it those of the oldest batch are forgotten. A set has tens of validators, and no
/// more than a thousand batches are open.
const ROOM: usize = 4_096;

/// Attestations by batch, attempt and validator. Whoever hands one in has checked its signature.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    seen: BTreeMap<(u64, u32, NodeId), (Attestation, Signature)>,
}

impl Witness {
    /// A validator signed this. Gives the proof where it signed another root before. The stamp is zero: who proposes it sets
    /// it.
    pub fn hear(&mut self, validator: NodeId, attestation: &Attestation, signature: Signature) -> Option<Evidence> {
        let key = (attestation.batch, attestation.attempt, validator);
        if let Some(evidence) = self.against(validator, attestation, signature) {
            return Some(evidence);
        }
        if self.seen.len() >= ROOM && !self.seen.contains_key(&key) {
            self.seen.pop_first();
        }
        self.seen.entry(key).or_insert_with(|| (attestation.clone(), signature));
        None
    }

    /// Whether somebody signed another root than this one for its batch and attempt.
    #[must_use]
    pub fn doubts(&self, truth: &Attestation) -> bool {
        let first = (truth.batch, truth.attempt, NodeId([0; 32]));
        let last = (truth.batch, truth.attempt, NodeId([u8::MAX; 32]));
        self.seen.range(first..=last).any(|(_, (attestation, _))| attestation.root != truth.root)
    }

    /// The proofs against those who signed a certificate and showed another root before.
    #[must_use]
    pub fn convicts(&self, certificate: &Certificate) -> Vec<Evidence> {
        let signatures = certificate.signatures.iter();
        let against =
            |(node, signature): &(NodeId, Signature)| self.against(*node, &certificate.attestation, *signature);
        signatures.filter_map(against).collect()
    }

    fn against(&self, validator: NodeId, attestation: &Attestation, signature: Signature) -> Option<Evidence> {
        let (before, of_before) = self.seen.get(&(attestation.batch, attestation.attempt, validator))?;
        let attested = |what: &Attestation, signature| Attested { payload: what.payload(), signature };
        let evidence = Evidence {
            validator,
            one: attested(before, *of_before),
            other: attested(attestation, signature),
            now_ms: 0,
        };
        evidence.check().is_ok().then_some(evidence)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::envelope::{ATTESTATION_TYPE, pae};
    use crate::id::{ClusterId, Digest, Genesis};

    struct Key(SigningKey);

    impl Key {
        fn id(&self) -> NodeId {
            NodeId(self.0.verifying_key().to_bytes())
        }

        fn sign(&self, what: &Attestation) -> Signature {
            Signature(self.0.sign(&pae(ATTESTATION_TYPE, &what.payload())).to_bytes())
        }
    }

    fn signer(number: u8) -> Key {
        Key(SigningKey::from_bytes(&[number; 32]))
    }

    fn attestation(batch: u64, root: Digest) -> Attestation {
        Attestation {
            cluster: ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) },
            batch,
            attempt: 0,
            set_version: 1,
            policy: Digest([9; 32]),
            first_sequence: 1,
            count: 1,
            root,
        }
    }

    #[test]
    fn who_signs_two_roots_is_found_out_and_who_signs_one_twice_is_not() {
        let (key, mut witness) = (signer(1), Witness::default());
        let truth = attestation(7, Digest([1; 32]));
        let lie = Attestation { root: Digest([2; 32]), ..truth.clone() };
        let later = Attestation { set_version: truth.set_version + 1, ..truth.clone() };
        let again = Attestation { attempt: 1, ..lie.clone() };
        for honest in [&truth, &truth, &later, &again] {
            assert_eq!(witness.hear(key.id(), honest, key.sign(honest)), None);
        }
        assert!(!witness.doubts(&truth) && witness.doubts(&lie), "somebody found otherwise");
        let evidence = witness.hear(key.id(), &lie, key.sign(&lie)).unwrap();
        let (one, other) = evidence.check().unwrap();
        assert_eq!((evidence.validator, one.root, other.root), (key.id(), truth.root, lie.root));
        // Another validator's word, and one whose signature is no good, prove nothing.
        assert_eq!(witness.hear(signer(2).id(), &lie, signer(2).sign(&lie)), None);
        assert_eq!(witness.hear(key.id(), &lie, signer(2).sign(&lie)), None);
    }

    #[test]
    fn a_certificate_convicts_those_in_it_who_showed_another_root() {
        let (liar, honest, mut witness) = (signer(1), signer(2), Witness::default());
        let truth = attestation(7, Digest([1; 32]));
        let lie = Attestation { root: Digest([2; 32]), ..truth.clone() };
        assert_eq!(witness.hear(liar.id(), &lie, liar.sign(&lie)), None);
        let signatures = [&liar, &honest].map(|key| (key.id(), key.sign(&truth))).to_vec();
        let certificate = Certificate { attestation: truth.clone(), signatures };
        let found = witness.convicts(&certificate);
        assert_eq!(found.iter().map(|one| one.validator).collect::<Vec<_>>(), [liar.id()]);
        // An answer that comes late convicts as well.
        assert_eq!(witness.hear(liar.id(), &truth, liar.sign(&truth)).map(|one| one.validator), Some(liar.id()));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let (key, mut witness) = (signer(1), Witness::default());
        let signed = key.sign(&attestation(0, Digest([1; 32])));
        for batch in 0..2 * ROOM as u64 {
            witness.hear(key.id(), &attestation(batch, Digest([1; 32])), signed);
        }
        assert_eq!((witness.seen.len(), witness.seen.first_key_value().unwrap().0.0), (ROOM, ROOM as u64));
    }
}
