//! The command line. Clap stops in this folder: each file is one family of commands, and turns what was typed into a
//! request or a start of a node.
//!
//! Results go to standard output, progress and logs to standard error. Exit code 0 = done, 1 = refused or failed, 2 =
//! the command line was wrong. Every failure says what happened, where, and how to mend it.

mod author;
mod backup;
mod capture;
mod cluster;
mod compensate;
mod demo;
mod events;
mod fault;
mod logs;
mod operate;
mod output;
mod play;
mod policy;
mod read;
mod record;
mod resolve;
mod run;
mod setup;
mod sign;
mod source;
mod stage;
mod validators;
mod verify;

use std::future::Future;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::compiling;
use crate::failure::Failure;

/// A network that pings its nodes, pays those that answer, and warns, suspends and bans those that do not, by rules that
/// are WebAssembly components.
#[derive(Debug, Parser)]
#[command(
    name = "pingward",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start here:
  pingward demo                                  a whole cluster in one process
  pingward init --role super --dir super-1       a node of your own: writes super-1/node.toml and a key
  pingward run --config super-1/node.toml        starts it

Reads go to http://127.0.0.1:8080 unless --api says otherwise. Exit codes: 0 done, 1 refused or failed, 2 wrong usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Run(run::Run),
    Init(setup::Init),
    #[command(subcommand)]
    Key(setup::Key),
    #[command(subcommand)]
    Config(setup::ConfigCommand),
    Completions(setup::Completions),
    Status(read::Status),
    Queue(read::Queue),
    Nodes(read::Nodes),
    Rewards(read::Rewards),
    Bans(read::Bans),
    Rounds(read::Rounds),
    Events(events::Watch),
    Accounts(read::Accounts),
    Claim(sign::Claim),
    Transfer(sign::Transfer),
    #[command(subcommand, visible_alias = "records")]
    Record(record::RecordCommand),
    Verify(verify::Verify),
    #[command(subcommand)]
    Validators(validators::Validators),
    #[command(subcommand)]
    Policy(policy::Policy),
    Compensate(operate::Compensate),
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Compile one component for the process that starts this, which speaks with it over pipes; not for people
    #[command(name = compiling::COMMAND, hide = true)]
    CompileComponent,
}

/// Reads the command line, does what it says, and tells how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors. If nobody reads them, that is no error either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match cli.command.run() {
        Ok(code) => code,
        Err(failure) if failure.unread => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(if failure.usage { 2 } else { 1 })
        }
    }
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        let done = |()| ExitCode::SUCCESS;
        match self {
            Self::Demo(demo) => demo.run().map(done),
            Self::Run(run) => run.run().map(done),
            Self::Init(init) => init.run().map(done),
            Self::Key(key) => key.run().map(done),
            Self::Config(config) => config.run().map(done),
            Self::Completions(completions) => completions.run(&mut Cli::command()).map(done),
            Self::Status(read) => wait(read.run()).map(done),
            Self::Queue(read) => wait(read.run()).map(done),
            Self::Nodes(read) => wait(read.run()).map(done),
            Self::Rewards(read) => wait(read.run()).map(done),
            Self::Bans(read) => wait(read.run()).map(done),
            Self::Rounds(read) => wait(read.run()).map(done),
            Self::Events(watch) => wait(watch.run()).map(done),
            Self::Accounts(read) => wait(read.run()).map(done),
            Self::Claim(claim) => wait(claim.run()).map(done),
            Self::Transfer(transfer) => wait(transfer.run()).map(done),
            Self::Record(record) => wait(record.run()).map(done),
            Self::Verify(verify) => verify.run().map(done),
            Self::Validators(validators) => wait(validators.run()).map(done),
            Self::Policy(policy) => policy.run().map(done),
            Self::Compensate(compensate) => wait(compensate.run()).map(done),
            Self::Cluster(cluster) => wait(cluster.run()).map(done),
            Self::CompileComponent => Ok(::policy::compile_for_parent()),
        }
    }
}

