//! A replica that runs: the program's own, and the store below it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::command::Command;
use kernel::id::{LogIndex, NodeId};
use kernel::state::State;
use raft::Group;
use store::Store;

use crate::raft::Id;

/// See the module.
#[derive(Debug)]
pub(crate) struct Replica {
    key: NodeId,
    store: Arc<Store>,
    /// `None` until it is open.
    group: Option<Group>,
}

impl Replica {
    pub(super) const fn new(key: NodeId, store: Arc<Store>) -> Self {
        Self { key, store, group: None }
    }

    pub(super) fn opened(&mut self, group: Group) {
        self.group = Some(group);
    }

    pub(super) const fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    pub(super) fn into_group(self) -> Option<Group> {
        self.group
    }

    /// Its term, as far as it knows.
    pub(crate) fn term(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.leadership().borrow().term.0)
    }

    pub(crate) fn leads(&self) -> bool {
        self.leader() == Some(self.key)
    }

    fn leader(&self) -> Option<NodeId> {
        self.group.as_ref().and_then(|group| group.leadership().borrow().leader)
    }

    /// What it stamps now.
    pub(crate) fn now_ms(&self) -> Option<u64> {
        self.group.as_ref().map(Group::now_ms)
    }

    /// Who leads, as far as it knows.
    pub(crate) fn leader_of(&self, by_key: &BTreeMap<NodeId, Id>) -> Option<Id> {
        by_key.get(&self.leader()?).copied()
    }

    pub(crate) fn votes(&self) -> bool {
        self.group.as_ref().is_some_and(Group::votes)
    }

    /// A command that it has applied; `None`: what stands there is not for the state.
    pub(super) fn entry(&self, index: u64) -> Option<Command> {
        self.store.entry(LogIndex(index)).expect("its own store")
    }

    /// How far its disk says that it is applied.
    pub(super) fn applied(&self) -> u64 {
        self.store.mark().expect("its own store").applied.map_or(0, |place| place.index)
    }

    /// The state that it has in memory.
    pub(super) fn read<T>(&self, f: impl FnOnce(&State) -> T) -> Option<T> {
        self.group.as_ref().map(|group| group.read(f))
    }
}
