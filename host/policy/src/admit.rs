//! Admission: a checklist. A component that passes is ready to run; one that does not changes nothing, and each finding
//! says what is wrong and how to mend it.

use std::sync::Arc;

use kernel::columns::{EXTRA, is_extra};
use kernel::decide::{
    Call, Description, Fault, FaultKind, LimitSettings, Members, Policy, PolicyLimits, RoundInput, Run, Slot,
    check_judgement, check_reward, presence, sample,
};
use kernel::id::Digest;
use kernel::limits::{COMPONENT_BYTES, CONFIG_BYTES, REASON_BYTES};
use kernel::records::review::{self, Review};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::engine::Engine;
use crate::finding::{Finding, Findings};
use crate::prepared::{Prepared, Program};
use crate::sandbox::{MEMORIES, TABLE_ELEMENTS, TABLES};
use crate::text::{escape, is_printable};

/// Names of the checks, in their order.
pub const CHECKS: [&str; 12] = [
    "size",
    "component",
    "decode",
    "compile",
    "imports",
    "world",
    "version",
    "resources",
    "start",
    "config",
    "description",
    "self-test",
];

/// The contract that this release speaks: 1.0.0, and of later versions of the same major what asks for nothing newer.
pub const WIT_VERSIONS: &str = "1.0.x";
/// Names of one major match. What a later minor adds is told by the imports, which are refused by name.
const WIT_TRACK: &str = "1.";
/// Longest name and schema, characters.
const NAME_CHARS: usize = 64;
/// Longest version, characters.
const VERSION_CHARS: usize = 32;
/// Reasons of a policy: their texts are stored with it.
const REASONS: usize = 1_000;
/// Extra columns of a policy: each costs 8 bytes a member a call. Two for each seat are all that there are.
const EXTRA_COLUMNS: usize = 16;
/// Names that one finding lists.
const NAMED: usize = 5;

/// A policy that was admitted.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Ready to run.
    pub policy: Prepared,
    /// Its identity: of component and config together.
    pub digest: Digest,
    /// SHA-256 of the component's bytes.
    pub component: Digest,
    /// SHA-256 of the config.
    pub config_digest: Digest,
    /// What it says of itself.
    pub description: Description,
}

/// Runs the checklist. `config` is canonical JSON. Compiles as the engine was told to and evaluates on the calling thread,
/// which takes up to a minute with a hostile component: not for a thread that must answer.
///
/// # Errors
/// What the first check that fails found.
pub fn admit(
    engine: &Engine,
    slot: Slot,
    bytes: &[u8],
    config: &str,
    limits: &LimitSettings,
) -> Result<Admitted, Findings> {
    let component = fits_the_contract(engine, slot, bytes)?;
    starts_small(&component, limits)?;
    let program = starts(engine, slot, &component, limits)?;
    let description = takes_the_config(&program, config, limits)?;
    describes_itself_within_bounds(slot, &description, limits)?;
    let policy = Prepared::new(Arc::new(program), description.clone(), *limits);
    decides_a_sample(slot, &policy, config)?;

    let (component, config_digest) = (Digest::of(bytes), Digest::of(config.as_bytes()));
    let digest = Digest::of_policy(component, config_digest);
    Ok(Admitted { policy, digest, component, config_digest, description })
}

/// Prepares again what passed [`admit`] here before. Whether it may run is not asked a second time: limits are settings
/// that may have been lowered since, and a policy that decides must not fall silent at a restart for a bound on candidates
/// or a test on a busy machine. What it uses too much of is a fault of its calls, as it is without a restart.
///
/// # Errors
/// What this release, or this machine now, cannot run.
pub fn prepare(
    engine: &Engine,
    slot: Slot,
    bytes: &[u8],
    config: &str,
    limits: &LimitSettings,
) -> Result<Prepared, Findings> {
    let component = fits_the_contract(engine, slot, bytes)?;
    let program = starts(engine, slot, &component, &ROOM)?;
    let description = takes_the_config(&program, config, &ROOM)?;
    Ok(Prepared::new(Arc::new(program), description, *limits))
}

/// For a policy that is known to start: whatever any settings could have given it.
const ROOM: LimitSettings = LimitSettings {
    fuel_base: 1_000_000_000_000,
    fuel_member: 0,
    memory_base_bytes: 1 << 32,
    memory_member_bytes: 0,
    output_base_bytes: 1 << 30,
    deadline_ms: 60_000,
    log_bytes: 1 << 20,
    state_bytes: 4_096,
};

/// The checks that ask nothing of limits.
fn fits_the_contract(engine: &Engine, slot: Slot, bytes: &[u8]) -> Result<Component, Findings> {
    has_a_size(bytes)?;
    is_a_component(bytes)?;
    let component = decodes(engine, bytes)?;
    imports_only_log(engine, &component)?;
    fills_the_slot(engine, slot, &component)?;
    speaks_our_version(engine, slot, &component)?;
    Ok(component)
}

