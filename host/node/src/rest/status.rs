//! What this node is and how it stands.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use kernel::decide::Slot;
use kernel::id::ProtocolVersion;
use kernel::members::Refusal;
use kernel::standing::Standing;

use super::App;
use super::answer::Fresh;
use super::input::{Params, ReadQuery};
use super::problem::{Problem, ProblemView};
use super::view;
use crate::context::{Context, FollowerPart, Part, RecordsPart, ValidatorPart};
use crate::roles::follower::{FollowerView, Refused};

/// This node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Status {
    /// Its key.
    pub node: String,
    /// Its display name.
    pub name: Option<String>,
    /// `super` or `follower`.
    pub role: &'static str,
    /// The release that it runs.
    pub version: &'static str,
    /// The protocol version that it speaks.
    pub protocol: String,
    /// The cluster, `id#genesis`; null on a follower that has not met it.
    pub cluster: Option<String>,
    /// The key of the leader; null when this node knows none.
    pub leader: Option<String>,
    /// The last settled round, 0 before the first; null on a follower that has not been told.
    pub round: Option<u64>,
    /// The last settled round is suspect; null when none is.
    pub suspect: Option<bool>,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// What only a super knows.
    #[serde(flatten)]
    pub group: Option<GroupStatus>,
    /// What only a follower knows.
    #[serde(flatten)]
    pub own: Option<OwnStatus>,
    /// What only a validator knows.
    #[serde(flatten)]
    pub validator: Option<ValidatorStatus>,
    /// What only a node that takes records in knows.
    #[serde(flatten)]
    pub kept: Option<RecordsStatus>,
}

/// A super's part of its status.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupStatus {
    /// `disk`, or `memory`: then nothing survives a restart.
    pub storage: &'static str,
    /// The leader's term.
    pub term: u64,
    /// Stamp of the last settlement, ms since 1970; null before the first.
    pub settled_ms: Option<u64>,
    /// Suspect rounds in a row up to the last one.
    pub suspect_rounds: u32,
    /// The last round that was not suspect; null when there was none.
    pub trusted_round: Option<u64>,
    /// Members in the queue.
    pub queue: usize,
    /// Members that the cluster knows, in the queue or not.
    pub members: usize,
    /// Followers with a stream to this super.
    pub connected: usize,
    /// Slots whose moves are held back until an operator accepts them.
    pub held: Vec<&'static str>,
    /// By how much this machine's clock is off the cluster's time, where it is more than it may be, ms.
    pub clock_off_ms: Option<i64>,
    /// Version of the settings in force.
    pub settings_version: u64,
    /// Validators of the set.
    pub validators: usize,
    /// Signatures that seal a batch of records.
    pub quorum: usize,
    /// How records are doing: `ok`, `tolerates no failure`, `no validators`, `no policy`, or `stuck(b)` with the first batch
    /// that no quorum signs.
    pub records: String,
}

/// A node's part of its status that signs or keeps records.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecordsStatus {
    /// Records that are kept here; null where none are kept.
    pub records_kept: Option<u64>,
    /// Their room on the disk, bytes.
    pub records_bytes: Option<u64>,
    /// The last sequence number that is kept.
    pub last_sequence: Option<u64>,
    /// Everything is kept that was sealed up to this entry of the log.
    pub complete_to: Option<u64>,
    /// Version of the set of validators that this node knows.
    pub set_version: Option<u64>,
}

/// A validator's part of its status.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ValidatorStatus {
    /// The supers that it has a stream to.
    pub connected_to: Vec<String>,
    /// Why a super turned it away last; null once one welcomed it.
    pub refused: Option<String>,
}

/// A follower's part of its status: as its supers last told it; null is unknown.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct OwnStatus {
    /// `good`, `warned`, `suspended`, `banned`, `probation`.
    pub standing: Option<&'static str>,
    /// Why.
    pub reason: Option<String>,
    /// Earned and not claimed.
    pub earned: Option<i64>,
    /// Its own wallet's balance.
    pub wallet: Option<i64>,
    /// What it would take to lose its standing.
    pub warning: Option<String>,
    /// Earliest return of a suspension or ban, ms since 1970, an estimate.
    pub earliest_return: Option<u64>,
    /// `up` or `down` in the last settled round; null also when nobody had a fair chance to see it.
    pub presence: Option<&'static str>,
    /// The rules in force and those that are to come; null when no super has told them.
    pub rules: Option<view::RulesView>,
    /// The supers that it has a stream to.
    pub connected_to: Vec<String>,
    /// Why it was turned away last, and what to do; null when it is welcome.
    pub refused: Option<ProblemView>,
    /// When it tries again after that, ms since 1970.
    pub retry_ms: Option<u64>,
    /// Why it cannot reach a super, in words; null once it is welcome.
    pub failed: Option<String>,
}

