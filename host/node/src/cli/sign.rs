//! Commands that a key signs.

use std::path::PathBuf;

use clap::Args;
use kernel::command::Amount;
use serde_json::Value;

use super::resolve;
use super::source::Source;
use crate::client::{claim, transfer};
use crate::failure::Failure;
use crate::keys::NodeKey;
use crate::text::{field, pairs};

/// Move earned points to a wallet
///
/// Signed by the node's key. Asking for more than was earned pays nothing and costs a penalty; `all` never does.
/// A sequence counts once: a claim that was lost on its way and is made again with the same --sequence is paid once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward claim --key follower-1/node.key --amount all
  pingward claim --key follower-1/node.key --amount 50 --to 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c")]
pub struct Claim {
    /// The node's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How many points, or `all`
    #[arg(long, value_name = "N|all", value_parser = amount)]
    amount: Amount,
    /// The wallet: a key, 8 digits of a node's, or a node's name; the default is the node's own
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// Must rise from claim to claim; the default is the time in ms
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    #[command(flatten)]
    source: Source,
}

fn amount(text: &str) -> Result<Amount, String> {
    if text == "all" {
        return Ok(Amount::All);
    }
    match text.replace('_', "").parse() {
        Ok(0) | Err(_) => Err("a whole number from 1, or `all`".into()),
        Ok(points) => Ok(Amount::Exactly(points)),
    }
}

impl Claim {
    pub async fn run(self) -> Result<(), Failure> {
        let key = NodeKey::load(&self.key).map_err(|error| {
            Failure::new(chain(&error), "name the key file that the node's config names as node.key_file")
        })?;
        let api = self.source.api()?;
        let to = match &self.to {
            Some(to) => Some(resolve::node(&api, to).await?),
            None => None,
        };
        let answer = claim(&api, &key, self.amount, to, self.sequence).await?;
        self.source.output.print(&answer, claimed)
    }
}

/// Move points from one wallet to another
///
/// Signed by the key whose wallet pays. The first points of a new wallet cost a point. A transfer that was lost on its way and
/// is made again with the same --sequence is done once.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward transfer --key author.key --amount 50 --to 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c")]
pub struct Transfer {
    /// The paying wallet's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How many points leave it
    #[arg(long, value_name = "N")]
    amount: u64,
    /// The wallet that gets them: a key, 8 digits of a node's, or a node's name
    #[arg(long, value_name = "KEY")]
    to: String,
    /// Must rise from transfer to transfer; the default is the time in ms
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    #[command(flatten)]
    source: Source,
}

impl Transfer {
    pub async fn run(self) -> Result<(), Failure> {
        let key = NodeKey::load(&self.key)
            .map_err(|error| Failure::new(chain(&error), "name the key file of the wallet that pays"))?;
        let api = self.source.api()?;
        let to = resolve::node(&api, &self.to).await?;
        let answer = transfer(&api, &key, self.amount, to, self.sequence).await?;
        self.source.output.print(&answer, |answer| {
            pairs(&[
                ("moved", field(answer, "amount")),
                ("credited", field(answer, "credited")),
                ("wallet", field(answer, "wallet")),
            ])
        })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn claimed(answer: &Value) -> String {
    pairs(&[("paid", field(answer, "paid")), ("earned", field(answer, "earned")), ("wallet", field(answer, "wallet"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_at_least_one_or_all() {
        assert_eq!((amount("all"), amount("1_000")), (Ok(Amount::All), Ok(Amount::Exactly(1_000))));
        for wrong in ["0", "-1", "1.5", "everything", ""] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_paid_claim_is_told_in_lines() {
        let answer = serde_json::json!({ "claim": {}, "paid": 10, "earned": 5, "wallet": 9 });
        assert_eq!(claimed(&answer), "paid    10\nearned  5\nwallet  9\n");
    }
}
