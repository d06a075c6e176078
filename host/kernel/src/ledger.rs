//! Points: integers, double entry, and a sum that is always zero.
//!
//! `treasury` issues and takes back and is the only account that may be below zero; `earned:<node>` is what a member has
//! not claimed; `wallet:<key>` is what was claimed (PROTOCOLS 9).

use core::fmt;

use minicbor::{Decode, Encode};

use crate::id::NodeId;
use crate::units::Points;

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Account {
    /// Issues points; below zero by as much as all others hold.
    #[n(0)]
    Treasury,
    /// What a member earned and has not claimed.
    #[n(1)]
    Earned(#[n(0)] NodeId),
    /// What a key holds.
    #[n(2)]
    Wallet(#[n(0)] NodeId),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Treasury => f.write_str("treasury"),
            Self::Earned(node) => write!(f, "earned:{node}"),
            Self::Wallet(key) => write!(f, "wallet:{key}"),
        }
    }
}

/// A wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Wallet {
    /// What it holds, never below zero.
    #[n(0)]
    pub balance: Points,
    /// Since when it is empty; dropped a day later.
    #[n(1)]
    pub empty_since_ms: Option<u64>,
}
