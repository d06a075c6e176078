//! End to end: what a person at a terminal does, with real processes, real sockets and real components.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails may panic, and says what it saw"
)]

#[path = "../../../host/policy/tests/compile/bombs.rs"]
#[allow(dead_code, reason = "one of them is enough here")]
mod bombs;
mod support;

mod backup;
mod capture;
mod cli;
mod demo;
mod faults;
mod languages;
mod lives;
mod readme;
mod refusals;
mod rules;
mod supers;
