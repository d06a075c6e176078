//! A group of supers that is hurt under load, fault by fault, and what comes of it.
#![allow(clippy::print_stdout, reason = "who waits for minutes is told how far it is")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use kernel::id::NodeId;
use node::client::Api;
use node::keys::NodeKey;
use raft::Timing;

use crate::audit::{self, Stalls};
use crate::dice::Dice;
use crate::followers::Followers;
use crate::load::{Done, Load};
use crate::net::Net;
use crate::supers::{Supers, get, read, until};

mod records;
mod swaps;

/// How long a super is paused.
const PAUSE: Duration = Duration::from_secs(5);
/// How long supers are cut off from each other.
const CUT: Duration = Duration::from_secs(5);
/// Points that everybody has before anybody claims: more than can be claimed in the rounds in which nobody is paid.
const EARNED: i64 = 300;

/// What is to happen.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Times that the leader is killed.
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Times that a super is stopped for 5 s.
    #[arg(long, default_value_t = 20)]
    pauses: usize,
    /// Times that supers are cut off from each other for 5 s.
    #[arg(long, default_value_t = 10)]
    partitions: usize,
    /// Times that a rule is changed or taken back, with kills of the leader in between.
    #[arg(long, default_value_t = 0)]
    swaps: usize,
    /// Times that any validator, follower or super is killed while users hand records in.
    #[arg(long, default_value_t = 0)]
    records: usize,
    /// Supers to which the group grows at the end, before it shrinks to three again.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=5))]
    most: u8,
    /// Followers.
    #[arg(long, default_value_t = 1_000)]
    followers: usize,
    /// Length of a round, ms.
    #[arg(long, default_value_t = 1_000)]
    round_ms: u64,
    /// What is random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the supers keep their files.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Leave the files there, logs among them; they are left in any case when something went wrong.
    #[arg(long)]
    keep: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What must not be.
    pub wrong: Vec<String>,
    /// From each kill of a leader to the next write that was asked for after it and paid.
    pub resumed: Vec<Duration>,
    /// What the clients did.
    pub done: Done,
    /// The longest time in which this process, with all followers, did not run.
    pub stall: Duration,
    /// What followers missed while this process did not run.
    pub excused: usize,
    /// Rules that were changed.
    pub swaps: usize,
    /// Length of the rounds that a swap took effect with and no kill was near, ms: the median and the longest; and the median
    /// of all other rounds.
    pub swap_rounds: (Option<u64>, Option<u64>, Option<u64>),
    /// Rounds that were settled, and those among them that were suspect.
    pub rounds: (usize, usize),
    /// Records that were taken, and how often a node was killed meanwhile.
    pub records: (usize, usize),
    /// The followers that kept them.
    keepers: Vec<NodeId>,
    net: &'static str,
}

impl Report {
    /// The time within which so many of a hundred were done; zero when nothing was.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut all = self.resumed.clone();
        all.sort_unstable();
        let at = (all.len() * percent).div_ceil(100).saturating_sub(1);
        all.get(at).copied().unwrap_or_default()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Timing { heartbeat, election_min, election_max } = Timing::default();
        let Done { answered, unanswered, retries, lost_reads } = self.done;
        let (rounds, suspect) = self.rounds;
        let mut text = format!(
            "\nnetwork: {}; a heartbeat each {heartbeat:?}, an election after {election_min:?} to {election_max:?}\n\
             operations: {answered} answered, {unanswered} left without an answer, {retries} attempts again, {lost_reads} reads \
             that nobody answered\nrounds: {rounds} settled, of them suspect: {suspect}\n\
             this process, with all followers, did not run for at most {:.2?}; misses that are not counted for it: {}\n",
            self.net, self.stall, self.excused
        );
        if !self.resumed.is_empty() {
            let (median, late, worst) = (self.percentile(50), self.percentile(99), self.percentile(100));
            let _ = writeln!(
                text,
                "writes resumed after {} kills of the leader: {median:.2?} at the median (target 1 s), {late:.2?} at p99 \
                 (target 2 s), {worst:.2?} at worst",
                self.resumed.len()
            );
        }
        if let (swaps @ 1.., (Some(median), Some(longest), Some(others))) = (self.swaps, self.swap_rounds) {
            let _ = writeln!(
                text,
                "{swaps} swaps of rules: each round was decided by one rule, the same on all supers; the rounds of swaps without \
                 a kill took {median} ms at the median and {longest} at most, all others {others} ms at the median"
            );
        }
        if let (taken, kills @ 1..) = self.records {
            let _ =
                writeln!(text, "{taken} records were taken under {kills} kills: each is sealed once, on every node");
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "WRONG: {wrong}");
        }
        if self.wrong.is_empty() {
            text.push_str(
                "nothing was lost or counted twice, all histories are linearizable, all states the same, nobody was struck\n",
            );
        }
        text
    }

    /// Whether writes resumed in time.
    #[must_use]
    pub fn in_time(&self) -> bool {
        self.percentile(50) < Duration::from_secs(1) && self.percentile(99) < Duration::from_secs(2)
    }
}

