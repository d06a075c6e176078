//! Changing a rule on a live network: stage it, see how far the supers are, let it run as a shadow, activate it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use kernel::decide::Slot;
use kernel::limits::COMPONENT_BYTES;
use serde_json::{Value, json};

use super::author::read_config;
use super::operate::{Admin, of_rounds, reason, slot};
use super::output::Output;
use super::source::Reading;
use crate::client::Api;
use crate::failure::Failure;
use crate::prepare::memory_words;
use crate::text::{Columns, field, list, note, pairs, short};

/// Fewer digits of a digest are too easily another's.
const PREFIX_DIGITS: usize = 8;
/// Between two looks at how far the supers are.
const LOOK: Duration = Duration::from_millis(500);

/// Make a component with a config a candidate: every super compiles and tests it
///
/// Nothing changes until it is activated. The component passes the same checks as with `pingward policy check`; where it
/// does not, the answer says what is wrong and how to mend it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy stage ban my-ban.wasm --config '{\"ban\":5}' --wait
  pingward policy stage ban my-ban.wasm --dry-run      # stages nothing: who would have changed side in the last 100 rounds")]
pub struct Stage {
    /// The slot
    #[arg(value_parser = slot)]
    slot: Slot,
    /// The component
    file: PathBuf,
    /// Its config: JSON, or a file with JSON
    #[arg(long, value_name = "JSON|FILE", default_value = "{}")]
    config: String,
    /// Stage nothing: run the last 100 rounds through it and show what it would have decided otherwise
    #[arg(long)]
    dry_run: bool,
    /// Wait until every super, and of a signing rule every validator, has compiled it, or said why it cannot
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// The super's config: its admin socket is found through it
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    node_config: PathBuf,
    /// Over --api with the token in this file; the variable PINGWARD_TOKEN holds a token itself
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The super's API, for a token; the default is http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Stage {
    pub async fn run(self) -> Result<(), Failure> {
        if self.dry_run {
            of_rounds(self.slot)?;
        }
        let config = read_config(&self.config)?;
        let component = read(&self.file)?;
        // Here `--config` is the rule's.
        let api = Admin::of(self.node_config, self.token_file, self.api, self.output).client()?;
        let route = format!("/v1/policies/{}{}", self.slot, if self.dry_run { "?dry_run=true" } else { "" });
        note(&format!("sending {} KiB to {}", component.len().div_ceil(1_024), api.shown()));
        let answer = api.upload(&route, &[("component", &component), ("config", config.as_bytes())]).await?;
        if self.dry_run {
            return self.output.print(&answer, |answer| dry_run_text(self.slot, answer));
        }
        self.output.print(&answer, staged_text)?;
        if self.wait { wait(&api, self.slot, &field(&answer, "digest")).await } else { Ok(()) }
    }
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let failed = |what: String| Failure::new(what, "check the path and its permissions").at(file.display().to_string());
    let size = std::fs::metadata(file).map_err(|error| failed(format!("it cannot be read: {error}")))?.len();
    if size > COMPONENT_BYTES as u64 {
        let what = format!("it has {size} bytes, and a component at most {COMPONENT_BYTES}");
        return Err(Failure::new(what, "build it in release, without debug information: `pingward policy build` does")
            .at(file.display().to_string()));
    }
    std::fs::read(file).map_err(|error| failed(format!("it cannot be read: {error}")))
}

fn staged_text(answer: &Value) -> String {
    let empty = answer.get("memory_empty").and_then(Value::as_u64).unwrap_or_default();
    let replicas = list(answer, "replicas");
    let ready = replicas.iter().filter(|replica| field(replica, "state") == "ready").count();
    let digest = field(answer, "digest");
    let rows = [
        (
            "staged",
            format!("{} {} for the {} slot", field(answer, "name"), field(answer, "version"), field(answer, "slot")),
        ),
        ("digest", digest.clone()),
        ("memory", format!("{} if it is activated now", memory_words(empty))),
        ("ready", format!("{ready} of {} supers; `pingward policy status` tells when the others are", replicas.len())),
    ];
    let shadow = match field(answer, "slot").parse::<Slot>().map(of_rounds) {
        Ok(Ok(())) => format!("pingward policy shadow {digest}, or "),
        Ok(Err(_)) | Err(_) => String::new(),
    };
    format!("{}next: {shadow}pingward policy activate {digest}\n", pairs(&rows))
}

