//! Users' records: handed in to a follower or validator, read with their proofs from any node.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use kernel::id::{ClusterId, Digest};
use kernel::limits::RECORD_BODY;
use kernel::records::certificate::{Certificate, Proof};
use kernel::records::order::{Batch, Contents, Ordered};
use kernel::records::record::Record;
use kernel::records::sealed::{Proofs, SealedBatch};
use store::StoreError;
use store::{Records, Sequenced};
use wire::records::Fetched;

use super::App;
use super::access::Caller;
use super::input::{BODY_BYTES, HISTORY_PAGE, ListQuery, Params, Part, PathPart, body};
use super::problem::{Code, Problem};
use super::signed::{Signed, read_envelope};
use crate::context::RecordsPart;
use crate::group::Group;
use crate::records::header;
use crate::records::ingress::now_ms;
use crate::records::keeper::{fetched, fetched_by};

/// A body without a signature lives so long (PROTOCOLS 10.2).
const RAW_MS: u64 = 10 * 60 * 1_000;
/// Longest wait for a record to be sealed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Bytes of a page's records.
const PAGE_BYTES: usize = 8 << 20;

/// Parameters of handing in.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubmitQuery {
    /// `sealed`: answer when a quorum has signed it, at most 30 s later, with its certificate.
    #[param(inline)]
    pub wait: Option<Wait>,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// A quorum has signed it, or refused it.
    Sealed,
}

/// A record that has its place.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Submitted {
    /// What names it: `sha256:` and 64 hex digits.
    pub digest: String,
    /// Its sequence number.
    pub sequence: u64,
    /// Its batch.
    pub batch: u64,
    /// `ordered`, `signed` or `refused`.
    pub state: &'static str,
    /// What proves it; null until it is sealed.
    pub certificate: Option<CertificateView>,
    /// When the storage that the fee bought ends, ms since 1970; null: it has no end by time.
    pub expires_ms: Option<u64>,
}

/// A record with what proves it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordView {
    /// What names it.
    pub digest: String,
    /// Whose it is.
    pub author: String,
    /// Its sequence number.
    pub sequence: u64,
    /// `ordered`, `signed` or `refused`.
    pub state: String,
    /// When it was ordered, ms since 1970.
    pub ordered_ms: u64,
    /// The line of JSON that the author signed with the body; null where it is not kept here.
    pub header: Option<String>,
    /// Base64; null where it is not kept here.
    pub body: Option<String>,
    /// The author's signature over header, newline and body, base64; null where the node that took it in vouched for it.
    pub signature: Option<String>,
    /// What proves it; null until it is sealed.
    pub certificate: Option<CertificateView>,
}

/// What proves a record, to be checked with `pingward verify`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateView {
    /// `id#genesis`.
    pub cluster: String,
    /// Its batch.
    pub batch: u64,
    /// Which attempt at the batch was signed.
    pub attempt: u32,
    /// The version of the set of validators in which the signatures count.
    pub set_version: u64,
    /// The signing policy.
    pub policy: String,
    /// Sequence number of the batch's first record.
    pub first_sequence: u64,
    /// Records in the batch.
    pub count: u32,
    /// The record's place in the batch, from 0.
    pub index: u32,
    /// `signed` or `refused`.
    pub verdict: String,
    /// Why it is refused; empty where it is signed.
    pub reason: String,
    /// The root that was signed.
    pub root: String,
    /// From the record's leaf up to the root.
    pub path: Vec<String>,
    /// Signatures of a quorum.
    pub signatures: Vec<SignatureView>,
}

/// A validator's signature over the batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureView {
    /// Whose.
    pub validator: String,
    /// Base64, 64 bytes.
    pub signature: String,
}

