//! What a call of a rule costs: wall time and fuel, for populations of several sizes.

use std::time::{Duration, Instant};

use kernel::columns::Inputs;
use kernel::decide::{Call, Column, Description, Members, Policy, RoundInput, Slot};
use kernel::id::Digest;
use kernel::settings::Settings;

use crate::failing::Failing;
use crate::prepared::Prepared;

/// Calls that are made at least: a median of fewer says little.
const LEAST_CALLS: usize = 5;
const MOST_CALLS: usize = 1_000;

/// What the calls for one population cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Members.
    pub population: u32,
    /// Median wall time of a call, a fresh instance and all limits included.
    pub call: Duration,
    /// Fuel of the last call.
    pub fuel: u64,
    /// Calls that were measured.
    pub calls: usize,
}

impl Measured {
    /// Wall time for one member, ns.
    #[must_use]
    pub fn ns_a_member(&self) -> u64 {
        u64::try_from(self.call.as_nanos()).unwrap_or(u64::MAX) / u64::from(self.population.max(1))
    }

    /// Fuel for one member.
    #[must_use]
    pub fn fuel_a_member(&self) -> u64 {
        self.fuel / u64::from(self.population.max(1))
    }
}

/// Calls a rule for about `time`, round after round with the memory that it returned.
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
    let (mut times, mut fuel) = (Vec::new(), 0);
    let started = Instant::now();
    let mut number = 1;
    while times.len() < LEAST_CALLS || started.elapsed() < time && times.len() < MOST_CALLS {
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
        };
        times.push(began.elapsed());
        match after {
            Ok(after) => (memory, fuel) = (after, used),
            Err(fault) => {
                let (config, settings) = (config.to_string(), Settings::default());
                let inputs = Inputs { slot, config, round, members, memory, settings };
                return Err(Box::new(Failing { inputs, names: Vec::new(), fault }));
            }
        }
        number += 1;
    }
    times.sort_unstable();
    let call = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(Measured { population, call, fuel, calls: times.len() })
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
