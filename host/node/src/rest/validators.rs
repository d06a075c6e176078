//! The set of validators, the directory, and evidence against a validator.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kernel::command::{Command, Operation};
use kernel::id::NodeId;
use kernel::outcome::Reply;
use kernel::records::validators::{Attested, Evidence, Validator};

use super::answer::{Done, Read};
use super::input::{Json as Body, Params, Part, ReadQuery, id};
use super::operate::{Changed, Reason, changed};
use super::problem::{Code, Problem};
use super::signed::base64;
use super::tag::Decider;
use super::{App, unexpected};
use crate::config;
use crate::keys::Envelope;
use crate::records::directory::Directory;

/// The set of validators.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ValidatorsView {
    /// Version of the set; 0 = there never was one.
    pub version: u64,
    /// Signatures that seal a batch.
    pub quorum: usize,
    /// How many validators may fail while records are still sealed.
    pub tolerates: usize,
    /// Its members, in ascending order of key: turns go in this order.
    pub validators: Vec<ValidatorView>,
    /// The last record that was ordered; 0 = none.
    pub last_sequence: u64,
    /// Records that a quorum signed.
    pub signed: u64,
    /// Records that a quorum refused.
    pub refused: u64,
    /// Batches that are ordered and not sealed.
    pub pending_batches: usize,
    /// Batches that no quorum signs; known to the super that leads.
    pub stuck: Vec<u64>,
}

/// A validator.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ValidatorView {
    /// Its key.
    pub node: String,
    /// Its display name.
    pub name: Option<String>,
    /// `host:port` of its gRPC.
    pub address: String,
    /// It has a stream to the super that was asked.
    pub connected: bool,
}

/// The set of validators, as the super that is asked knows it.
#[utoipa::path(get, path = "/v1/validators", tag = "records", params(ReadQuery), responses((status = 200, body = ValidatorsView)))]
pub async fn validators(
    State(app): State<App>,
    Params(query): Params<ReadQuery>,
) -> Result<Read<ValidatorsView>, Problem> {
    let (streams, stuck) = {
        let hub = &app.part()?.hub;
        (hub.streams(), hub.stuck())
    };
    let fresh = app.fresh(query.level()).await?;
    app.read(fresh, move |state| {
        let set = &state.validators.set;
        let counters = &state.meta.records;
        ValidatorsView {
            version: state.validators.version,
            quorum: state.quorum(),
            tolerates: set.len() - state.quorum(),
            validators: set
                .iter()
                .map(|one| ValidatorView {
                    node: one.node.to_string(),
                    name: super::view::text(&one.name),
                    address: one.address.clone(),
                    connected: streams.contains(&one.node),
                })
                .collect(),
            last_sequence: counters.sequence,
            signed: counters.signed,
            refused: counters.refused,
            pending_batches: state.known.pending.len(),
            stuck,
        }
    })
    .await
}

/// A validator to be added.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddValidator {
    /// Its key, 64 hex digits.
    pub node: String,
    /// `host:port` of its gRPC, where the other validators and followers reach it.
    pub address: String,
    /// Its display name.
    #[serde(default)]
    pub name: String,
    /// For the change log, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// Adds a validator to the set, or gives one that is in it another name or address. Batches that are not sealed are signed
/// again by the new set.
#[utoipa::path(post, path = "/v1/validators", tag = "records", request_body = AddValidator,
    params(("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 200, body = Changed), (status = 409, description = "wrong_role, full")), security(("token" = [])))]
pub async fn add(
    by: Decider,
    State(app): State<App>,
    Body(body): Body<AddValidator>,
) -> Result<Done<Changed>, Problem> {
    let node: NodeId = id("node", &body.node)?;
    let wrong = |why: &str| Problem::new(Code::BadJson, format!("address: {why}"));
    let address = config::address(&body.address).map_err(|why| wrong(&why))?;
    if address.key.is_some_and(|key| key != node) {
        return Err(wrong("it names another key than `node`"));
    }
    let address = config::PeerAddress { key: None, ..address }.to_string();
    let validator = Validator { node, name: body.name, address, came: false };
    changed(&app, by, body.reason, Operation::AddValidator(validator)).await
}

/// Removes a validator from the set. Batches that are not sealed are signed again by the new set.
#[utoipa::path(delete, path = "/v1/validators/{node}", tag = "records", request_body = Reason,
    params(("node" = String, Path, description = "Its key, 64 hex digits"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 200, body = Changed), (status = 404, description = "unknown_validator")), security(("token" = [])))]