impl CertificateView {
    /// Of a proof.
    #[must_use]
    pub fn of(proof: &Proof) -> Self {
        let Certificate { attestation, signatures } = &proof.certificate;
        Self {
            cluster: attestation.cluster.to_string(),
            batch: attestation.batch,
            attempt: attestation.attempt,
            set_version: attestation.set_version,
            policy: attestation.policy.to_string(),
            first_sequence: attestation.first_sequence,
            count: attestation.count,
            index: proof.index,
            verdict: proof.verdict.name().into(),
            reason: proof.verdict.reason().into(),
            root: attestation.root.to_string(),
            path: proof.path.iter().map(ToString::to_string).collect(),
            signatures: signatures
                .iter()
                .map(|(validator, signature)| SignatureView {
                    validator: validator.to_string(),
                    signature: STANDARD.encode(signature.0),
                })
                .collect(),
        }
    }
}

impl RecordView {
    /// Of a record and its proof.
    #[must_use]
    pub fn of(found: &Fetched) -> Self {
        let record = &found.record;
        Self {
            digest: record.digest().to_string(),
            author: record.author.to_string(),
            sequence: found.proof.sequence(),
            state: found.proof.verdict.name().into(),
            ordered_ms: found.ordered_ms,
            header: record.header().map(|line| String::from_utf8_lossy(line).into_owned()),
            body: Some(STANDARD.encode(record.body())),
            signature: record.signature.map(|signature| STANDARD.encode(signature.0)),
            certificate: Some(CertificateView::of(&found.proof)),
        }
    }
}

/// Hands a record in: a DSSE envelope that its author signed, type `application/vnd.pingward.record`, or a body that this
/// node authors and pays for, from its operator or where its config lets anybody. The same record again gets the same answer.
#[utoipa::path(post, path = "/v1/records", tag = "records", params(SubmitQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Of a body without a signature: the same key and body are the same record")),
    request_body(content = crate::keys::Envelope, description = "or any bytes, at most 65,536"),
    responses((status = 202, body = Submitted, description = "It has its place; with wait=sealed: and is not sealed yet"),
        (status = 201, body = Submitted, description = "wait=sealed: a quorum has signed or refused it"),
        (status = 401, description = "sign_it"), (status = 403, description = "ask_a_node: supers take no records"),
        (status = 409, description = "insufficient: the fee is more than the author's wallet holds"),
        (status = 503, description = "no_policy, no_validators, records_full, no_super")))]
