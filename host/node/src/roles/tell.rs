//! What follows from a settlement for the streams of a super: whom to let go, and what to tell the others.
//!
//! Each super looks at its own applied state for this; nobody sends it a message (PROTOCOLS 6.10, 14.1).

use kernel::id::{NodeId, RoundId};
use kernel::members::{Place, Refusal};
use kernel::standing::Standing;
use kernel::state::State;
use wire::message::{Own, ToFollower, Welcome};

use super::supernode::Supernode;
use super::welcome::welcome;

/// Followers told in one go, between two looks at the mailbox and the deadlines.
const TOLD: usize = 256;

/// What a follower's stream gets.
enum Word {
    Own(Box<Own>),
    Close(Option<Refusal>),
}

impl Supernode {
    /// A round was settled.
    pub(super) fn settled(&mut self, round: RoundId) {
        self.publish_order(round);
        let row = self.row();
        self.attending.settled(round, row.as_ref());
        self.to_tell = self.attached.nodes().into();
        // They hear of it with what they are told now.
        self.to_announce.clear();
        self.lead_due_us = self.lead.as_ref().map(|_| self.now_us());
    }

    /// Tells the next ones.
    pub(super) fn tell_some(&mut self) {
        let some: Vec<NodeId> = self.to_tell.drain(..self.to_tell.len().min(TOLD)).collect();
        let words: Vec<Word> = self.group.read(|state| some.iter().map(|node| word(state, node)).collect());
        let welcome = self.news_for(&some);
        for (node, word) in some.iter().zip(words) {
            match word {
                Word::Own(own) => {
                    self.tell_news(node, welcome.as_ref());
                    let _sent = self.attached.send(node, ToFollower::Own(*own));
                }
                Word::Close(refusal) => self.close(node, refusal),
            }
        }
    }

    /// Other rules are in force or to come: whoever is attached is told so at once, because what is left of the notice
    /// may be one round.
    pub(super) fn announce(&mut self) {
        self.to_announce = self.attached.nodes().into();
    }

    /// Tells the next ones of other rules.
    pub(super) fn announce_some(&mut self) {
        let some: Vec<NodeId> = self.to_announce.drain(..self.to_announce.len().min(TOLD)).collect();
        let welcome = self.news_for(&some);
        for node in &some {
            self.tell_news(node, welcome.as_ref());
        }
    }

    /// What a welcome says to those of them that do not know it; `None` when all do.
    fn news_for(&self, nodes: &[NodeId]) -> Option<Welcome> {
        let is_news = nodes.iter().any(|node| self.attached.news_of(node).is_some_and(|news| news != self.news));
        is_news.then(|| {
            let spread_ms = self.spread_ms();
            self.group.read(|state| welcome(state, spread_ms))
        })
    }

    fn tell_news(&mut self, node: &NodeId, welcome: Option<&Welcome>) {
        if let Some(welcome) = welcome.filter(|_| self.attached.owes_news(node, self.news)) {
            let _sent = self.attached.send(node, ToFollower::Welcome(welcome.clone()));
        }
    }

    /// These are out of the queue.
    pub(super) fn close_gone(&mut self, nodes: &[NodeId]) {
        let words: Vec<(NodeId, Word)> =
            self.group.read(|state| nodes.iter().map(|node| (*node, word(state, node))).collect());
        for (node, word) in words {
            match word {
                Word::Close(refusal) => self.close(&node, refusal),
                // It is on its way in again.
                Word::Own(_) => {}
            }
        }
    }

    /// Other versions are accepted: those that speak none of them are out at once.
    pub(super) fn close_outdated(&mut self) {
        let range = self.group.read(|state| state.meta.settings.accept_versions.clone());
        let outdated = self.attached.iter().filter(|(_, link)| !range.accepts(link.version));
        let outdated: Vec<_> = outdated.map(|(node, link)| (*node, link.version)).collect();
        for (node, version) in outdated {
            self.outdated(node, version);
            self.close(&node, Some(Refusal::Outdated { accept: range.to_string() }));
        }
    }
}

fn word(state: &State, node: &NodeId) -> Word {
    let Some(member) = state.members.get(node) else { return Word::Close(None) };
    if member.hot.standing == Standing::Banned {
        let until = member.hot.until;
        let (until_ms, reason) = (state.until_ms(until), member.profile.reason.clone());
        return Word::Close(Some(Refusal::Banned { until, until_ms, reason }));
    }
    match member.hot.place {
        Place::Out => return Word::Close(None),
        Place::OutOutdated => {
            let accept = state.meta.settings.accept_versions.to_string();
            return Word::Close(Some(Refusal::Outdated { accept }));
        }
        Place::Entering | Place::Queued | Place::Leaving | Place::Outdated => {}
    }
    match state.told(node) {
        Some(told) => {
            let until_ms = told.until.map(|until| state.until_ms(until));
            Word::Own(Box::new(Own { told, until_ms, warning: None }))
        }
        None => Word::Close(None),
    }
}
