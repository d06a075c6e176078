//! What a node of each role does: one select loop each.

pub mod attached;
mod attend;
pub mod follower;
pub mod leader;
pub mod peers;
pub mod supernode;
mod tell;
mod walks;
mod welcome;
