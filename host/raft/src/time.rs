//! The cluster's time on this machine: stamps never fall, and a clock that is off is noticed (PROTOCOLS 8.4).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kernel::round::lead::{Clock, Stamp};
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Time {
    started: Instant,
    clock: Mutex<Clock>,
    /// The latest stamp in state.
    last_ms: AtomicU64,
}

impl Time {
    pub(crate) fn new(last_ms: u64) -> Self {
        Self { started: Instant::now(), clock: Mutex::default(), last_ms: AtomicU64::new(last_ms) }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let last_ms = self.last_ms.load(Ordering::Acquire);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.stamp(last_ms, wall_ms(), self.now_us())
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

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
