//! The author's side of policies: make, build, check, look into, test and measure a rule. Needs no node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kernel::decide::Slot;
use kernel::limits::COMPONENT_BYTES;
use kernel::settings::Settings;
use policy::Failing;

use super::fault::tell;
use super::operate::slot;
use super::setup::assignment;
use crate::builtin;
use crate::compiling;
use crate::config::{Component, PolicySource, json};
use crate::failure::Failure;
use crate::text::{Columns, NONE, note, pairs, print};

/// Make a project to start a rule from: it builds, and passes its own cases
///
/// The folder NAME gets the source of a small rule with its cases, and the SDK that it is built with. Nothing is
/// overwritten. Change the rule, then `pingward policy build NAME`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy new my-ban-rule --slot ban
  pingward policy new rules/tempo --slot reward --lang c
  pingward policy new rules/letters --slot signing")]
pub struct New {
    /// The project's folder; its last part is the rule's name
    name: PathBuf,
    /// The slot that the rule is for
    #[arg(long, value_parser = slot)]
    slot: Slot,
    /// The language
    #[arg(long, value_enum, default_value_t, value_name = "LANGUAGE")]
    lang: Language,
}

/// Languages of projects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust, with cargo.
    #[default]
    Rust,
    /// C, with clang.
    C,
    /// JavaScript, with node and componentize-qjs.
    Js,
}

impl New {
    pub fn run(self) -> Result<(), Failure> {
        let dir = self.name.display();
        let (language, rule, first) = match self.lang {
            Language::Rust => (
                policy::Language::Rust,
                "src/lib.rs",
                format!("test it:  cargo test --manifest-path {dir}/Cargo.toml\n"),
            ),
            Language::C => (policy::Language::C, "rule.c", String::new()),
            Language::Js => (policy::Language::JavaScript, "rule.js", format!("once:     npm ci --prefix {dir}\n")),
        };
        let name = self.name.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        policy::project(&self.name, name, self.slot, language).map_err(|error| Failure::plain(error.to_string()))?;
        note(&format!(
            "made {dir}; the rule is in {dir}/{rule}\n{first}build it: pingward policy build {dir}\ntry it:   pingward \
             policy test {dir}/{name}.wasm"
        ));
        print(&pairs(&[("project", dir.to_string()), ("slot", self.slot.to_string())]))
    }
}

/// Cluster settings that a rule is looked at under.
#[derive(Clone, Debug, Args)]
struct Under {
    /// A cluster setting that is not the default one, such as policy_limits.state_bytes=1262; once for each
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

impl Under {
    fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        for (key, value) in &self.set {
            settings.set(key, value).map_err(|error| {
                Failure::usage(format!("--set {key}={value}: {error}"), "`pingward config show` lists the keys")
            })?;
        }
        Ok(settings)
    }
}

/// Check whether a node would take a component: `ok` and its digests, or what is wrong with the cure, a line each
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy check my-ban.wasm
  pingward policy check my-ban.wasm --config '{\"ban\":5}'
  pingward policy check my-ban.wasm --slot ban --config config.json")]
pub struct Check {
    /// The component
    file: PathBuf,
    /// The slot that it is for; the one whose world it exports when none is given
    #[arg(long, value_parser = slot)]
    slot: Option<Slot>,
    /// Its config: JSON, or a file with JSON
    #[arg(long, value_name = "JSON|FILE", default_value = "{}")]
    config: String,
    #[command(flatten)]
    under: Under,
}

impl Check {
    pub fn run(self) -> Result<(), Failure> {
        let bytes = read_component(&self.file)?;
        let config = read_config(&self.config)?;
        let place = self.file.display().to_string();
        let settings = self.under.settings()?;
        let limits = settings.policy_limits();
        let engine = engine()?;
        let slot = match self.slot {
            Some(slot) => slot,
            None => slot_of(&engine, &bytes, &self.file)?,
        };
        match policy::admit(&engine, slot, &bytes, &config, &limits) {
            Ok(admitted) => {
                let description = &admitted.description;
                let mut rows = vec![
                    ("slot", slot.to_string()),
                    ("name", format!("{} {}", description.name, description.version)),
                    ("digest", admitted.digest.to_string()),
                    ("component", admitted.component.to_string()),
                    ("config", config),
                    ("config digest", admitted.config_digest.to_string()),
                ];
                if slot == Slot::Signing {
                    // What an author of a record may read.
                    let reasons = description.reasons.join("; ");
                    rows.push(("reasons", if reasons.is_empty() { NONE.into() } else { reasons }));
                } else {
                    rows.extend([("memory", memory(description)), ("extra columns", all(&description.extra))]);
                }
                print(&format!("ok\n{}", pairs(&rows)))
            }
            Err(findings) => {
                tell_of_self_test(&engine, (slot, &config, &settings), &bytes, &self.file, &findings)?;
                let what = format!("a node would not take it for the slot {slot}:\n{}", indented(&findings));
                Err(Failure::plain(what).at(place))
            }
        }
    }
}

