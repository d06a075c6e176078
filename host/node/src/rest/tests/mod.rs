//! The interface from outside, mostly without a socket: every route, every error, and that an error changes nothing.

mod claims;
mod decisions;
mod events;
mod inputs;
mod openapi;
mod problems;
mod reads;
mod rig;
mod socket;
