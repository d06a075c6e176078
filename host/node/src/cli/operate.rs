//! The operator's decisions. Each needs the admin socket or the admin token and becomes an entry of the log with its
//! reason.

use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use kernel::limits::REASON_BYTES;
use serde_json::{Value, json};

use super::compensate;
use super::output::Output;
use super::resolve;
use crate::client::{Api, DEFAULT_URL};
use crate::config;
use crate::failure::Failure;
use crate::text::field;

/// Longer than any token.
const TOKEN_BYTES: u64 = 4 << 10;

/// How to reach a super as its operator.
#[derive(Clone, Debug, Args)]
pub struct Admin {
    /// The super's config: its admin socket is found through it
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
    /// Over --api with the token in this file; the variable PINGWARD_TOKEN holds a token itself
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The super's API, for a token; the default is http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Admin {
    /// For a command whose `--config` means another file.
    pub(super) const fn of(config: PathBuf, token_file: Option<PathBuf>, api: Option<String>, output: Output) -> Self {
        Self { config, token_file, api, output }
    }

    /// What was typed wins over what stands in the environment; of what was typed, a token wins over the socket: whoever
    /// gives one means another machine or another user.
    pub(super) fn client(&self) -> Result<Api, Failure> {
        let variable = std::env::var("PINGWARD_TOKEN").ok().filter(|token| !token.is_empty());
        self.client_with(variable)
    }

    /// The same where an operator's config, token or variable is at hand; else whoever may ask without.
    pub(super) fn client_or_reader(&self) -> Result<Api, Failure> {
        let variable = std::env::var("PINGWARD_TOKEN").is_ok_and(|token| !token.is_empty());
        if self.token_file.is_some() || variable || self.config.exists() { self.client() } else { self.reads() }
    }

    /// Where to read.
    pub(super) fn reads(&self) -> Result<Api, Failure> {
        Api::url(self.api.as_deref().unwrap_or(DEFAULT_URL))
    }

    fn client_with(&self, variable: Option<String>) -> Result<Api, Failure> {
        let over_tcp = |token: String| Ok(Api::url(self.api.as_deref().unwrap_or(DEFAULT_URL))?.with_token(token));
        if let Some(file) = &self.token_file {
            return over_tcp(read_token(file)?);
        }
        if let Some(token) = variable {
            return over_tcp(
                check_token(&token).map_err(|what| Failure::usage(format!("PINGWARD_TOKEN {what}"), TOKEN_HINT))?,
            );
        }
        if !self.config.exists() {
            let what =
                format!("there is no {}, and no token was given: deciding needs one of them", self.config.display());
            return Err(Failure::usage(
                what,
                "name the super's config with --config FILE, or use --api URL with --token-file FILE or PINGWARD_TOKEN",
            ));
        }
        let config = config::load(&self.config, &config::environment())?;
        match self.api {
            // The config's own token, at the address that was named.
            Some(_) => over_tcp(read_token(&config.data_dir.join("admin.token"))?),
            None => Ok(Api::socket(&config.data_dir.join("admin.sock"))),
        }
    }

    /// Decides, and says what became of it.
    pub(super) async fn decide(
        &self,
        api: &Api,
        (method, route): (Method, &str),
        body: &Value,
        said: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        let answer = api.send(method, route, body).await?;
        self.output.print(&answer, |answer| format!("{}\n", said(answer)))
    }
}

const TOKEN_HINT: &str = "take the text of data_dir/admin.token of the super";

