//! What a validator does with a batch (PROTOCOLS 10.8 to 10.13): it checks whose the records are, asks the signing policy,
//! holds the records and the root that follows, and only then signs. In its turn it gathers the signatures of the others.
//!
//! Invariant: nothing is signed before the root stands in the table of what was signed, and the records beside it, on
//! disk. Another root for the same batch and attempt is refused, whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kernel::decide::{LimitSettings, Policy as _, Slot};
use kernel::envelope::ATTESTATION_TYPE;
use kernel::id::{ClusterId, Digest, LogIndex, NodeId, Signature};
use kernel::records::certificate::{Attestation, leaves};
use kernel::records::order::{Batch, Contents};
use kernel::records::review::{Context, Review, Reviewed, judge, verdicts};
use kernel::records::seal::Seal;
use kernel::records::sealed::SealedBatch;
use kernel::records::tree;
use kernel::records::validators::{Evidence, Validators, least_quorum};
use kernel::records::witness::Witness;
use policy::{Engine, Prepared, prepare};
use store::{Hold, Holding, KEEP_ROWS, Kept, Records};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use wire::records::{Attest, Set};

use super::header;
use crate::keys::NodeKey;

/// Batches that are held or kept in one durable transaction at most.
const WRITTEN_AT_ONCE: usize = 16;
/// Batches that wait for that.
const WRITE_ROOM: usize = 64;
/// Batches that a validator works on at most: more than are handed out at a time.
const WORKS: usize = 256;
/// Before what could not be judged is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Another validator waits no longer than this for a signature.
const LONGEST_ATTEST: Duration = Duration::from_secs(10);

/// Asks another validator for its signature.
pub trait Ask: Send + Sync + 'static {
    /// Its signature over the same attestation, or why there is none.
    fn ask(
        &self,
        node: NodeId,
        address: String,
        ask: Attest,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Signature, String>> + Send>>;
}

/// What a validator does wrong on purpose, for tests and the demo. All off at first.
#[derive(Debug, Default)]
pub struct ValidatorFaults {
    /// It gathers signatures and keeps them to itself.
    pub withholds: std::sync::atomic::AtomicBool,
    /// It answers nobody.
    pub mute: std::sync::atomic::AtomicBool,
    /// In its turn it shows the others another root than the one that follows.
    pub lies: std::sync::atomic::AtomicBool,
}

/// See the module. Clones are the same.
#[derive(Clone)]
pub struct Signer {
    inner: Arc<Inner>,
}

struct Inner {
    key: NodeKey,
    cluster: ClusterId,
    store: Arc<Records>,
    engine: Engine,
    others: Box<dyn Ask>,
    faults: Arc<ValidatorFaults>,
    now: Mutex<Now>,
    changed: watch::Sender<u64>,
    policies: watch::Sender<BTreeMap<Digest, Preparation>>,
    sealed: watch::Sender<LogIndex>,
    judging: Semaphore,
    writes: mpsc::Sender<Waiting>,
}

#[derive(Clone)]
enum Preparation {
    Ready(Box<Ready>),
    Failed,
    UnderWay,
}

/// A signing policy that can run here.
#[derive(Clone)]
struct Ready {
    policy: Prepared,
    /// As it was hashed.
    config: Arc<str>,
}

#[derive(Default)]
struct Now {
    validators: Validators,
    quorum: usize,
    turn: Duration,
    limits: LimitSettings,
    works: BTreeMap<u64, Work>,
    abstains_to: u64,
    witness: Witness,
    /// Proofs against members of the set, which stay until those are removed.
    accused: BTreeMap<NodeId, Evidence>,
}

/// A batch that is being judged, or was.
struct Work {
    batch: Arc<Batch>,
    contents: Arc<Contents>,
    found: watch::Receiver<Found>,
    task: AbortHandle,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How far a batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Judging,
    /// Held: it may be signed.
    Held {
        codes: Arc<Vec<u16>>,
        root: Digest,
    },
    /// Nothing is signed, and why.
    Abstains(String),
}

