//! Points: what members earned, what keys hold, and every movement.

use serde::Serialize;
use utoipa::ToSchema;

use kernel::id::NodeId;
use kernel::members::Member;
use kernel::outcome::Line;
use kernel::state::State;

use super::{name_of, round, text};

/// A member's points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RewardView {
    /// Who.
    pub node: String,
    /// Its display name.
    pub name: Option<String>,
    /// The address that its pongs tell; null for readers that may not see it.
    pub address: Option<String>,
    /// Earned and not claimed.
    pub earned: i64,
    /// All that it ever claimed.
    pub claimed: i64,
    /// All penalties that it ever paid.
    pub penalties: i64,
}

impl RewardView {
    /// From state.
    #[must_use]
    pub fn of(node: &NodeId, member: &Member, addresses: bool) -> Self {
        Self {
            node: node.to_string(),
            name: text(&member.profile.name),
            address: member.profile.address.clone().filter(|_| addresses),
            earned: member.hot.earned.0,
            claimed: member.hot.claimed.0,
            penalties: member.hot.penalties.0,
        }
    }
}

/// A key's accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountView {
    /// The key, or `treasury`.
    pub key: String,
    /// Its display name, where it is a node.
    pub name: Option<String>,
    /// Balance of `earned:<key>`; null when the key is no member.
    pub earned: Option<i64>,
    /// Balance of `wallet:<key>`; 0 when there is none. The treasury's own balance is `balance`.
    pub wallet: Option<i64>,
    /// The treasury's balance, below zero by what all others hold; null for every other key.
    pub balance: Option<i64>,
    /// All that it ever claimed; null when the key is no member.
    pub claimed: Option<i64>,
    /// All penalties that it ever paid; null when the key is no member.
    pub penalties: Option<i64>,
    /// The lowest sequence that its next claim may carry; null when the key is no member.
    pub next_sequence: Option<u64>,
}

impl AccountView {
    /// A key's accounts; `None` when the cluster knows nothing of it.
    #[must_use]
    pub fn of(key: &NodeId, state: &State) -> Option<Self> {
        let (member, wallet) = (state.members.get(key), state.wallets.get(key));
        if member.is_none() && wallet.is_none() {
            return None;
        }
        let next = |member: &Member| member.profile.claim.as_ref().map_or(1, |last| last.sequence.saturating_add(1));
        Some(Self {
            key: key.to_string(),
            name: name_of(state, key),
            earned: member.map(|member| member.hot.earned.0),
            wallet: Some(wallet.map_or(0, |wallet| wallet.balance.0)),
            balance: None,
            claimed: member.map(|member| member.hot.claimed.0),
            penalties: member.map(|member| member.hot.penalties.0),
            next_sequence: member.map(next),
        })
    }

    /// The treasury.
    #[must_use]
    pub fn treasury(state: &State) -> Self {
        Self {
            key: "treasury".into(),
            name: None,
            earned: None,
            wallet: None,
            balance: Some(state.meta.treasury.0),
            claimed: None,
            penalties: None,
            next_sequence: None,
        }
    }
}

/// One movement of points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EntryView {
    /// Its place in the log.
    pub index: u64,
    /// Its place among the movements of that entry.
    pub part: u32,
    /// The round that was settled last, or that a compensation makes good.
    pub round: Option<u64>,
    /// Stamp, ms since 1970.
    pub time_ms: u64,
    /// `reward`, `deduction`, `claim`, `penalty`, `compensation`, `wallet_fee`.
    pub kind: &'static str,
    /// The account that gave: `treasury`, `earned:<node>`, `wallet:<key>`.
    pub from: String,
    /// The account that got.
    pub to: String,
    /// How much, above zero.
    pub points: i64,
    /// The policy behind it, where there is one.
    pub policy: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl EntryView {
    /// A movement; `code` is the reward policy's reason for a round's pay, whose text the policy has.
    #[must_use]
    pub fn of(line: &Line, code: u16, state: &State) -> Self {
        let row = line.policy.and_then(|digest| state.policies.get(&digest));
        let said = (code != 0).then(|| row.and_then(|row| row.description.reasons.get(usize::from(code) - 1)).cloned());
        Self {
            index: line.index.0,
            part: line.part,
            round: round(line.round),
            time_ms: line.now_ms,
            kind: line.kind.name(),
            from: line.from.to_string(),
            to: line.to.to_string(),
            points: line.points.0,
            policy: line.policy.map(|digest| digest.to_string()),
            reason: text(&line.reason).or_else(|| said.flatten()),
        }
    }
}
