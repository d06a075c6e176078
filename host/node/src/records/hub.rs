//! A super's end of the validators' streams (PROTOCOLS 10.6, 10.7, 10.13): the one that leads hands out the oldest unsealed
//! batches, says whose turn it is to gather signatures, and tells what was sealed.
//!
//! Batches are replicated, conversations are not: whoever leads next begins again, and a validator that hears of a batch
//! twice judges it once. What a validator says goes into the log or is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::command::Command;
use kernel::decide::Slot;
use kernel::id::{ClusterId, Digest, LogIndex, NodeId};
use kernel::outcome::{Notice, Reject};
use kernel::records::order::Batch;
use kernel::records::turn::{Step, Turns};
use kernel::records::validators::{Able, Came, Evidence};
use kernel::state::State;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use wire::records::{FromValidator, Set, ToValidator, ValidatorHello};

use crate::events::Events;
use crate::group::Group;
use crate::metrics::Metrics;

/// Messages on their way to one validator: all batches of the window, their turns, and seals of a slow moment. Who does not
/// take them loses its stream, and hears all again when it is back.
const OUT_ROOM: usize = 1_024;
/// Seals that are told to one that comes back; what is older it has from the other validators.
const TOLD_SEALS: usize = 512;
/// Looks at turns so often in the length of one.
const LOOKS_A_TURN: u32 = 8;
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// See the module. Clones are the same.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    group: Group,
    node: NodeId,
    attached: Mutex<BTreeMap<NodeId, Attached>>,
    changed: Notify,
    stuck: watch::Sender<Vec<u64>>,
}

/// A validator's stream.
struct Attached {
    number: u64,
    out: mpsc::Sender<ToValidator>,
    held_to: LogIndex,
    told: Told,
}

/// What a validator was told by this super while it leads.
#[derive(Default)]
struct Told {
    leading: bool,
    set: Option<(Digest, u64, BTreeSet<Digest>)>,
    policies: BTreeSet<Digest>,
    batches: BTreeSet<(u64, u32)>,
    sealed: LogIndex,
}

/// A stream that was welcomed: what goes out, and its number.
pub struct Stream {
    /// What the validator is to be told.
    pub out: mpsc::Receiver<ToValidator>,
    number: u64,
    node: NodeId,
    hub: Hub,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut attached = self.hub.attached();
        if attached.get(&self.node).is_some_and(|one| one.number == self.number) {
            attached.remove(&self.node);
        }
        drop(attached);
        self.hub.inner.changed.notify_one();
    }
}