fn read_token(file: &Path) -> Result<String, Failure> {
    let place = file.display().to_string();
    let failed = |what: String| Failure::new(what, TOKEN_HINT).at(place.clone());
    let size = std::fs::metadata(file).map_err(|error| failed(format!("the token cannot be read: {error}")))?.len();
    if size > TOKEN_BYTES {
        return Err(failed("the file is too long for a token".into()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(format!("the token cannot be read: {error}")))?;
    check_token(&text).map_err(|what| failed(format!("the token {what}")))
}

fn check_token(text: &str) -> Result<String, &'static str> {
    let token = text.trim();
    match token {
        "" => Err("is empty"),
        _ if !token.bytes().all(|b| b.is_ascii_graphic()) => Err("has characters that no token has"),
        _ => Ok(token.into()),
    }
}

pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why, in a few words: it is kept in the change log".into()),
        text if text.len() > REASON_BYTES => Err(format!("at most {REASON_BYTES} bytes are kept")),
        text if text.chars().any(char::is_control) => Err("use one line of plain text".into()),
        text => Ok(text.into()),
    }
}

/// Accept that missing nodes are really gone
///
/// When many nodes go missing at once the round is suspect and nobody is struck, for the likelier cause is this side.
/// This says that the loss is real: those that were up in the last round become the measure for the next ones.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward rounds accept --reason \"the rack is gone for good\"")]
pub struct AcceptRound {
    /// Why; kept in the change log
    #[arg(long, value_parser = reason, default_value = "accepted by hand")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl AcceptRound {
    pub async fn run(self) -> Result<(), Failure> {
        let body = json!({ "reason": self.reason });
        let said = |answer: &Value| {
            let (up, round) = (field(answer, "up"), field(answer, "round"));
            format!("accepted: the {up} members that were up in round {round} are the measure from now on")
        };
        self.admin.decide(&self.admin.client()?, (Method::POST, "/v1/rounds/accept"), &body, said).await
    }
}

/// Ban a node by hand
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward bans add follower-3 --rounds 60 --reason \"asked to leave\"")]
pub struct BanAdd {
    /// Its key, at least 8 digits of it, or its name
    node: String,
    /// For how many rounds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Why; the node sees it
    #[arg(long, value_parser = reason)]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl BanAdd {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?;
        let node = resolve::node(&api, &self.node).await?;
        let body = json!({ "node": node.to_string(), "rounds": self.rounds, "reason": self.reason });
        let said = |answer: &Value| format!("banned {node} through round {}", field(answer, "until_round"));
        self.admin.decide(&api, (Method::POST, "/v1/bans"), &body, said).await
    }
}

/// Lift a node's ban, or all bans and suspensions of a policy since a round
///
/// The nodes are good again, with no strikes and nothing remembered against them. Banned ones are back at their next attach.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward bans lift follower-3 --reason \"back in order\"
  pingward bans lift --policy sha256:... --since 120 --reason \"the rule was wrong\"")]
pub struct BanLift {
    /// Its key, at least 8 digits of it, or its name
    #[arg(required_unless_present = "policy", conflicts_with = "policy")]
    node: Option<String>,
    /// The policy (its digest) whose decisions are lifted
    #[arg(long, value_name = "DIGEST", requires = "since")]
    policy: Option<String>,
    /// From this round on
    #[arg(long, value_name = "ROUND", requires = "policy")]
    since: Option<u64>,
    /// Why; kept in the change log
    #[arg(long, value_parser = reason)]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl BanLift {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?;
        let body = match (&self.node, &self.policy) {
            (Some(node), _) => {
                let node = resolve::node(&api, node).await?;
                json!({ "node": node.to_string(), "reason": self.reason })
            }
            (None, policy) => json!({ "policy": policy, "since": self.since, "reason": self.reason }),
        };
        let said = |answer: &Value| match field(answer, "changed").as_str() {
            "1" => "lifted: one member is good again".to_string(),
            count => format!("lifted: {count} members are good again"),
        };
        self.admin.decide(&api, (Method::POST, "/v1/bans/lift"), &body, said).await
    }
}

