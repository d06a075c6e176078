//! Cases: what a rule decides over some rounds, written down in TOML and played through the host's own rules.
//!
//! A case is a small cluster of its own: its members join, answer or miss, and every round is settled by the kernel, with
//! its guardrails, probation and ledger. So a case says what a cluster would do, and not only what a component answers.

use kernel::decide::Slot;
use kernel::settings::Settings;
use kernel::standing::Standing;
use kernel::state::State;
use kernel::units::Points;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::admit::{Admitted, admit};
use crate::finding::Findings;
use crate::sandbox::Engine;

mod world;

use world::{World, node};

/// Members of a case.
const MEMBERS: usize = 1_000;
/// Rounds of a case.
const ROUNDS: usize = 100_000;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The rule's config.
    #[serde(default)]
    config: toml::Table,
    /// Cluster settings that are not the default ones, by key.
    #[serde(default)]
    settings: toml::Table,
    /// Length of a round, ms.
    #[serde(default = "ten_seconds")]
    interval_ms: u64,
    /// A letter for each member in each round: `+` answers, `-` does not, `?` nobody had a fair chance to see it. A round
    /// that begins with `!` is suspect. `"+- x 5"` stands for five such rounds.
    rounds: Vec<String>,
    /// What holds before the first round; one value for all members, or one for each.
    #[serde(default)]
    start: Start,
    /// What must hold after the last round, one value for each member.
    expect: Expect,
}

const fn ten_seconds() -> u64 {
    10_000
}

/// One value for all, or one for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Each<T> {
    All(T),
    Each(Vec<T>),
}

impl<T: Copy> Each<T> {
    fn of(this: Option<&Self>, at: usize) -> Option<T> {
        match this? {
            Self::All(value) => Some(*value),
            Self::Each(values) => values.get(at).copied(),
        }
    }

    fn fits(this: Option<&Self>, members: usize) -> bool {
        !matches!(this, Some(Self::Each(values)) if values.len() != members)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    age: Option<Each<u32>>,
    strikes: Option<Each<u16>>,
    earned: Option<Each<u32>>,
    class: Option<Each<u32>>,
    rtt_us: Option<Each<u32>>,
    data: Option<Each<u32>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    standing: Option<Vec<String>>,
    strikes: Option<Vec<u16>>,
    /// Points of all rounds of the case.
    points: Option<Vec<i64>>,
    /// Of the last round.
    reason: Option<Vec<String>>,
    /// The last round of a ban or the earliest return, counted from the first round of the case; 0 = none.
    until: Option<Vec<u64>>,
    /// The kind of a fault that must happen in some round.
    fault: Option<String>,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// Its name.
    pub name: String,
    /// What is otherwise than expected, a line each; empty = all as expected.
    pub differences: Vec<String>,
    /// Faults, a line each.
    pub faults: Vec<String>,
    /// What the rule logged, at most the last 20 lines.
    pub log: Vec<String>,
}

impl Played {
    /// Whether all was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Why cases cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file cannot be read as cases: line and cause.
    #[error("{0}")]
    File(String),
    /// A case contradicts itself.
    #[error("case `{name}`: {what}")]
    Case {
        /// Which.
        name: String,
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// A node would not take the rule under the case's config.
    #[error("case `{name}`: a node would not take the rule with this config:\n{findings}")]
    Refused {
        /// Which.
        name: String,
        /// Why.
        findings: Findings,
    },
}

/// Reads a file of cases.
///
/// # Errors
/// [`CaseError::File`], [`CaseError::Case`].
pub fn cases(text: &str) -> Result<Vec<Case>, CaseError> {
    let file: File = toml::from_str(text).map_err(|error| CaseError::File(error.to_string()))?;
    for case in &file.case {
        case.check()?;
    }
    Ok(file.case)
}

impl Case {
    fn wrong(&self, what: impl Into<String>) -> CaseError {
        CaseError::Case { name: self.name.clone(), what: what.into() }
    }

    fn members(&self) -> usize {
        self.rounds.first().map_or(0, |round| letters(round).1.chars().count())
    }

