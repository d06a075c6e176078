//! Cases: what a rule decides over some rounds, written down in TOML and played through the host's own rules.
//!
//! A case is a small cluster of its own: its members join, answer or miss, and every round is settled by the kernel, with
//! its guardrails, probation and ledger. So a case says what a cluster would do, and not only what a component answers.
//!
//! A case may also be of one call: what the rule sees of each member, and what it answers. That is how a recorded round is
//! captured ([`Written`]), and a call in which a rule failed.
//!
//! A case of a signing rule is of a batch: records in, what becomes of each out.

use kernel::decide::{Fault, FaultKind, Slot};
use kernel::settings::Settings;
use kernel::standing::Standing;
use kernel::state::State;
use kernel::units::Points;
use serde_json::Value as Json;
use toml::Spanned;

use crate::admit::{Admitted, admit, prepare};
use crate::failing::Failing;
use crate::finding::Findings;
use crate::sandbox::Engine;

mod call;
mod file;
mod records;
mod world;
mod write;

pub use write::{Expected, Written};

pub(crate) use write::fields;

use file::{Each, Expect, Keys, RecordRow, Row, Source};
use world::{World, node};

/// Members of a case.
const MEMBERS: usize = 1_000;
/// Members of a case of one call.
pub const CALL_MEMBERS: usize = 10_000;
/// Rounds of a case.
const ROUNDS: usize = 100_000;
/// Length of a round, ms, where nothing is said.
const INTERVAL_MS: u64 = 10_000;
/// What `expect.fault` says where there must be none.
const NO_FAULT: &str = "none";

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    keys: Keys,
    source: Source,
    /// Instead of the one that stands in the file.
    config: Option<String>,
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
    /// The first fault that was not expected, with all that the rule was called with.
    pub failing: Option<Box<Failing>>,
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
    /// The file cannot be read as cases.
    #[error("{what}")]
    File {
        /// Line and column, where they are known.
        place: Option<(usize, usize)>,
        /// What is wrong.
        what: String,
        /// What was meant.
        cure: Option<String>,
    },
    /// A case contradicts itself.
    #[error("case `{name}`: {what}")]
    Case {
        /// Which.
        name: String,
        /// Its line and column.
        place: (usize, usize),
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// A node would not take the rule under the case's config.
    #[error("case `{name}`: a node would not take the rule with this config:\n{findings}")]
    Refused {
        /// Which.
        name: String,
        /// Its line and column.
        place: (usize, usize),
        /// The config, as rules get it.
        config: String,
        /// Why.
        findings: Findings,
    },
}

impl CaseError {
    /// Line and column in the file, from 1.
    #[must_use]
    pub const fn place(&self) -> Option<(usize, usize)> {
        match self {
            Self::File { place, .. } => *place,
            Self::Case { place, .. } | Self::Refused { place, .. } => Some(*place),
        }
    }

    /// What was meant, where that can be said.
    #[must_use]
    pub fn cure(&self) -> Option<&str> {
        match self {
            Self::File { cure, .. } => cure.as_deref(),
            Self::Case { .. } | Self::Refused { .. } => None,
        }
    }
}

/// Reads a file of cases.
///
/// # Errors
/// [`CaseError::File`], [`CaseError::Case`].
pub fn cases(text: &str) -> Result<Vec<Case>, CaseError> {
    let (source, file) = file::read(text)?;
    let cases: Vec<Case> =
        file.case.into_iter().map(|keys| Case { keys, source: source.clone(), config: None }).collect();
    for case in &cases {
        case.check()?;
    }
    Ok(cases)
}

impl Case {
    /// What it shows.
    #[must_use]
    pub fn name(&self) -> &str {
        self.keys.name.get_ref()
    }

