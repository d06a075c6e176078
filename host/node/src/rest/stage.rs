//! A policy comes in over REST: staged, or tried on the rounds that are past, and then activated.
//!
//! Whatever is sent passes admission on the node that was asked, in a process of its own, before the cluster hears of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use kernel::command::{Operation, Operator};
use kernel::decide::Slot;
use kernel::id::{Digest, RoundId};
use kernel::limits::{COMPONENT_BYTES, CONFIG_BYTES};
use policy::{Admitted, Findings};

use super::access::By;
use super::answer::Done;
use super::input::{Json, Params, Part, body, id, of_rounds};
use super::operate::{From, from};
use super::problem::{Code, Problem};
use super::tag::Decider;
use super::view::{ReplicaView, ShadowView, replicas, text};
use super::{App, store_failed};
use crate::config::json::canonical;
use crate::prepare::PolicyError;
use crate::shadow;

/// Bytes of a body: the largest component and config, and what is around them.
const BODY_BYTES: usize = COMPONENT_BYTES + 4 * CONFIG_BYTES + (64 << 10);

/// The form of a body, for those who read the description.
#[derive(Clone, Debug, ToSchema)]
#[allow(dead_code, reason = "it describes what is read part by part")]
pub struct StageBody {
    /// The component's bytes, at most 4 MiB.
    #[schema(format = Binary, content_media_type = "application/wasm")]
    component: Vec<u8>,
    /// Its config, a JSON object; `{}` where it is left out.
    config: Option<String>,
}

/// Parameters of staging.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StageQuery {
    /// Stages nothing: runs the last 100 rounds through the policy, and tells what it would have decided otherwise. Not in the
    /// signing slot, which decides no rounds.
    #[serde(default)]
    pub dry_run: bool,
}

/// A policy that was staged.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StagedView {
    /// Its slot.
    pub slot: &'static str,
    /// Its identity: what activating, shadowing and all else names it by.
    pub digest: String,
    /// SHA-256 of the component's bytes.
    pub component: String,
    /// SHA-256 of its config.
    pub config_digest: String,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its version, as it says.
    pub version: Option<String>,
    /// Bytes that it remembers of each member.
    pub memory_bytes: u32,
    /// Memory survives a swap between policies of the same schema and size.
    pub memory_schema: Option<String>,
    /// Members whose memory would start empty if it were activated now; 0 = memory is kept.
    pub memory_empty: u64,
    /// Which supers have compiled and self-tested it so far.
    pub replicas: Vec<ReplicaView>,
}

/// What a dry run found.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DryRunView {
    /// The identity that it would have.
    pub digest: String,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its version, as it says.
    pub version: Option<String>,
    /// What it would have decided otherwise; null when there is no past round to run it on.
    pub differences: Option<ShadowView>,
}

/// Makes a component with a config a candidate of the slot. Every super then compiles it and tests it; `GET /v1/policies`
/// tells how far that is.
#[utoipa::path(post, path = "/v1/policies/{slot}", tag = "operator",
    params(("slot" = String, Path, description = "`reward`, `ban` or `signing`"), StageQuery),
    request_body(content = StageBody, content_type = "multipart/form-data"),
    responses((status = 201, body = StagedView), (status = 200, description = "`dry_run`: nothing was staged", body = DryRunView),
        (status = 422, description = "not admitted: `findings` says what is wrong and how to mend it")),
    security(("token" = [])))]
pub async fn stage(
    by: By,
    State(app): State<App>,
    Part(slot): Part<Slot>,
    Params(query): Params<StageQuery>,
    request: Request,
) -> Result<Response, Problem> {
    app.part()?;
    let Parts { component, config } = Parts::read(request).await?;
    if query.dry_run {
        return Ok(Done(StatusCode::OK, dry_run(&app, slot, component, config).await?).into_response());
    }
    Ok(Done(StatusCode::CREATED, bring_in(&app, slot, component, &config, by.0).await?).into_response())
}

async fn bring_in(
    app: &App,
    slot: Slot,
    component: Arc<[u8]>,
    config: &str,
    by: Operator,
) -> Result<StagedView, Problem> {
    let staged = app.part()?.policies.bring_in(slot, component, config, by).await?;
    let staged = staged.map_err(|findings| not_admitted(&findings))?;
    let view = app.read(super::answer::Fresh::LOCAL, move |state| {
        let row = state.policies.get(&staged.policy)?;
        Some(StagedView {
            slot: slot.name(),
            digest: staged.policy.to_string(),
            component: row.component.to_string(),
            config_digest: row.config_digest.to_string(),
            name: text(&row.description.name),
            version: text(&row.description.version),
            memory_bytes: row.description.memory_bytes,
            memory_schema: text(&row.description.memory_schema),
            memory_empty: staged.memory_empty,
            replicas: replicas(row, state),
        })
    });
    // Four others may have been staged in this very moment.
    view.await?.body.ok_or_else(|| Problem::of(Code::UnknownPolicy))
}

