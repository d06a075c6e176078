//! Every error of the API, in the form of RFC 9457, from one table.
//!
//! A problem says what happened (`title`, `detail`), where (`instance` names the request, `detail` the place in it), how to
//! mend it (`hint`), and a `code` that is a word and never changes. The command line shows the same code.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use kernel::members::Refusal;
use kernel::outcome::Reject;

use super::tag::Tag;
use crate::group::GroupError;

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($name:ident $code:literal $status:literal $title:literal, $cause:literal, $hint:literal;)*) => {
        /// What can go wrong. The table is the whole of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its row of the table.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row { code: $code, status: $status, title: $title, cause: $cause, hint: $hint },)*
                }
            }
        }
    };
}

/// A row of the table of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Row {
    /// A word that never changes.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened, in general.
    pub title: &'static str,
    /// What it comes from.
    pub cause: &'static str,
    /// How to mend it.
    pub hint: &'static str,
}

codes! {
    UnknownRoute "unknown_route" 404 "there is no such route",
        "the path is no route of this API", "GET /openapi.json lists all routes";
    WrongMethod "wrong_method" 405 "the route does not take this method",
        "the path is a route, but not for this method", "see the Allow header and GET /openapi.json";
    WrongRole "wrong_role" 404 "a node of another role has this",
        "the route is not served by nodes of this role, or the key belongs to a super", "ask a super";
    BadQuery "bad_query" 400 "the query is not understood",
        "a parameter is unknown, out of its bounds or not of its type", "GET /openapi.json lists each route's parameters";
    BadPath "bad_path" 400 "the path is not understood",
        "a part of the path is not of its type", "nodes and accounts are 64 hex digits, rounds are whole numbers";
    BadJson "bad_json" 400 "the body is not the JSON that this route takes",
        "the body is no JSON, a field is unknown or missing, or a value is not of its type",
        "GET /openapi.json has the form of each route's body";
    BodyTooLarge "body_too_large" 413 "the body is too large",
        "the body has more bytes than this route takes", "send less; a compensation may be cut into several";
    BodyTruncated "body_truncated" 400 "the body ended early",
        "fewer bytes came than the request announced", "send it again, whole";
    BodyTimeout "body_timeout" 408 "the body came too slowly",
        "the body was not complete within its time", "send it again, at once";
    Busy "busy" 503 "this node is busy",
        "as many requests are under way as this node takes at once", "try again after the seconds of Retry-After";
    TooManyStreams "too_many_streams" 503 "too many readers of the event stream",
        "as many event streams are open as this node serves", "close one, or read another node's stream";
    OutcomeUnknown "outcome_unknown" 504 "no answer came in time",
        "the request was taken and its answer did not come in time: it may count or not",
        "send a signed request again as it is, which is harmless; read GET /v1/changes before repeating a decision";
    NoLeader "no_leader" 503 "no super leads",
        "a majority of the supers does not answer, or they are just choosing another leader: nothing was done",
        "try again in a second; GET /v1/status names the leader";
    NotInGroup "not_in_group" 503 "this super belongs to no group yet",
        "it is empty and waits to be added", "run `pingward cluster add` on the group, as this super's log says";
    Stopping "stopping" 503 "this node is stopping",
        "the node was told to stop", "ask again when it is back; a signed request may be sent again as it is";
    Internal "internal" 500 "a fault of this node",
        "a bug or a broken disk", "the node's log has the details under the request's id; please report it";
    StoreFailed "store_failed" 500 "the history cannot be read",
        "the disk failed or a row is damaged", "the node's log has the details; check the disk, then start the node again";
    NoToken "no_token" 401 "this needs an operator",
        "the route changes the cluster, and the request has no admin token",
        "send `Authorization: Bearer` with the content of data_dir/admin.token, or use the socket data_dir/admin.sock";
    BadToken "bad_token" 401 "this is not the admin token",
        "the token is not the one of this node", "use the content of data_dir/admin.token of the node that you ask";
    CrossSite "cross_site" 403 "a browser sent this from another site",
        "a page of another origin made the request", "use the command line, or a page that this node serves";
    BadEnvelope "bad_envelope" 400 "the envelope is not understood",
        "the body is no DSSE envelope with exactly one signature",
        "send {payloadType, payload, signatures: [{keyid, sig}]}, payload and sig in base64, keyid the key in hex";
    WrongType "wrong_type" 400 "the payload is signed for another purpose",
        "payloadType is not the one of this route", "sign it with the payload type that the route names";
    WeakKey "weak_key" 400 "this is not a usable key",
        "keyid is no ed25519 public key, or one under which signatures can be forged",
        "make a key with `pingward key new`";
    BadSignature "bad_signature" 403 "the signature does not verify",
        "the signature is not this key's over this type and payload",
        "sign the DSSE pre-authentication encoding of the payload's bytes exactly as sent";
    BadPayload "bad_payload" 400 "the signed payload is not understood",
        "the payload is no JSON of its type, or a field is unknown or missing",
        "see the form of the payload in GET /openapi.json; sign it anew";
    WrongCluster "wrong_cluster" 403 "this is meant for another cluster",
        "the cluster named is not this one, or another life of it",
        "GET /v1/status names the cluster as id#genesis; sign it anew with that";
    Expired "expired" 400 "it has expired",
        "expires_ms is not in the cluster's future", "check your clock, sign it anew with a later expires_ms";
    ExpiresTooLate "expires_too_late" 400 "it expires too far ahead",
        "a signed payload may live for 24 hours at most", "sign it anew with an earlier expires_ms";
    Overclaim "overclaim" 409 "more was claimed than was earned",
        "the amount is above the earned points: nothing is paid, a penalty is taken once, the sequence is used up",
        "read GET /v1/accounts/{key} first, or claim \"all\"";
    StaleSequence "stale_sequence" 409 "the sequence was used before",
        "the sequence is not above the last one of this key", "sign it anew with the sequence in `next` or a higher one";
    NothingToPay "nothing_to_pay" 409 "there is nothing to pay",
        "nothing is earned, or the amount does not cover the fee of a new wallet", "claim at least the amount in `least`";
    Insufficient "insufficient" 409 "the wallet does not hold enough",
        "what it takes is above the wallet's balance: nothing was done, and no sequence is used up",
        "claim earned points into this wallet first, or ask for less; GET /v1/accounts/{key} shows the balance";
    AskANode "ask_a_node" 403 "supers take no records",
        "users' data goes to followers and validators, which hand it on",
        "send it to a follower or a validator; GET /v1/directory lists the validators";
    SignIt "sign_it" 401 "this needs the author's signature",
        "a body without a signature is authored and paid by the node itself, so only its operator may hand one in",
        "send a DSSE envelope, as `pingward record submit --key FILE` does; or use the node's token or admin socket, or set records.raw = \"open\" in its config";
    Forged "forged" 400 "the records are not what they claim to be",
        "a signature or digest of what was handed on does not verify", "hand it in again; report it if it stays so";
    NoPolicy "no_policy" 503 "no signing policy is in force",
        "the slot `signing` is empty, so nobody could judge a record", "an operator stages and activates one: `pingward policy stage signing FILE`";
    NoValidators "no_validators" 503 "there are no validators",
        "nobody could sign a record", "an operator adds them: `pingward validators add KEY@HOST:PORT`";
    RecordsFull "records_full" 503 "there is no room for more records",
        "records wait for signatures, or too many have not expired yet", "try again later; `pingward validators list` shows whether validators are there";
    NoSuper "no_super" 503 "no super can be reached",
        "this node is attached to no super, or none answers", "look at GET /v1/status of this node; the same record may be sent again";
    UnknownRecord "unknown_record" 404 "there is no such record",
        "no record of this digest was ordered, or it is not kept any more", "check the digest; ask another node, or a validator";
    UnknownBatch "unknown_batch" 404 "there is no such batch",
        "the batch does not exist or is sealed", "GET /v1/status lists batches that are stuck";
    StaleSet "stale_set" 409 "the set of validators changed",
        "signatures of another set came late", "nothing: the new set signs again by itself";
    Unsigned "unsigned" 409 "the signatures do not prove it",
        "a signature does not verify, or the two attestations are no offence", "see detail";
    UnknownValidator "unknown_validator" 404 "there is no such validator",
        "the key is not in the set", "GET /v1/validators lists the set";
    UnknownNode "unknown_node" 404 "there is no such node",
        "no member and no super has this key", "GET /v1/nodes lists all nodes";
    UnknownAccount "unknown_account" 404 "there is no such account",
        "the key is no member and has no wallet", "GET /v1/rewards lists members; a wallet comes with its first points";
    UnknownRound "unknown_round" 404 "this round cannot be shown",
        "it is not settled yet, or history does not go back that far", "GET /v1/rounds?after=0 begins with the oldest one kept";
    NotCalled "not_called" 409 "the policy was not called in this round",
        "the slot had no policy, it was not prepared, or the round was suspect and nobody was judged",
        "see the round's `slots` in GET /v1/rounds/{round}; take another round";
    InputsUnknown "inputs_unknown" 409 "what the policy saw cannot be told for certain",
        "history does not reach back far enough, or another release settled the round and this one rebuilds it otherwise",
        "take a later round; the releases that were in between can tell theirs";
    TooManyMembers "too_many_members" 409 "too many members for one answer",
        "the round has more members than one answer holds", "name those that you mean with `nodes`";
    UnknownSlot "unknown_slot" 404 "there is no such slot",
        "the slots are `reward`, `ban` and `signing`", "use one of them";
    NotOfRounds "not_of_rounds" 409 "the slot decides no rounds",
        "its policy runs on validators when records come: no round was decided by it, and none can be played again",
        "try a signing rule on records of your own: `pingward policy test` and `pingward policy check` need no node";
    UnknownPolicy "unknown_policy" 404 "there is no such policy in the slot",
        "no policy of this digest is staged or in use", "GET /v1/policies lists them";
    NothingToRollBack "nothing_to_roll_back" 409 "the slot has no previous policy",
        "no other policy was in force before, or it failed and was dropped", "activate a staged one instead";
    PolicyNotReady "policy_not_ready" 409 "the policy is not ready",
        "a majority of the supers has not compiled and tested it",
        "`missing` names them, with the reason where one cannot; GET /v1/policies tells when they are ready";
    NotAdmitted "not_admitted" 422 "the component is not admitted",
        "it failed a check of admission; the cluster does not hear of it, and what decides goes on",
        "`findings` says what is wrong and how to mend it; `pingward policy check` runs the same checks without a node";
    BadForm "bad_form" 400 "the form is not understood",
        "the body is no multipart/form-data, or a part is unknown, missing or not of its type",
        "send the parts `component`, a file, and `config`, JSON text";
    TooEarly "too_early" 409 "the round is too early",
        "a change of rules counts from two rounds after the last settled one", "use the round in `earliest` or a later one";
    BadChunk "bad_chunk" 400 "a piece of the component does not fit",
        "it is out of order, too big, or the whole has another digest", "send on from `received`";
    NothingSettled "nothing_settled" 409 "no round is settled yet",
        "the cluster has just been founded", "wait for the first settled round";
    OutOfBounds "out_of_bounds" 400 "a number is out of its bounds",
        "a length, count or amount is below its least or above its largest value", "use a value from `min` to `max`";
    BadSetting "bad_setting" 400 "a setting was not taken",
        "the key is unknown, or the value is not of its type, out of bounds or in conflict with another",
        "GET /v1/settings lists all keys; nothing of the change was taken";
    Malformed "malformed" 400 "a text is too long or has characters that are not allowed",
        "a name, address or reason is not as it should be", "see `detail`";
    AlreadyFounded "already_founded" 409 "the cluster exists already",
        "a cluster is founded once", "name another data_dir for another cluster";
    NotFounded "not_founded" 503 "there is no cluster yet",
        "this super has not founded or joined one", "wait, or see the node's log";
    StaleTerm "stale_term" 409 "another leader has taken over",
        "the term is not above the last one", "ask the leader that GET /v1/status names";
    StaleSettlement "stale_settlement" 409 "the settlement does not fit",
        "its round, digests or settings are not the ones in force", "nothing to do: the round is settled otherwise";
    Banned "banned" 403 "the node is banned",
        "its policy or an operator banned it", "wait until the earliest return";
    Outdated "outdated" 403 "the protocol version is not accepted",
        "the node's release is too old or too new for this cluster", "install a release that speaks a version in the range";
    PortMismatch "port_mismatch" 403 "the node does not connect from the port that it declares",
        "something between rewrites the port, such as NAT",
        "set follower.connect_port to a port that stays, or round.require_declared_port = false on the supers";
    PortTaken "port_taken" 409 "another node has that address and port",
        "two nodes share one address and port", "give each its own follower.connect_port";
    Full "full" 503 "the cluster is full",
        "the queue, the table of members or the network group has no room", "try again later, or raise the bound";
    SlowDown "slow_down" 429 "too much in one round",
        "the joins of this round, or the claims of this key in it, are used up; nothing of it counts",
        "try again after the next round, a signed request as it is";
    Changed "changed" 412 "it changed since it was read",
        "the tag in If-Match is not the one that it has: somebody else changed it",
        "read it again, decide again, and send the new tag in If-Match; it stands in `etag`";
    BadIfMatch "bad_if_match" 400 "the condition is not understood",
        "If-Match has several tags, or the route changes what has no tag",
        "send the one tag of the read, or leave the header out";
    AlreadyMember "already_member" 409 "the super is in the group already",
        "a replica of that key answers, or it is a voter already", "`pingward cluster members` lists the group";
    UnknownMember "unknown_member" 404 "the super is not in the group",
        "no replica of the group has that key", "`pingward cluster members` lists the group; `pingward cluster add` adds one";
    GroupFull "group_full" 409 "the group of supers is full",
        "all seats or all places of replicas are taken", "remove a super first";
    GroupBusy "group_busy" 409 "the group is being changed",
        "another change is under way, and there is one at a time", "ask again when it is done";
    Unreachable "unreachable" 409 "the super does not answer",
        "it is not running, is cut off, or has another key or address", "start it, and check its key and address";
    NotCaughtUp "not_caught_up" 409 "the super has not caught up",
        "it still lacks entries of the log", "ask again later; `pingward cluster members` shows how many it lacks";
    Quorum "quorum" 409 "the group would lose its quorum",
        "too few voters answer, before or after the change", "bring one back first, or add and promote another one";
    Invitation "invitation" 409 "the super does not join",
        "it is not empty, belongs to another cluster, or does not name this group",
        "give it an empty data_dir, the group's cluster.id, and supers of the group in cluster.supers";
    ChangeRefused "change_refused" 409 "the group was not changed",
        "the group's own rules refuse it", "see `detail`";
    NotReady "not_ready" 503 "this node is not ready",
        "see `checks`", "see the hint of each check";
}

