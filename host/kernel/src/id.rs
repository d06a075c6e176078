//! Names of things: parsed once at the border, valid from then on.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use minicbor::{Decode, Encode};
use sha2::Digest as _;

/// Why a text is not the name that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseIdError {
    /// The text has another number of hex digits than the name needs.
    Length {
        /// Hex digits that the name has.
        expected: usize,
        /// Characters that were given.
        found: usize,
    },
    /// A character is not a hex digit.
    NotHex {
        /// Its place in the text, from 0.
        at: usize,
    },
    /// The bytes are not a usable ed25519 public key: no point of the curve, or one of small order, under which
    /// signatures can be forged.
    WeakKey,
    /// A digest is written `sha256:` and 64 hex digits.
    NoPrefix,
    /// A version is written `major.minor`, both up to 65,535.
    Version,
    /// A cluster name is 1 to 32 characters of `a-z`, `0-9` and `-`.
    Name,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => write!(f, "expected {expected} hex digits, found {found} characters"),
            Self::NotHex { at } => write!(f, "character {at} is not a hex digit"),
            Self::WeakKey => f.write_str("this is not a usable ed25519 public key"),
            Self::NoPrefix => f.write_str("a digest starts with `sha256:`"),
            Self::Version => f.write_str("a version is written MAJOR.MINOR, such as 0.1"),
            Self::Name => f.write_str("use 1 to 32 characters of a-z, 0-9 and -"),
        }
    }
}

impl core::error::Error for ParseIdError {}

fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(ParseIdError::Length { expected: 2 * N, found: text.chars().count() });
    }
    let mut bytes = [0; N];
    for (i, (byte, pair)) in bytes.iter_mut().zip(digits.chunks_exact(2)).enumerate() {
        for (j, digit) in pair.iter().enumerate() {
            let value = (*digit as char).to_digit(16).ok_or(ParseIdError::NotHex { at: 2 * i + j })?;
            *byte = (*byte << 4) | value as u8;
        }
    }
    Ok(bytes)
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Implements CBOR for a new type around a byte array: a byte string of exactly that length.
macro_rules! cbor_bytes {
    ($name:ident, $len:literal) => {
        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }
        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes: [u8; $len] = d
                    .bytes()?
                    .try_into()
                    .map_err(|_| minicbor::decode::Error::message(concat!(stringify!($name), ": length")))?;
                Ok(Self(bytes))
            }
        }
    };
}

/// A node, a wallet or an author: its ed25519 public key, written as 64 hex digits. Nothing else names a node.
///
/// A value made by [`NodeId::parse`] or [`NodeId::checked`] is a usable key. Decoding from CBOR does not check the
/// point again, because stored and replicated ids were checked when they came in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

cbor_bytes!(NodeId, 32);

impl NodeId {
    /// Reads 64 hex digits and checks the key.
    ///
    /// # Errors
    /// [`ParseIdError`] when the text is no hex of that length or the key is weak.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        Self::checked(from_hex(text)?)
    }

    /// Checks that the bytes are a point of the curve and not one of small order (`is_weak`).
    ///
    /// # Errors
    /// [`ParseIdError::WeakKey`].
    pub fn checked(bytes: [u8; 32]) -> Result<Self, ParseIdError> {
        match ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(ParseIdError::WeakKey),
        }
    }

    /// The first 8 hex digits, which are shown beside a name.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.0.get(..4).unwrap_or_default())
    }
}

/// A SHA-256, written `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

cbor_bytes!(Digest, 32);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest of several byte strings, one after the other. Callers separate them where their lengths vary.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = sha2::Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The identity of a policy: SHA-256 of the component's digest followed by its config's digest.
    #[must_use]
    pub fn of_policy(component: Self, config: Self) -> Self {
        Self::of_parts(&[&component.0, &config.0])
    }
}

impl FromStr for Digest {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_hex(text.strip_prefix("sha256:").ok_or(ParseIdError::NoPrefix)?).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.0.get(..4).unwrap_or_default())
    }
}

/// An ed25519 signature, as bytes: whether it is valid depends on what it is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

