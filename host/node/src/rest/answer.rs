//! Answers: a body, and how fresh it is.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use kernel::id::LogIndex;
use kernel::state::State;

/// Says how fresh a read is.
const READ: &str = "pingward-read";

/// How fresh the state is that is read: what had to be waited for has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh(&'static str);

impl Fresh {
    /// What this super has applied.
    pub const LOCAL: Self = Self("local");
    /// Not older than any answer before: only after the group was asked.
    pub(super) const LINEARIZABLE: Self = Self("linearizable");

    /// Reads.
    pub fn read<T>(self, state: &State, look: impl FnOnce(&State) -> T) -> Read<T> {
        Read { fresh: self, applied: state.meta.applied, body: look(state) }
    }
}

/// What was read, and up to which entry of the log it is true.
#[derive(Clone, Debug)]
pub struct Read<T> {
    /// How fresh it is.
    pub fresh: Fresh,
    /// The last applied entry.
    pub applied: LogIndex,
    /// What was read.
    pub body: T,
}

impl<A, T> Read<(A, T)> {
    /// What was read, and what was read with it.
    pub fn part(self) -> (A, Read<T>) {
        let (with, body) = self.body;
        (with, Read { fresh: self.fresh, applied: self.applied, body })
    }
}

impl<T, E> Read<Result<T, E>> {
    /// A read that may have found nothing.
    ///
    /// # Errors
    /// What it found instead.
    pub fn transpose(self) -> Result<Read<T>, E> {
        let (fresh, applied) = (self.fresh, self.applied);
        self.body.map(|body| Read { fresh, applied, body })
    }
}

impl Fresh {
    /// Says in an answer how fresh it is.
    pub fn tell(self, applied: LogIndex, response: &mut Response) {
        if let Ok(value) = HeaderValue::from_str(&format!("{}; applied={applied}", self.0)) {
            response.headers_mut().insert(READ, value);
        }
    }
}

impl<T: Serialize> IntoResponse for Read<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        self.fresh.tell(self.applied, &mut response);
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
