//! The one way to change and to read the cluster: propose, read, watch who leads.
//!
//! This is a group of one super. One thread owns the store: it takes all commands that wait, applies them, commits them
//! in one durable transaction and answers. So a command is answered when it is on disk, and a thousand commands that
//! come together cost one flush.
//!
//! Invariants: nobody reads what is not committed; a commit that fails ends the node, because what is in memory is then
//! ahead of what is on disk.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kernel::command::{Command, Entry, Found, Lead};
use kernel::decide::Slot;
use kernel::id::{Digest, LogIndex, NodeId, RoundId, Term};
use kernel::outcome::{Notice, Reject, Reply, Write};
use kernel::round::lead::{Clock, Stamp};
use kernel::state::State;
use store::{Store, StoreError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::tasks::{Tasks, panic_text};

#[cfg(test)]
mod tests;

/// Commands that wait to be applied. Past it whoever proposes waits: memory is bounded and nothing is lost.
const WAITING: usize = 1_024;
/// Commands in one transaction, so that a settlement behind a burst of claims is not kept long.
const BATCH: usize = 256;
/// Notices that a slow watcher may be behind before it misses some; it can read what they said.
const NOTICES: usize = 4_096;

/// A group of supers, seen from one of them.
#[derive(Clone, Debug)]
pub struct Group {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    commands: mpsc::Sender<Proposal>,
    state: RwLock<State>,
    leadership: watch::Sender<Leadership>,
    applied: watch::Sender<Applied>,
    notices: broadcast::Sender<Arc<Notice>>,
    time: Time,
    stopped: CancellationToken,
}

#[derive(Debug)]
struct Proposal {
    command: Command,
    answer: oneshot::Sender<Result<Reply, Reject>>,
}

/// Who leads, and whether it may open rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The term.
    pub term: Term,
    /// Who leads, as far as this super knows.
    pub leader: Option<NodeId>,
    /// An entry of this term is applied here: the leader knows all that was settled before.
    pub ready: bool,
}

/// How far this super has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Applied {
    /// The last applied command.
    pub index: LogIndex,
    /// The last settled round.
    pub settled: RoundId,
}

/// Why a command got no answer. Whether it was applied is then unknown; commands are safe to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The node is stopping.
    #[error("this node is stopping; ask again when it is back")]
    Stopped,
}

/// Why a super cannot take its place.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk.
    #[error("reading or writing the store failed")]
    Store(#[from] StoreError),
    /// The store holds another cluster than the file names.
    #[error(
        "the store holds the cluster {found}, the config says cluster.id = \"{asked}\"; name another data_dir or mend the id"
    )]
    OtherCluster {
        /// In the store.
        found: String,
        /// In the file.
        asked: String,
    },
    /// The store belongs to another key.
    #[error(
        "the store belongs to the super {found}, this node's key is {ours}; put its key file back or name another data_dir"
    )]
    OtherKey {
        /// In the store.
        found: NodeId,
        /// This node's.
        ours: NodeId,
    },
    /// The kernel refused the founding or the lead.
    #[error("the group refused to begin: {0:?}")]
    Refused(Reject),
    /// No thread.
    #[error("no thread for the group")]
    Thread(#[source] std::io::Error),
}

impl Group {
    /// Opens a group of one: founds the cluster when the store is empty, then takes the lead in a new term. Gives the
    /// group and whether it was founded by this call.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        store: Arc<Store>,
        found: Found,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<(Self, bool), StartError> {
        let mut state = store.load()?;
        let ours = found.founder.node;
        if state.is_founded() {
            if state.meta.cluster.id != found.cluster.id {
                return Err(StartError::OtherCluster {
                    found: state.meta.cluster.to_string(),
                    asked: found.cluster.id,
                });
            }
            if let Some(row) = state.meta.seats.first().filter(|row| row.holder.node != ours) {
                return Err(StartError::OtherKey { found: row.holder.node, ours });
            }
        }
        let time = Time::new(state.meta.stamp_ms);
        let now_ms = time.stamp().now_ms;
        let founded = !state.is_founded();
        let mut first = Vec::new();
        if founded {
            first.push(Command::Found(Box::new(Found { now_ms, ..found })));
        }
        let term = Term(state.meta.term.0.saturating_add(1));
        first.push(Command::Lead(Lead { term, leader: ours, now_ms }));
        let mut batch = Batch::default();
        for command in first {
            batch.apply(&mut state, command).map_err(StartError::Refused)?;
        }
        let rows = batch.rows();
        store.commit(&batch.entries, &rows)?;

        let (commands, waiting) = mpsc::channel(WAITING);
        let inner = Arc::new(Inner {
            commands,
            leadership: watch::Sender::new(Leadership { term, leader: Some(ours), ready: true }),
            applied: watch::Sender::new(Applied { index: state.meta.applied, settled: state.meta.settled }),
            notices: broadcast::Sender::new(NOTICES),
            time,
            state: RwLock::new(state),
            stopped: CancellationToken::new(),
        });
        let group = Self { inner: Arc::clone(&inner) };
        let kept = inner.applied.borrow().settled;
        let (tasks, killed, keeping) = (tasks.clone(), tasks.killed(), None);
        let thread = Thread { inner, store, waiting, metrics, tasks, killed, kept, keeping };
        thread.start().map_err(StartError::Thread)?;
        Ok((group, founded))
    }

