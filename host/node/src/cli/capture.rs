//! A recorded round as a case: what a rule was called with in it, and what it answered.

use std::path::{Path, PathBuf};

use clap::Args;
use kernel::columns::Inputs;
use kernel::decide::{Column, Description, FaultKind, Judgement, Members, Reward, RoundInput, Slot, Tariff};
use kernel::id::Digest;
use kernel::settings::Settings;
use policy::{Expected, Failing, Written};
use serde_json::json;

use super::author::{engine, read_component};
use super::fault::{smallest_text, write_fresh};
use super::operate::{Admin, of_rounds, slot};
use super::resolve;
use crate::failure::Failure;
use crate::rest::view::{InputsView, RowAnswer};
use crate::text::note;

/// Most rounds of one file.
const ROUNDS: u64 = 100;
/// What `policy test` reads.
pub const CASES_BYTES: usize = 64 << 20;

/// Write a recorded round as a case: what the rule saw of each member, and what it decided
///
/// The super rebuilds the call from its history and checks it against the digest that the round's settlement carries. The
/// case is TOML for `pingward policy test`: with the same component it gives the same decisions, with a changed rule or
/// config it shows what would differ. A fault is a case like any other; with --component, the fewest members that bring it
/// about are looked for and written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy capture --slot ban --round 812 --config super-1/node.toml
  pingward policy capture --slot ban --round 812 --nodes follower-3,follower-7 --out two.toml
  pingward policy capture --slot ban --round 812 --component my-ban.wasm
  pingward policy test my-ban.wasm --cases ban-round-812.toml")]
pub struct Capture {
    /// The slot whose rule was called
    #[arg(long, value_parser = slot)]
    slot: Slot,
    /// The round; `pingward rounds` lists them, `pingward policy list` those with a fault
    #[arg(long, value_name = "N")]
    round: u64,
    /// So many rounds from there on, a case for each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=ROUNDS))]
    rounds: u64,
    /// Only these members: keys, at least 8 digits of them, or names, with commas between
    #[arg(long, value_name = "NODE,...", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Where to write it; nothing is overwritten. The default is SLOT-round-N.toml in this folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Play it at once with this component, and cut a fault down to the fewest members
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    #[command(flatten)]
    admin: Admin,
}

/// A round as it came, and what was made of it.
struct Case {
    view: InputsView,
    inputs: Inputs,
    names: Vec<String>,
    text: String,
    /// Who brings its fault about, where that was looked for.
    told: String,
}

