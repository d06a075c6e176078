//! The operator's decisions: each one an entry of the log, with who, when and why in the change log.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use kernel::command::{Command, Compensation, Operate, OperateIf, Operation, SettingChange};
use kernel::decide::Slot;
use kernel::id::{NodeId, RoundId};
use kernel::outcome::{Reject, Reply};
use kernel::units::Points;

use super::access::By;
use super::answer::Done;
use super::input::{COMPENSATION_BYTES, Json, Part, id};
use super::nodes::unknown;
use super::problem::{Code, Problem};
use super::tag::Decider;
use super::{App, unexpected};

/// Why.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For the change log, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// From when a decision counts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct From {
    /// The first round that it counts for.
    pub round: u64,
    /// Members whose policy memory starts empty; 0 = memory is kept.
    pub memory_empty: u64,
}

/// How many were changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Changed {
    /// How many.
    pub changed: u64,
}

async fn decide(app: &App, by: impl Into<Decider>, reason: String, what: Operation) -> Result<Reply, Problem> {
    let group = &app.part()?.group;
    let Decider { by, only } = by.into();
    let operate = Operate { by: by.0, reason, now_ms: group.now_ms(), what };
    let command = match only.digest() {
        Some(tag) => Command::OperateIf(OperateIf { tag, operate }),
        None => Command::Operate(operate),
    };
    Ok(group.propose(command).await??)
}

pub(super) async fn changed(
    app: &App,
    by: impl Into<Decider>,
    reason: String,
    what: Operation,
) -> Result<Done<Changed>, Problem> {
    let reply = decide(app, by, reason, what).await?;
    let Reply::Changed { count } = reply else { return Err(unexpected(&reply)) };
    Ok(Done(StatusCode::OK, Changed { changed: count }))
}

pub(super) async fn from(app: &App, by: Decider, reason: String, what: Operation) -> Result<Done<From>, Problem> {
    let reply = decide(app, by, reason, what).await?;
    let Reply::From { round, memory_empty } = reply else { return Err(unexpected(&reply)) };
    Ok(Done(StatusCode::ACCEPTED, From { round: round.0, memory_empty }))
}

/// A trusted presence.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// The round whose presence is trusted from now on.
    pub round: u64,
    /// Members that were up in it.
    pub up: u64,
}

/// The loss is real: those up in the last settled round become the trusted presence.
#[utoipa::path(post, path = "/v1/rounds/accept", tag = "operator", request_body = Reason,
    responses((status = 200, body = Accepted)), security(("token" = [])))]
pub async fn accept_round(by: By, State(app): State<App>, Json(body): Json<Reason>) -> Result<Done<Accepted>, Problem> {
    let Done(status, changed) = changed(&app, by, body.reason, Operation::AcceptRound).await?;
    let round = app.read(app.current().await?, |state| state.meta.trusted.0).await?.body;
    Ok(Done(status, Accepted { round, up: changed.changed }))
}

/// Moves that the cap over time holds back.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SlotAccepted {
    /// The slot whose held moves take effect with the next settlement.
    pub slot: &'static str,
}

/// What the policy decides is right: the count of moves over time begins anew, held ones take effect.
#[utoipa::path(post, path = "/v1/policies/{slot}/accept", tag = "operator", request_body = Reason,
    params(("slot" = String, Path, description = "`reward`, `ban` or `signing`"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 200, body = SlotAccepted)), security(("token" = [])))]
pub async fn accept_policy(
    by: Decider,
    State(app): State<App>,
    Part(slot): Part<Slot>,
    Json(body): Json<Reason>,
) -> Result<Done<SlotAccepted>, Problem> {
    let reply = decide(&app, by, body.reason, Operation::AcceptPolicy(slot)).await?;
    let Reply::Done = reply else { return Err(unexpected(&reply)) };
    Ok(Done(StatusCode::OK, SlotAccepted { slot: slot.name() }))
}

/// The previous policy counts again, or a scheduled one is taken back.
#[utoipa::path(post, path = "/v1/policies/{slot}/rollback", tag = "operator", request_body = Reason,
    params(("slot" = String, Path, description = "`reward`, `ban` or `signing`"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 202, body = From)), security(("token" = [])))]