async fn dry_run(app: &App, slot: Slot, component: Arc<[u8]>, config: String) -> Result<DryRunView, Problem> {
    of_rounds(slot)?;
    let part = app.part()?;
    let (limits, at) =
        part.group.read(|state| (state.meta.settings.policy_limits(), (state.meta.settled, state.meta.applied)));
    let admitted = part.policies.admit(slot, component, config.clone(), limits).await?;
    let admitted: Admitted = admitted.map_err(|findings| not_admitted(&findings))?;
    let (digest, description) = (admitted.digest.to_string(), admitted.description.clone());
    let (store, policies) = (Arc::clone(&part.store), part.policies.clone());
    let run = move || {
        let run = shadow::dry_run(&store, &policies, slot, &admitted, (&config, limits), at)?;
        Ok(run.map(|run| ShadowView::of_run(&run)))
    };
    let differences = app.places.dry_runs.run(app.patience(), run).await?.map_err(store_failed)?;
    Ok(DryRunView { digest, name: text(&description.name), version: text(&description.version), differences })
}

/// The parts of a body.
struct Parts {
    component: Arc<[u8]>,
    config: String,
}

impl Parts {
    async fn read(request: Request) -> Result<Self, Problem> {
        let (head, sent) = request.into_parts();
        let request = Request::from_parts(head.clone(), sent);
        // The whole first: whoever sends slowly holds a connection and nothing else.
        let bytes = body(request, BODY_BYTES).await?;
        let bad = |what: String| Problem::new(Code::BadForm, what);
        let form = Multipart::from_request(Request::from_parts(head, Body::from(bytes)), &()).await;
        let mut form = form.map_err(|error| bad(error.body_text()))?;
        let (mut component, mut config) = (None, None);
        while let Some(field) = form.next_field().await.map_err(|error| bad(error.body_text()))? {
            let name = field.name().unwrap_or_default().to_string();
            let bytes = field.bytes().await.map_err(|error| bad(error.body_text()))?;
            match name.as_str() {
                "component" if component.is_none() => component = Some(Arc::from(&bytes[..])),
                "config" if config.is_none() => {
                    let text =
                        String::from_utf8(bytes.to_vec()).map_err(|_| bad("config: this is not UTF-8".into()))?;
                    config = Some(canonical(&text).map_err(|error| bad(format!("config: {error}")))?);
                }
                "component" | "config" => return Err(bad(format!("{name}: there are two parts of this name"))),
                other => {
                    return Err(bad(format!("`{other}` is no part of this form; it has `component` and `config`")));
                }
            }
        }
        let component =
            component.ok_or_else(|| bad("component: the part with the component's bytes is missing".into()))?;
        Ok(Self { component, config: config.unwrap_or_else(|| "{}".into()) })
    }
}

/// A component that admission did not take.
fn not_admitted(findings: &Findings) -> Problem {
    let told =
        findings.iter().map(|finding| json!({ "check": finding.check, "what": finding.what, "cure": finding.cure }));
    let told: Vec<_> = told.collect();
    let first = findings.iter().next();
    let detail = first.map_or_else(String::new, |finding| format!("{}: {}", finding.check, finding.what));
    let problem = Problem::new(Code::NotAdmitted, detail).with("findings", told);
    match first {
        Some(finding) => problem.hint(finding.cure.clone()),
        None => problem,
    }
}

impl core::convert::From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Group(error) => error.into(),
            PolicyError::Rejected { reject, .. } => reject.into(),
            PolicyError::Compiler => {
                tracing::error!("compiling a component ended without a result");
                Self::of(Code::Internal)
            }
        }
    }
}

/// An activation.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateBody {
    /// Which staged policy.
    pub digest: String,
    /// The first round that it decides; the earliest one where it is left out.
    pub round: Option<u64>,
    /// Without the notice that `guardrails.notice_rounds` asks for; the change log and the nodes are told so.
    #[serde(default)]
    pub emergency: bool,
    /// For the change log, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// A staged policy decides from a round on: two rounds after the last settled one at the earliest, or after the notice that the
/// settings ask for. A majority of the supers must have acknowledged it.
#[utoipa::path(post, path = "/v1/policies/{slot}/activate", tag = "operator", request_body = ActivateBody,
    params(("slot" = String, Path, description = "`reward`, `ban` or `signing`"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 202, body = From), (status = 409, description = "`policy_not_ready`, `too_early`")),
    security(("token" = [])))]
pub async fn activate(
    by: Decider,
    State(app): State<App>,
    Part(slot): Part<Slot>,
    Json(body): Json<ActivateBody>,
) -> Result<Done<From>, Problem> {
    let policy: Digest = id("digest", &body.digest)?;
    let round = body.round.map(RoundId);
    let what = match body.emergency {
        true => Operation::Emergency { slot, policy, round },
        false => Operation::Activate { slot, policy, round },
    };
    match from(&app, by, body.reason, what).await {
        Err(problem) if problem.code == Code::PolicyNotReady => Err(not_ready(&app, policy).await.unwrap_or(problem)),
        done => done,
    }
}

/// The kernel names the seats that are missing; people know supers by their names.
async fn not_ready(app: &App, policy: Digest) -> Option<Problem> {
    let replicas = app.read(super::answer::Fresh::LOCAL, move |state| {
        state.policies.get(&policy).map(|row| replicas(row, state)).unwrap_or_default()
    });
    let missing: Vec<ReplicaView> =
        replicas.await.ok()?.body.into_iter().filter(|replica| replica.state != "ready").collect();
    let words: Vec<String> = missing.iter().map(ReplicaView::words).collect();
    let detail = format!("a majority of the supers must have acknowledged it; missing: {}", words.join("; "));
    Some(Problem::new(Code::PolicyNotReady, detail).with("missing", serde_json::to_value(missing).ok()?))
}
