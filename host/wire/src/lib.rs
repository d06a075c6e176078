//! What nodes say to each other, as protobuf.
//!
//! [`message`] has the plain types that the rest of the house works with, [`convert`] is the only place that reads or
//! writes a protobuf message, [`codec`] the framing, [`version`] what this release speaks; [`raft`] has the same for what
//! supers say to each other about their log, and [`rounds`] about rounds. [`pb`] is generated from
//! `proto/` and stays between these walls and the gRPC server and client.
//!
//! Invariant: whatever bytes come in, what leaves [`convert`] is bounded and valid, or is said to be malformed.
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

pub mod message;

pub mod convert;

pub mod codec;
pub mod raft;
pub mod records;
pub mod rounds;
pub mod version;

/// Generated from `proto/pingward/v1`.
#[allow(missing_docs, reason = "the proto file documents the messages")]
#[allow(clippy::all, clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
pub mod pb {
    tonic::include_proto!("pingward.v1");
}
