//! The compiler in a process of its own, from outside. This program is that process as well, which is why it has its own
//! `main`: `cargo test --test compile [NAME]` runs the tests whose names contain NAME.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that fails may panic, and this one tells how it went"
)]

mod bombs;
#[path = "../it/guests.rs"]
#[allow(dead_code, reason = "the other tests need all of it")]
mod guests;
mod tests;

use std::process::ExitCode;

/// Makes this program a compiler.
const COMPILE: &str = "compile-component";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == COMPILE) {
        return policy::compile_for_parent();
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in tests::ALL.iter().copied() {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            let is_ok = std::panic::catch_unwind(test).is_ok();
            println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
            passed += usize::from(is_ok);
            failed.extend((!is_ok).then_some(name));
        }
    }
    let (word, out) = (if failed.is_empty() { "ok" } else { "FAILED" }, tests::ALL.len() - passed - failed.len());
    // As the usual harness says it, for whoever counts.
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; {out} filtered out",
        failed.len()
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {failed:?}");
    ExitCode::FAILURE
}
