//! `demo`: what it is told to be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kernel::decide::Slot;
use kernel::limits::{SEATS, VALIDATORS};

use super::logs::Logs;
use super::operate::slot;
use crate::compiling;
use crate::config::PolicySource;
use crate::demo::{self, Options};
use crate::failure::Failure;

/// More would rather measure this machine than show anything.
const FOLLOWERS: i64 = 2_000;

/// Run a whole cluster in this process, and watch its rules at work
///
/// Supers, validators that sign a stream of users' records, followers, and flaky followers that play a script: they fall silent, are warned, suspended and banned, sit out
/// their ban, come back on probation, claim more than they earned, and then claim honestly. Everything is real but the
/// disks, which are in memory unless --data-dir is given. The first line is the address of the REST API.
#[derive(Debug, Args)]
#[command(after_help = "While it runs, standard input is a console of faults: kill NAME, restart NAME, lag NAME 300ms,
partition A,B|C, heal, overclaim NAME, swap SLOT FILE|builtin:NAME [JSON], accept rounds|SLOT, rollback SLOT, status, help,
quit.

Examples:
  pingward demo
  pingward demo --duration 20
  pingward demo --supers 3
  pingward demo --followers 100 --flaky 5 --rest 127.0.0.1:0
  pingward demo --policy ban=my-ban.wasm
  echo 'kill follower-1' | pingward demo --duration 20")]
pub struct Demo {
    /// Supers: 1, 3 or 5; half of them and one more must run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(SEATS)))]
    supers: u16,
    /// Validators, which sign users' records; of 4 one may fail. 0 = no records
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=VALIDATORS as i64))]
    validators: u16,
    /// Followers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=FOLLOWERS))]
    followers: u16,
    /// How many of the followers, the last ones, play the script
    #[arg(long, value_name = "N", default_value_t = 2)]
    flaky: u16,
    /// Length of a round, ms
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(500..=3_600_000))]
    round_ms: u64,
    /// Where the REST API listens; port 0 = any free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    rest: SocketAddr,
    /// End by itself after so many seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    duration: Option<u64>,
    /// Another rule: `reward`, `ban` or `signing`, and a .wasm file or builtin:NAME; once for each slot
    #[arg(long = "policy", value_name = "SLOT=FILE", value_parser = policy)]
    policies: Vec<(Slot, PolicySource)>,
    /// Keep everything in this folder, and go on from there the next time
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    logs: Logs,
}

fn policy(text: &str) -> Result<(Slot, PolicySource), String> {
    let (name, component) = text.split_once('=').ok_or("write SLOT=FILE, such as ban=my-ban.wasm")?;
    let slot = slot(name)?;
    if component.is_empty() {
        return Err("the file is missing; write SLOT=FILE, such as ban=my-ban.wasm".into());
    }
    Ok((slot, demo::source(slot, component, None).map_err(|error| error.to_string())?))
}

impl Demo {
    pub fn run(self) -> Result<(), Failure> {
        let options = self.options()?;
        // What the flaky followers are told is on the screen already.
        self.logs.start("warn,node::roles::follower=error,node::records::validator=error")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::new(format!("no runtime: {error}"), "look at this process's limits"))?;
        let ended = runtime.block_on(demo::run(options));
        runtime.shutdown_timeout(Duration::from_secs(2));
        ended
    }

    fn options(&self) -> Result<Options, Failure> {
        if self.flaky > self.followers {
            return Err(Failure::usage(
                format!("--flaky {}: there are only {} followers", self.flaky, self.followers),
                "flaky ones are counted among the followers: raise --followers or lower --flaky",
            ));
        }
        for slot in Slot::ALL {
            if self.policies.iter().filter(|(named, _)| *named == slot).count() > 1 {
                return Err(Failure::usage(
                    format!("--policy names the slot {slot} twice"),
                    "a slot has one rule: name it once",
                ));
            }
        }
        Ok(Options {
            supers: self.supers,
            validators: self.validators,
            followers: self.followers,
            flaky: self.flaky,
            round_ms: self.round_ms,
            rest: self.rest,
            duration: self.duration.map(Duration::from_secs),
            policies: self.policies.clone(),
            data_dir: self.data_dir.clone(),
            compiler: compiling::child(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        demo: Demo,
    }

    fn options(line: &str) -> Result<Options, Failure> {
        let words = std::iter::once("demo").chain(line.split_whitespace());
        Alone::try_parse_from(words).map_err(|error| Failure::usage(error.to_string(), ""))?.demo.options()
    }

    #[test]
    fn the_defaults_are_those_of_the_pages() {
        let options = options("").unwrap();
        assert_eq!((options.supers, options.followers, options.flaky, options.round_ms), (1, 8, 2, 1_000));
        assert_eq!(options.rest.to_string(), "127.0.0.1:8080");
        assert!(options.duration.is_none() && options.data_dir.is_none() && options.policies.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_in_a_sentence() {
        for (line, said) in [
            ("--supers 9", "1..=8"),
            ("--validators 65", "0..=64"),
            ("--flaky 9", "there are only 8 followers"),
            ("--policy ban=a --policy ban=b", "names the slot ban twice"),
            ("--policy dance=a", "the slots are `reward`, `ban` and `signing`"),
            ("--policy ban", "write SLOT=FILE"),
            ("--round-ms 10", "500"),
            ("--followers 0", "1..=2000"),
            ("--rest 8080", "--rest"),
        ] {
            let failure = options(line).unwrap_err();
            assert!(failure.usage && failure.what.contains(said), "{line}: {failure}");
        }
    }
}
