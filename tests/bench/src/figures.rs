//! Samples of a time, and how they are printed.

use std::time::{Duration, Instant};

/// Times of one thing, measured many times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Runs it and keeps how long it took.
    pub(crate) fn time<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = run();
        self.0.push(start.elapsed());
        value
    }

    /// Keeps a time.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that so many percent stay within, ms.
    pub(crate) fn ms(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    }

    /// The median; zero when there is none.
    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// One line: what, median, 99th percentile, worst.
    pub(crate) fn print(&self, what: &str) {
        println!("  {what:<46} {:>8.3} {:>8.3} {:>8.3}", self.ms(50), self.ms(99), self.ms(100));
    }
}

/// The head of a table of samples.
pub(crate) fn print_head(what: &str) {
    println!("\n{what:<48} {:>8} {:>8} {:>8}", "p50 ms", "p99 ms", "max ms");
}

/// A figure beside its target; returns whether it was met.
pub(crate) fn print_target(what: &str, found: f64, target: f64, unit: &str) -> bool {
    let met = found <= target;
    println!("  {what:<46} {found:>8.2} {unit:<4} target {target} {unit}: {}", if met { "met" } else { "MISSED" });
    met
}
