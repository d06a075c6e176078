//! A node's key, and what it knows of others' keys.
//!
//! The key is 32 bytes of the system's randomness, kept as PKCS#8 PEM in a file that only its owner may read. It does
//! TLS and signs; nothing is signed outside DSSE, so what was signed for one purpose is worth nothing for another.
//!
//! Not here, on purpose: a passphrase. Whoever can read the file as this user can read the process as well.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use kernel::envelope::{PARTIAL_TYPE, pae};
use kernel::id::{NodeId, Signature};
use kernel::round::SignedPartial;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// PKCS#8 header of an ed25519 key; the 32 bytes of the seed follow.
pub const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// More than any key file of ours.
const FILE_BYTES: u64 = 4 << 10;

/// A node's (or a wallet's) secret key. Debug shows the public one.
#[derive(Clone)]
pub struct NodeKey {
    signing: SigningKey,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({:?})", self.id())
    }
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Others may read it.
    #[error(
        "{path} may be read by others (mode {mode:04o}); run `chmod 600 {path}`, and make a new key if somebody may have read it"
    )]
    Open {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no key.
    #[error("{path} is no ed25519 key in PKCS#8 PEM; `pingward key new` makes one")]
    NoKey {
        /// The file.
        path: String,
    },
    /// There is a file, and it is not overwritten.
    #[error("{path} exists; move it away first, or name another file")]
    Exists {
        /// The file.
        path: String,
    },
    /// Others may enter the data folder.
    #[error(
        "the data folder {path} may be entered by others (mode {mode:04o}); run `chmod 700 {path}`, or name in node.data_dir \
         one that is not there yet"
    )]
    OpenFolder {
        /// The folder.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The disk refuses.
    #[error("cannot {what} {path}; {}", cure(.source))]
    Disk {
        /// Read, write, make.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(getrandom::Error),
}

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(KeyError::NoRandomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError`], with the cure.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let disk = |source| KeyError::Disk { what: "read", path: shown(path), source };
        let file = File::open(path).map_err(disk)?;
        let mode = file.metadata().map_err(disk)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: shown(path), mode });
        }
        // Room for all of it at once: a buffer that grows would leave copies behind.
        let mut pem = Zeroizing::new(Vec::with_capacity(FILE_BYTES as usize));
        file.take(FILE_BYTES).read_to_end(&mut pem).map_err(disk)?;
        Self::from_pem(&pem).ok_or_else(|| KeyError::NoKey { path: shown(path) })
    }

    /// Reads a key file, or makes one where there is none. `true`: it was made.
    ///
    /// # Errors
    /// [`KeyError`], with the cure.
    pub fn load_or_create(path: &Path) -> Result<(Self, bool), KeyError> {
        match Self::load(path) {
            Err(KeyError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                key.save(path)?;
                Ok((key, true))
            }
            loaded => loaded.map(|key| (key, false)),
        }
    }

    /// Writes a new key file, mode 0600, whole or not at all. Never overwrites.
    ///
    /// # Errors
    /// [`KeyError::Exists`] or [`KeyError::Disk`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        write_new(path, self.to_pem().as_bytes()).map_err(|source| {
            let path = shown(path);
            if source.kind() == io::ErrorKind::AlreadyExists {
                KeyError::Exists { path }
            } else {
                KeyError::Disk { what: "write", path, source }
            }
        })
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let seed = der.secret_pkcs8_der().strip_prefix(&PKCS8)?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(seed.try_into().ok()?);
        Some(Self::from_seed(&seed))
    }

    fn to_pem(&self) -> Zeroizing<String> {
        let body = Zeroizing::new(BASE64.encode(&*self.pkcs8()));
        Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", &*body))
    }

    /// As PKCS#8 DER.
    #[must_use]
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8.len() + 32));
        der.extend_from_slice(&PKCS8);
        der.extend_from_slice(self.signing.as_bytes());
        der
    }

    /// The public key: what the node is called.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.signing.verifying_key().to_bytes())
    }

    /// Another secret for a purpose within this node, such as the tag on files that it alone writes. It tells nothing of the
    /// key, nor of what is derived for another purpose.
    #[must_use]
    #[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
    pub fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.signing.as_bytes()).expect("HMAC takes keys of every length");
        mac.update(purpose);
        mac.finalize().into_bytes().into()
    }

    /// Signs a payload of a type (DSSE).
    #[must_use]
    pub fn sign(&self, payload_type: &str, payload: &[u8]) -> Signature {
        Signature(self.signing.sign(&pae(payload_type, payload)).to_bytes())
    }

    /// Signs a partial report, as it travels.
    #[must_use]
    pub fn sign_partial(&self, payload: Vec<u8>) -> SignedPartial {
        let signature = self.sign(PARTIAL_TYPE, &payload);
        SignedPartial { signer: self.id(), payload, signature }
    }

    /// Signs a payload as the JSON envelope that the API takes, a claim for instance.
    #[must_use]
    pub fn envelope(&self, payload_type: &str, payload: &[u8]) -> Envelope {
        let sig = BASE64.encode(self.sign(payload_type, payload).0);
        Envelope {
            payload_type: payload_type.to_owned(),
            payload: BASE64.encode(payload),
            signatures: vec![EnvelopeSignature { keyid: self.id().to_string(), sig }],
        }
    }
}

/// A DSSE envelope as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// What the payload is.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// Base64 of the bytes that were signed.
    pub payload: String,
    /// By whom.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// The signer's key, 64 hex digits.
    pub keyid: String,
    /// Base64 of the signature.
    pub sig: String,
}

fn cure(error: &io::Error) -> &'static str {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        "name the file of a key, or make one with `pingward key new`"
    } else if kind == io::ErrorKind::PermissionDenied {
        "run as the user whose it is, or give it to this one with `chown`"
    } else {
        "check the path, and the room on the disk"
    }
}

/// Makes a node's data folder, which only its owner may enter. One that is there and empty is closed to others, because
/// nothing in it was left open on purpose; one that holds something stays as it is and is refused while others may enter.
///
/// # Errors
/// [`KeyError::OpenFolder`] or [`KeyError::Disk`], with the cure.
pub fn data_dir(dir: &Path) -> Result<(), KeyError> {
    let disk = |source| KeyError::Disk { what: "make", path: shown(dir), source };
    private_dir(dir).map_err(disk)?;
    let mode = std::fs::metadata(dir).map_err(disk)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let is_empty = std::fs::read_dir(dir).map_err(disk)?.next().is_none();
    if is_empty && std::fs::set_permissions(dir, Permissions::from_mode(0o700)).is_ok() {
        return Ok(());
    }
    Err(KeyError::OpenFolder { path: shown(dir), mode })
}

/// Makes a folder that only its owner may enter; one that exists stays as it is.
///
/// # Errors
/// The disk's.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a file that only its owner may read, whole or not at all, and fails where there is one.
///
/// # Errors
/// The disk's; `AlreadyExists` where there is a file.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put_new(&write_draft(path, bytes)?, path)
}

/// Gives a file that is whole and on the disk its name, and fails where there is one; its first name goes.
///
/// # Errors
/// The disk's; `AlreadyExists` where there is a file.
pub fn put_new(draft: &Path, path: &Path) -> io::Result<()> {
    // A link, because it never replaces a file.
    let linked = std::fs::hard_link(draft, path);
    std::fs::remove_file(draft)?;
    linked?;
    sync_parent(path)
}

/// Replaces a file that only its owner may read, whole or not at all.
///
/// # Errors
/// The disk's; the file is then as before.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put_over(&write_draft(path, bytes)?, path)
}

/// Gives a file that is whole and on the disk the name of another one, which goes.
///
/// # Errors
/// The disk's; the other file is then as before.
pub fn put_over(draft: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(draft, path)?;
    sync_parent(path)
}

fn write_draft(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        private_dir(dir)?;
    }
    let (draft, mut file) = draft(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _best_effort = std::fs::remove_file(&draft);
    }
    written.map(|()| draft)
}

/// An empty file beside the one that it is to become, which only its owner may read.
///
/// # Errors
/// The disk's.
pub fn draft(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(io::Error::other)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", u64::from_le_bytes(salt)));
    let draft = path.with_file_name(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft)?;
    Ok((draft, file))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use kernel::envelope::{CLAIM_TYPE, verify};

    use super::*;

    #[test]
    fn a_key_file_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/node.key");
        let (key, made) = NodeKey::load_or_create(&path).unwrap();
        assert!(made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(dir.path().join("deep")).unwrap().permissions().mode() & 0o777, 0o700);
        let (again, made) = NodeKey::load_or_create(&path).unwrap();
        assert_eq!((again.id(), made), (key.id(), false));
        assert_eq!(std::fs::read_dir(dir.path().join("deep")).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let key = NodeKey::from_seed(&[1; 32]);
        key.save(&path).unwrap();
        assert!(matches!(NodeKey::from_seed(&[2; 32]).save(&path), Err(KeyError::Exists { .. })));
        assert_eq!(NodeKey::load(&path).unwrap().id(), key.id());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        NodeKey::from_seed(&[1; 32]).save(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = NodeKey::load_or_create(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_data_folder_is_private_or_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let data = dir.path().join("deep/data");
        data_dir(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        for open in [0o755, 0o750, 0o701] {
            std::fs::set_permissions(&data, Permissions::from_mode(open)).unwrap();
            data_dir(&data).unwrap();
            assert_eq!(mode(&data), 0o700, "an empty one is closed");
        }
        std::fs::write(data.join("super.redb"), "").unwrap();
        data_dir(&data).unwrap();
        std::fs::set_permissions(&data, Permissions::from_mode(0o750)).unwrap();
        let error = data_dir(&data).unwrap_err().to_string();
        assert!(error.contains("mode 0750") && error.contains("chmod 700"), "{error}");
        assert_eq!(mode(&data), 0o750, "it is not ours to close");
    }

    #[test]
    fn a_key_that_the_disk_does_not_give_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = NodeKey::load(&dir.path().join("node.key")).unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains("`pingward key new`"), "{error}");
        let error = NodeKey::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("; ") || error.contains("chmod"), "{error}");
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            assert!(!cure(&kind.into()).is_empty());
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(NodeKey::load_or_create(&path), Err(KeyError::NoKey { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn an_envelope_verifies_over_its_own_bytes() {
        let key = NodeKey::from_seed(&[3; 32]);
        let envelope = key.envelope(CLAIM_TYPE, b"{}");
        let payload = BASE64.decode(&envelope.payload).unwrap();
        let signature = Signature(BASE64.decode(&envelope.signatures[0].sig).unwrap().try_into().unwrap());
        assert!(verify(&key.id(), CLAIM_TYPE, &payload, &signature));
        assert!(!verify(&key.id(), PARTIAL_TYPE, &payload, &signature));
    }

    #[test]
    fn what_is_derived_differs_by_key_and_by_purpose() {
        let key = NodeKey::from_seed(&[3; 32]);
        assert_eq!(key.derive(b"a"), NodeKey::from_seed(&[3; 32]).derive(b"a"));
        assert_ne!(key.derive(b"a"), key.derive(b"b"));
        assert_ne!(key.derive(b"a"), NodeKey::from_seed(&[4; 32]).derive(b"a"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", NodeKey::from_seed(&[0x5a; 32]));
        assert!(!shown.contains("5a5a") && !shown.contains("90, 90"), "{shown}");
    }
}
