//! What a policy was called with in a settled round: rebuilt from history, and checked against the digest that the
//! settlement carries. For operators: it costs the machine seconds.

use axum::extract::State;
use kernel::columns::{Deciding, Inputs};
use kernel::command::{Answer, Settle};
use kernel::decide::{Fault, Slot};
use kernel::id::{Digest, NodeId, RoundId};
use kernel::outcome::SlotRecord;
use kernel::policies::{PolicyRow, inflate_delta};
use kernel::state::State as Cluster;
use serde::Deserialize;
use store::{Store, StoreError};
use utoipa::IntoParams;

use super::App;
use super::access::By;
use super::answer::Read;
use super::input::{Params, Part, ReadLevel, of_rounds};
use super::problem::{Code, Problem};
use super::rounds::unknown;
use super::view::{FaultSaid, InputRow, InputsView, JudgedView, PaidView, RowAnswer, TariffView, hex, text};

/// Members of one answer.
const MEMBERS: usize = 10_000;
/// Bytes of one answer, as estimated: what clients take.
const BYTES: usize = 14 << 20;
/// Bytes of a member in an answer besides its memory, about; memory stands there twice, before and after, in hex.
const ROW_BYTES: usize = 400;

/// Whose inputs.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InputsQuery {
    /// `reward` or `ban`.
    pub slot: String,
    /// Only these members: keys of 64 hex digits with commas between; all of them when nothing is said.
    pub nodes: Option<String>,
    /// How fresh, `linearizable` where nothing is said; the header `Pingward-Read` of the answer says which it was, and the
    /// applied index.
    pub read: Option<ReadLevel>,
}

/// What a slot's policy was called with in a round and what it answered, member by member, rebuilt from history and checked
/// against the settlement's digest.
#[utoipa::path(get, path = "/v1/rounds/{round}/inputs", tag = "operator",
    params(("round" = u64, Path, description = "Its number"), InputsQuery),
    responses((status = 200, body = InputsView)), security(("token" = [])))]
pub async fn inputs(
    _: By,
    State(app): State<App>,
    Part(round): Part<RoundId>,
    Params(query): Params<InputsQuery>,
) -> Result<Read<InputsView>, Problem> {
    let slot: Slot = query.slot.parse().map_err(|_| Problem::of(Code::UnknownSlot))?;
    of_rounds(slot)?;
    let nodes = query.nodes.as_deref().map(keys).transpose()?;
    let found = app.history(
        app.fresh(query.read.unwrap_or_default()).await?,
        move |store| rebuild(store, round, slot, nodes.as_deref()),
        move |found, state| match found {
            Found::Inputs(view) => Ok(*view),
            Found::Nothing => Err(unknown(round, state.meta.settled)),
            Found::Problem(problem) => Err(problem),
        },
    );
    found.await?.transpose()
}

fn keys(text: &str) -> Result<Vec<NodeId>, Problem> {
    let keys: Result<Vec<NodeId>, _> = text.split(',').map(|key| key.trim().parse::<NodeId>()).collect();
    let keys = keys.map_err(|error| Problem::new(Code::BadQuery, format!("nodes: {error}")))?;
    if keys.len() > MEMBERS { Err(too_many(keys.len(), MEMBERS)) } else { Ok(keys) }
}

fn too_many(members: usize, most: usize) -> Problem {
    Problem::new(Code::TooManyMembers, format!("{members} members, and one answer has at most {most} of this rule"))
        .with("members", members)
        .with("most", most)
}

enum Found {
    Inputs(Box<InputsView>),
    Nothing,
    Problem(Problem),
}

