//! The public stream of events: what `/v1/events` sends.
//!
//! An event says nothing that cannot also be read from state or history, so losing one is harmless. The last
//! [`KEPT`] stay here for readers that come back and name the last one that they saw; a reader that is slower than that, or
//! comes back after a restart, is told that it missed some and reads again.
//!
//! Invariant: a slow reader costs memory for nobody: events are shared, and their number is bounded.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::broadcast;

use kernel::decide::Slot;
use kernel::id::Digest;
use kernel::outcome::{Change, Move, Notice, Told};
use kernel::records::order::Batch;
use kernel::shadow::Round;
use kernel::standing::Standing;
use kernel::state::State;

use crate::rest::view;
use crate::roles::follower::policies::PolicyNews;
use crate::text::capture_hint;

/// Events that stay for readers that come back: some minutes of a busy cluster.
pub const KEPT: usize = 4_096;
/// Events that a reader may be behind before it is told that it missed some.
const BEHIND: usize = 1_024;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A round was settled. On a follower: with its own line.
    Round,
    /// A member's standing changed.
    Standing,
    /// A member was banned. It follows the `standing` event of the same change.
    Ban,
    /// A claim was paid or penalised.
    Claim,
    /// A batch of records was sealed, is stuck, or the set of validators changed.
    Record,
    /// A policy was staged, scheduled, came into force, failed, or came back by itself. On a follower: what its supers told
    /// it of the rules, a change that is taken back among it.
    Policy,
    /// What a shadowed policy did otherwise in a round.
    Shadow,
    /// Another leader.
    Leader,
    /// Settings changed.
    Settings,
    /// An operator, or the cluster by itself, changed something else.
    Change,
    /// Suspect rounds go on: an operator should say whether the loss is real.
    Suspect,
    /// The leader's clock is off.
    Clock,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Round,
        Self::Standing,
        Self::Ban,
        Self::Claim,
        Self::Record,
        Self::Policy,
        Self::Shadow,
        Self::Leader,
        Self::Settings,
        Self::Change,
        Self::Suspect,
        Self::Clock,
    ];

    /// The word in the stream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Standing => "standing",
            Self::Ban => "ban",
            Self::Claim => "claim",
            Self::Record => "record",
            Self::Policy => "policy",
            Self::Shadow => "shadow",
            Self::Leader => "leader",
            Self::Settings => "settings",
            Self::Change => "change",
            Self::Suspect => "suspect",
            Self::Clock => "clock",
        }
    }
}

/// The name of an event: which run of the node, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// When the node started, ms since 1970: numbers begin anew with each start.
    pub run: u64,
    /// From 1.
    pub number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.number)
    }
}

impl FromStr for EventId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (run, number) = text.split_once('-').ok_or(())?;
        Ok(Self { run: run.parse().map_err(|_| ())?, number: number.parse().map_err(|_| ())? })
    }
}

/// One item of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// What it is about.
    pub kind: Kind,
    /// When, ms since 1970.
    pub time_ms: u64,
    /// A JSON object, `time_ms` among its fields.
    pub data: String,
}

/// Where events go in and readers get them.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Mutex<Inner>>,
    run: u64,
}

struct Inner {
    number: u64,
    kept: VecDeque<Arc<Event>>,
    /// `None` = closed.
    live: Option<broadcast::Sender<Arc<Event>>>,
}

