//! What a super does in addition while it leads: it opens rounds, merges what the supers saw, lets the policies decide,
//! and proposes the settlement.
//!
//! When to do so is [`kernel::round::lead`]'s to say. Policies run on a thread of their own, because they may take all
//! of their time; the loop goes on walking the next round meanwhile.
//!
//! Invariant: a settlement that was refused, or that could not be made, is made again from the same observations; a round
//! is never skipped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kernel::columns::Deciding;
use kernel::command::{Command, Settle};
use kernel::decide::{Call, Description, Judgement, LimitSettings, LogLine, Policy, Reward, Run, Slot};
use kernel::id::{Digest, RoundId};
use kernel::outcome::{Reject, Reply};
use kernel::round::SignedPartial;
use kernel::round::lead::{Gathered, Stamp, Step};
use kernel::round::merge::PartialError;
use kernel::round::opening::policies;
use policy::Prepared;
use tokio::sync::oneshot;

use super::supernode::{Done, Settling, Supernode};
use crate::events::Events;
use crate::group::{Group, GroupError};
use crate::metrics::Metrics;
use crate::prepare::Policies;

/// Stack of the thread on which policies run: a guest's own stack, the engine's frames, and room.
const STACK_BYTES: usize = 8 << 20;
/// So long a leader whose rules are not prepared waits for another super to take the lead.
const UNPREPARED_INTERVALS: u64 = 2;
/// Wait before a refused settlement is made again.
const AGAIN_US: u64 = 50_000;

impl Supernode {
    /// A partial report came.
    pub(super) fn partial(&mut self, signed: SignedPartial) {
        let Some(lead) = &mut self.lead else { return };
        if let Err(error) = self.group.read(|state| lead.partial(signed, state)) {
            // What comes late or twice, or from a seat that is too new, is no fault of anybody's.
            if matches!(error, PartialError::NotOpen { .. } | PartialError::Again | PartialError::TooNew { .. }) {
                tracing::debug!(%error, "a partial report says nothing");
            } else {
                tracing::warn!(%error, "a partial report says nothing");
            }
        }
        self.lead();
    }

    /// Does what the leader is to do now.
    pub(super) fn lead(&mut self) {
        loop {
            let now_us = self.now_us();
            let may_open = self.may_open(now_us);
            let Some(lead) = &mut self.lead else { return };
            lead.prepared(may_open);
            let step = self.group.read(|state| {
                self.queues.keep(state);
                let step = lead.step(now_us, state);
                self.lead_due_us = lead.next_due_us(state.meta.settled);
                step
            });
            match step {
                Some(Step::Open { open, queue, waited_us }) => {
                    tracing::debug!(round = open.round.0, term = open.term.0, members = queue.len(), "round open");
                    self.tell_supers(open);
                    self.hears(self.node, open, waited_us);
                    self.open_pending();
                }
                Some(Step::Settle(gathered)) => self.settle(*gathered),
                None => return,
            }
        }
    }

    /// Whether the rules that will decide are prepared here and now. Where they are not, the lead is to go to another super
    /// (PROTOCOLS 11.6); where there is none, or none that takes it, rounds go on and the slot is neutral.
    fn may_open(&mut self, now_us: u64) -> bool {
        let needed = self.group.read(policies);
        let is_prepared = needed.iter().all(|policy| self.policies.prepared(policy).is_some());
        if is_prepared || self.peers.others(self.node).is_empty() {
            self.unprepared_us = None;
            return true;
        }
        let first = self.unprepared_us.is_none();
        let since_us = *self.unprepared_us.get_or_insert(now_us);
        if first {
            tracing::warn!("a policy that decides is not prepared here: the lead goes to another super");
            let group = self.group.clone();
            self.tasks.spawn_connection("handing the lead on", async move {
                match group.hand_over(None).await {
                    Ok(leader) => tracing::info!(%leader, "the lead was handed on"),
                    Err(error) => tracing::warn!(%error, "the lead stays here, and the slot is neutral after a while"),
                }
            });
        }
        now_us.saturating_sub(since_us) >= self.timing.interval_us.saturating_mul(UNPREPARED_INTERVALS)
    }

    /// Decides and proposes, beside the loop.
    fn settle(&mut self, gathered: Gathered) {
        let round = gathered.open.round;
        self.settling = Some(Settling { round, since: Instant::now() });
        let (group, policies, metrics) = (self.group.clone(), self.policies.clone(), Arc::clone(&self.metrics));
        let (done, clock_was_off, events) = (self.done.clone(), Arc::clone(&self.clock_was_off), self.events.clone());
        let name = "settle";
        self.tasks.spawn(name, async move {
            let (decided, decides) = oneshot::channel();
            let group_there = group.clone();
            let decide = move || {
                // Nobody waits any more when the node is killed.
                let _gone = decided.send(decide(&group_there, &policies, &metrics, &clock_was_off, &events, &gathered));
            };
            std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(decide)?;
            let Ok(settle) = decides.await else {
                anyhow::bail!("deciding round {round} panicked");
            };
            let reply = group.propose(Command::Settle(Box::new(settle))).await;
            let _gone = done.send(Done::Settled { round, reply }).await;
            anyhow::Ok(())
        });
    }