impl Capture {
    pub async fn run(self) -> Result<(), Failure> {
        of_rounds(self.slot)?;
        if let Some(out) = self.out.as_ref().filter(|out| out.exists()) {
            return Err(taken(out));
        }
        let component = match self.component.as_deref() {
            Some(file) => Some((file, read_component(file)?)),
            None => None,
        };
        let api = self.admin.client()?;
        let mut query = format!("slot={}", self.slot);
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.push(resolve::node(&api, node).await?.to_string());
        }
        if !nodes.is_empty() {
            query.push_str(&format!("&nodes={}", nodes.join(",")));
        }
        let mut cases = Vec::new();
        for round in self.round..self.round.saturating_add(self.rounds) {
            match api.get(&format!("/v1/rounds/{round}/inputs?{query}")).await {
                Ok(answer) => {
                    let view = serde_json::from_value(answer).map_err(|error| {
                        Failure::new(
                            format!("round {round}: the answer is none that this release knows: {error}"),
                            "use the release of the node that you ask",
                        )
                    })?;
                    cases.push(Case::of(view)?);
                }
                Err(failure) if self.rounds > 1 && failure.code.as_deref() == Some("not_called") => {
                    note(&format!("round {round} is left out: {}", failure.what));
                }
                Err(failure) => return Err(failure),
            }
        }
        if cases.is_empty() {
            return Err(Failure::new("the rule was called in none of these rounds", "take other rounds"));
        }
        let played = component.map(|(file, bytes)| play(&mut cases, file, &bytes)).transpose()?;
        let text = cases.iter().map(|case| case.text.as_str()).collect::<Vec<_>>().join("\n");
        if text.len() > CASES_BYTES {
            let what = format!("the cases have {} bytes, and `policy test` reads at most {CASES_BYTES}", text.len());
            return Err(Failure::new(what, "take fewer rounds, or some members with --nodes"));
        }
        let path = self.write(&text)?;
        let answer = json!({ "file": path.display().to_string(), "cases": cases.len() });
        self.admin.output.print(&answer, |_| said(&path, &cases, self.component.as_deref()))?;
        match played {
            Some(Err(failure)) => Err(failure),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn write(&self, text: &str) -> Result<PathBuf, Failure> {
        let failed = |path: &Path, error: std::io::Error| {
            Failure::new(format!("the case cannot be written: {error}"), "name another place with --out FILE")
                .at(path.display().to_string())
        };
        match &self.out {
            None => {
                let last = self.round.saturating_add(self.rounds - 1);
                let stem = match self.rounds {
                    1 => format!("{}-round-{}", self.slot, self.round),
                    _ => format!("{}-rounds-{}-{last}", self.slot, self.round),
                };
                write_fresh(Path::new(""), &stem, text).map_err(|error| failed(Path::new(&stem), error))
            }
            Some(out) => {
                let mut options = std::fs::OpenOptions::new();
                let file = options.write(true).create_new(true).open(out);
                let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
                match written {
                    Ok(()) => Ok(out.clone()),
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(taken(out)),
                    Err(error) => Err(failed(out, error)),
                }
            }
        }
    }
}

fn taken(out: &Path) -> Failure {
    Failure::new("the file is there already, and nothing is overwritten", "name another one with --out FILE")
        .at(out.display().to_string())
}

fn said(path: &Path, cases: &[Case], component: Option<&Path>) -> String {
    let path = path.display();
    let mut text = String::new();
    for case in cases {
        let view = &case.view;
        let what = match &view.fault {
            Some(fault) => format!("it failed: {}: {}", fault.kind, crate::client::printable(&fault.message)),
            None => "its decisions".into(),
        };
        let members = case.inputs.members.len();
        let of = if members == view.population { String::new() } else { format!(" of {}", view.population) };
        let (slot, name, round) = (&view.slot, crate::client::printable(&view.name), view.round);
        text.push_str(&format!("round {round}, {slot}, {name}: {members}{of} members, {what}\n{}", case.told));
    }
    let component = component.map_or_else(|| "RULE.wasm".to_string(), |file| file.display().to_string());
    format!("{text}wrote {path}\nplay it: pingward policy test {component} --cases {path}\n")
}

/// Plays the cases. Of one that fails as it did in its round, what is left is the fewest members that bring it about. Gives
/// whether all decide as they did.
fn play(cases: &mut [Case], file: &Path, bytes: &[u8]) -> Result<Result<(), Failure>, Failure> {
    let (engine, place) = (engine()?, file.display().to_string());
    let mut different = 0;
    for case in cases {
        let read = policy::cases(&case.text).map_err(|error| Failure::plain(error.to_string()))?;
        for read in &read {
            let played = read
                .play(&engine, case.inputs.slot, bytes)
                .map_err(|error| Failure::plain(error.to_string()).at(&place))?;
            different += usize::from(!played.passed());
            for line in &played.differences {
                note(&format!("round {}: {}", case.view.round, crate::client::printable(line)));
            }
            if played.passed() && case.view.fault.is_some() {
                case.cut(&engine, bytes)?;
            }
        }
    }
    Ok(match different {
        0 => Ok(()),
        _ => Err(Failure::new(
            "the component decides otherwise than the round did",
            "`pingward policy list` and `pingward policy inspect` show digests: is it the component that decided then?",
        )
        .at(place)),
    })
}

impl Case {
    fn of(view: InputsView) -> Result<Self, Failure> {
        let odd = |what: String| {
            Failure::new(format!("round {}: {what}", view.round), "use the release of the node that you ask")
        };
        let inputs = inputs(&view).map_err(odd)?;
        let names: Vec<String> = view.members.iter().map(|row| row.name.clone()).collect();
        let whole = inputs.members.len() == view.population;
        if whole && inputs.digest().to_string() != view.input {
            return Err(odd("what came has not the digest that the settlement carries".into()));
        }
        let text = text(&view, &inputs, &names).map_err(odd)?;
        // What was written is the call that it was, bit for bit, or is not handed out.
        let described = Description {
            memory_bytes: view.memory_bytes,
            reasons: view.reasons.clone(),
            extra: view.extra.clone(),
            ..Description::default()
        };
        let again = policy::cases(&text).and_then(|read| match read.as_slice() {
            [case] => case.inputs(inputs.slot, &described),
            _ => Ok(None),
        });
        match again {
            Ok(Some(again)) if again.digest() == inputs.digest() => {
                Ok(Self { view, inputs, names, text, told: String::new() })
            }
            Ok(_) => Err(odd("it cannot be written as a case: TOML does not hold what the rule saw".into())),
            Err(error) => Err(odd(format!("it cannot be written as a case: {error}"))),
        }
    }

