//! The log of a replica, for openraft: entries, whom the replica supports, and how far the log is committed.
//!
//! Entries can be read as soon as they are appended; whoever appended them is told when they are on the disk. One thread
//! writes, in the order in which changes came, so a thousand appends that come together cost one flush.
//!
//! A disk that fails shuts the log: all who wait are told, nothing is written any more, and the group ends.

mod flusher;
mod news;
mod tail;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use store::{LogChange, LogFile, LogHead, Place};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;

use crate::runs::Runs;
use crate::types::{RaftEntry, RaftPlace, RaftVote, Types, logged, place, raft_entry, raft_place, raft_vote, vote};
use flusher::{Flusher, Job};
use news::News;
use tail::Tail;

pub(crate) use flusher::chain;

/// Bytes of entries that are sent or applied at once, about: a message and a batch stay small.
const PIECE_BYTES: usize = 1 << 20;

/// The log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
    jobs: Jobs,
}

#[derive(Debug)]
struct Shared {
    file: LogFile,
    tail: Mutex<Tail>,
    news: Mutex<News>,
    /// The number of this replica, where it is known.
    us: Option<u64>,
    runs: Runs,
    /// Nothing is written any more.
    failed: AtomicBool,
    /// Changes that were asked for.
    asked: AtomicU64,
    /// So many of them are in the file, or never will be.
    flushes: watch::Sender<u64>,
    /// Goes last: who waits for the end then finds the file closed.
    _open: mpsc::Sender<()>,
}

impl Shared {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
enum Jobs {
    Thread(mpsc::Sender<Job>),
    Inline(Arc<Mutex<Flusher>>),
}

impl Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Thread(_) => "Thread",
            Self::Inline(_) => "Inline",
        })
    }
}

/// Waits for the end of a log.
#[derive(Debug)]
pub struct LogEnd(mpsc::Receiver<()>);

impl LogEnd {
    /// Waits until nobody has the log any more and its file is closed.
    pub async fn wait(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

impl Log {
    /// A log over an open file.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(file: LogFile, head: &LogHead, runs: Runs) -> io::Result<(Self, LogEnd)> {
        let (open, end) = mpsc::channel(1);
        let (failed, asked, flushes) = (AtomicBool::new(false), AtomicU64::new(0), watch::Sender::new(0));
        let tail = Mutex::new(Tail::new(head));
        let (news, us) = (Mutex::default(), head.identity.as_ref().map(|who| who.replica));
        let shared = Arc::new(Shared { file, tail, news, us, runs, failed, asked, flushes, _open: open });
        let flusher = Flusher::new(Arc::clone(&shared));
        let jobs = match runs {
            Runs::Inline => Jobs::Inline(Arc::new(Mutex::new(flusher))),
            Runs::OnThreads => {
                let (jobs, waiting) = mpsc::channel(flusher::WAITING);
                std::thread::Builder::new().name("raft-log".into()).spawn(move || flusher.run(waiting))?;
                Jobs::Thread(jobs)
            }
        };
        Ok((Self { shared, jobs }, LogEnd(end)))
    }

    /// What the state looks at.
    #[must_use]
    pub fn view(&self) -> LogView {
        LogView(Arc::downgrade(&self.shared))
    }

    async fn send(&self, job: Job) -> io::Result<()> {
        self.shared.asked.fetch_add(1, Ordering::AcqRel);
        match &self.jobs {
            Jobs::Thread(jobs) => jobs.send(job).await.map_err(|_| io::Error::other("the log's thread has ended")),
            Jobs::Inline(flusher) => {
                flusher.lock().unwrap_or_else(PoisonError::into_inner).write([job]);
                Ok(())
            }
        }
    }
}

impl Shared {
    /// Entries from one index to before another, as far as there are any, and not many more bytes than `max_bytes`.
    fn read(&self, first: u64, end: u64, max_bytes: usize) -> io::Result<Vec<RaftEntry>> {
        loop {
            let found = self.tail().find(first, end, max_bytes);
            let (from, to) = found.in_file;
            if from >= to {
                return Ok(found.in_memory);
            }
            let kept = self.file.read(from, to, max_bytes).map_err(|error| io::Error::other(chain(&error)))?;
            if self.tail().cuts != found.cuts {
                continue;
            }
            let rows = kept.into_iter().map(|entry| raft_entry(entry).map_err(io::Error::other));
            let mut entries: Vec<_> = rows.collect::<Result<_, _>>()?;
            let next = entries.last().map(|entry: &RaftEntry| entry.log_id.index.saturating_add(1));
            let whole = next == Some(to);
            let in_order = entries.iter().zip(from..).all(|(entry, index)| entry.log_id.index == index);
            if next.is_none() || !in_order || (!whole && max_bytes == usize::MAX) {
                return Err(io::Error::other(format!("entries {from} to {to} of the log are not all there")));
            }
            if whole && max_bytes == usize::MAX {
                entries.extend(found.in_memory);
            }
            return Ok(entries);
        }
    }
}

/// What the state of a replica looks at in its log. It does not keep the log open.
#[derive(Clone, Debug, Default)]
pub struct LogView(Weak<Shared>);

/// Keeps a log open.
#[derive(Debug)]
pub(crate) struct LogHold(#[allow(dead_code, reason = "it is held, not used")] Option<Arc<Shared>>);

impl LogView {
    /// Keeps the log open, if it is.
    pub(crate) fn hold(&self) -> LogHold {
        LogHold(self.0.upgrade())
    }

    /// Waits until an entry is on the disk, where the log has it and it is still on its way. A state that is ahead of its
    /// own log could name an entry at whose place the log, after a power cut, still has another one.
    pub(crate) async fn flushed(&self, at: Place) -> io::Result<()> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let mut flushes = shared.flushes.subscribe();
        while !shared.tail().is_flushed(at) {
            if shared.failed.load(Ordering::Acquire) {
                return Err(io::Error::other("the log cannot be written"));
            }
            flushes.changed().await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Waits until all that was asked of the log before is on the disk. A snapshot replaces the entries that it covers: where
    /// the log should still have others there after a power cut, the two would not belong together.
    pub(crate) async fn settled(&self) -> io::Result<()> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let asked = shared.asked.load(Ordering::Acquire);
        let mut flushes = shared.flushes.subscribe();
        flushes.wait_for(|flushed| *flushed >= asked).await.map_err(io::Error::other)?;
        if shared.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("the log cannot be written"));
        }
        Ok(())
    }

