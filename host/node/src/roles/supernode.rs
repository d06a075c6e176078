//! A super's one loop: it hears what its followers say, walks the round, and tells them how they stand.
//!
//! Everything that pings are judged by happens here, in one task: it takes what waits in the mailbox before it looks at
//! deadlines, it measures how late it is itself, and it never waits for a policy or a peer. What takes time runs beside it
//! and comes back as a message. It does read the state, and that waits while a batch is written to the disk: a slow disk is
//! lag, which voids pings and strikes nobody.
//!
//! Invariant: nothing here decides. Whom to ping when and what an answer is worth is [`kernel::round::walk`]'s; who may
//! attach is the kernel's members; what this super does while it leads is in [`leader`](super::leader).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kernel::command::{Command, Leave, Outdated};
use kernel::id::{NodeId, ProtocolVersion, RoundId, Term};
use kernel::members::Refusal;
use kernel::outcome::{Notice, Reject, Reply};
use kernel::round::OpenRound;
use kernel::round::lead::Lead;
use kernel::round::opening::{Attending, Queues};
use kernel::round::walk::{Carry, Heard, PingOut, PongIn, Timing};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use wire::message::{FromFollower, Ping, ToFollower};

use super::attached::Attached;
use super::attend::{Held, Pending};
use super::peers::Peers;
use super::walks::Watched;
use super::welcome::NewsOf;
use crate::events::Events;
use crate::group::{Applied, Group, GroupError, Leadership};
use crate::keys::NodeKey;
use crate::listen::Gate;
use crate::mail::{Attach, Mail, StreamId, SuperMail};
use crate::metrics::{Metrics, Pong};
use crate::prepare::Policies;
use crate::streams::Streams;
use crate::tasks::Tasks;

#[cfg(test)]
mod tests;

/// Messages taken before deadlines are looked at again: a flood must not keep the loop from its other work.
const TAKEN: usize = 16_384;
/// Results of what runs beside the loop that may wait for it.
const DONE: usize = 1_024;
/// How long a draining super waits for the settlement that is under way.
const LAST_SETTLEMENT: Duration = Duration::from_secs(3);

/// What a super's loop is made of.
pub struct Parts {
    /// Its key.
    pub key: Arc<NodeKey>,
    /// The cluster.
    pub group: Group,
    /// The other supers.
    pub peers: Peers,
    /// What is prepared here.
    pub policies: Policies,
    /// Who is connected, for others to see.
    pub streams: Streams,
    /// The order of the last settled round, for others to see.
    pub order: watch::Sender<Order>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// What it tells the public besides what the log says.
    pub events: Events,
    /// Its door: how many it turned away for load.
    pub gate: Arc<Gate>,
    /// What comes in on streams.
    pub mailbox: mpsc::Receiver<Mail>,
    /// What other supers say.
    pub supers: mpsc::Receiver<SuperMail>,
    /// Everything that runs for this node.
    pub tasks: Tasks,
}

/// In which order the leader asked in a round; public once the round is settled.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Order {
    /// The round.
    pub round: RoundId,
    /// Its members in the order of their first moments.
    pub nodes: Arc<[NodeId]>,
}

/// A super's loop.
pub struct Supernode {
    pub(super) node: NodeId,
    pub(super) key: Arc<NodeKey>,
    pub(super) group: Group,
    pub(super) peers: Peers,
    pub(super) policies: Policies,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: Events,
    pub(super) tasks: Tasks,
    pub(super) attached: Attached,
    pub(super) order: watch::Sender<Order>,
    pub(super) gate: Arc<Gate>,
    /// Handshakes that the door had refused for load when the last partial report left.
    pub(super) turned_away: u64,
    mailbox: mpsc::Receiver<Mail>,
    supers: mpsc::Receiver<SuperMail>,
    pub(super) done: mpsc::Sender<Done>,
    results: mpsc::Receiver<Done>,
    pub(super) cores: u64,
    /// The clock was off at the last settlement: the log says so once.
    pub(super) clock_was_off: Arc<AtomicBool>,
    /// Zero of the loop's clock.
    started: Instant,
    /// When the loop was to be awake at the latest; what it is late by.
    awake_us: u64,
    pub(super) late_us: u64,
    /// As the settings say that are in force.
    pub(super) timing: Timing,
    pub(super) settings_version: u64,
    pub(super) accepted: String,
    /// Counts what is new of what a welcome says, and as of what.
    pub(super) news: u64,
    pub(super) news_of: NewsOf,
    pub(super) attending: Attending,
    /// When to look again whether this super is open.
    pub(super) attend_due_us: u64,
    pub(super) open_since_ms: u64,
    pub(super) queues: Queues,
    /// The last walk that began.
    pub(super) opened: (Term, RoundId),
    pub(super) pending: Option<Pending>,
    pub(super) held: VecDeque<Held>,
    pub(super) walks: VecDeque<Watched>,
    /// Of the last walk that is gone.
    pub(super) carry: Carry,
    /// Of the rounds that are not settled.
    pub(super) orders: VecDeque<Order>,
    pub(super) lead: Option<Lead>,
    /// Since when it leads and a rule that decides is not prepared here.
    pub(super) unprepared_us: Option<u64>,
    /// When the leader has something to do by itself.
    pub(super) lead_due_us: Option<u64>,
    pub(super) settling: Option<Settling>,
    /// Followers that are still to be told of the last settlement.
    pub(super) to_tell: VecDeque<NodeId>,
    /// Followers that are to hear of other rules before the next settlement.
    pub(super) to_announce: VecDeque<NodeId>,
}

