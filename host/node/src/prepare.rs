//! How policies come into force: admitted, put through the log, prepared here, activated at a round (PROTOCOLS 11).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kernel::command::Operator;
use kernel::decide::Slot;
use kernel::id::{Digest, RoundId};
use policy::{Engine, Findings, Prepared};

use crate::config::PolicySource;
use crate::group::Group;

/// The policies of a super: what is ready to run here, and how to bring in another one.
#[derive(Clone)]
pub struct Policies {
    group: Group,
    engine: Engine,
    prepared: Arc<RwLock<BTreeMap<Digest, Prepared>>>,
}

/// What became of a policy that somebody wants in a slot.
#[derive(Clone, Debug)]
pub enum Swap {
    /// It decides already, or will.
    Unchanged {
        /// Which.
        policy: Digest,
    },
    /// It decides from a round on.
    Scheduled(Scheduled),
    /// It failed admission: what decides now goes on.
    Refused(Findings),
}

/// A policy that was activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Its identity.
    pub policy: Digest,
    /// Its name and version.
    pub name: String,
    /// The first round that it decides.
    pub from: RoundId,
    /// Members whose memory starts empty; 0 = memory is kept.
    pub memory_empty: u64,
}
