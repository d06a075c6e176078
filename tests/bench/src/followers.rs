//! Many followers on one super: is every pong counted, and what does the super need for it?
//!
//! The super is a process of its own, so that its processor time and memory are its own; the followers are the node's,
//! each with its key, its TLS connection and its declared port, all in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use node::config::PeerAddress;
use node::keys::NodeKey;
use node::known::Known;
use node::roles::follower::{FollowerFaults, FollowerView, Settings, run as run_follower};
use node::wires::Wires;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::figures::print_target;
use crate::process::{Round, SuperProcess};

/// Rounds after the last join before anything is counted: everybody has had its first turn.
const FIRST_TURNS: u64 = 3;
/// For all of them to attach and join.
const ATTACH: Duration = Duration::from_secs(120);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Followers.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Length of a round, ms.
    #[arg(long, default_value_t = 1_000)]
    round_ms: u64,
    /// The pingward to measure; the one that this command was built with where none is named.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where the super keeps its files.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// What was seen within the seconds that count.
struct Seen {
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
    lost: u64,
    rounds: Vec<Round>,
    pongs: Vec<(String, u64)>,
}

/// Measures and prints; returns whether all targets were met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let descriptors = node::listen::descriptors();
    ensure!(descriptors > options.count + 100, "only {descriptors} files may be open at once: raise `ulimit -n`");
    let dir = tempfile::tempdir_in(&options.dir)
        .with_context(|| format!("making a directory in {}", options.dir.display()))?;
    let process = SuperProcess::start(options.binary.as_deref(), dir.path(), options.round_ms)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seen = runtime.block_on(measure(options, &process))?;
    Ok(print(options, &seen))
}

async fn measure(options: &Options, process: &SuperProcess) -> Result<Seen> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let lost = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..options.count {
        let (view, watched) = watch::channel(FollowerView::default());
        tasks.spawn(count_losses(watched, Arc::clone(&lost), stop.clone()));
        let follower = run_follower(follower(process)?, view, stop.clone());
        tasks.spawn(async move {
            if let Err(error) = follower.await {
                eprintln!("a follower gave up: {error}");
            }
        });
    }
    until(ATTACH, "all followers are in the queue", || Ok(process.queue()? >= options.count)).await?;
    println!("{} followers in the queue after {:.1} s", options.count, started.elapsed().as_secs_f64());
    let first = process.settled()? + FIRST_TURNS;
    until(ATTACH, "their first turns have come", || Ok(process.settled()? >= first)).await?;

    let (first, cpu, pongs, lost_before) =
        (process.settled()?, process.cpu_seconds()?, process.pongs()?, lost.load(Ordering::Relaxed));
    let since = Instant::now();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let (seconds, cpu_seconds) = (since.elapsed().as_secs_f64(), process.cpu_seconds()? - cpu);
    let lost = lost.load(Ordering::Relaxed) - lost_before;
    let rounds = process.rounds(first, process.settled()?)?;
    let counted = process.pongs()?.into_iter().map(|(outcome, now)| {
        let before = pongs.iter().find(|(name, _)| *name == outcome).map_or(0, |(_, before)| *before);
        (outcome, now - before)
    });
    let seen = Seen { seconds, cpu_seconds, peak_mib: process.peak_mib()?, lost, rounds, pongs: counted.collect() };
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(seen)
}

/// A follower with a key of its own, from a port of its own.
fn follower(process: &SuperProcess) -> Result<Settings> {
    Ok(Settings {
        key: NodeKey::generate()?,
        known: Known::in_memory(),
        cluster: process.cluster().into(),
        name: String::new(),
        supers: vec![PeerAddress { key: None, host: process.grpc.ip().to_string(), port: process.grpc.port() }],
        connect_port: 0,
        address: String::new(),
        rest: None,
        once: false,
        wires: Wires::default(),
        faults: Arc::new(FollowerFaults::default()),
    })
}

/// Counts how often a follower that was attached is not any more.
async fn count_losses(mut view: watch::Receiver<FollowerView>, lost: Arc<AtomicU64>, stop: CancellationToken) {
    let mut was_attached = false;
    while view.changed().await.is_ok() && !stop.is_cancelled() {
        let is_attached = view.borrow_and_update().is_attached();
        if was_attached && !is_attached {
            lost.fetch_add(1, Ordering::Relaxed);
        }
        was_attached = is_attached;
    }
}

async fn until(within: Duration, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !is_so()? {
        if since.elapsed() > within {
            bail!("waited {} s until {what}", within.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn print(options: &Options, seen: &Seen) -> bool {
    let sum = |of: fn(&Round) -> u64| seen.rounds.iter().map(of).sum::<u64>();
    let (up, down, unknown) = (sum(|round| round.up), sum(|round| round.down), sum(|round| round.unknown));
    let expected = options.count * seen.rounds.len() as u64;
    let suspect = seen.rounds.iter().filter(|round| round.suspect).count();
    println!("\n{} followers, rounds of {} ms, {:.1} s", options.count, options.round_ms, seen.seconds);
    println!("  rounds settled: {}, of them suspect: {suspect}", seen.rounds.len());
    println!("  members seen up: {up} of {expected}; down: {down}; unknown: {unknown}");
    for (outcome, count) in &seen.pongs {
        println!("  pings and answers, {outcome}: {count}");
    }
    println!("  streams lost: {}", seen.lost);
    println!("\ntargets");
    let targets = [
        print_target("members that were there and not seen", expected.abs_diff(up) as f64, 0.0, ""),
        print_target("streams lost", seen.lost as f64, 0.0, ""),
        print_target("the super's processor", seen.cpu_seconds / seen.seconds, 1.0, "cores"),
        print_target("the super's memory, peak", seen.peak_mib, 256.0, "MiB"),
    ];
    // Without rounds nothing was shown.
    !seen.rounds.is_empty() && targets.into_iter().all(|met| met)
}
