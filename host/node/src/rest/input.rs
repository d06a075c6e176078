//! What clients send, read once and checked whole: bodies within their bounds, queries without unknown parameters, ids.

use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};

use kernel::id::{LogIndex, NodeId, RoundId};
use store::{LineKey, MoveKey};

use super::App;
use super::places::Place;
use super::problem::{Code, Problem};

/// Bytes of a body: an envelope of the largest record, base64.
pub const BODY_BYTES: usize = 96 << 10;
/// Bytes of a compensation: 10,000 lines of key, points, round and reason.
pub const COMPENSATION_BYTES: usize = 4 << 20;
/// A body that is not complete by then is given up.
pub const BODY_TIME: Duration = Duration::from_secs(10);
/// Items of a page.
pub const PAGE: u16 = 1_000;
/// Items of a page of history, where the client does not say.
pub const HISTORY_PAGE: u16 = 100;

/// A JSON body of at most `LIMIT` bytes. The content type is not looked at: nothing but JSON is taken.
#[derive(Clone, Debug)]
pub struct Json<T, const LIMIT: usize = BODY_BYTES>(pub T);

impl<T: DeserializeOwned, const LIMIT: usize> FromRequest<App> for Json<T, LIMIT> {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let bytes = body(request, LIMIT).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        object(bytes).map(Self).map_err(|what| Problem::new(Code::BadJson, what))
    }
}

/// Reads a JSON object. Nothing else is one: a list of the fields' values in their order, which serde would take, is a
/// guess.
///
/// # Errors
/// What is wrong, with its place.
pub fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Some(_) | None => Err("expected a JSON object".into()),
    }
}

/// The whole body of a request, within its bytes and its time. The request takes its place when the body is there.
///
/// # Errors
/// `body_too_large`, `body_timeout`, `body_truncated`, `busy`.
pub async fn body(request: Request, limit: usize) -> Result<Bytes, Problem> {
    body_within(request, limit, BODY_TIME).await
}

/// The same, within another time.
///
/// # Errors
/// As [`body`].
pub async fn body_within(request: Request, limit: usize, within: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(Code::BodyTooLarge, format!("this route takes at most {limit} bytes"))
            .with("limit_bytes", u64::try_from(limit).unwrap_or(u64::MAX))
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<u64>().ok()).is_some_and(|bytes| bytes > limit as u64) {
        return Err(too_large());
    }
    let place = request.extensions().get::<Place>().cloned();
    let whole = Limited::<Body>::new(request.into_body(), limit).collect();
    match tokio::time::timeout(within, whole).await {
        Err(_) => Err(Problem::of(Code::BodyTimeout)),
        Ok(Ok(collected)) => {
            place.map_or(Ok(()), |place| place.take())?;
            Ok(collected.to_bytes())
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::of(Code::BodyTruncated)),
    }
}

/// The query, without unknown parameters.
#[derive(Clone, Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(params)| Self(params)).map_err(|error| {
            let text = error.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::new(Code::BadQuery, text)
        })
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadLevel {
    /// What this super has applied.
    Local,
    /// Not older than any answer that anybody got before.
    #[default]
    Linearizable,
}

/// Parameters of a read.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadQuery {
    /// How fresh, `linearizable` where nothing is said; the header `Pingward-Read` of the answer says which it was, and the
    /// applied index.
    pub read: Option<ReadLevel>,
}

impl ReadQuery {
    /// How fresh.
    pub fn level(&self) -> ReadLevel {
        self.read.unwrap_or_default()
    }
}

/// Parameters of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Items of a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
    /// Go on after this: the `next` of the page before. For lists of the past, 0 begins with the oldest.
    pub after: Option<String>,
    /// How fresh, `linearizable` where nothing is said; the header `Pingward-Read` of the answer says which it was, and the
    /// applied index.
    pub read: Option<ReadLevel>,
}

impl ListQuery {
    /// How fresh.
    pub fn level(&self) -> ReadLevel {
        self.read.unwrap_or_default()
    }

    /// How many items.
    ///
    /// # Errors
    /// `bad_query` outside the bounds.
    pub fn limit(&self, default: u16) -> Result<usize, Problem> {
        limit(self.limit, default)
    }