/// Where a component failed in admission's self-test: says which member brings it about.
pub(super) fn tell_of_self_test(
    engine: &policy::Engine,
    (slot, config, settings): (Slot, &str, &Settings),
    bytes: &[u8],
    file: &Path,
    findings: &policy::Findings,
) -> Result<(), Failure> {
    if findings.iter().all(|finding| finding.check != "self-test") {
        return Ok(());
    }
    let Ok(policy) = policy::prepare(engine, slot, bytes, config, &settings.policy_limits()) else { return Ok(()) };
    match Failing::of_self_test(&policy, slot, config, settings) {
        Some(failing) => {
            print("FAULT in the self-test\n")?;
            tell(engine, bytes, file, &failing)
        }
        None => Ok(()),
    }
}

/// Look into a component: its digest, size, imports, exports, and what it says of itself
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward policy inspect my-ban.wasm")]
pub struct Inspect {
    /// The component
    file: PathBuf,
    /// The config that it describes itself for: JSON, or a file with JSON
    #[arg(long, value_name = "JSON|FILE", default_value = "{}")]
    config: String,
}

impl Inspect {
    pub fn run(self) -> Result<(), Failure> {
        let bytes = read_component(&self.file)?;
        let config = read_config(&self.config)?;
        let place = self.file.display().to_string();
        let limits = Settings::default().policy_limits();
        match policy::inspect(&engine()?, &bytes, &config, &limits) {
            Ok(inspection) => print(&inspection_text(&inspection)),
            Err(findings) => Err(Failure::plain(format!("this is no component:\n{}", indented(&findings))).at(place)),
        }
    }
}

fn inspection_text(seen: &policy::Inspection) -> String {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.into());
    let mut rows = vec![
        ("component", seen.digest.to_string()),
        ("bytes", seen.size.to_string()),
        ("world", seen.world().unwrap_or_else(|| "none of pingward's".into())),
        ("contract", format!("{} (this release runs {})", known(&seen.wit_version), seen.wit_versions)),
        ("imports", all(&seen.imports)),
        ("exports", all(&seen.exports)),
        ("name", known(&seen.name)),
        ("version", known(&seen.version)),
        ("description", known(&seen.description)),
        ("authors", known(&seen.authors)),
        ("revision", known(&seen.revision)),
    ];
    match &seen.described {
        Ok(description) => rows.extend([
            ("describes as", format!("{} {}", description.name, description.version)),
            ("memory", memory(description)),
            ("reasons", all(&description.reasons)),
            ("extra columns", all(&description.extra)),
        ]),
        Err(why) => rows.push(("describes as", format!("nothing: {why}"))),
    }
    pairs(&rows)
}

/// Whether a node would take the policy that its config names for a slot.
pub fn check_named(slot: Slot, source: &PolicySource, settings: &Settings) -> Result<(), Failure> {
    let bytes = match &source.component {
        Component::File(file) => read_component(file)?,
        // That there is one of this name was checked when the config was read.
        Component::Builtin(name) => builtin::find(name).map(|builtin| builtin.component.to_vec()).unwrap_or_default(),
    };
    let admitted = policy::admit(&engine()?, slot, &bytes, &source.config, &settings.policy_limits());
    admitted.map(|_| ()).map_err(|findings| {
        Failure::plain(format!("the {slot} rule {} would not be taken:\n{}", source.component, indented(&findings)))
    })
}

fn all(texts: &[String]) -> String {
    if texts.is_empty() { NONE.into() } else { texts.join(", ") }
}

fn memory(description: &kernel::decide::Description) -> String {
    format!("{} bytes a member, schema `{}`", description.memory_bytes, description.memory_schema)
}

pub(super) fn engine() -> Result<policy::Engine, Failure> {
    compiling::engine(compiling::child_of_an_author(), None)
        .map_err(|error| Failure::plain(format!("the engine cannot start: {error}")))
}