/// Does all of it.
///
/// # Errors
/// What kept it from its end; what it found is in the report.
pub async fn run(options: &Options) -> Result<Report> {
    let dir = tempfile::tempdir_in(&options.dir).with_context(|| options.dir.display().to_string())?;
    let report = run_in(dir.path(), options).await;
    if options.keep || !report.as_ref().is_ok_and(|report| report.wrong.is_empty()) {
        say(&format!("the supers' files are left in {}", dir.keep().display()));
    }
    report
}

async fn run_in(dir: &Path, options: &Options) -> Result<Report> {
    let program = std::env::current_exe()?;
    let net = Net::new().await?;
    let mut report = Report { net: net.kind(), ..Report::default() };
    let mut supers = Supers::new(net, dir.into(), program, options.round_ms);
    supers.start_another().await?;
    let status = get(&supers.one(0)?.api()?, "/v1/status").await?;
    let cluster = status["cluster"].as_str().context("a founded cluster")?.to_owned();
    let name = cluster.split('#').next().unwrap_or_default();
    let from = supers.net.sources();
    let followers = Followers::start(options.followers, name, &supers.addresses(), &from)?;
    earned(&supers.one(0)?.api()?, options.followers).await?;
    say(&format!("{} followers are paid", options.followers));
    let load = Load::start(&cluster, &followers.keys, apis(&supers)?, options.seed);
    let dice = Dice::new(options.seed ^ 0x5eed);
    let patience = Duration::from_millis(options.round_ms / 4);
    let stalls = Stalls::watch();
    let changes = Vec::new();
    let mut run = Run { supers, load, dice, report: &mut report, stalls, patience, checked: 0, changes };
    let done = run.all(options, dir, &cluster).await;
    let Run { supers, mut load, .. } = run;
    done?;
    finish(&mut report, &supers, &mut load, followers).await?;
    Ok(report)
}

/// Asks all that can be asked at the end.
async fn finish(report: &mut Report, supers: &Supers, load: &mut Load, followers: Followers) -> Result<()> {
    let leader = supers.one(supers.leader().await?)?.api()?;
    report.wrong.extend(audit::clean(&leader, &followers.keys).await?);
    report.done = load.done();
    report.wrong.extend(load.finish().await?);
    let keys: Vec<NodeId> = followers.keys.iter().map(NodeKey::id).chain(report.keepers.iter().copied()).collect();
    followers.stop().await?;
    until("all followers to have left", async || (read(&leader, "/v1/status").await?["queue"] == 0).then_some(()))
        .await?;
    report.wrong.extend(audit::books(&leader, &keys).await?);
    let mut after = 0;
    loop {
        let page = get(&leader, &format!("/v1/rounds?limit=1000&after={after}")).await?;
        let rounds = page["rounds"].as_array().context("rounds")?;
        report.rounds.0 += rounds.len();
        report.rounds.1 += rounds.iter().filter(|round| round["suspect"] == true).count();
        match rounds.last().and_then(|round| round["round"].as_u64()) {
            Some(last) if !page["next"].is_null() => after = last,
            Some(_) | None => return Ok(()),
        }
    }
}

/// Waits until all followers have earned something.
async fn earned(api: &Api, followers: usize) -> Result<()> {
    until("all followers to be paid", async || {
        let rewards = read(api, "/v1/rewards?limit=1000").await?;
        let rows = rewards["rewards"].as_array()?;
        let paid = rows.iter().filter(|row| row["earned"].as_i64() >= Some(EARNED)).count();
        (paid >= followers.min(1_000)).then_some(())
    })
    .await
}

fn apis(supers: &Supers) -> Result<Vec<Api>> {
    supers.members().iter().map(|at| supers.one(*at)?.api()).collect()
}

fn say(what: &str) {
    println!("{what}");
}

struct Run<'a> {
    supers: Supers,
    load: Load,
    dice: Dice,
    report: &'a mut Report,
    stalls: Stalls,
    /// Half of the time that followers have to answer: where this process did not run for as long, they were not up.
    patience: Duration,
    checked: u64,
    /// Rules that were changed.
    changes: Vec<swaps::Change>,
}