fn rebuild(store: &Store, round: RoundId, slot: Slot, nodes: Option<&[NodeId]>) -> Result<Found, StoreError> {
    let Some(record) = store.round(round)? else { return Ok(Found::Nothing) };
    let part = record.slots.iter().find(|part| part.slot == slot);
    let Some((part, input)) = part.and_then(|part| Some((part, part.input?))) else {
        return Ok(Found::Problem(not_called(slot, round, part, record.marks.is_suspect())));
    };
    if nodes.is_none() && record.members.len() > MEMBERS {
        return Ok(Found::Problem(too_many(record.members.len(), MEMBERS)));
    }
    let Some(settle) = store.settlement(round)? else { return Ok(Found::Nothing) };
    let Some(state) = store.state_at(settle.columns)? else {
        let detail = format!("history does not reach back far enough to tell what the rules saw in round {round}");
        let hint = "later rounds can be told, up to 512 rounds after the last keyframe; history.max_bytes keeps more";
        return Ok(Found::Problem(Problem::new(Code::InputsUnknown, detail).hint(hint)));
    };
    let deciding = Deciding::gather(&state, settle.report.clone(), Vec::new(), settle.now_ms);
    let inputs = deciding.inputs(slot).filter(|inputs| inputs.digest() == input);
    let policy = part.policy.and_then(|digest| Some((digest, state.policies.get(&digest)?)));
    let (Some(inputs), Some((digest, row))) = (inputs, policy) else {
        let detail =
            format!("what was rebuilt of round {round} has not the digest {input} that its settlement carries");
        return Ok(Found::Problem(Problem::new(Code::InputsUnknown, detail)));
    };
    let all: Vec<NodeId> = state.queued().map(|(node, _)| *node).collect();
    let places: Vec<usize> = match nodes {
        None => (0..all.len()).collect(),
        Some(nodes) => (0..all.len()).filter(|at| all.get(*at).is_some_and(|node| nodes.contains(node))).collect(),
    };
    if let Some(missing) = nodes.and_then(|nodes| nodes.iter().find(|node| !all.contains(node))) {
        let detail = format!("{missing} was not in the queue in round {round}");
        return Ok(Found::Problem(Problem::new(Code::UnknownNode, detail).hint("name members of that round")));
    }
    let most = BYTES / (ROW_BYTES + 4 * row.description.memory_bytes as usize);
    if places.len() > most {
        return Ok(Found::Problem(too_many(places.len(), most)));
    }
    let called = Called { state: &state, settle: &settle, digest, row, inputs: &inputs, input, all: &all };
    Ok(Found::Inputs(Box::new(called.view(&places))))
}

fn not_called(slot: Slot, round: RoundId, part: Option<&SlotRecord>, suspect: bool) -> Problem {
    let fault = part.and_then(|part| part.fault.as_ref()).map(|fault| fault.message.clone());
    let why = match (part.and_then(|part| part.policy), fault) {
        (None, _) => "the slot had no policy".to_string(),
        (Some(_), Some(fault)) => fault,
        (Some(_), None) if suspect => "its observations were doubted, so nobody was judged".into(),
        (Some(_), None) => "there was nothing to decide".into(),
    };
    Problem::new(Code::NotCalled, format!("the {slot} policy was not called in round {round}: {why}"))
}

/// A call that was rebuilt, with all that is told of it.
struct Called<'a> {
    state: &'a Cluster,
    settle: &'a Settle,
    digest: Digest,
    row: &'a PolicyRow,
    inputs: &'a Inputs,
    input: Digest,
    all: &'a [NodeId],
}

