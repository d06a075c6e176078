//! What the supers of a group say to each other about rounds, as plain types of the kernel, and protobuf of them.

use kernel::id::{NodeId, RoundId, Signature, Term};
use kernel::round::{OpenRound, SignedPartial};

use crate::message::Malformed;
use crate::pb;

/// A partial report: that of a million members has some 5 MiB.
pub const REPORT_BYTES: usize = 8 << 20;
/// Any message.
pub const MESSAGE_BYTES: usize = REPORT_BYTES + (4 << 10);

/// Reads the leader's word that a round begins.
#[must_use]
pub const fn open(from: &pb::OpenRequest) -> OpenRound {
    OpenRound { round: RoundId(from.round), term: Term(from.term), base: RoundId(from.base) }
}

/// Writes it.
#[must_use]
pub const fn open_pb(from: OpenRound) -> pb::OpenRequest {
    pb::OpenRequest { round: from.round.0, term: from.term.0, base: from.base.0 }
}

/// Reads a partial report. What is in it is for the kernel to check.
///
/// # Errors
/// [`Malformed`].
pub fn report(from: pb::ReportRequest) -> Result<SignedPartial, Malformed> {
    let signer = from.signer.as_slice().try_into().map_err(|_| Malformed("a signer that is no key"))?;
    let signature = from.signature.as_slice().try_into().map_err(|_| Malformed("a signature that is not 64 bytes"))?;
    if from.payload.len() > REPORT_BYTES {
        return Err(Malformed("a partial report that is too long"));
    }
    let signer = NodeId::checked(signer).map_err(|_| Malformed("a signer that is no key"))?;
    Ok(SignedPartial { signer, payload: from.payload, signature: Signature(signature) })
}

/// Writes it.
#[must_use]
pub fn report_pb(from: &SignedPartial) -> pb::ReportRequest {
    pb::ReportRequest {
        signer: from.signer.0.to_vec(),
        payload: from.payload.clone(),
        signature: from.signature.0.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_rounds_come_back_as_they_left_and_others_are_malformed() {
        let opened = OpenRound { round: RoundId(7), term: Term(3), base: RoundId(6) };
        assert_eq!(open(&open_pb(opened)), opened);
        // The base point of the curve.
        let mut signer = NodeId([0x66; 32]);
        signer.0[0] = 0x58;
        let signed = SignedPartial { signer, payload: vec![1, 2], signature: Signature([9; 64]) };
        assert_eq!(report(report_pb(&signed)), Ok(signed.clone()));
        for (signer, signature) in [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)] {
            let bytes = signed.signer.0.iter().copied().cycle();
            let pb = pb::ReportRequest {
                signer: bytes.take(signer).collect(),
                signature: vec![9; signature],
                payload: Vec::new(),
            };
            assert!(report(pb).is_err(), "{signer} {signature}");
        }
        let long = SignedPartial { payload: vec![0; REPORT_BYTES + 1], ..signed };
        assert!(report(report_pb(&long)).is_err());
    }
}
