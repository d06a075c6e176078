//! The group: a log that supers agree on, and the state that follows from it, over openraft.
//!
//! Invariant: what is acknowledged is on the disks of a majority. Nothing of openraft is stored or sent: [`types`] turns
//! its values into ours and back.
//!
//! Not here, on purpose: rules (the kernel has them), bytes on disk (the store has them), and when to do what (the node).
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )
)]

mod convert;
mod group;
mod keeping;
mod log;
mod machine;
mod members;
mod network;
mod open;
mod propose;
mod runs;
mod runtime;
mod service;
mod start;
mod status;
mod time;
pub mod types;
mod view;

#[cfg(test)]
mod tests;

pub use group::{Applied, Group, GroupError, Leadership, Timing};
pub use log::{Log, LogEnd, LogReader, LogView};
pub use machine::{Applied as Batch, Builder, Machine, Watcher};
pub use members::{ChangeError, REPLICAS};
pub use network::{Connecting, Connector, Io, Lane, connect};
pub use open::{Files, OpenError, Replicated};
pub use runs::Runs;
pub use runtime::{Seeded, seed};
pub use service::{Caller, RaftServer, Roster};
pub use start::{Keeping, Parts, StartError};
pub use status::Member;
pub use time::Wall;
