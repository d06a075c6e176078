//! Where a store lives: a file, or memory that stays when the store on it is gone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::error::{StoreError, disk};

/// Bytes by which the engine knows its files.
const MAGIC_BYTES: usize = 9;
/// They and what the engine writes before them, at most.
const HEADER_BYTES: usize = 512;
/// A file that was never finished is smaller.
const UNFINISHED_MAX: u64 = 16 << 20;

/// Where a store lives. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Medium);

#[derive(Clone, Debug)]
enum Medium {
    File(PathBuf),
    Memory(Arc<Memory>),
    #[cfg(any(test, feature = "lossy"))]
    Lossy(Arc<crate::lossy::Lossy>),
}

impl Disk {
    /// A file; it is made when the store is first opened, readable by its owner alone.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Medium::File(path.into()))
    }

    /// Memory. It stays as long as a clone of this disk does, so a store can be opened again on it. A second store takes
    /// the disk over as after `kill -9`: every later operation of the first one fails.
    #[must_use]
    pub fn memory() -> Self {
        Self(Medium::Memory(Arc::new(Memory::default())))
    }

    /// A disk that loses power.
    #[cfg(any(test, feature = "lossy"))]
    #[must_use]
    pub fn lossy(lossy: &Arc<crate::lossy::Lossy>) -> Self {
        Self(Medium::Lossy(lossy.clone()))
    }

    /// Opens the database on it.
    pub(crate) fn open(&self, cache_bytes: usize) -> Result<Database, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        match &self.0 {
            Medium::File(path) => {
                let failed = |source| StoreError::CannotOpen { path: path.clone(), source };
                let file = make(path).map_err(failed)?;
                match file.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.clone() }),
                    Err(TryLockError::Error(error)) => return Err(failed(error)),
                }
                let backend = FileBackend::new(file).map_err(|error| opening(path, error))?;
                begin_again(&backend).map_err(failed)?;
                builder.create_with_backend(backend).map_err(|error| opening(path, error))
            }
            Medium::Memory(memory) => create(&builder, memory.take_over()),
            #[cfg(any(test, feature = "lossy"))]
            Medium::Lossy(lossy) => create(&builder, lossy.mount()),
        }
    }
}

fn create(builder: &Builder, backend: impl StorageBackend) -> Result<Database, StoreError> {
    begin_again(&backend).map_err(disk)?;
    builder.create_with_backend(backend).map_err(disk)
}

/// Empties a disk on which the engine was stopped while it made its file. It writes the first bytes last, so where they
/// are zero nothing was ever stored; but it would take the rest for another program's file and refuse it for ever.
fn begin_again(backend: &impl StorageBackend) -> io::Result<()> {
    let len = backend.len()?;
    if len == 0 || len > UNFINISHED_MAX {
        return Ok(());
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut magic = vec![0; len.min(MAGIC_BYTES)];
    backend.read(0, &mut magic)?;
    if magic.iter().any(|byte| *byte != 0) {
        return Ok(());
    }
    let mut rest = vec![0; len.saturating_sub(HEADER_BYTES)];
    if !rest.is_empty() {
        backend.read(HEADER_BYTES as u64, &mut rest)?;
    }
    if rest.iter().all(|byte| *byte == 0) {
        backend.set_len(0)?;
        backend.sync_data()?;
    }
    Ok(())
}

/// Opens or makes the file. A new name is made durable in its directory: a store that nobody finds after a power cut
/// has lost everything.
fn make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    options.create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    Ok(file)
}

fn opening(path: &Path, error: DatabaseError) -> StoreError {
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        return StoreError::InUse { path: path.to_owned() };
    }
    let error = redb::Error::from(error);
    if matches!(&error, redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData) {
        return StoreError::NotAStore { path: path.to_owned() };
    }
    disk(error)
}

/// Memory that outlives the stores on it.
#[derive(Debug, Default)]
struct Memory {
    bytes: InMemoryBackend,
    /// How often it was taken over: whoever came before the last time is dead.
    generation: AtomicU64,
    /// Held during each operation, so that a taking over never falls into the middle of one.
    turn: Mutex<()>,
}

impl Memory {
    fn take_over(self: &Arc<Self>) -> Mounted {
        let _turn = self.turn();
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        Mounted { memory: self.clone(), generation }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One store's hold on a memory.
#[derive(Debug)]
struct Mounted {
    memory: Arc<Memory>,
    generation: u64,
}

impl Mounted {
    fn now<T>(&self, operation: impl FnOnce(&InMemoryBackend) -> io::Result<T>) -> io::Result<T> {
        let _turn = self.memory.turn();
        if self.memory.generation.load(Ordering::Relaxed) != self.generation {
            return Err(io::Error::other("another store has taken this memory over"));
        }
        operation(&self.memory.bytes)
    }
}

impl StorageBackend for Mounted {
    fn len(&self) -> io::Result<u64> {
        self.now(StorageBackend::len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.now(|bytes| bytes.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.now(|bytes| bytes.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.now(StorageBackend::sync_data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.now(|bytes| bytes.write(offset, data))
    }
}
