//! Keeping sealed records (PROTOCOLS 10.17, 10.18): a follower, or a validator that lacks some, streams the sealed batches
//! from a validator in the order in which they were sealed, checks each certificate and stores them.
//!
//! It goes on where its store ends, whatever happened in between: a cut stream, a dead validator, a restart.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use kernel::id::{Digest, LogIndex};
use kernel::records::sealed::SealedBatch;
use store::{KEEP_ROWS, Kept, Records};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wire::pb;
use wire::pb::keeper_client::KeeperClient;
use wire::records::{self, Fetched, Part};

use super::directory::Directory;
use super::validator::Way;
use crate::config::PeerAddress;

/// Where no validator has anything to tell: longer each time.
const AGAIN: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// Where all validators are full it is tried again after so long.
const FULL: Duration = Duration::from_secs(60);
/// A stream that says nothing for so long has ended.
const SILENCE: Duration = Duration::from_secs(30);
/// Sealed batches that are written at once.
const TAKEN_AT_ONCE: usize = 16;
/// A single record is waited for so long besides the wait that was asked for.
const FETCH: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone)]
pub struct Following {
    /// Its way to validators.
    pub way: Way,
    /// Where they are, and who may sign.
    pub directory: watch::Receiver<Option<Arc<Directory>>>,
    /// Fires where the directory is older than what comes.
    pub stale: Arc<Notify>,
    /// What is kept.
    pub store: Arc<Records>,
    /// Tells how far everything is kept.
    pub sealed: watch::Sender<LogIndex>,
    /// The cluster.
    pub cluster: String,
    /// All sealed batches are followed; else records are fetched one by one.
    pub all: bool,
}

/// How a stream ended.
enum Ended {
    /// It told something new.
    News,
    /// It did not.
    Nothing(String),
    /// There is no room for another full stream.
    Full,
}

impl Following {
    /// Whether all sealed batches come here by themselves.
    #[must_use]
    pub const fn follows(&self) -> bool {
        self.all
    }