pub(crate) fn has_a_size(bytes: &[u8]) -> Result<(), Findings> {
    let size = bytes.len();
    if size == 0 {
        return Err(Findings::one("size", "the file is empty", "name a file that `pingward policy build` wrote"));
    }
    if size > COMPONENT_BYTES {
        let what = format!("the file has {size} bytes, and a component may have {COMPONENT_BYTES}");
        return Err(Findings::one("size", what, "build with optimisation and without debug information"));
    }
    Ok(())
}

pub(crate) fn is_a_component(bytes: &[u8]) -> Result<(), Findings> {
    if wasmparser::Parser::is_component(bytes) {
        return Ok(());
    }
    let build = "`pingward policy build DIR` makes a component";
    if wasmparser::Parser::is_core_wasm(bytes) {
        return Err(Findings::one("component", "this is a core module, not a component", format!("wrap it: {build}")));
    }
    let start = String::from_utf8_lossy(bytes.get(..bytes.len().min(16)).unwrap_or_default());
    let what = format!("this is no WebAssembly: it starts with `{}`", escape(&start, 40));
    Err(Findings::one("component", what, build))
}

pub(crate) fn decodes(engine: &Engine, bytes: &[u8]) -> Result<Component, Findings> {
    engine.load(bytes).map_err(|error| error.findings())
}

fn imports_only_log(engine: &Engine, component: &Component) -> Result<(), Findings> {
    let offenders: Vec<String> = imports(engine, component).into_iter().filter(|name| !is_log(name)).collect();
    if offenders.is_empty() {
        return Ok(());
    }
    let more = offenders.len().saturating_sub(NAMED);
    let mut names: Vec<String> = offenders.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    if let Some(version) = offenders.iter().find_map(|name| contract_version(name)) {
        let what = format!(
            "it imports {}, of version {version} of the contract, and this release runs {WIT_VERSIONS}",
            names.join(", ")
        );
        return Err(Findings::one("imports", what, "run it on a newer release, or build it without what is newer"));
    }
    let cure = if offenders.iter().any(|name| name.starts_with("wasi:")) {
        "a policy has no clock, randomness or files: time and seed are arguments; build it for wasm32-unknown-unknown"
    } else {
        "a policy may import `pingward:policy/log` and nothing else"
    };
    Err(Findings::one("imports", format!("it imports {}", names.join(", ")), cure))
}

/// Functions and resources that a component imports, `interface#name`. Types alone are no import.
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    let wasmtime = engine.wasmtime();
    let mut names = Vec::new();
    for (name, item) in component.component_type().imports(wasmtime) {
        let name = escape(name, 100);
        match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                for (inner, item) in instance.exports(wasmtime) {
                    if !matches!(item.ty, ComponentItem::Type(_)) {
                        names.push(format!("{name}#{}", escape(inner, 100)));
                    }
                }
            }
            ComponentItem::Type(_) => {}
            ComponentItem::ComponentFunc(_)
            | ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::Resource(_) => names.push(name),
        }
    }
    names
}

/// The version in a name of the contract's own, `pingward:policy/clock@1.1.0#now`.
fn contract_version(name: &str) -> Option<&str> {
    let (_, version) = name.strip_prefix("pingward:policy/")?.split_once('@')?;
    Some(version.split_once('#').map_or(version, |(version, _)| version))
}

fn is_log(name: &str) -> bool {
    let version = name.strip_prefix("pingward:policy/log@").and_then(|rest| rest.strip_suffix("#write"));
    version.is_some_and(|version| version.starts_with(WIT_TRACK))
}

/// Slots whose interface a component exports, with the version that it was built for.
pub(crate) fn slots(engine: &Engine, component: &Component) -> Vec<(Slot, String)> {
    let exports = component.component_type();
    let exports = exports.exports(engine.wasmtime());
    exports
        .filter_map(|(name, _)| {
            let (interface, version) = name.strip_prefix("pingward:policy/")?.split_once('@')?;
            let slot = Slot::ALL.into_iter().find(|slot| slot.name() == interface)?;
            Some((slot, escape(version, 32)))
        })
        .collect()
}

fn fills_the_slot(engine: &Engine, slot: Slot, component: &Component) -> Result<(), Findings> {
    let found = slots(engine, component);
    if found.iter().any(|(filled, _)| *filled == slot) {
        return Ok(());
    }
    let (what, cure) = match found.first() {
        Some((other, _)) => (
            format!("this is a component of the world `{other}-policy`, and the slot `{slot}` takes `{slot}-policy`"),
            format!("load it into the slot `{other}`"),
        ),
        None => (
            format!("it does not export `pingward:policy/{slot}`"),
            format!("export the world `{slot}-policy` of wit/policy.wit; in Rust: `pingward_sdk::export_{slot}!`"),
        ),
    };
    Err(Findings::one("world", what, cure))
}

