//! A validator's streams to the supers: it is told what to judge and whose turn it is, and says what it gathered. It keeps a
//! stream to every super of the group, so that whoever leads next finds it there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::id::{ClusterId, NodeId, Signature};
use store::Records;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use wire::pb::intake_client::IntakeClient;
use wire::pb::keeper_client::KeeperClient;
use wire::records::{self, Attest, FromValidator, ToValidator, ValidatorHello};

use super::directory::Directory;
use super::signer::{Ask, Signer};
use crate::config::PeerAddress;
use crate::keys::NodeKey;
use crate::known::Known;
use crate::roles::follower::dial::{Source, dial};
use crate::wires::Wires;

/// For each step of a connection.
pub(crate) const DIAL: Duration = Duration::from_secs(5);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(500);
/// It does not grow beyond this.
const LONGEST: Duration = Duration::from_secs(10);
/// Messages on their way to a super.
const OUT_ROOM: usize = 256;
/// A super that said nothing for so long is asked whether it is there, and is left when it says nothing for as long again.
const QUIET: Duration = Duration::from_secs(5);
const SILENT: &str = "the super does not answer";

/// What a node needs to reach others.
#[derive(Clone)]
pub struct Way {
    /// Its key.
    pub key: NodeKey,
    /// What it remembers.
    pub known: Known,
    /// The network.
    pub wires: Wires,
}

impl Way {
    /// Connects to a node.
    ///
    /// # Errors
    /// For people: why not.
    pub async fn to(&self, to: &PeerAddress) -> Result<(Channel, NodeId), String> {
        dial(&self.key, &self.known, &self.wires, to, Source::ANYWHERE, DIAL).await.map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        })
    }
}

/// A validator's way to the others, one connection each.
#[derive(Clone)]
pub struct Others {
    way: Way,
    channels: Arc<Mutex<BTreeMap<NodeId, (String, Channel)>>>,
}

impl Others {
    /// Connections are made when they are first used.
    #[must_use]
    pub fn new(way: Way) -> Self {
        Self { way, channels: Arc::default() }
    }

    async fn channel(&self, node: NodeId, address: &str) -> Result<Channel, String> {
        let known = self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        if let Some((_, channel)) = known.filter(|(of, _)| of == address) {
            return Ok(channel);
        }
        let to = crate::config::address(address).map_err(|error| format!("{address}: {error}"))?;
        let (channel, _) = self.way.to(&PeerAddress { key: Some(node), ..to }).await?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.insert(node, (address.to_owned(), channel.clone()));
        Ok(channel)
    }

    fn forget(&self, node: &NodeId) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    async fn attest(self, node: NodeId, address: String, ask: Attest) -> Result<Signature, String> {
        // A connection that broke since it was last used is made anew, once.
        for _ in 0..2 {
            let mut client = KeeperClient::new(self.channel(node, &address).await?);
            match client.attest(records::attest_pb(&ask)).await {
                Ok(answer) => {
                    return records::attest_answer(answer.into_inner()).map_err(|error| error.to_string())?;
                }
                Err(status) => {
                    self.forget(&node);
                    if status.code() != tonic::Code::Unavailable && status.code() != tonic::Code::Unknown {
                        return Err(status.message().to_owned());
                    }
                }
            }
        }
        Err("it cannot be reached".into())
    }
}

impl Ask for Others {
    fn ask(
        &self,
        node: NodeId,
        address: String,
        ask: Attest,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Signature, String>> + Send>> {
        Box::pin(self.clone().attest(node, address, ask))
    }
}

/// How a validator stands, for its log, its API and the demo's screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidatorView {
    /// The supers that have it attached.
    pub supers: Vec<String>,
    /// The super that leads, as the streams say.
    pub leader: Option<NodeId>,
    /// Why the last super refused it; `None` once one welcomed it.
    pub refused: Option<String>,
}

