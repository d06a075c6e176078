//! Users' records: hand one in, get one, list them.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use kernel::envelope::RECORD_TYPE;
use kernel::limits::RECORD_BODY;
use serde_json::Value;

use super::events::{Event, Reader};
use super::operate::Admin;
use super::output::Format;
use super::source::{Page, Reading, Source};
use crate::failure::Failure;
use crate::keys::{Envelope, NodeKey};
use crate::records::header::{Header, draw};
use crate::rest::signed::base64 as decode;
use crate::text::{Columns, field, list, pairs, time};

/// A record that is not ordered within this time need not be ordered any more.
const EXPIRES_MS: u64 = 10 * 60 * 1_000;

/// Hand in, get and list users' records, which a quorum of validators signs
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    Submit(Submit),
    Get(Get),
    List(List),
    Watch(Watch),
    Retry(Retry),
}

impl RecordCommand {
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Submit(submit) => submit.run().await,
            Self::Get(get) => get.run().await,
            Self::List(list) => list.run().await,
            Self::Watch(watch) => watch.run().await,
            Self::Retry(retry) => retry.run().await,
        }
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    /// It has its place in the order, on the disks of a majority of the supers
    Ordered,
    /// A quorum of validators has signed or refused it
    Sealed,
}

/// Hand a record in to a follower or validator
///
/// With --key it is signed by that key, whose wallet pays the fee where there is one. Without, the node itself is the author;
/// that takes the node's operator (its admin socket, through --config, or its token), or `[records] raw = "open"` in its config.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward record submit reading.json --key author.key --api http://127.0.0.1:8081
  echo hello | pingward record submit - --api http://127.0.0.1:8081 --wait sealed --output json > receipt.json")]
pub struct Submit {
    /// The body: a file of at most 64 KiB, or `-` for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Sign it with this key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How long to wait
    #[arg(long, value_enum, value_name = "FOR", default_value = "sealed")]
    wait: WaitFor,
    #[command(flatten)]
    admin: Admin,
}

impl Submit {
    async fn run(self) -> Result<(), Failure> {
        let body = read_body(&self.file)?;
        let wait = if self.wait == WaitFor::Sealed { "?wait=sealed" } else { "" };
        let route = format!("/v1/records{wait}");
        let answer = match &self.key {
            Some(file) => {
                let key = NodeKey::load(file)
                    .map_err(|error| Failure::new(error.to_string(), "make a key with `pingward key new FILE`"))?;
                let api = self.admin.reads()?;
                let status = api.get("/v1/status").await?;
                let Some(cluster) = status.get("cluster").and_then(Value::as_str) else {
                    return Err(Failure::new("this node belongs to no cluster yet", "ask again when it is attached"));
                };
                let envelope = signed(&key, cluster, &body)?;
                let envelope = serde_json::to_value(envelope)
                    .map_err(|error| Failure::new(error.to_string(), "please report this"))?;
                api.send(Method::POST, &route, &envelope).await?
            }
            None => self.admin.client_or_reader()?.send_bytes(&route, body).await?,
        };
        self.admin.output.print(&answer, submitted)
    }
}

fn read_body(file: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(format!("{} cannot be read: {error}", file.display()), "name a file, or `-` for standard input")
    };
    let mut body = Vec::new();
    let most = RECORD_BODY as u64 + 1;
    if file.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut body).map_err(cannot)?;
    } else {
        std::fs::File::open(file).map_err(cannot)?.take(most).read_to_end(&mut body).map_err(cannot)?;
    }
    if body.len() > RECORD_BODY {
        return Err(Failure::new(
            format!("the body has more than {RECORD_BODY} bytes"),
            "cut it into several records, or record its digest and keep the data elsewhere",
        ));
    }
    Ok(body)
}

/// A record that a key signs, as an envelope.
fn signed(key: &NodeKey, cluster: &str, body: &[u8]) -> Result<Envelope, Failure> {
    let nonce = draw().map_err(|error| Failure::new(format!("no randomness: {error}"), "look at this machine"))?;
    let expires_ms = crate::records::ingress::now_ms() + EXPIRES_MS;
    let header = Header { cluster: cluster.into(), nonce, expires_ms };
    Ok(key.envelope(RECORD_TYPE, &header.payload(body)))
}

/// The body that an answer carries.
fn body_of(record: &Value) -> Option<Vec<u8>> {
    record.get("body").and_then(Value::as_str).and_then(decode)
}

/// Why a record was refused; empty where it was not.
fn reason_of(certificate: Option<&Value>) -> &str {
    certificate.and_then(|certificate| certificate.get("reason")).and_then(Value::as_str).unwrap_or_default()
}

fn submitted(answer: &Value) -> String {
    let mut rows = vec![
        ("digest", field(answer, "digest")),
        ("sequence", field(answer, "sequence")),
        ("batch", field(answer, "batch")),
        ("state", field(answer, "state")),
    ];
    if let Some(certificate) = answer.get("certificate").filter(|certificate| certificate.is_object()) {
        let reason = reason_of(Some(certificate));
        if !reason.is_empty() {
            rows.push(("reason", reason.to_owned()));
        }
        rows.push(("signed by", list(certificate, "signatures").len().to_string() + " validators"));
    }
    pairs(&rows)
}

/// Get a record with what proves it, from any node
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward record get sha256:8a88…
  pingward record get 8a88… --output json > record.json     what `pingward verify` takes
  pingward record get 8a88… --body > data                   the body alone")]