    /// The leader of a term says how far the log is committed.
    pub(crate) fn heard(&self, term: u64, committed: Option<Place>) {
        if let Some(shared) = self.0.upgrade() {
            shared.news().heard(term, committed);
        }
    }

    /// Whether an entry that is applied now is news, and not something to catch up with.
    pub(crate) fn is_news(&self, at: Place) -> bool {
        self.0.upgrade().is_some_and(|shared| shared.news().has(at))
    }

    /// The last entry that has to go for the rest to have at most so many bytes; `None` where none has to.
    pub(crate) fn last_beyond(&self, bytes: u64) -> Option<u64> {
        self.0.upgrade().and_then(|shared| shared.tail().last_beyond(bytes))
    }

    /// Bytes of all entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.upgrade().map_or(0, |shared| shared.tail().whole())
    }

    /// Committed entries after an index that are at hand and on the disk, at most so many.
    pub(crate) fn committed_after(&self, index: u64, max: usize) -> Vec<RaftEntry> {
        let Some(shared) = self.0.upgrade() else { return Vec::new() };
        let tail = shared.tail();
        let mut entries = tail.committed_after(index, max, PIECE_BYTES);
        entries.retain(|entry| tail.is_flushed(place(&entry.log_id)));
        entries
    }
}

/// Reads a log.
#[derive(Clone, Debug)]
pub struct LogReader(Arc<Shared>);

impl LogReader {
    async fn read(&self, first: u64, end: u64, max_bytes: usize) -> io::Result<Vec<RaftEntry>> {
        let found = self.0.tail().find(first, end, max_bytes);
        if found.in_file.0 >= found.in_file.1 {
            return Ok(found.in_memory);
        }
        let shared = Arc::clone(&self.0);
        self.0.runs.run(move || shared.read(first, end, max_bytes)).await
    }
}

/// From, and to before.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (first, end)
}

/// Entries one after the other, read piece by piece: what is applied after a long absence is never whole in memory.
#[derive(Debug)]
struct Entries {
    shared: Arc<Shared>,
    next: u64,
    end: u64,
    piece: VecDeque<RaftEntry>,
    failed: bool,
}

impl Stream for Entries {
    type Item = io::Result<RaftEntry>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.piece.is_empty() && self.next < self.end && !self.failed {
            match self.shared.read(self.next, self.end, PIECE_BYTES) {
                Ok(piece) => {
                    self.next = piece.last().map_or(self.end, |last| last.log_id.index.saturating_add(1));
                    self.piece = piece.into();
                }
                Err(error) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(self.piece.pop_front().map(Ok))
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let (first, end) = bounds(&range);
        self.read(first, end, usize::MAX).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (next, end) = bounds(&range);
        Entries { shared: Arc::clone(&self.0), next, end, piece: VecDeque::new(), failed: false }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start, end, PIECE_BYTES).await
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.0.tail().vote.map(raft_vote))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let tail = self.shared.tail();
        Ok(LogState { last_purged_log_id: tail.purged.map(raft_place), last_log_id: tail.last.map(raft_place) })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(Arc::clone(&self.shared))
    }

    async fn save_vote(&mut self, saved: &RaftVote) -> Result<(), io::Error> {
        let (told, done) = oneshot::channel();
        let saved = vote(saved);
        if saved.committed && Some(saved.replica) == self.shared.us {
            self.shared.news().leads(saved.term);
        }
        self.send(Job::Vote(saved, told)).await?;
        done.await.map_err(|_| io::Error::other("the log's thread has ended"))?
    }

    async fn save_committed(&mut self, committed: Option<RaftPlace>) -> Result<(), io::Error> {
        // It goes to the disk with whatever is written next: the state, which is durable, knows more at every start.
        self.shared.tail().committed = committed.as_ref().map(place);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftPlace>, io::Error> {
        Ok(self.shared.tail().committed.map(raft_place))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        let mut last = None;
        {
            let mut tail = self.shared.tail();
            for entry in entries {
                let (at, bytes) = (place(&entry.log_id), logged(&entry).to_bytes().map_err(io::Error::other)?);
                tail.push(entry, bytes.len())?;
                rows.push((at.index, bytes));
                last = Some(at);
            }
        }
        match last {
            Some(last) => self.send(Job::Append(rows, last, callback)).await,
            None => {
                callback.io_completed(Ok(()));
                Ok(())
            }
        }
    }

    async fn truncate_after(&mut self, last: Option<RaftPlace>) -> Result<(), io::Error> {
        let after = last.as_ref().map(place);
        let last = {
            let mut tail = self.shared.tail();
            tail.truncate(after);
            tail.last
        };
        self.send(Job::Cut(LogChange::Truncate(after.map(|after| after.index)), last)).await
    }

    async fn purge(&mut self, to: RaftPlace) -> Result<(), io::Error> {
        let to = place(&to);
        let last = {
            let mut tail = self.shared.tail();
            tail.purge(to);
            tail.last
        };
        self.send(Job::Cut(LogChange::Purge(to), last)).await
    }
}
