//! A super's part in a group: it hears of rounds, is open for attaching while it takes part in them, and says what it saw.
//!
//! Whether it is open is [`kernel::round::opening::Attending`]'s to say. One that is not lets its followers go: on it no ping
//! of theirs would count.

use std::sync::Arc;
use std::time::Duration;

use kernel::id::NodeId;
use kernel::limits::VOID_LAG_DIVISOR;
use kernel::members::Refusal;
use kernel::round::walk::Timing;
use kernel::round::{OpenRound, SeatRow, SignedPartial};

use super::supernode::Supernode;
use super::welcome::NewsOf;
use crate::mail::{Attach, StreamId, SuperMail};

/// Hellos that wait until this super is open.
const HELD: usize = 1_024;
/// How long they wait for a super that has just started.
const START_US: u64 = 5_000_000;

/// A round whose base is not applied here yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) open: OpenRound,
    pub(super) leader: NodeId,
    pub(super) waited_us: u64,
}

/// A hello that came before this super was open.
pub(super) struct Held {
    until_us: u64,
    attach: Box<Attach>,
}

impl Supernode {
    /// Another super says something.
    pub(super) fn super_mail(&mut self, mail: SuperMail) {
        match mail {
            SuperMail::Open { from, open } => {
                // A learner or a stranger leads nobody.
                if self.peers.others(self.node).contains(&from) {
                    self.hears(from, open, 0);
                    self.open_pending();
                }
            }
            SuperMail::Report { signed, taken } => {
                let leads = self.lead.is_some();
                if leads {
                    self.partial(*signed);
                }
                // Who does not lead yet may do so soon; a report that says nothing is of no more use later.
                let _gone = taken.send(leads);
            }
        }
    }

    /// The leader's word that a round begins.
    pub(super) fn hears(&mut self, leader: NodeId, open: OpenRound, waited_us: u64) {
        let at = |open: &OpenRound| (open.term, open.round);
        let is_news = at(&open) > self.opened && self.pending.is_none_or(|other| at(&open) > at(&other.open));
        if is_news && self.group.read(|state| open.term >= state.meta.term) {
            self.pending = Some(Pending { open, leader, waited_us });
        }
    }

    /// Begins the walk of a round as soon as its base is applied.
    pub(super) fn open_pending(&mut self) {
        let Some(Pending { open, leader, waited_us }) = self.pending else { return };
        let is_behind = self.group.read(|state| {
            self.queues.keep(state);
            state.meta.settled < open.base
        });
        if is_behind {
            return;
        }
        self.pending = None;
        let Some(queue) = self.queues.of(open.base).map(Arc::clone) else { return };
        self.opened = (open.term, open.round);
        // What is found after a pause may be as old as the pause.
        let at_us = self.now_us().saturating_sub(self.late_us);
        self.attending.heard(at_us);
        self.attend();
        self.open(open, leader, queue, waited_us);
    }

    /// The state has moved on.
    pub(super) fn applied_now(&mut self) {
        let (timing, version, accept, news_of) = self.group.read(|state| {
            self.queues.keep(state);
            let (meta, settings) = (&state.meta, &state.meta.settings);
            let accept = settings.accept_versions.to_string();
            (Timing::of(settings), meta.settings_version, accept, NewsOf::of(state))
        });
        let before = std::mem::replace(&mut self.news_of, news_of);
        if before != news_of {
            self.news += 1;
        }
        if news_of.has_other_policies(&before) {
            self.announce();
        }
        self.timing = timing;
        if self.settings_version != version {
            self.settings_version = version;
            // Accepted versions are in force at once.
            if std::mem::replace(&mut self.accepted, accept.clone()) != accept {
                self.close_outdated();
            }
        }
        self.open_pending();
    }

    /// Of this super in the state, while it votes. One that has left the group knows it from its log first.
    pub(super) fn row(&self) -> Option<SeatRow> {
        if !self.group.votes() {
            return None;
        }
        self.group.read(|state| state.meta.seats.iter().find(|row| row.holder.node == self.node).cloned())
    }