    fn check(&self) -> Result<(), CaseError> {
        let members = self.members();
        if members == 0 || members > MEMBERS {
            return Err(self.wrong(format!("`rounds` has a letter for each member, 1 to {MEMBERS}")));
        }
        if !(500..=3_600_000).contains(&self.interval_ms) {
            return Err(self.wrong("`interval_ms` is from 500 to 3600000"));
        }
        for round in &self.rounds {
            let (_, seen, times) = letters(round);
            if seen.chars().count() != members {
                return Err(self.wrong(format!("round \"{round}\" has other members than the first round's {members}")));
            }
            if let Some(letter) = seen.chars().find(|letter| !"+-?".contains(*letter)) {
                return Err(self.wrong(format!("round \"{round}\": `{letter}` is none of + - ?")));
            }
            if times.is_none_or(|times| times == 0) {
                return Err(self.wrong(format!("round \"{round}\": after ` x ` comes how often, such as \"+- x 5\"")));
            }
        }
        if self.sequence().count() > ROUNDS {
            return Err(self.wrong(format!("at most {ROUNDS} rounds")));
        }
        let start = &self.start;
        let fits = [
            Each::fits(start.age.as_ref(), members),
            Each::fits(start.strikes.as_ref(), members),
            Each::fits(start.earned.as_ref(), members),
            Each::fits(start.class.as_ref(), members),
            Each::fits(start.rtt_us.as_ref(), members),
            Each::fits(start.data.as_ref(), members),
        ];
        if fits.contains(&false) {
            return Err(self.wrong(format!("`start`: a list has one value for each of the {members} members")));
        }
        let expect = &self.expect;
        let lengths = [
            expect.standing.as_ref().map(Vec::len),
            expect.strikes.as_ref().map(Vec::len),
            expect.points.as_ref().map(Vec::len),
            expect.reason.as_ref().map(Vec::len),
            expect.until.as_ref().map(Vec::len),
        ];
        if lengths.into_iter().flatten().any(|length| length != members) {
            return Err(self.wrong(format!("`expect`: each list has one value for each of the {members} members")));
        }
        if lengths.iter().all(Option::is_none) && expect.fault.is_none() {
            return Err(self.wrong("`expect` says nothing: name standing, strikes, points, reason, until or fault"));
        }
        let names = Standing::ALL.map(Standing::name);
        match expect.standing.iter().flatten().find(|standing| !names.contains(&standing.as_str())) {
            Some(other) => Err(self.wrong(format!("`{other}` is no standing; they are {}", names.join(", ")))),
            None => Ok(()),
        }
    }

    /// Every round: whether it is suspect, and its letters.
    fn sequence(&self) -> impl Iterator<Item = (bool, &str)> {
        self.rounds.iter().flat_map(|round| {
            let (suspect, seen, times) = letters(round);
            std::iter::repeat_n((suspect, seen), times.unwrap_or_default())
        })
    }

    /// Plays it with a component.
    ///
    /// # Errors
    /// [`CaseError::Case`] for a config that is none, [`CaseError::Refused`].
    pub fn play(&self, engine: &Engine, slot: Slot, component: &[u8]) -> Result<Played, CaseError> {
        // Keys sorted, no spaces: how a config is hashed and handed over (PROTOCOLS 11.1).
        let config = Json::Object(self.config_json()?).to_string();
        let settings = self.cluster_settings()?;
        let admitted = admit(engine, slot, component, &config, &settings.policy_limits())
            .map_err(|findings| CaseError::Refused { name: self.name.clone(), findings })?;
        let members = self.members();
        let mut world = World::new();
        world
            .found(settings)
            .and_then(|()| world.install(slot, component, &config, &admitted))
            .map_err(|w| self.wrong(w))?;
        for at in 0..members {
            world.join(at).map_err(|what| self.wrong(what))?;
        }
        // They are in the queue after a settlement; nobody is in this one.
        world.round(false, "", &self.start, &admitted.policy, slot).map_err(|what| self.wrong(what))?;
        self.set_start(&mut world.state);
        let before: Vec<Points> = (0..members).map(|at| world.earned(at)).collect();
        for (suspect, seen) in self.sequence() {
            world.round(suspect, seen, &self.start, &admitted.policy, slot).map_err(|what| self.wrong(what))?;
        }
        Ok(Played {
            name: self.name.clone(),
            differences: self.differences(&world, &before, &admitted, slot),
            faults: world.faults,
            log: world.log,
        })
    }

    fn cluster_settings(&self) -> Result<Settings, CaseError> {
        let mut settings =
            Settings { interval_ms: self.interval_ms, joins_round: MEMBERS as u64, ..Settings::default() };
        for (key, value) in &self.settings {
            let text = value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
            settings.set(key, &text).map_err(|error| self.wrong(format!("`settings`: {key}: {error}")))?;
        }
        Ok(settings)
    }