    /// Follows until `stop`. `when`: only after it fires, and until all is there; else for ever.
    pub async fn run(self, when: Option<Arc<Notify>>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow(when) => {}
        }
    }

    async fn follow(self, when: Option<Arc<Notify>>) {
        let (mut turn, mut wait) = (seed(), AGAIN);
        // Validators in a row that had nothing, and those among them that had no room.
        let (mut vain, mut full) = (0, 0);
        if let Some(when) = &when {
            when.notified().await;
        }
        loop {
            let validators = self.validators().await;
            let at = turn % validators.len().max(1);
            let Some(to) = validators.get(at) else { continue };
            let ended = self.stream(to, when.is_some()).await;
            // One that died is not asked again before the others were.
            turn = turn.wrapping_add(1);
            match ended {
                Ended::News => {
                    (wait, vain, full) = (AGAIN, 0, 0);
                    if let Some(when) = &when {
                        when.notified().await;
                    }
                    continue;
                }
                Ended::Nothing(why) => {
                    tracing::debug!(validator = %to, why, "no more sealed records from here");
                    vain += 1;
                }
                Ended::Full => (vain, full) = (vain + 1, full + 1),
            }
            if vain < validators.len() {
                continue;
            }
            if full == vain {
                tracing::info!(
                    "all validators serve as many full streams as they can: records are fetched one by one when they are asked \
                     for"
                );
                sleep(FULL).await;
            } else {
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST);
            }
            (vain, full) = (0, 0);
        }
    }

    /// The validators besides this node, once there are any.
    async fn validators(&self) -> Vec<PeerAddress> {
        let (us, mut directory) = (self.way.key.id(), self.directory.clone());
        loop {
            let told = directory.borrow_and_update().clone();
            let all: Vec<PeerAddress> = told.map(|told| told.validator_addresses()).unwrap_or_default();
            let others: Vec<_> = all.into_iter().filter(|to| to.key != Some(us)).collect();
            if !others.is_empty() {
                return others;
            }
            if directory.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn stream(&self, to: &PeerAddress, until_even: bool) -> Ended {
        let channel = match self.way.to(to).await {
            Ok((channel, _)) => channel,
            Err(why) => return Ended::Nothing(why),
        };
        let after = match self.store.complete_to() {
            Ok(at) => at,
            Err(error) => return Ended::Nothing(error.to_string()),
        };
        let mut client = KeeperClient::new(channel).max_decoding_message_size(records::MESSAGE_BYTES);
        let wish = pb::FollowRequest { cluster: self.cluster.clone(), after: after.0 };
        let mut parts = match client.follow(wish).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ended::Nothing(status.message().to_owned()),
        };
        let (mut news, mut first) = (false, true);
        loop {
            let part = match timeout(SILENCE, parts.message()).await {
                Ok(Ok(Some(part))) => records::part(part),
                Ok(Ok(None) | Err(_)) | Err(_) if news => return Ended::News,
                Ok(Ok(None)) => return Ended::Nothing("the stream ended".into()),
                Ok(Err(status)) => return Ended::Nothing(status.message().to_owned()),
                Err(_) => return Ended::Nothing("nothing came for long".into()),
            };
            let mut batches = match part {
                Ok(Part::Batch(batch)) => vec![*batch],
                Ok(Part::KeepNone) => return Ended::Full,
                Ok(Part::ToldTo(_)) if until_even => return Ended::News,
                Ok(Part::ToldTo(_)) => continue,
                Err(error) => return Ended::Nothing(error.to_string()),
            };
            // What came while the last ones were written is written at once.
            let mut even = false;
            while batches.len() < TAKEN_AT_ONCE {
                let Some(Ok(Some(next))) = parts.message().now_or_never() else { break };
                match records::part(next) {
                    Ok(Part::Batch(batch)) => batches.push(*batch),
                    Ok(Part::KeepNone | Part::ToldTo(_)) => {
                        even = true;
                        break;
                    }
                    Err(error) => return Ended::Nothing(error.to_string()),
                }
            }
            match self.take(batches, std::mem::take(&mut first)).await {
                Ok(()) if even && until_even => return Ended::News,
                Ok(()) => news = true,
                Err(why) => {
                    tracing::warn!(validator = %to, why, "a sealed batch was not taken");
                    return Ended::Nothing(why);
                }
            }
        }
    }

    /// Checks sealed batches and keeps them, in one durable transaction.
    async fn take(&self, batches: Vec<SealedBatch>, first: bool) -> Result<(), String> {
        let mut sets = BTreeMap::new();
        for batch in &batches {
            let signed = &batch.certificate.attestation;
            let cluster = signed.cluster.to_string();
            if cluster != self.cluster {
                return Err(format!("it belongs to {cluster}"));
            }
            if let Entry::Vacant(set) = sets.entry(signed.set_version) {
                set.insert(self.set_of(signed.set_version).await?);
            }
        }
        let store = Arc::clone(&self.store);
        let kept = tokio::task::spawn_blocking(move || {
            for batch in &batches {
                let set = sets.get(&batch.certificate.attestation.set_version);
                let (keys, quorum) = set.ok_or("its set of validators is not known here")?;
                batch.check(keys, *quorum).map_err(|why| format!("batch {}: {why}", batch.number()))?;
            }
            // What comes before the first one is not kept there any more.
            if let Some(oldest) = batches.first().filter(|_| first) {
                store.skip_to(oldest.previous).map_err(|error| error.to_string())?;
            }
            let kept = store.seal(&batches, KEEP_ROWS).map_err(|error| error.to_string())?;
            if let Some((batch, _)) = batches.iter().zip(&kept).find(|(_, kept)| **kept == Kept::Unfit) {
                return Err(format!("batch {}: its place in the log contradicts what is kept here", batch.number()));
            }
            store.complete_to().map_err(|error| error.to_string())
        });
        let at = kept.await.unwrap_or_else(|_| Err("checking it failed".into()))?;
        self.sealed.send_replace(at);
        Ok(())
    }

    /// The keys of a set; a newer directory is asked for where this one does not know it.
    async fn set_of(&self, version: u64) -> Result<(std::collections::BTreeSet<kernel::id::NodeId>, usize), String> {
        let mut directory = self.directory.clone();
        let known = async {
            loop {
                let told = directory.borrow_and_update().clone();
                if let Some(set) = told.and_then(|told| told.set_of(version)) {
                    return set;
                }
                self.stale.notify_one();
                if directory.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(FETCH, known).await.map_err(|_| format!("the set of validators of version {version} is not known here"))
    }

    /// Fetches one record from a validator and checks it. `wait`: for it to be sealed.
    ///
    /// # Errors
    /// For people: why it cannot be had.
    pub async fn fetch(&self, digest: Digest, wait: Duration) -> Result<Option<Fetched>, String> {
        let validators = timeout(FETCH, self.validators()).await.map_err(|_| "no validator is known here")?;
        let mut last = String::new();
        let mut asked = false;
        let start = seed();
        for turn in 0..validators.len() {
            let Some(to) = validators.get((start + turn) % validators.len()) else { continue };
            let answer = async {
                let (channel, _) = self.way.to(to).await?;
                let mut client = KeeperClient::new(channel).max_decoding_message_size(records::MESSAGE_BYTES);
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let wish = records::fetch_pb(&self.cluster, digest, if asked { 0 } else { wait_ms });
                let told = client.fetch(wish).await.map_err(|status| status.message().to_owned())?;
                records::fetched(told.into_inner()).map_err(|error| error.to_string())
            };
            match timeout(wait + FETCH, answer).await {
                Ok(Ok(Some(found))) => match self.check(&found, digest).await {
                    Ok(()) => return Ok(Some(found)),
                    Err(why) => {
                        tracing::warn!(validator = %to, %digest, why, "a fetched record does not verify");
                        last = why;
                    }
                },
                Ok(Ok(None)) => {
                    asked = true;
                    last = String::new();
                }
                Ok(Err(why)) => last = why,
                Err(_) => last = "no answer in time".into(),
            }
        }
        if asked { Ok(None) } else { Err(last) }
    }

    async fn check(&self, found: &Fetched, digest: Digest) -> Result<(), String> {
        if found.record.digest() != digest {
            return Err("it is another record".into());
        }
        let signed = &found.proof.certificate.attestation;
        if signed.cluster.to_string() != self.cluster {
            return Err(format!("it belongs to {}", signed.cluster));
        }
        let (keys, quorum) = self.set_of(signed.set_version).await?;
        found.proof.check(digest).map_err(|why| why.to_string())?;
        found.proof.certificate.check(&keys, quorum).map_err(|why| why.to_string())
    }
}

/// Where to begin among the validators: another place for each node.
fn seed() -> usize {
    let mut bytes = [0; 2];
    // Without randomness everybody begins with the first one.
    let _is_drawn = getrandom::fill(&mut bytes).is_ok();
    usize::from(u16::from_le_bytes(bytes))
}