/// What a new reader gets.
#[derive(Debug)]
pub struct Subscription {
    /// Events between the one that it named and now are gone: it must read state again.
    pub missed: bool,
    /// Kept events after the one that it named, oldest first.
    pub kept: Vec<Arc<Event>>,
    /// All that come from now on; it ends when the node stops.
    pub live: broadcast::Receiver<Arc<Event>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Events {
    /// No events yet. `run` = when the node started, ms since 1970.
    #[must_use]
    pub fn new(run: u64) -> Self {
        let inner = Inner { number: 0, kept: VecDeque::new(), live: Some(broadcast::channel(BEHIND).0) };
        Self { inner: Arc::new(Mutex::new(inner)), run }
    }

    /// Sends an event to all readers and keeps it. `data` must be an object; `time_ms` is added to it.
    pub fn publish(&self, kind: Kind, time_ms: u64, mut data: Value) {
        if let Some(object) = data.as_object_mut() {
            object.insert("time_ms".into(), time_ms.into());
        }
        let mut inner = self.lock();
        inner.number += 1;
        let id = EventId { run: self.run, number: inner.number };
        let event = Arc::new(Event { id, kind, time_ms, data: data.to_string() });
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(event.clone());
        if let Some(live) = &inner.live {
            // Nobody may be listening.
            let _ = live.send(event);
        }
    }

    /// From now on; after a named event, what was kept since then first. `None` when the node is stopping.
    #[must_use]
    pub fn subscribe(&self, after: Option<EventId>) -> Option<Subscription> {
        let inner = self.lock();
        let live = inner.live.as_ref()?.subscribe();
        let Some(after) = after else { return Some(Subscription { missed: false, kept: Vec::new(), live }) };
        let oldest = inner.kept.front().map_or(inner.number + 1, |event| event.id.number);
        let known = after.run == self.run && after.number <= inner.number;
        let missed = !known || after.number + 1 < oldest;
        let from = if known { after.number } else { inner.number };
        let kept = inner.kept.iter().filter(|event| event.id.number > from).cloned().collect();
        Some(Subscription { missed, kept, live })
    }

    /// So many of the last kept events first, then from now on. `None` when the node is stopping.
    #[must_use]
    pub fn recent(&self, count: usize) -> Option<Subscription> {
        let inner = self.lock();
        let live = inner.live.as_ref()?.subscribe();
        let kept = inner.kept.iter().skip(inner.kept.len().saturating_sub(count)).cloned().collect();
        Some(Subscription { missed: false, kept, live })
    }

    /// Ends all streams: the node stops.
    pub fn close(&self) {
        self.lock().live = None;
    }

    /// Publishes what a notice means for the public; some mean nothing.
    pub fn notice(&self, notice: &Notice, state: &State) {
        let now_ms = state.meta.stamp_ms;
        match notice {
            Notice::Round(record) => {
                self.publish(Kind::Round, record.now_ms, view::json(&view::RoundSummary::of(record)));
            }
            Notice::Moved(moved) => self.moved(moved, state),
            Notice::Claimed { node, answer } => {
                let name = view::name_of(state, node);
                let data = match answer {
                    Ok(paid) => json!({
                        "node": node.to_string(), "name": name, "result": "paid",
                        "paid": paid.paid.0, "earned": paid.earned.0, "wallet": paid.wallet.0,
                    }),
                    Err((penalty, earned)) => json!({
                        "node": node.to_string(), "name": name, "result": "overclaim",
                        "penalty": penalty.0, "earned": earned.0,
                    }),
                };
                self.publish(Kind::Claim, now_ms, data);
            }
            Notice::Policy { slot, policy, what, round, detail } => {
                let name =
                    policy.and_then(|digest| state.policies.get(&digest)).map(|row| row.description.name.clone());
                let hint = (*what == "fault").then(|| capture_hint(*slot, *round));
                let data = json!({
                    "slot": slot.name(), "policy": policy.map(|digest| digest.to_string()), "name": name,
                    "what": what, "round": round.0, "detail": detail, "hint": hint,
                });
                self.publish(Kind::Policy, now_ms, data);
            }
            Notice::AskOperator { round, rounds } => {
                let data = json!({
                    "round": round.0, "suspect_rounds": rounds,
                    "hint": "if these nodes are really gone, run `pingward rounds accept`; nobody is struck meanwhile",
                });
                self.publish(Kind::Suspect, now_ms, data);
            }
            Notice::Leader { term, leader } => {
                self.publish(Kind::Leader, now_ms, json!({ "term": term.0, "leader": leader.to_string() }));
            }
            Notice::Changed(change) => {
                self.publish(kind_of(change), change.now_ms, view::json(&view::ChangeView::of(change)));
            }
            Notice::Sealed(batch) => self.sealed(now_ms, batch),
            Notice::Validators { version } => {
                let set = state.validators.set.len();
                let data =
                    json!({ "what": "validators", "version": version, "validators": set, "quorum": state.quorum() });
                self.publish(Kind::Record, now_ms, data);
            }
            // Streams are closed by the supers; the standing event says why. A record is news when it is sealed.
            Notice::Closed(_) | Notice::Ordered(_) => {}
        }
    }

    /// A batch was sealed: one event for all of its records.
    fn sealed(&self, now_ms: u64, batch: &Batch) {
        let refused = batch.sealed.iter().flat_map(|sealed| &sealed.codes).filter(|code| **code != 0).count();
        self.sealed_batch(now_ms, (batch.number, batch.first_sequence, batch.count), refused, batch.ordered_ms);
    }

    /// A batch of records was sealed: its number, its first sequence number and how many records it has; how many of them are
    /// refused; when it was ordered.
    pub fn sealed_batch(&self, now_ms: u64, (batch, first, count): (u64, u64, u32), refused: usize, ordered_ms: u64) {
        let data = json!({
            "what": "sealed", "batch": batch, "first_sequence": first, "count": count, "refused": refused,
            "ordered_ms": ordered_ms,
        });
        self.publish(Kind::Record, now_ms, data);
    }

    /// No quorum signs a batch.
    pub fn records_stuck(&self, now_ms: u64, batch: u64, detail: &str) {
        self.publish(Kind::Record, now_ms, json!({ "what": "stuck", "batch": batch, "detail": detail }));
    }

    /// What a shadowed policy did otherwise in a round.
    pub fn shadow(&self, slot: Slot, policy: Digest, round: &Round, now_ms: u64) {
        let data = json!({
            "slot": slot.name(), "policy": policy.to_string(), "round": round.round.0,
            "paid_otherwise": round.paid_otherwise, "placed_otherwise": round.placed_otherwise,
            "points": round.real_points.0, "shadow_points": round.own_points.0,
            "fault": round.fault.as_ref().map(ToString::to_string),
        });
        self.publish(Kind::Shadow, now_ms, data);
    }

    /// This machine's clock is off by so much.
    pub fn clock_off(&self, now_ms: u64, off_ms: i64) {
        let hint = "stamps follow the time that has passed; set this machine's clock";
        self.publish(Kind::Clock, now_ms, json!({ "off_ms": off_ms, "hint": hint }));
    }

    /// A follower's own line after a settlement.
    pub fn told(&self, time_ms: u64, told: &Told, until_ms: Option<u64>, warning: Option<&str>) {
        let data = json!({
            "round": told.round.0, "presence": told.presence.name(), "standing": told.standing.name(),
            "reason": view::text(&told.reason), "earned": told.earned.0, "wallet": told.wallet.0,
            "warning": warning, "earliest_return": until_ms,
        });
        self.publish(Kind::Round, time_ms, data);
    }

    /// What a follower was told of the rules, in the shape of a super's event. The round is null where nobody told it.
    pub fn policy_news(&self, time_ms: u64, news: &PolicyNews) {
        let (policy, notice) = (news.policy.as_ref(), news.notice());
        let data = json!({
            "slot": news.slot.name(), "policy": policy.map(|policy| policy.digest.to_string()),
            "name": policy.and_then(|policy| view::text(&policy.name)),
            "version": policy.and_then(|policy| view::text(&policy.version)),
            "what": news.word(), "round": news.round.map(|round| round.0), "detail": "", "hint": null,
            "notice_rounds": notice.map(|notice| notice.rounds), "notice_ms": notice.map(|notice| notice.ms),
        });
        self.publish(Kind::Policy, time_ms, data);
    }

    fn moved(&self, moved: &Move, state: &State) {
        let data = view::json(&view::MoveView::of(moved, state));
        if moved.to == Standing::Banned {
            self.publish(Kind::Standing, moved.now_ms, data.clone());
            self.publish(Kind::Ban, moved.now_ms, data);
        } else {
            self.publish(Kind::Standing, moved.now_ms, data);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing panics while it is held; if something did, the ring is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kind_of(change: &Change) -> Kind {
    if change.what.starts_with("setting") { Kind::Settings } else { Kind::Change }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64) -> Events {
        let events = Events::new(7);
        for i in 0..count {
            events.publish(Kind::Leader, i, json!({ "term": i }));
        }
        events
    }

    fn numbers(subscription: &Subscription) -> Vec<u64> {
        subscription.kept.iter().map(|event| event.id.number).collect()
    }

    #[test]
    fn a_reader_that_comes_back_gets_what_it_missed_and_nothing_twice() {
        let events = filled(5);
        let back = events.subscribe(Some("7-3".parse().unwrap())).unwrap();
        assert_eq!((back.missed, numbers(&back)), (false, vec![4, 5]));
        let up_to_date = events.subscribe(Some("7-5".parse().unwrap())).unwrap();
        assert_eq!((up_to_date.missed, numbers(&up_to_date)), (false, vec![]));
        let new = events.subscribe(None).unwrap();
        assert_eq!((new.missed, numbers(&new)), (false, vec![]));
    }

    #[test]
    fn a_reader_of_another_run_or_from_before_the_oldest_kept_is_told_to_read_again() {
        let events = filled(KEPT as u64 + 10);
        let other_run = events.subscribe(Some("6-3".parse().unwrap())).unwrap();
        assert_eq!((other_run.missed, numbers(&other_run)), (true, vec![]));
        let ahead = events.subscribe(Some("7-999999".parse().unwrap())).unwrap();
        assert!(ahead.missed);
        let too_old = events.subscribe(Some("7-9".parse().unwrap())).unwrap();
        assert_eq!((too_old.missed, too_old.kept.len()), (true, KEPT));
        let just_kept = events.subscribe(Some("7-10".parse().unwrap())).unwrap();
        assert_eq!((just_kept.missed, just_kept.kept.len()), (false, KEPT));
    }

    #[test]
    fn a_reader_may_begin_with_the_last_few() {
        let events = filled(5);
        assert_eq!(numbers(&events.recent(2).unwrap()), [4, 5]);
        assert_eq!(numbers(&events.recent(99).unwrap()).len(), 5);
        events.close();
        assert!(events.recent(2).is_none());
    }

    #[tokio::test]
    async fn live_events_follow_the_kept_ones_and_end_when_the_node_stops() {
        let events = filled(2);
        let mut reader = events.subscribe(Some("7-1".parse().unwrap())).unwrap();
        events.publish(Kind::Leader, 9, json!({}));
        events.close();
        assert_eq!(numbers(&reader), [2]);
        let event = reader.live.recv().await.unwrap();
        assert_eq!((event.id.to_string(), event.data.as_str()), ("7-3".into(), "{\"time_ms\":9}"));
        assert!(matches!(reader.live.recv().await, Err(broadcast::error::RecvError::Closed)));
        assert!(events.subscribe(None).is_none());
    }
}