/// One error.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Which.
    pub code: Code,
    /// What happened this time, and where.
    pub detail: String,
    /// How to mend it, where that is more exact than the table.
    pub hint: Option<String>,
    /// Numbers that a program can go on with.
    pub more: Map<String, Value>,
}

/// A problem as it travels.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemView {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, in general.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and where.
    pub detail: String,
    /// The request's id, as in the header x-request-id and in the node's log.
    pub instance: Option<String>,
    /// A word that never changes.
    pub code: &'static str,
    /// How to mend it.
    pub hint: String,
    /// Numbers that a program can go on with; which ones depends on the code.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub more: Map<String, Value>,
}

impl Problem {
    /// A problem with its own words for what happened.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), hint: None, more: Map::new() }
    }

    /// A problem for which the table says all there is to say.
    #[must_use]
    pub fn of(code: Code) -> Self {
        Self::new(code, code.row().cause)
    }

    /// Says how to mend it, more exactly than the table.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds something that a program can go on with.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_string(), value.into());
        self
    }

    /// What is wrong and how to mend it, in a line.
    #[must_use]
    pub fn words(&self) -> String {
        let ProblemView { detail, hint, .. } = self.view(None);
        if hint.is_empty() { detail } else { format!("{detail}; {hint}") }
    }

    /// As it travels.
    #[must_use]
    pub fn view(&self, instance: Option<&str>) -> ProblemView {
        let row = self.code.row();
        ProblemView {
            kind: format!("/v1/problems#{}", row.code),
            title: row.title,
            status: row.status,
            detail: self.detail.clone(),
            instance: instance.map(|id| format!("urn:uuid:{id}")),
            code: row.code,
            hint: self.hint.clone().unwrap_or_else(|| row.hint.to_string()),
            more: self.more.clone(),
        }
    }

    /// The answer, with the id of its request where that is known.
    #[must_use]
    pub fn response(self, instance: Option<&str>) -> Response {
        let status = StatusCode::from_u16(self.code.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.view(instance))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pingward\""));
        }
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            let wait_s = self.more.get("retry_ms").and_then(Value::as_u64).map_or(1, |ms| ms.div_ceil(1_000).max(1));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        }
        let tag = self.more.get("etag").and_then(Value::as_str).and_then(|tag| HeaderValue::from_str(tag).ok());
        if let Some(tag) = tag {
            headers.insert(header::ETAG, tag);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response(None)
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Stopped => Self::of(Code::Stopping),
            GroupError::NoLeader => Self::of(Code::NoLeader),
            GroupError::Unknown => Self::of(Code::OutcomeUnknown),
            GroupError::TooLong => Self::of(Code::BodyTooLarge),
            GroupError::NotInGroup => Self::of(Code::NotInGroup),
        }
    }
}