    pub(super) fn settle_answered(&mut self, round: RoundId, reply: Result<Result<Reply, Reject>, GroupError>) {
        let since = self.settling.take_if(|settling| settling.round == round).map(|settling| settling.since);
        match reply {
            Ok(Ok(_)) => {
                if let Some(since) = since {
                    self.metrics.settle_seconds.observe(since.elapsed().as_secs_f64());
                }
            }
            Ok(Err(reject)) => {
                tracing::warn!(round = round.0, ?reject, "a settlement was refused; it is made again");
                self.settle_again(round);
            }
            // One that still comes is settled, and then this one is refused.
            Err(GroupError::Unknown | GroupError::NoLeader) => {
                tracing::warn!(round = round.0, "a settlement got no answer; it is made again");
                self.settle_again(round);
            }
            Err(error @ (GroupError::TooLong | GroupError::NotInGroup)) => {
                tracing::error!(round = round.0, %error, "a settlement cannot be proposed");
                self.settle_again(round);
            }
            Err(GroupError::Stopped) => {}
        }
    }

    fn settle_again(&mut self, round: RoundId) {
        let again_us = self.now_us().saturating_add(AGAIN_US);
        if let Some(lead) = &mut self.lead {
            lead.failed(round, again_us);
            let settled = self.group.read(|state| state.meta.settled);
            self.lead_due_us = lead.next_due_us(settled);
        }
    }
}

/// Merges, runs the policies, makes the settlement.
fn decide(
    group: &Group,
    policies: &Policies,
    metrics: &Metrics,
    clock_was_off: &AtomicBool,
    events: &Events,
    gathered: &Gathered,
) -> Settle {
    let stamp = group.stamp();
    look_at_clock(stamp, clock_was_off, events);
    let (deciding, limits) = group.read(|state| {
        let report = gathered.merge(state);
        let deciding = Deciding::gather(state, report, gathered.signed.clone(), stamp.now_ms);
        (deciding, policies.limits(state.meta.settings.policy_limits()))
    });
    let (ban, reward) = deciding.policies();
    let ban = prepared(policies, Slot::Ban, ban, &limits);
    let reward = prepared(policies, Slot::Reward, reward, &limits);
    let (ban, reward) = (ban.map(|policy| Timed { policy, metrics }), reward.map(|policy| Timed { policy, metrics }));
    let ban = ban.as_ref().map(|policy| policy as &dyn Policy);
    let reward = reward.as_ref().map(|policy| policy as &dyn Policy);
    let (settle, logs) = deciding.run(ban, reward, policy::engine_name());
    for (slot, line) in &logs {
        log(*slot, line);
    }
    settle
}

/// Says once, in the log and as an event, that this machine's clock is off (PROTOCOLS 8.4).
fn look_at_clock(stamp: Stamp, was_off: &AtomicBool, events: &Events) {
    let was = was_off.swap(stamp.off_ms.is_some(), Ordering::Relaxed);
    let Some(off_ms) = stamp.off_ms.filter(|_| !was) else { return };
    tracing::warn!(off_ms, "this machine's clock is off: stamps follow the time that has passed; set the clock");
    events.clock_off(stamp.now_ms, off_ms);
}

/// What decides a slot, if it is ready here. "Acknowledged" is history: this is what counts (PROTOCOLS 11.6).
fn prepared(policies: &Policies, slot: Slot, policy: Option<Digest>, limits: &LimitSettings) -> Option<Prepared> {
    let policy = policy?;
    let prepared = policies.prepared(&policy);
    if prepared.is_none() {
        tracing::error!(slot = slot.name(), policy = %policy, "the active policy is not prepared here: the slot is neutral");
    }
    prepared.map(|prepared| prepared.with_limits(*limits))
}

/// A policy whose calls are timed.
struct Timed<'a> {
    policy: Prepared,
    metrics: &'a Metrics,
}

impl Timed<'_> {
    fn time<T>(&self, slot: Slot, call: impl FnOnce(&Prepared) -> T) -> T {
        let began = Instant::now();
        let run = call(&self.policy);
        self.metrics.policy(slot, began.elapsed().as_secs_f64());
        run
    }
}

impl Policy for Timed<'_> {
    fn description(&self) -> &Description {
        self.policy.description()
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        self.time(Slot::Reward, |policy| policy.reward(call))
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        self.time(Slot::Ban, |policy| policy.judge(call))
    }
}

/// A policy's own words.
fn log(slot: Slot, line: &LogLine) {
    let (slot, message) = (slot.name(), &line.message);
    match line.level {
        0 => tracing::trace!(target: "policy", slot, message),
        1 => tracing::debug!(target: "policy", slot, message),
        2 => tracing::info!(target: "policy", slot, message),
        3 => tracing::warn!(target: "policy", slot, message),
        _ => tracing::error!(target: "policy", slot, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_an_event_once_and_again_after_it_was_right() {
        let (events, was_off) = (Events::new(1), AtomicBool::new(false));
        for off_ms in [None, Some(-40_000), Some(-40_001), None, Some(31_000)] {
            look_at_clock(Stamp { now_ms: 9, off_ms }, &was_off, &events);
        }
        let told: Vec<_> = events.recent(9).unwrap().kept.iter().map(|e| (e.kind.name(), e.data.clone())).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        for ((kind, data), off_ms) in told.iter().zip([-40_000, 31_000]) {
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!((*kind, data["off_ms"].as_i64(), data["time_ms"].as_u64()), ("clock", Some(off_ms), Some(9)));
        }
    }
}