/// Every super and every validator, each with what it said of a policy.
fn nodes(policy: &Value) -> Vec<&Value> {
    list(policy, "replicas").iter().chain(list(policy, "validators")).collect()
}

/// Looks until every super, and of a signing rule every validator, has said something of a policy.
async fn wait(api: &Api, slot: Slot, digest: &str) -> Result<(), Failure> {
    let mut shown = String::new();
    loop {
        let answer = api.get("/v1/policies").await?;
        let policy = of_slot(&answer, slot).into_iter().find(|policy| field(policy, "digest") == digest).cloned();
        let policy = policy.ok_or_else(|| {
            Failure::new("the policy is not staged any more", "others were staged since; stage it again")
        })?;
        let nodes = nodes(&policy);
        let of = |state: &str| nodes.iter().filter(|node| field(node, "state") == state).count();
        let who = if list(&policy, "validators").is_empty() { "supers" } else { "supers and validators" };
        let now = format!("ready on {} of {} {who}", of("ready"), nodes.len());
        if now != shown {
            note(&now);
            shown = now;
        }
        if of("waiting") == 0 {
            let failed: Vec<String> =
                nodes.iter().filter(|node| field(node, "state") == "failed").map(|node| node_text(node)).collect();
            return if failed.is_empty() {
                Ok(())
            } else {
                let hint = "a majority is enough to activate it; see the log there, and `pingward policy status`";
                Err(Failure::new(format!("it cannot run on: {}", failed.join("; ")), hint))
            };
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn node_text(node: &Value) -> String {
    let name = match node.get("name").and_then(Value::as_str) {
        Some(name) => name.to_string(),
        None => short(node, "node"),
    };
    match node.get("why").and_then(Value::as_str) {
        Some(why) => format!("{name}: {why}"),
        None => name,
    }
}

/// All policies of a slot in an answer of `/v1/policies`; one may come twice.
fn of_slot(answer: &Value, slot: Slot) -> Vec<&Value> {
    let Some(row) = answer.get("slots").and_then(|slots| slots.get(slot.name())) else { return Vec::new() };
    let scheduled = row.get("scheduled").and_then(|scheduled| scheduled.get("policy"));
    let places = ["active", "previous", "shadow"].iter().filter_map(|place| row.get(*place)).chain(scheduled);
    places.filter(|policy| policy.is_object()).chain(list(row, "staged")).collect()
}

/// The slot and the whole digest of a policy that was named by its digest, by at least 8 digits of it, or by its name.
async fn find(api: &Api, text: &str) -> Result<(Slot, String), Failure> {
    only(&api.get("/v1/policies").await?, text)
}

fn only(answer: &Value, text: &str) -> Result<(Slot, String), Failure> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text).to_lowercase();
    let by_digits = |policy: &Value| {
        let digest = field(policy, "digest");
        digits.len() >= PREFIX_DIGITS && digest.strip_prefix("sha256:").unwrap_or(&digest).starts_with(&digits)
    };
    // What decides has its name from another config of the same rule: whoever names a rule means the one that waits.
    let by_name = |policy: &Value| {
        field(policy, "name") == text && ["staged", "shadow"].contains(&field(policy, "state").as_str())
    };
    let all = |fits: &dyn Fn(&Value) -> bool| {
        let mut found: Vec<(Slot, String)> = Vec::new();
        for slot in Slot::ALL {
            for policy in of_slot(answer, slot).into_iter().filter(|policy| fits(policy)) {
                let one = (slot, field(policy, "digest"));
                if !found.contains(&one) {
                    found.push(one);
                }
            }
        }
        found
    };
    let mut found = all(&by_digits);
    if found.is_empty() {
        found = all(&by_name);
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new(
            format!("no policy has the digest `{text}`, and none that is staged has this name"),
            format!(
                "`pingward policy list` shows them; give the whole digest, or at least {PREFIX_DIGITS} digits of it"
            ),
        )),
        several => {
            let all: Vec<String> = several.iter().map(|(slot, digest)| format!("\n  {slot}  {digest}")).collect();
            Err(Failure::new(
                format!("`{text}` fits several policies:{}", all.concat()),
                "name it by its digest, or by more digits of it",
            ))
        }
    }
}

