//! End to end: what a person at a terminal does, with real processes, real sockets and real components.
//!
//! The journeys behind the feature `journeys` take minutes: `cargo test -p cluster --features journeys`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails may panic, and says what it saw"
)]
#![cfg_attr(not(feature = "journeys"), allow(dead_code, reason = "the journeys use the rest of it"))]

mod support;

mod demo;
#[cfg(feature = "journeys")]
mod faults;
#[cfg(feature = "journeys")]
mod lives;
#[cfg(feature = "journeys")]
mod rules;
