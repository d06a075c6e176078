//! The state of a cluster and `apply`, the only way to change it.
//!
//! `apply` is total: it never fails, waits, logs or reads a clock. A refusal is a reply. It reads only the state and the
//! command: a setting that it needs is in the state, and time is a field that the leader stamps.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::Ip;
use crate::decide::{Slot, Tariff};
use crate::id::{ClusterId, Digest, LogIndex, MemberNumber, NodeId, RoundId, Term};
use crate::ledger::Wallet;
use crate::members::Member;
use crate::policies::{PolicyRow, SlotState};
use crate::round::SeatRow;
use crate::settings::Settings;
use crate::units::Points;

/// The single row of small things.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Meta {
    /// The log index of the last command that was applied.
    #[n(0)]
    pub applied: LogIndex,
    /// Name and genesis; empty before the founding.
    #[n(1)]
    pub cluster: ClusterId,
    /// The term of the last leader.
    #[n(2)]
    pub term: Term,
    /// Who leads.
    #[n(3)]
    pub leader: Option<NodeId>,
    /// The latest stamp; it never falls.
    #[n(4)]
    pub stamp_ms: u64,
    /// The last settled round; 0 = none.
    #[n(5)]
    pub settled: RoundId,
    /// Its stamp.
    #[n(6)]
    pub settled_ms: u64,
    /// The term in which it was observed.
    #[n(7)]
    pub settled_term: Term,
    /// SHA-256 of its settlement; zero before the first.
    #[n(8)]
    pub settled_digest: Digest,
    /// It was suspect.
    #[n(9)]
    pub suspect: bool,
    /// Suspect rounds in a row up to it.
    #[n(10)]
    pub suspect_rounds: u32,
    /// The last trusted round; 0 = none yet.
    #[n(11)]
    pub trusted: RoundId,
    /// Seats that are taken.
    #[n(12)]
    pub seats: Vec<SeatRow>,
    /// In force.
    #[n(13)]
    pub settings: Option<Settings>,
    /// Version of the settings in force.
    #[n(14)]
    pub settings_version: u64,
    /// Settings that will be in force from a round on.
    #[n(15)]
    pub settings_next: Option<(RoundId, Settings)>,
    /// Penalty and fees.
    #[n(16)]
    pub tariff: Tariff,
    /// Balance of the treasury.
    #[n(17)]
    pub treasury: Points,
    /// All points that were ever issued.
    #[n(18)]
    pub issued: Points,
    /// The number that the next new member gets.
    #[n(19)]
    pub next_number: MemberNumber,
    /// Joins since the last settlement.
    #[n(20)]
    pub joins: u32,
    /// The same, by index of network group.
    #[n(21)]
    pub group_joins: Vec<(u32, u32)>,
    /// Settings as the founder's file last said them, so that only a change of the file counts.
    #[n(22)]
    pub file_settings: Vec<(String, String)>,
}

/// A network group: a /24 or /64 from which members come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its index, stable while it has members.
    pub index: u32,
    /// Its members, in the queue or not.
    pub members: u32,
}

/// Everything that replicas agree on. Fields are read freely; only [`State::apply`] changes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Small things.
    pub meta: Meta,
    /// All known members, by key.
    pub members: BTreeMap<NodeId, Member>,
    /// Members by number.
    pub numbers: BTreeMap<MemberNumber, NodeId>,
    /// The queue as after the last settlement, in ascending order of key.
    pub queue: Arc<[NodeId]>,
    /// Wallets.
    pub wallets: BTreeMap<NodeId, Wallet>,
    /// Slots, by number.
    pub slots: [SlotState; Slot::ALL.len()],
    /// Policies that are staged or in use.
    pub policies: BTreeMap<Digest, PolicyRow>,
    /// Their components.
    pub components: BTreeMap<Digest, Arc<[u8]>>,
    /// Components of which pieces are missing: size, and what is there.
    pub uploads: BTreeMap<Digest, (u32, Vec<u8>)>,
    /// Network groups, derived from the members.
    pub groups: BTreeMap<Ip, Group>,
}