fn speaks_our_version(engine: &Engine, slot: Slot, component: &Component) -> Result<(), Findings> {
    let found = slots(engine, component);
    let Some((_, version)) = found.iter().find(|(filled, version)| *filled == slot && !version.starts_with(WIT_TRACK))
    else {
        return Ok(());
    };
    let what = format!("it was built for version {version} of the contract, and this release runs {WIT_VERSIONS}");
    let cure = "build it against the wit/policy.wit of this release, or run it on a release that speaks its version";
    Err(Findings::one("version", what, cure))
}

fn starts_small(component: &Component, limits: &LimitSettings) -> Result<(), Findings> {
    let Some(needs) = component.resources_required() else { return Ok(()) };
    let memory = needs.max_initial_memory_size.unwrap_or_default().saturating_mul(64 << 10);
    let table = needs.max_initial_table_size.unwrap_or_default();
    let bounds = [
        ("bytes of memory", memory, limits.memory_base_bytes),
        ("memories", u64::from(needs.num_memories), MEMORIES as u64),
        ("tables", u64::from(needs.num_tables), TABLES as u64),
        ("elements in a table", table, TABLE_ELEMENTS),
    ];
    let findings: Vec<Finding> = bounds
        .into_iter()
        .filter(|(_, needed, most)| needed > most)
        .map(|(what, needed, most)| Finding {
            check: "resources",
            what: format!("it starts with {needed} {what}, and may have {most}"),
            cure: "ask for less at the start; what grows later is bounded too".into(),
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(Findings(findings)) }
}

fn starts(engine: &Engine, slot: Slot, component: &Component, limits: &LimitSettings) -> Result<Program, Findings> {
    let types = "build it against the wit/policy.wit of this release: its types must match exactly";
    let program = Program::link(engine, slot, component)
        .map_err(|error| Findings::one("start", escape(&format!("{error:#}"), 300), types))?;
    match program.instantiate(&at_rest(limits)).result {
        Ok(()) => Ok(program),
        Err(fault) => {
            let is_type = fault.kind == FaultKind::Trap && fault.message.starts_with("expected ");
            let cure =
                if is_type { types } else { "a policy does nothing before it is called: drop its start function" };
            Err(Findings::one("start", fault.to_string(), cure))
        }
    }
}

/// Limits of a call without members.
pub(crate) const fn at_rest(limits: &LimitSettings) -> PolicyLimits {
    limits.scaled(0, 0, 0)
}

fn takes_the_config(program: &Program, config: &str, limits: &LimitSettings) -> Result<Description, Findings> {
    if config.len() > CONFIG_BYTES {
        let what = format!("the config has {} bytes, and may have {CONFIG_BYTES}", config.len());
        return Err(Findings::one("config", what, "shorten it"));
    }
    program.describe(config, &at_rest(limits)).result.map_err(|fault| match fault.kind {
        FaultKind::Refused => {
            let what = format!("the policy refuses its config: {}", fault.message);
            Findings::one("config", what, format!("mend the config, which is {}", escape(config, 300)))
        }
        FaultKind::Trap
        | FaultKind::Fuel
        | FaultKind::Deadline
        | FaultKind::Memory
        | FaultKind::Stack
        | FaultKind::Output
        | FaultKind::Length
        | FaultKind::Code
        | FaultKind::Delta
        | FaultKind::Points
        | FaultKind::Log
        | FaultKind::NotPrepared => {
            Findings::one("config", format!("`describe` failed: {fault}"), "mend `describe`: it must answer any config")
        }
    })
}

fn describes_itself_within_bounds(
    slot: Slot,
    description: &Description,
    limits: &LimitSettings,
) -> Result<(), Findings> {
    let mut findings = Vec::new();
    let mut finding = |what: String, cure: &str| {
        findings.push(Finding { check: "description", what, cure: cure.into() });
    };
    for (what, text, most, may_be_empty) in [
        ("name", &description.name, NAME_CHARS, false),
        ("version", &description.version, VERSION_CHARS, false),
        ("memory-schema", &description.memory_schema, NAME_CHARS, description.memory_bytes == 0),
    ] {
        if text.is_empty() && !may_be_empty {
            finding(format!("`{what}` is empty"), "give it a text");
        }
        if text.chars().count() > most || !is_printable(text) {
            let shown = escape(text, 80);
            finding(format!("`{what}` is `{shown}`"), &format!("it may have {most} printable characters"));
        }
    }
    if slot == Slot::Signing && description.memory_bytes != 0 {
        let what = format!("`memory-bytes` is {}, and a signing rule remembers nothing", description.memory_bytes);
        finding(what, "say 0: a record is judged by what it is and by what the log says of its batch");
    } else if description.memory_bytes > limits.state_bytes {
        let what = format!("`memory-bytes` is {}, and may be {}", description.memory_bytes, limits.state_bytes);
        finding(what, "remember less of each member, or raise `policy_limits.state_bytes` (up to 4,096)");
    }
    if description.reasons.len() > REASONS {
        finding(format!("there are {} reasons", description.reasons.len()), "there may be 1,000");
    }
    if let Some(at) = description.reasons.iter().position(|text| text.len() > REASON_BYTES || !is_printable(text)) {
        let text = description.reasons.get(at).map(|text| escape(text, 80)).unwrap_or_default();
        finding(format!("reason {} is `{text}`", at + 1), "it may have 200 bytes of printable characters");
    }
    if slot == Slot::Signing && !description.extra.is_empty() {
        let what = format!("it asks for {} extra columns, and a signing rule sees no members", description.extra.len());
        finding(what, "ask for none: leave `extra` empty");
        return Err(Findings(findings));
    }
    if description.extra.len() > EXTRA_COLUMNS {
        finding(format!("it asks for {} extra columns", description.extra.len()), "it may ask for 16");
    }
    if let Some(name) = description.extra.iter().find(|name| !is_extra(name)) {
        let known: Vec<&str> = EXTRA.iter().map(|(name, _)| *name).collect();
        let known = format!("this release has {} (N is a seat, 0 to 7)", known.join(", "));
        finding(format!("it asks for the extra column `{}`", escape(name, 80)), &known);
    }
    if findings.is_empty() { Ok(()) } else { Err(Findings(findings)) }
}

/// The calls of the self-test of a slot that decides rounds, each with its name.
pub(crate) fn samples(description: &Description) -> [(&'static str, RoundInput, Members, Vec<u8>); 3] {
    let (round, members, memory) = sample(description);
    let nobody = Members {
        extra: members
            .extra
            .iter()
            .map(|column| kernel::decide::Column { values: Vec::new(), ..column.clone() })
            .collect(),
        ..Members::default()
    };
    let mut doubted = members.clone();
    for code in doubted.presence.iter_mut().filter(|code| **code != presence::UP) {
        *code = presence::UNKNOWN;
    }
    let suspect = RoundInput { suspect: true, ..round.clone() };
    let empty = RoundInput { population: 0, ..round.clone() };
    [
        ("a population of 15", round, members, memory.clone()),
        ("a suspect round", suspect, doubted, memory),
        ("a population of nobody", empty, nobody, Vec::new()),
    ]
}

fn decides_a_sample(slot: Slot, policy: &Prepared, config: &str) -> Result<(), Findings> {
    if slot == Slot::Signing {
        return reviews_a_sample(policy, config);
    }
    for (name, round, members, memory) in &samples(policy.description()) {
        let call = Call { config, round, members, memory };
        let (population, description) = (members.len(), policy.description());
        let twice = match slot {
            Slot::Reward => same_twice(|| policy.reward(&call), |answer| check_reward(answer, population, description)),
            Slot::Ban => same_twice(|| policy.judge(&call), |answer| check_judgement(answer, population, description)),
            Slot::Signing => Ok(()),
        };
        twice.map_err(|(what, cure)| Findings::one("self-test", format!("with {name}: {what}"), cure))?;
    }
    Ok(())
}

fn reviews_a_sample(policy: &Prepared, config: &str) -> Result<(), Findings> {
    let (context, records) = review::sample();
    let batch = Review { config, context, records: &records };
    let check = |codes: &Vec<u16>| review::check_verdicts(codes, records.len(), policy.description());
    same_twice(|| policy.review(&batch), check).map_err(|(what, cure)| {
        Findings::one("self-test", format!("with a batch of {} records: {what}", records.len()), cure)
    })
}

fn same_twice<T: PartialEq>(
    decide: impl Fn() -> Run<T>,
    check: impl Fn(&T) -> Result<(), Fault>,
) -> Result<(), (String, &'static str)> {
    let (first, second) = (decide().result, decide().result);
    let fault = "a fault here would be one wherever it is called: mend the rule";
    let answer = first.map_err(|error| (error.to_string(), fault))?;
    check(&answer).map_err(|error| (error.to_string(), fault))?;
    match second {
        Ok(again) if again == answer => Ok(()),
        Ok(_) => Err(("the same call got two answers".into(), "use no address, order of a hash map or float noise")),
        Err(error) => Err((error.to_string(), fault)),
    }
}