    /// The slot that its rule is for, where the case says so; records are of one only.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        let said = self.keys.slot.as_ref().and_then(|slot| slot.parse().ok());
        said.or(self.is_batch().then_some(Slot::Signing))
    }

    /// The same case under another config: JSON, keys sorted, no spaces.
    #[must_use]
    pub fn with_config(self, config: String) -> Self {
        Self { config: Some(config), ..self }
    }

    fn wrong(&self, what: impl Into<String>) -> CaseError {
        self.wrong_at(self.keys.name.span().start, what)
    }

    fn wrong_at(&self, at: usize, what: impl Into<String>) -> CaseError {
        CaseError::Case { name: self.name().into(), place: self.source.place(at), what: what.into() }
    }

    fn members(&self) -> usize {
        let letters = |round: &Spanned<String>| letters(round.get_ref()).1.chars().count();
        if self.is_batch() {
            self.records().len()
        } else if self.is_call() {
            self.rows().len()
        } else {
            self.keys.rounds.first().map_or(0, letters)
        }
    }

    /// A batch of records.
    const fn is_batch(&self) -> bool {
        self.keys.records.is_some()
    }

    /// The rows of a batch.
    fn records(&self) -> &[Spanned<RecordRow>] {
        self.keys.records.as_deref().unwrap_or_default()
    }

    /// One call and not rounds.
    const fn is_call(&self) -> bool {
        self.keys.members.is_some()
    }

    /// The rows of one call.
    fn rows(&self) -> &[Spanned<Row>] {
        self.keys.members.as_deref().unwrap_or_default()
    }

    fn check(&self) -> Result<(), CaseError> {
        if let Some(slot) = self.keys.slot.as_ref().filter(|_| self.slot().is_none()) {
            return Err(self.wrong(file::unknown(slot, "slot", &Slot::ALL.map(Slot::name))));
        }
        if self.is_batch() {
            self.check_records()?;
        } else if self.slot() == Some(Slot::Signing) || self.keys.batch.is_some() {
            return Err(self.wrong("a case of a signing rule has `records`, a row for each record of a batch"));
        } else if self.is_call() {
            self.check_call()?;
        } else {
            self.check_rounds()?;
        }
        self.check_expect()
    }

    fn check_rounds(&self) -> Result<(), CaseError> {
        let (keys, members) = (&self.keys, self.members());
        if keys.rounds.is_empty() {
            let what = "say what happens: `rounds` has a letter for each member, or `members` a row for each; of a signing \
                        rule `records` has a row for each record";
            return Err(self.wrong(what));
        }
        if members == 0 || members > MEMBERS {
            return Err(self.wrong(format!("`rounds` has a letter for each member, 1 to {MEMBERS}")));
        }
        if keys.round.is_some() {
            return Err(self.wrong("`round` says what one call is of: it stands beside `members`, not beside `rounds`"));
        }
        if !(500..=3_600_000).contains(&self.interval_ms()) {
            return Err(self.wrong("`interval_ms` is from 500 to 3600000"));
        }
        for spanned in &keys.rounds {
            let (round, at) = (spanned.get_ref(), spanned.span().start);
            let (_, seen, times) = letters(round);
            if seen.chars().count() != members {
                let what = format!("round \"{round}\" has other members than the first round's {members}");
                return Err(self.wrong_at(at, what));
            }
            if let Some(letter) = seen.chars().find(|letter| !"+-?".contains(*letter)) {
                return Err(self.wrong_at(at, format!("round \"{round}\": `{letter}` is none of + - ?")));
            }
            if times.is_none_or(|times| times == 0) {
                let what = format!("round \"{round}\": after ` x ` comes how often, such as \"+- x 5\"");
                return Err(self.wrong_at(at, what));
            }
        }
        if self.sequence().count() > ROUNDS {
            return Err(self.wrong(format!("at most {ROUNDS} rounds")));
        }
        let start = &keys.start;
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
        if keys.expect.memory.is_some() || keys.expect.tariff.is_some() {
            return Err(self.wrong("`expect.memory` and `expect.tariff` are of one call: they go with `members`"));
        }
        Ok(())
    }

    fn check_expect(&self) -> Result<(), CaseError> {
        let (expect, members) = (&self.keys.expect, self.members());
        let each = if self.is_batch() { "records" } else { "members" };
        let lengths = [
            expect.verdict.as_ref().map(Vec::len),
            expect.standing.as_ref().map(Vec::len),
            expect.strikes.as_ref().map(Vec::len),
            expect.points.as_ref().map(Vec::len),
            expect.reason.as_ref().map(Vec::len),
            expect.until.as_ref().map(Vec::len),
            expect.memory.as_ref().map(Vec::len),
        ];
        if lengths.into_iter().flatten().any(|length| length != members) {
            return Err(self.wrong(format!("`expect`: each list has one value for each of the {members} {each}")));
        }
        if *expect == Expect::default() {
            let keys = if self.is_batch() {
                "verdict, reason"
            } else if self.is_call() {
                "standing, strikes, points, reason, until, memory, tariff"
            } else {
                "standing, strikes, points, reason, until"
            };
            return Err(self.wrong(format!("`expect` says nothing: name {keys} or fault")));
        }
        if self.is_batch() {
            self.check_records_expect()?;
        } else if expect.verdict.is_some() {
            return Err(self.wrong("`expect.verdict` is of records; what becomes of members is their standing"));
        }
        let names = Standing::ALL.map(Standing::name);
        if let Some(other) = expect.standing.iter().flatten().find(|standing| !names.contains(&standing.as_str())) {
            return Err(self.wrong(file::unknown(other, "standing", &names)));
        }
        let kinds: Vec<&str> = FaultKind::ALL.map(FaultKind::name).into_iter().chain([NO_FAULT]).collect();
        match expect.fault.as_ref().filter(|kind| !kinds.contains(&kind.as_str())) {
            Some(other) => Err(self.wrong(file::unknown(other, "kind of fault", &kinds))),
            None => Ok(()),
        }
    }

    fn interval_ms(&self) -> u64 {
        self.keys.interval_ms.unwrap_or(INTERVAL_MS)
    }

    /// Every round: whether it is suspect, and its letters.
    fn sequence(&self) -> impl Iterator<Item = (bool, &str)> {
        self.keys.rounds.iter().flat_map(|round| {
            let (suspect, seen, times) = letters(round.get_ref());
            std::iter::repeat_n((suspect, seen), times.unwrap_or_default())
        })
    }

    /// Plays it with a component.
    ///
    /// # Errors
    /// [`CaseError::Case`] for a config that is none, [`CaseError::Refused`].
    pub fn play(&self, engine: &Engine, slot: Slot, component: &[u8]) -> Result<Played, CaseError> {
        let config = self.config()?;
        let settings = self.cluster_settings()?;
        if let Some(other) = self.slot().filter(|other| *other != slot) {
            return Err(self.wrong(format!("it is of the slot {other}, and the component fills the slot {slot}")));
        }
        if slot == Slot::Signing && !self.is_batch() {
            let what = "it is of members, and the component fills the slot signing: give it `records` instead";
            return Err(self.wrong(what));
        }
        let refused = |findings| CaseError::Refused {
            name: self.name().into(),
            place: self.source.place(self.keys.name.span().start),
            config: config.clone(),
            findings,
        };
        let limits = settings.policy_limits();
        if self.is_batch() {
            let policy = prepare(engine, slot, component, &config, &limits).map_err(refused)?;
            return Ok(self.play_records(&config, &policy));
        }
        if self.is_call() {
            // What fails its self-test can be called all the same: a case of one call may be what shows why it fails.
            let policy = prepare(engine, slot, component, &config, &limits).map_err(refused)?;
            return self.play_call(slot, &config, settings, &policy);
        }
        let admitted = admit(engine, slot, component, &config, &limits).map_err(refused)?;
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
        let start = &self.keys.start;
        world.round(false, "", start, &admitted.policy, slot).map_err(|what| self.wrong(what))?;
        self.set_start(&mut world.state);
        let before: Vec<Points> = (0..members).map(|at| world.earned(at)).collect();
        for (suspect, seen) in self.sequence() {
            world.round(suspect, seen, start, &admitted.policy, slot).map_err(|what| self.wrong(what))?;
        }
        Ok(Played {
            name: self.name().into(),
            differences: self.differences(&world, &before, &admitted, slot),
            faults: world.faults.iter().map(|(round, fault)| format!("round {round}: {fault}")).collect(),
            failing: world.failing.take().filter(|failing| !self.expects(failing.fault.kind)),
            log: world.log,
        })
    }

    /// Whether a fault of that kind is what the case is about.
    fn expects(&self, kind: FaultKind) -> bool {
        self.keys.expect.fault.as_deref() == Some(kind.name())
    }

    /// Keys sorted, no spaces: how a config is hashed and handed over (PROTOCOLS 11.1).
    fn config(&self) -> Result<String, CaseError> {
        match &self.config {
            Some(config) => Ok(config.clone()),
            None => Ok(Json::Object(self.config_json()?).to_string()),
        }
    }

    fn cluster_settings(&self) -> Result<Settings, CaseError> {
        let mut settings = Settings::default();
        if !self.is_call() && !self.is_batch() {
            (settings.interval_ms, settings.joins_round) = (self.interval_ms(), MEMBERS as u64);
        }
        for (key, value) in &self.keys.settings {
            let text = value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
            settings.put(key, &text).map_err(|error| self.wrong(format!("`settings`: {key}: {error}")))?;
        }
        settings.check().map_err(|error| self.wrong(format!("`settings`: {error}")))?;
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
        let all = self.keys.config.iter().map(|(key, of)| Ok((key.clone(), value(of)?)));
        all.collect::<Result<_, String>>().map_err(|what| self.wrong(what))
    }

    fn set_start(&self, state: &mut State) {
        let start = &self.keys.start;
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
        let expect = &self.keys.expect;
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
                    Slot::Signing => String::new(),
                };
                compare("reason", at, format!("\"{expected}\""), format!("\"{got}\""));
            }
        }
        out.extend(self.fault_difference(&world.faults));
        out
    }

    /// The kind of fault that must happen.
    fn expected_fault(&self) -> Option<&str> {
        self.keys.expect.fault.as_deref().filter(|kind| *kind != NO_FAULT)
    }

    /// What of the faults is otherwise than expected.
    fn fault_difference(&self, faults: &[(u64, Fault)]) -> Option<String> {
        match self.expected_fault() {
            Some(kind) if !faults.iter().any(|(_, fault)| fault.kind.name() == kind) => Some(no_fault(kind)),
            None if !faults.is_empty() => {
                let faults: Vec<String> =
                    faults.iter().map(|(round, fault)| format!("round {round}: {fault}")).collect();
                Some(format!("the rule failed: {}", faults.join("; ")))
            }
            Some(_) | None => None,
        }
    }
}

/// What is said where a fault should have happened.
fn no_fault(kind: &str) -> String {
    let cure = "where it is mended, say what the rule decides instead, or `expect.fault = \"none\"`";
    format!("a fault of the kind {kind} should happen, and none did; {cure}")
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
