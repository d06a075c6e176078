//! The state of a replica, for openraft: what the committed entries of the log make of it, on the disk and in memory.
//!
//! All entries that come together are applied and stored in one durable transaction, with how far the log is applied;
//! only then are they seen and answered. So the state on the disk is never behind an answer, and a log can be purged as
//! far as it is applied.
//!
//! openraft asks for a few entries at a time, as they are committed, and waits for each answer. On a disk that takes its
//! time that would be a flush for every few. So whatever is committed by then is applied with them; when openraft asks for
//! it, the answers are there already.
//!
//! Invariants: nobody reads what is not on the disk. After a write that failed the memory is what the disk has, and
//! nothing is applied any more.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use kernel::command::Command;
use kernel::id::{LogIndex, RoundId};
use kernel::outcome::{Notice, Reject, Reply, Write};
use kernel::state::State;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use store::{Identity, Mark, Place, Spool, SpoolRoom, Store};
use tokio_stream::{Stream, StreamExt};

use crate::keeping::Keeping;
use crate::log::{LogView, chain};
use crate::runs::Runs;
use crate::types::{
    Proposed, RaftEntry, RaftPlace, Snapshot, SnapshotMeta, StoredMembership, Types, membership, place, raft_mark,
};

/// Entries in one transaction. After a long absence many come at once; so many are cheap, and none of them waits long.
const ENTRIES: usize = 4_096;

/// Who wants to know what was applied. Calls come one at a time, in the order of the log, from the thread that applies:
/// they must not block.
pub trait Watcher: Send + Sync + 'static {
    /// Entries were applied and are on the disk; nobody was answered yet.
    fn applied(&self, what: &Applied);

    /// What their commands had to tell, where that is news: nothing that was replayed at a start, came as a snapshot, or was
    /// left by the leader of an earlier term.
    fn told(&self, notices: Vec<Notice>);
}

/// A watcher that looks at nothing.
impl Watcher for () {
    fn applied(&self, _: &Applied) {}
    fn told(&self, _: Vec<Notice>) {}
}

/// How far a replica has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The last entry, and the members as of then.
    pub mark: Mark,
    /// The last command.
    pub index: LogIndex,
    /// The last settled round.
    pub settled: RoundId,
    /// The latest stamp, ms since 1970.
    pub stamp_ms: u64,
    /// Commands in this batch.
    pub commands: usize,
    /// How long applying and storing took.
    pub took: Duration,
    /// It came as a snapshot: what was between is not told.
    pub installed: bool,
}

/// The state, as everybody may read it.
#[derive(Clone)]
pub struct Machine {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    spools: SpoolRoom,
    identity: Identity,
    runs: Runs,
    watcher: Arc<dyn Watcher>,
    log: LogView,
    keeping: Keeping,
    state: RwLock<State>,
    mark: RwLock<Mark>,
    /// Entries that were applied before they were asked for, and what became of them. At most [`ENTRIES`].
    ahead: Mutex<VecDeque<(u64, Result<Reply, Reject>)>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("identity", &self.shared.identity).finish_non_exhaustive()
    }
}

type Waiting = (u64, Option<ApplyResponder<Types>>, Result<Reply, Reject>);

impl Machine {
    /// The state of a store. Reads all of it.
    ///
    /// # Errors
    /// [`store::StoreError`].
    pub fn open(
        store: Arc<Store>,
        spools: SpoolRoom,
        identity: Identity,
        runs: Runs,
        watcher: Arc<dyn Watcher>,
        log: LogView,
    ) -> Result<Self, store::StoreError> {
        let state = store.load()?;
        Self::with(store, state, spools, identity, runs, watcher, log)
    }