/// A batch that is to be written.
enum Waiting {
    /// Before it is signed.
    Hold {
        batch: u64,
        attempt: u32,
        root: Digest,
        contents: Arc<Contents>,
        held: oneshot::Sender<Result<Hold, String>>,
    },
    /// Once it is sealed.
    Seal { batch: Box<SealedBatch>, kept: oneshot::Sender<Result<Kept, String>> },
}

impl Signer {
    /// A validator of this cluster, and the work that is to run beside it.
    pub fn new(
        key: NodeKey,
        cluster: ClusterId,
        store: Arc<Records>,
        engine: Engine,
        others: impl Ask,
        faults: Arc<ValidatorFaults>,
        sealed: watch::Sender<LogIndex>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (writes, waiting) = mpsc::channel(WRITE_ROOM);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let inner = Inner {
            key,
            cluster,
            store: Arc::clone(&store),
            engine,
            others: Box::new(others),
            faults,
            now: Mutex::default(),
            changed: watch::Sender::new(0),
            policies: watch::Sender::default(),
            sealed,
            judging: Semaphore::new(cores),
            writes,
        };
        (Self { inner: Arc::new(inner) }, write_all(store, waiting))
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) {
        self.inner.changed.send_modify(|number| *number += 1);
    }

    /// Fires with each batch that was sealed and is held here.
    #[must_use]
    pub fn sealed(&self) -> watch::Receiver<LogIndex> {
        self.inner.sealed.subscribe()
    }

    /// The set, as a leader told it last.
    #[must_use]
    pub fn validators(&self) -> Validators {
        self.now().validators.clone()
    }

    /// Proofs that members of the set signed two roots for one batch.
    #[must_use]
    pub fn accused(&self) -> Vec<Evidence> {
        self.now().accused.values().cloned().collect()
    }

    /// Remembers what another validator signed, whose signature was checked.
    fn hear(&self, node: NodeId, attestation: &Attestation, signature: Signature) {
        let mut now = self.now();
        if let Some(evidence) = now.witness.hear(node, attestation, signature) {
            now.accused.entry(node).or_insert(evidence);
        }
    }

    /// Signs nothing of what was ordered up to this batch: it may have signed it before its table was lost.
    pub fn abstain_to(&self, batch: u64) {
        self.now().abstains_to = batch;
    }

    /// Takes the set and what to go by.
    pub fn set(&self, set: Set) {
        let mut now = self.now();
        now.quorum = set.quorum as usize;
        now.turn = Duration::from_millis(set.turn_ms);
        now.limits = set.limits;
        now.validators = set.validators;
        let Now { accused, validators, .. } = &mut *now;
        accused.retain(|node, _| validators.get(node).is_some());
        drop(now);
        self.inner.policies.send_if_modified(|all| {
            let before = all.len();
            all.retain(|digest, _| set.policies.contains(digest));
            all.len() < before
        });
        self.news();
    }

    /// Prepares a signing policy. `Ok`: it can run here; `Err`: why not.
    ///
    /// # Errors
    /// For people: why it cannot run here.
    pub async fn prepare(&self, digest: Digest, component: Vec<u8>, config: String) -> Result<(), String> {
        if let Some(Preparation::Ready(_)) = self.inner.policies.borrow().get(&digest) {
            return Ok(());
        }
        let named = Digest::of_policy(Digest::of(&component), Digest::of(config.as_bytes()));
        if named != digest {
            return Err(format!("what came is {named}, not {digest}"));
        }
        self.inner.policies.send_modify(|all| _ = all.insert(digest, Preparation::UnderWay));
        let (engine, limits) = (self.inner.engine.clone(), self.now().limits);
        let compiled = tokio::task::spawn_blocking(move || {
            let policy = prepare(&engine, Slot::Signing, &component, &config, &limits)?;
            Ok(Ready { policy, config: config.into() })
        });
        let (one, result) = match compiled.await {
            Ok(Ok(ready)) => (Preparation::Ready(Box::new(ready)), Ok(())),
            Ok(Err::<_, policy::Findings>(findings)) => (Preparation::Failed, Err(findings.to_string())),
            Err(_) => (Preparation::Failed, Err("compiling ended without a result".into())),
        };
        self.inner.policies.send_modify(|all| _ = all.insert(digest, one));
        result
    }

