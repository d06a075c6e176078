//! The operator: adds supers and removes them, one joint change at a time, and never the last three.

use std::collections::BTreeSet;

use kernel::command::{Command, Operate, Operation, Operator as Who};

use crate::raft::{Config, Id, Payload};
use crate::real::Wanted;
use crate::supers::Fate;
use crate::world::{Event, World};
use crate::{MS, S, Us};

/// How often it looks.
const LOOK_US: Us = 500 * MS;
/// Machines that may come and go in a run.
const MACHINES: usize = 12;

/// What the operator wants.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    wants: Option<BTreeSet<Id>>,
    /// Removed supers that are switched off then.
    off: Vec<(Us, Id)>,
    /// When it last said that a loss is real.
    accepted_us: Us,
}

impl World {
    /// A super is to be added, or one is to go.
    pub(crate) fn change_group(&mut self, adds: bool, gone: Id) {
        let Some(leader) = self.leader() else { return };
        let mut voters = self.voters_of(leader);
        if self.operator.wants.is_some() || self.is_wanted() {
            return;
        }
        let mut wanted = Wanted::Out(gone);
        if (adds || voters.len() <= 3) && voters.len() < 5 && self.supers.len() < MACHINES {
            let new = self.new_machine();
            self.restart(new);
            voters.insert(new);
            wanted = Wanted::In(new);
        } else if voters.len() > 3 && voters.contains(&gone) {
            voters.remove(&gone);
        } else {
            return;
        }
        self.tell(|_| format!("the supers are to be {voters:?}"));
        if self.real.is_some() {
            return self.wants(wanted);
        }
        self.operator.wants = Some(voters);
    }

    /// Who votes, as a super knows.
    pub(crate) fn voters_of(&self, id: Id) -> BTreeSet<Id> {
        let process = self.supers[usize::from(id)].running().expect("it runs");
        match process.raft.model() {
            Some(raft) => raft.config.1.voters.clone(),
            None => self.voters_there(id),
        }
    }

    /// A super that was removed is switched off.
    pub(crate) fn switch_off_soon(&mut self, id: Id) {
        self.operator.off.push((self.now_us + 5 * S, id));
    }

    /// Faults have stopped: a loss that is still there is real, and the operator says so.
    fn accept(&mut self) {
        let now_us = self.now_us;
        let asks = u64::from(self.oracle.state.meta.suspect_rounds) >= self.plan.settings.suspect_rounds;
        let is_time = now_us > self.plan.quiet_us + 15 * self.interval_us && now_us > self.operator.accepted_us + 5 * S;
        let Some(leader) = self.leader().filter(|_| asks && is_time) else { return };
        self.operator.accepted_us = now_us;
        self.count("losses accepted");
        let (by, reason, now_ms) = (Who::Socket, String::new(), self.oracle.state.meta.stamp_ms);
        let operate = Operate { by, reason, now_ms, what: Operation::AcceptRound };
        self.propose(leader, Payload::Command(Command::Operate(operate)));
    }

    /// The operator looks at the group.
    pub(crate) fn operate(&mut self) {
        let now_us = self.now_us;
        self.at(now_us + LOOK_US, Event::Operator);
        for (_, id) in self.operator.off.extract_if(.., |(at_us, _)| *at_us <= now_us).collect::<Vec<_>>() {
            self.tell(|_| format!("super {id} is switched off"));
            self.crash(id, false, false);
            self.supers[usize::from(id)].fate = Fate::Retired;
        }
        self.accept();
        if self.real.is_some() {
            return self.operate_group();
        }
        let Some(wanted) = self.operator.wants.clone() else { return };
        let Some(leader) = self.leader() else { return };
        let process = self.supers[usize::from(leader)].running().expect("it leads");
        let raft = process.raft.model().expect("a group of the model");
        let (index, config) = raft.config.clone();
        if index > process.applied || config.outgoing.is_some() {
            return;
        }
        if config.voters == wanted {
            self.operator.wants = None;
            self.count("groups changed");
            self.oracle.trouble(now_us);
            let gone: Vec<Id> = (0..self.supers.len() as Id).filter(|id| !wanted.contains(id)).collect();
            self.operator.off.extend(gone.into_iter().map(|id| (now_us + 5 * S, id)));
            return;
        }
        let new: BTreeSet<Id> = wanted.difference(&config.voters).copied().collect();
        let learners: BTreeSet<Id> = new.clone();
        let next = if config.learners != learners {
            Config { learners, ..config }
        } else if new.iter().all(|id| raft.is_caught_up(*id)) {
            Config { voters: wanted, outgoing: Some(config.voters), learners: BTreeSet::new() }
        } else {
            return;
        };
        self.oracle.trouble(now_us);
        self.propose(leader, Payload::Config(next));
        self.drive(leader);
    }
}