pub async fn remove(
    by: Decider,
    State(app): State<App>,
    Part(node): Part<NodeId>,
    Body(body): Body<Reason>,
) -> Result<Done<Changed>, Problem> {
    changed(&app, by, body.reason, Operation::RemoveValidator(node)).await
}

/// A batch that is to be tried again.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// The batch.
    pub batch: u64,
    /// For the change log, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// Another attempt at a batch that no quorum signs, under the signing policy that is in force now.
#[utoipa::path(post, path = "/v1/records/retry", tag = "records", request_body = RetryBody,
    responses((status = 200, body = Changed), (status = 404, description = "unknown_batch")), security(("token" = [])))]
pub async fn retry(by: Decider, State(app): State<App>, Body(body): Body<RetryBody>) -> Result<Done<Changed>, Problem> {
    changed(&app, by, body.reason, Operation::RetryBatch(body.batch)).await
}

/// Two attestations of one validator.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceBody {
    /// Whose, 64 hex digits.
    pub validator: String,
    /// One.
    pub one: AttestedBody,
    /// The other.
    pub other: AttestedBody,
}

/// An attestation as it was signed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttestedBody {
    /// The payload, CBOR in base64; its type is `application/vnd.pingward.attestation+cbor`.
    pub payload: String,
    /// 64 bytes in base64.
    pub signature: String,
}

/// Takes evidence that a validator signed two roots for one batch and attempt, from anybody. It is removed from the set.
#[utoipa::path(post, path = "/v1/evidence", tag = "records", request_body = EvidenceBody,
    responses((status = 200, body = Changed), (status = 409, description = "unsigned: it proves nothing"),
        (status = 404, description = "unknown_validator")))]
pub async fn evidence(State(app): State<App>, Body(body): Body<EvidenceBody>) -> Result<Done<Changed>, Problem> {
    let group = &app.part()?.group;
    let attested = |field: &str, body: &AttestedBody| {
        let wrong = |what: &str| Problem::new(Code::BadJson, format!("{field}.{what}"));
        let payload = base64(&body.payload).ok_or_else(|| wrong("payload: this is not base64"))?;
        let signature = base64(&body.signature).and_then(|bytes| bytes.try_into().ok());
        let signature: [u8; 64] = signature.ok_or_else(|| wrong("signature: 64 bytes in base64"))?;
        Ok::<_, Problem>(Attested { payload, signature: kernel::id::Signature(signature) })
    };
    let evidence = Evidence {
        validator: id("validator", &body.validator)?,
        one: attested("one", &body.one)?,
        other: attested("other", &body.other)?,
        now_ms: group.now_ms(),
    };
    // What proves nothing does not get into the log.
    evidence.check().map_err(|why| Problem::new(Code::Unsigned, why))?;
    let reply = group.propose(Command::Evidence(Box::new(evidence))).await??;
    let Reply::Changed { count } = reply else { return Err(unexpected(&reply)) };
    Ok(Done(StatusCode::OK, Changed { changed: count }))
}

/// Where supers and validators are and who may sign, as a DSSE envelope that this super signs; the payload is a Directory,
/// type `application/vnd.pingward.directory+json`. A file of it is what `pingward verify --keys` takes.
#[utoipa::path(get, path = "/v1/directory", tag = "records", responses((status = 200, body = Envelope,
    description = "Signed by the super that was asked; a bootstrap node hands on what a super signed")))]
pub async fn directory(State(app): State<App>) -> Result<Response, Problem> {
    if let crate::context::Part::Bootstrap(part) = &app.context().part {
        let envelope = part.envelope.borrow().clone();
        if envelope.is_empty() {
            return Err(Problem::new(Code::NoSuper, "no super has told this bootstrap node the directory yet"));
        }
        return Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], envelope).into_response());
    }
    let part = app.part()?;
    let (key, now_ms) = (std::sync::Arc::clone(&part.key), part.group.now_ms());
    let read = app.read(app.current().await?, move |state| Directory::of(state, now_ms).signed(&key)).await?;
    Ok(Json(read.body).into_response())
}
