//! What must hold of a group whatever happened to it: nobody was struck who was up, all supers have the same state, and the
//! books close.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kernel::id::NodeId;
use node::client::Api;
use node::keys::NodeKey;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::load::Load;
use crate::supers::{Supers, get, read, until};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(20);

/// Notices when this process, in which all followers are, did not get to run: then they were not up.
#[derive(Debug)]
pub struct Stalls {
    worst_us: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Stalls {
    /// Looks from now on.
    #[must_use]
    pub fn watch() -> Self {
        let worst_us = Arc::new(AtomicU64::new(0));
        let worst = Arc::clone(&worst_us);
        let task = tokio::spawn(async move {
            loop {
                let since = Instant::now();
                tokio::time::sleep(TICK).await;
                let late = since.elapsed().saturating_sub(TICK);
                worst.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { worst_us, task }
    }

    /// The longest one since it was asked last.
    #[must_use]
    pub fn take(&self) -> Duration {
        Duration::from_micros(self.worst_us.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rounds after one, and what was undeserved in them: who was down in a round that was trusted, though all were up. Gives
/// the last round too.
///
/// # Errors
/// The API does not answer.
pub async fn struck(api: &Api, after: u64) -> Result<(u64, Vec<String>)> {
    let (mut last, mut wrong) = (after, Vec::new());
    loop {
        let page = get(api, &format!("/v1/rounds?limit=1000&after={last}")).await?;
        let rounds = page["rounds"].as_array().context("rounds")?;
        for round in rounds {
            last = round["round"].as_u64().context("round")?;
            if round["suspect"] == false && round["down"].as_u64() != Some(0) {
                wrong.push(format!("round {last} was trusted, and {} followers were down: {round}", round["down"]));
            }
        }
        if rounds.is_empty() || page["next"].is_null() {
            break;
        }
    }
    let nodes = get(api, "/v1/nodes?limit=1000").await?;
    for node in nodes["nodes"].as_array().context("nodes")? {
        if node["role"] == "follower" && node["standing"] != "good" {
            wrong.push(format!("{} is {}: {node}", node["name"], node["standing"]));
        }
    }
    Ok((last, wrong))
}

/// Strikes and standing of each follower, one by one.
///
/// # Errors
/// The API does not answer.
pub async fn clean(api: &Api, keys: &[NodeKey]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for key in keys {
        let node = get(api, &format!("/v1/nodes/{}?read=local", key.id())).await?;
        if node["standing"] != "good" || node["strikes"] != 0 {
            wrong.push(format!("{} is {} with {} strikes", node["name"], node["standing"], node["strikes"]));
        }
    }
    Ok(wrong)
}

/// Waits until all members tell their state at the same entry of the log; gives what is wrong when it is not the same.
///
/// # Errors
/// They never do.
pub async fn same_state(supers: &Supers, load: &Load) -> Result<Option<String>> {
    let members = supers.members();
    let told = until("all supers to tell their state at the same entry", async || {
        let ask = async {
            let mut told = Vec::new();
            for at in &members {
                told.push(read(&supers.all().get(*at)?.admin(), "/v1/cluster/state?read=local").await?);
            }
            Some(told)
        };
        let told = load.quiet(ask).await?;
        let first = told.first()?;
        told.iter().all(|one| one["applied"] == first["applied"]).then_some(told)
    });
    let told = told.await.with_context(|| supers.all_last_words())?;
    let first = told.first().context("a member")?;
    let is_same = told.iter().all(|one| one["digest"] == first["digest"]);
    Ok((!is_same).then(|| format!("supers differ at one entry of the log: {}", Value::from(told))))
}

/// Whether the sum over all accounts is zero. Nothing may be paid meanwhile.
///
/// # Errors
/// The API does not answer.
pub async fn books(api: &Api, keys: &[NodeId]) -> Result<Option<String>> {
    let treasury = get(api, "/v1/accounts/treasury").await?["balance"].as_i64().context("balance")?;
    let mut sum = treasury;
    for key in keys {
        let account = get(api, &format!("/v1/accounts/{key}?read=local")).await?;
        sum += account["earned"].as_i64().context("earned")? + account["wallet"].as_i64().context("wallet")?;
    }
    Ok((sum != 0).then(|| format!("the books do not close: the sum is {sum}")))
}