pub async fn submit(
    caller: Caller,
    State(app): State<App>,
    Params(query): Params<SubmitQuery>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let part = app.records()?;
    let body = body(request, BODY_BYTES).await?;
    let record = record(part, caller, &app, &headers, &body).await?;
    let digest = record.digest();
    let (sequence, batch) = match part.ingress.take(record).await.map_err(refused)? {
        Ordered::At { sequence, batch } => (sequence, batch),
        Ordered::Refused(reject) => return Err((*reject).into()),
    };
    let mut answer = Submitted {
        digest: digest.to_string(),
        sequence,
        batch,
        state: "ordered",
        certificate: None,
        expires_ms: None,
    };
    if query.wait == Some(Wait::Sealed) {
        let within = LONGEST_WAIT.min(app.inner.answer_time / 6 * 5);
        if let Some(found) = sealed(part, digest, within).await? {
            answer.state = found.proof.verdict.name();
            answer.certificate = Some(CertificateView::of(&found.proof));
            return Ok((StatusCode::CREATED, Json(answer)).into_response());
        }
    }
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

async fn record(
    part: &RecordsPart,
    caller: Caller,
    app: &App,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Record, Problem> {
    let cluster = cluster(part)?;
    if let Some(signed) = read_envelope(body) {
        let Signed { signer, payload, signature } = signed?;
        let record = Record { author: signer, payload, signature: Some(signature) };
        header::read(&record, &cluster).map_err(|why| match why {
            header::BadRecord::Cluster(named) => {
                Problem::new(Code::WrongCluster, format!("it is meant for `{named}`, this is `{cluster}`"))
                    .with("cluster", cluster.to_string())
            }
            why @ (header::BadRecord::NoLine | header::BadRecord::Line(_) | header::BadRecord::Body(_)) => {
                Problem::new(Code::BadPayload, why.to_string())
            }
        })?;
        // Checking costs a twentieth of a millisecond, which a thread of its own would cost as well.
        if !record.is_signed() {
            return Err(Problem::of(Code::BadSignature));
        }
        return Ok(record);
    }
    if caller.operator.is_none() && !part.raw_open {
        return Err(Problem::of(Code::SignIt));
    }
    if body.len() > RECORD_BODY {
        let detail = format!("a record's body has at most {RECORD_BODY} bytes, this one has {}", body.len());
        return Err(Problem::new(Code::BodyTooLarge, detail).with("limit_bytes", RECORD_BODY as u64));
    }
    let nonce = headers.get("idempotency-key").map(|value| {
        let text = value.to_str().unwrap_or_default();
        let wrong = || Problem::new(Code::BadQuery, "Idempotency-Key: 1 to 64 printable characters");
        if text.is_empty() || text.chars().count() > 64 { Err(wrong()) } else { Ok(text.to_owned()) }
    });
    let nonce = nonce.transpose()?;
    // The same key and body are the same record only while they expire at the same moment: by the clock's ten minutes.
    let expires_ms = match nonce {
        Some(_) => (now_ms() / RAW_MS + 2) * RAW_MS,
        None => now_ms().saturating_add(RAW_MS),
    };
    header::own(app.context().node, &cluster, nonce, expires_ms, body)
        .map_err(|error| Problem::new(Code::Internal, format!("no randomness: {error}")))
}

fn cluster(part: &RecordsPart) -> Result<ClusterId, Problem> {
    part.cluster
        .borrow()
        .clone()
        .ok_or_else(|| Problem::new(Code::NoValidators, "no super has told this node of validators yet"))
}

/// What a super, or the way to one, said.
fn refused((code, detail): (String, String)) -> Problem {
    let code = match code.as_str() {
        "busy" => Code::Busy,
        "stopping" => Code::Stopping,
        "outcome_unknown" => Code::OutcomeUnknown,
        "no_leader" => Code::NoLeader,
        "forged" => Code::Forged,
        "expired" => Code::Expired,
        "not_a_node" | "no_super" => Code::NoSuper,
        _ => Code::Internal,
    };
    Problem::new(code, detail)
}

/// Waits until a record is sealed; `None`: not within the time.
async fn sealed(part: &RecordsPart, digest: Digest, within: Duration) -> Result<Option<Fetched>, Problem> {
    let deadline = tokio::time::Instant::now() + within;
    let mut sealed = part.sealed.clone();
    let follows = part.store.borrow().is_some() && part.following.borrow().as_ref().is_some_and(|one| one.follows());
    loop {
        sealed.mark_unchanged();
        if let Some(found) = kept(part, digest).await? {
            return Ok(Some(found));
        }
        if !follows {
            let following = part.following.borrow().clone();
            let Some(following) = following else { return Ok(None) };
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let asked = tokio::time::timeout(left, following.fetch(digest, left)).await;
            return Ok(asked.ok().and_then(Result::ok).flatten());
        }
        tokio::select! {
            changed = sealed.changed() => if changed.is_err() {
                return Ok(None);
            },
            () = tokio::time::sleep_until(deadline) => return Ok(None),
        }
    }
}

/// A record that is kept here.
async fn kept(part: &RecordsPart, digest: Digest) -> Result<Option<Fetched>, Problem> {
    let store = part.store.borrow().clone();
    let Some(store) = store else { return Ok(None) };
    let read = super::places::blocking(move || store.by_digest(&digest)).await?;
    let found = read.map_err(super::store_failed)?;
    Ok(found.and_then(|(batch, place)| fetched(&batch, place)))
}

impl PathPart for Digest {
    fn read(text: &str) -> Result<Self, Problem> {
        let whole = if text.contains(':') { text.to_owned() } else { format!("sha256:{text}") };
        whole.parse().map_err(|error| Problem::new(Code::BadPath, format!("the digest: {error}")))
    }
}

/// One record with what proves it. A node that does not keep it fetches it from a validator; a super knows records until
/// they expire, and their bodies until they are sealed.
#[utoipa::path(get, path = "/v1/records/{digest}", tag = "records",
    params(("digest" = String, Path, description = "`sha256:` and 64 hex digits, or the digits alone")),
    responses((status = 200, body = RecordView), (status = 404, description = "unknown_record")))]