fn indented(findings: &policy::Findings) -> String {
    findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n")
}

/// Compile a rule into a component
///
/// The folder is one like `policy new` makes: with a Cargo.toml it is Rust, with a pingward.toml C, with a package.json
/// JavaScript. The component is written beside it as NAME.wasm. Nothing is installed; what is missing is said.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy build my-ban-rule
  pingward policy build my-ban-rule --out my-ban.wasm")]
pub struct Build {
    /// The rule's folder
    dir: PathBuf,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Refuse to change the Cargo.lock of a rule in Rust: what makes a build repeatable
    #[arg(long)]
    locked: bool,
}

impl Build {
    pub fn run(self) -> Result<(), Failure> {
        note(&format!("building {}", self.dir.display()));
        let options = policy::BuildOptions { locked: self.locked, ..policy::BuildOptions::default() };
        let built = policy::build(&self.dir, self.out.as_deref(), &options)
            .map_err(|error| Failure::plain(error.to_string()))?;
        print(&pairs(&[
            ("wrote", built.path.display().to_string()),
            ("digest", built.digest.to_string()),
            ("bytes", built.size.to_string()),
        ]))
    }
}

/// Measure what a rule costs, beside the default rule of its slot in the same run
///
/// Each call is as in a round, or as a validator makes it for a batch: a fresh instance, all limits on. Times are medians on
/// this machine; fuel is the same on every one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy bench my-ban.wasm --config '{\"limit\":3}'
  pingward policy bench my-signing.wasm --records 1 --records 512 --bytes 2048")]
pub struct Bench {
    /// The component
    file: PathBuf,
    /// The slot that it is for; the one whose world it exports when none is given
    #[arg(long, value_parser = slot)]
    slot: Option<Slot>,
    /// Its config: JSON, or a file with JSON
    #[arg(long, value_name = "JSON|FILE", default_value = "{}")]
    config: String,
    /// Members; once for each population. 100, 10000 and 100000 when none is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: Vec<u32>,
    /// Of a signing rule: records of a batch; once for each size. 1, 64 and 512 when none is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    records: Vec<u32>,
    /// Of a signing rule: bytes of each record's body. 1024 when nothing is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65_536))]
    bytes: Option<u32>,
    #[command(flatten)]
    under: Under,
}

/// How long one population or size of batch is measured.
const BENCH_TIME: Duration = Duration::from_millis(500);
/// Populations that are measured when none is given.
const BENCH_MEMBERS: [u32; 3] = [100, 10_000, 100_000];
/// Sizes of batches that are measured when none is given.
const BENCH_RECORDS: [u32; 3] = [1, 64, 512];
/// Bytes of a body when nothing is given.
const BENCH_BYTES: u32 = 1_024;

