//! Machine code of components that this node compiled, kept for its next start.
//!
//! A file of native code is run without any further check, so a folder of them is as good as the program itself to whoever
//! can write there: a backup that is put back, a volume that two machines share, a disk that forgets. Each file therefore
//! carries an HMAC-SHA256 under a key that only this node has, over the component's digest, the engine's fingerprint and the
//! code. A file that was changed, cut, renamed or made elsewhere is refused with a warning, and the component is compiled
//! again. What is refused is never worse than what is missing: a cache does not stop a node.
//!
//! Nothing in it ever came over the network: only what [`Engine`](crate::Engine) compiled itself is put in.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use kernel::id::Digest;
use sha2::Sha256;

use crate::compile::ARTEFACT_BYTES;
use crate::engine::Fingerprint;

/// Files that are kept: all policies that a cluster knows at one time, and some of before.
pub const CACHE_FILES: usize = 32;
/// Bytes that are kept.
pub const CACHE_BYTES: u64 = 128 << 20;
/// What the files' names end with.
const ENDING: &str = "compiled";
/// What a file's name ends with until it is whole.
const DRAFT: &str = "draft";
/// What the tag is for: no other use of the key gives the same one.
const PURPOSE: &[u8] = b"pingward compiled component 1\0";
const TAG_BYTES: usize = 32;

type Warn = dyn Fn(&Path, &str) + Send + Sync;

