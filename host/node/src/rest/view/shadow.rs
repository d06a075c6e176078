//! What a shadowed policy did otherwise.

use kernel::id::NodeId;
use kernel::shadow::{Differs, Round, Shadow, Sums, Tally};
use serde::Serialize;
use utoipa::ToSchema;

use super::text;
use crate::shadow::Seen;

/// Members that one answer lists.
const MEMBERS: usize = 1_000;

/// In what a policy would have decided otherwise than the active one.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ShadowView {
    /// The policy.
    pub policy: String,
    /// The round that was settled last when it began.
    pub since_round: u64,
    /// The last round that was followed.
    pub round: u64,
    /// Rounds that were decided twice.
    pub rounds: u64,
    /// Suspect ones among them: no ban policy was asked.
    pub suspect_rounds: u64,
    /// Rounds in which somebody was paid or placed otherwise.
    pub rounds_otherwise: u64,
    /// The first of them.
    pub first_difference: Option<u64>,
    /// Members that were ever paid or placed otherwise.
    pub members_otherwise: u64,
    /// What the active policies decided.
    pub active: SumsView,
    /// What would have been decided.
    pub shadow: SumsView,
    /// The last fault of the policy.
    pub fault: Option<ShadowFault>,
    /// It failed so often that the cluster would have brought the one before back in this round: nothing after it counts.
    pub returned: Option<u64>,
    /// This super did not see all rounds since it was asked for.
    pub late: bool,
    /// It waits for a policy that this super has not prepared.
    pub waits: bool,
    /// Members that differ, those that stand otherwise now first, at most 1,000.
    pub members: Vec<DiffersView>,
    /// The last rounds, oldest first.
    pub recent: Vec<ShadowRound>,
}

/// What was decided in all rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SumsView {
    /// Points issued, less those that were taken.
    pub points: i64,
    /// Moves to warned.
    pub warned: u64,
    /// Moves to suspended.
    pub suspended: u64,
    /// Moves to banned.
    pub banned: u64,
    /// Decisions that a guardrail held back or put off.
    pub held: u64,
    /// Decisions cut to a bound.
    pub clamped: u64,
    /// Faults of the slot.
    pub faults: u64,
}

/// A fault of a shadowed policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShadowFault {
    /// In which round.
    pub round: u64,
    /// Its kind.
    pub kind: &'static str,
    /// What happened.
    pub message: String,
}

/// A member to whom the policies were not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DiffersView {
    /// Its key.
    pub node: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The first round in which it was paid or placed otherwise.
    pub first_difference: u64,
    /// How it stands; null when it is forgotten.
    pub standing: Option<&'static str>,
    /// How it would stand.
    pub shadow_standing: Option<&'static str>,
    /// Why it would.
    pub shadow_reason: Option<String>,
    /// Points that it got since then.
    pub points: i64,
    /// Points that it would have got.
    pub shadow_points: i64,
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShadowRound {
    /// Which.
    pub round: u64,
    /// Members that were paid otherwise.
    pub paid_otherwise: u32,
    /// Members that stand otherwise after it.
    pub placed_otherwise: u32,
    /// Points issued, less those that were taken.
    pub points: i64,
    /// What the shadow would have issued.
    pub shadow_points: i64,
    /// The shadowed policy failed.
    pub fault: Option<String>,
}

impl ShadowView {
    /// Of a shadow that runs.
    #[must_use]
    pub fn of_seen(seen: &Seen) -> Self {
        let name = |node: &NodeId| seen.names.get(node).map_or("", String::as_str);
        Self {
            round: seen.settled.0,
            late: seen.late,
            waits: seen.waits,
            recent: seen.recent.iter().map(ShadowRound::of).collect(),
            ..Self::of(&seen.tally, seen.policy.to_string(), &name)
        }
    }

    /// Of a dry run.
    #[must_use]
    pub fn of_run(run: &Shadow) -> Self {
        Self { round: run.settled().0, ..Self::of(run.tally(), run.policy().to_string(), &|node| run.name(node)) }
    }

    fn of<'a>(tally: &'a Tally, policy: String, name: &dyn Fn(&NodeId) -> &'a str) -> Self {
        let mut members: Vec<(&NodeId, &Differs)> = tally.members.iter().collect();
        members.sort_by_key(|(_, row)| {
            let points = row.real_points.minus(row.own_points).0;
            (row.real == row.own, core::cmp::Reverse(points.unsigned_abs()))
        });
        Self {
            policy,
            since_round: tally.since.0,
            round: 0,
            rounds: tally.rounds,
            suspect_rounds: tally.suspect,
            rounds_otherwise: tally.rounds_otherwise,
            first_difference: tally.first.map(|round| round.0),
            members_otherwise: tally.members_otherwise,
            active: SumsView::of(&tally.real),
            shadow: SumsView::of(&tally.own),
            fault: tally.fault.as_ref().map(|(round, fault)| ShadowFault {
                round: round.0,
                kind: fault.kind.name(),
                message: fault.message.clone(),
            }),
            returned: tally.returned.map(|round| round.0),
            late: false,
            waits: false,
            members: members
                .into_iter()
                .take(MEMBERS)
                .map(|(node, row)| DiffersView::of(node, name(node), row))
                .collect(),
            recent: Vec::new(),
        }
    }
}

impl SumsView {
    const fn of(sums: &Sums) -> Self {
        Self {
            points: sums.points.0,
            warned: sums.warned,
            suspended: sums.suspended,
            banned: sums.banned,
            held: sums.held,
            clamped: sums.clamped,
            faults: sums.faults,
        }
    }
}

impl DiffersView {
    fn of(node: &NodeId, name: &str, row: &Differs) -> Self {
        Self {
            node: node.to_string(),
            name: text(name),
            first_difference: row.first.0,
            standing: row.real.map(|standing| standing.name()),
            shadow_standing: row.own.map(|standing| standing.name()),
            shadow_reason: text(&row.reason),
            points: row.real_points.0,
            shadow_points: row.own_points.0,
        }
    }
}

impl ShadowRound {
    fn of(round: &Round) -> Self {
        Self {
            round: round.round.0,
            paid_otherwise: round.paid_otherwise,
            placed_otherwise: round.placed_otherwise,
            points: round.real_points.0,
            shadow_points: round.own_points.0,
            fault: round.fault.as_ref().map(ToString::to_string),
        }
    }
}
