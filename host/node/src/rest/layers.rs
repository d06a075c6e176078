//! What is around every route: an id for the request, its count, a net under panics, bounds on time and number, and
//! the wall against other sites' pages.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::App;
use super::access::same_site;
use super::places::Place;
use super::problem::{Code, Problem};
use super::tag::no_idle_condition;
use crate::tasks::panic_text;

/// An answer that has not begun by then is given up: longer than any commit, shorter than clients wait.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the layers around the routes.
pub fn around(routes: Router<App>, app: &App) -> Router<App> {
    routes
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), bounded))
        .layer(from_fn(no_idle_condition))
        .layer(from_fn(same_site))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), named_and_counted))
}

async fn unknown_route(request: Request) -> Problem {
    Problem::new(Code::UnknownRoute, format!("{} is no route", request.uri().path()))
}

async fn wrong_method(request: Request) -> Problem {
    Problem::new(Code::WrongMethod, format!("{} does not take {}", request.uri().path(), request.method()))
}

/// Gives the request an id, counts it, and writes the id into its problem. Outermost: whatever happened inside, this is
/// what the client sees.
async fn named_and_counted(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = fresh_id();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_string();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if problem.code.row().status >= 500 {
            tracing::warn!(
                request = id,
                route,
                code = problem.code.row().code,
                detail = problem.detail,
                "a request failed"
            );
        }
        // Headers that a layer inside has set, such as Allow, stay.
        let allow = response.headers_mut().remove(header::ALLOW);
        response = problem.response(Some(&id));
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    let metrics = &app.context().metrics;
    metrics.request(method, &route, response.status().as_u16());
    if ![super::events::ROUTE, super::watch::ROUTE].contains(&route.as_str()) {
        metrics.request_seconds.observe(began.elapsed().as_secs_f64());
    }
    response
}

/// Refuses what is too much at once, and gives up what takes too long. The head of an answer only: an event stream may
/// go on for ever.
async fn bounded(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let place = Place::among(&app.places.requests);
    if !route.is_some_and(|route| super::health::ALWAYS.contains(&route)) {
        if request.method().is_safe()
            && let Err(busy) = place.take()
        {
            return busy.into_response();
        }
        request.extensions_mut().insert(place.clone());
    }
    match tokio::time::timeout(app.inner.answer_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::of(Code::OutcomeUnknown).into_response(),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    tracing::error!(panic = panic_text(&*panic), "a request panicked");
    Problem::of(Code::Internal).into_response()
}

/// Bounded: methods are the clients' too.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A UUID of version 4: 122 random bits.
fn fresh_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness ids repeat, which costs a reader of logs some time and nothing else.
    let _ = getrandom::fill(&mut bytes);
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |range| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        let id = fresh_id();
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        assert_ne!(id, fresh_id());
    }
}
