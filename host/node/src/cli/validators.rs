//! The set of validators.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::cluster::{Named, named};
use super::operate::Admin;
use super::source::Reading;
use crate::failure::Failure;
use crate::text::{Columns, field, list, pairs, short};

const ROUTE: &str = "/v1/validators";

/// Show and change the set of validators, a quorum of which signs users' records
#[derive(Debug, Subcommand)]
pub enum Validators {
    List(ListValidators),
    Add(AddValidator),
    Remove(RemoveValidator),
    Keys(Keys),
}

impl Validators {
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Add(add) => add.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Keys(keys) => keys.run().await,
        }
    }
}

/// Show the set, its quorum, and how records are doing
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward validators list")]
pub struct ListValidators {
    #[command(flatten)]
    reading: Reading,
}

impl ListValidators {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.reading.api()?.get(ROUTE).await?;
        self.reading.output().print(&answer, text)
    }
}

fn text(answer: &Value) -> String {
    let mut columns = Columns::new(&["name", "key", "address", "connected"]);
    for one in list(answer, "validators") {
        columns.row([field(one, "name"), short(one, "node"), field(one, "address"), field(one, "connected")]);
    }
    let mut rows = vec![
        ("set", field(answer, "version")),
        ("quorum", field(answer, "quorum")),
        (
            "tolerates",
            match answer.get("tolerates").and_then(Value::as_u64) {
                Some(0) => "no failure: from 4 validators on one may fail".into(),
                _ => format!("{} that fail", field(answer, "tolerates")),
            },
        ),
        ("ordered", field(answer, "last_sequence")),
        ("signed", field(answer, "signed")),
        ("refused", field(answer, "refused")),
        ("waiting", format!("{} batches", field(answer, "pending_batches"))),
    ];
    let stuck = list(answer, "stuck").iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !stuck.is_empty() {
        rows.push(("stuck", stuck));
    }
    format!("{}\n{}", pairs(&rows), columns.text("there are no validators: pingward validators add KEY@HOST:PORT"))
}

/// Write the directory: who may sign and might before, signed by the super that is asked
///
/// It is what `pingward verify --keys` takes. Whoever trusts a verdict trusts this file: get it from a super that you trust.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward validators keys > keys.json")]
pub struct Keys {
    /// The super to ask
    #[arg(long, value_name = "URL", default_value = crate::client::DEFAULT_URL, env = "PINGWARD_API")]
    api: String,
}

impl Keys {
    async fn run(self) -> Result<(), Failure> {
        let directory = crate::client::Api::url(&self.api)?.get("/v1/directory").await?;
        crate::text::print(&format!("{directory}\n"))
    }
}

/// Add a validator to the set
///
/// It must run, or start soon: from now on it counts for the quorum. Batches that are not sealed are signed again by the new
/// set.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward validators add 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c@10.0.0.9:7201 --name validator-1")]
pub struct AddValidator {
    /// Its key and the address of its gRPC, <64 hex>@host:port
    #[arg(value_name = "KEY@HOST:PORT", value_parser = named)]
    node: Named,
    /// Its display name
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// For the change log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl AddValidator {
    async fn run(self) -> Result<(), Failure> {
        let Named { key, address } = &self.node;
        let body = json!({ "node": key.to_string(), "address": address, "name": self.name, "reason": self.reason });
        let answer = self.admin.client()?.send(Method::POST, ROUTE, &body).await?;
        self.admin.output.print(&answer, |answer| match answer.get("changed").and_then(Value::as_u64) {
            Some(0) => "it is in the set already\n".into(),
            _ => format!("{key} is in the set of validators\n"),
        })
    }
}

/// Remove a validator from the set
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward validators remove 8a88e3dd --reason 'the machine is sold'")]
pub struct RemoveValidator {
    /// Its key, or the first digits of it
    #[arg(value_name = "KEY")]
    node: String,
    /// For the change log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl RemoveValidator {
    async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?;
        let known = api.get(ROUTE).await?;
        let keys = list(&known, "validators").iter().map(|one| field(one, "node"));
        let found: Vec<String> = keys.filter(|key| key.starts_with(&self.node) && self.node.len() >= 8).collect();
        let key = match found.as_slice() {
            [one] => one.clone(),
            [] => {
                let what = format!("no validator has a key that begins with {}", self.node);
                return Err(Failure::new(what, "`pingward validators list` shows them; give at least 8 digits"));
            }
            _ => return Err(Failure::new("several validators have keys that begin so", "give more digits")),
        };
        let body = json!({ "reason": self.reason });
        let answer = api.send(Method::DELETE, &format!("{ROUTE}/{key}"), &body).await?;
        self.admin.output.print(&answer, |_| format!("{key} is not in the set of validators any more\n"))
    }
}
