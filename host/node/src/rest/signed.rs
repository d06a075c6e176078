//! Signed bodies: DSSE envelopes.
//!
//! Bytes are verified as carried, before anything in them is read; the payload's type is inside the signature, so what
//! was signed for one purpose is worth nothing for another.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::DeserializeOwned;

use kernel::envelope;
use kernel::id::{ClusterId, Digest, NodeId, Signature};

use super::input::object;
use super::problem::{Code, Problem};
use crate::keys::Envelope;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A payload whose signature was verified.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    /// Who signed it.
    pub signer: NodeId,
    /// What it says.
    pub payload: T,
    /// SHA-256 of its bytes as carried.
    pub digest: Digest,
}

/// Reads an envelope, verifies its signature, then reads the payload.
///
/// # Errors
/// `bad_envelope`, `wrong_type`, `weak_key`, `bad_signature`, `bad_payload`: the first that holds, in this order.
pub fn open<T: DeserializeOwned>(body: &[u8], payload_type: &str) -> Result<Verified<T>, Problem> {
    let bad = |detail: String| Problem::new(Code::BadEnvelope, detail);
    let envelope: Envelope = object(body).map_err(bad)?;
    let [signature] = envelope.signatures.as_slice() else {
        return Err(bad(format!("signatures: exactly one is taken, there are {}", envelope.signatures.len())));
    };
    if envelope.payload_type != payload_type {
        let detail = format!("payloadType is `{}`, this route takes `{payload_type}`", envelope.payload_type);
        return Err(Problem::new(Code::WrongType, detail).with("payload_type", payload_type));
    }
    let payload = base64(&envelope.payload).ok_or_else(|| bad("payload: this is not base64".into()))?;
    let sig = base64(&signature.sig).ok_or_else(|| bad("signatures[0].sig: this is not base64".into()))?;
    let sig: [u8; 64] =
        sig.try_into().map_err(|_| bad("signatures[0].sig: an ed25519 signature has 64 bytes".into()))?;
    let signer = NodeId::parse(&signature.keyid).map_err(|error| {
        let code = if error == kernel::id::ParseIdError::WeakKey { Code::WeakKey } else { Code::BadEnvelope };
        Problem::new(code, format!("signatures[0].keyid: {error}"))
    })?;
    if !envelope::verify(&signer, payload_type, &payload, &Signature(sig)) {
        return Err(Problem::of(Code::BadSignature));
    }
    let digest = Digest::of(&payload);
    let payload = object(&payload).map_err(|what| Problem::new(Code::BadPayload, what))?;
    Ok(Verified { signer, payload, digest })
}

/// What an envelope of a record carries; the signature is not checked yet.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Who signed it.
    pub signer: NodeId,
    /// The payload as carried.
    pub payload: Vec<u8>,
    /// Over it.
    pub signature: Signature,
}

/// Reads an envelope of a record, whose payload is bytes and no JSON. `None`: the body is none, whatever else it is.
pub fn read_envelope(body: &[u8]) -> Option<Result<Signed, Problem>> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let bad = |detail: String| Problem::new(Code::BadEnvelope, detail);
    let read = || {
        if envelope.payload_type != envelope::RECORD_TYPE {
            let (named, ours) = (&envelope.payload_type, envelope::RECORD_TYPE);
            let detail = format!("payloadType is `{named}`, this route takes `{ours}`");
            return Err(Problem::new(Code::WrongType, detail).with("payload_type", ours));
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(bad(format!("signatures: exactly one is taken, there are {}", envelope.signatures.len())));
        };
        let payload = base64(&envelope.payload).ok_or_else(|| bad("payload: this is not base64".into()))?;
        let sig = base64(&signature.sig).and_then(|sig| sig.try_into().ok());
        let sig: [u8; 64] =
            sig.ok_or_else(|| bad("signatures[0].sig: an ed25519 signature has 64 bytes, in base64".into()))?;
        let signer = NodeId::parse(&signature.keyid).map_err(|error| {
            let code = if error == kernel::id::ParseIdError::WeakKey { Code::WeakKey } else { Code::BadEnvelope };
            Problem::new(code, format!("signatures[0].keyid: {error}"))
        })?;
        Ok(Signed { signer, payload, signature: Signature(sig) })
    };
    Some(read())
}

/// Checks that a payload means this cluster, in this life of it.
///
/// # Errors
/// `wrong_cluster`, naming both.
pub fn same_cluster(named: &str, ours: &ClusterId) -> Result<(), Problem> {
    let ours = ours.to_string();
    if named == ours {
        return Ok(());
    }
    Err(Problem::new(Code::WrongCluster, format!("it is meant for `{named}`, this is `{ours}`")).with("cluster", ours))
}

/// DSSE allows both alphabets, with padding or without.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
