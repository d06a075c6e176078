//! What was read has a tag (`ETag`), and a change may be made to count only while that is still so (`If-Match`).
//!
//! The tag goes with the command, and whoever applies it looks: nothing comes between the look and the change. A tag covers
//! what people change there, not what every round changes: see `kernel::tags`. So a read is answered "not modified" only
//! where the tag covers all of it.

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use kernel::id::{Digest, LogIndex};

use super::App;
use super::access::By;
use super::answer::Read;
use super::problem::{Code, Problem};

/// Changes of what has a tag.
const CONDITIONAL: [&str; 9] = [
    "/v1/settings",
    "/v1/nodes/{node}/class",
    "/v1/policies/{slot}/accept",
    "/v1/policies/{slot}/activate",
    "/v1/policies/{slot}/rollback",
    "/v1/policies/{slot}/shadow",
    "/v1/cluster/members",
    "/v1/cluster/members/{node}",
    "/v1/cluster/members/{node}/promote",
];

/// A tag as it travels, quotes and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

impl From<Digest> for Tag {
    fn from(digest: Digest) -> Self {
        Self(format!("\"{digest}\""))
    }
}

impl From<LogIndex> for Tag {
    fn from(at: LogIndex) -> Self {
        Self(format!("\"{at}\""))
    }
}

impl Tag {
    /// The problem of whoever decided on what is no longer so.
    pub fn changed(self, what: &str) -> Problem {
        Problem::new(Code::Changed, format!("{what} changed since it was read: nothing was done")).with("etag", self.0)
    }
}

/// A read with its tag.
#[derive(Clone, Debug)]
pub struct Tagged<T> {
    read: Read<T>,
    tag: Option<Tag>,
    unchanged: bool,
}

impl<T> Tagged<T> {
    /// What was read, for whoever may have it already.
    pub fn whole(read: Read<(impl Into<Tag>, T)>, known: &IfNoneMatch) -> Self {
        let (tag, read) = read.part();
        let tag = tag.into();
        let unchanged = known.has(&tag);
        Self { read, tag: Some(tag), unchanged }
    }

    /// What was read, where the tag says nothing of some of it: its numbers are always told.
    pub fn live(read: Read<(Option<impl Into<Tag>>, T)>) -> Self {
        let (tag, read) = read.part();
        Self { read, tag: tag.map(Into::into), unchanged: false }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = self.read.into_response();
        if self.unchanged {
            let (mut parts, _) = response.into_parts();
            parts.status = StatusCode::NOT_MODIFIED;
            parts.headers.remove(header::CONTENT_TYPE);
            parts.headers.remove(header::CONTENT_LENGTH);
            response = Response::from_parts(parts, axum::body::Body::empty());
        }
        if let Some(value) = self.tag.and_then(|tag| HeaderValue::from_str(&tag.0).ok()) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    }
}

/// What a reader has already.
#[derive(Clone, Debug, Default)]
pub struct IfNoneMatch(Option<String>);

impl IfNoneMatch {
    fn has(&self, tag: &Tag) -> bool {
        let mut known = self.0.iter().flat_map(|list| list.split(',')).map(str::trim);
        known.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag.0)
    }
}

impl FromRequestParts<App> for IfNoneMatch {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        only(&parts.headers, &header::IF_NONE_MATCH).map(Self)
    }
}

/// What a change depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IfMatch(Option<String>);

impl IfMatch {
    /// A part of the state.
    pub fn digest(&self) -> Option<Digest> {
        // What is no tag of ours fits nothing.
        let digest = |tag: &String| unquoted(tag).and_then(|tag| tag.parse().ok()).unwrap_or(Digest([0; 32]));
        self.0.as_ref().map(digest)
    }

    /// A place in the log.
    pub fn place(&self) -> Option<LogIndex> {
        let place = |tag: &String| unquoted(tag).and_then(|tag| tag.parse().ok()).unwrap_or(u64::MAX);
        self.0.as_ref().map(place).map(LogIndex)
    }
}

fn unquoted(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

impl FromRequestParts<App> for IfMatch {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let Some(text) = only(&parts.headers, &header::IF_MATCH)? else { return Ok(Self(None)) };
        match text.trim() {
            // Whatever is there: these routes say themselves when nothing is.
            "*" => Ok(Self(None)),
            tag if tag.contains(',') => Err(Problem::new(Code::BadIfMatch, "If-Match has several tags")),
            tag => Ok(Self(Some(tag.into()))),
        }
    }
}

fn only(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let text = first.to_str().ok().filter(|_| values.next().is_none());
    let wrong = || Problem::new(Code::BadIfMatch, format!("{name} stands there twice or is no plain text"));
    text.map(|text| Some(text.into())).ok_or_else(wrong)
}

/// An operator, and what the decision depends on.
#[derive(Clone, Debug)]
pub struct Decider {
    /// Who.
    pub by: By,
    /// On what.
    pub only: IfMatch,
}

impl From<By> for Decider {
    fn from(by: By) -> Self {
        Self { by, only: IfMatch::default() }
    }
}

impl FromRequestParts<App> for Decider {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let by = By::from_request_parts(parts, app).await?;
        Ok(Self { by, only: IfMatch::from_request_parts(parts, app).await? })
    }
}

/// Refuses a condition where it would count for nothing.
pub async fn no_idle_condition(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let is_idle = !request.method().is_safe()
        && request.headers().contains_key(header::IF_MATCH)
        && route.is_some_and(|route| !CONDITIONAL.contains(&route));
    if is_idle {
        return Problem::new(Code::BadIfMatch, "what this route changes has no tag").into_response();
    }
    next.run(request).await
}
