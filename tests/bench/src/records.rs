//! Records from the hand of a user to the seal of a quorum: whole nodes of one process, with files, gRPC and TLS on loopback.
//!
//! Each client hands a record of 256 bytes to a follower and waits until that follower keeps it sealed, checked, before the
//! next. `own` records are authored by the follower, whose signature counts for all that it hands on at once; `signed` ones
//! each have an author's signature, which a super and every validator check. Beside it stand what one check of a signature
//! and one append with fdatasync take here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use kernel::command::{Command, Operate, Operation, Operator};
use kernel::envelope::{RECORD_TYPE, verify};
use kernel::id::{Digest, LogIndex};
use kernel::records::order::Ordered;
use kernel::records::record::Record;
use kernel::records::validators::Validator;
use node::config::{Config, PeerAddress, Role, Storage};
use node::context::RecordsPart;
use node::keys::NodeKey;
use node::records::header::{Header, draw, own};
use node::server::{Node, StartParts};
use tokio::sync::oneshot;

use crate::figures::Samples;

const BODY_BYTES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(120);
const EXPIRES_MS: u64 = 600_000;
/// From submit to sealed, with one validator dead, at 100 records a second.
const TARGET_MS: f64 = 250.0;
const PAGE_BYTES: usize = 8 << 20;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Clients at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    clients: Vec<usize>,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Supers.
    #[arg(long, default_value_t = 3)]
    supers: usize,
    /// Validators.
    #[arg(long, default_value_t = 4)]
    validators: usize,
    /// Followers, which take the records in and keep all of them.
    #[arg(long, default_value_t = 3)]
    followers: usize,
    /// Records a second of the last table, in which one validator is dead.
    #[arg(long, default_value_t = 100)]
    rate: u64,
}

/// Measures and prints; whether the target is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let mut lab = Lab::start(folder.path(), options).await?;
    println!(
        "{} supers, {} validators, {} followers in one process, files in {}, records of {BODY_BYTES} bytes",
        options.supers,
        options.validators,
        options.followers,
        folder.path().display()
    );
    println!(
        "{:>8} {:>8} {:>10} {:>9} {:>9} {:>11} {:>14} {:>10} {:>14}",
        "authors",
        "clients",
        "sealed/s",
        "p50 ms",
        "p99 ms",
        "ordered ms",
        "records/batch",
        "verify us",
        "fdatasync us"
    );
    for signed in [false, true] {
        for clients in &options.clients {
            let (checks, fdatasync) = (verify_us()?, probe(folder.path())?);
            let before = lab.batches();
            let Loaded { count, rate, times, ordered } =
                lab.load(*clients, signed, Duration::from_secs(options.seconds)).await?;
            let batches = lab.batches().saturating_sub(before).max(1);
            let authors = if signed { "signed" } else { "own" };
            let (p50, p99, each) = (times.ms(50), times.ms(99), count as f64 / batches as f64);
            let ordered = ordered.ms(50);
            println!(
                "{authors:>8} {clients:>8} {rate:>10.0} {p50:>9.2} {p99:>9.2} {ordered:>11.2} {each:>14.1} {checks:>10.1} {fdatasync:>14.0}"
            );
        }
    }
    let met = lab.one_dead(options).await?;
    lab.everywhere().await?;
    println!("every record is sealed once, verified and kept on every follower and validator");
    Ok(met)
}

/// What one check of a signature takes, µs.
fn verify_us() -> Result<f64> {
    let key = NodeKey::generate()?;
    let payload = [7; BODY_BYTES];
    let signature = key.sign(RECORD_TYPE, &payload);
    let began = Instant::now();
    for _ in 0..200 {
        ensure!(verify(&key.id(), RECORD_TYPE, &payload, &signature), "a good signature verifies");
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / 200.0)
}

/// The median of 200 appends of 256 bytes with fdatasync, µs.
fn probe(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("probe"))?;
    let mut samples = Samples::default();
    for _ in 0..200 {
        samples.time(|| file.write_all(&[7; 256]).and_then(|()| file.sync_data()))?;
    }
    Ok(samples.ms(50) * 1_000.0)
}

/// What a load came to.
struct Loaded {
    /// Records that were sealed.
    count: usize,
    /// How many a second.
    rate: f64,
    /// How long each took until it was kept, sealed.
    times: Samples,
    /// And until it had its place.
    ordered: Samples,
}

struct Lab {
    supers: Vec<Node>,
    validators: Vec<Node>,
    followers: Vec<Arc<Door>>,
    nodes: Vec<Node>,
}

