//! What a node of each role does: one select loop each.

pub mod attached;
pub mod follower;
pub mod leader;
pub mod supernode;
mod tell;
mod walks;
mod welcome;