pub struct Get {
    /// `sha256:` and 64 hex digits, or the digits alone
    #[arg(value_name = "DIGEST")]
    digest: String,
    /// Write the body alone to standard output
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    source: Source,
}

impl Get {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.source.api()?.get(&format!("/v1/records/{}", self.digest)).await?;
        if !self.body {
            return self.source.output.print(&answer, shown);
        }
        let body = body_of(&answer)
            .ok_or_else(|| Failure::new("this node does not have the body", "ask a follower or a validator"))?;
        std::io::stdout()
            .write_all(&body)
            .map_err(|error| Failure::new(format!("standard output: {error}"), "look at what reads it"))
    }
}

fn shown(record: &Value) -> String {
    let mut rows = vec![
        ("digest", field(record, "digest")),
        ("author", field(record, "author")),
        ("sequence", field(record, "sequence")),
        ("state", field(record, "state")),
        ("ordered", time(record, "ordered_ms")),
    ];
    if let Some(certificate) = record.get("certificate").filter(|certificate| certificate.is_object()) {
        let reason = reason_of(Some(certificate));
        if !reason.is_empty() {
            rows.push(("reason", reason.to_owned()));
        }
        rows.push(("batch", field(certificate, "batch")));
        rows.push(("signed by", list(certificate, "signatures").len().to_string() + " validators"));
        rows.push(("policy", field(certificate, "policy")));
    }
    match body_of(record) {
        Some(body) => match std::str::from_utf8(&body) {
            Ok(text) if text.len() <= 200 => rows.push(("body", crate::client::printable(text))),
            Ok(_) | Err(_) => rows.push(("body", format!("{} bytes; see them with --body", body.len()))),
        },
        None => rows.push(("body", "not kept by this node".into())),
    }
    pairs(&rows)
}

/// List sealed records: the newest page, or what comes after a sequence number
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward record list --api http://127.0.0.1:8081
  pingward record list --after 0 --limit 1000 --output json")]
pub struct List {
    #[command(flatten)]
    source: Reading,
    #[command(flatten)]
    page: Page,
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        self.source
            .show(&self.page.route("/v1/records")?, |answer| {
                let mut columns = Columns::new(&["sequence", "digest", "author", "state", "bytes", "reason"]);
                for record in list(answer, "records") {
                    let digest = field(record, "digest");
                    let bytes = body_of(record).map(|body| body.len().to_string());
                    columns.row([
                        field(record, "sequence"),
                        digest,
                        crate::text::short(record, "author"),
                        field(record, "state"),
                        bytes.unwrap_or_else(|| crate::text::NONE.into()),
                        reason_of(record.get("certificate")).to_owned(),
                    ]);
                }
                columns.text("no sealed records")
            })
            .await
    }
}

/// Show records as they are sealed, until Ctrl-C
///
/// With --output json each line is one record with what proves it, as `pingward verify` takes it, and its place, which --after
/// goes on from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward record watch --api http://127.0.0.1:8081
  pingward record watch --after 0 --no-follow --output json > all.jsonl     everything that this node keeps
  pingward record watch --author 8a88…")]
pub struct Watch {
    /// Go on after this place, as --output json shows it; 0 begins with the oldest record that the node keeps
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// Only records of this author
    #[arg(long, value_name = "KEY")]
    author: Option<String>,
    /// End after what is there already
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    source: Source,
}

impl Watch {
    async fn run(self) -> Result<(), Failure> {
        let api = self.source.api()?;
        let mut query = vec![format!("follow={}", !self.no_follow)];
        for (name, value) in [("after", &self.after), ("author", &self.author)] {
            query.extend(value.as_ref().map(|value| format!("{name}={value}")));
        }
        let mut events = Reader::new(api.stream(&format!("/v1/records/watch?{}", query.join("&"))).await?);
        while let Some(Event { id, data, .. }) = events.next().await? {
            crate::text::print(&match self.source.output.output {
                Format::Json => format!("{}\n", serde_json::json!({ "place": id, "record": data })),
                Format::Table => watched(&data),
            })?;
        }
        if self.no_follow {
            return Ok(());
        }
        Err(Failure::new("the node ended the stream", "it is stopping: start it again, then go on with --after")
            .at(api.shown()))
    }
}

/// A sealed record in a line.
fn watched(record: &Value) -> String {
    let reason = reason_of(record.get("certificate"));
    let what = match body_of(record) {
        _ if !reason.is_empty() => crate::client::printable(reason),
        Some(body) => match std::str::from_utf8(&body) {
            Ok(text) if text.len() <= 80 => crate::client::printable(text),
            Ok(_) | Err(_) => format!("{} bytes", body.len()),
        },
        None => "not kept by this node".into(),
    };
    let (digest, author) = (field(record, "digest"), crate::text::short(record, "author"));
    let state = field(record, "state");
    format!("{}  {:>8}  {digest}  {author}  {state:7}  {what}\n", time(record, "ordered_ms"), field(record, "sequence"))
}

/// Let validators try a batch again that no quorum signs, under the signing policy that is in force now
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward records retry 17 --reason 'the rule trapped on two engines'")]
pub struct Retry {
    /// The batch, as `pingward validators list` shows it
    #[arg(value_name = "BATCH")]
    batch: u64,
    /// For the change log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl Retry {
    async fn run(self) -> Result<(), Failure> {
        let body = serde_json::json!({ "batch": self.batch, "reason": self.reason });
        let answer = self.admin.client()?.send(Method::POST, "/v1/records/retry", &body).await?;
        self.admin.output.print(&answer, |_| format!("batch {} is tried again\n", self.batch))
    }
}