/// A follower that takes records in, and who waits there for seals.
struct Door {
    author: kernel::id::NodeId,
    part: RecordsPart,
    waiting: Mutex<BTreeMap<Digest, oneshot::Sender<()>>>,
}

fn config(role: Role, name: &str, folder: &Path) -> Config {
    let mut config = Config::in_memory(role, name, &folder.join(name));
    config.storage = Storage::Disk;
    // All is kept: what is looked for at the end is every record.
    config.records.keep_bytes = 0;
    config
}

impl Lab {
    async fn start(folder: &Path, options: &Options) -> Result<Self> {
        let (mut supers, mut addresses): (Vec<Node>, Vec<PeerAddress>) = (Vec::new(), Vec::new());
        for number in 1..=options.supers {
            let mut config = config(Role::Super, &format!("super-{number}"), folder);
            config.settings.interval_ms = 1_000;
            config.supers.clone_from(&addresses);
            let node = Node::start(config, StartParts::default()).await?;
            addresses.push(at(&node)?);
            if let Some(first) = supers.first() {
                let leader = &group(first)?;
                let key = node.context().node;
                leader.add(key, node.grpc_address().context("an address")?.to_string()).await?;
                let promoted = async {
                    while let Err(error) = leader.promote(key).await {
                        tracing::debug!(%error, "not yet promoted");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::time::timeout(PATIENCE, promoted).await.context("a super does not catch up")?;
            }
            supers.push(node);
        }
        let leader = group(supers.first().context("a super")?)?;
        let mut validators = Vec::new();
        for number in 1..=options.validators {
            let name = format!("validator-{number}");
            let mut config = config(Role::Validator, &name, folder);
            config.supers.clone_from(&addresses);
            let node = Node::start(config, StartParts::default()).await?;
            let address = node.grpc_address().context("an address")?.to_string();
            let validator = Validator { node: node.context().node, name, address, came: false };
            let what = Operation::AddValidator(validator);
            let operate = Operate { by: Operator::Console, reason: String::new(), now_ms: leader.now_ms(), what };
            leader.propose(Command::Operate(operate)).await?.map_err(|reject| anyhow!("{reject:?}"))?;
            validators.push(node);
        }
        let (mut followers, mut nodes) = (Vec::new(), Vec::new());
        for number in 1..=options.followers {
            let mut config = config(Role::Follower, &format!("follower-{number}"), folder);
            config.supers.clone_from(&addresses);
            let node = Node::start(config, StartParts::default()).await?;
            let part = node.context().records().context("a follower takes records")?.clone();
            let mut store = part.store.clone();
            tokio::time::timeout(PATIENCE, store.wait_for(Option::is_some)).await.context("no directory")??;
            let door = Arc::new(Door { author: node.context().node, part, waiting: Mutex::default() });
            tokio::spawn(Arc::clone(&door).watch());
            followers.push(door);
            nodes.push(node);
        }
        for validator in &validators {
            let context = validator.context();
            let mut view = context.as_validator().context("a validator")?.view.clone();
            let attached = view.wait_for(|view| view.supers.len() >= options.supers && view.leader.is_some());
            tokio::time::timeout(PATIENCE, attached).await.context("a validator is not attached")??;
        }
        let lab = Self { supers, validators, followers, nodes };
        // The first one waits for all connections.
        lab.load(1, false, Duration::from_millis(200)).await?;
        Ok(lab)
    }

    /// The followers take turns.
    fn door(&self, turn: usize) -> Option<Arc<Door>> {
        self.followers.get(turn.checked_rem(self.followers.len())?).cloned()
    }

    fn batches(&self) -> u64 {
        self.supers
            .first()
            .and_then(|node| group(node).ok())
            .map_or(0, |group| group.read(|state| state.meta.records.batch))
    }

    async fn load(&self, clients: usize, signed: bool, time: Duration) -> Result<Loaded> {
        let began = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let door = self.door(client);
                tokio::spawn(async move {
                    let (door, key) = (door.context("a follower")?, NodeKey::generate()?);
                    let mut samples = Vec::new();
                    while began.elapsed() < time {
                        samples.push(door.submit(signed.then_some(&key)).await?);
                    }
                    anyhow::Ok(samples)
                })
            })
            .collect();
        let (mut times, mut placed, mut count) = (Samples::default(), Samples::default(), 0_usize);
        for task in tasks {
            for (ordered, sealed) in task.await?? {
                placed.push(ordered);
                times.push(sealed);
                count += 1;
            }
        }
        Ok(Loaded { count, rate: count as f64 / began.elapsed().as_secs_f64(), times, ordered: placed })
    }

