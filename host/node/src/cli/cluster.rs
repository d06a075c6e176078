//! The group of supers: who belongs to it, and what holds for the whole cluster.

use clap::{Args, Subcommand};
use http::Method;
use kernel::id::NodeId;
use serde_json::{Value, json};

use super::backup::{Backup, Restore};
use super::operate::{Admin, Set};
use super::resolve;
use super::source::Level;
use crate::config::{self, PeerAddress};
use crate::failure::Failure;
use crate::text::{Columns, field, list, short};

const MEMBERS: &str = "/v1/cluster/members";

/// Show and change the group of supers, and what holds for the whole cluster
#[derive(Debug, Subcommand)]
pub enum Cluster {
    Members(Members),
    Add(Add),
    Promote(Promote),
    Remove(Remove),
    Set(Set),
    Backup(Backup),
    Restore(Restore),
}

impl Cluster {
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Members(members) => members.run().await,
            Self::Add(add) => add.run().await,
            Self::Promote(promote) => promote.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Set(set) => set.run().await,
            Self::Backup(backup) => backup.run().await,
            Self::Restore(restore) => restore.run(),
        }
    }
}

/// Show the supers of the group: who votes, who leads, and how each keeps up
///
/// Only the leader knows what the others lack and whether they answer; another super shows `-` there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward cluster members
  pingward cluster members --read local       also where no super leads")]
pub struct Members {
    /// How fresh: `linearizable` where nothing is said
    #[arg(long, value_enum, value_name = "LEVEL")]
    read: Option<Level>,
    #[command(flatten)]
    admin: Admin,
}

impl Members {
    async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?.reading(self.read.map(Level::word));
        let answer = api.get(MEMBERS).await?;
        self.admin.output.print(&answer, members_text)
    }
}

fn members_text(answer: &Value) -> String {
    let mut columns =
        Columns::new(&["name", "key", "seat", "state", "leads", "lacks", "answers", "replica", "address"]);
    for member in list(answer, "members") {
        columns.row([
            field(member, "name"),
            short(member, "node"),
            field(member, "seat"),
            field(member, "state"),
            field(member, "leader"),
            field(member, "lag"),
            field(member, "reachable"),
            field(member, "replica"),
            field(member, "address"),
        ]);
    }
    columns.text("the group has no members")
}

/// A super's key and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) key: NodeId,
    pub(super) address: String,
}

pub(super) fn named(text: &str) -> Result<Named, String> {
    let cure = "write <64 hex>@host:port, as the waiting super prints it";
    let address = config::address(text).map_err(|why| format!("{why}; {cure}"))?;
    let key = address.key.ok_or_else(|| format!("the key is missing: {cure}"))?;
    Ok(Named { key, address: PeerAddress { key: None, ..address }.to_string() })
}

/// Add a super to the group, as a learner that gets all and does not vote yet
///
/// It must be running, have an empty data folder, and name supers of this group in its config. It prints this command's
/// line while it waits. When it has caught up: `pingward cluster promote`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward cluster add 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c@10.0.0.2:7001")]
pub struct Add {
    /// Its key and address, <64 hex>@host:port
    #[arg(value_name = "KEY@HOST:PORT", value_parser = named)]
    node: Named,
    #[command(flatten)]
    admin: Admin,
}

impl Add {
    async fn run(self) -> Result<(), Failure> {
        let Named { key, address } = &self.node;
        let body = json!({ "node": key.to_string(), "address": address });
        let said = |answer: &Value| {
            let replica = field(answer, "replica");
            format!(
                "added {key} as replica {replica}, a learner; when it has caught up: pingward cluster promote {key}"
            )
        };
        self.admin.decide(&self.admin.client()?, (Method::POST, MEMBERS), &body, said).await
    }
}

/// Make a learner a voter
///
/// It must have caught up and stayed so; `pingward cluster members` shows what it lacks. It gets the lowest free seat.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward cluster promote 8a88e3dd")]
pub struct Promote {
    /// Its key, at least 8 digits of it, or its name
    node: String,
    #[command(flatten)]
    admin: Admin,
}

impl Promote {
    async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?;
        let node = resolve::member(&api, &self.node).await?;
        let said = |answer: &Value| format!("promoted {node}: replica {} votes", field(answer, "replica"));
        let route = format!("{MEMBERS}/{node}/promote");
        self.admin.decide(&api, (Method::POST, &route), &json!({}), said).await
    }
}

/// Remove a super from the group
///
/// It is refused where the rest would have no majority that answers. Of two replicas of one key the older one goes: that of
/// the disk that was lost.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward cluster remove super-3")]
pub struct Remove {
    /// Its key, at least 8 digits of it, or its name
    node: String,
    #[command(flatten)]
    admin: Admin,
}

impl Remove {
    async fn run(self) -> Result<(), Failure> {
        let api = self.admin.client()?;
        let node = resolve::member(&api, &self.node).await?;
        let said = |answer: &Value| format!("removed {node}: replica {} is gone", field(answer, "replica"));
        self.admin.decide(&api, (Method::DELETE, &format!("{MEMBERS}/{node}")), &json!({}), said).await
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
