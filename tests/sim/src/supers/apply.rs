//! What is committed takes effect on a super.

use kernel::command::{Command, Lead as LeadCommand, Supers};
use kernel::id::{LogIndex, RoundId, Term};
use kernel::outcome::{Reject, Reply};
use kernel::round::lead::Lead;
use kernel::standing::Standing;
use std::sync::Arc;

use super::{KEPT_ENTRIES, SNAPSHOT_ENTRIES};
use crate::Plant;
use crate::net::{Down, Peer};
use crate::raft::{Config, Id, Payload, Role, Snapshot};
use crate::world::World;

impl World {
    /// A replica was elected.
    pub(super) fn became_leader(&mut self, id: Id) {
        let (term, leader) = {
            let sup = &mut self.supers[usize::from(id)];
            let node = sup.node;
            (sup.process().expect("it runs").raft.term(), node)
        };
        self.count("leaders");
        self.tell(|_| format!("super {id} leads term {term}"));
        self.oracle.elected(term, id);
        let now_ms = self.stamp(id);
        self.propose(id, Payload::Command(Command::Lead(LeadCommand { term: Term(term), leader, now_ms })));
    }

    /// Applies what is committed.
    pub(super) fn apply(&mut self, id: Id) {
        loop {
            let sup = &mut self.supers[usize::from(id)];
            let Some(process) = sup.process() else { return };
            // One that was deposed and leads again has begun anew.
            let term = process.raft.term();
            if !process.leads() || process.lead.as_ref().is_some_and(|lead| lead.term().0 != term) {
                process.lead = None;
            }
            // What the real one applies it tells by itself.
            let Some(raft) = process.raft.model() else { return };
            if process.applied >= raft.commit {
                break;
            }
            let index = process.applied + 1;
            let Some(entry) = raft.log.get(index).cloned() else {
                self.load(id);
                continue;
            };
            process.applied = index;
            self.oracle.committed(index, entry.term, &entry.payload);
            let Some(process) = self.supers[usize::from(id)].process() else { return };
            match &*entry.payload {
                Payload::Command(command) => self.apply_command(id, index, entry.term, command),
                Payload::Config(config) => {
                    process.config = (index, config.clone());
                    self.group_changed(id, config);
                }
            }
            let state = &self.supers[usize::from(id)].running().expect("it runs").state;
            self.oracle.same(id, index, state);
        }
        self.compact(id);
    }

