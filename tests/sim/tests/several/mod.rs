//! What tests of many seeds have in common.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Options, Played, play};

/// Plays seeds on all cores until one is wanted no more.
pub fn many(seeds: Range<u64>, options: Options, enough: impl Fn(&Played) -> bool + Sync) -> Vec<Played> {
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
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
                    if enough(&played) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                    all.lock().unwrap().push(played);
                }
            });
        }
    });
    all.into_inner().unwrap()
}

/// None of them failed; else it says how to play them again, with these words before the seed.
pub fn nothing_is_wrong(all: &[Played], words: &str) {
    let failed: Vec<String> = all
        .iter()
        .filter_map(|played| played.wrong.as_ref().map(|wrong| (played.seed, wrong)))
        .map(|(seed, wrong)| format!("seed {seed}: {wrong}\n  cargo run --release --bin sim -- {words}--seed {seed}"))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Each of these happened at least so many times in all of them together.
pub fn happened(all: &[Played], least: &[(&str, u64)]) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in all.iter().flat_map(|played| &played.counts) {
        *counts.entry(what).or_default() += count;
    }
    for (what, least) in least {
        let found = counts.get(what).copied().unwrap_or_default();
        assert!(found >= *least, "{what}: {found} of at least {least}; all: {counts:#?}");
    }
}

/// The planted bug is seen within so many seeds, as one of these words.
pub fn caught(options: Options, seeds: u64, words: &[&str]) {
    let fits =
        |played: &Played| played.wrong.as_ref().is_some_and(|wrong| words.iter().any(|words| wrong.contains(words)));
    let all = many(0..seeds, options, fits);
    let wrongs: Vec<_> = all.iter().filter_map(|played| played.wrong.as_ref()).collect();
    assert!(all.iter().any(fits), "{:?}: {wrongs:#?}", options.plant);
}