/// A settlement that is under way.
pub(super) struct Settling {
    pub(super) round: RoundId,
    pub(super) since: Instant,
}

/// Something that ran beside the loop has ended.
pub(super) enum Done {
    /// A join was answered.
    Joined { attach: Box<Attach>, reply: Result<Result<Reply, Reject>, GroupError> },
    /// A round was settled, or not.
    Settled { round: RoundId, reply: Result<Result<Reply, Reject>, GroupError> },
}

impl Supernode {
    /// Nobody is attached, no round is open.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (done, results) = mpsc::channel(DONE);
        let mut queues = Queues::default();
        let (timing, settings_version, accepted, news_of) = parts.group.read(|state| {
            queues.keep(state);
            let settings = &state.meta.settings;
            let accepted = settings.accept_versions.to_string();
            (Timing::of(settings), state.meta.settings_version, accepted, NewsOf::of(state))
        });
        Self {
            node: parts.key.id(),
            open_since_ms: 0,
            awake_us: 0,
            late_us: 0,
            timing,
            settings_version,
            accepted,
            news: 0,
            news_of,
            attending: Attending::default(),
            attend_due_us: 0,
            queues,
            opened: (Term(0), RoundId(0)),
            pending: None,
            held: VecDeque::new(),
            carry: Carry::default(),
            key: parts.key,
            group: parts.group,
            peers: parts.peers,
            policies: parts.policies,
            metrics: parts.metrics,
            events: parts.events,
            tasks: parts.tasks,
            attached: Attached::new(parts.streams),
            order: parts.order,
            turned_away: parts.gate.overloaded(),
            gate: parts.gate,
            mailbox: parts.mailbox,
            supers: parts.supers,
            done,
            results,
            clock_was_off: Arc::default(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
            started: Instant::now(),
            walks: VecDeque::new(),
            orders: VecDeque::new(),
            lead: None,
            unprepared_us: None,
            lead_due_us: None,
            settling: None,
            to_tell: VecDeque::new(),
            to_announce: VecDeque::new(),
        }
    }

