//! Records: data of users that a quorum of validators has signed (PROTOCOLS 10).
//!
//! The way of a record: its author signs it, a follower or validator takes it in and forwards it ([`record`]); the leader
//! orders what came into batches through the log ([`order`]); validators judge a batch by the signing policy ([`review`]),
//! which gives it one possible root ([`tree`]), and sign that ([`certificate`]); a quorum of signatures seals it ([`seal`]).
//! Who may sign is the set ([`validators`]); whose turn it is to gather signatures is [`turn`], and
//! who signed two roots is found out by a [`witness`].
//!
//! Invariant: number and content of a batch never change, so it has one root for each attempt, whoever leads. A record is
//! final only when a quorum of distinct members of the set has signed its batch.

pub mod certificate;
pub mod order;
pub mod record;
pub mod review;
pub mod seal;
pub mod sealed;
pub mod tree;
pub mod turn;
pub mod validators;
pub mod witness;

#[cfg(test)]
mod tests;