pub async fn rollback(
    by: Decider,
    State(app): State<App>,
    Part(slot): Part<Slot>,
    Json(body): Json<Reason>,
) -> Result<Done<From>, Problem> {
    from(&app, by, body.reason, Operation::Rollback(slot)).await
}

/// A ban by hand.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BanBody {
    /// Its key, 64 hex digits.
    pub node: String,
    /// How long, rounds from the last settled one.
    #[schema(minimum = 1)]
    pub rounds: u64,
    /// Why, at most 200 bytes; the node is told.
    pub reason: String,
}

/// A ban that was put.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Banned {
    /// Who.
    pub node: String,
    /// Its last round.
    pub until_round: u64,
    /// About when that is, ms since 1970.
    pub until_ms: u64,
    /// Why.
    pub reason: String,
}

/// Bans a member for so many rounds.
#[utoipa::path(post, path = "/v1/bans", tag = "operator", request_body = BanBody,
    responses((status = 201, body = Banned)), security(("token" = [])))]
pub async fn ban(by: By, State(app): State<App>, Json(body): Json<BanBody>) -> Result<Done<Banned>, Problem> {
    let node: NodeId = id("node", &body.node)?;
    needed("reason", &body.reason)?;
    known(&app, vec![node]).await?;
    changed(&app, by, body.reason.clone(), Operation::Ban { node, rounds: body.rounds }).await?;
    let until = app.read(app.current().await?, move |state| {
        let until = state.members.get(&node).map_or(state.meta.settled, |member| member.hot.until);
        (until.0, state.until_ms(until))
    });
    let (until_round, until_ms) = until.await?.body;
    Ok(Done(StatusCode::CREATED, Banned { node: node.to_string(), until_round, until_ms, reason: body.reason }))
}

/// Whose bans and suspensions are lifted: either nodes, or all that a policy put out since a round.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftBody {
    /// One node's key.
    pub node: Option<String>,
    /// Several nodes' keys.
    pub nodes: Option<Vec<String>>,
    /// A policy's digest.
    pub policy: Option<String>,
    /// With `policy`: from this round on.
    pub since: Option<u64>,
    /// Why, at most 200 bytes.
    pub reason: String,
}

impl LiftBody {
    fn operation(&self) -> Result<Operation, Problem> {
        let either = "name either `node`, `nodes`, or `policy` and `since`";
        match (&self.node, &self.nodes, &self.policy, self.since) {
            (Some(node), None, None, None) => Ok(Operation::LiftNodes(vec![id("node", node)?])),
            (None, Some(nodes), None, None) if !nodes.is_empty() => {
                let read = |(at, node): (usize, &String)| id(&format!("nodes[{at}]"), node);
                Ok(Operation::LiftNodes(nodes.iter().enumerate().map(read).collect::<Result<_, _>>()?))
            }
            (None, None, Some(policy), Some(since)) => {
                Ok(Operation::LiftPolicy { policy: id("policy", policy)?, since: RoundId(since) })
            }
            _ => Err(Problem::new(Code::BadJson, either)),
        }
    }
}

/// Makes members good again: strikes 0, the ban policy's memory of them 0. They return at their next attach.
#[utoipa::path(post, path = "/v1/bans/lift", tag = "operator", request_body = LiftBody,
    responses((status = 200, body = Changed)), security(("token" = [])))]
pub async fn lift(
    by: By,
    State(app): State<App>,
    Json(body): Json<LiftBody, COMPENSATION_BYTES>,
) -> Result<Done<Changed>, Problem> {
    let what = body.operation()?;
    needed("reason", &body.reason)?;
    if let Operation::LiftNodes(nodes) = &what {
        known(&app, nodes.clone()).await?;
    }
    changed(&app, by, body.reason, what).await
}

/// Points to be paid from the treasury.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompensateBody {
    /// At most 10,000.
    pub lines: Vec<CompensateLine>,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// One line of a compensation.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompensateLine {
    /// Who, 64 hex digits.
    pub node: String,
    /// How much, at least 1.
    #[schema(minimum = 1)]
    pub points: i64,
    /// The settled round that it makes good.
    pub round: u64,
    /// Why, at most 200 bytes; that of the whole where it is left out.
    pub reason: Option<String>,
}