impl Called<'_> {
    fn view(&self, places: &[usize]) -> InputsView {
        let (round, members) = (&self.inputs.round, &self.inputs.members);
        let (fault, paid) = match self.inputs.slot {
            Slot::Ban => (self.settle.ban.answer.fault(), None),
            Slot::Reward => (self.settle.reward.answer.fault(), self.tariff()),
            Slot::Signing => (None, None),
        };
        let settings = self.inputs.settings.entries().into_iter();
        let answers = self.answers();
        InputsView {
            round: round.number,
            slot: self.inputs.slot.name().into(),
            cluster: self.state.meta.cluster.to_string(),
            policy: self.digest.to_string(),
            component: self.row.component.to_string(),
            name: text(&self.row.description.name).unwrap_or_default(),
            version: text(&self.row.description.version).unwrap_or_default(),
            config: serde_json::from_str(&self.row.config).unwrap_or_default(),
            memory_bytes: self.row.description.memory_bytes,
            reasons: self.row.description.reasons.clone(),
            engine: self.settle.engine.clone(),
            input: self.input.to_string(),
            now_ms: round.now_ms,
            elapsed_ms: round.elapsed_ms,
            interval_ms: round.interval_ms,
            suspect: round.suspect,
            seed: hex(&round.seed.0),
            population: members.len(),
            settings: settings.map(|(key, value)| (key.to_string(), value)).collect(),
            extra: members.extra.iter().map(|column| column.name.clone()).collect(),
            fault: fault.map(fault_said),
            tariff: paid,
            members: places.iter().map(|at| self.member(*at, answers.as_ref())).collect(),
        }
    }

    fn tariff(&self) -> Option<TariffView> {
        let Answer::Columns(columns) = &self.settle.reward.answer else { return None };
        let tariff = columns.tariff;
        Some(TariffView {
            overclaim_bp: tariff.overclaim_bp,
            overclaim_min: tariff.overclaim_min,
            record_fee: tariff.record_fee,
            record_fee_kib: tariff.record_fee_kib,
        })
    }

    fn member(&self, at: usize, after: Option<&Vec<u8>>) -> InputRow {
        fn of<T: Copy + Default>(column: &[T], at: usize) -> T {
            column.get(at).copied().unwrap_or_default()
        }
        let (m, bytes) = (&self.inputs.members, self.row.description.memory_bytes as usize);
        let node = self.all.get(at).copied().unwrap_or(NodeId([0; 32]));
        let name = self.state.members.get(&node).map(|member| member.profile.name.clone());
        let memory = |of: &[u8]| hex(of.get(at * bytes..(at + 1) * bytes).unwrap_or_default());
        let answer = match (&self.settle.ban.answer, &self.settle.reward.answer, self.inputs.slot) {
            (Answer::Columns(columns), _, Slot::Ban) => Some(RowAnswer::Judged(JudgedView {
                standing: of(&columns.standing, at),
                strikes: of(&columns.strikes, at),
                until: of(&columns.until, at),
                reason: of(&columns.reasons, at),
            })),
            (_, Answer::Columns(columns), Slot::Reward) => {
                Some(RowAnswer::Paid(PaidView { points: of(&columns.points, at), reason: of(&columns.reasons, at) }))
            }
            _ => None,
        };
        InputRow {
            node: node.to_string(),
            name: name.unwrap_or_default(),
            presence: of(&m.presence, at),
            facts: of(&m.facts, at),
            rtt_us: of(&m.rtt_us, at),
            observers: of(&m.observers, at),
            age: of(&m.age, at),
            standing: of(&m.standing, at),
            strikes: of(&m.strikes, at),
            earned: of(&m.earned, at),
            data: of(&m.data, at),
            class: of(&m.class, at),
            group: of(&m.group, at),
            flags: of(&m.flags, at),
            memory: memory(&self.inputs.memory),
            extra: m.extra.iter().map(|column| of(&column.values, at)).collect(),
            answer,
            memory_after: after.map(|after| memory(after)),
        }
    }

    /// The memory after the call: what the settlement carries is its change.
    fn answers(&self) -> Option<Vec<u8>> {
        let delta = match self.inputs.slot {
            Slot::Ban => match &self.settle.ban.answer {
                Answer::Columns(columns) => &columns.delta,
                Answer::Fault(_) | Answer::NotCalled => return None,
            },
            Slot::Reward => match &self.settle.reward.answer {
                Answer::Columns(columns) => &columns.delta,
                Answer::Fault(_) | Answer::NotCalled => return None,
            },
            Slot::Signing => return None,
        };
        let change = inflate_delta(delta, self.inputs.memory.len())?;
        Some(self.inputs.memory.iter().zip(change).map(|(before, change)| before ^ change).collect())
    }
}

fn fault_said(fault: &Fault) -> FaultSaid {
    FaultSaid { kind: fault.kind.name().into(), message: fault.message.clone() }
}
