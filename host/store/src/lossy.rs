//! For tests: disks that fail on purpose. Until a sync, every write may be lost or torn: what survives a power cut is what
//! was synced and any of the sectors that were written since. Disks on one [`Power`] fail at the same instant.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const SECTOR: usize = 512;

/// How they fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The machine loses power.
    PowerCut,
    /// The operation is refused; what the system holds is not lost.
    Refusal,
    /// The machine loses power, and what a sync had promised is lost as well: a planted fault that every test must find.
    LyingSync,
}

/// What disks have in common: a machine that runs or does not.
#[derive(Debug, Default)]
pub struct Power(Mutex<Supply>);

#[derive(Debug, Default)]
struct Supply {
    operations: u64,
    fails: Option<(u64, Failure)>,
    failed: bool,
    /// How often the machine was started again: whoever mounted a disk before is dead.
    starts: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Lossy {
    power: Arc<Power>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    synced: Vec<u8>,
    now: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
enum Pending {
    Len(u64),
    Bytes(u64, Vec<u8>),
}

/// One store's hold on it.
#[derive(Debug)]
pub(crate) struct Mount {
    lossy: Arc<Lossy>,
    start: u64,
}

impl Power {
    fn supply(&self) -> MutexGuard<'_, Supply> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the `at`-th changing operation from now on, everything fails.
    pub fn fail_at(&self, at: u64, failure: Failure) {
        let mut supply = self.supply();
        supply.fails = Some((supply.operations + at, failure));
    }

    /// Changing operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.supply().operations
    }

    /// Whether it has failed since the last start.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.supply().failed
    }

    /// The machine starts again, with what survived on each of the disks. `draw` gives random numbers below its argument.
    pub fn start_again(&self, disks: &[&Lossy], draw: &mut impl FnMut(u64) -> u64) {
        let mut supply = self.supply();
        match supply.fails {
            Some((_, Failure::PowerCut)) => disks.iter().for_each(|disk| disk.lose(false, draw)),
            Some((_, Failure::LyingSync)) => disks.iter().for_each(|disk| disk.lose(true, draw)),
            Some((_, Failure::Refusal)) | None => {}
        }
        supply.starts += 1;
        supply.fails = None;
        supply.failed = false;
    }

    /// Counts an operation that changes a disk, and refuses it where the machine does not run.
    fn spend(&self, start: u64) -> io::Result<Option<Failure>> {
        let mut supply = self.supply();
        if supply.starts != start {
            return Err(io::Error::other("the machine has started again"));
        }
        supply.operations += 1;
        if supply.fails.is_some_and(|(at, _)| supply.operations >= at) {
            supply.failed = true;
            return Err(io::Error::other("the disk failed"));
        }
        Ok(supply.fails.map(|(_, failure)| failure))
    }
}

impl Lossy {
    /// An empty disk.
    #[must_use]
    pub fn on(power: &Arc<Power>) -> Arc<Self> {
        Arc::new(Self { power: Arc::clone(power), inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mount(self: &Arc<Self>) -> Mount {
        Mount { lossy: Arc::clone(self), start: self.power.supply().starts }
    }

    fn lose(&self, lying: bool, draw: &mut impl FnMut(u64) -> u64) {
        let mut inner = self.inner();
        let mut survived = std::mem::take(&mut inner.synced);
        for pending in std::mem::take(&mut inner.pending) {
            if !lying {
                survive(&mut survived, pending, draw);
            }
        }
        inner.now.clone_from(&survived);
        inner.synced = survived;
    }
}

fn survive(bytes: &mut Vec<u8>, pending: Pending, draw: &mut impl FnMut(u64) -> u64) {
    match pending {
        Pending::Len(len) => {
            if draw(2) == 0 {
                bytes.resize(len as usize, 0);
            }
        }
        Pending::Bytes(offset, data) => {
            let whole = draw(3);
            for (at, sector) in data.chunks(SECTOR).enumerate() {
                if whole == 0 || whole == 1 && draw(2) == 0 {
                    put(bytes, offset as usize + at * SECTOR, sector);
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(to) = bytes.get_mut(offset..end) {
        to.copy_from_slice(data);
    }
}

impl Mount {
    fn change(&self, operation: impl FnOnce(&mut Inner, Option<Failure>)) -> io::Result<()> {
        let mut inner = self.lossy.inner();
        let failure = self.lossy.power.spend(self.start)?;
        operation(&mut inner, failure);
        Ok(())
    }
}

impl StorageBackend for Mount {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lossy.inner().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lossy.inner();
        let offset = offset as usize;
        let from = inner.now.get(offset..offset + out.len());
        out.copy_from_slice(from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|inner, _| {
            inner.now.resize(len as usize, 0);
            inner.pending.push(Pending::Len(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|inner, failure| {
            // A sync that lies keeps nothing: what was there when the lie began is what will be found.
            if failure != Some(Failure::LyingSync) {
                // What was written alone: a whole disk at each sync would be most of a simulation's time.
                for pending in std::mem::take(&mut inner.pending) {
                    match pending {
                        Pending::Len(len) => inner.synced.resize(len as usize, 0),
                        Pending::Bytes(offset, data) => put(&mut inner.synced, offset as usize, &data),
                    }
                }
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|inner, _| {
            put(&mut inner.now, offset as usize, data);
            inner.pending.push(Pending::Bytes(offset, data.to_vec()));
        })
    }
}