    /// Where to go on.
    ///
    /// # Errors
    /// `bad_query` when it is no `next` of this list.
    pub fn after<T: Cursor>(&self) -> Result<Option<T>, Problem> {
        after(self.after.as_deref())
    }
}

/// How many items a page is to have.
///
/// # Errors
/// `bad_query` outside the bounds.
pub fn limit(limit: Option<u16>, default: u16) -> Result<usize, Problem> {
    match limit.unwrap_or(default) {
        limit @ 1..=PAGE => Ok(limit.into()),
        limit => Err(Problem::new(Code::BadQuery, format!("limit: {limit} is not from 1 to {PAGE}"))),
    }
}

/// Where to go on.
///
/// # Errors
/// `bad_query` when it is no `next` of this list.
pub fn after<T: Cursor>(after: Option<&str>) -> Result<Option<T>, Problem> {
    let Some(text) = after else { return Ok(None) };
    let key = T::read(text);
    key.map(Some).ok_or_else(|| Problem::new(Code::BadQuery, format!("after: `{text}` is not a place in this list")))
}

/// A place in a list, as text that clients hand back.
pub trait Cursor: Sized {
    /// From text.
    fn read(text: &str) -> Option<Self>;
    /// To text.
    fn write(&self) -> String;
}

impl Cursor for NodeId {
    fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl Cursor for RoundId {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl Cursor for LineKey {
    fn read(text: &str) -> Option<Self> {
        let (index, part) = if text == "0" { ("0", "0") } else { text.split_once('-')? };
        Some(Self { index: LogIndex(index.parse().ok()?), part: part.parse().ok()? })
    }
    fn write(&self) -> String {
        format!("{}-{}", self.index, self.part)
    }
}

impl Cursor for MoveKey {
    fn read(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self { round: RoundId(0), index: LogIndex(0), node: NodeId([0; 32]) });
        }
        let mut parts = text.splitn(3, '-');
        let (round, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { round: RoundId(round), index: LogIndex(index), node: NodeId::parse(parts.next()?).ok()? })
    }
    fn write(&self) -> String {
        format!("{}-{}-{}", self.round, self.index, self.node)
    }
}

/// One part of the path, of its type.
#[derive(Clone, Debug)]
pub struct Part<T>(pub T);

impl<T: PathPart> FromRequestParts<App> for Part<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) = text.map_err(|error| Problem::new(Code::BadPath, error.body_text()))?;
        T::read(&text).map(Self)
    }
}

/// What can stand in a path.
pub trait PathPart: Sized {
    /// From text.
    ///
    /// # Errors
    /// A problem that says what is wrong.
    fn read(text: &str) -> Result<Self, Problem>;
}

impl PathPart for NodeId {
    fn read(text: &str) -> Result<Self, Problem> {
        Self::parse(text).map_err(|error| Problem::new(Code::BadPath, format!("the node: {error}")))
    }
}

impl PathPart for RoundId {
    fn read(text: &str) -> Result<Self, Problem> {
        text.parse().map(Self).map_err(|_| Problem::new(Code::BadPath, "the round is not a whole number"))
    }
}

impl PathPart for kernel::decide::Slot {
    fn read(text: &str) -> Result<Self, Problem> {
        Self::from_str(text).map_err(|error| Problem::new(Code::UnknownSlot, error.to_string()))
    }
}

/// Refuses a slot that decides no rounds, where rounds are what is asked for.
///
/// # Errors
/// `not_of_rounds`.
pub fn of_rounds(slot: kernel::decide::Slot) -> Result<(), Problem> {
    if kernel::decide::Slot::OF_ROUNDS.contains(&slot) {
        return Ok(());
    }
    Err(Problem::new(Code::NotOfRounds, format!("the {slot} policy decides no rounds: it runs when records come")))
}

impl PathPart for String {
    fn read(text: &str) -> Result<Self, Problem> {
        Ok(text.to_string())
    }
}

/// Reads a text field as an id.
///
/// # Errors
/// `bad_json` that names the field.
pub fn id<T: FromStr<Err = kernel::id::ParseIdError>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::new(Code::BadJson, format!("{field}: {error}")))
}