    /// Keeps the fewest members that bring its fault about.
    fn cut(&mut self, engine: &policy::Engine, bytes: &[u8]) -> Result<(), Failure> {
        let Some(fault) = self.view.fault.as_ref().and_then(|fault| {
            let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == fault.kind)?;
            Some(kernel::decide::Fault::new(kind, &fault.message))
        }) else {
            return Ok(());
        };
        let (inputs, names) = (self.inputs.clone(), self.names.clone());
        let limits = inputs.settings.policy_limits();
        let policy = policy::prepare(engine, inputs.slot, bytes, &inputs.config, &limits)
            .map_err(|findings| Failure::plain(findings.to_string()))?;
        let Some(smallest) = (Failing { inputs, names, fault }).smallest(&policy) else { return Ok(()) };
        self.told = smallest_text(&smallest);
        self.inputs = smallest.failing.inputs;
        self.names = smallest.failing.names;
        self.text = text(&self.view, &self.inputs, &self.names).map_err(Failure::plain)?;
        Ok(())
    }
}

fn text(view: &InputsView, inputs: &Inputs, names: &[String]) -> Result<String, String> {
    let mut remarks = vec![
        format!("Captured from the cluster {}: what the {} rule saw in round {}.", view.cluster, view.slot, view.round),
        format!("Rule: {} {}, {}; engine {}.", view.name, view.version, view.policy, view.engine),
        format!("Input: {}, as the settlement carries it.", view.input),
    ];
    let members = inputs.members.len();
    if members != view.population {
        remarks.push(format!(
            "These are {members} of {} members: a rule that compares members may decide otherwise about them alone.",
            view.population
        ));
    }
    if let Some(fault) = &view.fault {
        remarks.push(format!("The rule failed: {}: {}", fault.kind, fault.message));
        if fault.kind == FaultKind::Deadline.name() {
            remarks.push("The wall clock stopped it: on another machine the same call may end in time.".into());
        }
        remarks.push("When it is mended, say here what it decides instead, or: expect.fault = \"none\"".into());
    }
    let name = format!("{}, round {}", view.slot, view.round);
    let mut written =
        Written { remarks: &remarks, name: &name, inputs, names, expected: Expected::Fault(FaultKind::NotPrepared) };
    if let Some(fault) = &view.fault {
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == fault.kind);
        written.expected = Expected::Fault(kind.ok_or_else(|| format!("there is no fault `{}`", fault.kind))?);
        return Ok(written.text());
    }
    let missing = || "the answer of a member is missing".to_string();
    let mut memory = Vec::new();
    for row in &view.members {
        memory.extend(row.memory_after.as_deref().and_then(unhex).ok_or_else(missing)?);
    }
    match inputs.slot {
        Slot::Ban => {
            let judged = view.members.iter().map(|row| match row.answer {
                Some(RowAnswer::Judged(judged)) => Ok(judged),
                Some(RowAnswer::Paid(_)) | None => Err(missing()),
            });
            let judged: Vec<_> = judged.collect::<Result<_, _>>()?;
            let judgement = Judgement {
                strikes: judged.iter().map(|row| row.strikes).collect(),
                standing: judged.iter().map(|row| row.standing).collect(),
                until: judged.iter().map(|row| row.until).collect(),
                reasons: judged.iter().map(|row| row.reason).collect(),
                memory,
            };
            written.expected = Expected::Judged(&judgement, &view.reasons);
            Ok(written.text())
        }
        Slot::Reward => {
            let paid = view.members.iter().map(|row| match row.answer {
                Some(RowAnswer::Paid(paid)) => Ok(paid),
                Some(RowAnswer::Judged(_)) | None => Err(missing()),
            });
            let paid: Vec<_> = paid.collect::<Result<_, _>>()?;
            let tariff = view.tariff.ok_or_else(missing)?;
            let reward = Reward {
                points: paid.iter().map(|row| row.points).collect(),
                reasons: paid.iter().map(|row| row.reason).collect(),
                memory,
                tariff: Tariff {
                    overclaim_bp: tariff.overclaim_bp,
                    overclaim_min: tariff.overclaim_min,
                    record_fee: tariff.record_fee,
                    record_fee_kib: tariff.record_fee_kib,
                },
            };
            written.expected = Expected::Paid(&reward, &view.reasons);
            Ok(written.text())
        }
        Slot::Signing => Err("a signing rule decides no rounds".into()),
    }
}

