//! What happened: rounds, moves, changes.

use serde::Serialize;
use utoipa::ToSchema;

use kernel::decide::Slot;
use kernel::id::RoundId;
use kernel::outcome::{Author, Change, Move, RoundRecord, SlotRecord};
use kernel::round::Presence;
use kernel::standing::Standing;
use kernel::state::State;

use super::{name_of, operator, round, text};
use crate::metrics::cause_names;

/// A settled round in a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RoundSummary {
    /// Its number.
    pub round: u64,
    /// The term in which it was observed.
    pub term: u64,
    /// Stamp of its settlement, ms since 1970.
    pub time_ms: u64,
    /// Its observations were doubted: nobody was struck.
    pub suspect: bool,
    /// Why: `many_missing`, `lag`, `leader_change`, `disagreement`.
    pub causes: Vec<&'static str>,
    /// Members that answered.
    pub up: u32,
    /// Members that did not, though they had a fair chance.
    pub down: u32,
    /// Members that nobody had a fair chance to see.
    pub unknown: u32,
    /// Points issued.
    pub issued: i64,
    /// Changes of standing.
    pub moves: u32,
    /// New bans put off by the cap of a round.
    pub deferred: u32,
    /// Moves held back by the cap over time.
    pub held: u32,
    /// Decisions cut to a bound.
    pub clamped: u32,
    /// The policies that decided it; null for a slot without one.
    pub policies: Digests,
    /// Version of the settings that it was made under.
    pub settings_version: u64,
    /// SHA-256 of its settlement.
    pub digest: String,
}

/// A digest per slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Digests {
    /// The reward policy's.
    pub reward: Option<String>,
    /// The ban policy's.
    pub ban: Option<String>,
}

impl RoundSummary {
    /// From history.
    #[must_use]
    pub fn of(record: &RoundRecord) -> Self {
        let digest = |slot: Slot| {
            let part = record.slots.iter().find(|part| part.slot == slot);
            part.and_then(|part| part.policy).map(|digest| digest.to_string())
        };
        let (up, down, unknown) = record.counts;
        Self {
            round: record.round.0,
            term: record.term.0,
            time_ms: record.now_ms,
            suspect: record.marks.is_suspect(),
            causes: cause_names(record.marks.causes).collect(),
            up,
            down,
            unknown,
            issued: record.issued.0,
            moves: record.moves,
            deferred: record.deferred,
            held: record.held,
            clamped: record.clamped,
            policies: Digests { reward: digest(Slot::Reward), ban: digest(Slot::Ban) },
            settings_version: record.settings_version,
            digest: record.digest.to_string(),
        }
    }
}

/// A settled round with all that its guard looked at.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RoundView {
    /// As in the list.
    #[serde(flatten)]
    pub summary: RoundSummary,
    /// The guard's numbers: anyone can derive its verdict again.
    pub marks: MarksView,
    /// Each slot's part.
    pub slots: Vec<SlotPart>,
    /// Members in it.
    pub members: usize,
}

/// The guard's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MarksView {
    /// Up in the last trusted round, still in the queue, down now.
    pub missing: u32,
    /// Up in the last trusted round and still in the queue.
    pub trusted_up: u32,
    /// Partial reports that came.
    pub partials: u32,
    /// Those of a super that was late itself.
    pub lagging: u32,
    /// Members asked by two or more supers.
    pub asked_twice: u32,
    /// Those of them that were seen by one and missed by another.
    pub disputed: u32,
    /// Term of the settlement before.
    pub term_before: u64,
}

/// A slot's part in a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SlotPart {
    /// `reward` or `ban`.
    pub slot: &'static str,
    /// The policy that was in force.
    pub policy: Option<String>,
    /// It was called; a ban policy is not in a suspect round.
    pub called: bool,
    /// SHA-256 of what it saw.
    pub input: Option<String>,
    /// Its fault, where it failed and the neutral decision stood in its place.
    pub fault: Option<FaultView>,
    /// Fuel that it used; null when it was not called.
    pub fuel: Option<u64>,
}

/// Why a policy's answer did not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FaultView {
    /// `trap`, `fuel`, `deadline`, `memory`, `stack`, `output`, `length`, `code`, `refused`, `delta`, `points`, `log` or
    /// `not_prepared`.
    pub kind: &'static str,
    /// For people; a panic's own text.
    pub message: String,
}

impl RoundView {
    /// From history.
    #[must_use]
    pub fn of(record: &RoundRecord) -> Self {
        let marks = &record.marks;
        Self {
            summary: RoundSummary::of(record),
            marks: MarksView {
                missing: marks.missing,
                trusted_up: marks.trusted_up,
                partials: marks.partials,
                lagging: marks.lagging,
                asked_twice: marks.asked_twice,
                disputed: marks.disputed,
                term_before: marks.term_before.0,
            },
            slots: record.slots.iter().map(SlotPart::of).collect(),
            members: record.members.len(),
        }
    }
}

