//! The interface from outside, mostly without a socket: every route, every error, and that an error changes nothing.

mod backup;
mod claims;
mod cluster;
mod decisions;
mod events;
mod inputs;
mod openapi;
mod pair;
mod problems;
mod reads;
mod rig;
mod socket;
mod stage;
mod tags;
