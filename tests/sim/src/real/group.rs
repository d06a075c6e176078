//! What is asked of the group: commands, reads, and changes of who belongs to it.

use std::collections::BTreeSet;

use kernel::command::Command;
use kernel::id::NodeId;
use kernel::state::State;
use raft::Group;

use super::hear::About;
use super::{Note, disks};
use crate::Plant;
use crate::raft::Id;
use crate::supers::Fate;
use crate::world::World;

/// How often somebody reads when the operator looks.
const READ_BP: u64 = 3_000;

/// How the operator wants the group to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// This super votes.
    In(Id),
    /// This one is no member.
    Out(Id),
}

impl World {
    fn group(&self, id: Id) -> Option<&Group> {
        self.supers[usize::from(id)].running().and_then(|process| process.raft.real()).and_then(|of| of.group())
    }

    /// Hands a command to the group, by a super's own replica.
    pub(crate) fn hand_in(&mut self, id: Id, command: Command, about: About) {
        let life = self.supers[usize::from(id)].life;
        let Some(group) = self.group(id).cloned() else { return };
        let notes = self.real.as_ref().expect("it is real").notes.clone();
        if self.options.plant == Plant::EarlyAnswer && matches!(about, About::Asked(_)) {
            // A planted bug: what its own state says is the answer, and then the group is asked.
            let process = self.supers[usize::from(id)].running().expect("it runs");
            let mut state: State = process.state.clone();
            let answer = Box::new(Ok(state.apply(kernel::id::LogIndex(process.applied + 1), &command).reply));
            let _ = notes.send(Note::Answered { id, life, about, answer });
        }
        tokio::spawn(async move {
            let answer = Box::new(group.propose(command).await);
            // The world may be over.
            let _ = notes.send(Note::Answered { id, life, about, answer });
        });
    }

    /// Who votes, as a super's replica knows.
    pub(crate) fn voters_there(&self, id: Id) -> BTreeSet<Id> {
        let members = self.group(id).and_then(|group| group.members().ok()).unwrap_or_default();
        members
            .iter()
            .filter(|member| member.voter)
            .filter_map(|member| self.by_key.get(&member.key).copied())
            .collect()
    }

    /// A super is to be added, or one is to go.
    pub(crate) fn wants(&mut self, wanted: Wanted) {
        self.tell(|_| format!("the operator wants {wanted:?}"));
        self.real.as_mut().expect("it is real").wanted = Some(wanted);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.real.as_ref().is_some_and(|real| real.wanted.is_some())
    }

    /// The operator looks at the group, and somebody reads.
    pub(crate) fn operate_group(&mut self) {
        self.read_somewhere();
        let Some(leader) = self.leader() else { return };
        let real = self.real.as_ref().expect("it is real");
        let (Some(wanted), false) = (real.wanted, real.changing) else { return };
        let Some(group) = self.group(leader).cloned() else { return };
        let Ok(members) = group.members() else { return };
        let (Wanted::In(id) | Wanted::Out(id)) = wanted;
        let key = self.supers[usize::from(id)].node;
        let member = members.iter().find(|member| member.key == key);
        let done = match wanted {
            Wanted::In(_) => member.is_some_and(|member| member.voter),
            Wanted::Out(_) => member.is_none(),
        };
        if done {
            self.real.as_mut().expect("it is real").wanted = None;
            self.count("groups changed");
            self.oracle.trouble(self.now_us);
            if let Wanted::Out(id) = wanted {
                self.switch_off_soon(id);
            }
            return;
        }
        let is_learner = member.is_some();
        self.oracle.trouble(self.now_us);
        let real = self.real.as_mut().expect("it is real");
        real.changing = true;
        let notes = real.notes.clone();
        tokio::spawn(async move {
            let done = change(&group, wanted, key, is_learner).await;
            let _ = notes.send(Note::Changed { what: format!("{wanted:?}: {done}") });
        });
    }

    /// Somebody reads what must be the newest.
    fn read_somewhere(&mut self) {
        let id = self.random.below(self.supers.len() as u64) as Id;
        if !self.random.chance_bp(READ_BP) {
            return;
        }
        if !matches!(self.supers[usize::from(id)].fate, Fate::Up(_)) {
            return;
        }
        let Some(group) = self.group(id).filter(|group| group.read(State::is_founded)).cloned() else { return };
        let real = self.real.as_ref().expect("it is real");
        let (notes, after) = (real.notes.clone(), real.acknowledged);
        let is_local = self.options.plant == Plant::LocalRead;
        tokio::spawn(async move {
            if is_local || group.linearizable().await.is_ok() {
                let saw = group.read(|state| state.meta.settled);
                let _ = notes.send(Note::Read { id, saw, after });
            }
        });
    }
}

async fn change(group: &Group, wanted: Wanted, key: NodeId, is_learner: bool) -> String {
    let changed = match wanted {
        Wanted::In(id) if !is_learner => group.add(key, disks::address(id)).await,
        Wanted::In(_) => group.promote(key).await,
        Wanted::Out(_) => group.remove(key).await,
    };
    changed.map_or_else(|error| error.to_string(), |replica| format!("replica {replica}"))
}
