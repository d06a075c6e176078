//! What a validator does with a batch (PROTOCOLS 10.8 to 10.13): it checks whose the records are, asks the signing policy,
//! holds the records and the root that follows, and only then signs. In its turn it gathers the signatures of the others.
//!
//! Invariant: nothing is signed before the root stands in the table of what was signed, and the records beside it, on
//! disk. Another root for the same batch and attempt is refused, whoever asks.

mod gather;
mod judge;
mod keep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::decide::{LimitSettings, Slot};
use kernel::id::{ClusterId, Digest, LogIndex, NodeId, Signature};
use kernel::records::order::{Batch, Contents};
use kernel::records::validators::{Evidence, Validators};
use kernel::records::witness::Witness;
use policy::{Engine, Prepared, prepare};
use store::Records;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use wire::records::{Attest, Set};

use keep::{Waiting, write_all};

use crate::keys::NodeKey;

/// Batches that wait to be written.
const WRITE_ROOM: usize = 64;
/// Batches that a validator works on at most: more than are handed out at a time.
const WORKS: usize = 256;

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
}