/// Let a staged rule decide from a round on
///
/// Two rounds after the last settled one at the earliest, or after the notice that the setting guardrails.notice_rounds asks
/// for. A majority of the supers must be ready; nodes are told ahead.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy activate 8a88e3dd --round 1200 --reason \"as announced\"
  pingward policy activate 8a88e3dd --emergency --reason \"the active one bans everybody\"")]
pub struct Activate {
    /// Its digest, at least 8 digits of it, or the name of the only one that is staged
    #[arg(value_name = "DIGEST")]
    digest: String,
    /// The first round that it decides; the earliest one where it is left out
    #[arg(long, value_name = "N")]
    round: Option<u64>,
    /// Without the notice that the settings ask for; everybody is told so
    #[arg(long)]
    emergency: bool,
    /// Why; kept in the change log
    #[arg(long, value_parser = reason, default_value = "activated by hand")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl Activate {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?;
        let (slot, digest) = find(&api, &self.digest).await?;
        let mut body = json!({ "digest": digest, "emergency": self.emergency, "reason": self.reason });
        if let (Some(round), Some(body)) = (self.round, body.as_object_mut()) {
            body.insert("round".into(), round.into());
        }
        let said = |answer: &Value| {
            let empty = answer.get("memory_empty").and_then(Value::as_u64).unwrap_or_default();
            let round = field(answer, "round");
            format!("{digest} decides the {slot} slot from round {round} on; {}", memory_words(empty))
        };
        self.admin.decide(&api, (Method::POST, &format!("/v1/policies/{slot}/activate")), &body, said).await
    }
}

/// Run a staged rule beside the active one, without effect, and see what it would do
///
/// With a digest: it runs from the next round on, with points and standings of its own. With a slot: what it would have
/// decided otherwise so far.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy shadow 8a88e3dd --reason \"before we activate it\"
  pingward policy shadow ban
  pingward policy shadow ban --end")]
pub struct ShadowPolicy {
    /// A staged policy's digest, at least 8 digits of it, or its name; or a slot
    #[arg(value_name = "DIGEST|SLOT")]
    what: String,
    /// End the slot's shadow
    #[arg(long)]
    end: bool,
    /// Why; kept in the change log
    #[arg(long, value_parser = reason, default_value = "by hand")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl ShadowPolicy {
    pub async fn run(self) -> Result<(), Failure> {
        let named = slot(&self.what);
        if let Ok(slot) = named {
            of_rounds(slot)?;
        }
        let api = self.admin.client()?;
        match (named, self.end) {
            (Ok(slot), true) => {
                let body = json!({ "digest": null, "reason": self.reason });
                let said = |_: &Value| format!("nothing runs beside the active {slot} rule any more");
                self.admin.decide(&api, (Method::POST, &format!("/v1/policies/{slot}/shadow")), &body, said).await
            }
            (Ok(slot), false) => {
                let answer = api.get(&format!("/v1/policies/{slot}/shadow")).await?;
                self.admin.output.print(&answer, |answer| shadow_text(slot, answer.get("shadow")))
            }
            (Err(_), true) => Err(Failure::usage(
                "--end takes a slot",
                "`pingward policy shadow ban --end` ends the shadow of that slot",
            )),
            (Err(_), false) => {
                let (slot, digest) = find(&api, &self.what).await?;
                of_rounds(slot)?;
                let body = json!({ "digest": digest, "reason": self.reason });
                let said = |answer: &Value| {
                    let empty = answer.get("memory_empty").and_then(Value::as_u64).unwrap_or_default();
                    let from = field(answer, "round");
                    format!(
                        "{digest} runs beside the active {slot} rule from round {from} on, without effect; {}\n\
                         `pingward policy shadow {slot}` shows what it would decide otherwise",
                        memory_words(empty)
                    )
                };
                self.admin.decide(&api, (Method::POST, &format!("/v1/policies/{slot}/shadow")), &body, said).await
            }
        }
    }
}