    /// So many records a second, while one validator is dead.
    async fn one_dead(&mut self, options: &Options) -> Result<bool> {
        if self.validators.len() < 4 {
            println!("{} validators tolerate no failure: the rest is left out", self.validators.len());
            return Ok(true);
        }
        let dead = self.validators.pop().context("a validator")?;
        dead.kill().await;
        let pause = Duration::from_secs_f64(1.0 / options.rate.max(1) as f64);
        let mut ticks = tokio::time::interval(pause);
        // A percentile of hundreds would be a handful.
        let seconds = options.seconds * 4;
        let (began, mut asked) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_secs(seconds) {
            ticks.tick().await;
            let door = self.door(asked.len());
            asked.push(tokio::spawn(async move {
                let (door, key) = (door.context("a follower")?, NodeKey::generate()?);
                anyhow::Ok(door.submit(Some(&key)).await?.1)
            }));
        }
        let mut times = Samples::default();
        let count = asked.len();
        for task in asked {
            times.push(task.await??);
        }
        let (p50, p99, worst) = (times.ms(50), times.ms(99), times.ms(100));
        println!(
            "one of {} validators dead, {} records/s for {seconds} s from its death: {count} sealed, p50 {p50:.1} ms, p99 {p99:.1} ms \
             (target {TARGET_MS} ms), worst {worst:.1} ms",
            options.validators, options.rate
        );
        Ok(p99 < TARGET_MS)
    }

    /// Waits until every node that runs keeps as many as were ordered.
    async fn everywhere(&self) -> Result<()> {
        let group = group(self.supers.first().context("a super")?)?;
        let (ordered, sealed_to) = group.read(|state| (state.meta.records.sequence, state.meta.records.sealed_at));
        for node in self.nodes.iter().chain(&self.validators) {
            let context = node.context();
            let part = context.records().context("a node that keeps records")?;
            let mut sealed = part.sealed.clone();
            let whole = sealed.wait_for(|at| *at >= sealed_to);
            tokio::time::timeout(PATIENCE, whole)
                .await
                .with_context(|| format!("{} lacks records", context.name))??;
            let store = part.store.borrow().clone().context("a store")?;
            let figures = store.figures()?;
            if figures.records != ordered {
                bail!("{} keeps {} records, {ordered} were ordered", context.name, figures.records);
            }
        }
        Ok(())
    }
}

impl Door {
    /// Hands a record in and waits until it is kept here, sealed. Gives how long it took until it had its place, and in all.
    async fn submit(&self, key: Option<&NodeKey>) -> Result<(Duration, Duration)> {
        let asked = Instant::now();
        let cluster = self.part.cluster.borrow().clone().context("the cluster is known")?;
        let body = [b'x'; BODY_BYTES];
        let expires_ms = now_ms() + EXPIRES_MS;
        let record = match key {
            None => own(self.author, &cluster, None, expires_ms, &body)?,
            Some(key) => {
                let payload = Header { cluster: cluster.to_string(), nonce: draw()?, expires_ms }.payload(&body);
                Record { author: key.id(), signature: Some(key.sign(RECORD_TYPE, &payload)), payload }
            }
        };
        let (sealed, waits) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(record.digest(), sealed);
        match self.part.ingress.take(record).await {
            Ok(Ordered::At { .. }) => {}
            Ok(Ordered::Refused(reject)) => bail!("refused: {reject:?}"),
            Err((code, detail)) => bail!("not taken ({code}): {detail}"),
        }
        let ordered = asked.elapsed();
        tokio::time::timeout(PATIENCE, waits).await.context("it was never sealed")??;
        Ok((ordered, asked.elapsed()))
    }

    async fn watch(self: Arc<Self>) {
        let (mut sealed, mut at) = (self.part.sealed.clone(), LogIndex(0));
        loop {
            sealed.mark_unchanged();
            let store = self.part.store.borrow().clone();
            let page = match store {
                Some(store) => tokio::task::spawn_blocking(move || store.after(at, PAGE_BYTES, 64)).await,
                None => return,
            };
            let Ok(Ok(page)) = page else { return };
            if page.is_empty() {
                if sealed.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for batch in page {
                at = batch.at;
                for record in &batch.records {
                    if let Some(waits) = waiting.remove(&record.digest()) {
                        let _gone = waits.send(());
                    }
                }
            }
        }
    }
}

fn at(node: &Node) -> Result<PeerAddress> {
    let grpc = node.grpc_address().context("an address")?;
    Ok(PeerAddress { key: Some(node.context().node), host: grpc.ip().to_string(), port: grpc.port() })
}

fn group(node: &Node) -> Result<node::group::Group> {
    let context = node.context();
    Ok(context.as_super().context("a super")?.group.clone())
}

/// ms since 1970.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