impl Bench {
    pub fn run(self) -> Result<(), Failure> {
        let bytes = read_component(&self.file)?;
        let config = read_config(&self.config)?;
        let engine = engine()?;
        let slot = match self.slot {
            Some(slot) => slot,
            None => slot_of(&engine, &bytes, &self.file)?,
        };
        let place = self.file.display().to_string();
        let of_rounds = slot != Slot::Signing;
        if of_rounds && !(self.records.is_empty() && self.bytes.is_none()) {
            let what = format!("--records and --bytes are of signing rules, and this is a {slot} rule");
            return Err(Failure::usage(what, "say populations with --members"));
        }
        if !of_rounds && !self.members.is_empty() {
            let what = "--members is of rules that decide rounds, and this is a signing rule";
            return Err(Failure::usage(what, "say sizes of batches with --records, and --bytes of a body"));
        }
        // A net of a second would end what is only slow: here it is measured.
        let settings = self.under.settings()?;
        let limits = kernel::decide::LimitSettings { deadline_ms: 60_000, ..settings.policy_limits() };
        let admit = |bytes: &[u8], config: &str| {
            policy::admit(&engine, slot, bytes, config, &limits).map_err(|findings| {
                Failure::plain(format!("a node would not take it for the slot {slot}:\n{}", indented(&findings)))
                    .at(place.clone())
            })
        };
        let admitted = admit(&bytes, &config)?;
        let builtin = builtin::of(slot);
        let usual = admit(builtin.component, builtin.config)?;
        let heads = if of_rounds {
            ["members", "ms a call", "ns a member", "fuel a member"]
        } else {
            ["records", "ms a call", "ns a record", "fuel a record"]
        };
        let mut columns = Columns::new(&[heads.as_slice(), &[builtin.name, "ratio"]].concat());
        let (named, usual_sizes) =
            if of_rounds { (&self.members, BENCH_MEMBERS) } else { (&self.records, BENCH_RECORDS) };
        let sizes = if named.is_empty() { usual_sizes.as_slice() } else { named.as_slice() };
        for population in sizes.iter().copied() {
            let measure = |admitted: &policy::Admitted, config: &str| {
                if !of_rounds {
                    let batch = (population, self.bytes.unwrap_or(BENCH_BYTES) as usize);
                    let measured = policy::measure_review(&admitted.policy, config, batch, BENCH_TIME);
                    return measured.map_err(|fault| {
                        Failure::plain(format!("with {population} records: {fault}")).at(place.clone())
                    });
                }
                policy::measure(&admitted.policy, slot, config, population, BENCH_TIME).map_err(|mut failing| {
                    failing.inputs.settings = Settings { deadline_ms: limits.deadline_ms, ..settings.clone() };
                    let told = print(&format!("FAULT with {population} members\n"))
                        .and_then(|()| tell(&engine, &bytes, &self.file, &failing));
                    let fault = Failure::plain(format!("with {population} members: {}", failing.fault));
                    told.err().unwrap_or(fault).at(place.clone())
                })
            };
            let (own, usual) = (measure(&admitted, &config)?, measure(&usual, builtin.config)?);
            columns.row([
                population.to_string(),
                format!("{:.3}", own.call.as_secs_f64() * 1_000.0),
                own.ns_a_member().to_string(),
                own.fuel_a_member().to_string(),
                format!("{} ns", usual.ns_a_member()),
                format!("{:.2}", own.call.as_secs_f64() / usual.call.as_secs_f64()),
            ]);
        }
        print(&columns.text("nothing was measured"))
    }
}

/// The slot whose world a component exports.
pub(super) fn slot_of(engine: &policy::Engine, bytes: &[u8], file: &Path) -> Result<Slot, Failure> {
    let limits = Settings::default().policy_limits();
    let place = file.display().to_string();
    let inspected = policy::inspect(engine, bytes, "{}", &limits).map_err(|findings| {
        Failure::plain(format!("a node would not take it:\n{}", indented(&findings))).at(place.clone())
    })?;
    inspected.slot.ok_or_else(|| {
        let cure = "export the world `reward-policy`, `ban-policy` or `signing-policy` of wit/policy.wit; `pingward policy inspect` shows what it exports";
        Failure::new("a node would not take it: it fills no slot", cure).at(place)
    })
}

pub(super) fn read_component(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |what: String, hint: &str| Failure::new(what, hint).at(file.display().to_string());
    let size = std::fs::metadata(file)
        .map_err(|error| {
            failed(format!("the component cannot be read: {error}"), "`pingward policy build DIR` makes one")
        })?
        .len();
    if size > COMPONENT_BYTES as u64 {
        return Err(failed(
            format!("the component has {size} bytes, at most {COMPONENT_BYTES} are taken"),
            "build it for size, and leave out what it does not need",
        ));
    }
    std::fs::read(file)
        .map_err(|error| failed(format!("the component cannot be read: {error}"), "check the path and its permissions"))
}

pub(super) fn read_config(text: &str) -> Result<String, Failure> {
    let (json, place) = if text.trim_start().starts_with('{') {
        (text.to_string(), "--config".to_string())
    } else {
        let read = std::fs::read_to_string(text).map_err(|error| {
            Failure::new(
                format!("the config cannot be read: {error}"),
                "--config takes JSON that begins with { or the path of a file",
            )
            .at(text)
        })?;
        (read, text.to_string())
    };
    json::canonical(&json)
        .map_err(|error| Failure::new(error.to_string(), "write it as JSON, such as {\"warn\":2}").at(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_json_or_a_file_with_json() {
        assert_eq!(read_config(" { \"b\": 1, \"a\": 2 }").unwrap(), r#"{"a":2,"b":1}"#);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.json");
        std::fs::write(&file, "{ \"a\": 2 }").unwrap();
        assert_eq!(read_config(file.to_str().unwrap()).unwrap(), r#"{"a":2}"#);
        assert!(read_config("{\"a\":1.5}").unwrap_err().what.contains("a fraction"));
        assert!(read_config("nowhere.json").unwrap_err().what.starts_with("the config cannot be read"));
    }
}