    /// Takes a batch that is to be judged. Again: nothing happens, unless it is another attempt.
    pub fn judge(&self, batch: Batch, contents: Contents) {
        let number = batch.number;
        let mut now = self.now();
        let known = now.works.get(&number).is_some_and(|work| work.batch.attempt == batch.attempt);
        if known || now.works.len() >= WORKS && !now.works.contains_key(&number) {
            return;
        }
        let (batch, contents) = (Arc::new(batch), Arc::new(contents));
        let (told, found) = watch::channel(Found::Judging);
        let (signer, of, records) = (self.clone(), Arc::clone(&batch), Arc::clone(&contents));
        let abstains = number <= now.abstains_to;
        let task = tokio::spawn(async move {
            let outcome = if abstains {
                Found::Abstains("it was ordered before this validator's table of signatures was made anew".into())
            } else {
                signer.work(of, records).await
            };
            if let Found::Abstains(why) = &outcome
                && !signer.is_sealed(number)
            {
                tracing::warn!(batch = number, why, "this validator abstains");
            }
            told.send_replace(outcome);
            // Whoever waits reads it from the channel, which is to stay open.
            std::future::pending::<()>().await;
        });
        now.works.insert(number, Work { batch, contents, found, task: task.abort_handle() });
        drop(now);
        self.news();
    }

    /// Whether a batch needs nobody's signature any more.
    fn is_sealed(&self, batch: u64) -> bool {
        matches!(self.inner.store.by_batch(batch), Ok(Some(_)))
    }

    async fn work(&self, batch: Arc<Batch>, contents: Arc<Contents>) -> Found {
        match self.proven(&batch, &contents).await {
            Ok(()) => {}
            Err(why) => return Found::Abstains(why),
        }
        let (codes, reasons) = self.ask_policy(&batch, &contents).await;
        let Some(verdicts) = verdicts(&codes, &reasons) else {
            return Found::Abstains("the policy gave a code that it never named".into());
        };
        let digests = batch.records.iter().map(|entered| entered.digest);
        let root = tree::root(leaves(batch.first_sequence, digests.zip(&verdicts)));
        let (held, answer) = oneshot::channel();
        let holding = Waiting::Hold { batch: batch.number, attempt: batch.attempt, root, contents, held };
        if self.inner.writes.send(holding).await.is_err() {
            return Found::Abstains("this validator is stopping".into());
        }
        match answer.await {
            Ok(Ok(Hold::Sign)) => Found::Held { codes: Arc::new(codes), root },
            Ok(Ok(Hold::Sealed)) => Found::Abstains("it is sealed already".into()),
            Ok(Ok(Hold::Other(signed))) => {
                tracing::error!(
                    batch = batch.number, attempt = batch.attempt, %signed, %root,
                    "this validator signed another root for this batch: it refuses. A validator's data folder was copied, or \
                     the log of this cluster was forked"
                );
                Found::Abstains(format!("it signed the root {signed} for this batch before"))
            }
            Ok(Err(why)) => Found::Abstains(format!("the records cannot be held: {why}")),
            Err(_) => Found::Abstains("this validator is stopping".into()),
        }
    }

    /// Whether the records are those of the batch, and each is its author's.
    async fn proven(&self, batch: &Arc<Batch>, contents: &Arc<Contents>) -> Result<(), String> {
        let (batch, contents, cluster) = (Arc::clone(batch), Arc::clone(contents), self.inner.cluster.clone());
        let _place = self.inner.judging.acquire().await;
        let checked = tokio::task::spawn_blocking(move || {
            let digests: Vec<Digest> = batch.records.iter().map(|entered| entered.digest).collect();
            if !contents.is_of(digests.into_iter()) {
                return Err("its records are not those that were ordered".to_owned());
            }
            if let Some(record) = contents.unproven(&cluster).next() {
                return Err(format!("the record {} is not its author's", record.digest()));
            }
            for arrived in &contents.records {
                header::read(&arrived.record, &cluster)
                    .map_err(|why| format!("the record {}: {why}", arrived.record.digest()))?;
            }
            Ok(())
        });
        checked.await.unwrap_or_else(|_| Err("checking it failed".into()))
    }