    fn config_json(&self) -> Result<serde_json::Map<String, Json>, CaseError> {
        fn value(of: &toml::Value) -> Result<Json, String> {
            Ok(match of {
                toml::Value::String(text) => Json::from(text.as_str()),
                toml::Value::Integer(number) => Json::from(*number),
                toml::Value::Boolean(is) => Json::from(*is),
                toml::Value::Array(all) => Json::Array(all.iter().map(value).collect::<Result<_, _>>()?),
                toml::Value::Table(table) => {
                    Json::Object(table.iter().map(|(k, v)| Ok((k.clone(), value(v)?))).collect::<Result<_, String>>()?)
                }
                toml::Value::Float(number) => {
                    return Err(format!("`config` has the fraction {number}: configs have integers only"));
                }
                toml::Value::Datetime(_) => return Err("`config` has a date: write a number or a text".into()),
            })
        }
        let all = self.config.iter().map(|(key, of)| Ok((key.clone(), value(of)?)));
        all.collect::<Result<_, String>>().map_err(|what| self.wrong(what))
    }

    fn set_start(&self, state: &mut State) {
        let start = &self.start;
        for at in 0..self.members() {
            let Some(member) = state.members.get_mut(&node(at)) else { continue };
            member.hot.age = Each::of(start.age.as_ref(), at).unwrap_or(member.hot.age);
            member.hot.strikes = Each::of(start.strikes.as_ref(), at).unwrap_or_default();
            member.profile.class = Each::of(start.class.as_ref(), at).unwrap_or_default();
            let earned = Points(Each::of(start.earned.as_ref(), at).unwrap_or_default().into());
            member.hot.earned = earned;
            state.meta.treasury = state.meta.treasury.minus(earned);
        }
    }

    fn differences(&self, world: &World, before: &[Points], admitted: &Admitted, slot: Slot) -> Vec<String> {
        let mut out = Vec::new();
        let expect = &self.expect;
        let member = |at: usize| world.state.members.get(&node(at));
        let mut compare = |what: &str, at: usize, expected: String, got: String| {
            if expected != got {
                out.push(format!("member {}: {what} should be {expected}, but is {got}", at + 1));
            }
        };
        for at in 0..self.members() {
            if let Some(expected) = expect.standing.as_ref().and_then(|all| all.get(at)) {
                let got = member(at).map_or("gone", |member| member.hot.standing.name());
                compare("standing", at, expected.clone(), got.into());
            }
            if let Some(expected) = expect.strikes.as_ref().and_then(|all| all.get(at)) {
                compare("strikes", at, expected.to_string(), member(at).map_or(0, |m| m.hot.strikes).to_string());
            }
            if let Some(expected) = expect.points.as_ref().and_then(|all| all.get(at)) {
                let got = world.earned(at).minus(before.get(at).copied().unwrap_or(Points::ZERO));
                compare("points", at, expected.to_string(), got.0.to_string());
            }
            if let Some(expected) = expect.until.as_ref().and_then(|all| all.get(at)) {
                // Round 1 settled the joins: the case's first round is the second.
                let got = member(at).map_or(0, |m| m.hot.until.0.saturating_sub(1));
                compare("until", at, expected.to_string(), got.to_string());
            }
            if let Some(expected) = expect.reason.as_ref().and_then(|all| all.get(at)) {
                let got = match slot {
                    Slot::Ban => member(at).map_or_else(String::new, |member| member.profile.reason.clone()),
                    Slot::Reward => world.reward_reason(at, &admitted.description.reasons),
                };
                compare("reason", at, format!("\"{expected}\""), format!("\"{got}\""));
            }
        }
        match &expect.fault {
            Some(kind) if !world.faults.iter().any(|fault| fault.contains(kind.as_str())) => {
                out.push(format!("a fault of the kind {kind} should happen, and none did"));
            }
            None if !world.faults.is_empty() => out.push(format!("the rule failed: {}", world.faults.join("; "))),
            _ => {}
        }
        out
    }
}

/// Whether the round is suspect, its letters, and how often it is played.
fn letters(round: &str) -> (bool, &str, Option<usize>) {
    let (seen, times) = match round.split_once(" x ") {
        Some((seen, times)) => (seen, times.trim().parse().ok()),
        None => (round, Some(1)),
    };
    match seen.strip_prefix('!') {
        Some(seen) => (true, seen.trim(), times),
        None => (false, seen.trim(), times),
    }
}

#[cfg(test)]
mod tests;
