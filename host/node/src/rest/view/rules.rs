//! What a follower was told of the rules. A super shows all that is known of them, with its policies.

use serde::Serialize;
use utoipa::ToSchema;

use kernel::decide::Slot;
use wire::message::{PolicyName, ScheduledKind};

use super::text;
use crate::roles::follower::policies::{Announced, KnownPolicies, KnownSlot};

/// The rules in force and those that are to come; null for a slot of which nothing was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RulesView {
    /// Points for a round, and the tariff.
    pub reward: Option<SlotRules>,
    /// Standing.
    pub ban: Option<SlotRules>,
    /// Records: sign or refuse.
    pub signing: Option<SlotRules>,
}

/// A slot's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SlotRules {
    /// Decides the next round; null = the slot is neutral.
    pub active: Option<RuleView>,
    /// Another one that is to come; null when no change is.
    pub scheduled: Option<ComingRule>,
}

/// A rule, and what its author calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RuleView {
    /// Its identity.
    pub digest: String,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its version, as it says.
    pub version: Option<String>,
}

/// A rule that is to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ComingRule {
    /// Its identity; null = the slot becomes neutral.
    pub digest: Option<String>,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its version, as it says.
    pub version: Option<String>,
    /// The first round that it decides.
    pub round: u64,
    /// Rounds from the last settled one, when this node was told, to that round.
    pub notice_rounds: u64,
    /// About how long they take, ms.
    pub notice_ms: u64,
    /// `scheduled` by an operator, `returned` by itself because the one in force failed too often, or an operator's `emergency`;
    /// null when this release does not know the reason.
    pub kind: Option<&'static str>,
}

impl RulesView {
    /// As a follower knows them.
    #[must_use]
    pub fn of(known: &KnownPolicies) -> Self {
        let slot = |slot| known.slot(slot).map(SlotRules::of);
        Self { reward: slot(Slot::Reward), ban: slot(Slot::Ban), signing: slot(Slot::Signing) }
    }
}

impl SlotRules {
    fn of(slot: &KnownSlot) -> Self {
        Self { active: slot.active.as_ref().map(RuleView::of), scheduled: slot.announced.as_ref().map(ComingRule::of) }
    }
}

impl RuleView {
    fn of(policy: &PolicyName) -> Self {
        Self { digest: policy.digest.to_string(), name: text(&policy.name), version: text(&policy.version) }
    }
}

impl ComingRule {
    fn of(announced: &Announced) -> Self {
        let Announced { scheduled, notice } = announced;
        let rule = scheduled.policy.as_ref().map(RuleView::of);
        let (digest, name, version) =
            rule.map_or((None, None, None), |rule| (Some(rule.digest), rule.name, rule.version));
        Self {
            digest,
            name,
            version,
            round: scheduled.round.0,
            notice_rounds: notice.rounds,
            notice_ms: notice.ms,
            kind: scheduled.kind.map(ScheduledKind::name),
        }
    }
}