    /// The policy's codes, however long it takes until it can run here, and the texts of its reasons.
    async fn ask_policy(&self, batch: &Batch, contents: &Arc<Contents>) -> (Vec<u16>, Vec<String>) {
        let mut said = false;
        loop {
            let Ready { policy, config } = self.prepared(&batch.policy).await;
            let (limits, contents) = (self.now().limits, Arc::clone(contents));
            let context = Context {
                batch: batch.number,
                round: batch.round.0,
                ordered_ms: batch.ordered_ms,
                set_size: batch.set_size,
            };
            let first = batch.first_sequence;
            let reasons = policy.description().reasons.clone();
            let place = self.inner.judging.acquire().await;
            let judged = tokio::task::spawn_blocking(move || {
                let records: Vec<Reviewed<'_>> = (first..)
                    .zip(&contents.records)
                    .map(|(sequence, arrived)| Reviewed {
                        sequence,
                        author: arrived.record.author,
                        digest: arrived.record.digest(),
                        expires_ms: arrived.expires_ms,
                        body: arrived.record.body(),
                    })
                    .collect();
                let policy = policy.with_limits(limits);
                judge(&policy, &Review { config: &config, context, records: &records })
            });
            let judged = judged.await;
            // Not kept while it waits: the others are to be judged meanwhile.
            drop(place);
            match judged {
                Ok((Ok(codes), ..)) => return (codes, reasons),
                Ok((Err(fault), ..)) if !said => {
                    tracing::warn!(batch = batch.number, %fault, "a batch could not be judged; it is tried again");
                    said = true;
                }
                Ok(_) => {}
                Err(_) => tracing::error!(batch = batch.number, "judging a batch failed; it is tried again"),
            }
            sleep(AGAIN).await;
        }
    }

