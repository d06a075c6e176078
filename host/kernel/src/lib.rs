//! Every rule of a pingward cluster, and nothing else.
//!
//! Inputs go in, values come out: this crate has no clock, no socket, no file, no thread, no logging and no floats in
//! state. Time, randomness and the network are arguments. That is what makes the rules testable in milliseconds, the
//! same on every replica, and replayable on recorded history.
//!
//! Read it in this order: the nouns ([`id`], [`units`], [`limits`], [`settings`]); what enters the replicated log and
//! what comes out ([`command`], [`outcome`], [`state`]); the rules that `apply` calls: members ([`join`], [`members`],
//! [`queue`]), supers ([`roster`]), rounds ([`settle`], [`judge`], [`standing`], [`guardrails`]), points ([`ledger`]), policies ([`stage`],
//! [`policies`]) and operators ([`operate`], [`tags`], [`restore`]); what happens before a settlement, in memory only ([`round`]);
//! what a policy is to the kernel ([`decide`]), and what it sees of a round ([`columns`]).
//!
//! Invariant: the kernel verifies signatures and never makes one.
#![cfg_attr(not(test), no_std)]
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

extern crate alloc;

pub mod id;
pub mod limits;
pub mod settings;
pub mod units;

pub mod envelope;

pub mod command;
pub mod outcome;
pub mod state;

pub mod join;
pub mod members;
pub mod queue;
pub mod restore;
pub mod roster;

pub mod settle;

pub mod judge;
pub mod standing;

pub mod guardrails;

pub mod ledger;

pub mod stage;

pub mod policies;

pub mod operate;
pub mod tags;

pub mod agreed;

pub mod round;

pub mod columns;
pub mod decide;

pub mod shadow;

pub mod records;

#[cfg(test)]
mod scripts;
