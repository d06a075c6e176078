//! Reads: what a node's API tells, as columns or as its JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::operate;
use super::output::{Format, more};
use super::resolve;
use super::source::{Page, Reading, Source};
use crate::failure::Failure;
use crate::text::{Columns, NONE, ago, field, list, note, pairs, print, rounds, rtt, short, span, time};

/// Nodes that `status` shows below a super's own lines.
const STATUS_NODES: usize = 20;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Show one node: its role, cluster, round; on a follower its standing, its points and the rules
///
/// On a super the nodes that it knows stand below.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward status
  pingward status --api http://127.0.0.1:8081 --output json")]
pub struct Status {
    #[command(flatten)]
    source: Source,
}

impl Status {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.source.api()?;
        let status = api.get("/v1/status").await?;
        let output = self.source.output;
        output.print(&status, status_text)?;
        if output.output == Format::Table && field(&status, "role") == "super" {
            let nodes = api.get(&format!("/v1/nodes?limit={STATUS_NODES}&read=local")).await?;
            print(&format!("\n{}", nodes_text(&nodes, now_ms())))?;
            if nodes.get("next").is_some_and(|next| !next.is_null()) {
                note("there are more: pingward nodes");
            }
        }
        Ok(())
    }
}

fn status_text(status: &Value) -> String {
    let mut rows = vec![
        ("node", field(status, "node")),
        ("name", field(status, "name")),
        ("role", field(status, "role")),
        ("version", field(status, "version")),
        ("cluster", field(status, "cluster")),
        ("leader", field(status, "leader")),
        ("round", field(status, "round")),
        ("suspect", field(status, "suspect")),
        ("up for", ago_of(status, "uptime_ms")),
    ];
    if field(status, "role") == "follower" {
        rows.extend([
            ("standing", field(status, "standing")),
            ("reason", field(status, "reason")),
            ("earned", field(status, "earned")),
            ("wallet", field(status, "wallet")),
            ("warning", field(status, "warning")),
            ("returns", time(status, "earliest_return")),
        ]);
        rows.extend(rules_rows(status));
        rows.push(("attached to", field(status, "connected_to")));
        if let Some(refused) = status.get("refused").filter(|refused| refused.is_object()) {
            rows.push(("refused", format!("{} [{}]", field(refused, "detail"), field(refused, "code"))));
            rows.push(("hint", field(refused, "hint")));
            rows.push(("tries again", time(status, "retry_ms")));
        }
        if field(status, "failed") != NONE {
            rows.push(("failed", field(status, "failed")));
        }
    } else if field(status, "role") == "validator" {
        rows.push(("attached to", field(status, "connected_to")));
        if field(status, "refused") != NONE {
            rows.push(("refused", field(status, "refused")));
        }
    } else if field(status, "role") == "super" {
        rows.extend([
            ("storage", field(status, "storage")),
            ("queue", field(status, "queue")),
            ("streams", field(status, "connected")),
            ("held slots", field(status, "held")),
            ("validators", field(status, "validators")),
            ("records", field(status, "records")),
        ]);
        if field(status, "clock_off_ms") != NONE {
            rows.push(("clock off", format!("{} ms: set this machine's clock", field(status, "clock_off_ms"))));
        }
    }
    if field(status, "records_kept") != NONE {
        rows.push((
            "records",
            format!("{} kept, {} bytes", field(status, "records_kept"), field(status, "records_bytes")),
        ));
    }
    pairs(&rows)
}

/// The rule of each slot, and below it the one that is to come.
fn rules_rows(status: &Value) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    for (name, slot) in [("reward rule", "reward"), ("ban rule", "ban"), ("signing rule", "signing")] {
        let slot = status.get("rules").and_then(|rules| rules.get(slot)).filter(|slot| slot.is_object());
        rows.push((name, slot.map_or_else(|| NONE.into(), |slot| rule(slot.get("active")))));
        if let Some(coming) = slot.and_then(|slot| slot.get("scheduled")).filter(|coming| coming.is_object()) {
            rows.push(("to come", coming_text(coming, status)));
        }
    }
    rows
}

/// What a rule is called; null and one without a digest are none.
fn rule(rule: Option<&Value>) -> String {
    let words = ["name", "version", "digest"].map(|name| rule.map_or_else(|| NONE.into(), |rule| field(rule, name)));
    let words: Vec<String> = words.into_iter().filter(|word| word != NONE).collect();
    if words.is_empty() { "none, the slot is neutral".into() } else { words.join(" ") }
}

