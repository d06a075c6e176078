//! Opens a replica: its log and its state, which must belong together.

use std::fmt;
use std::io;
use std::sync::Arc;

use kernel::id::{ClusterId, NodeId};
use kernel::state::State;
use store::{Disk, Identity, LogFile, LogHead, Membership, SpoolRoom, Store, StoreError, Vote};

use crate::log::{Log, LogEnd};
use crate::machine::{Machine, Watcher};
use crate::runs::Runs;

/// Why a replica cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk.
    #[error("reading or writing the store failed")]
    Store(#[from] StoreError),
    /// The log belongs to somebody else.
    #[error(
        "the log is that of replica {} of the cluster {} with the key {}, this node is replica {} of {} with the key {}; \
         put its own files back or name another data_dir",
        found.replica, found.cluster, found.key, asked.replica, asked.cluster, asked.key
    )]
    OtherLog {
        /// What the file says.
        found: Box<Identity>,
        /// What this node is.
        asked: Box<Identity>,
    },
    /// The state belongs to another cluster than the log.
    #[error("the state is of the cluster {found}, the log of {asked}; put the files back that belong together")]
    OtherState {
        /// What the state says.
        found: ClusterId,
        /// What the log says.
        asked: ClusterId,
    },
    /// The state was made with a log, and there is none.
    #[error(
        "the state is there and its log is gone: this replica no longer knows what it promised to the others. Put the \
         log's file back, or remove it from the group and let it join again with an empty data_dir"
    )]
    LogLost,
    /// The log goes on after a state that is not there.
    #[error(
        "the log is there and the state that it goes on from is gone: put the state's file back, or remove this replica from \
         the group and let it join again with an empty data_dir"
    )]
    StateLost,
    /// The state went on without the log that is there.
    #[error(
        "the state went on without its log, under a release that has none: put the log's file away, and this node goes \
         on as a group of one"
    )]
    LogBehind,
    /// The state belongs to the founder, and this is another key.
    #[error(
        "the state belongs to the super {found}, this node's key is {ours}; put its key file back or name another data_dir"
    )]
    OtherKey {
        /// In the state.
        found: NodeId,
        /// This node's.
        ours: NodeId,
    },
    /// There is a log or a state already.
    #[error("this super is not empty: give it an empty data_dir")]
    NotEmpty,
    /// No thread.
    #[error("no thread for the log")]
    Thread(#[source] io::Error),
}

/// The files of a replica, before it is known who it is.
pub struct Files {
    log: LogFile,
    head: LogHead,
    store: Arc<Store>,
    /// Read once: a large one takes seconds.
    state: State,
    lone: bool,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("head", &self.head).field("lone", &self.lone).finish_non_exhaustive()
    }
}

/// An open replica.
#[derive(Debug)]
pub struct Replicated {
    /// The log.
    pub log: Log,
    /// The state.
    pub machine: Machine,
    /// The log's end, for whoever wants its file back.
    pub end: LogEnd,
}

impl Files {
    /// Opens the log on a disk beside an open store, and reads the state.
    ///
    /// # Errors
    /// [`OpenError`]: each variant says what to do.
    pub fn open(log: &Disk, store: Arc<Store>) -> Result<Self, OpenError> {
        let (log, head) = LogFile::open(log)?;
        let lone = store.is_without_log()?;
        let applied = store.mark()?.applied;
        if head.purged > applied {
            return Err(OpenError::StateLost);
        }
        match (&head.identity, applied.is_some(), lone) {
            (None, true, false) => return Err(OpenError::LogLost),
            (Some(_), _, true) if head.last.is_some() => return Err(OpenError::LogBehind),
            (Some(_) | None, _, _) => {}
        }
        let state = store.load()?;
        Ok(Self { log, head, store, state, lone })
    }

    /// The state, as it was when the files were opened.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Whose log it is; `None` on a new disk.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        self.head.identity.as_ref()
    }

    /// The members as the last entry says that is here, applied or not: those are who votes. Nobody on a new disk.
    ///
    /// # Errors
    /// [`OpenError::Store`].
    pub fn members(&self) -> Result<Membership, OpenError> {
        let mark = self.store.mark()?;
        let waiting = self.log.members_after(mark.applied.map(|place| place.index))?;
        Ok(waiting.unwrap_or(mark.membership))
    }

    /// Whether there is a state of a release that had no log, of which the log will be the continuation: this node is then
    /// replica 0 and alone.
    #[must_use]
    pub const fn is_without_log(&self) -> bool {
        self.lone
    }

    /// Says whose the log will be, before anything is in it. The latest word counts as long as nothing came of an earlier
    /// one.
    ///
    /// # Errors
    /// [`OpenError`]: there is a log or a state already.
    pub fn invite(&mut self, identity: Identity) -> Result<(), OpenError> {
        if self.head.vote.is_some() || self.head.last.is_some() || self.store.mark()?.applied.is_some() {
            return Err(OpenError::NotEmpty);
        }
        self.log.bind(&identity, None)?;
        self.head.identity = Some(identity);
        Ok(())
    }

    /// Opens the replica. On a new disk the files are its own from now on, whatever becomes of it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn start(
        mut self,
        identity: Identity,
        spools: SpoolRoom,
        runs: Runs,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Replicated, OpenError> {
        if let Some(found) = self.head.identity.take_if(|found| *found != identity) {
            return Err(OpenError::OtherLog { found: Box::new(found), asked: Box::new(identity) });
        }
        let found = self.state.meta.cluster.clone();
        if found != ClusterId::default() && found != identity.cluster {
            return Err(OpenError::OtherState { found, asked: identity.cluster });
        }
        // One that is bound and still without a log was stopped in between.
        if self.head.identity.is_none() || self.lone {
            self.bind(&identity)?;
        }
        let (log, end) = Log::start(self.log, &self.head, runs).map_err(OpenError::Thread)?;
        let machine = Machine::with(self.store, self.state, spools, identity, runs, watcher, log.view())?;
        Ok(Replicated { log, machine, end })
    }

    /// Makes a new log this replica's. Where a state came about without one, the log begins after it, in a later term.
    fn bind(&mut self, identity: &Identity) -> Result<(), OpenError> {
        if self.lone {
            let mark = self.store.mark()?;
            let founder = mark.membership.replicas.first().map(|(_, replica)| replica.key);
            if let Some(found) = founder.filter(|found| *found != identity.key || identity.replica != 0) {
                return Err(OpenError::OtherKey { found, ours: identity.key });
            }
            let term = mark.applied.map_or(0, |place| place.term);
            self.head.vote = Some(Vote { term, replica: 0, committed: false });
        }
        self.log.bind(identity, self.head.vote)?;
        if self.lone {
            // From here on the state has a log.
            self.store.commit_marked(&[], &[], &self.store.mark()?)?;
        }
        self.head.identity = Some(identity.clone());
        Ok(())
    }
}
