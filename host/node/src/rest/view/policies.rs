//! Policies and settings.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use kernel::decide::Slot;
use kernel::id::{Digest, RoundId};
use kernel::outcome::RoundRecord;
use kernel::policies::PolicyRow;
use kernel::records::validators::Validator;
use kernel::settings::Settings;
use kernel::state::State;

use super::text;

/// All slots.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PoliciesView {
    /// By name of the slot.
    pub slots: Slots,
}

/// One entry a slot.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Slots {
    /// Points for a round, and the tariff.
    pub reward: SlotView,
    /// Standing.
    pub ban: SlotView,
    /// Records: sign or refuse.
    pub signing: SlotView,
}

impl PoliciesView {
    /// Rounds that [`PoliciesView::of`] wants to look at: those of faults.
    #[must_use]
    pub fn rounds(state: &State) -> Vec<RoundId> {
        Slot::ALL.into_iter().flat_map(|slot| state.slot(slot).row.faults.clone()).collect()
    }

    /// From state; what history keeps of the rounds with faults is handed in.
    #[must_use]
    pub fn of(state: &State, rounds: &[RoundRecord]) -> Self {
        let view = |slot| SlotView::of(slot, state, rounds);
        Self { slots: Slots { reward: view(Slot::Reward), ban: view(Slot::Ban), signing: view(Slot::Signing) } }
    }
}

impl SlotFault {
    fn of(slot: Slot, round: RoundId, rounds: &[RoundRecord]) -> Self {
        let record = rounds.iter().find(|record| record.round == round);
        let part = record.and_then(|record| record.slots.iter().find(|part| part.slot == slot));
        let fault = part.and_then(|part| part.fault.as_ref());
        Self {
            round: round.0,
            kind: fault.map(|fault| fault.kind.name()),
            message: fault.map(|fault| fault.message.clone()),
        }
    }
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SlotView {
    /// Decides the next round; null = the slot is neutral.
    pub active: Option<PolicyView>,
    /// A rollback brings it back.
    pub previous: Option<PolicyView>,
    /// Candidates that nothing refers to yet.
    pub staged: Vec<PolicyView>,
    /// Runs beside the active one without effect.
    pub shadow: Option<PolicyView>,
    /// Becomes active for a round.
    pub scheduled: Option<ScheduledView>,
    /// Its deterministic faults within the last ten rounds: at the setting `policy_limits.return_faults` of them the
    /// previous policy comes back.
    pub faults: Vec<SlotFault>,
    /// All faults since the cluster was founded.
    pub faults_total: u64,
    /// The cap over time holds moves back until an operator accepts them.
    pub held: bool,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PolicyView {
    /// Its identity: SHA-256 of the two digests below.
    pub digest: String,
    /// SHA-256 of the component's bytes.
    pub component: String,
    /// SHA-256 of its config.
    pub config_digest: String,
    /// Its config.
    #[schema(value_type = Object)]
    pub config: Value,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its version, as it says.
    pub version: Option<String>,
    /// Bytes that it remembers of each member.
    pub memory_bytes: u32,
    /// Memory survives a swap between policies of the same schema and size.
    pub memory_schema: Option<String>,
    /// `active`, `previous`, `scheduled`, `shadow` or `staged`.
    pub state: &'static str,
    /// It comes with the binary and is the last resort of an automatic return.
    pub builtin: bool,
    /// Which supers have compiled and self-tested it.
    pub replicas: Vec<ReplicaView>,
    /// Which validators have; only in the signing slot, where a quorum of them must before it can be activated.
    pub validators: Vec<ReplicaView>,
}

/// A policy on a super or a validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReplicaView {
    /// The super or validator.
    pub node: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// `ready`; `waiting` while it compiles, or does not answer; `failed` when it cannot run it.
    pub state: &'static str,
    /// Why it cannot run it.
    pub why: Option<String>,
}

impl ReplicaView {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        let who = self.name.as_deref().unwrap_or(&self.node);
        self.why.as_ref().map_or_else(|| format!("{who} ({})", self.state), |why| format!("{who} ({why})"))
    }
}

/// A policy on every super.
#[must_use]
pub fn replicas(row: &PolicyRow, state: &State) -> Vec<ReplicaView> {
    let replica = |seat: &kernel::round::SeatRow| {
        let why = row.unready.iter().find(|(unready, _)| *unready == seat.seat).map(|(_, why)| why.clone());
        ReplicaView {
            node: seat.holder.node.to_string(),
            name: text(&seat.holder.name),
            state: match (row.ready.contains(&seat.seat), &why) {
                (true, _) => "ready",
                (false, Some(_)) => "failed",
                (false, None) => "waiting",
            },
            why,
        }
    };
    state.meta.seats.iter().map(replica).collect()
}