impl Hub {
    /// Nobody is attached.
    #[must_use]
    pub fn new(group: Group, node: NodeId) -> Self {
        let inner = Inner {
            group,
            node,
            attached: Mutex::default(),
            changed: Notify::new(),
            stuck: watch::Sender::new(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    fn attached(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Attached>> {
        self.inner.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Batches that no quorum signs; only the super that leads knows.
    #[must_use]
    pub fn stuck(&self) -> Vec<u64> {
        self.inner.stuck.borrow().clone()
    }

    /// The validators that have a stream here.
    #[must_use]
    pub fn streams(&self) -> BTreeSet<NodeId> {
        self.attached().keys().copied().collect()
    }

    /// Welcomes a validator, or says why not.
    ///
    /// # Errors
    /// A word and a text.
    pub async fn attach(
        &self,
        node: NodeId,
        hello: &ValidatorHello,
    ) -> Result<(ToValidator, Stream), (String, String)> {
        let refused = |code: &str, detail: String| Err((code.to_owned(), detail));
        let group = &self.inner.group;
        let (cluster, validator, last_batch) = group.read(|state| {
            let validator = state.validators.get(&node).cloned();
            (state.meta.cluster.clone(), validator, state.meta.records.batch)
        });
        if !same_cluster(&hello.cluster, &cluster) {
            return refused("wrong_cluster", format!("this super belongs to {cluster}"));
        }
        let Some(validator) = validator else {
            let detail =
                format!("{node} is not in the set; add it on a super: pingward validators add {node}@HOST:PORT");
            return refused("not_a_validator", detail);
        };
        if !validator.came {
            // In the log before it signs anything: should its table be lost later, that is known.
            let came = group.propose(Command::Came(Came { validator: node })).await;
            if !matches!(came, Ok(Ok(_))) {
                return refused(
                    "no_leader",
                    "the group did not take that the validator came; it is to try again".into(),
                );
            }
        }
        let (out, receiver) = mpsc::channel(OUT_ROOM);
        static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let one = Attached { number, out, held_to: hello.held_to, told: Told::default() };
        self.attached().insert(node, one);
        self.inner.changed.notify_one();
        let welcome = ToValidator::Welcome { cluster: cluster.to_string(), came: validator.came, last_batch };
        Ok((welcome, Stream { out: receiver, number, node, hub: self.clone() }))
    }

    /// Takes what a validator says.
    pub async fn hear(&self, node: NodeId, what: FromValidator) {
        let group = &self.inner.group;
        match what {
            FromValidator::Hello(_) => {}
            FromValidator::HeldTo(at) => {
                if let Some(one) = self.attached().get_mut(&node) {
                    one.held_to = one.held_to.max(at);
                }
            }
            FromValidator::Alive => {
                let out = self.attached().get(&node).map(|one| one.out.clone());
                if let Some(out) = out {
                    let _full_is_fine = out.try_send(ToValidator::Alive);
                }
            }
            FromValidator::Able { policy, why_not } => {
                let able = Able { validator: node, policy, why_not };
                if let Ok(Err(reject)) = group.propose(Command::Able(able)).await {
                    tracing::debug!(%node, ?reject, "a validator's word on a policy was not taken");
                }
            }
            FromValidator::Evidence(evidence) => self.accuse(node, *evidence).await,
            FromValidator::Seal(seal) => {
                let batch = seal.batch;
                let known = group.read(|state| state.batches.get(&batch).is_none_or(|batch| batch.sealed.is_some()));
                if known {
                    return;
                }
                match group.propose(Command::Seal(seal)).await {
                    Ok(Ok(_)) => {}
                    // Another set or attempt by now: the next one gathers anew.
                    Ok(Err(Reject::StaleSet { .. } | Reject::StaleAttempt { .. } | Reject::UnknownBatch)) => {}
                    Ok(Err(reject)) => tracing::warn!(%node, batch, ?reject, "a certificate was refused"),
                    Err(error) => tracing::debug!(%node, batch, %error, "a certificate did not get into the log"),
                }
            }
        }
    }

    /// One validator has proof that another one signed two roots: with it that one leaves the set.
    async fn accuse(&self, by: NodeId, evidence: Evidence) {
        let group = &self.inner.group;
        if let Err(why) = evidence.check() {
            tracing::warn!(%by, why, "evidence that proves nothing");
            return;
        }
        let validator = evidence.validator;
        if group.read(|state| state.validators.get(&validator).is_none()) {
            return;
        }
        let evidence = Evidence { now_ms: group.now_ms(), ..evidence };
        match group.propose(Command::Evidence(Box::new(evidence))).await {
            Ok(Ok(_)) => tracing::warn!(%validator, %by, "a validator signed two roots for one batch: it was removed"),
            Ok(Err(reject)) => tracing::debug!(%validator, %by, ?reject, "evidence was not taken"),
            // Whoever leads next is told again.
            Err(error) => tracing::debug!(%validator, %by, %error, "evidence did not get into the log"),
        }
    }

    /// Hands out and says turns until `stop`.
    ///
    /// # Errors
    /// The group has ended.
    pub async fn run(self, events: Events, metrics: Arc<Metrics>, stop: CancellationToken) -> anyhow::Result<()> {
        let (group, node) = (self.inner.group.clone(), self.inner.node);
        let (mut notices, mut leadership) = (group.notices(), group.leadership());
        let (started, mut turns) = (Instant::now(), Turns::default());
        loop {
            let leads = {
                let now = leadership.borrow_and_update();
                now.leader == Some(node) && now.ready
            };
            if !leads {
                turns = Turns::default();
                self.inner.stuck.send_if_modified(|stuck| !std::mem::take(stuck).is_empty());
            }
            let look = self.look(leads, &mut turns, started, &events, &metrics);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = leadership.changed() => changed?,
                () = self.inner.changed.notified() => {}
                told = until_news(&mut notices) => told?,
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// Does what is to be done now; gives when to look again at the latest.
    fn look(&self, leads: bool, turns: &mut Turns, started: Instant, events: &Events, metrics: &Metrics) -> Duration {
        let now_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut attached = self.attached();
        let keys: BTreeSet<NodeId> = attached.keys().copied().collect();
        let (steps, turn_ms) = self.inner.group.read(|state| {
            let mut gone = Vec::new();
            for (node, one) in attached.iter_mut() {
                if state.validators.get(node).is_none() || !one.tell(state, leads) {
                    gone.push(*node);
                }
            }
            for node in gone {
                attached.remove(&node);
            }
            let steps = if leads { turns.tick(now_us, state, &keys) } else { Vec::new() };
            metrics.records_pending.set(i64::try_from(state.known.pending.len()).unwrap_or(i64::MAX));
            (steps, state.meta.settings.turn_ms)
        });
        for step in steps {
            match step {
                Step::Lead { batch, validator } => {
                    let attempt = self.inner.group.read(|state| state.batches.get(&batch).map_or(0, |b| b.attempt));
                    if let Some(one) = attached.get(&validator) {
                        let _full_is_silent = one.out.try_send(ToValidator::Lead { batch, attempt });
                    }
                }
                Step::Stuck { batch, turns } => {
                    let detail = format!(
                        "no quorum signs batch {batch}: every validator had {turns} turns; see `pingward validators list`, \
                         and once they run again, `pingward records retry {batch}` if it does not go on by itself"
                    );
                    tracing::error!(batch, turns, "{detail}");
                    events.records_stuck(self.inner.group.now_ms(), batch, &detail);
                }
            }
        }
        drop(attached);
        let stuck: Vec<u64> = turns.stuck().collect();
        self.inner.stuck.send_if_modified(|known| {
            let news = *known != stuck;
            *known = stuck;
            news
        });
        (Duration::from_millis(turn_ms) / LOOKS_A_TURN).clamp(SHORTEST_LOOK, LONGEST_LOOK)
    }
}

impl Attached {
    /// Tells what is new; `false`: it does not take it.
    fn tell(&mut self, state: &State, leads: bool) -> bool {
        if self.told.leading != leads {
            // What another leader said meanwhile is not known here.
            self.told = Told { leading: leads, sealed: self.held_to, ..Told::default() };
            if !self.say(ToValidator::Leading(leads)) {
                return false;
            }
        }
        !leads
            || self.tell_set(state) && self.tell_policies(state) && self.tell_batches(state) && self.tell_seals(state)
    }

    fn say(&self, what: ToValidator) -> bool {
        self.out.try_send(what).is_ok()
    }

    fn tell_set(&mut self, state: &State) -> bool {
        let settings = &state.meta.settings;
        let policies = signing_policies(state);
        let set = Some((state.validators_tag(), state.meta.settings_version, policies.clone()));
        if self.told.set == set {
            return true;
        }
        self.told.set = set;
        self.say(ToValidator::Set(Box::new(Set {
            validators: state.validators.clone(),
            quorum: u32::try_from(state.quorum()).unwrap_or(u32::MAX),
            turn_ms: settings.turn_ms,
            limits: settings.policy_limits(),
            policies,
        })))
    }

    fn tell_policies(&mut self, state: &State) -> bool {
        let here = signing_policies(state);
        self.told.policies.retain(|told| here.contains(told));
        for digest in here {
            if self.told.policies.contains(&digest) {
                continue;
            }
            let Some(row) = state.policies.get(&digest) else { continue };
            let Some(component) = state.components.get(&row.component) else { continue };
            let policy = ToValidator::Policy { digest, component: component.to_vec(), config: row.config.clone() };
            if !self.say(policy) {
                return false;
            }
            self.told.policies.insert(digest);
        }
        true
    }

    fn tell_batches(&mut self, state: &State) -> bool {
        let window = usize::try_from(state.meta.settings.handed_out).unwrap_or(1);
        let open: Vec<u64> = state.known.pending.iter().copied().take(window).collect();
        self.told.batches.retain(|(batch, _)| state.known.pending.contains(batch));
        for number in open {
            let (Some(batch), Some(contents)) = (state.batches.get(&number), state.contents.get(&number)) else {
                continue;
            };
            if self.told.batches.contains(&(number, batch.attempt)) {
                continue;
            }
            let told = ToValidator::Batch(Box::new(Batch::clone(batch)), Box::new((**contents).clone()));
            if !self.say(told) {
                return false;
            }
            self.told.batches.insert((number, batch.attempt));
        }
        true
    }

    fn tell_seals(&mut self, state: &State) -> bool {
        let from = self.told.sealed;
        if state.meta.records.sealed_at <= from {
            return true;
        }
        let news: Vec<(LogIndex, u64)> =
            state.known.seals.range(LogIndex(from.0 + 1)..).map(|(at, n)| (*at, *n)).collect();
        // Of an older seal the records are not known here any more: the validator has them from the others.
        for (at, number) in news.iter().skip(news.len().saturating_sub(TOLD_SEALS)) {
            let Some(batch) = state.batches.get(number).filter(|batch| !batch.records.is_empty()) else { continue };
            if !self.say(ToValidator::Sealed(Box::new(Batch::clone(batch)))) {
                return false;
            }
            self.told.sealed = *at;
        }
        self.told.sealed = state.meta.records.sealed_at;
        true
    }
}

fn signing_policies(state: &State) -> BTreeSet<Digest> {
    state.policies.iter().filter(|(_, row)| row.slot == Slot::Signing).map(|(digest, _)| *digest).collect()
}

/// Whether a name means this cluster: the whole of it, or its id where that is all that is known.
pub(crate) fn same_cluster(named: &str, ours: &ClusterId) -> bool {
    named == ours.id || named == ours.to_string()
}

/// Whether a name, with or without a genesis, is of the cluster of this id.
pub(crate) fn same_name(named: &str, id: &str) -> bool {
    named.split('#').next() == Some(id)
}

/// Waits for news of records.
async fn until_news(notices: &mut tokio::sync::broadcast::Receiver<Arc<Notice>>) -> anyhow::Result<()> {
    loop {
        match notices.recv().await {
            Ok(notice) => match *notice {
                Notice::Ordered(_) | Notice::Sealed(_) | Notice::Validators { .. } => return Ok(()),
                Notice::Policy { slot: Slot::Signing, .. } => return Ok(()),
                Notice::Policy { .. }
                | Notice::Round(_)
                | Notice::Moved(_)
                | Notice::Claimed { .. }
                | Notice::AskOperator { .. }
                | Notice::Leader { .. }
                | Notice::Closed(_)
                | Notice::Changed(_) => {}
            },
            Err(RecvError::Lagged(_)) => return Ok(()),
            Err(RecvError::Closed) => anyhow::bail!("the group has ended"),
        }
    }
}