fn coming_text(coming: &Value, status: &Value) -> String {
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
    let notice = number(coming, "notice_rounds");
    // The node may have been told of the rule before it was told of the round.
    let left = number(coming, "round").zip(number(status, "round")).map(|(of, settled)| of.saturating_sub(settled));
    let left = left.map_or(notice, |left| notice.map(|notice| left.min(notice)));
    let ms = number(coming, "notice_ms").zip(notice).and_then(|(ms, rounds)| ms.checked_div(rounds));
    let when = match left.zip(ms) {
        Some((left, ms)) => format!(" (in {}, about {})", rounds(left), span(ms.saturating_mul(left))),
        None => String::new(),
    };
    let why = match coming.get("kind").and_then(Value::as_str) {
        Some("returned") => ", because the one in force failed too often",
        Some("emergency") => ", in an emergency",
        _ => "",
    };
    format!("from round {} on{when}{why}: {}", field(coming, "round"), rule(Some(coming)))
}

fn ago_of(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_u64).map_or_else(|| NONE.into(), span)
}

/// Show the queue: who is asked, in the order of the last settled round
///
/// The order of the round that runs is secret: a node that knew its turn could be up only then.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward queue --limit 1000")]
pub struct Queue {
    #[command(flatten)]
    source: Reading,
    #[command(flatten)]
    page: Page,
}

impl Queue {
    pub async fn run(self) -> Result<(), Failure> {
        self.source.show(&self.page.route("/v1/followers/queue")?, queue_text).await
    }
}

fn queue_text(answer: &Value) -> String {
    let mut columns = Columns::new(&["turn", "name", "key", "standing", "address"]);
    for entry in list(answer, "queue") {
        columns.row([
            field(entry, "position"),
            field(entry, "name"),
            short(entry, "node"),
            field(entry, "standing"),
            field(entry, "address"),
        ]);
    }
    columns.text("the queue is empty: no follower has joined yet")
}

/// Show the nodes, or one of them with its strikes, ban and warning; set a node's class
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  pingward nodes
  pingward nodes follower-1
  pingward nodes set follower-1 --class 2"
)]
pub struct Nodes {
    /// Its key, at least 8 digits of it, or its name
    node: Option<String>,
    #[command(flatten)]
    source: Reading,
    #[command(flatten)]
    page: Page,
    #[command(subcommand)]
    change: Option<NodesChange>,
}

#[derive(Debug, Subcommand)]
enum NodesChange {
    Set(operate::SetClass),
}

impl Nodes {
    pub async fn run(self) -> Result<(), Failure> {
        match (self.change, self.node) {
            (Some(NodesChange::Set(set)), _) => set.run().await,
            (None, Some(node)) => {
                let node = resolve::node(&self.source.api()?, &node).await?;
                self.source.show(&format!("/v1/nodes/{node}"), node_text).await
            }
            (None, None) => self.source.show(&self.page.route("/v1/nodes")?, |nodes| nodes_text(nodes, now_ms())).await,
        }
    }
}

fn nodes_text(answer: &Value, now_ms: u64) -> String {
    let mut columns = Columns::new(&["name", "key", "role", "standing", "stream", "last pong", "rtt"]);
    for node in list(answer, "nodes") {
        columns.row([
            field(node, "name"),
            short(node, "node"),
            field(node, "role"),
            field(node, "standing"),
            if field(node, "connected") == "yes" { "open".into() } else { NONE.into() },
            ago(node, "last_pong_ms", now_ms),
            rtt(node, "rtt_us"),
        ]);
    }
    columns.text("no nodes")
}