    /// It was late by so much in what it does, in a walk or outside of one.
    pub(super) fn notes_lag(&mut self, late_us: u64) {
        self.late_us = late_us;
        if late_us > self.timing.timeout_us / VOID_LAG_DIVISOR {
            self.attending.lagged(late_us);
        }
    }

    /// Looks whether it is open for attaching; one that is not any more lets its followers go.
    pub(super) fn attend(&mut self) {
        let now_us = self.now_us();
        let row = self.row();
        let was_open = self.attending.open_since_us().is_some();
        let is_open = self.attending.look(now_us, self.timing.interval_us, row.as_ref());
        self.metrics.open.set(i64::from(is_open));
        let beat_us = now_us.saturating_add(self.timing.timeout_us / 2);
        let due_us = self.attending.due_us(self.timing.interval_us).unwrap_or(beat_us);
        self.attend_due_us = due_us.clamp(now_us + 1, beat_us.max(now_us + 1));
        if is_open && !was_open {
            self.open_since_ms = self.group.now_ms().max(self.open_since_ms + 1);
            tracing::debug!(since_ms = self.open_since_ms, "open for attaching");
        } else if !is_open && was_open {
            let nodes = self.attached.nodes();
            tracing::warn!(
                followers = nodes.len(),
                "this super takes part in no rounds now: its followers are let go, so that they attach elsewhere"
            );
            self.walks.clear();
            for node in nodes {
                self.close(&node, None);
            }
        }
        self.let_in(now_us, is_open);
        if self.unprepared_us.is_some() {
            self.lead();
        }
    }

    /// A hello before this super is open: it may be in a moment, and one that restarts is to lose nobody by it.
    pub(super) fn hold(&mut self, attach: Box<Attach>) {
        if self.held.len() >= HELD {
            return self.not_open(*attach);
        }
        let starts = self.open_since_ms == 0;
        let wait_us = if starts { START_US.max(self.timing.timeout_us) } else { self.timing.timeout_us };
        let until_us = self.now_us().saturating_add(wait_us);
        self.held.push_back(Held { until_us, attach });
    }

    /// The stream of one that waits has ended.
    pub(super) fn let_go(&mut self, stream: StreamId) {
        self.held.retain(|held| held.attach.stream != stream);
    }

    fn let_in(&mut self, now_us: u64, is_open: bool) {
        while let Some(held) = self.held.pop_front() {
            if is_open {
                self.attach(held.attach);
            } else if held.until_us <= now_us {
                self.not_open(*held.attach);
            } else {
                self.held.push_front(held);
                return;
            }
        }
    }

    fn not_open(&mut self, attach: Attach) {
        let retry_ms = self.timing.timeout_us / 1_000;
        self.refuse(attach, Refusal::Busy { retry_ms });
    }

    /// Tells all the others that a round begins.
    pub(super) fn tell_supers(&self, open: OpenRound) {
        for to in self.peers.others(self.node) {
            let telling = self.peers.clone().tell(to, open, self.patience());
            self.beside("telling a super of a round", telling);
        }
    }

    /// Hands what was seen to who leads the round.
    pub(super) fn hand_in(&mut self, leader: NodeId, open: OpenRound, signed: SignedPartial) {
        if leader == self.node {
            self.partial(signed);
        } else {
            let reporting = self.peers.clone().report(leader, open, signed, self.patience());
            self.beside("handing in a report", reporting);
        }
    }

    /// Runs beside the loop, and ends when the node drains: a round that nobody settles any more is nothing to wait for.
    fn beside(&self, what: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let draining = self.tasks.draining();
        self.tasks.spawn_connection(what, async move {
            tokio::select! {
                () = draining.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn patience(&self) -> Duration {
        Duration::from_micros(self.timing.interval_us)
    }
}