    /// The same with the state that was read of it already.
    pub(crate) fn with(
        store: Arc<Store>,
        state: State,
        spools: SpoolRoom,
        identity: Identity,
        runs: Runs,
        watcher: Arc<dyn Watcher>,
        log: LogView,
    ) -> Result<Self, store::StoreError> {
        let (mark, ahead) = (RwLock::new(store.mark()?), Mutex::default());
        let (keeping, state) = (Keeping::new(state.meta.settled), RwLock::new(state));
        let shared = Shared { store, spools, identity, runs, watcher, log, keeping, state, mark, ahead };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads the state as after the last entry that is applied and on the disk. Keep it short: entries wait meanwhile.
    pub fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.shared.state())
    }

    /// The last entry that is applied, and the members as of then.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.shared.mark.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where spools for snapshots that come are made.
    #[must_use]
    pub fn spools(&self) -> &SpoolRoom {
        &self.shared.spools
    }

    /// Whether a snapshot that came is whole, of this cluster, and of the entry that it is said to be of. To be asked before
    /// it is installed: one that is not ends the replica. Reads all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn check(&self, meta: &SnapshotMeta, spool: &Spool) -> io::Result<()> {
        let (shared, spool) = (Arc::clone(&self.shared), spool.clone());
        let last = meta.last_log_id.as_ref().map(place);
        let check = move || {
            let checked = shared.store.check_snapshot(&spool, &shared.identity.cluster, last);
            checked.map_err(|error| io::Error::other(chain(&error)))
        };
        self.shared.runs.run(check).await
    }

    /// Whose state it is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The leader of a term says how far the log is committed: what comes after that is news here too.
    pub(crate) fn heard(&self, term: u64, committed: Option<Place>) {
        self.shared.log.heard(term, committed);
    }

    /// What it looks at in its log.
    pub(crate) fn log(&self) -> &LogView {
        &self.shared.log
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) -> Mark {
        self.mark.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ahead(&self) -> MutexGuard<'_, VecDeque<(u64, Result<Reply, Reject>)>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the first entries of a batch, those that are applied already.
    fn answer(&self, batch: &mut VecDeque<EntryResponder<Types>>) -> io::Result<()> {
        let applied = self.mark().applied.map(|place| place.index);
        let mut ahead = self.ahead();
        while let Some((entry, responder)) = batch.pop_front_if(|(entry, _)| Some(entry.log_id.index) <= applied) {
            let index = entry.log_id.index;
            while ahead.pop_front_if(|(at, _)| *at < index).is_some() {}
            let Some((_, reply)) = ahead.pop_front_if(|(at, _)| *at == index) else {
                return Err(io::Error::other(format!("entry {index} was applied and answered before")));
            };
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    /// Applies entries, and what else is committed by now, in one transaction; then tells whoever waits.
    fn apply(&self, batch: VecDeque<EntryResponder<Types>>) -> io::Result<()> {
        let began = Instant::now();
        let mut mark = self.mark();
        let asked = batch.len();
        let mut batch = Vec::from(batch);
        if let Some(last) = batch.last().map(|(entry, _)| entry.log_id.index) {
            let more = self.log.committed_after(last, ENTRIES.saturating_sub(asked));
            batch.extend(more.into_iter().map(|entry| (entry, None)));
        }
        let mut commands: Vec<(LogIndex, Arc<Command>)> = Vec::new();
        let mut waiting: VecDeque<Waiting> = VecDeque::with_capacity(batch.len());
        let mut writes: Vec<Write> = Vec::new();
        let mut notices = Vec::new();
        // It stays locked until all is on the disk: nobody sees what may still be lost.
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for (entry, responder) in batch {
            let at = place(&entry.log_id);
            mark.applied = Some(at);
            let reply = match entry.payload {
                EntryPayload::Blank => Ok(Reply::Done),
                EntryPayload::Membership(members) => {
                    (mark.membership, mark.membership_at) = (membership(&members), Some(at));
                    Ok(Reply::Done)
                }
                EntryPayload::Normal(Proposed(command)) => {
                    let outcome = state.apply(LogIndex(at.index), &command);
                    writes.extend(outcome.writes);
                    if !outcome.notices.is_empty() && self.log.is_news(at) {
                        notices.extend(outcome.notices);
                    }
                    commands.push((LogIndex(at.index), command));
                    outcome.reply
                }
            };
            waiting.push_back((at.index, responder, reply));
        }
        let entries: Vec<_> = commands.iter().map(|(index, command)| (*index, &**command)).collect();
        if let Err(error) = self.store.commit_marked(&entries, &writes, &mark) {
            // The group ends with this. A disk that cannot even be read leaves nothing to show.
            *state = self.store.load().unwrap_or_default();
            return Err(io::Error::other(chain(&error)));
        }
        let applied = self.now(&state, mark, commands.len(), began, false);
        drop(state);
        self.tell(&applied);
        // Before the answers: who has one finds what it led to.
        if !notices.is_empty() {
            self.watcher.told(notices);
        }
        self.keeping.settled(applied.settled, &self.store, &self.log, self.runs);
        let early = waiting.split_off(asked).into_iter().map(|(index, _, reply)| (index, reply));
        self.ahead().extend(early);
        for (_, responder, reply) in waiting {
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    fn install(&self, told: &SnapshotMeta, spool: &Spool) -> io::Result<()> {
        let began = Instant::now();
        let failed = |error: store::StoreError| io::Error::other(chain(&error));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let last = told.last_log_id.as_ref().map(place);
        let mark = self.store.install(spool, &self.identity.cluster, last).map_err(failed)?;
        *state = self.store.load().map_err(failed)?;
        self.ahead().clear();
        let applied = self.now(&state, mark, 0, began, true);
        drop(state);
        self.tell(&applied);
        Ok(())
    }

    fn now(&self, state: &State, mark: Mark, commands: usize, began: Instant, installed: bool) -> Applied {
        let meta = &state.meta;
        let (index, settled, stamp_ms) = (meta.applied, meta.settled, meta.stamp_ms);
        Applied { mark, index, settled, stamp_ms, commands, took: began.elapsed(), installed }
    }

    fn tell(&self, applied: &Applied) {
        self.mark.write().unwrap_or_else(PoisonError::into_inner).clone_from(&applied.mark);
        self.watcher.applied(applied);
    }

    /// What is on the disk now, as a snapshot.
    fn snapshot(&self) -> io::Result<Snapshot> {
        let taken = self.store.snapshot(&self.spools).map_err(|error| io::Error::other(chain(&error)))?;
        let (mark, snapshot) = taken;
        let (last_log_id, last_membership) = raft_mark(mark).map_err(io::Error::other)?;
        Ok(Snapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot })
    }
}

/// Makes snapshots: a view of the store, which becomes bytes when it is first read.
#[derive(Clone)]
pub struct Builder {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Builder")
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Spool;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.shared.snapshot()
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Spool;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<RaftPlace>, StoredMembership), io::Error> {
        raft_mark(self.mark()).map_err(io::Error::other)
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<(RaftEntry, Option<ApplyResponder<Types>>), io::Error>> + Unpin + OptionalSend,
    {
        loop {
            let mut batch = VecDeque::new();
            while batch.len() < ENTRIES
                && let Some(entry) = entries.next().await
            {
                batch.push_back(entry?);
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.shared.answer(&mut batch)?;
            let Some(last) = batch.back().map(|(entry, _)| place(&entry.log_id)) else { continue };
            self.shared.log.flushed(last).await?;
            let shared = Arc::clone(&self.shared);
            self.shared.runs.run(move || shared.apply(batch)).await?;
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shared: Arc::clone(&self.shared) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Spool) -> Result<(), io::Error> {
        let (shared, meta) = (Arc::clone(&self.shared), meta.clone());
        shared.log.settled().await?;
        self.shared.runs.run(move || shared.install(&meta, &snapshot)).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(Some(self.shared.snapshot()?).filter(|snapshot| snapshot.meta.last_log_id.is_some()))
    }
}
