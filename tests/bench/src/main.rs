//! What it costs, measured where it runs: each command prints figures beside their targets.
//!
//! It exits 3 when a target is missed, 1 when it could not measure.
//!
//! ```text
//! cargo run --release --bin bench -- settle
//! cargo run --release --bin bench --features bench/scripts -- rules
//! cargo run --release --bin bench -- load
//! cargo run --release --bin bench -- commits
//! cargo run --release --bin bench -- absent
//! cargo run --release --bin bench -- records
//! cargo run --release --bin bench -- followers --count 1000 --seconds 60
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]
#![forbid(unsafe_code)]

mod absent;
mod commits;
mod figures;
mod followers;
mod group;
mod load;
mod native;
mod process;
mod records;
mod rules;
mod scripts;
mod settle;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code when a target is missed: another one than for what went wrong.
const MISSED: u8 = 3;

#[derive(Parser)]
#[command(about = "Measures pingward and prints the figures beside their targets")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One round of a large cluster: both policy calls, in WebAssembly and natively, then the settlement on disk.
    Settle(settle::Options),
    /// One rule in WebAssembly, natively and, with `--features bench/scripts`, in Lua and Rhai.
    Rules(rules::Options),
    /// The default rules from their bytes to ready: compiled here, in a child, from the cache.
    Load,
    /// Three supers over gRPC on loopback: commands that are acknowledged a second, asked on the leader and on another.
    Commits(commits::Options),
    /// One of three supers stays away while the others settle rounds: how long it takes to have all of them.
    Absent(absent::Options),
    /// Whole nodes on loopback: records that a quorum has sealed a second, and how long each takes.
    Records(records::Options),
    /// Many followers on one super or several of this machine: pongs counted, and what each super needs for them.
    Followers(followers::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    // The super that is measured, and its compiler, are this binary in another part, so that one command builds and runs all.
    let compiles = std::env::args().nth(1).is_some_and(|command| command == node::compiling::COMMAND);
    if compiles || std::env::var_os(process::AS_NODE).is_some() {
        return Ok(node::cli::main());
    }
    if let Ok(what) = std::env::var(followers::AS_FOLLOWERS) {
        return followers::play(&what).map(|()| ExitCode::SUCCESS);
    }
    let met = match Cli::parse().command {
        Command::Settle(options) => settle::run(&options)?,
        Command::Rules(options) => rules::run(&options)?,
        Command::Load => load::run()?,
        Command::Commits(options) => commits::run(&options).map(|()| true)?,
        Command::Absent(options) => absent::run(&options)?,
        Command::Records(options) => records::run(&options)?,
        Command::Followers(options) => followers::run(&options)?,
    };
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}
