//! Many followers on one super or a group of them: is every pong counted, and what does each super need for it?
//!
//! Each super is a process of its own, so that its processor time and memory are its own; the followers are the node's, each
//! with its key, its TLS connections and its declared port, in as many processes as their connections need.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use node::config::PeerAddress;
use node::events::Events;
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
const ATTACH: Duration = Duration::from_secs(900);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Connections of one process that plays followers: some files are its own.
const CONNECTIONS: u64 = 15_000;
/// Times that round trips are looked at while seconds count.
const SAMPLES: u32 = 5;
/// Set for a process that plays followers.
pub(crate) const AS_FOLLOWERS: &str = "BENCH_AS_FOLLOWERS";

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Followers.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Supers of the group; each follower attaches to two of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    supers: u16,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Length of a round, ms.
    #[arg(long, default_value_t = 1_000)]
    round_ms: u64,
    /// The pingward to measure; the one that this command was built with where none is named.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where the supers keep their files.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// What was seen within the seconds that count.
struct Seen {
    /// Members in the queue when it began.
    queue: u64,
    seconds: f64,
    /// Of each super.
    cpu_seconds: Vec<f64>,
    peak_mib: Vec<f64>,
    lost: u64,
    rounds: Vec<Round>,
    pongs: Vec<(String, u64)>,
    /// ms.
    round_trip_p99: f64,
}

/// Measures and prints; returns whether all targets were met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let dir = tempfile::tempdir_in(&options.dir)
        .with_context(|| format!("making a directory in {}", options.dir.display()))?;
    let group = SuperProcess::group(options.binary.as_deref(), dir.path(), options.round_ms, options.supers)?;
    let observers = u64::from(options.supers.min(2));
    let processes = (options.count * observers).div_ceil(CONNECTIONS).max(1);
    let mut players = Vec::new();
    for at in 0..processes {
        let count = options.count / processes + u64::from(at < options.count % processes);
        players.push(Player::start(count, &group)?);
    }
    let seen = measure(options, &group, players)?;
    Ok(print(options, &seen))
}