/// Runs a short request on this thread.
fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(format!("no runtime: {error}"), "look at this process's limits"))?;
    let result = runtime.block_on(work);
    // A name that is still being looked up must not hold the end of the process.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::Command as Clap;

    use super::*;

    fn walk(command: &Clap, path: &str, visit: &mut dyn FnMut(&Clap, &str)) {
        visit(command, path);
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            walk(inner, &format!("{path} {}", inner.get_name()), visit);
        }
    }

    #[test]
    fn the_tree_of_commands_fits_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_help() {
        walk(&Cli::command(), "pingward", &mut |command, path| {
            assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{path}");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some_and(|help| !help.to_string().is_empty()), "{path} {}", arg.get_id());
            }
        });
    }

    #[test]
    fn every_read_has_output_and_api() {
        let mut reads = 0;
        walk(&Cli::command(), "pingward", &mut |command, path| {
            let path = path.trim_start_matches("pingward").trim();
            let read = [
                "status",
                "queue",
                "nodes",
                "rewards",
                "bans",
                "rounds",
                "events",
                "accounts",
                "policy list",
                "cluster members",
                "record get",
                "record list",
                "validators list",
            ];
            if read.contains(&path) {
                reads += 1;
                for option in ["output", "api"] {
                    assert!(command.get_arguments().any(|arg| arg.get_long() == Some(option)), "{path} --{option}");
                }
            }
        });
        assert_eq!(reads, 13);
    }

    #[test]
    fn every_command_of_an_operator_takes_the_three_ways_to_prove_it_may() {
        let mut changes = 0;
        walk(&Cli::command(), "pingward", &mut |command, path| {
            if command.get_arguments().any(|arg| arg.get_long() == Some("token-file")) {
                changes += 1;
                assert!(command.get_arguments().any(|arg| arg.get_long() == Some("config")), "{path}");
                assert!(command.get_arguments().any(|arg| arg.get_long() == Some("api")), "{path}");
            }
        });
        assert_eq!(changes, 21);
    }

    #[track_caller]
    fn usage(line: &str, expected: &str) {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }

    #[test]
    fn a_wrong_command_line_says_what_was_meant() {
        usage("pingward statsu", "status");
        usage("pingward status --ouput json", "--output");
        usage("pingward status --output yaml", "json");
        usage("pingward bans add abc", "--rounds");
        usage("pingward init --role king", "follower");
        usage("pingward claim --key k --amount 0", "1");
        usage("pingward bans lift --policy sha256:00", "--since");
        usage("pingward policy rollback dance", "reward");
        usage("pingward validators add 10.0.0.2:7201", "@host:port");
        usage("pingward cluster add 10.0.0.2:7001", "@host:port");
        usage("pingward nodes --read now", "linearizable");
    }

    #[test]
    fn commands_are_read_as_the_pages_write_them() {
        for line in [
            "demo --supers 1 --validators 0 --followers 8 --flaky 2 --round-ms 1000 --rest 127.0.0.1:0 --duration 20",
            "demo --policy ban=a.wasm --policy reward=builtin:reward-flat --data-dir x",
            "run --config node.toml --once",
            "init --role follower --dir f --name follower-1",
            "key new",
            "key show node.key",
            "config check node.toml",
            "config show --config node.toml",
            "status --api 127.0.0.1:1 --output json",
            "queue",
            "nodes",
            "nodes follower-1 --output table",
            "nodes set follower-1 --class 3",
            "rewards",
            "bans",
            "bans add follower-1 --rounds 5 --reason test",
            "bans lift follower-1 --reason test",
            "bans lift --policy sha256:00 --since 5 --reason test",
            "rounds",
            "rounds 5",
            "rounds accept",
            "rounds accept --reason gone",
            "events --follow",
            "accounts follower-1",
            "claim --key node.key --amount all",
            "claim --key node.key --amount 5 --to 00 --sequence 7",
            "policy list",
            "policy new my-rule --slot ban --lang rust",
            "policy new my-rule --slot ban --lang c",
            "policy new my-rule --slot reward --lang js",
            "policy check a.wasm",
            "policy check a.wasm --set policy_limits.state_bytes=1262",
            "policy check a.wasm --slot ban --config {}",
            "policy inspect a.wasm",
            "policy bench a.wasm --members 100 --members 1000",
            "policy test a.wasm --cases cases.toml --slot ban",
            "policy test a.wasm --cases cases.toml --config {}",
            "policy capture --slot ban --round 812",
            "policy capture --slot reward --round 812 --rounds 3 --nodes f-1,f-2 --out a.toml --component a.wasm",
            "policy build dir --out a.wasm",
            "policy accept ban",
            "policy accept ban --reason x",
            "policy rollback reward --reason x",
            "compensate lines.csv",
            "nodes --read local",
            "cluster set round.interval_ms 1000 --reason faster",
            "cluster members --read local --output json",
            "cluster add 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c@10.0.0.2:7001",
            "cluster backup lab.backup --force --read local",
            "cluster restore lab.backup --config node.toml",
            "cluster promote super-2 --config node.toml",
            "cluster remove 8a88e3dd --api 127.0.0.1:1 --token-file t",
            "completions bash",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("pingward").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
