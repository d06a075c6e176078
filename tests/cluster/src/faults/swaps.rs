//! Rules that are changed under load, with kills of the leader in between: before a rule is staged, before the supers have
//! acknowledged it, before and after it decides, and when it is taken back.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use node::builtin;
use serde_json::{Value, json};

use super::{Run, say};
use crate::supers::{get, read, until};

/// A change that took effect.
#[derive(Clone, Debug)]
pub struct Change {
    slot: &'static str,
    /// The first round that it decides.
    round: u64,
    digest: String,
    /// Nobody was killed on the way, so the round may be compared with others.
    calm: bool,
}

/// Where in the life of a change the leader is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Staging,
    Acknowledging,
    Activating,
    Deciding,
    Never,
}

const MOMENTS: [Moment; 5] =
    [Moment::Staging, Moment::Acknowledging, Moment::Never, Moment::Activating, Moment::Deciding];
/// Every so many changes the last one is taken back instead.
const ROLLBACK: usize = 3;

impl Run<'_> {
    /// Stages another rule and activates it, or takes the last one back.
    pub(super) async fn swap(&mut self, number: usize) -> Result<()> {
        let slot = if number.is_multiple_of(2) { "ban" } else { "reward" };
        let moment = MOMENTS.get(number % MOMENTS.len()).copied().unwrap_or(Moment::Never);
        let takes_back = number % ROLLBACK == ROLLBACK - 1 && self.changes.iter().any(|change| change.slot == slot);
        let (digest, what) = if takes_back {
            let digest = self.in_slot(slot, "previous").await?.context("a policy that was there before")?;
            self.kills_at(moment, Moment::Staging).await?;
            self.decides((slot, "rollback"), &digest, &json!({ "reason": "faults" })).await?;
            (digest, "taken back")
        } else {
            self.kills_at(moment, Moment::Staging).await?;
            let digest = self.stage(slot, number).await?;
            self.kills_at(moment, Moment::Acknowledging).await?;
            self.all_ready(slot, &digest).await?;
            let body = json!({ "digest": digest, "reason": "faults" });
            self.decides((slot, "activate"), &digest, &body).await?;
            (digest, "activated")
        };
        self.kills_at(moment, Moment::Activating).await?;
        let round = self.first_round(slot, &digest).await?;
        self.kills_at(moment, Moment::Deciding).await?;
        let calm = moment == Moment::Never;
        say(&format!("{slot} rule {what}, from round {round}; the leader killed: {moment:?}"));
        self.changes.push(Change { slot, round, digest, calm });
        self.check(&format!("swap {}", number + 1)).await
    }

    async fn kills_at(&mut self, moment: Moment, now: Moment) -> Result<()> {
        if moment == now { self.kill().await } else { Ok(()) }
    }

    /// The digest of the policy in a place of a slot.
    async fn in_slot(&self, slot: &str, place: &str) -> Result<Option<String>> {
        let api = self.supers.one(self.supers.leader().await?)?.api()?;
        let policies = get(&api, "/v1/policies").await?;
        Ok(policies["slots"][slot][place]["digest"].as_str().map(Into::into))
    }

    /// Another config each time: the same decisions about those that are up.
    async fn stage(&self, slot: &'static str, number: usize) -> Result<String> {
        let (name, config) = match slot {
            "ban" => ("ban-strikes", json!({ "warn": 1, "suspend": 2, "ban": 3, "ban_rounds": 11 + number })),
            _ => ("reward-flat", json!({ "points_per_round": 101 + number })),
        };
        let builtin = builtin::find(name).context("a builtin policy")?;
        let (route, config) = (format!("/v1/policies/{slot}"), config.to_string());
        let mut why = String::new();
        let staged = until("a rule to be staged", async || {
            for at in self.supers.members() {
                let parts = [("component", builtin.component), ("config", config.as_bytes())];
                match self.supers.all().get(at)?.admin().upload(&route, &parts).await {
                    Ok(answer) => return answer["digest"].as_str().map(Into::into),
                    Err(failure) => why = failure.to_string(),
                }
            }
            None
        });
        staged.await.with_context(|| why.clone())
    }

    /// Waits until every super has acknowledged it: two of three would be enough, and what is late is to be seen.
    async fn all_ready(&self, slot: &str, digest: &str) -> Result<()> {
        until("all supers to acknowledge a rule", async || {
            let at = *self.supers.members().first()?;
            let policies = read(&self.supers.all().get(at)?.api().ok()?, "/v1/policies").await?;
            let staged = policies["slots"][slot]["staged"].as_array()?;
            let policy = staged.iter().find(|policy| policy["digest"] == digest)?;
            policy["replicas"].as_array()?.iter().all(|replica| replica["state"] == "ready").then_some(())
        })
        .await
    }

    /// Asks until it is decided. What has no known end is looked at before it is asked again: a second rollback would undo the
    /// first.
    async fn decides(&self, (slot, what): (&str, &str), digest: &str, body: &Value) -> Result<()> {
        let (mut why, route) = (String::new(), format!("/v1/policies/{slot}/{what}"));
        let decided = until(&route, async || {
            for at in self.supers.members() {
                let policies = read(&self.supers.all().get(at)?.api().ok()?, "/v1/policies").await;
                let Some(row) = policies.as_ref().map(|policies| &policies["slots"][slot]) else { continue };
                if row["active"]["digest"] == digest || row["scheduled"]["digest"] == digest {
                    return Some(());
                }
                match self.supers.all().get(at)?.admin().send(Method::POST, &route, body).await {
                    Ok(_) => return Some(()),
                    Err(failure) => why = failure.to_string(),
                }
            }
            None
        });
        decided.await.with_context(|| why.clone())
    }

    /// The first settled round that it decided.
    async fn first_round(&self, slot: &str, digest: &str) -> Result<u64> {
        until("a rule to decide", async || {
            let at = self.supers.leader().await.ok()?;
            let page = read(&self.supers.all().get(at)?.api().ok()?, "/v1/rounds?limit=100").await?;
            let rounds = page["rounds"].as_array()?;
            let last = rounds.last().filter(|round| round["policies"][slot] == digest)?;
            let other = rounds.iter().rev().find(|round| round["policies"][slot] != digest);
            Some(other.map_or(&last["round"], |round| &round["round"]).as_u64()? + u64::from(other.is_some()))
        })
        .await
    }

    /// What is wrong with the rounds that were settled meanwhile; and how long the rounds were at the swaps, against the
    /// others.
    pub(super) async fn judge_swaps(&mut self) -> Result<()> {
        let Some(first) = self.changes.first() else { return Ok(()) };
        let from = first.round.saturating_sub(1);
        let mut told = Vec::new();
        for at in self.supers.members() {
            told.push(self.rounds_of(at, from).await?);
        }
        let rounds = told.first().context("a member")?;
        let common = told.iter().map(Vec::len).min().unwrap_or_default();
        ensure!(common > 2, "{common} rounds in common");
        for (at, other) in told.iter().enumerate() {
            let differs = rounds.iter().zip(other).find(|(a, b)| {
                (&a["round"], &a["digest"], &a["policies"]) != (&b["round"], &b["digest"], &b["policies"])
            });
            if let Some((a, b)) = differs {
                self.report.wrong.push(format!("a round is another one on super {at}: {a} and {b}"));
            }
        }
        let mut lengths = (Vec::new(), Vec::new());
        for pair in rounds.windows(2) {
            let [before, round] = pair else { continue };
            let (last, now) = (before["round"].as_u64().context("round")?, round["round"].as_u64().context("round")?);
            if now != last + 1 {
                self.report.wrong.push(format!("round {now} follows round {last}"));
            }
            for slot in ["ban", "reward"] {
                let decides = self.changes.iter().rev().find(|change| change.slot == slot && change.round <= now);
                if let Some(change) = decides.filter(|change| round["policies"][slot] != *change.digest) {
                    let wrong =
                        format!("round {now} was decided by {}, not {}", round["policies"][slot], change.digest);
                    self.report.wrong.push(wrong);
                }
            }
            let ms =
                round["time_ms"].as_u64().context("time")?.saturating_sub(before["time_ms"].as_u64().context("time")?);
            let swapped = self.changes.iter().find(|change| change.round == now);
            match swapped {
                Some(change) if change.calm => lengths.0.push(ms),
                Some(_) => {}
                None if round["suspect"] == false => lengths.1.push(ms),
                None => {}
            }
        }
        self.report.swaps = self.changes.len();
        self.report.swap_rounds = (median(&mut lengths.0), lengths.0.last().copied(), median(&mut lengths.1));
        Ok(())
    }

    async fn rounds_of(&self, at: usize, from: u64) -> Result<Vec<Value>> {
        let (api, mut after, mut all) = (self.supers.one(at)?.api()?, from.saturating_sub(1), Vec::new());
        loop {
            let page = get(&api, &format!("/v1/rounds?limit=1000&after={after}")).await?;
            all.extend(page["rounds"].as_array().context("rounds")?.iter().cloned());
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }
}

/// The median of some lengths, which are sorted then; `None` for none.
fn median(lengths: &mut [u64]) -> Option<u64> {
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied()
}