    /// Puts a command into the log and waits until it is applied and durable. A refusal is an answer.
    ///
    /// # Errors
    /// [`GroupError`] when no answer came.
    pub async fn propose(&self, command: Command) -> Result<Result<Reply, Reject>, GroupError> {
        let (answer, answered) = oneshot::channel();
        self.inner.commands.send(Proposal { command, answer }).await.map_err(|_| GroupError::Stopped)?;
        answered.await.map_err(|_| GroupError::Stopped)
    }

    /// Reads the state as after the last committed command. Keep it short: commands wait meanwhile.
    pub fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.inner.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// How far the log is applied here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.inner.applied.subscribe()
    }

    /// What happens, from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.inner.notices.subscribe()
    }

    /// The stamp for a command that is proposed now, ms since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.stamp().now_ms
    }

    /// The same, and by how much this machine's clock is off where that is more than it may be (PROTOCOLS 8.4).
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.inner.time.stamp()
    }

    /// Fires when the group's thread has ended: nothing touches the store any more.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.inner.stopped.clone()
    }
}

/// The cluster's time on this machine.
#[derive(Debug)]
struct Time {
    started: Instant,
    clock: Mutex<Clock>,
    /// The latest stamp in state.
    last_ms: AtomicU64,
}

impl Time {
    fn new(last_ms: u64) -> Self {
        Self { started: Instant::now(), clock: Mutex::default(), last_ms: AtomicU64::new(last_ms) }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn stamp(&self) -> Stamp {
        let last_ms = self.last_ms.load(Ordering::Acquire);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.stamp(last_ms, wall_ms(), self.now_us())
    }

    fn saw(&self, stamp_ms: u64) {
        self.last_ms.fetch_max(stamp_ms, Ordering::AcqRel);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.saw(stamp_ms, self.now_us());
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Commands that are applied in memory and not yet on disk.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    writes: Vec<Write>,
    notices: Vec<Notice>,
}

impl Batch {
    fn apply(&mut self, state: &mut State, command: Command) -> Result<Reply, Reject> {
        let index = LogIndex(state.meta.applied.0.saturating_add(1));
        let outcome = state.apply(index, &command);
        self.entries.push(Entry { index, command });
        self.writes.extend(outcome.writes);
        self.notices.extend(outcome.notices);
        outcome.reply
    }

    /// Rows to store. Of rows that are whole each time, only the last of the batch is kept: a burst of claims would
    /// write the same block of members again and again.
    fn rows(&mut self) -> Vec<Write> {
        let mut seen = BTreeSet::new();
        let mut rows: Vec<Write> = std::mem::take(&mut self.writes);
        rows.reverse();
        rows.retain(|row| RowKey::of(row).is_none_or(|key| seen.insert(key)));
        rows.reverse();
        rows
    }
}

/// Names a row that every write holds whole.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum RowKey {
    Meta,
    Profile(NodeId),
    Hot(u32),
    Wallet(NodeId),
    Slot(Slot),
    Policy(Digest),
    Component(Digest),
    Upload(Digest),
    Memory(Slot, bool, u32),
}

impl RowKey {
    fn of(row: &Write) -> Option<Self> {
        match row {
            Write::Meta(_) => Some(Self::Meta),
            Write::Profile(node, _) => Some(Self::Profile(*node)),
            Write::Hot(block, _) => Some(Self::Hot(*block)),
            Write::Wallet(key, _) => Some(Self::Wallet(*key)),
            Write::Slot(slot, _) => Some(Self::Slot(*slot)),
            Write::Memory { slot, saved, block, .. } => Some(Self::Memory(*slot, *saved, *block)),
            Write::Policy(digest, _) => Some(Self::Policy(*digest)),
            Write::Component(digest, _) => Some(Self::Component(*digest)),
            Write::Upload(digest, _) => Some(Self::Upload(*digest)),
            // History: each one stays.
            Write::Round(_) | Write::Move(_) | Write::Line(_) | Write::Change(_) => None,
        }
    }
}

/// Owns the store.
struct Thread {
    inner: Arc<Inner>,
    store: Arc<Store>,
    waiting: mpsc::Receiver<Proposal>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    killed: CancellationToken,
    /// The last settled round when a keyframe was last asked for.
    kept: RoundId,
    /// Packs one. It ends before this thread does, so that nothing touches the store after that.
    keeping: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(Err(panic)) = self.keeping.take().map(JoinHandle::join) {
            tracing::error!(panic = panic_text(&*panic), "packing a keyframe panicked");
        }
    }
}

