//! Kills, pauses and cuts off supers under load and checks all that they answered.
//!
//! It exits 3 when writes resumed too late, 1 when something is wrong.
//!
//! ```text
//! cargo run --release --bin faults -- --kills 100 --pauses 20 --partitions 10 --followers 1000
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use cluster::faults::{Options, run};
use cluster::net::spaces;
use cluster::process::AS_NODE;

/// Exit code when a target is missed: another one than for what went wrong.
const MISSED: u8 = 3;

#[derive(Parser)]
#[command(about = "Hurts a group of supers under load and checks what it answers")]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<ExitCode> {
    // The supers, and their compilers, are this binary in another part, so that one command builds and runs all.
    let compiles = std::env::args().nth(1).is_some_and(|command| command == node::compiling::COMMAND);
    if compiles || std::env::var_os(AS_NODE).is_some() {
        return Ok(node::cli::main());
    }
    let Cli { options } = Cli::parse();
    spaces::enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = match runtime.block_on(run(&options)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::FAILURE);
        }
    };
    println!("{}", report.text());
    Ok(match report.wrong.is_empty() {
        false => ExitCode::FAILURE,
        true if report.in_time() => ExitCode::SUCCESS,
        true => ExitCode::from(MISSED),
    })
}
