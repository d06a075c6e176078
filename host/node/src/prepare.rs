//! How policies come into force: admitted, put through the log in pieces, prepared here, activated at a round
//! (PROTOCOLS 11).
//!
//! There is one way in, whoever asks: the config file at a start or SIGHUP, the demo's `swap`, the builtins at founding.
//! What fails admission changes nothing: the policy that decides goes on, and the caller gets the findings.
//!
//! Compiled policies are kept by digest for as long as `State` knows them. "Acknowledged" in the log is history; only
//! what is in this cache is prepared now. What could not be prepared is tried again after a growing wait, because a slot
//! whose policy is not prepared is neutral.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kernel::command::{Chunk, Command, Operate, Operation, Operator, Ready, Stage, Unready};
use kernel::decide::{LimitSettings, Slot};
use kernel::id::{Digest, NodeId, RoundId, Seat};
use kernel::limits::{CHUNK_BYTES, COMPONENT_BYTES};
use kernel::outcome::{Notice, Reject, Reply};
use policy::{Admitted, Engine, Findings, Prepared, admit, prepare};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::builtin;
use crate::config::{Component, PolicySource};
use crate::group::{Group, GroupError};
use crate::rest::problem::Problem;

mod file;
#[cfg(test)]
mod tests;

/// Before a policy that could not be prepared is tried again. Doubles with each try.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// It does not double beyond this.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The policies of a super: what is ready to run here, and how to bring in another one.
#[derive(Clone)]
pub struct Policies {
    inner: Arc<Inner>,
}

struct Inner {
    group: Group,
    node: NodeId,
    engine: Engine,
    prepared: RwLock<BTreeMap<Digest, Preparation>>,
    /// One at a time: two reloads would upload and schedule across each other.
    turn: tokio::sync::Mutex<()>,
    /// What a machine is for which each rule is slow.
    #[cfg(test)]
    is_slow: std::sync::atomic::AtomicBool,
}

/// What became of preparing a policy here.
enum Preparation {
    /// It can run.
    Ready(Prepared),
    /// It could not. The cause may pass (a busy machine, want of memory), so it is tried again.
    Failed { tries: u32, again: Instant },
}

/// What became of a policy that somebody wants in a slot.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It decides already, or it is scheduled to.
    Unchanged {
        /// Which.
        policy: Digest,
    },
    /// The file names what it named before, and the cluster has decided otherwise since: the log wins.
    LogWins {
        /// What the file names.
        file: Digest,
        /// What decides; `None` = the slot is neutral.
        active: Option<Digest>,
    },
    /// It decides from a round on.
    Scheduled(Scheduled),
    /// It was not admitted: what decides now goes on.
    Refused {
        /// Where it comes from.
        component: String,
        /// Why, and how to mend it: one line each.
        findings: Vec<String>,
    },
}

/// A policy that was activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Its identity.
    pub policy: Digest,
    /// Its name and version.
    pub name: String,
    /// The first round that it decides.
    pub from: RoundId,
    /// Members whose memory starts empty; 0 = memory is kept.
    pub memory_empty: u64,
}

/// A policy that was staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its identity.
    pub policy: Digest,
    /// Members whose memory would start empty if it were activated now; 0 = memory is kept.
    pub memory_empty: u64,
}

/// What a reload did.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Of each slot that the config names.
    pub slots: Vec<(Slot, Outcome)>,
    /// Cluster settings that were changed.
    pub settings: Vec<String>,
    /// Settings that the cluster did not take, and why.
    pub settings_refused: Option<String>,
}

/// Why a policy or a setting could not be brought in, beyond what its author can mend.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The node is stopping.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The cluster refused a step.
    #[error("{step} was refused: {}", words(.reject))]
    Rejected {
        /// Which.
        step: &'static str,
        /// Why.
        reject: Reject,
    },
    /// The compiling thread ended.
    #[error("compiling ended without a result")]
    Compiler,
}

