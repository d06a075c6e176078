//! The rules in force and those that are to come, as a welcome tells them.
//!
//! Names and versions are their authors' words, so they are bounded and plain on both sides. A slot or a kind that this
//! release does not know comes from a newer one, and costs nobody its stream.

use std::collections::BTreeSet;

use kernel::decide::Slot;
use kernel::id::{Digest, LogIndex, RoundId};

use super::{made_plain, plain};
use crate::message::{
    Malformed, POLICY_NAME_BYTES, POLICY_VERSION_BYTES, Policies, PolicyName, ScheduledKind, ScheduledPolicy,
    SlotPolicies,
};
use crate::pb;

/// Slots that a welcome may name: room for those of newer releases.
const SLOTS: usize = 8;

pub(super) fn read(policies: pb::Policies) -> Result<Policies, Malformed> {
    if policies.slots.len() > SLOTS {
        return Err(Malformed("more slots than there are"));
    }
    let mut seen = BTreeSet::new();
    let mut slots = Vec::new();
    for policies in policies.slots {
        let slot = match policies.slot() {
            pb::Slot::Unspecified => continue,
            pb::Slot::Reward => Slot::Reward,
            pb::Slot::Ban => Slot::Ban,
            pb::Slot::Signing => Slot::Signing,
        };
        if !seen.insert(slot) {
            return Err(Malformed("a slot that is named twice"));
        }
        let active = policies.active.map(read_name).transpose()?;
        let scheduled = policies.scheduled.map(read_scheduled).transpose()?;
        slots.push(SlotPolicies { slot, active, scheduled });
    }
    Ok(Policies { as_of: LogIndex(policies.as_of), settled: RoundId(policies.settled), slots })
}

fn read_scheduled(scheduled: pb::ScheduledPolicy) -> Result<ScheduledPolicy, Malformed> {
    let kind = match scheduled.kind() {
        pb::ScheduledKind::Unspecified => None,
        pb::ScheduledKind::Scheduled => Some(ScheduledKind::Scheduled),
        pb::ScheduledKind::Returned => Some(ScheduledKind::Returned),
        pb::ScheduledKind::Emergency => Some(ScheduledKind::Emergency),
    };
    let policy = scheduled.policy.map(read_name).transpose()?;
    Ok(ScheduledPolicy { policy, round: RoundId(scheduled.round), kind })
}

fn read_name(policy: pb::PolicyName) -> Result<PolicyName, Malformed> {
    let digest = policy.digest.try_into().map_err(|_| Malformed("a policy that is no digest"))?;
    let name = plain(policy.name, POLICY_NAME_BYTES, "a policy's name that is too long or not printable")?;
    let version = plain(policy.version, POLICY_VERSION_BYTES, "a policy's version that is too long or not printable")?;
    Ok(PolicyName { digest: Digest(digest), name, version })
}

pub(super) fn write(policies: Policies) -> pb::Policies {
    let slots = policies.slots.into_iter().map(|policies| {
        let slot = match policies.slot {
            Slot::Reward => pb::Slot::Reward,
            Slot::Ban => pb::Slot::Ban,
            Slot::Signing => pb::Slot::Signing,
        };
        let (active, scheduled) = (policies.active.map(write_name), policies.scheduled.map(write_scheduled));
        pb::SlotPolicies { slot: slot.into(), active, scheduled }
    });
    pb::Policies { as_of: policies.as_of.0, settled: policies.settled.0, slots: slots.collect() }
}

fn write_scheduled(scheduled: ScheduledPolicy) -> pb::ScheduledPolicy {
    let kind = match scheduled.kind {
        None => pb::ScheduledKind::Unspecified,
        Some(ScheduledKind::Scheduled) => pb::ScheduledKind::Scheduled,
        Some(ScheduledKind::Returned) => pb::ScheduledKind::Returned,
        Some(ScheduledKind::Emergency) => pb::ScheduledKind::Emergency,
    };
    pb::ScheduledPolicy { policy: scheduled.policy.map(write_name), round: scheduled.round.0, kind: kind.into() }
}

fn write_name(policy: PolicyName) -> pb::PolicyName {
    pb::PolicyName {
        digest: policy.digest.0.to_vec(),
        name: made_plain(&policy.name, POLICY_NAME_BYTES),
        version: made_plain(&policy.version, POLICY_VERSION_BYTES),
    }
}
