//! How much can be under way at once at one entrance. More is told to come back.
//!
//! Lists and history cost processor time that the pings of the same machine need, so only a few are read at once and one
//! core stays free of lists. History may be decoded for a second, so it has a queue of its own. Reads of a row or two
//! take no turn: they cost nothing but a wait for the commit that is under way, and claims that waited one behind the
//! other would be committed one by one. Health routes take no place among the requests: a flood must not look like a dead
//! node.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Code, Problem};

/// Requests under way at once.
pub const REQUESTS: usize = 256;
/// Event streams open at once.
const EVENT_STREAMS: usize = 256;
/// Readers of sealed records at once: each may hold a batch with what proves its records, some 4 MiB.
const RECORD_STREAMS: usize = 64;

/// The places of one entrance.
#[derive(Debug)]
pub struct Places {
    /// Requests whose body is there.
    pub requests: Arc<Semaphore>,
    /// Event streams.
    pub event_streams: Arc<Semaphore>,
    /// Readers of sealed records.
    pub record_streams: Arc<Semaphore>,
    /// Pages of the state.
    pub lists: Turns,
    /// Reads of history.
    pub history: Turns,
    /// Counts of all members.
    pub counts: Turns,
    /// Dry runs of policies: each keeps a core busy for seconds.
    pub dry_runs: Turns,
    /// The one backup that is under way: it holds a copy of the state on the disk.
    pub backups: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            requests: Arc::new(Semaphore::new(REQUESTS)),
            event_streams: Arc::new(Semaphore::new(EVENT_STREAMS)),
            record_streams: Arc::new(Semaphore::new(RECORD_STREAMS)),
            lists: Turns::of(cores - 1),
            history: Turns::of(cores / 2),
            counts: Turns::of(1),
            dry_runs: Turns::of(1),
            backups: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Reads that take turns.
#[derive(Debug)]
pub struct Turns {
    free: Arc<Semaphore>,
}

impl Turns {
    fn of(turns: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(turns.max(1))) }
    }

    /// Runs a read on a thread that may wait, when it is its turn.
    ///
    /// # Errors
    /// `busy` when it is not within its patience.
    pub async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = tokio::time::timeout(patience, Arc::clone(&self.free).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::new(Code::Busy, "as many reads are under way as this node takes at once"));
        };
        // The turn ends with the work, also when nobody waits for its answer any more.
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        blocking(work).await
    }

    /// All its turns, until they are dropped.
    #[cfg(test)]
    pub fn all(&self) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| Arc::clone(&self.free).try_acquire_owned().ok()).collect()
    }
}

/// Runs a read on a thread that may wait.
///
/// # Errors
/// `internal` when it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a read panicked or the node is stopping");
        Problem::of(Code::Internal)
    })
}

/// A request's place, kept until its answer is made. One without a body takes it at once, one with a body when that is
/// there: whoever sends slowly has a connection and nothing else.
#[derive(Clone, Debug)]
pub struct Place {
    requests: Arc<Semaphore>,
    taken: Arc<OnceLock<OwnedSemaphorePermit>>,
}

impl Place {
    /// Not taken yet.
    pub fn among(requests: &Arc<Semaphore>) -> Self {
        Self { requests: Arc::clone(requests), taken: Arc::default() }
    }

    /// Takes it.
    ///
    /// # Errors
    /// `busy` when there is none.
    pub fn take(&self) -> Result<(), Problem> {
        let permit = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Problem::of(Code::Busy))?;
        // One that is taken twice goes back at once.
        let _again = self.taken.set(permit);
        Ok(())
    }
}