impl SlotPart {
    fn of(part: &SlotRecord) -> Self {
        Self {
            slot: part.slot.name(),
            policy: part.policy.map(|digest| digest.to_string()),
            called: part.called,
            input: part.input.map(|digest| digest.to_string()),
            fault: part.fault.as_ref().map(|f| FaultView { kind: f.kind.name(), message: f.message.clone() }),
            fuel: part.called.then_some(part.fuel),
        }
    }
}

/// A member in a settled round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RoundMember {
    /// Its number in the cluster: given at its first join, never used again.
    pub number: u32,
    /// Its key; null when the cluster has forgotten it since.
    pub node: Option<String>,
    /// Its display name.
    pub name: Option<String>,
    /// `up`, `down`, or null when nobody had a fair chance to see it.
    pub presence: Option<&'static str>,
    /// Points that it got or lost.
    pub points: Option<i64>,
    /// The reward policy's reason code, 0 = none; null when there was no decision.
    pub reason_code: Option<u16>,
}

impl RoundMember {
    /// The members of a round after a number, in ascending order.
    pub fn after<'a>(record: &'a RoundRecord, last: Option<u64>, state: &'a State) -> impl Iterator<Item = Self> + 'a {
        let shown = record.members.partition_point(|number| last.is_some_and(|last| u64::from(number.0) <= last));
        record.members.iter().enumerate().skip(shown).map(|(at, number)| {
            let node = state.numbers.get(number);
            Self {
                number: number.0,
                node: node.map(ToString::to_string),
                name: node.and_then(|node| name_of(state, node)),
                presence: record.presence.get(at).and_then(|code| Presence::from_code(*code).name()),
                points: record.points.get(at).copied(),
                reason_code: record.reasons.get(at).copied(),
            }
        })
    }
}

/// A change of standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MoveView {
    /// Its place in the log.
    pub index: u64,
    /// Who.
    pub node: String,
    /// Its display name.
    pub name: Option<String>,
    /// The round that was settled last.
    pub round: Option<u64>,
    /// Stamp, ms since 1970.
    pub time_ms: u64,
    /// Standing before.
    pub from: &'static str,
    /// Standing after.
    pub to: &'static str,
    /// Strikes after it.
    pub strikes: u16,
    /// Last round of a ban, earliest return of a suspension.
    pub until_round: Option<u64>,
    /// About when that is, ms since 1970: rounds can be late.
    pub until_ms: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// `policy`, `host`, or how an operator proved itself: `token`, `socket`, `file`, `console`.
    pub by: &'static str,
    /// The policy that decided it, where one did.
    pub policy: Option<String>,
}

impl MoveView {
    /// From history or a notice.
    #[must_use]
    pub fn of(moved: &Move, state: &State) -> Self {
        let (by, policy) = match moved.by {
            Author::Policy(digest) => ("policy", Some(digest.to_string())),
            Author::Host => ("host", None),
            Author::Operator(by) => (operator(by), None),
        };
        Self {
            index: moved.index.0,
            node: moved.node.to_string(),
            name: name_of(state, &moved.node),
            round: round(moved.round),
            time_ms: moved.now_ms,
            from: moved.from.name(),
            to: moved.to.name(),
            strikes: moved.strikes,
            until_round: moved.until.map(|until| until.0),
            until_ms: moved.until.map(|until| until_ms(moved, until, state)),
            reason: text(&moved.reason),
            by,
            policy,
        }
    }
}

/// When a round of the past's future ended or ends: from the stamp of the move, so that it stays the same.
fn until_ms(moved: &Move, until: RoundId, state: &State) -> u64 {
    let rounds = until.since(moved.round);
    moved.now_ms.saturating_add(rounds.saturating_mul(state.meta.settings.interval_ms))
}

/// A ban in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BanView {
    /// The change of standing that began it.
    #[serde(flatten)]
    pub began: MoveView,
    /// It still holds: the member stands banned by it.
    pub active: bool,
    /// It is over, and the member may attach again; null for a ban that a later one or a lift has ended.
    pub over: Option<bool>,
}

impl BanView {
    /// From history; whether it holds is read from the state.
    #[must_use]
    pub fn of(moved: &Move, state: &State) -> Self {
        let began = MoveView::of(moved, state);
        let member = state.members.get(&moved.node);
        let active = member
            .is_some_and(|member| member.hot.standing == Standing::Banned && Some(member.hot.until) == moved.until);
        let over = active.then(|| moved.until.is_some_and(|until| state.meta.settled >= until));
        Self { began, active, over }
    }
}

/// A line of the change log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangeView {
    /// Its place in the log.
    pub index: u64,
    /// Its place among the lines of that entry.
    pub part: u32,
    /// Stamp, ms since 1970.
    pub time_ms: u64,
    /// `token`, `socket`, `file`, `console`; `cluster` when it changed by itself.
    pub by: &'static str,
    /// What.
    pub what: String,
    /// Before.
    pub from: Option<String>,
    /// After.
    pub to: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl ChangeView {
    /// From history or a notice.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        Self {
            index: change.index.0,
            part: change.part,
            time_ms: change.now_ms,
            by: change.by.map_or("cluster", operator),
            what: change.what.clone(),
            from: text(&change.from),
            to: text(&change.to),
            reason: text(&change.reason),
        }
    }
}