pub async fn one(State(app): State<App>, Part(digest): Part<Digest>) -> Result<Response, Problem> {
    if let Some(part) = app.context().as_super() {
        let group = part.group.clone();
        let found = super::places::blocking(move || {
            let (known, at) = group.read(|state| {
                let (batch, at) = state.batch_of(&digest)?;
                Some((KnownBatch::of(state, batch), at))
            })?;
            known.views().find(|(place, _)| *place == at).map(|(_, view)| view)
        });
        let found = found.await?;
        return found.map(|view| Json(view).into_response()).ok_or_else(|| Problem::of(Code::UnknownRecord));
    }
    let part = app.records()?;
    if let Some(found) = kept(part, digest).await? {
        return Ok(Json(RecordView::of(&found)).into_response());
    }
    let following = part.following.borrow().clone();
    let following = following.ok_or_else(|| Problem::of(Code::UnknownRecord))?;
    match following.fetch(digest, Duration::ZERO).await {
        Ok(Some(found)) => Ok(Json(RecordView::of(&found)).into_response()),
        Ok(None) => Err(Problem::of(Code::UnknownRecord)),
        Err(why) => {
            Err(Problem::new(Code::UnknownRecord, format!("it is not kept here, and no validator gave it: {why}")))
        }
    }
}

/// What a super knows of a batch: taken out of the state, so that nobody waits while it is shown.
pub(super) struct KnownBatch {
    cluster: ClusterId,
    batch: Arc<Batch>,
    contents: Option<Arc<Contents>>,
}

impl KnownBatch {
    pub(super) fn of(state: &kernel::state::State, batch: &Arc<Batch>) -> Self {
        let contents = state.contents.get(&batch.number).map(Arc::clone);
        Self { cluster: state.meta.cluster.clone(), batch: Arc::clone(batch), contents }
    }

    /// Its records, with their places in it.
    pub(super) fn views(&self) -> impl Iterator<Item = (u32, RecordView)> {
        let proofs = self.batch.proofs(&self.cluster);
        (0..).zip(&self.batch.records).map(move |(at, entered)| {
            let record = self.contents.as_ref().and_then(|contents| contents.records.get(at as usize));
            let record = record.map(|arrived| &arrived.record);
            let proof = proofs.as_ref().and_then(|proofs| proofs.of(at));
            let view = RecordView {
                digest: entered.digest.to_string(),
                author: entered.author.to_string(),
                sequence: self.batch.sequence(at),
                state: proof.as_ref().map_or("ordered", |proof| proof.verdict.name()).into(),
                ordered_ms: self.batch.ordered_ms,
                header: record.and_then(|r| r.header()).map(|line| String::from_utf8_lossy(line).into_owned()),
                body: record.map(|record| STANDARD.encode(record.body())),
                signature: record.and_then(|record| record.signature).map(|signature| STANDARD.encode(signature.0)),
                certificate: proof.as_ref().map(CertificateView::of),
            };
            (at, view)
        })
    }
}

/// Sealed records, in order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecordsPage {
    /// The records, ascending by sequence number. Numbers that are missing belong to batches that are not sealed or kept.
    pub records: Vec<RecordView>,
    /// Where to go on; null at the end.
    pub next: Option<String>,
}