impl From<Reject> for Problem {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::AlreadyFounded => Self::of(Code::AlreadyFounded),
            Reject::NotFounded => Self::of(Code::NotFounded),
            Reject::StaleTerm { term } => Self::of(Code::StaleTerm).with("term", term.0),
            Reject::StaleSettlement { settled, why } => {
                Self::new(Code::StaleSettlement, why).with("settled", settled.0)
            }
            Reject::UnknownNode => Self::of(Code::UnknownNode),
            Reject::WrongRole => Self::new(
                Code::WrongRole,
                "the key belongs to a super, which is never in the queue: nobody judges or bans it",
            )
            .hint("name a follower: GET /v1/nodes shows each node's role"),
            Reject::Banned { until, reason } => {
                Self::new(Code::Banned, format!("banned through round {until}: {reason}"))
                    .with("until_round", until.0)
                    .with("reason", reason)
            }
            Reject::OutdatedVersion { accept } => {
                Self::new(Code::Outdated, format!("accepted: {accept}")).with("accept", accept)
            }
            Reject::Full { what } => Self::new(Code::Full, format!("full: {what}")),
            Reject::SlowDown => Self::of(Code::SlowDown),
            Reject::Malformed { what } => Self::new(Code::Malformed, what),
            Reject::Overclaim { penalty, earned } => {
                let detail = format!("nothing is paid; the penalty is {penalty}, {earned} earned points are left");
                Self::new(Code::Overclaim, detail).with("penalty", penalty.0).with("earned", earned.0)
            }
            Reject::StaleSequence { next } => {
                Self::new(Code::StaleSequence, format!("the lowest free sequence is {next}")).with("next", next)
            }
            Reject::Expired { now_ms } => {
                Self::new(Code::Expired, format!("the cluster's time is {now_ms} ms")).with("now_ms", now_ms)
            }
            Reject::ExpiresTooLate { latest_ms } => {
                Self::new(Code::ExpiresTooLate, format!("the latest expiry is {latest_ms} ms"))
                    .with("latest_ms", latest_ms)
            }
            Reject::NothingToPay { least, earned } => {
                Self::new(Code::NothingToPay, format!("{earned} points are earned, at least {least} must be claimed"))
                    .with("least", least.0)
                    .with("earned", earned.0)
            }
            Reject::Setting { key, error } => Self::new(Code::BadSetting, format!("{key}: {error}")).with("key", key),
            Reject::UnknownPolicy => Self::of(Code::UnknownPolicy),
            Reject::NothingToRollBack => Self::of(Code::NothingToRollBack),
            Reject::NotReady { missing } => {
                let missing: Vec<u8> = missing.iter().map(|seat| seat.0).collect();
                Self::new(Code::PolicyNotReady, format!("seats {missing:?} have not acknowledged it"))
                    .with("missing", missing)
            }
            Reject::TooEarly { earliest } => {
                Self::new(Code::TooEarly, format!("the earliest round is {earliest}")).with("earliest", earliest.0)
            }
            Reject::BadChunk { received, why } => Self::new(Code::BadChunk, why).with("received", received),
            Reject::NothingSettled => Self::of(Code::NothingSettled),
            Reject::NoPolicy => Self::of(Code::NoPolicy),
            Reject::NoValidators => Self::of(Code::NoValidators),
            Reject::RecordsFull { what } => Self::new(Code::RecordsFull, what),
            Reject::Insufficient { needed, balance } => {
                Self::new(Code::Insufficient, format!("it takes {needed} points, and the wallet holds {balance}"))
                    .with("needed", needed.0)
                    .with("balance", balance.0)
            }
            Reject::UnknownBatch => Self::of(Code::UnknownBatch),
            Reject::StaleAttempt { attempt } => {
                Self::new(Code::Unsigned, format!("attempt {attempt} is under way")).with("attempt", attempt)
            }
            Reject::StaleSet { version } => {
                Self::new(Code::StaleSet, format!("the set has version {version}")).with("version", version)
            }
            Reject::Unsigned { why } => Self::new(Code::Unsigned, why),
            Reject::UnknownValidator => Self::of(Code::UnknownValidator),
            Reject::ValidatorsNotReady { ready, needed } => {
                Self::new(Code::PolicyNotReady, format!("{ready} validators have acknowledged it, {needed} must"))
                    .with("ready", ready)
                    .with("needed", needed)
            }
            Reject::Changed { tag } => Tag::from(tag).changed("what this decides about"),
            Reject::OutOfBounds { what, min, max } => {
                Self::new(Code::OutOfBounds, format!("{what} must be from {min} to {max}"))
                    .with("field", what)
                    .with("min", min)
                    .with("max", max)
            }
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::WrongCluster { ours } => Self::new(Code::WrongCluster, format!("this is {ours}"))
                .hint("mend cluster.id; if the cluster was founded anew, remove data_dir/known.json"),
            Refusal::Outdated { accept } => {
                Self::new(Code::Outdated, format!("accepted: {accept}")).with("accept", accept.clone())
            }
            Refusal::Banned { until, until_ms, reason } => {
                Self::new(Code::Banned, format!("banned through round {until}: {reason}"))
                    .with("until_round", until.0)
                    .with("until_ms", *until_ms)
                    .with("reason", reason.clone())
            }
            Refusal::PortMismatch { declared, seen } => {
                Self::new(Code::PortMismatch, format!("declared {declared}, seen {seen}"))
                    .with("declared", *declared)
                    .with("seen", *seen)
            }
            Refusal::PortTaken => Self::of(Code::PortTaken),
            Refusal::Busy { retry_ms } => {
                Self::new(Code::Busy, format!("come back after {retry_ms} ms")).with("retry_ms", *retry_ms)
            }
            Refusal::Full { what, retry_ms } => {
                Self::new(Code::Full, format!("full: {what}; come back after {retry_ms} ms"))
                    .with("retry_ms", *retry_ms)
            }
            Refusal::SlowDown { retry_ms } => {
                Self::new(Code::SlowDown, format!("come back after {retry_ms} ms")).with("retry_ms", *retry_ms)
            }
            Refusal::WrongRole => Self::new(Code::WrongRole, "the key belongs to a super")
                .hint("give the follower a key of its own: another key_file"),
            Refusal::Malformed { what } => Self::new(Code::Malformed, what.clone()),
        }
    }
}