/// What a validator's streams work on.
#[derive(Clone)]
pub struct Streams {
    /// Its way to supers.
    pub way: Way,
    /// Its display name.
    pub name: String,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// What it signs with.
    pub signer: Signer,
    /// What it keeps.
    pub store: Arc<Records>,
    /// Where the supers are.
    pub directory: watch::Receiver<Option<Arc<Directory>>>,
    /// The supers that the config names.
    pub supers: Vec<PeerAddress>,
    /// Fires where the directory is older than the set.
    pub stale: Arc<Notify>,
    /// Fires where records are to be had from another validator.
    pub lacks: Arc<Notify>,
    /// How it stands.
    pub view: watch::Sender<ValidatorView>,
    /// One welcome at a time: the first one says what a table that is new means.
    pub welcome: Arc<tokio::sync::Mutex<()>>,
}

impl Streams {
    /// Keeps a stream to every super until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut streams: BTreeMap<String, tokio::task::AbortHandle> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut directory = self.directory.clone();
        loop {
            let mut wanted: BTreeMap<String, PeerAddress> = BTreeMap::new();
            for to in &self.supers {
                wanted.insert(PeerAddress { key: None, ..to.clone() }.to_string(), to.clone());
            }
            let told = directory.borrow_and_update().clone();
            if let Some(told) = told {
                let listed = told.super_addresses();
                // A super that was removed is in the config still, perhaps; it refuses.
                wanted.extend(listed.into_iter().map(|to| (PeerAddress { key: None, ..to.clone() }.to_string(), to)));
            }
            streams.retain(|address, task| {
                let keep = wanted.contains_key(address) && !task.is_finished();
                if !keep {
                    task.abort();
                    self.view.send_modify(|view| view.supers.retain(|known| known != address));
                }
                keep
            });
            for (address, to) in wanted {
                streams
                    .entry(address)
                    .or_insert_with_key(|address| tasks.spawn(self.clone().keep(address.clone(), to)));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = directory.changed() => if changed.is_err() {
                    stop.cancelled().await;
                    return;
                },
            }
        }
    }

    /// Keeps a stream to one super.
    async fn keep(self, address: String, to: PeerAddress) {
        let mut wait = AGAIN;
        let mut said = None;
        loop {
            let attached = match self.way.to(&to).await {
                Ok((channel, key)) => match self.stream(&address, channel, key).await {
                    Ok(()) => Ok(true),
                    Err(why) => Err(why),
                },
                Err(why) => Err(why),
            };
            self.view.send_modify(|view| view.supers.retain(|known| *known != address));
            match attached {
                Ok(_) => wait = AGAIN,
                Err(why) => {
                    if said.as_ref() != Some(&why) {
                        tracing::warn!(%address, why, "no stream to a super; it is tried again");
                        said = Some(why);
                    }
                    wait = (wait * 2).min(LONGEST);
                }
            }
            sleep(wait).await;
        }
    }

    /// One stream, from its hello to its end. `Ok`: it was welcome.
    async fn stream(&self, address: &str, channel: Channel, key: NodeId) -> Result<(), String> {
        let mut client = IntakeClient::new(channel)
            .max_decoding_message_size(records::MESSAGE_BYTES)
            .max_encoding_message_size(records::MESSAGE_BYTES);
        let (out, outbound) = mpsc::channel(OUT_ROOM);
        let say = |what: FromValidator| out.try_send(records::from_validator_pb(&what)).is_ok();
        let mut turn = Some(self.welcome.lock().await);
        let fresh = self.store.is_fresh().map_err(|error| error.to_string())?;
        let held_to = self.store.complete_to().map_err(|error| error.to_string())?;
        say(FromValidator::Hello(ValidatorHello {
            cluster: self.cluster.to_string(),
            fresh,
            held_to,
            name: self.name.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }));
        // Bounded, as the welcome is below: the others wait for their turn.
        let answer = timeout(QUIET, client.sign(ReceiverStream::new(outbound))).await.map_err(|_| SILENT)?;
        let mut inbound = answer.map_err(|status| status.message().to_owned())?.into_inner();
        let (mut welcome, mut asked) = (false, false);
        // Whether this super leads, and whom it was told of as one that signed two roots.
        let (mut leading, mut accused) = (false, BTreeSet::new());
        loop {
            let next = match timeout(QUIET, inbound.message()).await {
                Ok(Ok(Some(next))) => {
                    asked = false;
                    next
                }
                Ok(Ok(None)) => break,
                Ok(Err(status)) if !welcome => return Err(status.message().to_owned()),
                Ok(Err(_)) => break,
                Err(_) if !welcome || asked => return Err(SILENT.into()),
                Err(_) => {
                    asked = true;
                    if !say(FromValidator::Alive) {
                        break;
                    }
                    continue;
                }
            };
            match records::to_validator(next).map_err(|error| error.to_string())? {
                ToValidator::Welcome { cluster, came, last_batch } => {
                    if cluster != self.cluster.to_string() {
                        return Err(format!("this super belongs to {cluster}, this validator to {}", self.cluster));
                    }
                    self.welcomed(came, last_batch).await?;
                    welcome = true;
                    drop(turn.take());
                    tracing::info!(%address, "attached to a super");
                    self.view.send_modify(|view| {
                        view.supers.push(address.to_owned());
                        view.refused = None;
                    });
                }
                ToValidator::Refused(code, detail) => {
                    let why = format!("refused ({code}): {detail}");
                    self.view.send_modify(|view| view.refused = Some(why.clone()));
                    return Err(why);
                }
                ToValidator::Leading(leads) => {
                    (leading, accused) = (leads, BTreeSet::new());
                    self.view.send_modify(|view| {
                        if leads {
                            view.leader = Some(key);
                        } else if view.leader == Some(key) {
                            view.leader = None;
                        }
                    });
                }
                ToValidator::Set(set) => {
                    let known = self.directory.borrow().as_ref().map(|directory| directory.validators.version);
                    if known != Some(set.validators.version) {
                        self.stale.notify_one();
                    }
                    self.signer.set(*set);
                }
                ToValidator::Policy { digest, component, config } => {
                    let (signer, out) = (self.signer.clone(), out.clone());
                    tokio::spawn(async move {
                        let why_not = signer.prepare(digest, component, config).await.err();
                        if let Some(why) = &why_not {
                            tracing::error!(policy = %digest, why, "a signing policy cannot run here");
                        }
                        let able = FromValidator::Able { policy: digest, why_not };
                        let _gone = out.send(records::from_validator_pb(&able)).await;
                    });
                }
                ToValidator::Batch(batch, contents) => self.signer.judge(*batch, *contents),
                ToValidator::Lead { batch, attempt } => {
                    let (signer, out) = (self.signer.clone(), out.clone());
                    tokio::spawn(async move {
                        if let Some(seal) = signer.gather(batch, attempt).await {
                            let seal = FromValidator::Seal(Box::new(seal));
                            let _gone = out.send(records::from_validator_pb(&seal)).await;
                        }
                    });
                }
                ToValidator::Sealed(batch) => {
                    self.signer.convict(&batch);
                    // Beside what comes next: several are written at once.
                    let (signer, store, lacks) =
                        (self.signer.clone(), Arc::clone(&self.store), Arc::clone(&self.lacks));
                    let out = out.clone();
                    tokio::spawn(async move {
                        if !signer.seal(*batch).await {
                            lacks.notify_one();
                        }
                        if let Ok(at) = store.complete_to() {
                            let _gone = out.send(records::from_validator_pb(&FromValidator::HeldTo(at))).await;
                        }
                    });
                }
                ToValidator::Alive => {}
            }
            for evidence in self.signer.accused().into_iter().filter(|_| leading) {
                if accused.insert(evidence.validator) {
                    say(FromValidator::Evidence(Box::new(evidence)));
                }
            }
        }
        if welcome { Ok(()) } else { Err("the super ended the stream before its welcome".into()) }
    }

    /// A validator that was there before and has no table now may have signed what it does not know of.
    async fn welcomed(&self, came: bool, last_batch: u64) -> Result<(), String> {
        let store = Arc::clone(&self.store);
        let abstains = tokio::task::spawn_blocking(move || -> Result<u64, store::StoreError> {
            if store.is_fresh()? {
                store.set_abstain_below(if came { last_batch } else { 0 })?;
            }
            store.abstain_below()
        });
        match abstains.await {
            Ok(Ok(batch)) => {
                if batch > 0 && came {
                    tracing::info!(
                        batch,
                        "this validator was in the set before and its table of signatures is new: it signs nothing that was \
                         ordered up to this batch"
                    );
                }
                self.signer.abstain_to(batch);
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the store failed".into()),
        }
    }
}