/// A compensation that was paid, all of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Compensated {
    /// Lines.
    pub lines: u64,
    /// Points of all lines.
    pub points: i64,
}

/// Pays members from the treasury: all lines or none.
#[utoipa::path(post, path = "/v1/compensations", tag = "operator", request_body = CompensateBody,
    responses((status = 200, body = Compensated)), security(("token" = [])))]
pub async fn compensate(
    by: By,
    State(app): State<App>,
    Json(body): Json<CompensateBody, COMPENSATION_BYTES>,
) -> Result<Done<Compensated>, Problem> {
    needed("reason", &body.reason)?;
    let read = |(at, line): (usize, &CompensateLine)| {
        Ok::<_, Problem>(Compensation {
            node: id(&format!("lines[{at}].node"), &line.node)?,
            points: Points(line.points),
            round: RoundId(line.round),
            reason: line.reason.clone().unwrap_or_else(|| body.reason.clone()),
        })
    };
    let lines: Vec<Compensation> = body.lines.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    known(&app, lines.iter().map(|line| line.node).collect()).await?;
    let points = lines.iter().fold(Points::ZERO, |sum, line| sum.plus(line.points));
    let Done(status, done) = changed(&app, by, body.reason, Operation::Compensate(lines)).await?;
    Ok(Done(status, Compensated { lines: done.changed, points: points.0 }))
}

/// A member's class.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassBody {
    /// A number that policies see.
    pub class: u32,
    /// For the change log, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// A class that was set.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Class {
    /// Whose.
    pub node: String,
    /// Which.
    pub class: u32,
}

/// Sets a member's class, a number that policies see.
#[utoipa::path(put, path = "/v1/nodes/{node}/class", tag = "operator", request_body = ClassBody,
    params(("node" = String, Path, description = "Its key, 64 hex digits"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 200, body = Class)), security(("token" = [])))]
pub async fn class(
    by: Decider,
    State(app): State<App>,
    Part(node): Part<NodeId>,
    Json(body): Json<ClassBody>,
) -> Result<Done<Class>, Problem> {
    known(&app, vec![node]).await?;
    changed(&app, by, body.reason, Operation::SetClass { node, class: body.class }).await?;
    Ok(Done(StatusCode::OK, Class { node: node.to_string(), class: body.class }))
}

/// Settings to be changed, all or none.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBody {
    /// By key, such as `round.interval_ms`: a whole number, `true` or `false`, or text.
    #[schema(value_type = Object)]
    pub settings: BTreeMap<String, Value>,
    /// For the change log, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

impl SetBody {
    fn changes(&self) -> Result<Vec<SettingChange>, Problem> {
        let text = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok(SettingChange { key: key.clone(), value: text.clone() }),
            Value::Bool(_) | Value::Number(_) => Ok(SettingChange { key: key.clone(), value: value.to_string() }),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                let detail = format!("settings.{key}: expected a whole number, true or false, or text");
                Err(Problem::new(Code::BadJson, detail))
            }
        };
        self.settings.iter().map(text).collect()
    }
}

/// Changes settings, all or none. They count from two rounds after the last settled one, accepted versions at once.
#[utoipa::path(put, path = "/v1/settings", tag = "operator", request_body = SetBody,
    params(("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 202, body = From)), security(("token" = [])))]
pub async fn set(by: Decider, State(app): State<App>, Json(body): Json<SetBody>) -> Result<Done<From>, Problem> {
    let changes = body.changes()?;
    from(&app, by, body.reason, Operation::Set(changes)).await
}

fn needed(field: &str, text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new(Code::BadJson, format!("{field}: say why; it is kept in the change log")));
    }
    Ok(())
}

/// The kernel refuses a decision about an unknown node without naming it; here it is named.
async fn known(app: &App, nodes: Vec<NodeId>) -> Result<(), Problem> {
    let missing = app.read(app.current().await?, move |state| {
        let node = nodes.into_iter().find(|node| !state.members.contains_key(node))?;
        let is_super = state.meta.seats.iter().any(|row| row.holder.node == node);
        Some(if is_super { Reject::WrongRole.into() } else { unknown(&node) })
    });
    missing.await?.body.map_or(Ok(()), Err)
}