/// What this node is, and how it stands: always what this one knows, whatever level is asked for.
#[utoipa::path(get, path = "/v1/status", tag = "read", params(ReadQuery), responses((status = 200, body = Status)))]
pub async fn status(State(app): State<App>, Params(_): Params<ReadQuery>) -> Result<Response, Problem> {
    let context = app.context();
    match &context.part {
        Part::Follower(part) => Ok(Json(follower(context, part)).into_response()),
        Part::Validator(part) => Ok(Json(validator(context, part)).into_response()),
        Part::Bootstrap(part) => {
            let directory = part.directory.borrow();
            let cluster = directory.as_ref().map(|directory| directory.cluster.clone());
            Ok(Json(Status { cluster, ..base(context) }).into_response())
        }
        Part::Super(part) => {
            let (streams, in_memory) = (part.streams.clone(), part.in_memory);
            let clock_off_ms = part.group.stamp().off_ms;
            let stuck = part.hub.stuck();
            let base = base(context);
            let read = app.read(Fresh::LOCAL, move |state| {
                let meta = &state.meta;
                let settled = view::round(meta.settled);
                Status {
                    cluster: state.is_founded().then(|| meta.cluster.to_string()),
                    leader: meta.leader.map(|leader| leader.to_string()),
                    round: Some(meta.settled.0),
                    suspect: settled.map(|_| meta.suspect),
                    group: Some(GroupStatus {
                        storage: if in_memory { "memory" } else { "disk" },
                        term: meta.term.0,
                        settled_ms: settled.map(|_| meta.settled_ms),
                        suspect_rounds: meta.suspect_rounds,
                        trusted_round: view::round(meta.trusted),
                        queue: state.queue.len(),
                        members: state.members.len(),
                        connected: streams.count(),
                        held: Slot::ALL.into_iter().filter(|slot| state.slot(*slot).row.held).map(Slot::name).collect(),
                        clock_off_ms,
                        settings_version: meta.settings_version,
                        validators: state.validators.set.len(),
                        quorum: state.quorum(),
                        records: records_words(state, &stuck),
                    }),
                    ..base
                }
            });
            Ok(read.await?.into_response())
        }
    }
}

fn base(context: &Context) -> Status {
    Status {
        node: context.node.to_string(),
        name: view::text(&context.name),
        role: context.role.word(),
        version: env!("CARGO_PKG_VERSION"),
        protocol: ProtocolVersion::OURS.to_string(),
        cluster: None,
        leader: None,
        round: None,
        suspect: None,
        uptime_ms: context.uptime_ms(),
        group: None,
        own: None,
        validator: None,
        kept: context.records().map(records),
    }
}

/// How records are doing, in a word.
fn records_words(state: &kernel::state::State, stuck: &[u64]) -> String {
    match (stuck.first(), state.validators.set.len()) {
        (Some(batch), _) => format!("stuck({batch})"),
        (None, 0) => "no validators".into(),
        (None, _) if state.slot(Slot::Signing).row.active.is_none() => "no policy".into(),
        (None, n) if state.quorum() == n => "tolerates no failure".into(),
        (None, _) => "ok".into(),
    }
}

fn records(part: &RecordsPart) -> RecordsStatus {
    let figures = part.store.borrow().as_ref().and_then(|store| store.figures().ok());
    RecordsStatus {
        records_kept: figures.as_ref().map(|figures| figures.records),
        records_bytes: figures.as_ref().map(|figures| figures.bytes),
        last_sequence: figures.as_ref().and_then(|figures| figures.last_sequence),
        complete_to: figures.as_ref().map(|figures| figures.complete_to.0),
        set_version: part.directory.borrow().as_ref().map(|directory| directory.validators.version),
    }
}

fn validator(context: &Context, part: &ValidatorPart) -> Status {
    let view = part.view.borrow();
    Status {
        cluster: part.records.cluster.borrow().as_ref().map(ToString::to_string),
        leader: view.leader.map(|leader| leader.to_string()),
        validator: Some(ValidatorStatus { connected_to: view.supers.clone(), refused: view.refused.clone() }),
        ..base(context)
    }
}

fn follower(context: &Context, part: &FollowerPart) -> Status {
    let own = part.own.borrow();
    let told = own.own.as_ref();
    let mut status = OwnStatus {
        standing: told.map(|own| own.told.standing.name()),
        reason: told.and_then(|own| view::text(&own.told.reason)),
        earned: told.map(|own| own.told.earned.0),
        wallet: told.map(|own| own.told.wallet.0),
        warning: told.and_then(|own| own.warning.clone()),
        earliest_return: told.and_then(|own| own.until_ms),
        presence: told.and_then(|own| own.told.presence.name()),
        rules: own.policies.as_ref().map(view::RulesView::of),
        connected_to: attached_to(&own),
        refused: own.refused.as_ref().map(|refused| refusal(refused).view(None)),
        retry_ms: own.refused.as_ref().map(|refused| refused.retry_ms),
        failed: own.failed.clone(),
    };
    // A refusal is newer than the last line: a banned node is told nothing any more.
    if let Some(Refusal::Banned { until_ms, reason, .. }) = own.refused.as_ref().map(|refused| &refused.refusal) {
        status.standing = Some(Standing::Banned.name());
        status.reason = view::text(reason);
        status.earliest_return = Some(*until_ms);
        status.presence = None;
    }
    Status {
        cluster: own.cluster.as_ref().map(ToString::to_string),
        leader: own.leader.map(|leader| leader.to_string()),
        round: told.map(|own| own.told.round.0),
        own: Some(status),
        ..base(context)
    }
}

/// Why a follower was turned away, in the words of its log.
pub fn refusal(refused: &Refused) -> Problem {
    let problem = Problem::from(&refused.refusal).hint(refused.words.cure.clone());
    Problem { detail: refused.words.what.clone(), ..problem }
}

/// The supers that a follower has a stream to, by key where it is known.
pub fn attached_to(view: &FollowerView) -> Vec<String> {
    let attached = view.supers.iter().filter(|link| link.attached);
    attached
        .map(|link| link.key.map_or_else(|| link.address.clone(), |key| format!("{key}@{}", link.address)))
        .collect()
}
