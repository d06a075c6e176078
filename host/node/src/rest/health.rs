//! Is it alive, is it ready, what does it count, and what can be asked: for machines that watch, and for people who have
//! just arrived.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema};

use kernel::decide::Slot;
use kernel::standing::Standing;

use super::App;
use super::answer::Fresh;
use super::claims::{All, ClaimAmount, ClaimPayload};
use super::input::ReadLevel;
use super::problem::{self, Code, Problem, ProblemView};
use crate::context::Part;
use crate::metrics;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "pingward",
        description = "A network of nodes that other people operate: who is there, who is paid, who is banned, and by which \
                       rule. Times are whole ms since 1970. Unknown is null, never 0. Errors are RFC 9457; their codes are \
                       listed by GET /v1/problems.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ClaimPayload, ClaimAmount, All, ReadLevel, ProblemView))
)]
struct Head;

/// The description without its routes.
pub fn head() -> OpenApi {
    Head::openapi()
}

/// Routes that take no place among the requests.
pub const ALWAYS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Completes a description: every route may answer with a problem, and operators prove themselves with a token.
pub fn described(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_default();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("data_dir/admin.token")).build();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    components.schemas.insert("Problem".into(), ProblemView::schema());
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            may_fail(operation);
        }
    }
    api
}

fn may_fail(operation: &mut Operation) {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let response = ResponseBuilder::new().description("What went wrong, and how to mend it");
    let response = response.content(problem::CONTENT_TYPE, content).build();
    operation.responses.responses.insert("default".into(), RefOr::T(response));
}

/// The description as text.
pub fn openapi_text(api: &OpenApi) -> String {
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The description of this API, OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "health",
    responses((status = 200, content_type = "application/json", body = Object)))]
pub async fn openapi_json(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.inner.openapi.clone()).into_response()
}

/// The table of error codes: status, cause and cure of each.
#[utoipa::path(get, path = "/v1/problems", tag = "health",
    responses((status = 200, body = Object, description = "{problems: [{code, status, title, cause, hint}]}")))]
pub async fn problems() -> Json<Value> {
    Json(problem::table())
}

/// The process answers. Says nothing else.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn livez() -> &'static str {
    "ok\n"
}

/// One thing that a ready node has.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    /// Which.
    pub name: &'static str,
    /// It has it.
    pub ok: bool,
    /// What it lacks and how to mend it; null when it has it.
    pub why: Option<String>,
}

/// Whether this node can do its work.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Ready {
    /// It can.
    pub ready: bool,
    /// All that was looked at.
    pub checks: Vec<Check>,
}

fn check(name: &'static str, why: Option<String>) -> Check {
    Check { name, ok: why.is_none(), why }
}

/// Whether this node can do its work; 503 says why not.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = Ready)))]
pub async fn readyz(State(app): State<App>) -> Result<Json<Ready>, Problem> {
    let checks = match &app.context().part {
        Part::Super(_) => super_checks(&app).await?,
        Part::Follower(part) => {
            let own = part.own.borrow();
            let refused = own.refused.as_ref().map(super::status::refusal);
            let why = match (refused, own.is_attached()) {
                (_, true) => None,
                (Some(problem), false) => Some(problem.detail),
                (None, false) => Some(own.failed.clone().unwrap_or_else(|| "it has no stream to a super yet".into())),
            };
            vec![check("attached", why)]
        }
        Part::Validator(part) => {
            let view = part.view.borrow();
            let none = || view.refused.clone().unwrap_or_else(|| "it has no stream to a super yet".into());
            vec![check("attached", view.supers.is_empty().then(none))]
        }
        Part::Bootstrap(part) => {
            let none = part.directory.borrow().is_none();
            vec![check("directory", none.then(|| "no super has told it the directory yet".into()))]
        }
    };
    if checks.iter().all(|check| check.ok) {
        return Ok(Json(Ready { ready: true, checks }));
    }
    let why: Vec<String> = checks.iter().filter_map(|check| check.why.clone()).collect();
    Err(Problem::new(Code::NotReady, why.join("; "))
        .with("ready", false)
        .with("checks", serde_json::to_value(checks).unwrap_or(Value::Null)))
}

