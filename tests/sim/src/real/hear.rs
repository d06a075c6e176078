//! What replicas tell the world, and what it makes of that.

use std::sync::Arc;

use kernel::command::Command;
use kernel::id::RoundId;
use kernel::outcome::{Reject, Reply};
use raft::{Group, GroupError, Leadership};

use crate::raft::{Id, Payload};
use crate::world::World;

/// Something that a process tells.
#[derive(Debug)]
pub(crate) enum Note {
    /// Its replica is open.
    Opened { id: Id, life: u32, group: Box<Result<Group, String>> },
    /// Entries were applied and are on the disk; `changed`: the one that last changed the group.
    Applied { id: Id, life: u32, index: u64, changed: u64, installed: bool },
    /// Who leads.
    Leads { id: Id, life: u32, now: Leadership },
    /// The replica cannot go on.
    Failed { id: Id, life: u32, why: String },
    /// What became of a command.
    Answered { id: Id, life: u32, about: About, answer: Box<Result<Result<Reply, Reject>, GroupError>> },
    /// A read that must see everything saw this round; this one was acknowledged before it.
    Read { id: Id, saw: RoundId, after: RoundId },
    /// A change of the group is over.
    Changed { what: String },
}

/// What a command was about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// A round.
    Round(RoundId),
    /// What a follower waits for.
    Asked(u64),
    /// Nobody waits.
    Nothing,
}

impl About {
    /// What one is about for which no follower waits.
    pub(crate) fn of(command: &Command) -> Self {
        if let Command::Settle(settle) = command { Self::Round(settle.round) } else { Self::Nothing }
    }
}

impl World {
    /// A process tells something.
    pub(super) fn hear(&mut self, note: Note) {
        let of = |id: Id, life: u32, world: &Self| {
            let sup = &world.supers[usize::from(id)];
            sup.life == life && sup.running().is_some()
        };
        match note {
            Note::Opened { id, life, group } => match *group {
                Ok(group) if of(id, life, self) => self.opens(id, life, group),
                // It was killed while it opened.
                Ok(group) => drop(tokio::spawn(async move { group.kill().await })),
                Err(why) if of(id, life, self) => self.oracle.wrong(format!("super {id} does not start: {why}")),
                Err(_) => {}
            },
            Note::Applied { id, life, index, changed, installed } => {
                self.note([11, id.into(), index << 1 | u64::from(installed)]);
                self.reached(id, index);
                if of(id, life, self) {
                    self.applied(id, index, changed, installed);
                    self.drive(id);
                }
            }
            Note::Leads { id, life, now } => {
                self.note([12, id.into(), now.term.0 << 1 | u64::from(now.ready)]);
                if of(id, life, self) {
                    self.leads_now(id, now);
                    self.drive(id);
                }
            }
            Note::Failed { id, life, why } => {
                if of(id, life, self) {
                    self.oracle.wrong(format!("the replica of super {id} ended: {why}"));
                }
            }
            Note::Answered { id, life, about, answer } => self.answered_by_group(id, life, about, *answer),
            Note::Read { id, saw, after } => {
                self.note([14, id.into(), saw.0]);
                self.count("reads");
                if saw < after {
                    let what = format!("a read on super {id} saw round {saw} after round {after} was acknowledged");
                    self.oracle.wrong(what);
                }
            }
            Note::Changed { what } => {
                self.tell(|_| what);
                self.real.as_mut().expect("it is real").changing = false;
            }
        }
    }

    fn opens(&mut self, id: Id, life: u32, group: Group) {
        self.note([13, id.into(), life.into()]);
        self.real.as_ref().expect("it is real").serve(id, life, &group);
        let process = self.supers[usize::from(id)].process().expect("it runs");
        process.raft.real_mut().expect("it is real").opened(group);
        self.tell(|_| format!("super {id} is open"));
    }

