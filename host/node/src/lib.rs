//! The pingward node: what the binary, the demo and the tests start.
//!
//! Top down: the command line reads a config and starts a server; a server runs one role
//! beside its gRPC and REST. A super's role decides nothing itself: it feeds what it hears to the kernel and
//! proposes to the group.
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
#![forbid(unsafe_code)]

pub mod builtin;
pub mod cli;
pub mod client;
pub mod compiling;
pub mod config;
pub mod context;
pub mod demo;
pub mod events;
pub mod failure;
pub mod group;
pub mod grpc;
pub mod keys;
pub mod known;
pub mod listen;
pub mod mail;
pub mod metrics;
pub mod prepare;
pub mod records;
pub mod rest;
pub mod restore;
pub mod roles;
pub mod server;
pub mod shadow;
pub mod streams;
pub mod tasks;
pub mod text;
pub mod tls;
pub mod wires;
