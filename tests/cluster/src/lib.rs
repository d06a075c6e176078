//! Groups of supers under real faults: processes that are killed, paused and cut off while others ask them, and what must
//! hold of all that was answered.
//!
//! [`linear`] says whether a history is one that a single object could have had, [`wallet`] what such an object does;
//! [`faults`] runs a group ([`supers`], [`net`], [`followers`], [`keepers`]), asks it ([`load`]), hurts it, and looks ([`audit`]).
#![allow(clippy::indexing_slicing, reason = "fields of JSON: one that is not there is null")]
#![forbid(unsafe_code)]

pub mod audit;
pub mod dice;
pub mod faults;
pub mod followers;
pub mod keepers;
pub mod linear;
pub mod load;
pub mod net;
pub mod process;
pub mod supers;
pub mod wallet;
