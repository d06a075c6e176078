//! From a hello to a welcome: the kernel says who may attach, and who must join through the log first.

use std::net::IpAddr;
use std::time::Duration;

use kernel::command::{Command, Ip, Join};
use kernel::decide::Slot;
use kernel::id::{Digest, LogIndex, NodeId};
use kernel::members::{Hello, Refusal};
use kernel::outcome::{Reject, Reply};
use kernel::policies::Scheduled;
use kernel::round::merge::grace_rounds;
use kernel::state::State;
use wire::message::{
    Policies, PolicyName, Role, SUPERS, ScheduledKind, ScheduledPolicy, SlotPolicies, SuperAt, Welcome,
};

use super::attached::Link;
use super::supernode::{Done, Supernode};
use crate::group::GroupError;
use crate::mail::Attach;

/// Joins that may be under way at once; past it a super sheds load, and says when to come back.
const JOINS: usize = 1_024;
/// What a follower's handshake costs a core.
const HANDSHAKE_US: u64 = 400;
/// Bounds of the reconnect spread.
const SPREAD_MS: std::ops::RangeInclusive<u64> = 1_000..=60_000;

impl Supernode {
    /// A hello came on a new stream.
    pub(super) fn attach(&mut self, attach: Box<Attach>) {
        let node = attach.node;
        if attach.hello.role != Role::Follower {
            return self.refuse(*attach, Refusal::WrongRole);
        }
        let hello = self.hello_of(&attach);
        let admits = self.group.read(|state| state.admits(&hello));
        // Who is refused for what it is need not wait to hear so.
        if admits.is_ok() && self.attending.open_since_us().is_none() {
            return self.hold(attach);
        }
        match admits {
            Ok(false) => self.welcome(*attach),
            Ok(true) => {
                self.attached.wait(node, attach.stream);
                let (group, done) = (self.group.clone(), self.done.clone());
                self.tasks.spawn_connection("join", async move {
                    let reply = group.propose(Command::Join(hello.join)).await;
                    // The loop has ended with the node.
                    let _ = done.send(Done::Joined { attach, reply }).await;
                });
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Outdated { .. }) {
                    self.outdated(node, attach.hello.version);
                }
                self.refuse(*attach, refusal);
            }
        }
    }

    /// Its join was answered.
    pub(super) fn joined(&mut self, attach: Box<Attach>, reply: Result<Result<Reply, Reject>, GroupError>) {
        if !self.attached.waited(&attach.node, attach.stream) {
            // It hung up, or came again on a newer stream.
            return;
        }
        match reply {
            Ok(Ok(_)) => self.welcome(*attach),
            Ok(Err(reject)) => {
                // Something happened between the check and the log; asked again, the check says what.
                let hello = self.hello_of(&attach);
                let refusal = self.group.read(|state| state.admits(&hello)).err().unwrap_or_else(|| {
                    tracing::debug!(node = %attach.node, ?reject, "a join was refused for a passing reason");
                    Refusal::Busy { retry_ms: self.spread_ms() }
                });
                self.refuse(*attach, refusal);
            }
            Err(error) => {
                tracing::debug!(node = %attach.node, %error, "a join got no answer");
                let retry_ms = self.spread_ms();
                self.refuse(*attach, Refusal::Busy { retry_ms });
            }
        }
    }

    fn welcome(&mut self, attach: Attach) {
        let Attach { stream, node, hello, ip, source_port, out, answer } = attach;
        let spread_ms = self.spread_ms();
        let (welcome, port_rule) =
            self.group.read(|state| (welcome(state, spread_ms), state.meta.settings.port_rule()));
        // Another key may have come from there while the join was under way.
        if port_rule && self.attached.is_port_taken(&node, ip, source_port) {
            self.metrics.refused(Refusal::PortTaken.code());
            let _gone = answer.send(Err(Refusal::PortTaken));
            return;
        }
        if answer.send(Ok(welcome)).is_ok() {
            let (port, version) = (source_port, hello.version);
            let link =
                Link { stream, out, ip, port, version, asked_us: 0, goodbye: false, alive_us: None, news: self.news };
            self.attached.attach(node, link, self.group.now_ms());
            self.attached_now(&node);
        }
    }

    pub(super) fn refuse(&mut self, attach: Attach, refusal: Refusal) {
        self.metrics.refused(refusal.code());
        tracing::debug!(node = %attach.node, code = refusal.code(), "a hello was refused");
        if matches!(refusal, Refusal::Busy { .. })
            && let Some(walk) = self.newest()
        {
            walk.refuse();
        }
        let _gone = attach.answer.send(Err(refusal));
    }

    fn hello_of(&self, attach: &Attach) -> Hello {
        let hello = &attach.hello;
        let join = Join {
            node: attach.node,
            name: hello.name.clone(),
            version: hello.version,
            software: hello.software.clone(),
            ip: match attach.ip.to_canonical() {
                IpAddr::V4(ip) => Ip::V4(ip.octets()),
                IpAddr::V6(ip) => Ip::V6(ip.octets()),
            },
            port: hello.port,
            rest: hello.rest.clone(),
            now_ms: self.group.now_ms(),
        };
        Hello {
            join,
            cluster: hello.cluster.clone(),
            source_port: attach.source_port,
            port_taken: self.attached.is_port_taken(&attach.node, attach.ip, attach.source_port),
            busy_ms: (self.attached.waiting() >= JOINS).then(|| self.spread_ms()),
        }
    }

    /// Over how long this super's followers are to come back after a loss, so that their handshakes do not starve the
    /// pings of those that are back.
    pub(super) fn spread_ms(&self) -> u64 {
        let followers = self.attached.count().max(self.group.read(|state| state.queue.len())) as u64;
        let spread = Duration::from_micros(followers.saturating_mul(HANDSHAKE_US) / self.cores);
        u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).clamp(*SPREAD_MS.start(), *SPREAD_MS.end())
    }
}

