//! A policy's call as it was: codes and bits as the rule saw them, not words, for whoever calls the rule again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What a policy was called with in a round, and what it answered. It was rebuilt from history and has the digest that the
/// round's settlement carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputsView {
    /// The round.
    pub round: u64,
    /// `reward` or `ban`.
    pub slot: String,
    /// `id#genesis`.
    pub cluster: String,
    /// The policy.
    pub policy: String,
    /// Its component.
    pub component: String,
    /// What it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its config.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Bytes that it remembers of each member.
    pub memory_bytes: u32,
    /// Texts of its reason codes; code *i* is entry *i* - 1.
    pub reasons: Vec<String>,
    /// What ran it.
    pub engine: String,
    /// SHA-256 of all that it saw, of all members.
    pub input: String,
    /// Stamp of the settlement, ms since 1970.
    pub now_ms: u64,
    /// Ms since the settlement before.
    pub elapsed_ms: u64,
    /// Length of a round, ms.
    pub interval_ms: u64,
    /// The observations were doubted.
    pub suspect: bool,
    /// Digest of the settlement before, hex.
    pub seed: String,
    /// Members in the round; more than are listed, where only some were asked for.
    pub population: usize,
    /// Cluster settings in force, by key.
    pub settings: BTreeMap<String, String>,
    /// Names of the extra columns.
    pub extra: Vec<String>,
    /// Its fault, where it failed; then no member has an answer.
    pub fault: Option<FaultSaid>,
    /// What a reward policy made wrong claims and records cost.
    pub tariff: Option<TariffView>,
    /// The members, in the order of the call.
    pub members: Vec<InputRow>,
}

/// How a policy failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FaultSaid {
    /// As in a round.
    pub kind: String,
    /// For people; a panic's own text.
    pub message: String,
}

/// What wrong claims and records cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TariffView {
    /// Basis points of the excess.
    pub overclaim_bp: u32,
    /// Points at least.
    pub overclaim_min: u32,
    /// Points a record.
    pub record_fee: u32,
    /// Points a KiB of record body.
    pub record_fee_kib: u32,
}

/// A member as the policy saw it: codes and bits are those of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputRow {
    /// Its key.
    pub node: String,
    /// Its display name; may be empty.
    pub name: String,
    /// 0 down, 1 up, 2 unknown.
    pub presence: u8,
    /// Fact bits.
    pub facts: u16,
    /// Lowest round trip, µs; 0 = none.
    pub rtt_us: u32,
    /// Seats that asked ≪ 8 | seats that saw it.
    pub observers: u16,
    /// Rounds in the queue.
    pub age: u32,
    /// 0 good, 1 warned, 2 suspended, 3 banned, 4 probation.
    pub standing: u8,
    /// Strikes.
    pub strikes: u16,
    /// Points that are not claimed.
    pub earned: u64,
    /// The `data` of its last pong.
    pub data: u64,
    /// Set by the operator.
    pub class: u32,
    /// Network group.
    pub group: u32,
    /// Flag bits.
    pub flags: u32,
    /// What the policy remembered of it, hex.
    pub memory: String,
    /// Values of the extra columns.
    pub extra: Vec<i64>,
    /// What the policy said of it; null where it failed.
    pub answer: Option<RowAnswer>,
    /// What it remembers from then on, hex; null where it failed.
    pub memory_after: Option<String>,
}

/// What a policy said of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RowAnswer {
    /// A ban policy.
    Judged(JudgedView),
    /// A reward policy.
    Paid(PaidView),
}

/// What a ban policy said of a member, before guardrails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JudgedView {
    /// Code of the standing.
    pub standing: u8,
    /// Strikes from then on.
    pub strikes: u16,
    /// Rounds until the earliest return.
    pub until: u32,
    /// Reason code, 0 = none.
    pub reason: u16,
}

/// What a reward policy said of a member, before clamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaidView {
    /// Points.
    pub points: i64,
    /// Reason code, 0 = none.
    pub reason: u16,
}

/// Bytes as hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