/// Set a node's class: a number that rules see and may treat in their own way
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward nodes set follower-1 --class 2 --reason \"new hardware\"")]
pub struct SetClass {
    /// Its key, at least 8 digits of it, or its name
    node: String,
    /// The class
    #[arg(long, value_name = "N")]
    class: u32,
    /// Why; kept in the change log
    #[arg(long, value_parser = reason, default_value = "set by hand")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl SetClass {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?;
        let node = resolve::node(&api, &self.node).await?;
        let body = json!({ "class": self.class, "reason": self.reason });
        let said = |_: &Value| format!("{node} has class {}", self.class);
        self.admin.decide(&api, (Method::PUT, &format!("/v1/nodes/{node}/class")), &body, said).await
    }
}

/// Let a slot's held moves take effect
///
/// When a rule suspends or bans more nodes than the guardrail over time lets through, further moves are held. This says
/// that the rule is right. The other way out is `pingward policy rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward policy accept ban --reason \"they are really gone\"")]
pub struct AcceptPolicy {
    /// The slot
    #[arg(value_parser = slot)]
    slot: kernel::decide::Slot,
    /// Why; kept in the change log
    #[arg(long, value_parser = reason, default_value = "accepted by hand")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl AcceptPolicy {
    pub async fn run(self) -> Result<(), Failure> {
        let body = json!({ "reason": self.reason });
        let route = format!("/v1/policies/{}/accept", self.slot);
        let said = |_: &Value| format!("accepted: the {} rule's moves take effect with the next settlement", self.slot);
        self.admin.decide(&self.admin.client()?, (Method::POST, &route), &body, said).await
    }
}

/// Bring back the policy that decided before
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward policy rollback ban --reason \"it bans everybody\"")]
pub struct Rollback {
    /// The slot
    #[arg(value_parser = slot)]
    slot: kernel::decide::Slot,
    /// Why; kept in the change log
    #[arg(long, value_parser = reason, default_value = "rolled back by hand")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl Rollback {
    pub async fn run(self) -> Result<(), Failure> {
        let body = json!({ "reason": self.reason });
        let route = format!("/v1/policies/{}/rollback", self.slot);
        let said = |answer: &Value| {
            let empty = answer.get("memory_empty").and_then(Value::as_u64).unwrap_or_default();
            let memory =
                if empty == 0 { String::new() } else { format!("; memory of {empty} members changes with it") };
            format!("the {} rule before this one decides from round {} on{memory}", self.slot, field(answer, "round"))
        };
        self.admin.decide(&self.admin.client()?, (Method::POST, &route), &body, said).await
    }
}

/// A slot's name on the command line.
pub fn slot(text: &str) -> Result<kernel::decide::Slot, String> {
    text.parse().map_err(|error: kernel::decide::UnknownSlot| error.to_string())
}

/// Refuses a slot that decides no rounds, where rounds are what is asked for.
pub fn of_rounds(slot: kernel::decide::Slot) -> Result<(), Failure> {
    if kernel::decide::Slot::OF_ROUNDS.contains(&slot) {
        return Ok(());
    }
    Err(Failure::usage(
        format!(
            "a {slot} rule decides no rounds: it runs on validators when records come, and none can be played again"
        ),
        "try it on records of your own: `pingward policy test` plays cases, `pingward policy check` admits it",
    ))
}

/// Pay nodes from the treasury, to make good what was decided wrongly
///
/// FILE has one line a node: CSV `node,points,round,reason`, or TOML tables [[line]] with these four keys. All lines are
/// taken, or none.
#[derive(Debug, Args)]
#[command(after_help = "Example of a CSV file:
  node,points,round,reason
  follower-1,30,120,banned by mistake
  8a88e3dd,10,121,\"our network, not theirs\"

Example of a TOML file:
  [[line]]
  node = \"follower-1\"
  points = 30
  round = 120
  reason = \"banned by mistake\"")]
