//! Plays seeds. See the head of the library.
//!
//! ```text
//! cargo run --release --bin sim -- --seeds 0..20000
//! cargo run --release --bin sim -- --seed 123
//! cargo run --release --bin sim -- --paths --seeds 0..10
//! cargo run --release --bin sim -- --long --seeds 0..2
//! cargo run --release --bin sim -- --real --seeds 0..20
//! ```
//!
//! `--paths`: what lossy paths alone cost a follower, `--short-paths`: the same in rounds of a second; `--long`: 100,000
//! rounds each; `--real`: over the Raft that the program has.
//!
//! It exits 1 when a seed fails, and prints the command that plays it again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sim::{Options, Played, Scene, play};

/// Seeds between two lines of progress.
const PROGRESS: u64 = 500;

fn main() -> ExitCode {
    let mut options = Options::default();
    let (mut seed, mut seeds) = (None, 0..200);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let scene = match word.as_str() {
            "--paths" => Some(Scene::Paths),
            "--short-paths" => Some(Scene::ShortPaths),
            "--long" => Some(Scene::Long),
            "--real" => Some(Scene::Real),
            _ => None,
        };
        if let Some(scene) = scene {
            options.scene = scene;
            continue;
        }
        let value = match word.as_str() {
            "--seed" | "--seeds" => words.next(),
            _ => None,
        };
        match (word.as_str(), value.as_deref().and_then(range)) {
            ("--seed", Some(range)) => seed = Some(range.start),
            ("--seeds", Some(range)) => seeds = range,
            _ => {
                eprintln!(
                    "usage: sim [--paths | --short-paths | --long | --real] [--seed N | --seeds A..B]; `{word}` is not understood"
                );
                return ExitCode::from(2);
            }
        }
    }
    match seed {
        Some(seed) => one(seed, options),
        None => many(seeds, options),
    }
}

/// `A..B`, or `A` alone.
fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..").unwrap_or((text, ""));
    let from: u64 = from.parse().ok()?;
    let to = if to.is_empty() { from + 1 } else { to.parse().ok()? };
    Some(from..to)
}

/// Plays one and tells it.
fn one(seed: u64, options: Options) -> ExitCode {
    let played = play(seed, Options { told: true, ..options });
    for line in &played.lines {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} events in {} simulated s, digest {:016x}",
        played.events,
        played.simulated_us / sim::S,
        played.digest
    );
    tell(&played.counts);
    ExitCode::from(u8::from(played.wrong.is_some()))
}

/// Plays many on all cores.
fn many(seeds: Range<u64>, options: Options) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let all: Mutex<Total> = Mutex::default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let played = play(seed, options);
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.add(&played, options);
                    if all.seeds.is_multiple_of(PROGRESS) {
                        println!("{} seeds, {} failed, {} s", all.seeds, all.failed.len(), began.elapsed().as_secs());
                    }
                }
            });
        }
    });
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let hours = all.simulated_us as f64 / sim::S as f64 / 3_600.0;
    println!(
        "{} seeds, {} events, {hours:.1} cluster-hours simulated in {:.0} s",
        all.seeds,
        all.events,
        began.elapsed().as_secs_f64()
    );
    tell(&all.counts);
    tell_false(&all, options);
    for seed in &all.failed {
        println!("failed: {}", again(*seed, options));
    }
    ExitCode::from(u8::from(!all.failed.is_empty()))
}

#[derive(Default)]
struct Total {
    seeds: u64,
    events: u64,
    simulated_us: u64,
    counts: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

impl Total {
    fn add(&mut self, played: &Played, options: Options) {
        self.seeds += 1;
        self.events += played.events;
        self.simulated_us += played.simulated_us;
        for (what, count) in &played.counts {
            let total = self.counts.entry(what).or_default();
            let is_peak = what.starts_with("longest") || what.starts_with("largest");
            *total = if is_peak { (*total).max(*count) } else { *total + count };
        }
        if let Some(wrong) = &played.wrong {
            self.failed.push(played.seed);
            println!("seed {}: {wrong}", played.seed);
            println!("  {}", again(played.seed, options));
        }
    }
}

/// The command that plays a seed again.
fn again(seed: u64, options: Options) -> String {
    let scene = match options.scene {
        Scene::Drawn => "",
        Scene::Paths => "--paths ",
        Scene::ShortPaths => "--short-paths ",
        Scene::Long => "--long ",
        Scene::Real => "--real ",
    };
    format!("cargo run --release --bin sim -- {scene}--seed {seed}")
}

/// How often lossy paths alone put a follower out.
fn tell_false(all: &Total, options: Options) {
    let hours_of = |rounds: u64, seconds: u64| rounds as f64 * seconds as f64 / 3_600.0;
    let count = |what| all.counts.get(what).copied().unwrap_or_default();
    let seconds = match options.scene {
        Scene::Paths => 10,
        Scene::ShortPaths => 1,
        Scene::Drawn | Scene::Long | Scene::Real => return,
    };
    let hours = hours_of(count("member rounds"), seconds);
    println!(
        "{hours:.0} follower-hours with 1 % loss and 200 ms of jitter: {} turns missed, {} false suspensions",
        count("turns missed"),
        count("false suspensions")
    );
}

fn tell(counts: &BTreeMap<&'static str, u64>) {
    for (what, count) in counts {
        println!("{count:>12} {what}");
    }
}
