//! What stands for the real Raft in a build without it: nothing of it can come into being.

use std::collections::{BTreeMap, BTreeSet};

use kernel::command::Command;
use kernel::id::{ClusterId, NodeId};
use kernel::state::State;

use crate::net::Weather;
use crate::raft::Id;
use crate::world::World;
use crate::{Options, Plant, Played};

const WITHOUT: &str = "this was built without the real Raft: build it with its feature `real`";

pub(crate) fn play(_: u64, _: Options) -> Played {
    panic!("{WITHOUT}");
}

#[derive(Clone, Debug)]
pub(crate) enum Wires {}

impl Wires {
    pub(crate) fn cut(&self, _: &BTreeSet<(Id, Id)>, _: bool) {
        match *self {}
    }

    pub(crate) fn set_weather(&self, _: Weather) {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Real {}

pub(crate) struct Started {
    pub(crate) replica: Replica,
    pub(crate) applied: u64,
    pub(crate) changed: u64,
    pub(crate) state: State,
}

impl Real {
    pub(crate) fn new(_: u64) -> Self {
        panic!("{WITHOUT}");
    }

    pub(crate) fn wires(&self) -> Wires {
        match *self {}
    }

    pub(crate) fn new_machine(&mut self, _: NodeId) {
        match *self {}
    }

    pub(crate) fn set_clock(&self, _: Id, _: i64) {
        match *self {}
    }

    pub(crate) fn found(&self, _: &[Command]) {
        match *self {}
    }

    pub(crate) fn start(&mut self, _: Id, _: u32, _: Plant, _: ClusterId) -> Started {
        match *self {}
    }

    pub(crate) fn crash(&self, _: Id, _: Replica, _: (bool, bool), _: Plant) {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Replica {}

impl Replica {
    pub(crate) fn term(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn leads(&self) -> bool {
        match *self {}
    }

    pub(crate) fn leader_of(&self, _: &BTreeMap<NodeId, Id>) -> Option<Id> {
        match *self {}
    }

    pub(crate) fn votes(&self) -> bool {
        match *self {}
    }

    pub(crate) fn now_ms(&self) -> Option<u64> {
        match *self {}
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    In(Id),
    Out(Id),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    Asked(u64),
    Nothing,
}

impl About {
    pub(crate) fn of(_: &Command) -> Self {
        Self::Nothing
    }
}

impl World {
    pub(crate) fn reached(&mut self, _: Id, _: u64) {}

    pub(crate) fn hand_in(&mut self, _: Id, _: Command, _: About) {}

    pub(crate) fn voters_there(&self, _: Id) -> BTreeSet<Id> {
        BTreeSet::new()
    }

    pub(crate) fn wants(&mut self, _: Wanted) {}

    pub(crate) fn is_wanted(&self) -> bool {
        false
    }

    pub(crate) fn operate_group(&mut self) {}
}
