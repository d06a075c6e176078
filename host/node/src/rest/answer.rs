//! Answers: a body, and how fresh it is.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use kernel::id::LogIndex;

/// Says how fresh a read is.
const READ: &str = "pingward-read";

/// What was read, and up to which entry of the log it is true. In a group of one that is all there is, so the read is
/// linearizable whatever was asked.
#[derive(Clone, Debug)]
pub struct Read<T> {
    /// The last applied entry.
    pub applied: LogIndex,
    /// What was read.
    pub body: T,
}

impl<T, E> Read<Result<T, E>> {
    /// A read that may have found nothing.
    ///
    /// # Errors
    /// What it found instead.
    pub fn transpose(self) -> Result<Read<T>, E> {
        let applied = self.applied;
        self.body.map(|body| Read { applied, body })
    }
}

impl<T: Serialize> IntoResponse for Read<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Ok(value) = HeaderValue::from_str(&format!("linearizable; applied={}", self.applied)) {
            response.headers_mut().insert(READ, value);
        }
        response
    }
}

/// A decision that was taken: its status and body.
#[derive(Clone, Debug)]
pub struct Done<T>(pub StatusCode, pub T);

impl<T: Serialize> IntoResponse for Done<T> {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}
