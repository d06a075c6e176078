//! One round of a large cluster: what its two policy calls cost, and what its settlement costs.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use kernel::columns::Deciding;
use kernel::command::Command;
use policy::Admitted;
use store::{Disk, Store};

use crate::figures::{Samples, print_head, print_target};
use crate::native::Twins;
use crate::world::{Rules, World};

/// Rounds that are not counted: caches fill, files grow to their size.
const WARM_UP: u32 = 5;

/// Calls one after the other, for what they cost with warm caches.
const AGAIN: u32 = 200;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Members in the queue.
    #[arg(long, default_value_t = 10_000)]
    members: u32,
    /// Rounds that are measured.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Where the files are written; the disk under it is what is measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Bound of history, bytes: a small one makes every commit drop an old round.
    #[arg(long, default_value_t = 1 << 30)]
    history_max_bytes: u64,
}

/// Times of all rounds.
#[derive(Default)]
struct Times {
    gather: Samples,
    wasm: Samples,
    native: Samples,
    copied: Samples,
    decide: Samples,
    apply: Samples,
    commit: Samples,
    settle: Samples,
    plain: Samples,
    differ: u32,
    written: u64,
    /// Calls that are made again, and their medians, WebAssembly and native.
    again: u32,
    warm: (Duration, Duration),
}

/// Measures and prints; returns whether all targets were met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let rules = Rules::admit()?;
    let dir = tempfile::tempdir_in(&options.dir)
        .with_context(|| format!("making a directory in {}", options.dir.display()))?;
    let path = dir.path().join("state.redb");
    let store = Store::open(&Disk::file(&path), options.history_max_bytes)?;
    let mut world = World::new(store, options.members, &rules.in_force())?;
    let mut plain = OpenOptions::new().create(true).append(true).open(dir.path().join("plain"))?;
    let mut times = Times::default();
    for _ in 0..=WARM_UP {
        round(&mut world, &rules.reward, &rules.ban, &mut plain, &mut Times::default())?;
    }
    let history = world.store.history_bytes()?;
    for _ in 0..options.rounds {
        round(&mut world, &rules.reward, &rules.ban, &mut plain, &mut times)?;
    }
    let mut warm = Times { again: AGAIN, ..Times::default() };
    round(&mut world, &rules.reward, &rules.ban, &mut plain, &mut warm)?;
    times.warm = warm.warm;
    ensure!(world.state.queue.len() == options.members as usize, "members left the queue: the figures mean nothing");
    ensure!(times.differ == 0, "{} answers differ from those of the native twins", times.differ);
    print(options, &times, &path, world.store.history_bytes()?.saturating_sub(history))
}

/// Observes, decides, applies and commits one round.
fn round(world: &mut World, reward: &Admitted, ban: &Admitted, plain: &mut File, times: &mut Times) -> Result<()> {
    let (report, partials) = world.observe()?;
    world.now_ms += 10_000;
    let deciding = times.gather.time(|| Deciding::gather(&world.state, report, partials, world.now_ms));
    let (ban, reward) = (Twins::new(&ban.policy, times.again), Twins::new(&reward.policy, times.again));
    let start = Instant::now();
    let (settle, _) = deciding.run(Some(&ban), Some(&reward), policy::engine_name());
    let decide = start.elapsed();
    let (ban, reward) = (ban.take(), reward.take());
    times.wasm.push(ban.wasm + reward.wasm);
    times.native.push(ban.native + reward.native);
    let beside = ban.native + reward.native + ban.copying + reward.copying;
    times.copied.push(beside);
    times.decide.push(decide.saturating_sub(beside));
    times.differ += ban.differ + reward.differ;
    if times.again > 0 {
        times.warm = (ban.again.0 + reward.again.0, ban.again.1 + reward.again.1);
    }

    let before = written()?;
    let command = Command::Settle(Box::new(settle));
    let start = Instant::now();
    times.apply.time(|| world.apply(command))?;
    times.commit.time(|| world.commit())?;
    times.settle.push(start.elapsed());
    let bytes = written()? - before;
    times.written += bytes;
    let bytes = vec![0xa5; usize::try_from(bytes)?];
    times.plain.time(|| -> Result<()> {
        plain.write_all(&bytes)?;
        Ok(plain.sync_data()?)
    })
}

/// Bytes that this process has handed to the system for writing.
fn written() -> Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io").context("reading /proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).context("no `wchar` in /proc/self/io")?;
    Ok(line.trim().parse()?)
}

fn print(options: &Options, times: &Times, path: &Path, history: u64) -> Result<bool> {
    let rounds = u64::from(options.rounds.max(1));
    println!("{} members, {rounds} rounds, files in {}", options.members, options.dir.display());
    print_head("deciding a round");
    times.wasm.print("both policies, WebAssembly, all limits");
    times.native.print("both rules, natively");
    times.copied.print("  with a copy of the columns for each");
    let warm = (times.warm.0.as_secs_f64() * 1_000.0, times.warm.1.as_secs_f64() * 1_000.0);
    println!("  {:<46} {:>8.3}", "one after the other: WebAssembly", warm.0);
    println!("  {:<46} {:>8.3}", "one after the other: natively", warm.1);
    times.gather.print("columns out of the state (under its lock)");
    times.decide.print("all of deciding: digests, calls, checks, deltas");
    print_head("settling it");
    times.settle.print("apply and commit");
    times.apply.print("  apply");
    times.commit.print("  commit, durable");
    times.plain.print("plain append and fdatasync of the same bytes");
    println!(
        "\n  written a round: {} kB; kept as history: {} kB",
        times.written / rounds / 1_000,
        history / rounds / 1_000
    );
    println!("  file after it: {} MB", std::fs::metadata(path)?.len() / 1_000_000);
    println!("\ntargets");
    let targets = [
        print_target("both policies against native, in a round", times.wasm.ms(50) / times.native.ms(50), 4.0, "x"),
        print_target("  one after the other, caches warm", warm.0 / warm.1, 4.0, "x"),
        print_target("  with a copy of the columns for each", times.wasm.ms(50) / times.copied.ms(50), 4.0, "x"),
        print_target("both policies, median", times.wasm.ms(50), 3.0, "ms"),
        print_target("settlement with its commit, median", times.settle.ms(50), 20.0, "ms"),
        print_target("settlement with its commit, 99 %", times.settle.ms(99), 20.0, "ms"),
    ];
    Ok(targets.into_iter().all(|met| met))
}
