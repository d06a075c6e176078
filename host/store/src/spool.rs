//! A snapshot on its way: bytes that are written once, from the front, and read in pieces. On a file in the data folder, or
//! in memory where the store is. It goes with its last owner.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where spools are made.
#[derive(Clone, Debug, Default)]
pub struct SpoolRoom(Option<PathBuf>);

/// See the module. Clones are the same bytes.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    bytes: Bytes,
    len: u64,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

impl SpoolRoom {
    /// A folder. A spool has no name in it, so nothing is left behind after a crash.
    #[must_use]
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self(Some(folder.into()))
    }

    /// Memory.
    #[must_use]
    pub const fn memory() -> Self {
        Self(None)
    }

    /// An empty spool.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(&self) -> io::Result<Spool> {
        let bytes = match &self.0 {
            Some(folder) => Bytes::File(unnamed(folder.join("snapshot.part"))?),
            None => Bytes::Memory(Vec::new()),
        };
        Ok(Spool(Arc::new(Mutex::new(Inner { bytes, len: 0 }))))
    }
}

/// A file without a name. Two that are made at once get two names in turn.
fn unnamed(path: PathBuf) -> io::Result<File> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Spool {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner().len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts bytes at the end. Blocks on the disk.
    ///
    /// # Errors
    /// What the system says; the spool is then to be dropped.
    pub fn append(&self, piece: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        let at = inner.len;
        match &mut inner.bytes {
            Bytes::File(file) => file.write_all_at(piece, at)?,
            Bytes::Memory(bytes) => bytes.extend_from_slice(piece),
        }
        inner.len += piece.len() as u64;
        Ok(())
    }

    /// At most so many bytes from an offset on; none at the end. Blocks on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let inner = self.inner();
        let left = usize::try_from(inner.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(max)];
        match &inner.bytes {
            Bytes::File(file) => file.read_exact_at(&mut piece, offset)?,
            Bytes::Memory(bytes) => {
                let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = at.saturating_add(piece.len());
                piece.copy_from_slice(bytes.get(at..end).unwrap_or_default());
            }
        }
        Ok(piece)
    }
}