fn measure(options: &Options, group: &[SuperProcess], players: Vec<Player>) -> Result<Seen> {
    let started = Instant::now();
    let first = group.first().context("no super")?;
    until(ATTACH, "all followers are members", || Ok(first.members()? >= options.count))?;
    println!("{} followers are members after {:.1} s", options.count, started.elapsed().as_secs_f64());
    let ready = first.settled()? + FIRST_TURNS;
    until(ATTACH + Duration::from_millis(FIRST_TURNS * 2 * options.round_ms), "their first turns have come", || {
        Ok(first.settled()? >= ready)
    })?;

    let cpu = || group.iter().map(SuperProcess::cpu_seconds).collect::<Result<Vec<_>>>();
    let pongs = || {
        let mut all = BTreeMap::<String, u64>::new();
        for of in group {
            for (outcome, count) in of.pongs()? {
                *all.entry(outcome).or_default() += count;
            }
        }
        anyhow::Ok(all)
    };
    // A machine that is too busy with so many handshakes does not answer either: who is out then is counted, and not more.
    let queue = first.queue()?;
    let (settled, cpu_before, pongs_before, since) = (first.settled()?, cpu()?, pongs()?, Instant::now());
    players.iter().try_for_each(Player::begins)?;
    let mut trips = Vec::new();
    for _ in 0..SAMPLES {
        std::thread::sleep(Duration::from_secs(options.seconds) / SAMPLES);
        for of in group {
            trips.extend(of.round_trips()?);
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    let cpu_seconds = cpu()?.iter().zip(&cpu_before).map(|(after, before)| after - before).collect();
    let rounds = first.rounds(settled, first.settled()?)?;
    let counted = pongs()?.into_iter().map(|(outcome, now)| {
        let before = pongs_before.get(&outcome).copied().unwrap_or(0);
        (outcome, now - before)
    });
    let pongs = counted.collect();
    let peak_mib = group.iter().map(SuperProcess::peak_mib).collect::<Result<_>>()?;
    let lost = players.into_iter().map(Player::ends).sum::<Result<u64>>()?;
    trips.sort_unstable_by(f64::total_cmp);
    let round_trip_p99 = trips.get((trips.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
    Ok(Seen { queue, seconds, cpu_seconds, peak_mib, lost, rounds, pongs, round_trip_p99 })
}

/// A process that plays followers: this program in another part. It is told over its standard input and tells over its
/// standard output; it ends with it.
struct Player {
    child: Child,
}

impl Player {
    fn start(count: u64, group: &[SuperProcess]) -> Result<Self> {
        let supers: Vec<_> = group.iter().map(|of| of.grpc.to_string()).collect();
        let child = std::process::Command::new(std::env::current_exe()?)
            .env(AS_FOLLOWERS, format!("{count} {} {}", SuperProcess::CLUSTER, supers.join(" ")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { child })
    }

    /// What is lost from now on counts.
    fn begins(&self) -> Result<()> {
        let mut stdin = self.child.stdin.as_ref().context("a player without an input")?;
        Ok(stdin.write_all(b"begin\n")?)
    }

    /// Ends it; gives how many streams it lost.
    fn ends(mut self) -> Result<u64> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().context("a player without an output")?.read_to_string(&mut said)?;
        let lost = said.trim().parse().with_context(|| format!("a player said `{said}`"))?;
        self.child.wait()?;
        Ok(lost)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Plays followers until the input ends: how many, of which cluster, at which supers.
pub(crate) fn play(what: &str) -> Result<()> {
    let mut words = what.split(' ');
    let count: u64 = words.next().context("no count")?.parse()?;
    let cluster = words.next().context("no cluster")?;
    let supers = words.map(|address| {
        let address: SocketAddr = address.parse()?;
        Ok(PeerAddress { key: None, host: address.ip().to_string(), port: address.port() })
    });
    let supers: Vec<_> = supers.collect::<Result<_>>()?;
    let descriptors = node::listen::descriptors();
    let needed = count * supers.len().min(2) as u64 + 100;
    ensure!(descriptors > needed, "only {descriptors} files may be open at once: raise `ulimit -n`");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (stop, lost) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        // One for all: each has room for thousands of events, and nobody reads them.
        let events = Events::new(0);
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (view, watched) = watch::channel(FollowerView::default());
            tasks.spawn(count_losses(watched, Arc::clone(&lost), stop.clone()));
            let follower = run_follower(follower(cluster, &supers, &events)?, view, stop.clone());
            tasks.spawn(async move {
                if let Err(error) = follower.await {
                    eprintln!("a follower gave up: {error}");
                }
            });
        }
        let begun = Arc::clone(&lost);
        let told = tokio::task::spawn_blocking(move || {
            for line in std::io::stdin().lines() {
                if line? == "begin" {
                    begun.store(0, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
        told.await??;
        println!("{}", lost.load(Ordering::Relaxed));
        anyhow::Ok(())
    })?;
    // Thousands of goodbyes would take longer than all that was measured.
    runtime.shutdown_background();
    Ok(())
}

/// A follower with a key of its own, from a port of its own.
fn follower(cluster: &str, supers: &[PeerAddress], events: &Events) -> Result<Settings> {
    Ok(Settings {
        key: NodeKey::generate()?,
        known: Known::in_memory(),
        cluster: cluster.into(),
        name: String::new(),
        supers: supers.to_vec(),
        connect_port: 0,
        connect_from: None,
        address: String::new(),
        rest: None,
        once: false,
        wires: Wires::default(),
        events: events.clone(),
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

fn until(within: Duration, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !is_so()? {
        if since.elapsed() > within {
            bail!("waited {} s until {what}", within.as_secs());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn print(options: &Options, seen: &Seen) -> bool {
    let sum = |of: fn(&Round) -> u64| seen.rounds.iter().map(of).sum::<u64>();
    let (up, down, unknown) = (sum(|round| round.up), sum(|round| round.down), sum(|round| round.unknown));
    let expected = seen.queue * seen.rounds.len() as u64;
    let suspect = seen.rounds.iter().filter(|round| round.suspect).count();
    let (count, supers) = (options.count, options.supers);
    println!("\n{count} followers on {supers} supers, rounds of {} ms, {:.1} s", options.round_ms, seen.seconds);
    println!("  rounds settled: {}, of them suspect: {suspect}", seen.rounds.len());
    println!("  members seen up: {up} of {expected}; down: {down}; unknown: {unknown}");
    for (outcome, count) in &seen.pongs {
        println!("  pings and answers, {outcome}: {count}");
    }
    for (at, (cpu, mib)) in seen.cpu_seconds.iter().zip(&seen.peak_mib).enumerate() {
        println!("  super-{}: {:.3} cores, {mib:.0} MiB at most", at + 1, cpu / seen.seconds);
    }
    let cores = seen.cpu_seconds.iter().copied().fold(0.0, f64::max) / seen.seconds;
    let peak = seen.peak_mib.iter().copied().fold(0.0, f64::max);
    println!("\ntargets");
    let targets = [
        print_target("members put out while all of them came", options.count.abs_diff(seen.queue) as f64, 0.0, ""),
        print_target("members that were there and not seen", expected.abs_diff(up) as f64, 0.0, ""),
        print_target("followers without a stream, times", seen.lost as f64, 0.0, ""),
        print_target("ping to pong, 99th percentile", seen.round_trip_p99, 50.0, "ms"),
        print_target("a super's processor, at most", cores, 1.0, "cores"),
        print_target(
            "a super's memory, peak, at most",
            peak,
            if options.count > 1_000 { 1_024.0 } else { 256.0 },
            "MiB",
        ),
    ];
    // Without rounds nothing was shown.
    !seen.rounds.is_empty() && targets.into_iter().all(|met| met)
}