fn node_text(node: &Value) -> String {
    let mut rows = vec![
        ("node", field(node, "node")),
        ("name", field(node, "name")),
        ("role", field(node, "role")),
        ("ip", field(node, "ip")),
        ("port", field(node, "port")),
        ("address", field(node, "address")),
        ("rest", field(node, "rest")),
        ("version", field(node, "version")),
        ("stream open", field(node, "connected")),
        ("in the queue", field(node, "queued")),
        ("presence", field(node, "presence")),
        ("joined in round", field(node, "joined_round")),
        ("last pong", time(node, "last_pong_ms")),
        ("rtt", rtt(node, "rtt_us")),
        ("standing", field(node, "standing")),
        ("reason", field(node, "reason")),
        ("strikes", field(node, "strikes")),
        ("earned", field(node, "earned")),
        ("warning", field(node, "warning")),
    ];
    if let Some(ban) = node.get("ban").filter(|ban| ban.is_object()) {
        rows.push(("banned until round", field(ban, "until_round")));
        rows.push(("banned until", format!("about {}", time(ban, "until_ms"))));
        rows.push(("ban reason", field(ban, "reason")));
        if ban.get("over").and_then(Value::as_bool) == Some(true) {
            rows.push(("ban over", "it may come back, on probation".into()));
        }
    }
    pairs(&rows)
}

/// Show what each node has earned, claimed and lost to penalties
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward rewards --output json")]
pub struct Rewards {
    #[command(flatten)]
    source: Reading,
    #[command(flatten)]
    page: Page,
}

impl Rewards {
    pub async fn run(self) -> Result<(), Failure> {
        self.source.show(&self.page.route("/v1/rewards")?, rewards_text).await
    }
}

fn rewards_text(answer: &Value) -> String {
    let mut columns = Columns::new(&["name", "key", "earned", "claimed", "penalties", "address"]);
    for row in list(answer, "rewards") {
        columns.row([
            field(row, "name"),
            short(row, "node"),
            field(row, "earned"),
            field(row, "claimed"),
            field(row, "penalties"),
            field(row, "address"),
        ]);
    }
    format!("{}total issued: {}\n", columns.text("nobody has earned anything"), field(answer, "total_issued"))
}

/// Show the bans; ban a node by hand, or lift bans
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  pingward bans
  pingward bans add follower-3 --rounds 60 --reason \"asked to leave\"
  pingward bans lift follower-3 --reason \"back in order\"
  pingward bans lift --policy sha256:... --since 120 --reason \"the rule was wrong\""
)]
pub struct Bans {
    #[command(flatten)]
    source: Reading,
    #[command(flatten)]
    page: Page,
    #[command(subcommand)]
    change: Option<BansChange>,
}

#[derive(Debug, Subcommand)]
enum BansChange {
    Add(operate::BanAdd),
    Lift(operate::BanLift),
}

impl Bans {
    pub async fn run(self) -> Result<(), Failure> {
        match self.change {
            Some(BansChange::Add(add)) => add.run().await,
            Some(BansChange::Lift(lift)) => lift.run().await,
            None => self.source.show(&self.page.route("/v1/bans")?, bans_text).await,
        }
    }
}

fn bans_text(answer: &Value) -> String {
    let mut columns = Columns::new(&["round", "name", "key", "until round", "active", "by", "policy", "reason"]);
    for ban in list(answer, "bans") {
        columns.row([
            field(ban, "round"),
            field(ban, "name"),
            short(ban, "node"),
            field(ban, "until_round"),
            field(ban, "active"),
            field(ban, "by"),
            short(ban, "policy"),
            field(ban, "reason"),
        ]);
    }
    columns.text("nobody was banned")
}

/// Show settled rounds, or one of them; accept the loss of nodes
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  pingward rounds
  pingward rounds 42
  pingward rounds accept --reason \"the rack is gone for good\""
)]
pub struct Rounds {
    /// Only this one, with what the guard saw and what each rule did
    round: Option<u64>,
    #[command(flatten)]
    source: Reading,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Those after this round; without it the newest ones
    #[arg(long, value_name = "ROUND")]
    after: Option<u64>,
    #[command(subcommand)]
    change: Option<RoundsChange>,
}

#[derive(Debug, Subcommand)]
enum RoundsChange {
    Accept(operate::AcceptRound),
}

impl Rounds {
    pub async fn run(self) -> Result<(), Failure> {
        match (self.change, self.round) {
            (Some(RoundsChange::Accept(accept)), _) => accept.run().await,
            (None, Some(round)) => self.source.show(&format!("/v1/rounds/{round}"), round_text).await,
            (None, None) => {
                let page = Page { limit: self.limit, after: self.after.map(|round| round.to_string()) };
                self.source.show(&page.route("/v1/rounds")?, rounds_text).await
            }
        }
    }
}