/// The table, as `GET /v1/problems` shows it.
#[must_use]
pub fn table() -> Value {
    json!({ "problems": Code::ALL.iter().map(|code| code.row()).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_a_word_of_its_own_with_cause_and_cure() {
        let mut words = BTreeSet::new();
        for code in Code::ALL {
            let row = code.row();
            assert!(words.insert(row.code), "{} stands twice", row.code);
            assert!(row.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.code);
            assert!((400..600).contains(&row.status), "{}", row.code);
            for text in [row.title, row.cause, row.hint] {
                assert!(text.len() > 5 && !text.ends_with('.'), "{}: {text}", row.code);
            }
            let view = Problem::of(*code).view(Some("7"));
            assert_eq!((view.status, view.code, view.hint.as_str()), (row.status, row.code, row.hint));
            assert_eq!(view.kind, format!("/v1/problems#{}", row.code));
        }
    }

    #[test]
    fn a_refusal_has_the_same_word_on_the_stream_and_in_the_api() {
        let all = [
            Refusal::WrongCluster { ours: "lab#00".into() },
            Refusal::Outdated { accept: ">=0.1".into() },
            Refusal::Banned { until: kernel::id::RoundId(9), until_ms: 9_000, reason: "5 misses".into() },
            Refusal::PortMismatch { declared: 1, seen: 2 },
            Refusal::PortTaken,
            Refusal::Busy { retry_ms: 5 },
            Refusal::Full { what: "the queue".into(), retry_ms: 5 },
            Refusal::SlowDown { retry_ms: 5 },
            Refusal::WrongRole,
            Refusal::Malformed { what: "the name".into() },
        ];
        for refusal in &all {
            assert_eq!(Problem::from(refusal).code.row().code, refusal.code());
        }
    }
}
