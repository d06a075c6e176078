//! Records of users under kills: any validator, follower or super dies while users hand records in, and what was answered
//! must be sealed, once, the same on every node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use kernel::envelope::RECORD_TYPE;
use node::client::Api;
use node::config::PeerAddress;
use node::keys::NodeKey;
use node::records::header::{Header, draw};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Run, say};
use crate::dice::Dice;
use crate::keepers::Keeper;
use crate::supers::{PATIENCE, get, read, until};

const VALIDATORS: usize = 4;
const FOLLOWERS: usize = 3;
/// Users, each of whom hands in one record after the other.
const USERS: usize = 8;
/// Between two records of a user.
const REST: Duration = Duration::from_millis(20);
/// Between two attempts at one.
const AGAIN: Duration = Duration::from_millis(50);
/// A node that does not answer within this time is given up.
const ANSWER: Duration = Duration::from_secs(12);
/// Longest time that a killed node stays away, ms.
const AWAY_MS: usize = 2_500;
const EXPIRES: Duration = Duration::from_secs(600);

/// Records that were taken: digest and sequence number.
type Taken = Arc<Mutex<BTreeMap<String, u64>>>;

impl Run<'_> {
    /// Hands records in while so many nodes are killed, one after the other.
    pub(super) async fn records(
        &mut self,
        kills: usize,
        (dir, program): (&Path, PathBuf),
        cluster: &str,
    ) -> Result<()> {
        if kills == 0 {
            return Ok(());
        }
        let (name, _) = cluster.split_once('#').context("a cluster with its genesis")?;
        let mut nodes = Vec::new();
        let supers: Vec<PeerAddress> = self.supers.addresses();
        for (role, count) in [("validator", VALIDATORS), ("follower", FOLLOWERS)] {
            for number in 1..=count {
                let keeper = Keeper::start_new(dir, (role, number, nodes.len()), name, &supers, &program).await?;
                if role == "validator" {
                    self.add_validator(&keeper).await?;
                }
                nodes.push(keeper);
            }
        }
        let apis: Vec<Api> = nodes.iter().map(Keeper::api).collect::<Result<_>>()?;
        for (node, api) in nodes.iter().zip(&apis) {
            let taken = until("a node to take records", async || hand_in(api, &signed(cluster)?).await.ok()).await;
            taken.with_context(|| node.last_words())?;
        }
        say("4 validators and 3 followers take records");

        let (taken, stop) = (Taken::default(), Arc::new(AtomicBool::new(false)));
        let mut users = JoinSet::new();
        for user in 0..USERS {
            let (apis, taken, stop, cluster) =
                (apis.clone(), Arc::clone(&taken), Arc::clone(&stop), cluster.to_owned());
            users.spawn(async move { hands_in(Dice::new(user as u64), apis, cluster, taken, stop).await });
        }
        for kill in 0..kills {
            self.kill_any(&mut nodes, &program, &taken).await.with_context(|| format!("kill {}", kill + 1))?;
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = users.join_next().await {
            ended??;
        }
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.judge_records(&nodes, &taken).await?;
        self.report.keepers =
            nodes.iter().filter(|node| node.name.starts_with("follower")).map(|node| node.key).collect();
        for node in &mut nodes {
            // Followers say goodbye: nobody is missing afterwards.
            node.process.end()?;
        }
        self.report.records = (taken.len(), kills);
        Ok(())
    }

    async fn add_validator(&self, keeper: &Keeper) -> Result<()> {
        let body = json!({ "node": keeper.key.to_string(), "address": keeper.grpc.to_string(), "name": keeper.name });
        let mut why = String::new();
        let added = until("a validator to be added", async || {
            let leader = self.supers.leader().await.ok()?;
            match self.supers.all().get(leader)?.admin().send(Method::POST, "/v1/validators", &body).await {
                Ok(_) => Some(()),
                Err(failure) => {
                    why = failure.to_string();
                    None
                }
            }
        });
        added.await.with_context(|| why.clone())
    }

    /// Kills a node, whichever; waits until a record that is handed in afterwards is taken; starts the node again.
    async fn kill_any(&mut self, nodes: &mut [Keeper], program: &Path, taken: &Taken) -> Result<()> {
        let members = self.supers.members();
        let drawn = self.dice.below(members.len() + nodes.len());
        let count = || taken.lock().unwrap_or_else(PoisonError::into_inner).len();
        let (before, since) = (count(), Instant::now());
        let name = match (members.get(drawn), drawn.checked_sub(members.len()).and_then(|at| nodes.get_mut(at))) {
            (Some(at), _) => {
                self.supers.kill(*at)?;
                format!("super-{}", at + 1)
            }
            (None, Some(node)) => {
                node.process.kill()?;
                node.name.clone()
            }
            (None, None) => return Ok(()),
        };
        // More than were on their way.
        until("records to be taken after a kill", async || (count() > before + 2 * USERS).then_some(())).await?;
        let resumed = since.elapsed();
        tokio::time::sleep(Duration::from_millis(self.dice.below(AWAY_MS) as u64)).await;
        match (members.get(drawn), drawn.checked_sub(members.len()).and_then(|at| nodes.get_mut(at))) {
            (Some(at), _) => self.supers.start(*at).await?,
            (None, Some(node)) => node.start(program).await?,
            (None, None) => {}
        }
        say(&format!("killed {name}: {} more records taken after {resumed:.2?}", 2 * USERS + 1));
        Ok(())
    }

    /// Each record that was taken is sealed under its number, once, and all nodes keep the same.
    async fn judge_records(&mut self, nodes: &[Keeper], taken: &BTreeMap<String, u64>) -> Result<()> {
        let leader = self.supers.one(self.supers.leader().await?)?.api()?;
        until("all batches to be sealed", async || {
            let set = read(&leader, "/v1/validators?read=local").await?;
            (set["pending_batches"] == 0).then_some(())
        })
        .await?;
        let last = get(&leader, "/v1/validators").await?["last_sequence"].as_u64().context("a last number")?;
        for node in nodes {
            let api = node.api()?;
            let mut kept = BTreeMap::new();
            let whole = until("a node to keep all records", async || {
                kept = sealed(&api).await.ok()?;
                (kept.len() as u64 >= last).then_some(())
            });
            if whole.await.is_err() {
                self.report.wrong.push(format!(
                    "{} keeps {} records of {last}\n{}",
                    node.name,
                    kept.len(),
                    node.last_words()
                ));
            }
            self.report.wrong.extend(wrong(&node.name, &kept, taken, last));
        }
        Ok(())
    }
}