/// A folder of machine code. See the head of this file.
pub struct Cache {
    dir: PathBuf,
    key: [u8; 32],
    warn: Box<Warn>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Cache {
    /// A cache in a folder, which is made when it is first needed. The key is this node's alone; `warn` is told of every
    /// file that is refused and of a disk that does not take one, with the file.
    #[must_use]
    pub fn new(dir: PathBuf, key: [u8; 32], warn: impl Fn(&Path, &str) + Send + Sync + 'static) -> Self {
        Self { dir, key, warn: Box::new(warn) }
    }

    /// The code of a component for this engine, if it is here and whole.
    pub(crate) fn get(&self, component: Digest, engine: &Fingerprint) -> Option<Vec<u8>> {
        let path = self.path(component, engine);
        match self.read(&path, component, engine) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.refuse(component, engine, &error.to_string());
                None
            }
        }
    }

    fn read(&self, path: &Path, component: Digest, engine: &Fingerprint) -> io::Result<Vec<u8>> {
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "it is not as this node wrote it");
        let file = File::open(path)?;
        let mut tag = [0; TAG_BYTES];
        let mut code = Vec::new();
        (&file).read_exact(&mut tag).map_err(|_| changed())?;
        (&file).take(ARTEFACT_BYTES as u64 + 1).read_to_end(&mut code)?;
        self.tag(component, engine, &code).verify_slice(&tag).map_err(|_| changed())?;
        // What was used last goes last. A disk that may only be read keeps its order.
        let _best_effort = file.set_modified(SystemTime::now());
        Ok(code)
    }

    /// Tells of a file that cannot be used, and removes it.
    pub(crate) fn refuse(&self, component: Digest, engine: &Fingerprint, why: &str) {
        let path = self.path(component, engine);
        (self.warn)(&path, &format!("{why}; the component is compiled again"));
        let _it_is_written_again = fs::remove_file(&path);
    }

    /// Keeps code; what was not used for the longest time makes room.
    pub(crate) fn put(&self, component: Digest, engine: &Fingerprint, code: &[u8]) {
        let path = self.path(component, engine);
        if let Err(error) = self.write(&path, component, engine, code) {
            (self.warn)(&path, &format!("it cannot be written: {error}; the next start compiles the component again"));
        }
        self.make_room();
    }

    fn write(&self, path: &Path, component: Digest, engine: &Fingerprint, code: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let draft = path.with_extension(DRAFT);
        // One that a power cut left.
        let _there_is_none = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let tag: [u8; TAG_BYTES] = self.tag(component, engine, code).finalize().into_bytes().into();
        let written = file.write_all(&tag).and_then(|()| file.write_all(code)).and_then(|()| file.sync_all());
        let kept = written.and_then(|()| fs::rename(&draft, path));
        if kept.is_err() {
            let _best_effort = fs::remove_file(&draft);
        }
        kept
    }

    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ending| ending == DRAFT) {
                // None is being written now: this is called after writing, and one component is compiled at a time.
                let _best_effort = fs::remove_file(&path);
            } else if path.extension().is_some_and(|ending| ending == ENDING)
                && let Ok(about) = fs::symlink_metadata(&path)
            {
                files.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), path, about.len()));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        let mut count = files.len();
        for (_, path, size) in files {
            if count <= CACHE_FILES && bytes <= CACHE_BYTES {
                break;
            }
            let _best_effort = fs::remove_file(path);
            (count, bytes) = (count - 1, bytes - size);
        }
    }

    fn path(&self, component: Digest, engine: &Fingerprint) -> PathBuf {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let engine = hex(engine.get(..8).unwrap_or_default());
        self.dir.join(format!("{}-{engine}.{ENDING}", hex(&component.0)))
    }

    fn tag(&self, component: Digest, engine: &Fingerprint, code: &[u8]) -> Hmac<Sha256> {
        let mut tag = self.keyed();
        for part in [PURPOSE, &component.0, engine, code] {
            tag.update(part);
        }
        tag
    }

    #[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
    fn keyed(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.key).expect("HMAC takes keys of every length")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    const ENGINE: Fingerprint = [7; 32];
    const CODE: &[u8] = b"machine code that nobody runs, long enough to be cut and flipped in many places";

    struct Rig {
        dir: tempfile::TempDir,
        warned: Arc<Mutex<Vec<String>>>,
    }

    impl Rig {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), warned: Arc::default() }
        }

        fn cache(&self, key: u8) -> Cache {
            let warned = Arc::clone(&self.warned);
            Cache::new(self.dir.path().join("compiled"), [key; 32], move |file, why| {
                warned.lock().unwrap().push(format!("{}: {why}", file.display()));
            })
        }

        /// It is not used, exactly one warning says why, and it is gone.
        #[track_caller]
        fn refused(&self, cache: &Cache, component: Digest, engine: &Fingerprint, what: &str) {
            assert_eq!(cache.get(component, engine), None, "{what}");
            let warned = std::mem::take(&mut *self.warned.lock().unwrap());
            assert_eq!(warned.len(), 1, "{what}: {warned:?}");
            assert!(warned[0].contains("is not as this node wrote it; the component is compiled again"), "{warned:?}");
            assert!(!cache.path(component, engine).exists(), "{what}");
        }
    }

    #[test]
    fn what_was_put_in_comes_out_and_only_its_owner_may_read_it() {
        let rig = Rig::new();
        let (cache, component) = (rig.cache(1), Digest::of(b"a"));
        assert_eq!(cache.get(component, &ENGINE), None);
        cache.put(component, &ENGINE, CODE);
        assert_eq!(cache.get(component, &ENGINE).unwrap(), CODE);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&cache.dir), mode(&cache.path(component, &ENGINE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 1, "no draft stays");
        assert!(rig.warned.lock().unwrap().is_empty(), "what is missing is no reason to warn");
    }

    #[test]
    fn a_file_that_was_tampered_with_is_refused() {
        let rig = Rig::new();
        let (cache, component) = (rig.cache(1), Digest::of(b"a"));
        let path = cache.path(component, &ENGINE);
        let whole = TAG_BYTES + CODE.len();
        for at in 0..whole {
            cache.put(component, &ENGINE, CODE);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            rig.refused(&cache, component, &ENGINE, &format!("byte {at} flipped"));
        }
        for length in [0, 1, TAG_BYTES - 1, TAG_BYTES, TAG_BYTES + 1, whole - 1, whole + 1] {
            cache.put(component, &ENGINE, CODE);
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
            rig.refused(&cache, component, &ENGINE, &format!("cut to {length}"));
        }
    }

    #[test]
    fn a_file_of_another_component_engine_key_is_refused() {
        let rig = Rig::new();
        let cache = rig.cache(1);
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        cache.put(a, &ENGINE, CODE);
        cache.put(b, &ENGINE, b"other code");
        let (of_a, of_b) = (cache.path(a, &ENGINE), cache.path(b, &ENGINE));
        let aside = cache.dir.join("aside");
        fs::rename(&of_a, &aside).unwrap();
        fs::rename(&of_b, &of_a).unwrap();
        fs::rename(&aside, &of_b).unwrap();
        rig.refused(&cache, a, &ENGINE, "swapped");
        rig.refused(&cache, b, &ENGINE, "swapped");

        // Another engine looks for another file; one that is renamed for it is refused.
        let other = [8; 32];
        cache.put(a, &ENGINE, CODE);
        assert_eq!(cache.get(a, &other), None);
        fs::rename(&of_a, cache.path(a, &other)).unwrap();
        rig.refused(&cache, a, &other, "of another engine");

        cache.put(a, &ENGINE, CODE);
        rig.refused(&rig.cache(2), a, &ENGINE, "of another node");
    }

    #[test]
    fn the_folder_stays_within_its_bounds_and_what_was_used_last_stays() {
        let rig = Rig::new();
        let cache = rig.cache(1);
        let digests: Vec<Digest> = (0..CACHE_FILES as u8).map(|one| Digest::of(&[one])).collect();
        for (age, digest) in digests.iter().enumerate() {
            cache.put(*digest, &ENGINE, CODE);
            let file = File::open(cache.path(*digest, &ENGINE)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(age as u64)).unwrap();
        }
        assert!(cache.get(digests[0], &ENGINE).is_some(), "which makes it the one that was used last");
        fs::write(cache.dir.join("left.draft"), "by a power cut").unwrap();
        cache.put(Digest::of(b"one more"), &ENGINE, CODE);
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), CACHE_FILES);
        assert!(cache.get(digests[0], &ENGINE).is_some());
        assert!(cache.get(digests[1], &ENGINE).is_none());

        // A sparse file stands for many bytes.
        let large = cache.path(Digest::of(b"large"), &ENGINE);
        File::create(&large).unwrap().set_len(CACHE_BYTES).unwrap();
        File::open(&large).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        cache.put(Digest::of(b"two more"), &ENGINE, CODE);
        assert!(!large.exists());
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), CACHE_FILES);
    }

    #[test]
    fn a_folder_that_cannot_be_is_warned_of_and_nothing_else() {
        let rig = Rig::new();
        fs::write(rig.dir.path().join("compiled"), "a file").unwrap();
        let cache = rig.cache(1);
        cache.put(Digest::of(b"a"), &ENGINE, CODE);
        let warned = std::mem::take(&mut *rig.warned.lock().unwrap());
        assert!(warned.len() == 1 && warned[0].contains("it cannot be written"), "{warned:?}");
        assert_eq!(cache.get(Digest::of(b"a"), &ENGINE), None);
    }
}
