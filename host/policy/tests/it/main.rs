//! The policy room from outside: components that are honest, wrong and hostile.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails may panic, and one that skips says so"
)]

mod guests;

mod admission;
mod cache;
mod capture;
mod compat;
mod cookbook_a;
mod cookbook_b;
mod hostile;
mod languages;
mod limits;
mod misbehave;
mod native;
mod signing;
mod twins;
