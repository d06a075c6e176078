//! A snapshot on its way: bytes that are written once, from the front, and read in pieces. On a file in the data folder, or
//! in memory where the store is. It goes with its last owner.
//!
//! A snapshot of a store is a view at first and costs nothing; it becomes bytes when it is first read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::snapshot::View;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 << 10;

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
    /// What they are still to be made of, and where.
    View(Box<View>, SpoolRoom),
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
        Ok(Spool(Arc::new(Mutex::new(Inner { bytes: self.bytes()?, len: 0 }))))
    }

    /// A spool of what a view shows.
    pub(crate) fn of(&self, view: View) -> Spool {
        Spool(Arc::new(Mutex::new(Inner { bytes: Bytes::View(Box::new(view), self.clone()), len: 0 })))
    }

    fn bytes(&self) -> io::Result<Bytes> {
        Ok(match &self.0 {
            Some(folder) => Bytes::File(unnamed(folder.join("snapshot.part"))?),
            None => Bytes::Memory(Vec::new()),
        })
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

    /// The bytes of a file.
    pub(crate) fn of_file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Inner { bytes: Bytes::File(file), len }))))
    }

    /// Bytes that are there so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner().len
    }

    /// Whether there are none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts bytes at the end. Blocks on the disk.
    ///
    /// # Errors
    /// What the system says; the spool is then to be dropped.
    pub fn append(&self, piece: &[u8]) -> io::Result<()> {
        self.inner().append(piece)
    }

    /// At most so many bytes from an offset on; none at the end. Blocks on the disk; the first read of a store's snapshot
    /// packs it, which takes seconds for a large one.
    ///
    /// # Errors
    /// What the system says; the spool is then to be dropped.
    pub fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut inner = self.inner();
        if let Bytes::View(_, room) = &inner.bytes {
            let bytes = room.bytes()?;
            if let Bytes::View(view, _) = std::mem::replace(&mut inner.bytes, bytes) {
                view.pack(&mut |piece| inner.append(piece))?;
            }
        }
        let left = usize::try_from(inner.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(max)];
        match &inner.bytes {
            Bytes::File(file) => file.read_exact_at(&mut piece, offset)?,
            Bytes::Memory(bytes) => {
                let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = at.saturating_add(piece.len());
                piece.copy_from_slice(bytes.get(at..end).unwrap_or_default());
            }
            Bytes::View(..) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(piece)
    }
}

impl Inner {
    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.bytes {
            Bytes::File(file) => file.write_all_at(piece, self.len)?,
            Bytes::Memory(bytes) => bytes.extend_from_slice(piece),
            Bytes::View(..) => return Err(io::ErrorKind::Unsupported.into()),
        }
        self.len += piece.len() as u64;
        Ok(())
    }
}

/// Reads a spool from its front, in pieces.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    spool: &'a Spool,
    offset: u64,
    piece: Vec<u8>,
    at: usize,
}

impl<'a> Reading<'a> {
    pub(crate) const fn new(spool: &'a Spool) -> Self {
        Self { spool, offset: 0, piece: Vec::new(), at: 0 }
    }
}

impl io::Read for Reading<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.piece.len() {
            self.piece = self.spool.read(self.offset, PIECE_BYTES)?;
            self.offset += self.piece.len() as u64;
            self.at = 0;
        }
        let there = self.piece.get(self.at..).unwrap_or_default();
        let taken = there.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..taken), there.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn is_read_as_it_was_written(room: &SpoolRoom) {
        let (a, b) = (room.create().unwrap(), room.create().unwrap());
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
        for piece in bytes.chunks(70_001) {
            a.append(piece).unwrap();
            b.append(b"other").unwrap();
        }
        assert_eq!((a.len(), a.is_empty()), (1_200_000, false));
        assert_eq!(a.read(1_000, 5_000).unwrap(), bytes[1_000..6_000]);
        assert_eq!(a.read(1_199_999, 5_000).unwrap(), bytes[1_199_999..]);
        assert_eq!(a.read(1_200_000, 5_000).unwrap(), []);
        assert_eq!(a.read(9_000_000, 5_000).unwrap(), []);
        let mut all = Vec::new();
        Reading::new(&a.clone()).read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes);
    }

    #[test]
    fn a_spool_in_memory() {
        is_read_as_it_was_written(&SpoolRoom::memory());
    }

    #[test]
    fn a_spool_in_a_folder_leaves_nothing_there() {
        let folder = tempfile::tempdir().unwrap();
        is_read_as_it_was_written(&SpoolRoom::folder(folder.path()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