fn rounds_text(answer: &Value) -> String {
    let mut columns =
        Columns::new(&["round", "time", "up", "down", "unknown", "issued", "moves", "suspect", "reward", "ban"]);
    for round in list(answer, "rounds") {
        let none = Value::Null;
        let policies = round.get("policies").unwrap_or(&none);
        columns.row([
            field(round, "round"),
            time(round, "time_ms"),
            field(round, "up"),
            field(round, "down"),
            field(round, "unknown"),
            field(round, "issued"),
            field(round, "moves"),
            if field(round, "suspect") == "yes" { field(round, "causes") } else { "no".into() },
            short(policies, "reward"),
            short(policies, "ban"),
        ]);
    }
    columns.text("no round is settled yet")
}

fn round_text(round: &Value) -> String {
    let mut text = pairs(&[
        ("round", field(round, "round")),
        ("term", field(round, "term")),
        ("settled", time(round, "time_ms")),
        ("suspect", field(round, "suspect")),
        ("causes", field(round, "causes")),
        (
            "up / down / unknown",
            format!("{} / {} / {}", field(round, "up"), field(round, "down"), field(round, "unknown")),
        ),
        ("points issued", field(round, "issued")),
        ("changes of standing", field(round, "moves")),
        (
            "deferred / held / clamped",
            format!("{} / {} / {}", field(round, "deferred"), field(round, "held"), field(round, "clamped")),
        ),
        ("settings version", field(round, "settings_version")),
        ("digest", field(round, "digest")),
    ]);
    let mut columns = Columns::new(&["slot", "policy", "called", "fuel", "fault"]);
    for part in list(round, "slots") {
        let fault = part.get("fault").filter(|fault| fault.is_object());
        columns.row([
            field(part, "slot"),
            field(part, "policy"),
            field(part, "called"),
            field(part, "fuel"),
            fault.map_or_else(|| NONE.into(), |fault| format!("{}: {}", field(fault, "kind"), field(fault, "message"))),
        ]);
    }
    text.push('\n');
    text.push_str(&columns.text("no policy took part"));
    text
}

/// Show a key's points and the movements behind them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward accounts follower-1
  pingward accounts treasury --output json")]
pub struct Accounts {
    /// A key of 64 hex digits, at least 8 digits of a node's key, a node's name, or `treasury`
    key: String,
    #[command(flatten)]
    source: Reading,
    #[command(flatten)]
    page: Page,
}

impl Accounts {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.source.api()?;
        let key = if self.key == "treasury" { self.key } else { resolve::node(&api, &self.key).await?.to_string() };
        let account = api.get(&format!("/v1/accounts/{key}")).await?;
        let entries = api.get(&self.page.route(&format!("/v1/accounts/{key}/entries"))?).await?;
        match self.source.output().output {
            Format::Json => {
                let both = serde_json::json!({ "account": account, "entries": list(&entries, "entries"), "next": entries.get("next") });
                print(&format!("{both:#}\n"))
            }
            Format::Table => {
                print(&account_text(&account, &entries))?;
                more(&entries);
                Ok(())
            }
        }
    }
}

fn account_text(account: &Value, entries: &Value) -> String {
    let mut rows = vec![("key", field(account, "key")), ("name", field(account, "name"))];
    if field(account, "balance") == NONE {
        rows.extend([
            ("earned", field(account, "earned")),
            ("wallet", field(account, "wallet")),
            ("claimed", field(account, "claimed")),
            ("penalties", field(account, "penalties")),
            ("next sequence", field(account, "next_sequence")),
        ]);
    } else {
        rows.push(("balance", field(account, "balance")));
    }
    let mut columns = Columns::new(&["round", "time", "kind", "points", "from", "to", "reason"]);
    for entry in list(entries, "entries") {
        columns.row([
            field(entry, "round"),
            time(entry, "time_ms"),
            field(entry, "kind"),
            field(entry, "points"),
            party(&field(entry, "from")),
            party(&field(entry, "to")),
            field(entry, "reason"),
        ]);
    }
    format!("{}\n{}", pairs(&rows), columns.text("no movements"))
}

/// `earned:<64 hex>` with 8 digits of the key.
fn party(account: &str) -> String {
    account
        .split_once(':')
        .map_or_else(|| account.into(), |(kind, key)| format!("{kind}:{}", key.chars().take(8).collect::<String>()))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
