//! What a group of three supers commits: three replicas with files of their own, over gRPC on this machine's loopback, each
//! client waiting for its answer before it asks again.
//!
//! The replicas are in this process and speak without TLS; what the clients ask for is proposed on the leader, and in the
//! second table on another super, which forwards it. Beside it stands what one append with fdatasync takes here, because
//! every figure scales with that.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use kernel::command::{Command, Operate, Operation, Operator};
use raft::Group;

use crate::figures::Samples;
use crate::group::{NOW_MS, SUPERS, form, member, populate, propose};

/// Members that the commands are about.
const MEMBERS: u16 = 500;
/// Text of a command that makes it 256 bytes in all, as a value of a key-value store.
const REASON_BYTES: usize = 184;
/// Until the group stands.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Clients at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    clients: Vec<usize>,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let supers = tokio::time::timeout(PATIENCE, form(folder.path(), Vec::new())).await;
    let supers = supers.context("the group does not form")??;
    populate(&supers.first().context("no super")?.group, MEMBERS).await?;
    println!("{SUPERS} supers, files in {}, entries of about 256 bytes", folder.path().display());
    println!(
        "{:>8} {:>8} {:>10} {:>9} {:>9} {:>14}",
        "asked", "clients", "commits/s", "p50 ms", "p99 ms", "fdatasync us"
    );
    for (asked, group) in [("leader", supers.first()), ("another", supers.last())] {
        let group = &group.ok_or_else(|| anyhow!("no super"))?.group;
        for clients in &options.clients {
            let fdatasync = probe(folder.path())?;
            let (rate, times) = load(group, *clients, Duration::from_secs(options.seconds)).await?;
            let (p50, p99) = (times.ms(50), times.ms(99));
            println!("{asked:>8} {clients:>8} {rate:>10.0} {p50:>9.3} {p99:>9.3} {fdatasync:>14.0}");
        }
    }
    // Nothing is acknowledged by one that the others do not know.
    for seat in &supers {
        seat.group.linearizable().await?;
    }
    let digests = supers.iter().map(|seat| seat.store.state_digest()).collect::<Result<Vec<_>, _>>()?;
    ensure!(digests.iter().all(|digest| Some(digest) == digests.first()), "the supers' states differ");
    println!("all states are equal");
    Ok(())
}

/// Commits a second, and how long each took.
async fn load(group: &Group, clients: usize, time: Duration) -> Result<(f64, Samples)> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let group = group.clone();
            tokio::spawn(async move {
                let (mut samples, mut number) = (Vec::new(), client);
                while began.elapsed() < time {
                    let asked = Instant::now();
                    propose(&group, command(number)).await?;
                    samples.push(asked.elapsed());
                    number += clients;
                }
                anyhow::Ok(samples)
            })
        })
        .collect();
    let mut all = Samples::default();
    let mut count = 0_usize;
    for task in tasks {
        for sample in task.await?? {
            all.push(sample);
            count += 1;
        }
    }
    Ok((count as f64 / began.elapsed().as_secs_f64(), all))
}

fn command(number: usize) -> Command {
    let node = member((number % usize::from(MEMBERS)) as u16);
    let what = Operation::SetClass { node, class: number as u32 };
    Command::Operate(Operate { by: Operator::Token, reason: "x".repeat(REASON_BYTES), now_ms: NOW_MS, what })
}

/// The median of 200 appends of 256 bytes with fdatasync, µs.
fn probe(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("probe"))?;
    let mut samples = Samples::default();
    for _ in 0..200 {
        samples.time(|| file.write_all(&[7; 256]).and_then(|()| file.sync_data()))?;
    }
    Ok(samples.ms(50) * 1_000.0)
}
