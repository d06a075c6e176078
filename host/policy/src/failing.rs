//! A call in which a rule failed, and the members that bring it about.
//!
//! Whether a call fails is a pure question, so it can be asked again with fewer members. That is done by halves, then by
//! quarters and so on (delta debugging): a member that fails alone is found in twice as many calls as its place has binary
//! digits. Never in the path of a round: whoever wants to know calls it at leisure.

use std::time::{Duration, Instant};

use kernel::columns::Inputs;
use kernel::decide::{Fault, Policy, Slot};
use kernel::settings::Settings;

use crate::admit::samples;
use crate::cases::{Expected, Written, fields};
use crate::text::escape;

/// Calls that are made at most, and how long the last of them may begin after the first.
const CALLS: usize = 200;
const TIME: Duration = Duration::from_secs(10);
/// Characters of a fault in a case's name.
const NAME_BYTES: usize = 80;

/// A call in which a rule failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// What it was called with.
    pub inputs: Inputs,
    /// Names of the members, in their order; empty where one has none.
    pub names: Vec<String>,
    /// How it failed.
    pub fault: Fault,
}

/// The least of a population that still fails in the same way.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// The call with these members only.
    pub failing: Failing,
    /// Their places in the whole population, from 0.
    pub places: Vec<usize>,
    /// Members of the whole population.
    pub of: usize,
    /// Calls that were made.
    pub calls: usize,
    /// Fewer may do: the search ended at its bound of calls or time.
    pub ended_early: bool,
}

impl Failing {
    /// The call of admission's self-test in which a rule fails; `None` where it fails in none, and for a slot that decides no
    /// rounds.
    #[must_use]
    pub fn of_self_test(policy: &dyn Policy, slot: Slot, config: &str, settings: &Settings) -> Option<Self> {
        if !Slot::OF_ROUNDS.contains(&slot) {
            return None;
        }
        samples(policy.description()).into_iter().find_map(|(_, round, members, memory)| {
            let (config, settings) = (config.to_string(), settings.clone());
            let inputs = Inputs { slot, config, round, members, memory, settings };
            let fault = inputs.fails(policy).err()?;
            Some(Self { inputs, names: Vec::new(), fault })
        })
    }

    /// Looks for the fewest members with which the rule fails in the same way: the same kind and the same words, but for
    /// numbers in them. `None`: the same call does not fail again, as after a wall-clock stop.
    #[must_use]
    pub fn smallest(&self, policy: &dyn Policy) -> Option<Smallest> {
        let mut search = Search { of: self, policy, calls: 0, began: Instant::now() };
        let everybody: Vec<usize> = (0..self.inputs.members.len()).collect();
        if !self.fault.kind.is_deterministic() || !search.fails(&everybody) {
            return None;
        }
        let (places, ended_early) = search.least(everybody);
        let inputs = self.inputs.only(&places);
        // A fault of fewer members names other numbers.
        let fault = inputs.fails(policy).err().unwrap_or_else(|| self.fault.clone());
        let names = places.iter().map(|at| self.names.get(*at).cloned().unwrap_or_default()).collect();
        let (of, calls) = (self.inputs.members.len(), search.calls);
        Some(Smallest { failing: Self { inputs, names, fault }, places, of, calls, ended_early })
    }

    /// What the rule saw of a member: keys and values as in a file of cases. What is not there is as when nothing is said.
    #[must_use]
    pub fn shown(&self, at: usize) -> Vec<(String, String)> {
        let name = self.names.get(at).filter(|name| !name.is_empty()).cloned();
        let name = name.map(|name| ("name".to_string(), name));
        let plain = |value: String| value.trim_matches('"').to_string();
        let fields = fields(&self.inputs, at).into_iter().map(|field| (field.key, plain(field.value)));
        name.into_iter().chain(fields).collect()
    }

    /// A case that fails in the same way.
    #[must_use]
    pub fn case(&self) -> String {
        let fault = escape(&self.fault.to_string(), NAME_BYTES);
        let remarks = [
            format!("The rule failed in this call: {}", self.fault),
            "When it is mended, say here what it decides instead, or: expect.fault = \"none\"".to_string(),
            String::new(),
        ];
        let (inputs, names) = (&self.inputs, self.names.as_slice());
        Written { remarks: &remarks, name: &fault, inputs, names, expected: Expected::Fault(self.fault.kind) }.text()
    }
}

struct Search<'a> {
    of: &'a Failing,
    policy: &'a dyn Policy,
    calls: usize,
    began: Instant,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.calls >= CALLS || self.began.elapsed() >= TIME
    }

    fn fails(&mut self, places: &[usize]) -> bool {
        self.calls += 1;
        let fault = self.of.inputs.only(places).fails(self.policy).err();
        fault.is_some_and(|fault| is_same(&fault, &self.of.fault))
    }

    /// The fewest of them that were found, and whether the search ended early.
    fn least(&mut self, mut places: Vec<usize>) -> (Vec<usize>, bool) {
        let mut parts = 2;
        while places.len() > 1 {
            let size = places.len().div_ceil(parts);
            let fewer = self.one_part(&places, size).map(|part| (part, 2));
            let fewer = fewer.or_else(|| self.all_but_one(&places, size, parts));
            match fewer {
                Some((fewer, next)) => (places, parts) = (fewer, next),
                None if self.is_over() => return (places, true),
                None if parts < places.len() => parts = (2 * parts).min(places.len()),
                None => return (places, false),
            }
        }
        (places, false)
    }

    fn one_part(&mut self, places: &[usize], size: usize) -> Option<Vec<usize>> {
        places.chunks(size).find(|part| !self.is_over() && self.fails(part)).map(<[usize]>::to_vec)
    }

    fn all_but_one(&mut self, places: &[usize], size: usize, parts: usize) -> Option<(Vec<usize>, usize)> {
        if parts == 2 {
            return None;
        }
        for from in (0..places.len()).step_by(size) {
            if self.is_over() {
                return None;
            }
            let (before, after) = (places.iter().take(from), places.iter().skip(from + size));
            let rest: Vec<usize> = before.chain(after).copied().collect();
            if self.fails(&rest) {
                return Some((rest, parts - 1));
            }
        }
        None
    }
}

/// The same kind and the same words, whatever the numbers in them.
fn is_same(a: &Fault, b: &Fault) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    a.kind == b.kind && words(&a.message) == words(&b.message)
}

#[cfg(test)]
mod tests;
