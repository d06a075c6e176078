//! One of three supers is away while the others settle rounds: how long it takes until it has all that they have, and how much
//! of the log the others keep meanwhile. The rounds are settled as fast as they can be, one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use kernel::columns::Deciding;
use kernel::command::Command;

use crate::figures::print_target;
use crate::group::{NOW_MS, Seat, form, populate, propose, super_key};
use crate::world::{Eyes, Rules, commands};

/// Between two rounds, as the stamps say it.
const ROUND_MS: u64 = 10_000;
/// Until the group stands, or a super is back.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds for which it is away.
    #[arg(long, default_value_t = 10_000)]
    rounds: u64,
    /// Members in the queue.
    #[arg(long, default_value_t = 1_000)]
    members: u16,
}

/// Measures and prints; returns whether the target was met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<bool> {
    let rules = Rules::admit()?;
    let mut founding = Vec::new();
    for policy in &rules.in_force() {
        founding.extend(commands(policy, NOW_MS)?);
    }
    let dir = tempfile::tempdir()?;
    let mut supers = formed(dir.path(), founding, options.members).await?;
    let away = supers.pop().context("a third super")?;
    let leader = supers.first().context("a first super")?;
    let mut rounds = Rounds { rules, eyes: Eyes::new(super_key(0)), now_ms: NOW_MS };
    // The first settlements fill the queue, and the third super has them.
    for _ in 0..3 {
        rounds.settle(leader).await?;
    }
    let index = leader.group.read(|state| state.meta.applied);
    until(&away, |applied| applied.index >= index).await?;
    let place = tokio::time::timeout(PATIENCE, away.kill()).await.context("a super does not end")??;

    let (began, mut log_bytes) = (Instant::now(), 0);
    for round in 0..options.rounds {
        rounds.settle(leader).await?;
        if round.is_multiple_of(100) {
            log_bytes = log_bytes.max(leader.place().log_bytes()?);
        }
    }
    let settling = began.elapsed();

    let began = Instant::now();
    let back = place.start().await?;
    let (index, settled) = leader.group.read(|state| (state.meta.applied, state.meta.settled));
    until(&back, |applied| applied.index >= index && applied.settled >= settled).await?;
    let took = began.elapsed();
    ensure!(back.store.state_digest()? == leader.store.state_digest()?, "it came back with another state");

    println!(
        "{} members, {} rounds settled by two of three in {:.1} s",
        options.members,
        options.rounds,
        settling.as_secs_f64()
    );
    println!("  the log's file was never larger than {} MB", log_bytes / 1_000_000);
    println!("  from the start of the third, its files opened, to the same state: {:.2} s", took.as_secs_f64());
    println!("\ntargets");
    Ok(print_target("a super that was away is back", took.as_secs_f64(), 10.0, "s"))
}

async fn formed(dir: &Path, founding: Vec<Command>, members: u16) -> Result<Vec<Seat>> {
    let supers = tokio::time::timeout(PATIENCE, form(dir, founding)).await.context("the group does not form")??;
    populate(&supers.first().context("a first super")?.group, members).await?;
    Ok(supers)
}

async fn until(seat: &Seat, is_there: impl Fn(raft::Applied) -> bool) -> Result<()> {
    let mut applied = seat.group.applied();
    let there = tokio::time::timeout(PATIENCE, applied.wait_for(|applied| is_there(*applied)));
    there.await.context("a super does not get what the others have")??;
    Ok(())
}

/// What the leader decides with.
struct Rounds {
    rules: Rules,
    eyes: Eyes,
    now_ms: u64,
}

impl Rounds {
    /// Observes a round, decides and settles it.
    async fn settle(&mut self, leader: &Seat) -> Result<()> {
        self.now_ms += ROUND_MS;
        let (eyes, now_ms) = (&mut self.eyes, self.now_ms);
        let deciding = leader.group.read(|state| -> Result<_> {
            let (report, partials) = eyes.observe(state)?;
            Ok(Deciding::gather(state, report, partials, now_ms))
        })?;
        let Rules { reward, ban } = &self.rules;
        let (settle, _) = deciding.run(Some(&ban.policy), Some(&reward.policy), policy::engine_name());
        propose(&leader.group, Command::Settle(Box::new(settle))).await?;
        Ok(())
    }
}
