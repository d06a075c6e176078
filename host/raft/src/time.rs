//! The cluster's time on this machine: stamps never fall, and a clock that is off is noticed (PROTOCOLS 8.4).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kernel::round::lead::{Clock, Stamp};
use tokio::time::Instant;

/// A clock that knows what time it is for people.
pub trait Wall: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// The machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemWall;

impl Wall for SystemWall {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Time {
    wall: Arc<dyn Wall>,
    started: Instant,
    clock: Mutex<Clock>,
    /// The latest stamp in state.
    last_ms: AtomicU64,
}

impl Time {
    pub(crate) fn new(last_ms: u64, wall: Arc<dyn Wall>) -> Self {
        Self { wall, started: Instant::now(), clock: Mutex::default(), last_ms: AtomicU64::new(last_ms) }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let last_ms = self.last_ms.load(Ordering::Acquire);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.stamp(last_ms, self.wall.now_ms(), self.now_us())
    }

    /// A stamp is in state. There is none before the founding.
    pub(crate) fn saw(&self, stamp_ms: u64) {
        if stamp_ms == 0 {
            return;
        }
        self.last_ms.fetch_max(stamp_ms, Ordering::AcqRel);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.saw(stamp_ms, self.now_us());
    }
}
