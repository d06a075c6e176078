//! Policies that run beside the active ones.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kernel::command::Operation;
use kernel::decide::Slot;
use kernel::id::Digest;

use super::App;
use super::answer::{Done, Fresh, Read};
use super::input::{Json, Part, id, of_rounds};
use super::operate::{From, from};
use super::problem::Problem;
use super::tag::Decider;
use super::view::ShadowView;

/// Which policy is to be shadowed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowBody {
    /// A staged policy; null = none any more.
    #[serde(default)]
    pub digest: Option<String>,
    /// For the change log, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// A slot's shadow.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShadowOf {
    /// The slot.
    pub slot: &'static str,
    /// What it would have decided otherwise, as this super worked it out; null when no policy is shadowed, or it has not begun
    /// here.
    pub shadow: Option<ShadowView>,
}

/// A staged policy runs beside the active one from the next round on, with a ledger and standings of its own and without
/// effect. `digest: null` ends it.
#[utoipa::path(post, path = "/v1/policies/{slot}/shadow", tag = "operator", request_body = ShadowBody,
    params(("slot" = String, Path, description = "`reward` or `ban`"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 202, body = From)), security(("token" = [])))]
pub async fn begin(
    by: Decider,
    State(app): State<App>,
    Part(slot): Part<Slot>,
    Json(body): Json<ShadowBody>,
) -> Result<Done<From>, Problem> {
    of_rounds(slot)?;
    let policy: Option<Digest> = body.digest.as_deref().map(|digest| id("digest", digest)).transpose()?;
    let Done(_, done) = from(&app, by, body.reason, Operation::Shadow { slot, policy }).await?;
    Ok(Done(StatusCode::ACCEPTED, done))
}

/// What the shadowed policy would have decided otherwise, round by round and member by member. Each super works it out for
/// itself from the log.
#[utoipa::path(get, path = "/v1/policies/{slot}/shadow", tag = "read",
    params(("slot" = String, Path, description = "`reward` or `ban`")), responses((status = 200, body = ShadowOf)))]
pub async fn report(State(app): State<App>, Part(slot): Part<Slot>) -> Result<Read<ShadowOf>, Problem> {
    of_rounds(slot)?;
    let seen = app.part()?.shadows.seen(slot);
    app.read(Fresh::LOCAL, move |_| ShadowOf { slot: slot.name(), shadow: seen.as_ref().map(ShadowView::of_seen) })
        .await
}
