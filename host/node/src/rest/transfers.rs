//! Transfers: points from one wallet to another, signed by the key of the one that pays.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kernel::command::{Command, Transfer};
use kernel::envelope::TRANSFER_TYPE;
use kernel::id::NodeId;
use kernel::outcome::Reply;

use super::App;
use super::answer::Done;
use super::input::{BODY_BYTES, body};
use super::problem::{Code, Problem};
use super::signed::{Verified, open, same_cluster};
use crate::keys::Envelope;

/// The payload of a transfer, type `application/vnd.pingward.transfer+json`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferPayload {
    /// `id#genesis`, as in `GET /v1/status`.
    pub cluster: String,
    /// Above the last one that this key used for transfers.
    pub sequence: u64,
    /// When it ends, ms since 1970; at most 24 hours ahead.
    pub expires_ms: u64,
    /// The wallet that is credited, 64 hex digits.
    pub to: String,
    /// Points that leave the signer's wallet, at least 1.
    pub amount: u64,
}

/// A transfer that was done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TransferDone {
    /// SHA-256 of the payload: the same transfer again gives this same answer.
    pub transfer: String,
    /// What left the wallet.
    pub amount: i64,
    /// What the other one got: the first credit to a new wallet costs its fee.
    pub credited: i64,
    /// What is left in the wallet.
    pub wallet: i64,
}

/// Moves points between wallets. Sending the same transfer again is harmless and gives the same answer.
#[utoipa::path(post, path = "/v1/transfers", tag = "signed", request_body(content = Envelope,
        description = "The payload is a TransferPayload, type application/vnd.pingward.transfer+json"),
    responses((status = 200, body = TransferDone), (status = 409, description = "insufficient, stale_sequence")))]
pub async fn transfer(State(app): State<App>, request: Request) -> Result<Done<TransferDone>, Problem> {
    let part = app.part()?;
    let body = body(request, BODY_BYTES).await?;
    let Verified { signer, payload, digest } = open::<TransferPayload>(&body, TRANSFER_TYPE)?;
    let to = NodeId::parse(&payload.to).map_err(|error| Problem::new(Code::BadPayload, format!("to: {error}")))?;
    let transfer = Transfer {
        from: signer,
        sequence: payload.sequence,
        expires_ms: payload.expires_ms,
        to,
        amount: payload.amount,
        digest,
        now_ms: part.group.now_ms(),
    };
    // What would change nothing is answered from the state: strangers cannot fill the log.
    let known = app
        .read(app.current().await?, move |state| (state.meta.cluster.clone(), state.answer_to_transfer(&transfer)))
        .await?
        .body;
    let (cluster, known) = known;
    same_cluster(&payload.cluster, &cluster)?;
    let reply = match known {
        Some(answer) => answer,
        None => part.group.propose(Command::Transfer(transfer)).await?,
    };
    let reply = reply?;
    let Reply::Transferred(done) = reply else { return Err(super::unexpected(&reply)) };
    let (amount, credited, wallet) = (done.amount.0, done.credited.0, done.wallet.0);
    Ok(Done(StatusCode::OK, TransferDone { transfer: digest.to_string(), amount, credited, wallet }))
}