    /// The leader's snapshot is in place of entries that are gone.
    fn load(&mut self, id: Id) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let snapshot = process.raft.model().expect("the real one tells it").log.snapshot.clone();
        assert!(snapshot.index > process.applied, "a hole in the log of super {id}");
        process.applied = snapshot.index;
        process.config = snapshot.config.clone();
        self.loads(id, snapshot.state.clone());
    }

    /// A super has another state at once, and is not told what led to it.
    pub(crate) fn loads(&mut self, id: Id, state: kernel::state::State) {
        self.count("snapshots installed");
        self.tell(|_| format!("super {id} takes a snapshot"));
        let process = self.supers[usize::from(id)].process().expect("it runs");
        process.state = state;
        process.queues.keep(&process.state);
        self.note_roster(id);
        self.close_streams(id);
    }

    pub(crate) fn apply_command(&mut self, id: Id, index: u64, term: u64, command: &Command) {
        let now_us = self.now_us;
        self.judge(index, command);
        let node = self.supers[usize::from(id)].node;
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let outcome = process.state.apply(LogIndex(index), command);
        let is_model = process.raft.model().is_some();
        if self.options.plant == Plant::SettledTwice && is_model && id == 1 && outcome.reply.is_ok() {
            settle_again(&mut process.state, index, command);
        }
        process.clock.saw(process.state.meta.stamp_ms, now_us);
        match command {
            Command::Settle(settle) if outcome.reply.is_ok() => {
                process.queues.keep(&process.state);
                process.reports.retain(|(open, ..)| open.round > settle.round);
                let row = process.state.meta.seats.iter().find(|row| row.holder.node == node);
                process.attending.settled(settle.round, row);
                self.close_streams(id);
            }
            Command::Settle(settle) => {
                if let Some(lead) = &mut process.lead {
                    lead.failed(settle.round, now_us + 50_000);
                }
            }
            Command::Lead(lead) if lead.leader == node && outcome.reply.is_ok() => {
                if process.leads() && process.raft.term() == lead.term.0 {
                    process.lead = Some(Lead::new(lead.term, now_us));
                    process.told_supers = 0;
                    self.tell_supers(id);
                }
            }
            Command::Supers(_) => self.note_roster(id),
            Command::Lead(_)
            | Command::Found(_)
            | Command::Join(_)
            | Command::Leave(_)
            | Command::Outdated(_)
            | Command::Claim(_)
            | Command::Operate(_)
            | Command::OperateIf(_)
            | Command::Restore(_)
            | Command::Chunk(_)
            | Command::Stage(_)
            | Command::Ready(_)
            | Command::Order(_)
            | Command::Seal(_)
            | Command::Transfer(_)
            | Command::Evidence(_)
            | Command::Came(_)
            | Command::Able(_)
            | Command::Unready(_) => {}
        }
        self.answer_proposal(id, index, term, outcome.reply);
    }

    fn answer_proposal(&mut self, id: Id, index: u64, term: u64, reply: Result<Reply, Reject>) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let Some((of, to, number)) = process.proposals.remove(&index) else { return };
        // Another leader's entry is in its place: whoever asked asks again.
        if of == term {
            self.send_peer(id, to, &Peer::Answer(number, Box::new(reply)));
        }
    }

    /// Streams of members that are banned or out are closed by each super from its applied state.
    fn close_streams(&mut self, id: Id) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let is_out = |node: &kernel::id::NodeId| {
            let member = process.state.members.get(node);
            member.is_some_and(|member| member.hot.standing == Standing::Banned || member.hot.place.is_out())
        };
        let gone: Vec<_> = process.attached.iter().filter(|(node, _)| is_out(node)).map(|(n, s)| (*n, *s)).collect();
        for (node, (to, stream)) in gone {
            self.detach(id, node);
            self.send_down(id, to, stream, Down::Close);
        }
    }

    /// A change of the group is committed.
    fn group_changed(&mut self, id: Id, config: &Config) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        if !process.leads() {
            return;
        }
        if config.outgoing.is_some() {
            // Another change may be in the log already, where a leader before had proposed it.
            if process.raft.model().is_some_and(|raft| raft.config.1 == *config) {
                let config = Config { outgoing: None, ..config.clone() };
                self.propose(id, Payload::Config(config));
            }
        } else if !config.votes(id) {
            self.tell(|_| format!("super {id} is not in the group any more"));
            let process = self.supers[usize::from(id)].process().expect("it runs");
            process.raft.model_mut().expect("a change of the model").role = Role::Replica;
        } else {
            self.tell_supers(id);
        }
    }

    /// The leader tells the state who the supers are, where it does not know.
    pub(super) fn tell_supers(&mut self, id: Id) {
        let now_ms = self.stamp(id);
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let (changed, config) = process.config.clone();
        // The real one does it by itself.
        if process.raft.model().is_none()
            || process.lead.is_none()
            || !process.leads()
            || config.outgoing.is_some()
            || process.told_supers >= changed.max(1)
        {
            return;
        }
        process.told_supers = changed.max(1);
        let supers: Vec<_> = config.voters.iter().map(|id| self.supers[usize::from(*id)].holder()).collect();
        let state = &self.supers[usize::from(id)].running().expect("it runs").state;
        let is_known = supers.len() == state.meta.seats.len()
            && supers.iter().all(|new| state.meta.seats.iter().any(|row| row.holder.node == new.node));
        if !is_known {
            let supers = Supers { changed: LogIndex(changed), supers, now_ms };
            self.propose(id, Payload::Command(Command::Supers(supers)));
        }
    }

    pub(super) fn note_roster(&mut self, id: Id) {
        let process = self.supers[usize::from(id)].running().expect("it runs");
        let seats = process.state.meta.seats.iter();
        let roster: Arc<[Id]> = seats.filter_map(|row| self.by_key.get(&row.holder.node).copied()).collect();
        self.supers[usize::from(id)].process().expect("it runs").roster = roster;
    }

    fn compact(&mut self, id: Id) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let index = process.applied;
        let Some(raft) = process.raft.model_mut() else { return };
        if index < raft.log.snapshot.index + SNAPSHOT_ENTRIES as u64 {
            return;
        }
        // What a snapshot holds is on the disk with it.
        let Some(term) = raft.log.term(index).filter(|_| raft.log.durable() >= index) else { return };
        let length = raft.log.len() as u64;
        let snapshot = Snapshot { index, term, config: process.config.clone(), state: process.state.clone() };
        raft.log.compact(Arc::new(snapshot), KEPT_ENTRIES);
        self.count("snapshots made");
        let bytes = self.oracle.state_bytes();
        let largest = self.counts.entry("largest state, bytes").or_default();
        *largest = (*largest).max(bytes);
        let longest = self.counts.entry("longest log").or_default();
        *longest = (*longest).max(length);
    }
}

/// A planted bug: the settlement takes effect again.
fn settle_again(state: &mut kernel::state::State, index: u64, command: &Command) {
    if let Command::Settle(settle) = command
        && settle.round.0 % 50 == 7
    {
        state.meta.settled = RoundId(settle.round.0 - 1);
        let _ = state.apply(LogIndex(index), command);
    }
}