/// What is wrong with what a node keeps: sequence number to digest and state.
fn wrong(name: &str, kept: &BTreeMap<u64, (String, String)>, taken: &BTreeMap<String, u64>, last: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (digest, sequence) in taken {
        match kept.get(sequence) {
            Some((found, state)) if found == digest && state == "signed" => {}
            found => wrong.push(format!("{name}: record {digest} was taken as {sequence}, and there is {found:?}")),
        }
    }
    let digests: BTreeSet<&String> = kept.values().map(|(digest, _)| digest).collect();
    if digests.len() != kept.len() {
        wrong.push(format!("{name}: {} numbers of {} records", kept.len(), digests.len()));
    }
    if kept.keys().copied().ne(1..=last) {
        wrong.push(format!("{name}: the numbers are not 1 to {last}"));
    }
    wrong
}

/// All that a node keeps: a number that comes twice is an error.
async fn sealed(api: &Api) -> Result<BTreeMap<u64, (String, String)>> {
    let (mut all, mut after) = (BTreeMap::new(), Some(String::from("0")));
    while let Some(place) = after {
        let page = get(api, &format!("/v1/records?limit=1000&after={place}")).await?;
        for record in page["records"].as_array().context("records")? {
            let text = |name: &str| record[name].as_str().map(str::to_owned).context("a text");
            let sequence = record["sequence"].as_u64().context("a number")?;
            let before = all.insert(sequence, (text("digest")?, text("state")?));
            ensure!(before.is_none(), "the number {sequence} comes twice");
        }
        after = page["next"].as_str().map(str::to_owned);
    }
    Ok(all)
}

/// A record that its author signed: the same bytes however often they are handed in.
fn signed(cluster: &str) -> Option<Value> {
    let key = NodeKey::generate().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let expires_ms = u64::try_from((now + EXPIRES).as_millis()).ok()?;
    let header = Header { cluster: cluster.into(), nonce: draw().ok()?, expires_ms };
    serde_json::to_value(key.envelope(RECORD_TYPE, &header.payload(b"a record under faults"))).ok()
}

/// Hands a record in; its digest and number.
async fn hand_in(api: &Api, envelope: &Value) -> Result<(String, u64), String> {
    let answered = tokio::time::timeout(ANSWER, api.send(Method::POST, "/v1/records", envelope)).await;
    let answer = answered.map_err(|_| "no answer".to_owned())?.map_err(|failure| failure.to_string())?;
    let digest = answer["digest"].as_str().map(str::to_owned);
    digest.zip(answer["sequence"].as_u64()).ok_or_else(|| format!("an answer without a number: {answer}"))
}

/// One user: each record is handed in until some node takes it.
async fn hands_in(mut dice: Dice, apis: Vec<Api>, cluster: String, taken: Taken, stop: Arc<AtomicBool>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let envelope = signed(&cluster).context("a signed record")?;
        let (since, mut why) = (Instant::now(), String::new());
        let (digest, sequence) = loop {
            ensure!(since.elapsed() < PATIENCE, "a record was not taken in {} s: {why}", PATIENCE.as_secs());
            let api = apis.get(dice.below(apis.len())).context("a node")?;
            match hand_in(api, &envelope).await {
                Ok(found) => break found,
                Err(failure) => why = failure,
            }
            tokio::time::sleep(AGAIN).await;
        };
        taken.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, sequence);
        tokio::time::sleep(REST).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_out_of_place_is_seen() {
        let kept = |digests: &[&str]| -> BTreeMap<u64, (String, String)> {
            (1..).zip(digests.iter().map(|digest| ((*digest).to_owned(), "signed".to_owned()))).collect()
        };
        let taken = BTreeMap::from([("a".to_owned(), 1), ("c".to_owned(), 3)]);
        assert!(wrong("n", &kept(&["a", "b", "c"]), &taken, 3).is_empty());
        for (digests, last, words) in [
            (vec!["a", "b"], 2, "record c was taken as 3"),
            (vec!["a", "b", "b", "c"], 4, "record c was taken as 3"),
            (vec!["a", "a", "c"], 3, "3 numbers of 2 records"),
            (vec!["a", "b", "c"], 4, "not 1 to 4"),
        ] {
            let found = wrong("n", &kept(&digests), &taken, last);
            assert!(found.iter().any(|line| line.contains(words)), "{digests:?}: {found:?}");
        }
        let mut refused = kept(&["a", "b", "c"]);
        refused.get_mut(&3).unwrap().1 = "refused".into();
        assert_eq!(wrong("n", &refused, &taken, 3).len(), 1);
    }
}