impl Policies {
    /// Nothing is prepared yet.
    #[must_use]
    pub fn new(group: Group, node: NodeId, engine: Engine) -> Self {
        let inner = Inner {
            group,
            node,
            engine,
            prepared: RwLock::default(),
            turn: tokio::sync::Mutex::new(()),
            #[cfg(test)]
            is_slow: false.into(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The limits under which policies run here: those of the cluster.
    #[must_use]
    pub fn limits(&self, cluster: LimitSettings) -> LimitSettings {
        #[cfg(test)]
        if self.inner.is_slow.load(std::sync::atomic::Ordering::Relaxed) {
            return LimitSettings { deadline_ms: 1, ..cluster };
        }
        cluster
    }

    /// Makes this super's machine a slow one: a millisecond of wall clock is all that a rule gets.
    #[cfg(test)]
    pub(crate) fn slow_down(&self) {
        self.inner.is_slow.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// A policy that can run here now.
    #[must_use]
    pub fn prepared(&self, policy: &Digest) -> Option<Prepared> {
        self.look(|all| match all.get(policy) {
            Some(Preparation::Ready(prepared)) => Some(prepared.clone()),
            Some(Preparation::Failed { .. }) | None => None,
        })
    }

    fn look<T>(&self, f: impl FnOnce(&BTreeMap<Digest, Preparation>) -> T) -> T {
        f(&self.inner.prepared.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, f: impl FnOnce(&mut BTreeMap<Digest, Preparation>) -> T) -> T {
        f(&mut self.inner.prepared.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings a policy into its slot, from last settled + 2 on.
    ///
    /// # Errors
    /// [`PolicyError`] when the cluster refuses it or the node stops. A bad component is no error but
    /// [`Outcome::Refused`].
    pub async fn swap(&self, slot: Slot, source: &PolicySource, by: Operator) -> Result<Outcome, PolicyError> {
        let _turn = self.inner.turn.lock().await;
        match self.read_source(source).await? {
            Ok(bytes) => self.bring(slot, source, bytes, by).await,
            Err(refused) => Ok(refused),
        }
    }

    async fn bring(
        &self,
        slot: Slot,
        source: &PolicySource,
        bytes: Arc<[u8]>,
        by: Operator,
    ) -> Result<Outcome, PolicyError> {
        let policy = digest_of(&bytes, &source.config);
        let row = self.inner.group.read(|state| state.slot(slot).row.clone());
        let goal = row.scheduled.map_or(row.active, |scheduled| scheduled.policy);
        if goal == Some(policy) {
            return Ok(Outcome::Unchanged { policy });
        }
        if let Err(findings) = self.stage(slot, bytes, &source.config, by).await? {
            return Ok(Outcome::Refused { component: source.component.to_string(), findings: lines(&findings) });
        }
        let name = self.inner.group.read(|state| {
            let row = state.policies.get(&policy);
            row.map(|row| format!("{} {}", row.description.name, row.description.version)).unwrap_or_default()
        });
        let operation = Operation::Activate { slot, policy, round: None };
        let reply = self.operate(by, &source.component.to_string(), operation).await?;
        let Reply::From { round: from, memory_empty } = reply else { return Err(unexpected("activating", &reply)) };
        Ok(Outcome::Scheduled(Scheduled { policy, name, from, memory_empty }))
    }

    /// Makes a component with a config a candidate of a slot: admitted here, then known to every super, each of which
    /// prepares it and says so (PROTOCOLS 11.2). `config` is canonical JSON. `Ok(Err(..))`: it was not admitted.
    ///
    /// # Errors
    /// As [`Policies::swap`].
    pub async fn bring_in(
        &self,
        slot: Slot,
        bytes: Arc<[u8]>,
        config: &str,
        by: Operator,
    ) -> Result<Result<Staged, Findings>, PolicyError> {
        let _turn = self.inner.turn.lock().await;
        self.stage(slot, bytes, config, by).await
    }

    /// Admits a component, puts it through the log and acknowledges it. `Ok(Err(..))`: it was not admitted.
    async fn stage(
        &self,
        slot: Slot,
        bytes: Arc<[u8]>,
        config: &str,
        by: Operator,
    ) -> Result<Result<Staged, Findings>, PolicyError> {
        let limits = self.inner.group.read(|state| state.meta.settings.policy_limits());
        let admitted = match self.admit(slot, Arc::clone(&bytes), config.to_string(), limits).await? {
            Ok(admitted) => admitted,
            Err(findings) => return Ok(Err(findings)),
        };
        let policy = admitted.digest;
        self.upload(admitted.component, &bytes).await?;
        let stage = Stage {
            slot,
            component: admitted.component,
            config: config.to_string(),
            description: admitted.description.clone(),
            by,
            now_ms: self.inner.group.now_ms(),
        };
        // It is here before the state knows it, else whoever watches the state would compile it a second time.
        self.change(|all| all.insert(policy, Preparation::Ready(admitted.policy)));
        let reply = match self.propose("staging", Command::Stage(stage)).await {
            Ok(reply) => reply,
            Err(error) => {
                if !self.inner.group.read(|state| state.policies.contains_key(&policy)) {
                    self.change(|all| all.remove(&policy));
                }
                return Err(error);
            }
        };
        let Reply::Staged { memory_empty, .. } = reply else { return Err(unexpected("staging", &reply)) };
        later(self.acknowledge(policy).await)?;
        Ok(Ok(Staged { policy, memory_empty }))
    }

    /// Runs the checklist of admission, and changes nothing.
    ///
    /// # Errors
    /// [`PolicyError::Compiler`].
    pub async fn admit(
        &self,
        slot: Slot,
        bytes: Arc<[u8]>,
        config: String,
        limits: LimitSettings,
    ) -> Result<Result<Admitted, Findings>, PolicyError> {
        let engine = self.inner.engine.clone();
        tokio::task::spawn_blocking(move || admit(&engine, slot, &bytes, &config, &limits))
            .await
            .map_err(|_| PolicyError::Compiler)
    }

    async fn upload(&self, component: Digest, bytes: &[u8]) -> Result<(), PolicyError> {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut offset = 0_u32;
        // One more than there are pieces, for one upload that somebody left unfinished.
        let mut tries = bytes.len().div_ceil(CHUNK_BYTES) + 1;
        while offset < size {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let piece = rest.get(..CHUNK_BYTES).unwrap_or(rest).to_vec();
            let chunk = Chunk { component, size, offset, bytes: piece };
            offset = match self.propose("uploading", Command::Chunk(chunk)).await {
                Ok(Reply::Received { bytes }) => bytes,
                Ok(other) => return Err(unexpected("uploading", &other)),
                Err(PolicyError::Rejected { reject: Reject::BadChunk { received, .. }, .. })
                    if tries > 0 && received != offset =>
                {
                    received
                }
                Err(error) => return Err(error),
            };
            tries = tries.saturating_sub(1);
        }
        Ok(())
    }

    /// Tells the group that a policy cannot run here, where it does not know so already.
    async fn say_why_not(&self, policy: Digest, why: &str) -> Result<(), PolicyError> {
        let Some(seat) = self.seat() else { return Ok(()) };
        let said = Unready { seat, policy, why: why.to_string() };
        let known = self.inner.group.read(|state| state.knows(&said));
        if !known {
            self.propose("saying that a policy cannot run here", Command::Unready(said)).await?;
        }
        Ok(())
    }

    async fn acknowledge(&self, policy: Digest) -> Result<(), PolicyError> {
        let seat = self.seat();
        let wanted = self.inner.group.read(|state| {
            state.policies.get(&policy).is_some_and(|row| seat.is_some_and(|seat| !row.ready.contains(&seat)))
        });
        if let Some(seat) = seat.filter(|_| wanted) {
            self.propose("acknowledging", Command::Ready(Ready { seat, policy })).await?;
        }
        Ok(())
    }

    /// This super's seat in its group.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        let node = self.inner.node;
        self.inner.group.read(|state| state.meta.seats.iter().find(|row| row.holder.node == node).map(|row| row.seat))
    }

    async fn operate(&self, by: Operator, reason: &str, what: Operation) -> Result<Reply, PolicyError> {
        let reason: String = reason.chars().rev().take(100).collect::<Vec<_>>().into_iter().rev().collect();
        let operate = Operate { by, reason, now_ms: self.inner.group.now_ms(), what };
        self.propose("the decision", Command::Operate(operate)).await
    }

    async fn propose(&self, step: &'static str, command: Command) -> Result<Reply, PolicyError> {
        self.inner.group.propose(command).await?.map_err(|reject| PolicyError::Rejected { step, reject })
    }

    async fn read_source(&self, source: &PolicySource) -> Result<Result<Arc<[u8]>, Outcome>, PolicyError> {
        let refused =
            |what: String| Ok(Err(Outcome::Refused { component: source.component.to_string(), findings: vec![what] }));
        match &source.component {
            Component::Builtin(name) => match builtin::find(name) {
                Some(builtin) => Ok(Ok(builtin.component.into())),
                None => {
                    let known: Vec<_> = builtin::ALL.iter().map(|builtin| builtin.name).collect();
                    refused(format!("there is no builtin policy of this name; this release has {}", known.join(", ")))
                }
            },
            Component::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_bounded(&path)).await;
                match read.map_err(|_| PolicyError::Compiler)? {
                    Ok(bytes) => Ok(Ok(bytes.into())),
                    Err(error) => {
                        refused(format!("the file cannot be read: {error}; check the path and its permissions"))
                    }
                }
            }
        }
    }

    /// Prepares whatever the state knows and this super has not prepared, and forgets what the state has dropped.
    ///
    /// # Errors
    /// [`PolicyError`] when the node stops.
    pub async fn catch_up(&self, known: &mut BTreeSet<Digest>) -> Result<(), PolicyError> {
        let (now, seat) = (Instant::now(), self.seat());
        let waits = |preparation: &Preparation| match preparation {
            Preparation::Ready(_) => true,
            Preparation::Failed { again, .. } => *again > now,
        };
        let here: BTreeSet<Digest> =
            self.look(|all| all.iter().filter(|(_, one)| waits(one)).map(|(digest, _)| *digest).collect());
        let (all, missing, limits) = self.inner.group.read(|state| {
            let all: BTreeSet<Digest> = state.policies.keys().copied().collect();
            let mut missing: Vec<_> = state
                .policies
                .iter()
                .filter(|(digest, _)| !here.contains(digest))
                .filter_map(|(digest, row)| {
                    let bytes = state.components.get(&row.component)?;
                    let passed = seat.is_some_and(|seat| row.ready.contains(&seat));
                    Some((*digest, row.slot, Arc::clone(bytes), row.config.clone(), passed))
                })
                .collect();
            // Rounds wait for what decides: it comes before what may.
            missing.sort_by_key(|(digest, slot, ..)| {
                let row = &state.slot(*slot).row;
                (row.active != Some(*digest), row.scheduled.is_none_or(|next| next.policy != Some(*digest)))
            });
            (all, missing, state.meta.settings.policy_limits())
        });
        for gone in known.difference(&all) {
            self.change(|prepared| prepared.remove(gone));
        }
        *known = all;
        // A failure that is due and has nothing to be tried with would be due for ever.
        let tried: BTreeSet<Digest> = missing.iter().map(|(digest, ..)| *digest).collect();
        self.change(|prepared| prepared.retain(|digest, one| waits(one) || tried.contains(digest)));
        for (digest, slot, bytes, config, passed) in missing {
            match self.try_to_prepare(slot, bytes, config, limits, passed).await {
                Ok(policy) => {
                    self.change(|all| all.insert(digest, Preparation::Ready(policy)));
                    tracing::debug!(slot = slot.name(), policy = %digest, "prepared");
                    later(self.acknowledge(digest).await)?;
                }
                Err(why) => {
                    let wait = self.change(|all| failed(all, digest));
                    tracing::error!(
                        slot = slot.name(), policy = %digest, why, again_ms = wait.as_millis() as u64,
                        "a policy of the cluster cannot run here; it is tried again, and at once on SIGHUP"
                    );
                    // Where nobody leads just now it is said with the next try.
                    later(self.say_why_not(digest, &why).await)?;
                }
            }
        }
        // What nobody took when it was said.
        for policy in self.unsaid() {
            later(self.acknowledge(policy).await)?;
        }
        Ok(())
    }

    /// What can run here and the group does not know it of.
    fn unsaid(&self) -> Vec<Digest> {
        let Some(seat) = self.seat() else { return Vec::new() };
        self.inner.group.read(|state| {
            let unsaid = state.policies.iter().filter(|(_, row)| !row.ready.contains(&seat));
            unsaid.map(|(digest, _)| *digest).filter(|digest| self.prepared(digest).is_some()).collect()
        })
    }

    /// `passed`: it was admitted here before, and whether it may run is not asked again. The error is for people.
    async fn try_to_prepare(
        &self,
        slot: Slot,
        bytes: Arc<[u8]>,
        config: String,
        limits: LimitSettings,
        passed: bool,
    ) -> Result<Prepared, String> {
        let engine = self.inner.engine.clone();
        let run = move || match passed {
            true => prepare(&engine, slot, &bytes, &config, &limits),
            false => admit(&engine, slot, &bytes, &config, &limits).map(|admitted| admitted.policy),
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(prepared) => prepared.map_err(|findings| lines(&findings).join("; ")),
            Err(_) => Err(PolicyError::Compiler.to_string()),
        }
    }

    /// Tries at once what could not be prepared here.
    ///
    /// # Errors
    /// [`PolicyError`] when the node stops.
    pub async fn try_again(&self) -> Result<(), PolicyError> {
        self.change(|all| all.retain(|_, one| matches!(one, Preparation::Ready(_))));
        self.catch_up(&mut BTreeSet::new()).await
    }

    /// When something that failed is due again, or is to be said again.
    fn due(&self) -> Option<Instant> {
        let unsaid = (!self.unsaid().is_empty()).then(|| Instant::now() + FIRST_WAIT);
        let failed = self.look(|all| {
            let failed = all.values().filter_map(|one| match one {
                Preparation::Ready(_) => None,
                Preparation::Failed { again, .. } => Some(*again),
            });
            failed.min()
        });
        failed.into_iter().chain(unsaid).min()
    }

    /// Keeps what is prepared in step with the state until the node drains.
    ///
    /// # Errors
    /// [`PolicyError`] when the group has ended.
    pub async fn keep_up(self, draining: CancellationToken) -> Result<(), PolicyError> {
        let mut notices = self.inner.group.notices();
        let mut applied = self.inner.group.applied();
        let mut known = BTreeSet::new();
        loop {
            self.catch_up(&mut known).await?;
            loop {
                let due = self.due();
                let due_again = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due.into()).await,
                        None => std::future::pending().await,
                    }
                };
                let notice = tokio::select! {
                    () = draining.cancelled() => return Ok(()),
                    () = due_again => break,
                    changed = applied.changed() => {
                        // What a super that starts takes over from the others comes without a notice.
                        if changed.is_err() {
                            return Ok(());
                        }
                        if self.inner.group.read(|state| state.policies.keys().ne(&known)) {
                            break;
                        }
                        continue;
                    }
                    notice = notices.recv() => notice,
                };
                match notice {
                    Ok(notice) if matches!(*notice, Notice::Policy { .. } | Notice::Changed(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Ok(()),
                }
            }
        }
    }
}

/// What the group did not take is said again later: it may be just choosing another leader. Only its end is an error.
fn later(said: Result<(), PolicyError>) -> Result<(), PolicyError> {
    match said {
        Err(error @ PolicyError::Group(GroupError::Stopped)) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "the group was not told of a policy; it is said again");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Notes a failure; gives the wait until the next try.
fn failed(all: &mut BTreeMap<Digest, Preparation>, policy: Digest) -> Duration {
    let before = match all.get(&policy) {
        // It was staged here meanwhile, which prepared it as well.
        Some(Preparation::Ready(_)) => return Duration::ZERO,
        Some(Preparation::Failed { tries, .. }) => *tries,
        None => 0,
    };
    let wait = FIRST_WAIT.saturating_mul(1 << before.min(16)).min(LONGEST_WAIT);
    all.insert(policy, Preparation::Failed { tries: before.saturating_add(1), again: Instant::now() + wait });
    wait
}

/// What becomes of a policy's memory, for people.
#[must_use]
pub fn memory_words(empty: u64) -> String {
    if empty == 0 { "memory is kept".to_owned() } else { format!("memory of {empty} members starts empty") }
}

fn lines(findings: &Findings) -> Vec<String> {
    findings.0.iter().map(ToString::to_string).collect()
}

/// Why the cluster refused, and how to mend it, as the API says it.
fn words(reject: &Reject) -> String {
    Problem::from(reject.clone()).words()
}

fn unexpected(step: &'static str, reply: &Reply) -> PolicyError {
    let what = format!("an answer that fits no {step}: {reply:?}");
    PolicyError::Rejected { step, reject: Reject::Malformed { what } }
}

fn digest_of(bytes: &[u8], config: &str) -> Digest {
    Digest::of_policy(Digest::of(bytes), Digest::of(config.as_bytes()))
}

/// Reads a component, one byte more than it may have at most: admission then says that it is too big.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