    fn leads_now(&mut self, id: Id, now: Leadership) {
        let node = self.supers[usize::from(id)].node;
        if now.leader != Some(node) || now.ready {
            return;
        }
        self.count("leaders");
        self.tell(|_| format!("super {id} leads term {}", now.term));
        self.oracle.elected(now.term.0, id);
    }

    /// Entries were applied: what they are says the store.
    fn applied(&mut self, id: Id, index: u64, changed: u64, installed: bool) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        if process.config.0 < changed {
            process.config.0 = changed;
            self.count("memberships applied");
        }
        if installed {
            return self.installed(id);
        }
        loop {
            let process = self.supers[usize::from(id)].process().expect("it runs");
            if process.applied >= index || self.oracle.wrong.is_some() {
                break;
            }
            process.applied += 1;
            let at = process.applied;
            let command = process.raft.real().expect("it is real").entry(at);
            match command {
                Some(command) => self.takes(id, at, command),
                None if self.oracle.has_command(at) => {
                    return self.oracle.wrong(format!("super {id} has not applied entry {at}, which others have"));
                }
                None => {}
            }
        }
        self.compare(id);
    }

    fn takes(&mut self, id: Id, at: u64, command: Command) {
        let payload = Arc::new(Payload::Command(command));
        // The store does not keep terms: an entry of another one at its place is another command, or the same.
        self.oracle.committed(at, 0, &payload);
        if let Payload::Command(command) = &*payload {
            self.apply_command(id, at, 0, command);
        }
        let state = &self.supers[usize::from(id)].running().expect("it runs").state;
        self.oracle.same(id, at, state);
    }

    /// The leader's state is in place of entries that are gone.
    fn installed(&mut self, id: Id) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let replica = process.raft.real().expect("it is real");
        // Nothing happens between these two.
        let (applied, state) = (replica.applied(), replica.read(Clone::clone));
        let Some(state) = state else { return };
        process.applied = applied;
        self.loads(id, state);
        let state = &self.supers[usize::from(id)].running().expect("it runs").state;
        self.oracle.same(id, applied, state);
    }

    /// The replica has in memory what its log gives.
    fn compare(&mut self, id: Id) {
        let process = self.supers[usize::from(id)].running().expect("it runs");
        let replica = process.raft.real().expect("it is real");
        let is_same = (replica.applied() == process.applied)
            .then(|| replica.read(|state| state.agreed() == process.state.agreed()))
            .flatten();
        if is_same == Some(false) {
            let at = process.applied;
            self.oracle.wrong(format!("super {id} has another state than the log gives at entry {at}"));
        }
    }

    fn answered_by_group(
        &mut self,
        id: Id,
        life: u32,
        about: About,
        answer: Result<Result<Reply, Reject>, GroupError>,
    ) {
        self.note([15, id.into(), u64::from(answer.is_ok())]);
        let Ok(answer) = answer else {
            self.count("commands without an answer");
            return self.answer_failed(id, life, about);
        };
        if let About::Round(round) = about
            && answer.is_ok()
        {
            let real = self.real.as_mut().expect("it is real");
            real.acknowledged = real.acknowledged.max(round);
            if self.oracle.state.meta.settled < round {
                self.oracle.wrong(format!("round {round} was acknowledged as settled and is not"));
            }
        }
        let sup = &self.supers[usize::from(id)];
        if let About::Asked(number) = about
            && sup.life == life
            && matches!(sup.fate, crate::supers::Fate::Up(_))
        {
            self.answered(id, number, answer);
            self.drive(id);
        }
    }

    fn answer_failed(&mut self, id: Id, life: u32, about: About) {
        let now_us = self.now_us;
        let sup = &mut self.supers[usize::from(id)];
        if let About::Round(round) = about
            && sup.life == life
            && let Some(process) = sup.process()
            && let Some(lead) = &mut process.lead
        {
            // Nobody knows whether it counts: if it does not, it is settled again.
            lead.failed(round, now_us + 50_000);
        }
    }
}