/// A policy on every validator; nobody where its slot is not theirs.
#[must_use]
pub fn validators(row: &PolicyRow, state: &State) -> Vec<ReplicaView> {
    if row.slot != Slot::Signing {
        return Vec::new();
    }
    let validator = |validator: &Validator| {
        let why = row.unable.iter().find(|(unable, _)| *unable == validator.node).map(|(_, why)| why.clone());
        ReplicaView {
            node: validator.node.to_string(),
            name: text(&validator.name),
            state: match (row.able.contains(&validator.node), &why) {
                (true, _) => "ready",
                (false, Some(_)) => "failed",
                (false, None) => "waiting",
            },
            why,
        }
    };
    state.validators.set.iter().map(validator).collect()
}

/// A fault of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SlotFault {
    /// In which round.
    pub round: u64,
    /// As in the round; null when history does not go back that far.
    pub kind: Option<&'static str>,
    /// As in the round; null when history does not go back that far.
    pub message: Option<String>,
}

/// What becomes active.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ScheduledView {
    /// Which; null = the slot becomes neutral.
    pub digest: Option<String>,
    /// The same, with all that is known of it.
    pub policy: Option<PolicyView>,
    /// For which round first.
    pub round: u64,
    /// The cluster brings it back by itself: the one that it replaces failed too often.
    pub returned: bool,
    /// It was activated without the notice that the settings ask for.
    pub emergency: bool,
}

impl SlotView {
    fn of(slot: Slot, state: &State, rounds: &[RoundRecord]) -> Self {
        let row = &state.slot(slot).row;
        let view = |digest: Option<Digest>, word: &'static str| {
            let (digest, policy) = digest.and_then(|digest| state.policies.get_key_value(&digest))?;
            Some(PolicyView::of(digest, policy, word, state))
        };
        let scheduled = row.scheduled.and_then(|scheduled| scheduled.policy);
        let shadow = row.shadow.map(|shadow| shadow.policy);
        let used = [row.active, row.previous, scheduled, shadow];
        let staged =
            state.policies.iter().filter(|(digest, policy)| policy.slot == slot && !used.contains(&Some(**digest)));
        Self {
            active: view(row.active, "active"),
            previous: view(row.previous, "previous"),
            staged: staged.map(|(digest, policy)| PolicyView::of(digest, policy, "staged", state)).collect(),
            shadow: view(shadow, "shadow"),
            scheduled: row.scheduled.map(|scheduled| ScheduledView {
                digest: scheduled.policy.map(|digest| digest.to_string()),
                policy: view(scheduled.policy, "scheduled"),
                round: scheduled.round.0,
                returned: scheduled.returned,
                emergency: scheduled.emergency,
            }),
            faults: row.faults.iter().map(|round| SlotFault::of(slot, *round, rounds)).collect(),
            faults_total: row.faults_total,
            held: row.held,
        }
    }
}

impl PolicyView {
    fn of(digest: &Digest, row: &PolicyRow, word: &'static str, state: &State) -> Self {
        Self {
            digest: digest.to_string(),
            component: row.component.to_string(),
            config_digest: row.config_digest.to_string(),
            config: serde_json::from_str(&row.config).unwrap_or_else(|_| Value::String(row.config.clone())),
            name: text(&row.description.name),
            version: text(&row.description.version),
            memory_bytes: row.description.memory_bytes,
            memory_schema: text(&row.description.memory_schema),
            state: word,
            builtin: state.slot(row.slot).row.builtin == Some(*digest),
            replicas: replicas(row, state),
            validators: validators(row, state),
        }
    }
}

/// The cluster's settings.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SettingsView {
    /// Rises with each change.
    pub version: u64,
    /// In force, by key.
    #[schema(value_type = Object)]
    pub settings: BTreeMap<&'static str, Value>,
    /// A change that is to come; null when there is none.
    pub next: Option<SettingsNext>,
}

/// A change of settings that is to come.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SettingsNext {
    /// In force from this round on.
    pub round: u64,
    /// Only the keys that change.
    #[schema(value_type = Object)]
    pub settings: BTreeMap<&'static str, Value>,
}

impl SettingsView {
    /// From state.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let settings = values(&state.meta.settings);
        let next = state.meta.settings_next.as_ref().map(|(round, next)| {
            let mut changed = values(next);
            changed.retain(|key, value| settings.get(key) != Some(value));
            SettingsNext { round: round.0, settings: changed }
        });
        Self { version: state.meta.settings_version, settings, next }
    }
}

fn values(settings: &Settings) -> BTreeMap<&'static str, Value> {
    let value = |text: String| match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        digits => digits.parse::<u64>().map_or_else(|_| Value::String(text.clone()), Value::from),
    };
    settings.entries().into_iter().map(|(key, text)| (key, value(text))).collect()
}