fn dry_run_text(slot: Slot, answer: &Value) -> String {
    let what = format!("{} {} ({})\n", field(answer, "name"), field(answer, "version"), field(answer, "digest"));
    let differences = answer.get("differences").filter(|differences| differences.is_object());
    match differences {
        Some(_) => format!("{what}{}nothing was staged\n", shadow_text(slot, differences)),
        None => format!("{what}admitted; there is no past round to run it on yet\nnothing was staged\n"),
    }
}

fn shadow_text(slot: Slot, shadow: Option<&Value>) -> String {
    let Some(shadow) = shadow.filter(|shadow| shadow.is_object()) else {
        return format!("no policy runs beside the active {slot} rule; `pingward policy shadow DIGEST` lets one\n");
    };
    let none = Value::Null;
    let sums = |of: &str, name: &str| field(shadow.get(of).unwrap_or(&none), name);
    let mut columns = Columns::new(&["", "points", "warned", "suspended", "banned", "held", "clamped", "faults"]);
    for (of, shown) in [("active", "active"), ("shadow", "it would")] {
        let names = ["points", "warned", "suspended", "banned", "held", "clamped", "faults"];
        columns.row([shown.to_string()].into_iter().chain(names.iter().map(|name| sums(of, name))));
    }
    let mut text = format!(
        "{} rounds, {} to {}: {} of them otherwise for somebody, first {}\n{}",
        field(shadow, "rounds"),
        shadow.get("since_round").and_then(Value::as_u64).map_or(0, |round| round + 1),
        field(shadow, "round"),
        field(shadow, "rounds_otherwise"),
        field(shadow, "first_difference"),
        columns.text("")
    );
    if let Some(fault) = shadow.get("fault").filter(|fault| fault.is_object()) {
        let (round, kind, message) = (field(fault, "round"), field(fault, "kind"), field(fault, "message"));
        text.push_str(&format!("its last fault, in round {round}: {kind}: {message}\n"));
    }
    if let Some(round) = shadow.get("returned").and_then(Value::as_u64) {
        text.push_str(&format!("it failed so often that the rule before it would have come back in round {round}; nothing after that counts\n"));
    }
    if field(shadow, "late") == "yes" {
        text.push_str("it was asked for earlier than this super can tell: its history does not reach back\n");
    }
    if field(shadow, "waits") == "yes" {
        text.push_str("it waits: a policy that it needs is not prepared here; see the log of this super\n");
    }
    let members = list(shadow, "members");
    if members.is_empty() {
        text.push_str("nobody would be paid or placed otherwise\n");
        return text;
    }
    let mut columns =
        Columns::new(&["node", "name", "since round", "stands", "would stand", "points", "would have", "why"]);
    for member in members {
        columns.row([
            short(member, "node"),
            field(member, "name"),
            field(member, "first_difference"),
            field(member, "standing"),
            field(member, "shadow_standing"),
            field(member, "points"),
            field(member, "shadow_points"),
            field(member, "shadow_reason"),
        ]);
    }
    text.push_str(&columns.text(""));
    let all = shadow.get("members_otherwise").and_then(Value::as_u64).unwrap_or_default();
    if all > members.len() as u64 {
        text.push_str(&format!("and {} more\n", all - members.len() as u64));
    }
    text
}

/// Show how far each super is with each rule, and each validator with each signing rule
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward policy status")]
pub struct Status {
    #[command(flatten)]
    source: Reading,
}

impl Status {
    pub async fn run(self) -> Result<(), Failure> {
        let answer = self.source.api()?.get("/v1/policies").await?;
        self.source.output().print(&answer, status_text)
    }
}

fn status_text(answer: &Value) -> String {
    let mut columns = Columns::new(&["slot", "place", "name", "version", "digest", "node", "state", "why"]);
    for slot in Slot::ALL {
        for policy in of_slot(answer, slot) {
            for node in nodes(policy) {
                let name = node.get("name").and_then(Value::as_str);
                columns.row([
                    slot.name().into(),
                    field(policy, "state"),
                    field(policy, "name"),
                    field(policy, "version"),
                    short(policy, "digest"),
                    name.map_or_else(|| short(node, "node"), Into::into),
                    field(node, "state"),
                    field(node, "why"),
                ]);
            }
        }
    }
    columns.text("no slot has a policy: nobody is paid or banned, and nothing is signed")
}

#[cfg(test)]
mod tests;