fn inputs(view: &InputsView) -> Result<Inputs, String> {
    let rows = &view.members;
    let mut settings = Settings::default();
    for (key, value) in &view.settings {
        settings.put(key, value).map_err(|error| format!("the setting {key}: {error}"))?;
    }
    let mut memory = Vec::new();
    for row in rows {
        let bytes = unhex(&row.memory).filter(|bytes| bytes.len() == view.memory_bytes as usize);
        memory.extend(bytes.ok_or("the memory of a member has another length")?);
    }
    let extra = view.extra.iter().enumerate().map(|(at, name)| {
        let values: Option<Vec<i64>> = rows.iter().map(|row| row.extra.get(at).copied()).collect();
        Ok(Column { name: name.clone(), values: values.ok_or("an extra column is short")? })
    });
    let seed = unhex(&view.seed).and_then(|bytes| bytes.try_into().ok()).ok_or("the seed is no digest")?;
    Ok(Inputs {
        slot: view.slot.parse().map_err(|_| format!("there is no slot `{}`", view.slot))?,
        config: crate::config::json::canonical(&view.config.to_string()).map_err(|error| error.to_string())?,
        round: RoundInput {
            number: view.round,
            now_ms: view.now_ms,
            elapsed_ms: view.elapsed_ms,
            interval_ms: view.interval_ms,
            population: u32::try_from(rows.len()).map_err(|_| "too many members")?,
            suspect: view.suspect,
            seed: Digest(seed),
        },
        members: Members {
            presence: rows.iter().map(|row| row.presence).collect(),
            facts: rows.iter().map(|row| row.facts).collect(),
            rtt_us: rows.iter().map(|row| row.rtt_us).collect(),
            observers: rows.iter().map(|row| row.observers).collect(),
            age: rows.iter().map(|row| row.age).collect(),
            standing: rows.iter().map(|row| row.standing).collect(),
            strikes: rows.iter().map(|row| row.strikes).collect(),
            earned: rows.iter().map(|row| row.earned).collect(),
            data: rows.iter().map(|row| row.data).collect(),
            class: rows.iter().map(|row| row.class).collect(),
            group: rows.iter().map(|row| row.group).collect(),
            flags: rows.iter().map(|row| row.flags).collect(),
            extra: extra.collect::<Result<_, String>>()?,
        },
        memory,
        settings,
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| digit.try_into().ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}