async fn super_checks(app: &App) -> Result<Vec<Check>, Problem> {
    let part = app.part()?;
    let leadership = *part.group.leadership().borrow();
    let ours = leadership.leader == Some(app.context().node);
    if part.group.replica().is_none() {
        let why = "it is empty and waits to be added: run `pingward cluster add` on the group, as its log says";
        return Ok(vec![check("in_group", Some(why.into()))]);
    }
    let leader = match (leadership.leader, leadership.ready || !ours) {
        (None, _) => Some("there is no leader; wait, or see the log of the supers".to_string()),
        (Some(leader), false) => Some(format!("{leader} leads and has not taken over yet; wait")),
        (Some(_), true) => None,
    };
    let slots = app.read(Fresh::LOCAL, |state| {
        Slot::ALL.map(|slot| (slot, state.slot(slot).row.active, state.slot(slot).row.held))
    });
    let slots = slots.await?.body;
    let unprepared = slots.iter().filter_map(|(slot, active, _)| {
        let digest = active.filter(|digest| part.policies.prepared(digest).is_none())?;
        Some(format!("the {slot} policy {digest} is not prepared here; wait, or see the log"))
    });
    let held = slots.iter().filter(|(_, _, held)| *held).map(|(slot, ..)| {
        format!("moves of the {slot} policy are held back; run `pingward policy accept {slot}` or `pingward policy rollback {slot}`")
    });
    let join = |all: Vec<String>| (!all.is_empty()).then(|| all.join("; "));
    let closed = (app.context().metrics.open.get() == 0).then(|| {
        "this super hears of no rounds and lets its followers go; is it a voter still, and does it reach the leader? \
         `pingward cluster members` on another super says"
            .to_string()
    });
    Ok(vec![
        check("leader", leader),
        check("takes_part", closed),
        check("policies_prepared", join(unprepared.collect())),
        check("nothing_held", join(held.collect())),
    ])
}

/// All counts, in the text format of OpenMetrics that Prometheus reads.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let metrics = app.context().metrics.clone();
    if let Some(part) = app.context().as_super() {
        let leadership = *part.group.leadership().borrow();
        metrics.leading.set(i64::from(leadership.ready && leadership.leader == Some(app.context().node)));
        metrics.streams.set(i64::try_from(part.streams.count()).unwrap_or(i64::MAX));
        let (to, policies) = (metrics.clone(), part.policies.clone());
        app.read_in_turn(Fresh::LOCAL, &app.places.counts, move |state| {
            let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            to.settled_round.set(number(state.meta.settled.0));
            to.queue.set(number(state.queue.len() as u64));
            to.issued.set(state.meta.issued.0);
            for slot in Slot::ALL {
                let row = &state.slot(slot).row;
                let scheduled = row.scheduled.and_then(|scheduled| scheduled.policy);
                let places =
                    [("active", row.active), ("scheduled", scheduled), ("shadow", row.shadow.map(|s| s.policy))];
                for (place, policy) in places {
                    let known = policy.and_then(|policy| Some((policy, state.policies.get(&policy)?)));
                    let ready = known.map(|(policy, row)| (row.ready.len(), policies.prepared(&policy).is_some()));
                    to.readiness(slot, place, ready);
                }
            }
            for standing in STANDINGS {
                let count = state.members.values().filter(|member| member.hot.standing == standing).count();
                to.members(standing, count as u64);
            }
        })
        .await?;
    }
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()).into_response())
}

const STANDINGS: [Standing; 5] =
    [Standing::Good, Standing::Warned, Standing::Suspended, Standing::Banned, Standing::Probation];

/// A page for whoever opens the address in a browser.
#[utoipa::path(get, path = "/", tag = "health", responses((status = 200, content_type = "text/html", body = String)))]
pub async fn index(State(app): State<App>) -> Response {
    let (name, role) = (&app.context().name, app.context().role.word());
    let links = |paths: &[&str]| {
        paths.iter().map(|path| format!("<li><a href=\"{path}\">{path}</a></li>")).collect::<Vec<_>>().join("\n")
    };
    let paths: &[&str] = match &app.context().part {
        Part::Super(_) => &[
            "/v1/status",
            "/v1/followers/queue",
            "/v1/nodes",
            "/v1/rewards",
            "/v1/bans",
            "/v1/rounds",
            "/v1/policies",
            "/v1/settings",
            "/v1/changes",
            "/v1/events",
            "/v1/problems",
            "/readyz",
            "/metrics",
            "/openapi.json",
        ],
        Part::Bootstrap(_) => &["/v1/status", "/v1/directory", "/v1/problems", "/readyz", "/metrics", "/openapi.json"],
        Part::Follower(_) | Part::Validator(_) => {
            &["/v1/status", "/v1/records", "/v1/events", "/v1/problems", "/readyz", "/metrics", "/openapi.json"]
        }
    };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>pingward {name}</title>\n\
         <h1>pingward: {role} {name}</h1>\n<p>This node speaks JSON. What can be asked:</p>\n<ul>\n{}\n</ul>\n</html>\n",
        links(paths)
    );
    let policy = [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'")];
    (policy, Html(page)).into_response()
}