/// What a welcome is said again for: whoever is attached hears of it when it becomes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewsOf {
    leader: Option<NodeId>,
    settings_version: u64,
    supers_changed: LogIndex,
    set_version: u64,
    policies: [(Option<Digest>, Option<Scheduled>); Slot::ALL.len()],
}

impl NewsOf {
    /// As of a state.
    pub(super) fn of(state: &State) -> Self {
        let policies = Slot::ALL.map(|slot| {
            let row = &state.slot(slot).row;
            (row.active, row.scheduled)
        });
        let meta = &state.meta;
        let (settings_version, supers_changed) = (meta.settings_version, meta.supers_changed);
        let set_version = state.validators.version;
        Self { leader: meta.leader, settings_version, supers_changed, set_version, policies }
    }

    /// Whether other rules are in force or to come.
    pub(super) fn has_other_policies(&self, than: &Self) -> bool {
        self.policies != than.policies
    }
}

/// What a super says to whom it welcomes, and again when something of it is new.
pub(super) fn welcome(state: &State, spread_ms: u64) -> Welcome {
    let settings = &state.meta.settings;
    let grace_ms = grace_rounds(settings, spread_ms).saturating_mul(settings.interval_ms);
    Welcome {
        cluster: state.meta.cluster.clone(),
        leader: state.meta.leader,
        interval_ms: settings.interval_ms,
        timeout_ms: settings.timeout_ms(),
        settings_version: state.meta.settings_version,
        reconnect_spread_ms: spread_ms,
        backoff_cap_ms: grace_ms / 2,
        supers: supers(state),
        observers: u32::try_from(settings.observers).unwrap_or(u32::MAX),
        set_version: state.validators.version,
        policies: Some(policies(state)),
    }
}

/// The rules in force and those that are to come.
fn policies(state: &State) -> Policies {
    let name = |digest: Digest| {
        let row = state.policies.get(&digest).map(|row| &row.description);
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        PolicyName { digest, name: text(row.map(|row| &row.name)), version: text(row.map(|row| &row.version)) }
    };
    let slots = Slot::ALL.into_iter().map(|slot| {
        let row = &state.slot(slot).row;
        let scheduled = row.scheduled.map(|scheduled| ScheduledPolicy {
            policy: scheduled.policy.map(name),
            round: scheduled.round,
            kind: Some(kind(&scheduled)),
        });
        SlotPolicies { slot, active: row.active.map(name), scheduled }
    });
    Policies { as_of: state.meta.applied, settled: state.meta.settled, slots: slots.collect() }
}

const fn kind(scheduled: &Scheduled) -> ScheduledKind {
    match (scheduled.returned, scheduled.emergency) {
        (true, _) => ScheduledKind::Returned,
        (false, true) => ScheduledKind::Emergency,
        (false, false) => ScheduledKind::Scheduled,
    }
}

/// Where the supers are, for whoever is to find another one.
fn supers(state: &State) -> Vec<SuperAt> {
    let seats = state.meta.seats.iter().take(SUPERS);
    seats.map(|row| SuperAt { key: row.holder.node, address: row.holder.address.clone() }).collect()
}
