//! What a call of a rule costs: wall time and fuel, for populations and batches of several sizes.

use std::time::{Duration, Instant};

use kernel::columns::Inputs;
use kernel::decide::{Call, Column, Description, Fault, FaultKind, Members, Policy, RoundInput, Slot};
use kernel::id::{Digest, NodeId};
use kernel::records::review::{Context, Review, Reviewed, check_verdicts};
use kernel::settings::Settings;

use crate::failing::Failing;
use crate::prepared::Prepared;

/// Calls that are made at least: a median of fewer says little.
const LEAST_CALLS: usize = 5;
const MOST_CALLS: usize = 1_000;

/// What the calls for one population, or for batches of one size, cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Members, or records.
    pub population: u32,
    /// Median wall time of a call, a fresh instance and all limits included.
    pub call: Duration,
    /// Fuel of the last call.
    pub fuel: u64,
    /// Calls that were measured.
    pub calls: usize,
}

impl Measured {
    /// Wall time for one member or record, ns.
    #[must_use]
    pub fn ns_a_member(&self) -> u64 {
        u64::try_from(self.call.as_nanos()).unwrap_or(u64::MAX) / u64::from(self.population.max(1))
    }

    /// Fuel for one member or record.
    #[must_use]
    pub fn fuel_a_member(&self) -> u64 {
        self.fuel / u64::from(self.population.max(1))
    }
}

/// Calls a rule that decides rounds for about `time`, round after round with the memory that it returned.
///
/// # Errors
/// The call in which it failed; its settings are the default ones, and its limits those of `policy`.
pub fn measure(
    policy: &Prepared,
    slot: Slot,
    config: &str,
    population: u32,
    time: Duration,
) -> Result<Measured, Box<Failing>> {
    let description = policy.description();
    let members = members(population, description);
    let mut memory = vec![0; population as usize * description.memory_bytes as usize];
    let mut times = Times::begin();
    let mut number = 1;
    while times.go_on(time) {
        let round = round(number, population);
        let call = Call { config, round: &round, members: &members, memory: &memory };
        let began = Instant::now();
        let (after, used) = match slot {
            Slot::Ban => {
                let run = policy.judge(&call);
                (run.result.map(|judged| judged.memory), run.fuel)
            }
            Slot::Reward => {
                let run = policy.reward(&call);
                (run.result.map(|reward| reward.memory), run.fuel)
            }
            Slot::Signing => (Err(Fault::new(FaultKind::NotPrepared, "a signing rule decides no rounds")), 0),
        };
        times.add(began.elapsed(), used);
        match after {
            Ok(after) => memory = after,
            Err(fault) => {
                let (config, settings) = (config.to_string(), Settings::default());
                let inputs = Inputs { slot, config, round, members, memory, settings };
                return Err(Box::new(Failing { inputs, names: Vec::new(), fault }));
            }
        }
        number += 1;
    }
    Ok(times.measured(population))
}

/// Calls a signing rule for about `time`, each time with a batch of so many records with bodies of `bytes` bytes, JSON.
///
/// # Errors
/// How it failed.
pub fn measure_review(
    policy: &Prepared,
    config: &str,
    (records, bytes): (u32, usize),
    time: Duration,
) -> Result<Measured, Fault> {
    let frame = r#"{"measured":""}"#;
    let body = match bytes.checked_sub(frame.len()) {
        Some(more) => frame.replace("\"\"", &format!("\"{}\"", "x".repeat(more))).into_bytes(),
        None => vec![b'7'; bytes],
    };
    let ordered_ms = 1_767_225_600_000;
    let record = |at: u32| Reviewed {
        sequence: u64::from(at) + 1,
        author: NodeId(Digest::of(&(at % 16).to_le_bytes()).0),
        digest: Digest::of(&at.to_le_bytes()),
        expires_ms: ordered_ms + 60_000,
        body: &body,
    };
    let records: Vec<Reviewed<'_>> = (0..records).map(record).collect();
    let mut times = Times::begin();
    while times.go_on(time) {
        let batch = times.calls.len() as u64 + 1;
        let context = Context { batch, round: batch, ordered_ms, set_size: 4 };
        let began = Instant::now();
        let run = policy.review(&Review { config, context, records: &records });
        times.add(began.elapsed(), run.fuel);
        check_verdicts(&run.result?, records.len(), policy.description())?;
    }
    Ok(times.measured(records.len() as u32))
}

/// The calls so far.
struct Times {
    began: Instant,
    calls: Vec<Duration>,
    /// Of the last one.
    fuel: u64,
}

impl Times {
    fn begin() -> Self {
        Self { began: Instant::now(), calls: Vec::new(), fuel: 0 }
    }

    fn go_on(&self, time: Duration) -> bool {
        self.calls.len() < LEAST_CALLS || self.began.elapsed() < time && self.calls.len() < MOST_CALLS
    }

    fn add(&mut self, call: Duration, fuel: u64) {
        self.calls.push(call);
        self.fuel = fuel;
    }

    fn measured(mut self, population: u32) -> Measured {
        self.calls.sort_unstable();
        let call = self.calls.get(self.calls.len() / 2).copied().unwrap_or_default();
        Measured { population, call, fuel: self.fuel, calls: self.calls.len() }
    }
}

fn round(number: u64, population: u32) -> RoundInput {
    RoundInput {
        number,
        now_ms: 1_767_225_600_000 + number * 10_000,
        elapsed_ms: 10_000,
        interval_ms: 10_000,
        population,
        suspect: false,
        seed: Digest::of(b"measure"),
    }
}

/// A population as a cluster has it: nearly everybody answers, each from a distance of its own.
fn members(population: u32, description: &Description) -> Members {
    let each = |of: fn(u32) -> u32| (0..population).map(of);
    let missing = |i: u32| i.is_multiple_of(97);
    Members {
        presence: (0..population).map(|i| u8::from(!missing(i))).collect(),
        facts: (0..population).map(|i| u16::from(missing(i))).collect(),
        rtt_us: each(|i| if i.is_multiple_of(97) { 0 } else { 200 + i.wrapping_mul(2_654_435_761) % 90_000 }).collect(),
        observers: vec![0x0101; population as usize],
        age: each(|i| i.wrapping_mul(7) % 100_000).collect(),
        standing: vec![0; population as usize],
        strikes: vec![0; population as usize],
        earned: (0..population).map(|i| u64::from(i) * 13).collect(),
        data: (0..population).map(u64::from).collect(),
        class: each(|i| i % 4).collect(),
        group: each(|i| i / 3).collect(),
        flags: vec![0; population as usize],
        extra: description
            .extra
            .iter()
            .map(|name| Column { name: name.clone(), values: (0..population).map(|i| i64::from(i % 2)).collect() })
            .collect(),
    }
}
