//! A disk that fails on purpose. Until a sync, every write may be lost or torn: what survives a power cut is what was
//! synced and any of the sectors that were written since.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::draw::Draw;

const SECTOR: usize = 512;

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The machine loses power.
    PowerCut,
    /// The operation is refused; what the system holds is not lost.
    Refusal,
}

#[derive(Debug)]
enum Pending {
    Len(u64),
    Bytes(u64, Vec<u8>),
}

#[derive(Debug, Default)]
struct Inner {
    synced: Vec<u8>,
    now: Vec<u8>,
    pending: Vec<Pending>,
    operations: u64,
    fails: Option<(u64, Failure)>,
    failed: bool,
    mount: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lossy {
    inner: Mutex<Inner>,
}

/// One store's hold on it.
#[derive(Debug)]
pub(crate) struct Mount {
    lossy: Arc<Lossy>,
    mount: u64,
}

impl Lossy {
    /// A disk whose `at`-th changing operation from now fails, with all after it.
    pub(crate) fn fail_at(&self, at: u64, failure: Failure) {
        let mut inner = self.inner.lock().unwrap();
        inner.fails = Some((inner.operations + at, failure));
    }

    /// Changing operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.inner.lock().unwrap().operations
    }

    /// Whether it has failed since the last repair.
    pub(crate) fn has_failed(&self) -> bool {
        self.inner.lock().unwrap().failed
    }

    /// The machine starts again: after a power cut with what survived.
    pub(crate) fn repair(&self, draw: &mut Draw) {
        let mut inner = self.inner.lock().unwrap();
        if matches!(inner.fails, Some((_, Failure::PowerCut))) {
            let mut survived = std::mem::take(&mut inner.synced);
            for pending in std::mem::take(&mut inner.pending) {
                survive(&mut survived, pending, draw);
            }
            inner.now = survived.clone();
            inner.synced = survived;
        }
        inner.mount += 1;
        inner.fails = None;
        inner.failed = false;
    }

    pub(crate) fn mount(self: &Arc<Self>) -> Mount {
        Mount { lossy: self.clone(), mount: self.inner.lock().unwrap().mount }
    }
}

fn survive(bytes: &mut Vec<u8>, pending: Pending, draw: &mut Draw) {
    match pending {
        Pending::Len(len) => {
            if draw.below(2) == 0 {
                bytes.resize(len as usize, 0);
            }
        }
        Pending::Bytes(offset, data) => {
            let whole = draw.below(3);
            for (at, sector) in data.chunks(SECTOR).enumerate() {
                if whole == 0 || whole == 1 && draw.below(2) == 0 {
                    put(bytes, offset as usize + at * SECTOR, sector);
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

impl Mount {
    fn change(&self, operation: impl FnOnce(&mut Inner)) -> io::Result<()> {
        let mut inner = self.lossy.inner.lock().unwrap();
        if inner.mount != self.mount {
            return Err(io::Error::other("the machine has started again"));
        }
        inner.operations += 1;
        if inner.fails.is_some_and(|(at, _)| inner.operations >= at) {
            inner.failed = true;
            return Err(io::Error::other("the disk failed"));
        }
        operation(&mut inner);
        Ok(())
    }
}

impl StorageBackend for Mount {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lossy.inner.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lossy.inner.lock().unwrap();
        let offset = offset as usize;
        let from = inner.now.get(offset..offset + out.len());
        out.copy_from_slice(from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|inner| {
            inner.now.resize(len as usize, 0);
            inner.pending.push(Pending::Len(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|inner| {
            inner.pending.clear();
            inner.synced = inner.now.clone();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|inner| {
            put(&mut inner.now, offset as usize, data);
            inner.pending.push(Pending::Bytes(offset, data.to_vec()));
        })
    }
}