impl Thread {
    fn start(mut self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        std::thread::Builder::new().name("group".into()).spawn(move || {
            let tasks = self.tasks.clone();
            let stopped = self.inner.stopped.clone();
            match catch_unwind(AssertUnwindSafe(move || runtime.block_on(self.run()))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tasks.fail(format!("a commit failed, the node must start again: {}", chain(&error))),
                Err(panic) => tasks.fail(format!("the group's thread panicked: {}", panic_text(&*panic))),
            }
            stopped.cancel();
        })?;
        Ok(())
    }

    /// Ends when the node is killed, when it has drained, or with the first commit that fails.
    async fn run(&mut self) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(BATCH);
        let draining = self.tasks.drained();
        loop {
            let taken = tokio::select! {
                biased;
                () = self.killed.cancelled() => return Ok(()),
                taken = self.waiting.recv_many(&mut batch, BATCH) => taken,
                () = draining.cancelled() => {
                    // What was proposed before the end is still answered.
                    self.waiting.close();
                    continue;
                }
            };
            if taken == 0 {
                return Ok(());
            }
            self.take(&mut batch)?;
        }
    }

    fn take(&mut self, proposals: &mut Vec<Proposal>) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut batch = Batch::default();
        let mut answers = Vec::with_capacity(proposals.len());
        let state = self.commit(proposals, &mut batch, &mut answers)?;
        let applied = Applied { index: state.meta.applied, settled: state.meta.settled };
        let leadership = Leadership { term: state.meta.term, leader: state.meta.leader, ready: true };
        let stamp_ms = state.meta.stamp_ms;
        drop(state);
        self.keep(applied.settled);
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.commit_commands.observe(answers.len() as f64);
        self.inner.time.saw(stamp_ms);
        self.inner.leadership.send_if_modified(|before| std::mem::replace(before, leadership) != leadership);
        self.inner.applied.send_replace(applied);
        for notice in batch.notices {
            // Nobody may be watching.
            let _ = self.inner.notices.send(Arc::new(notice));
        }
        for (to, reply) in answers {
            // Whoever asked may have gone; the command counts all the same.
            let _ = to.send(reply);
        }
        Ok(())
    }

    /// Has a keyframe made where one is due, beside the commits. One that fails is missing and nothing else: rounds after
    /// it are told from the one before, and a disk that fails shows at the next commit.
    fn keep(&mut self, settled: RoundId) {
        if !store::keyframe_is_due(settled, self.kept) {
            return;
        }
        if self.keeping.as_ref().is_some_and(|keeping| !keeping.is_finished()) {
            return;
        }
        self.kept = settled;
        let store = Arc::clone(&self.store);
        let keep = move || match store.keep_keyframe() {
            Ok(index) => tracing::debug!(round = settled.0, index = index.map(|index| index.0), "keyframe"),
            Err(error) => tracing::warn!(%error, round = settled.0, "no keyframe of the state was kept"),
        };
        match std::thread::Builder::new().name("keyframe".into()).spawn(keep) {
            Ok(keeping) => self.keeping = Some(keeping),
            Err(error) => tracing::warn!(%error, "no thread for a keyframe"),
        }
    }

    /// Applies and commits; the state stays locked in between, so that nobody sees what may still be lost.
    #[allow(clippy::type_complexity, reason = "the pairs are who asked and what to tell")]
    fn commit(
        &self,
        proposals: &mut Vec<Proposal>,
        batch: &mut Batch,
        answers: &mut Vec<(oneshot::Sender<Result<Reply, Reject>>, Result<Reply, Reject>)>,
    ) -> Result<RwLockWriteGuard<'_, State>, StoreError> {
        let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
        for Proposal { command, answer } in proposals.drain(..) {
            answers.push((answer, batch.apply(&mut state, command)));
        }
        let rows = batch.rows();
        if let Err(error) = self.store.commit(&batch.entries, &rows) {
            // The node ends with this, and until then nobody may read what may be lost. A disk that cannot even be read
            // leaves nothing to show.
            *state = self.store.load().unwrap_or_default();
            return Err(error);
        }
        Ok(state)
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