    /// Runs until the node drains.
    ///
    /// # Errors
    /// When what it rests on has ended.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let draining = self.tasks.draining();
        let mut notices = self.group.notices();
        let mut applied = self.group.applied();
        let mut leadership = self.group.leadership();
        let mut settled = applied.borrow_and_update().settled;
        self.leads(*leadership.borrow_and_update());
        loop {
            self.work();
            self.awake_us = self.due_us();
            let due = tokio::time::Instant::from_std(self.started + Duration::from_micros(self.awake_us));
            tokio::select! {
                biased;
                () = draining.cancelled() => break,
                Some(done) = self.results.recv() => self.done(done),
                changed = leadership.changed() => {
                    changed?;
                    let now = *leadership.borrow_and_update();
                    self.leads(now);
                }
                changed = applied.changed() => {
                    changed?;
                    let Applied { settled: now, .. } = *applied.borrow_and_update();
                    self.applied_now();
                    if now != settled {
                        settled = now;
                        self.settled(now);
                    }
                }
                notice = notices.recv() => match notice {
                    Ok(notice) => self.notice(&notice),
                    Err(RecvError::Lagged(_)) => self.close_outdated(),
                    Err(RecvError::Closed) => anyhow::bail!("the group has ended"),
                },
                mail = self.supers.recv() => match mail {
                    Some(mail) => self.super_mail(mail),
                    None => anyhow::bail!("the gRPC server has ended"),
                },
                () = std::future::ready(()), if !self.to_tell.is_empty() => self.tell_some(),
                () = std::future::ready(()), if !self.to_announce.is_empty() => self.announce_some(),
                // Last, because each turn takes what waits there anyway: a flood must not starve what is above.
                mail = self.mailbox.recv() => match mail {
                    Some(mail) => self.mail(mail),
                    None => anyhow::bail!("the gRPC server has ended"),
                },
                () = tokio::time::sleep_until(due) => {}
            }
        }
        self.finish().await;
        Ok(())
    }

    /// The settlement that is under way still counts; no other begins.
    async fn finish(mut self) {
        let deadline = tokio::time::sleep(LAST_SETTLEMENT);
        tokio::pin!(deadline);
        while self.settling.is_some() {
            tokio::select! {
                done = self.results.recv() => match done {
                    Some(done) => self.done(done),
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
    }

    /// µs of the loop's clock.
    pub(super) fn now_us(&self) -> u64 {
        self.us(Instant::now())
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }

    /// When there is something to do although nothing comes in.
    fn due_us(&self) -> u64 {
        let walks = self.walks.iter().filter_map(|watched| watched.walk.next_due_us());
        walks.chain(self.lead_due_us).fold(self.attend_due_us, u64::min)
    }

    /// Reads the clock, takes everything that waits, and then looks at deadlines: an answer that is there is not late.
    fn work(&mut self) {
        let now_us = self.now_us();
        self.notes_lag(now_us.saturating_sub(self.awake_us));
        while let Ok(mail) = self.supers.try_recv() {
            self.super_mail(mail);
        }
        for _ in 0..TAKEN {
            match self.mailbox.try_recv() {
                Ok(mail) => self.mail(mail),
                Err(_) => break,
            }
        }
        let mut pings = Vec::new();
        for at in 0..self.walks.len() {
            let Some(watched) = self.walks.get_mut(at) else { break };
            watched.walk.tick(now_us, &mut pings);
            let OpenRound { round, term, .. } = watched.walk.open();
            for PingOut { node, nonce } in pings.drain(..) {
                self.metrics.pings.inc();
                // A follower that does not read loses its stream, and its turn is missed.
                let _sent = self.attached.ask(&node, Ping { round, term, nonce }, now_us);
            }
            if watched.walk.is_over() && !watched.said {
                self.report(at);
            }
        }
        if self.lead_due_us.is_some_and(|due_us| due_us <= now_us) {
            self.lead();
        }
        if self.attend_due_us <= now_us {
            self.attend();
        }
    }

    fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Attach(attach) => self.attach(attach),
            Mail::Detached { stream, node } => {
                self.let_go(stream);
                if self.attached.ended(&node, stream) {
                    self.detached(&node);
                }
            }
            Mail::Message { stream, node, at, what } => {
                if self.attached.is_current(&node, stream) {
                    self.message(node, stream, at, what);
                }
            }
        }
    }

    fn message(&mut self, node: NodeId, stream: StreamId, at: Instant, what: FromFollower) {
        let at_us = self.us(at);
        let heard = match &what {
            FromFollower::Pong(pong) => {
                let of = PongIn {
                    round: pong.round,
                    term: pong.term,
                    nonce: pong.nonce,
                    data: pong.data,
                    address: &pong.address,
                };
                let heard = self.walk_of((pong.round, pong.term)).map(|walk| walk.pong(&node, &of, at_us));
                if heard == Some(Heard::Kept) {
                    self.attached.pong(&node, self.group.now_ms(), at_us);
                }
                self.speaks(node, pong.version);
                heard
            }
            FromFollower::Ping(ping) => {
                let of = (ping.round, ping.term);
                let heard = self.walk_of(of).map(|walk| walk.ping(&node, of, ping.nonce, at_us));
                if heard == Some(Heard::Kept) {
                    let _sent = self.attached.send(&node, ToFollower::Pong { nonce: ping.nonce });
                }
                heard
            }
            FromFollower::Return => self.newest().map(|walk| walk.asks_to_return(&node)),
            FromFollower::Alive => {
                if self.attached.alive(&node, at_us, self.timing.interval_us / 8) {
                    let _sent = self.attached.send(&node, ToFollower::Alive);
                    None
                } else {
                    self.newest().map(|walk| walk.unasked(&node))
                }
            }
            FromFollower::Goodbye => {
                if self.attached.goodbye(&node) && self.group.read(|state| state.can_leave(&node)) {
                    self.tell_log("goodbye", node, Command::Leave(Leave { node, now_ms: self.group.now_ms() }));
                    None
                } else {
                    self.newest().map(|walk| walk.unasked(&node))
                }
            }
            // A second hello says nothing that its stream is not bound to already.
            FromFollower::Malformed(_) | FromFollower::Hello(_) => self.newest().map(|walk| walk.malformed(&node)),
        };
        if let Some(outcome) = heard.and_then(counted) {
            self.metrics.pong(outcome);
        }
        if heard == Some(Heard::Flood) && self.attached.is_current(&node, stream) {
            tracing::info!(node = %node, "a stream was closed: too many messages that nobody asked for");
            self.close(&node, None);
        }
    }

    /// Whatever runs beside the loop tells the log, and nobody waits for the answer.
    pub(super) fn tell_log(&self, what: &'static str, node: NodeId, command: Command) {
        let group = self.group.clone();
        self.tasks.spawn_connection(what, async move {
            if let Ok(Err(reject)) = group.propose(command).await {
                tracing::debug!(what, node = %node, ?reject, "refused");
            }
        });
    }

    /// A member speaks a version: one that is not accepted costs it its stream and its place, and nothing else.
    fn speaks(&mut self, node: NodeId, version: ProtocolVersion) {
        if self.attached.version(&node) == Some(version) {
            return;
        }
        let accept = self.group.read(|state| {
            let accept = &state.meta.settings.accept_versions;
            (!accept.accepts(version)).then(|| accept.to_string())
        });
        if let Some(accept) = accept {
            self.outdated(node, version);
            self.close(&node, Some(Refusal::Outdated { accept }));
        }
    }

    pub(super) fn outdated(&self, node: NodeId, version: ProtocolVersion) {
        if !self.group.read(|state| state.is_outdated_by(&node, version)) {
            return;
        }
        let now_ms = self.group.now_ms();
        self.tell_log("outdated", node, Command::Outdated(Outdated { node, version, now_ms }));
    }

    /// Ends a node's stream, with a word or without one.
    pub(super) fn close(&mut self, node: &NodeId, refusal: Option<Refusal>) {
        if let Some(link) = self.attached.detach(node) {
            if let Some(refusal) = refusal {
                link.out.refuse(refusal);
            }
            self.detached(node);
        }
    }

    fn detached(&mut self, node: &NodeId) {
        self.count_streams();
        for watched in &mut self.walks {
            watched.walk.detach(node);
        }
    }

    pub(super) fn attached_now(&mut self, node: &NodeId) {
        self.count_streams();
        for watched in &mut self.walks {
            watched.walk.attach(node);
        }
    }

    fn count_streams(&self) {
        self.metrics.streams.set(i64::try_from(self.attached.count()).unwrap_or(i64::MAX));
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Closed(nodes) => self.close_gone(nodes),
            Notice::Round(_)
            | Notice::Moved(_)
            | Notice::Claimed { .. }
            | Notice::Policy { .. }
            | Notice::AskOperator { .. }
            | Notice::Leader { .. }
            | Notice::Ordered(_)
            | Notice::Sealed(_)
            | Notice::Validators { .. }
            | Notice::Changed(_) => {}
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Joined { attach, reply } => self.joined(attach, reply),
            Done::Settled { round, reply } => self.settle_answered(round, reply),
        }
    }

    fn leads(&mut self, leadership: Leadership) {
        let ours = leadership.leader == Some(self.node) && leadership.ready;
        self.metrics.leading.set(i64::from(ours));
        match &self.lead {
            Some(lead) if ours && lead.term() == leadership.term => {}
            _ if ours => {
                let now_us = self.now_us();
                self.lead = Some(Lead::new(leadership.term, now_us));
                self.lead_due_us = Some(now_us);
            }
            _ => {
                self.lead = None;
                self.unprepared_us = None;
                self.lead_due_us = None;
            }
        }
    }
}

fn counted(heard: Heard) -> Option<Pong> {
    match heard {
        Heard::Kept => Some(Pong::Kept),
        Heard::Late => Some(Pong::Late),
        Heard::StaleNonce => Some(Pong::StaleNonce),
        Heard::OutOfTurn | Heard::Flood => Some(Pong::OutOfTurn),
        Heard::Malformed => Some(Pong::Malformed),
        Heard::Noted | Heard::Dropped => None,
    }
}