cbor_bytes!(Signature, 64);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.0.get(..4).unwrap_or_default())
    }
}

/// 16 bytes drawn when a cluster is founded, so that signatures of one life do not count in the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Genesis(pub [u8; 16]);

cbor_bytes!(Genesis, 16);

impl fmt::Display for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// A cluster: a name chosen by hand and the genesis. Written `id#genesis`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct ClusterId {
    /// The name in the config, at most 32 characters of `[a-z0-9-]`.
    #[n(0)]
    pub id: String,
    /// Drawn at founding.
    #[n(1)]
    pub genesis: Genesis,
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.id, self.genesis)
    }
}

impl FromStr for ClusterId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, genesis) = text.split_once('#').ok_or(ParseIdError::Name)?;
        if !is_name(id) {
            return Err(ParseIdError::Name);
        }
        Ok(Self { id: id.to_string(), genesis: Genesis(from_hex(genesis)?) })
    }
}

/// Whether a text may name a node or a cluster: 1 to 32 characters of `[a-z0-9-]`. Names are not unique and never
/// identity.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Implements a numbered name.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A round's number. The first round of a cluster is 1; 0 means "none settled yet".
    RoundId(u64)
);
number!(
    /// A Raft term: rises with each change of leader. A group of one starts a new term at each start.
    Term(u64)
);
number!(
    /// A place in the replicated log, from 1.
    LogIndex(u64)
);
number!(
    /// A super's place among the observers, 0 to 7. It keeps it until it is removed.
    Seat(u8)
);
number!(
    /// A member's number: given at its first join, rising, never used again. Blocks of stored columns are in this
    /// order, and history names members by it.
    MemberNumber(u32)
);

impl RoundId {
    /// The round after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This round and `rounds` more.
    #[must_use]
    pub const fn plus(self, rounds: u64) -> Self {
        Self(self.0.saturating_add(rounds))
    }

    /// How many rounds this one is after `earlier`; 0 when it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A protocol version that a node speaks, `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct ProtocolVersion {
    /// Breaking changes.
    #[n(0)]
    pub major: u16,
    /// Additions.
    #[n(1)]
    pub minor: u16,
}

impl ProtocolVersion {
    /// The version that this release speaks.
    pub const OURS: Self = Self { major: 0, minor: 1 };
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ProtocolVersion {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Option<Vec<u16>> = text.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some([major, minor]) => Ok(Self { major: *major, minor: *minor }),
            _ => Err(ParseIdError::Version),
        }
    }
}

/// A range of protocol versions, written as in Cargo: `>=0.1, <0.2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange(semver::VersionReq);

impl VersionRange {
    /// Whether a version lies in the range.
    #[must_use]
    pub fn accepts(&self, version: ProtocolVersion) -> bool {
        self.0.matches(&semver::Version::new(version.major.into(), version.minor.into(), 0))
    }
}

impl FromStr for VersionRange {
    type Err = semver::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<C> Encode<C> for VersionRange {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for VersionRange {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(|_| minicbor::decode::Error::message("VersionRange"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = NodeId::checked(ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()).unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let cluster = ClusterId { id: "lab".into(), genesis: Genesis([5; 16]) };
        assert_eq!(cluster.to_string().parse(), Ok(cluster));
    }

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        let identity = "0100000000000000000000000000000000000000000000000000000000000000";
        for (text, error) in [
            (identity, ParseIdError::WeakKey),
            (&"0".repeat(64), ParseIdError::WeakKey),
            ("ab", ParseIdError::Length { expected: 64, found: 2 }),
            (&identity.replace("01", "0g"), ParseIdError::NotHex { at: 1 }),
        ] {
            assert_eq!(NodeId::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn version_ranges_are_cargos() {
        let range: VersionRange = ">=0.1, <0.2".parse().unwrap();
        assert!(range.accepts(ProtocolVersion { major: 0, minor: 1 }));
        assert!(!range.accepts(ProtocolVersion { major: 0, minor: 2 }));
        assert!(!range.accepts(ProtocolVersion { major: 1, minor: 1 }));
        assert_eq!(range.to_string(), ">=0.1, <0.2");
    }
}