impl Run<'_> {
    async fn all(&mut self, options: &Options, dir: &Path, cluster: &str) -> Result<()> {
        self.grow(3).await?;
        for kill in 0..options.kills {
            self.kill().await.with_context(|| format!("kill {}", kill + 1))?;
        }
        for swap in 0..options.swaps {
            self.swap(swap).await.with_context(|| format!("swap {}", swap + 1))?;
        }
        self.judge_swaps().await?;
        for pause in 0..options.pauses {
            self.pause().await.with_context(|| format!("pause {}", pause + 1))?;
        }
        for partition in 0..options.partitions {
            self.partition(partition).await.with_context(|| format!("partition {}", partition + 1))?;
        }
        self.grow(options.most.into()).await?;
        self.shrink(3).await?;
        // The last, because followers that keep records are killed and struck for it.
        let program = std::env::current_exe()?;
        self.records(options.records, (dir, program), cluster).await.context("records")
    }

    /// After each fault: what must hold, does.
    async fn check(&mut self, what: &str) -> Result<()> {
        self.supers.well().await?;
        let leader = self.supers.one(self.supers.leader().await?)?.api()?;
        let (last, struck) = audit::struck(&leader, self.checked).await?;
        self.checked = last;
        let stall = self.stalls.take();
        self.report.stall = self.report.stall.max(stall);
        let struck = if stall < self.patience { struck } else { self.excuse(struck, stall) };
        let different = audit::same_state(&self.supers, &self.load).await?;
        let wrong = struck.into_iter().chain(different).map(|wrong| format!("after {what}: {wrong}"));
        let before = self.report.wrong.len();
        self.report.wrong.extend(wrong);
        for wrong in self.report.wrong.iter().skip(before) {
            say(&format!("WRONG: {wrong}"));
        }
        Ok(())
    }

    /// What followers missed while this process did not run is their own.
    fn excuse(&mut self, struck: Vec<String>, stall: Duration) -> Vec<String> {
        for missed in &struck {
            say(&format!("not counted, because this process with all followers did not run for {stall:.2?}: {missed}"));
        }
        self.report.excused += struck.len();
        Vec::new()
    }

    async fn grow(&mut self, to: usize) -> Result<()> {
        while self.supers.members().len() < to {
            let at = self.supers.start_another().await?;
            self.supers.add(at).await?;
            self.load.asks(apis(&self.supers)?);
            say(&format!("super-{} belongs to the group", at + 1));
            self.check(&format!("adding super-{}", at + 1)).await?;
        }
        Ok(())
    }

    /// The leader goes first, then whoever is drawn.
    async fn shrink(&mut self, to: usize) -> Result<()> {
        let mut leads = true;
        while self.supers.members().len() > to {
            let at = if std::mem::take(&mut leads) { self.supers.leader().await? } else { self.any()? };
            let others = self.supers.members().into_iter().filter(|member| *member != at);
            self.load.asks(others.map(|member| self.supers.one(member)?.api()).collect::<Result<_>>()?);
            self.supers.remove(at).await?;
            say(&format!("super-{} was removed", at + 1));
            self.check(&format!("removing super-{}", at + 1)).await?;
        }
        Ok(())
    }

    fn any(&mut self) -> Result<usize> {
        let members = self.supers.members();
        members.get(self.dice.below(members.len())).copied().context("a member")
    }

    async fn kill(&mut self) -> Result<()> {
        let leader = self.supers.leader().await?;
        // Anywhere in a round.
        tokio::time::sleep(Duration::from_millis(self.dice.below(1_000) as u64)).await;
        self.supers.kill(leader)?;
        let (since_us, since) = (self.load.now_us(), Instant::now());
        let paid = until("a write after the kill", async || self.load.first_paid_after(since_us)).await?;
        let resumed = Duration::from_micros(paid - since_us);
        self.report.resumed.push(resumed);
        // Now and then it stays away longer than a moment.
        let away = Duration::from_millis(self.dice.below(3_000) as u64);
        tokio::time::sleep(away.saturating_sub(since.elapsed())).await;
        self.supers.start(leader).await?;
        say(&format!("killed super-{}, which led: writes after {resumed:.2?}", leader + 1));
        self.check(&format!("killing super-{}, which led,", leader + 1)).await
    }

    async fn pause(&mut self) -> Result<()> {
        let at = self.any()?;
        self.supers.pause(at)?;
        // The pause itself is what is tested.
        tokio::time::sleep(PAUSE).await;
        self.supers.go_on(at)?;
        say(&format!("paused super-{}", at + 1));
        self.check(&format!("pausing super-{}", at + 1)).await
    }

    /// One way or another: the leader from the others, with or without its followers, another super, one direction only, or
    /// two that no longer reach each other while the third reaches both.
    async fn partition(&mut self, number: usize) -> Result<()> {
        let leader = self.supers.leader().await?;
        let others: Vec<usize> = self.supers.members().into_iter().filter(|at| *at != leader).collect();
        let (Some(&one), Some(&two)) = (others.first(), others.get(1)) else { return Ok(()) };
        let net = &self.supers.net;
        let both = |a: usize, b: usize| net.cut(a, b).and_then(|()| net.cut(b, a));
        let what = match number % 6 {
            0 => {
                both(leader, one)?;
                both(leader, two)?;
                "the leader was cut off from the other supers"
            }
            1 => {
                both(one, leader)?;
                both(one, two)?;
                "a super that does not lead was cut off from the others"
            }
            2 => {
                net.isolate(leader)?;
                "the leader was cut off from everybody"
            }
            3 => {
                both(leader, one)?;
                "the leader was cut off from one of the two others"
            }
            4 => {
                net.cut(one, leader)?;
                net.cut(two, leader)?;
                "the leader heard nothing from the others"
            }
            _ => {
                net.cut(leader, one)?;
                net.cut(leader, two)?;
                "the others heard nothing from the leader"
            }
        };
        // As for a pause.
        tokio::time::sleep(CUT).await;
        self.supers.net.heal()?;
        say(&format!("{what} (super-{} led)", leader + 1));
        self.check(what).await
    }
}