    /// Waits until a policy can run here.
    async fn prepared(&self, digest: &Digest) -> Ready {
        let mut policies = self.inner.policies.subscribe();
        loop {
            let ready = match policies.borrow_and_update().get(digest) {
                Some(Preparation::Ready(ready)) => Some(Ready::clone(ready)),
                Some(Preparation::Failed | Preparation::UnderWay) | None => None,
            };
            if let Some(ready) = ready {
                return ready;
            }
            if policies.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What this validator found of a batch, once it has; and the batch. `None`: it does not come within the time.
    async fn found(&self, number: u64, within: Duration) -> Option<(Arc<Batch>, Found)> {
        let waiting = async {
            let mut changed = self.inner.changed.subscribe();
            loop {
                let work = self.now().works.get(&number).map(|work| (Arc::clone(&work.batch), work.found.clone()));
                if let Some((batch, mut found)) = work {
                    // A work that is put aside is followed by another one, or its batch was sealed.
                    let known = found.wait_for(|found| *found != Found::Judging).await.map(|found| found.clone());
                    if let Ok(found) = known {
                        return (batch, found);
                    }
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(within, waiting).await.ok()
    }

    fn attestation(&self, batch: &Batch, root: Digest) -> Attestation {
        batch.attestation(&self.inner.cluster, self.now().validators.version, root)
    }

    fn sign(&self, attestation: &Attestation) -> Signature {
        self.inner.key.sign(ATTESTATION_TYPE, &attestation.payload())
    }

    /// Another validator has signed a batch and asks for this one's signature, which it gets once the same root stands in
    /// this one's table.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn attest(&self, from: NodeId, ask: &Attest) -> Result<Signature, String> {
        let faults = &self.inner.faults;
        if faults.mute.load(std::sync::atomic::Ordering::Relaxed) {
            return std::future::pending().await;
        }
        if self.now().validators.get(&from).is_none() {
            return Err("the caller is not in the set".into());
        }
        if !ask.attestation.is_signed_by(&from, &ask.signature) {
            return Err("the caller's signature does not verify".into());
        }
        let within = self.now().turn.min(LONGEST_ATTEST);
        let known = self.found(ask.attestation.batch, within).await;
        // Of batches that are open here, and no others: what is remembered is bounded, and nobody is to crowd it out.
        if let Some((batch, _)) = &known
            && batch.attempt == ask.attestation.attempt
        {
            self.hear(from, &ask.attestation, ask.signature);
        }
        let (batch, root) = match known {
            Some((batch, Found::Held { root, .. })) => (batch, root),
            Some((_, Found::Abstains(why))) => return Err(why),
            Some((_, Found::Judging)) | None => return Err("this batch is not judged here yet".into()),
        };
        let ours = self.attestation(&batch, root);
        if ours == ask.attestation {
            return Ok(self.sign(&ours));
        }
        if (ours.attempt, &ours.cluster) == (ask.attestation.attempt, &ask.attestation.cluster)
            && ours.root != ask.attestation.root
        {
            tracing::error!(
                batch = ours.batch, %from, ours = %ours.root, theirs = %ask.attestation.root,
                "another validator signed another root for this batch than this one found"
            );
            return Err(format!("this validator found the root {}", ours.root));
        }
        Err("it is of another attempt, or of another set".into())
    }

    /// Gathers the signatures of a batch, and gives what seals it. `None`: too few came.
    pub async fn gather(&self, number: u64, attempt: u32) -> Option<Seal> {
        let (quorum, turn, set) = {
            let now = self.now();
            (now.quorum.max(least_quorum(now.validators.set.len())), now.turn, now.validators.set.clone())
        };
        let (batch, found) = self.found(number, turn).await?;
        let Found::Held { codes, root } = found else { return None };
        if batch.attempt != attempt {
            return None;
        }
        let attestation = self.attestation(&batch, root);
        let mut signatures = vec![(self.inner.key.id(), self.sign(&attestation))];
        let shown = if self.inner.faults.lies.load(std::sync::atomic::Ordering::Relaxed) {
            Attestation { root: Digest::of(b"a lie"), ..attestation.clone() }
        } else {
            attestation.clone()
        };
        let ask = Attest { signature: self.sign(&shown), attestation: shown };
        let others = set.into_iter().filter(|other| other.node != self.inner.key.id());
        let mut asked: FuturesUnordered<_> = others
            .map(|other| {
                let answer = self.inner.others.ask(other.node, other.address, ask.clone());
                async move { (other.node, timeout(turn, answer).await) }
            })
            .collect();
        while signatures.len() < quorum {
            let (node, answer) = asked.next().await?;
            match answer {
                Ok(Ok(signature)) if attestation.is_signed_by(&node, &signature) => {
                    self.hear(node, &attestation, signature);
                    signatures.push((node, signature));
                }
                Ok(Ok(_)) => tracing::warn!(batch = number, %node, "a signature that does not verify"),
                Ok(Err(why)) => tracing::debug!(batch = number, %node, why, "no signature"),
                Err(_) => tracing::debug!(batch = number, %node, "no signature in time"),
            }
        }
        if self.now().witness.doubts(&attestation) {
            // The answer of whoever showed another root is the proof, also where it is not needed.
            let (signer, truth) = (self.clone(), attestation.clone());
            tokio::spawn(async move {
                while let Some((node, answer)) = asked.next().await {
                    if let Ok(Ok(signature)) = answer
                        && truth.is_signed_by(&node, &signature)
                    {
                        signer.hear(node, &truth, signature);
                    }
                }
            });
        }
        if self.inner.faults.withholds.load(std::sync::atomic::Ordering::Relaxed) {
            return None;
        }
        signatures.sort_unstable_by_key(|(node, _)| *node);
        let set_version = attestation.set_version;
        Some(Seal { batch: number, attempt, set_version, codes: (*codes).clone(), signatures })
    }

    /// A batch was sealed: whoever signed it and showed this validator another root before is accused.
    pub fn convict(&self, batch: &Batch) {
        let Some(certificate) = batch.certificate(&self.inner.cluster) else { return };
        let mut now = self.now();
        for evidence in now.witness.convicts(&certificate) {
            now.accused.entry(evidence.validator).or_insert(evidence);
        }
    }

    /// Keeps a batch that was sealed, with its records. `false`: the records are not here, and are to be had from another
    /// validator.
    pub async fn seal(&self, batch: Batch) -> bool {
        let number = batch.number;
        let work = self.now().works.remove(&number);
        let contents = work.as_ref().map(|work| Arc::clone(&work.contents));
        drop(work);
        self.news();
        let certificate = batch.certificate(&self.inner.cluster);
        let (Some(sealed), Some(certificate)) = (batch.sealed, certificate) else { return true };
        let store = Arc::clone(&self.inner.store);
        let set = self.now().validators.of_version(sealed.set_version);
        let whole = tokio::task::spawn_blocking(move || {
            let contents = match contents {
                Some(contents) => contents,
                None => match store.contents(number)? {
                    Some(contents) => Arc::new(contents),
                    None => return Ok(None),
                },
            };
            let whole = SealedBatch {
                at: sealed.at,
                previous: sealed.previous,
                ordered_ms: batch.ordered_ms,
                certificate,
                verdicts: sealed.verdicts(),
                records: contents.records.iter().map(|arrived| arrived.record.clone()).collect(),
            };
            if let Some(set) = set
                && let Err(why) = whole.check(&set, least_quorum(set.len()))
            {
                tracing::error!(batch = number, %why, "what was sealed does not verify: it is not kept");
                return Ok(None);
            }
            Ok::<_, store::StoreError>(Some(whole))
        });
        let batch = match whole.await {
            Ok(Ok(Some(whole))) => Box::new(whole),
            Ok(Ok(None)) | Err(_) => return false,
            Ok(Err(error)) => {
                tracing::error!(batch = number, %error, "a sealed batch could not be read");
                return false;
            }
        };
        let (kept, answer) = oneshot::channel();
        if self.inner.writes.send(Waiting::Seal { batch, kept }).await.is_err() {
            return false;
        }
        match answer.await {
            Ok(Ok(kept)) => {
                if kept == Kept::Unfit {
                    tracing::error!(
                        batch = number,
                        "its place in the log contradicts what another validator sent: it is not kept"
                    );
                }
                self.held();
                true
            }
            // Said where it happened.
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Says that more is held than before.
    pub fn held(&self) {
        if let Ok(at) = self.inner.store.complete_to() {
            self.inner.sealed.send_replace(at);
        }
    }
}

/// Writes batches, as many in one durable transaction as there are.
async fn write_all(store: Arc<Records>, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        let mut all = vec![first];
        while all.len() < WRITTEN_AT_ONCE {
            match waiting.try_recv() {
                Ok(next) => all.push(next),
                Err(_) => break,
            }
        }
        let store = Arc::clone(&store);
        let done = tokio::task::spawn_blocking(move || write(&store, all));
        let _panicked = done.await;
    }
}

fn write(store: &Records, all: Vec<Waiting>) {
    let (mut held, mut sealed, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for one in all {
        match one {
            Waiting::Hold { batch, attempt, root, contents, held: answer } => {
                held.push((batch, attempt, root, contents, answer));
            }
            Waiting::Seal { batch, kept } => {
                batches.push(*batch);
                sealed.push(kept);
            }
        }
    }
    let wanted: Vec<_> = held
        .iter()
        .map(|(batch, attempt, root, contents, _)| Holding { batch: *batch, attempt: *attempt, root: *root, contents })
        .collect();
    let (holds, kept) = match store.hold_and_seal(&wanted, &batches, KEEP_ROWS) {
        Ok((holds, kept)) => (holds.into_iter().map(Ok).collect(), kept.into_iter().map(Ok).collect()),
        Err(error) => {
            tracing::error!(%error, "batches cannot be written: nothing of them is signed or kept");
            let why = error.to_string();
            (vec![Err(why.clone()); held.len()], vec![Err(why); sealed.len()])
        }
    };
    for ((.., answer), hold) in held.into_iter().zip(holds) {
        let _gone = answer.send(hold);
    }
    for (answer, kept) in sealed.into_iter().zip(kept) {
        let _gone = answer.send(kept);
    }
}
