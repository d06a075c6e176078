//! Claims: earned points to a wallet, signed by the node that earned them.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kernel::command::{Amount, Claim, Command};
use kernel::envelope::CLAIM_TYPE;
use kernel::id::NodeId;
use kernel::outcome::{Claimed, Reject, Reply};

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
    responses((status = 200, body = Paid), (status = 409, description = "overclaim, stale_sequence, nothing_to_pay"),
        (status = 429, description = "slow_down: too many claims of this key in one round")))]
pub async fn claim(State(app): State<App>, request: Request) -> Result<Done<Paid>, Problem> {
    let Answer { result, repeated } =
        answer(&app, request).await.unwrap_or_else(|problem| Answer { result: Err(problem), repeated: false });
    let outcome = match &result {
        _ if repeated => "repeated",
        Ok(_) => "paid",
        Err(problem) => problem.code.row().code,
    };
    app.context().metrics.claim(outcome);
    result.map(|paid| Done(StatusCode::OK, paid))
}

/// What a claim is answered.
struct Answer {
    result: Result<Paid, Problem>,
    /// It was answered so before: nothing was paid or taken for this request.
    repeated: bool,
}

async fn answer(app: &App, request: Request) -> Result<Answer, Problem> {
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
    let known = app.read(app.current().await?, move |state| {
        (state.meta.cluster.clone(), state.answer_to_claim(&claim), state.meta.settings.interval_ms)
    });
    let (cluster, known, interval_ms) = known.await?.body;
    same_cluster(&payload.cluster, &cluster)?;
    let repeated = matches!(known, Some(Ok(_) | Err(Reject::Overclaim { .. })));
    let reply = match known {
        Some(answer) => answer,
        None => part.group.propose(Command::Claim(claim)).await?,
    };
    match reply {
        Ok(Reply::Claimed(Claimed { paid, earned, wallet, .. })) => {
            let paid = Paid { claim: digest.to_string(), paid: paid.0, earned: earned.0, wallet: wallet.0 };
            Ok(Answer { result: Ok(paid), repeated })
        }
        Ok(reply) => Err(super::unexpected(&reply)),
        Err(Reject::SlowDown) => Err(Problem::from(Reject::SlowDown).with("retry_ms", interval_ms)),
        Err(reject) => Ok(Answer { result: Err(reject.into()), repeated }),
    }
}