pub struct Compensate {
    /// The file; one that ends in .toml is TOML, others are CSV
    file: PathBuf,
    /// Why, for the change log; each line has its own reason besides
    #[arg(long, value_parser = reason, default_value = "compensation")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl Compensate {
    pub async fn run(self) -> Result<(), Failure> {
        let lines = compensate::read(&self.file)?;
        let api = self.admin.client()?;
        let mut body = Vec::with_capacity(lines.len());
        for line in &lines {
            let place = || format!("{}:{}", self.file.display(), line.number);
            let node = resolve::node(&api, &line.node).await.map_err(|failure| failure.at(place()))?;
            body.push(json!({
                "node": node.to_string(), "points": line.points, "round": line.round, "reason": line.reason,
            }));
        }
        let body = json!({ "lines": body, "reason": self.reason });
        let said =
            |answer: &Value| format!("paid {} points in {} lines", field(answer, "points"), field(answer, "lines"));
        self.admin.decide(&api, (Method::POST, "/v1/compensations"), &body, said).await
    }
}

/// Change a cluster setting
///
/// It counts from two rounds after the last settled one; `cluster.accept_versions` at once. `pingward config show` lists
/// the keys, those of [round], [guard], [guardrails] and [policy_limits].
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward cluster set round.interval_ms 5000 --reason \"faster answers\"
  pingward cluster set cluster.accept_versions \">=0.1, <0.3\"")]
pub struct Set {
    /// The key, as in the config file: section.name
    key: String,
    /// The value
    value: String,
    /// Why; kept in the change log
    #[arg(long, value_parser = reason, default_value = "set by hand")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl Set {
    pub async fn run(self) -> Result<(), Failure> {
        // A slip is told before anybody is asked. Whether it fits to the other settings only the cluster knows.
        kernel::settings::Settings::default().put(&self.key, &self.value).map_err(|error| {
            Failure::usage(format!("{}: {error}", self.key), "`pingward config show` lists keys and values")
        })?;
        let key = kernel::settings::Settings::full_name(&self.key);
        let body = json!({ "settings": { key: self.value }, "reason": self.reason });
        let said = |answer: &Value| format!("{key} = {} from round {} on", self.value, field(answer, "round"));
        self.admin.decide(&self.admin.client()?, (Method::PUT, "/v1/settings"), &body, said).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(dir: &Path) -> Admin {
        let output = Output { output: super::super::output::Format::Table };
        Admin { config: dir.join("node.toml"), token_file: None, api: None, output }
    }

    #[test]
    fn an_operator_is_found_by_token_file_variable_or_config() {
        let dir = tempfile::tempdir().unwrap();
        let none = admin(dir.path()).client_with(None).unwrap_err();
        assert!(none.usage && none.to_string().contains("--token-file"), "{none}");
        let by_variable = admin(dir.path()).client_with(Some("secret".into())).unwrap();
        assert_eq!(by_variable.shown(), DEFAULT_URL);
        std::fs::write(dir.path().join("t"), " secret\n").unwrap();
        let with_file =
            Admin { token_file: Some(dir.path().join("t")), api: Some("127.0.0.1:9".into()), ..admin(dir.path()) };
        assert_eq!(with_file.client_with(None).unwrap().shown(), "http://127.0.0.1:9");
        std::fs::write(dir.path().join("node.toml"), "[node]\nrole = \"super\"\ndata_dir = \"d\"\n").unwrap();
        let by_config = admin(dir.path()).client_with(None).unwrap();
        assert_eq!(by_config.shown(), dir.path().join("d/admin.sock").display().to_string());
    }

    #[test]
    fn a_token_that_is_none_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        assert!(read_token(&file).unwrap_err().what.starts_with("the token cannot be read"));
        for (text, what) in [("", "the token is empty"), ("a b", "the token has characters that no token has")] {
            std::fs::write(&file, text).unwrap();
            let failure = read_token(&file).unwrap_err();
            assert_eq!((failure.what.as_str(), failure.place), (what, Some(file.display().to_string())));
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(reason(" gone "), Ok("gone".into()));
        for wrong in ["", "  ", "a\nb", &"x".repeat(REASON_BYTES + 1)] {
            assert!(reason(wrong).is_err(), "{wrong:?}");
        }
    }
}