/// Sealed records that are kept here, ascending by sequence number: the newest page, or what comes after `after`.
#[utoipa::path(get, path = "/v1/records", tag = "records", params(ListQuery), responses((status = 200, body = RecordsPage)))]
pub async fn list(State(app): State<App>, Params(query): Params<ListQuery>) -> Result<Response, Problem> {
    let limit = query.limit(HISTORY_PAGE)?;
    let after: Option<u64> = match query.after.as_deref() {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Problem::new(Code::BadQuery, format!("after: `{text}` is not a sequence number")))?,
        ),
    };
    if let Some(part) = app.context().as_super() {
        let group = part.group.clone();
        let page = super::places::blocking(move || super_page(&group, after, limit)).await?;
        return Ok(Json(page).into_response());
    }
    let part = app.records()?;
    let store = part.store.borrow().clone();
    let Some(store) = store else {
        return Ok(Json(RecordsPage { records: Vec::new(), next: None }).into_response());
    };
    let read = super::places::blocking(move || {
        let after = match after {
            Some(after) => after,
            // The newest page.
            None => store.figures()?.last_sequence.unwrap_or(0).saturating_sub(limit as u64),
        };
        page(&store, after, limit)
    });
    let found = read.await?.map_err(super::store_failed)?;
    Ok(Json(found).into_response())
}

/// A page of what is kept here, of so many records and not too many bytes.
fn page(store: &Records, after: u64, limit: usize) -> Result<RecordsPage, StoreError> {
    let (mut records, mut bytes, mut batch) = (Vec::new(), 0, None::<(SealedBatch, Proofs)>);
    let found = store.by_sequence(after, limit)?;
    let mut whole = found.len() < limit;
    for Sequenced { at, place, .. } in found {
        if batch.as_ref().is_none_or(|(batch, _)| batch.at != at) {
            batch = store.sealed_at(at)?.map(|batch| {
                let proofs = batch.proofs();
                (batch, proofs)
            });
        }
        let found = batch.as_ref().and_then(|(batch, proofs)| fetched_by(batch, proofs, place));
        let Some(record) = found else { continue };
        bytes += record.record.payload.len();
        records.push(RecordView::of(&record));
        if bytes > PAGE_BYTES {
            whole = false;
            break;
        }
    }
    let next = records.last().filter(|_| !whole).map(|last: &RecordView| last.sequence.to_string());
    Ok(RecordsPage { records, next })
}

/// What a super knows of the latest records.
fn super_page(group: &Group, after: Option<u64>, limit: usize) -> RecordsPage {
    let (after, known) = group.read(|state| {
        let after = after.unwrap_or_else(|| state.meta.records.sequence.saturating_sub(limit as u64));
        let first = state.batches.values().rev().take_while(|batch| batch.sequence(batch.count) > after + 1).last();
        let (mut known, mut count) = (Vec::new(), 0);
        for batch in first.into_iter().flat_map(|first| state.batches.range(first.number..)).map(|(_, batch)| batch) {
            // Of the first one a part may have been told.
            count += batch.records.iter().zip(0..).filter(|(_, at)| batch.sequence(*at) > after).count();
            known.push(KnownBatch::of(state, batch));
            if count >= limit {
                break;
            }
        }
        (after, known)
    });
    let views = known.iter().flat_map(KnownBatch::views).map(|(_, view)| view);
    let records: Vec<RecordView> = views.filter(|view| view.sequence > after).take(limit).collect();
    let next = records.last().filter(|_| records.len() >= limit).map(|last: &RecordView| last.sequence.to_string());
    RecordsPage { records, next }
}

impl App {
    /// What this node does with records, or a problem that says whom to ask.
    pub(super) fn records(&self) -> Result<&RecordsPart, Problem> {
        self.context().records().ok_or_else(|| {
            if self.context().as_super().is_some() {
                return Problem::of(Code::AskANode);
            }
            Problem::new(Code::WrongRole, "a bootstrap node has no records").hint("ask a follower or a validator")
        })
    }
}
