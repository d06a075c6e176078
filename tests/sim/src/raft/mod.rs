//! A small model of Raft: terms, votes, replication, commit by majority, joint changes of the group, snapshots.
//!
//! It is here to put the kernel's rules into every situation in which a replicated log may put them, and it is no library:
//! no pipelining, one snapshot message, votes that are durable at once. Entries are acknowledged when they are on the disk.

mod log;
mod replica;

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::command::Command;
use kernel::state::State;

pub use log::Log;
pub use replica::{Raft, Role};

/// A super's process, by number. A number is never used twice.
pub type Id = u8;

/// Who votes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// Voters.
    pub voters: BTreeSet<Id>,
    /// The voters before, while the change is joint: both majorities are needed.
    pub outgoing: Option<BTreeSet<Id>>,
    /// Those that are only sent entries.
    pub learners: BTreeSet<Id>,
}

impl Config {
    /// Whether these are enough.
    pub fn is_quorum(&self, has: impl Fn(Id) -> bool) -> bool {
        let majority = |ids: &BTreeSet<Id>| ids.iter().filter(|id| has(**id)).count() * 2 > ids.len();
        majority(&self.voters) && self.outgoing.as_ref().is_none_or(majority)
    }

    /// Whether it votes.
    #[must_use]
    pub fn votes(&self, id: Id) -> bool {
        self.voters.contains(&id) || self.outgoing.as_ref().is_some_and(|out| out.contains(&id))
    }

    /// Everybody that is sent entries.
    #[must_use]
    pub fn everybody(&self) -> BTreeSet<Id> {
        let mut all: BTreeSet<Id> = self.voters.union(&self.learners).copied().collect();
        all.extend(self.outgoing.iter().flatten());
        all
    }
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// For the state.
    Command(Command),
    /// The group from this entry on.
    Config(Config),
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The term in which it was made.
    pub term: u64,
    /// What.
    pub payload: Arc<Payload>,
}

/// The state as after an entry, in place of all entries up to it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The last entry in it.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The group as of then, and the entry that made it so.
    pub config: (u64, Config),
    /// The state.
    pub state: State,
}

/// What one replica sends to another.
#[derive(Clone, Debug)]
pub enum Message {
    /// A candidate asks for a vote.
    Vote {
        /// Its term.
        term: u64,
        /// Index and term of its last entry.
        last: (u64, u64),
    },
    /// The answer.
    Voted {
        /// Of this term.
        term: u64,
        /// Yes.
        granted: bool,
    },
    /// Entries from the leader; none: a heartbeat.
    Append {
        /// Its term.
        term: u64,
        /// Index and term of the entry before them.
        before: (u64, u64),
        /// They.
        entries: Vec<Entry>,
        /// What is committed.
        commit: u64,
    },
    /// How far the log is on the disk, or where it should begin anew.
    Appended {
        /// Of this term.
        term: u64,
        /// The entries fitted.
        fits: bool,
        /// The last entry that is on the disk and the leader's; where they did not fit: try from here.
        index: u64,
    },
    /// The leader has dropped the entries that are needed.
    Install {
        /// Its term.
        term: u64,
        /// In their place.
        snapshot: Arc<Snapshot>,
    },
}
