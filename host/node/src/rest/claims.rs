//! Claims: earned points to a wallet, signed by the node that earned them.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kernel::command::{Amount, Claim, Command};
use kernel::envelope::CLAIM_TYPE;
use kernel::id::NodeId;
use kernel::outcome::{Claimed, Reply};

use super::App;
use super::answer::Done;
use super::input::{BODY_BYTES, body};
use super::problem::{Code, Problem};
use super::signed::{Verified, open, same_cluster};
use crate::keys::Envelope;

/// The payload of a claim, type `application/vnd.pingward.claim+json`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimPayload {
    /// `id#genesis`, as in `GET /v1/status`.
    pub cluster: String,
    /// Above the last one that this key used for claims; `next_sequence` of its account is free.
    pub sequence: u64,
    /// When it ends, ms since 1970; at most 24 hours ahead.
    pub expires_ms: u64,
    /// Points, at least 1, or `"all"`, which never over-claims.
    pub amount: ClaimAmount,
    /// The wallet that gets them, 64 hex digits; the signer's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// How much is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "amount: expected a whole number of at least 1, or \"all\"")]
pub enum ClaimAmount {
    /// So many points.
    Exactly(u64),
    /// All there is.
    All(All),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// All there is.
    All,
}

impl From<ClaimAmount> for Amount {
    fn from(amount: ClaimAmount) -> Self {
        match amount {
            ClaimAmount::Exactly(points) => Self::Exactly(points),
            ClaimAmount::All(All::All) => Self::All,
        }
    }
}

/// A claim that was paid.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Paid {
    /// SHA-256 of the payload: the same claim again gives this same answer.
    pub claim: String,
    /// What the wallet got.
    pub paid: i64,
    /// Earned points left.
    pub earned: i64,
    /// The wallet's balance after it.
    pub wallet: i64,
}

/// Moves earned points to a wallet. Sending the same claim again is harmless and gives the same answer.
#[utoipa::path(post, path = "/v1/claims", tag = "signed", request_body(content = Envelope,
        description = "The payload is a ClaimPayload, type application/vnd.pingward.claim+json"),
    responses((status = 200, body = Paid), (status = 409, description = "overclaim, stale_sequence, nothing_to_pay")))]
pub async fn claim(State(app): State<App>, request: Request) -> Result<Done<Paid>, Problem> {
    let result = answer(&app, request).await;
    let outcome = result.as_ref().map_or_else(|problem| problem.code.row().code, |_| "paid");
    app.context().metrics.claim(outcome);
    result.map(|paid| Done(StatusCode::OK, paid))
}

async fn answer(app: &App, request: Request) -> Result<Paid, Problem> {
    let part = app.part()?;
    let body = body(request, BODY_BYTES).await?;
    let Verified { signer, payload, digest } = open::<ClaimPayload>(&body, CLAIM_TYPE)?;
    let to = payload.to.as_deref().map(NodeId::parse).transpose();
    let to = to.map_err(|error| Problem::new(Code::BadPayload, format!("to: {error}")))?;
    let claim = Claim {
        node: signer,
        sequence: payload.sequence,
        expires_ms: payload.expires_ms,
        amount: payload.amount.into(),
        to: to.unwrap_or(signer),
        digest,
        now_ms: part.group.now_ms(),
    };
    // What would change nothing is answered from the state: strangers cannot fill the log.
    let known = app.read(move |state| (state.meta.cluster.clone(), state.answer_to_claim(&claim))).await?.body;
    let (cluster, known) = known;
    same_cluster(&payload.cluster, &cluster)?;
    let reply = match known {
        Some(answer) => answer,
        None => part.group.propose(Command::Claim(claim)).await?,
    };
    let reply = reply?;
    let Reply::Claimed(Claimed { paid, earned, wallet, .. }) = reply else { return Err(super::unexpected(&reply)) };
    Ok(Paid { claim: digest.to_string(), paid: paid.0, earned: earned.0, wallet: wallet.0 })
}
