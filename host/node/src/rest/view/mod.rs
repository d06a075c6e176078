//! Kernel types as JSON: the only place that turns one into the other.
//!
//! Unknown is `null`, never 0: a presence that nobody saw, a round trip that nobody measured, an address that the reader
//! may not see. Times are whole ms since 1970, points are whole numbers, nodes and wallets are 64 hex digits.

mod cluster;
mod history;
mod inputs;
mod ledger;
mod nodes;
mod policies;
mod rules;
mod shadow;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde_json::Value;

use kernel::command::{Ip, Operator};
use kernel::id::{NodeId, RoundId};
use kernel::state::State;

pub use cluster::MemberView;
pub use history::{
    BanView, ChangeView, FaultView, MarksView, MoveView, RoundMember, RoundSummary, RoundView, SlotPart,
};
pub use inputs::{FaultSaid, InputRow, InputsView, JudgedView, PaidView, RowAnswer, TariffView, hex};
pub use ledger::{AccountView, EntryView, RewardView};
pub use nodes::{BanNow, NodeDetail, NodeView, QueueEntry, Seen, super_view};
pub use policies::{
    PoliciesView, PolicyView, ReplicaView, ScheduledView, SettingsNext, SettingsView, SlotFault, SlotView, Slots,
    replicas,
};
pub use rules::{ComingRule, RuleView, RulesView, SlotRules};
pub use shadow::{DiffersView, ShadowFault, ShadowRound, ShadowView, SumsView};

/// A view as a JSON value.
pub fn json<T: Serialize>(view: &T) -> Value {
    // Views are plain structs with string keys: nothing in them can fail to serialise.
    serde_json::to_value(view).unwrap_or(Value::Null)
}

/// A text, or null when it is empty.
#[must_use]
pub fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

/// A round, or null for "none": round 0 never happens.
#[must_use]
pub const fn round(round: RoundId) -> Option<u64> {
    if round.0 == 0 { None } else { Some(round.0) }
}

/// The display name of a member or super; null when it has none or is unknown.
#[must_use]
pub fn name_of(state: &State, node: &NodeId) -> Option<String> {
    let member = state.members.get(node).map(|member| member.profile.name.as_str());
    let seat = || state.meta.seats.iter().find(|row| row.holder.node == *node).map(|row| row.holder.name.as_str());
    member.or_else(seat).and_then(text)
}

/// An address as text.
#[must_use]
pub fn ip(ip: &Ip) -> String {
    match ip {
        Ip::V4(bytes) => IpAddr::V4(Ipv4Addr::from(*bytes)).to_string(),
        Ip::V6(bytes) => IpAddr::V6(Ipv6Addr::from(*bytes)).to_string(),
    }
}

/// The word for how an operator proved that it may decide.
#[must_use]
pub const fn operator(by: Operator) -> &'static str {
    match by {
        Operator::Token => "token",
        Operator::Socket => "socket",
        Operator::File => "file",
        Operator::Console => "console",
    }
}
