use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use kernel::envelope::CLAIM_TYPE;
use serde_json::json;
use tower::ServiceExt as _;

use super::rig::{Rig, TOKEN, ask, key};
use crate::rest::places::REQUESTS;
use crate::rest::{App, app, router};

#[tokio::test]
async fn whatever_is_asked_wrongly_is_a_problem_with_a_code() {
    let rig = Rig::new().await.with_followers(1).await;
    let before = rig.fingerprint();
    let node = key(1).id();
    for (method, path, code, status) in [
        ("GET", "/v1/nothing".to_string(), "unknown_route", 404),
        ("GET", "/v2/status".into(), "unknown_route", 404),
        ("POST", "/v1/status".into(), "wrong_method", 405),
        ("DELETE", "/v1/bans".into(), "wrong_method", 405),
        ("GET", "/v1/claims".into(), "wrong_method", 405),
        ("GET", "/v1/nodes?limit=0".into(), "bad_query", 400),
        ("GET", "/v1/nodes?limit=1001".into(), "bad_query", 400),
        ("GET", "/v1/nodes?limit=-1".into(), "bad_query", 400),
        ("GET", "/v1/nodes?limit=many".into(), "bad_query", 400),
        ("GET", "/v1/nodes?after=x".into(), "bad_query", 400),
        ("GET", "/v1/nodes?lim=5".into(), "bad_query", 400),
        ("GET", "/v1/rounds?after=x".into(), "bad_query", 400),
        ("GET", "/v1/rounds?after=99999999999999999999999".into(), "bad_query", 400),
        ("GET", "/v1/bans?after=1".into(), "bad_query", 400),
        ("GET", "/v1/changes?after=1-x".into(), "bad_query", 400),
        ("GET", "/v1/followers/queue?after=1".into(), "bad_query", 400),
        ("GET", "/v1/nodes/abc".into(), "bad_path", 400),
        ("GET", "/v1/nodes/%ff".into(), "bad_path", 400),
        ("GET", format!("/v1/nodes/{}", "0".repeat(64)), "bad_path", 400),
        ("GET", format!("/v1/nodes/{}", key(90).id()), "unknown_node", 404),
        ("GET", format!("/v1/accounts/{}", key(90).id()), "unknown_account", 404),
        ("GET", format!("/v1/accounts/{}/entries", key(90).id()), "unknown_account", 404),
        ("GET", "/v1/accounts/bank".into(), "bad_path", 400),
        ("GET", "/v1/rounds/99".into(), "unknown_round", 404),
        ("GET", "/v1/rounds/0".into(), "unknown_round", 404),
        ("GET", "/v1/rounds/-1".into(), "bad_path", 400),
        ("GET", format!("/v1/nodes/{node}/explain"), "unknown_route", 404),
    ] {
        let answer = rig.ask(Request::builder().method(method).uri(&path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (answer.code().as_str(), answer.status.as_u16()),
            (code, status),
            "{method} {path}: {}",
            answer.text
        );
        assert_eq!(answer.headers.contains_key("allow"), code == "wrong_method", "{method} {path}");
        let id = answer.headers["x-request-id"].to_str().unwrap();
        assert_eq!(answer.json()["instance"], format!("urn:uuid:{id}"));
    }
    assert_eq!(rig.fingerprint(), before);
}

/// A body that ends before it is whole.
fn broken() -> Body {
    let pieces =
        [Ok(Bytes::from_static(b"{\"reason\":")), Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))];
    Body::from_stream(tokio_stream::iter(pieces))
}

#[tokio::test]
async fn bodies_are_bounded_whole_and_json() {
    let rig = Rig::new().await.with_followers(1).await;
    let before = rig.fingerprint();
    let big = "x".repeat(96 * 1024 + 1);
    let endless = || {
        let pieces = std::iter::repeat_n(Ok::<_, Infallible>(Bytes::from_static(&[b' '; 4096])), 40);
        Body::from_stream(tokio_stream::iter(pieces))
    };
    for path in ["/v1/claims", "/v1/rounds/accept"] {
        let request =
            |body: Body| Request::post(path).header("authorization", format!("Bearer {TOKEN}")).body(body).unwrap();
        for (body, code, status) in [
            (Body::from(big.clone()), "body_too_large", 413),
            (endless(), "body_too_large", 413),
            (broken(), "body_truncated", 400),
        ] {
            let answer = rig.ask(request(body)).await;
            assert_eq!((answer.code().as_str(), answer.status.as_u16()), (code, status), "{path}");
        }
        let mut lying = request(Body::from("{}"));
        lying.headers_mut().insert("content-length", "99999999999".parse().unwrap());
        assert_eq!(rig.ask(lying).await.code(), "body_too_large");
    }
    for body in [
        "{",
        "[]",
        "\"x\"",
        "{\"reason\": 5}",
        "{\"why\": \"x\"}",
        "{\"reason\":\"a\",\"reason\":\"b\"}",
        "nul\0l",
        "{} {}",
    ] {
        let request = Request::post("/v1/rounds/accept").header("authorization", format!("Bearer {TOKEN}"));
        let answer = rig.ask(request.body(Body::from(body)).unwrap()).await;
        assert_eq!((answer.code().as_str(), answer.status), ("bad_json", StatusCode::BAD_REQUEST), "{body}");
    }
    assert_eq!(rig.fingerprint(), before);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let router = axum::Router::new().route(
        "/",
        axum::routing::post(async |request: axum::extract::Request| {
            crate::rest::input::body_within(request, 100, Duration::from_millis(5)).await.map(|_| ())
        }),
    );
    let silent = Body::from_stream(tokio_stream::pending::<Result<Bytes, Infallible>>());
    let answer = ask(&router, Request::post("/").body(silent).unwrap()).await;
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::REQUEST_TIMEOUT, &json!("body_timeout")));
}

#[tokio::test]
async fn panics_and_endless_work_end_as_problems_too() {
    let rig = Rig::new().await;
    let app = rig.app.clone();
    let routes = axum::Router::new()
        .route("/panic", get(async || -> &'static str { panic!("a secret of the house") }))
        .route("/never", get(std::future::pending::<&'static str>));
    let router = crate::rest::layers::around(routes, &app).with_state(app);
    let panic = ask(&router, Request::get("/panic").body(Body::empty()).unwrap()).await;
    assert_eq!((panic.code().as_str(), panic.status), ("internal", StatusCode::INTERNAL_SERVER_ERROR));
    assert!(!panic.text.contains("secret"));
    let never = ask(&router, Request::get("/never").body(Body::empty()).unwrap()).await;
    assert_eq!((never.code().as_str(), never.status), ("outcome_unknown", StatusCode::GATEWAY_TIMEOUT));
}

#[tokio::test]
async fn too_many_at_once_are_told_to_come_back() {
    let rig = Rig::new().await;
    let app = rig.app.clone();
    let routes = axum::Router::new().route("/", get(async || "ok"));
    let router = crate::rest::layers::around(routes, &app).with_state(app.clone());
    let all = app.places.requests.clone().acquire_many_owned(u32::try_from(REQUESTS).unwrap()).await.unwrap();
    let busy = ask(&router, Request::get("/").body(Body::empty()).unwrap()).await;
    assert_eq!(
        (busy.code().as_str(), &busy.headers["retry-after"]),
        ("busy", &"1".parse::<axum::http::HeaderValue>().unwrap())
    );
    drop(all);
    assert_eq!(ask(&router, Request::get("/").body(Body::empty()).unwrap()).await.text, "ok");
}

/// The app of a rig behind places of its own, with time for the slowest machine.
fn patient(rig: &Rig) -> App {
    app(Arc::clone(&rig.app.inner.context), rig.app.inner.admin.clone(), Duration::from_secs(2))
}

#[tokio::test]
async fn bodies_that_do_not_come_take_no_place() {
    let rig = Rig::new().await;
    let silent = || Body::from_stream(tokio_stream::pending::<Result<Bytes, Infallible>>());
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..=REQUESTS {
        let (router, request) = (rig.router.clone(), Request::post("/v1/claims").body(silent()).unwrap());
        slow.spawn(async move { ask(&router, request).await.code() });
    }
    // On one thread each of them runs until it waits.
    tokio::task::yield_now().await;
    assert_eq!(rig.get("/v1/status").await.status, StatusCode::OK);
    assert_eq!(rig.post("/v1/claims", "{").await.code(), "bad_envelope");
    assert!(slow.try_join_next().is_none(), "they wait for their bodies");
}

#[tokio::test]
async fn health_and_the_operators_entrance_have_places_of_their_own() {
    let rig = Rig::new().await.with_followers(1).await;
    let app = patient(&rig);
    let (tcp, all) = (router(app.clone()), u32::try_from(REQUESTS).unwrap());
    let _requests = app.places.requests.clone().acquire_many_owned(all).await.unwrap();
    let _reads = (app.places.lists.all(), app.places.history.all());
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(ask(&tcp, get("/v1/nodes")).await.code(), "busy");
    assert_eq!(ask(&tcp, get("/livez")).await.text, "ok\n");
    assert_eq!(ask(&tcp, get("/readyz")).await.code(), "not_ready", "it says what is missing, not that it is busy");
    assert_eq!(ask(&tcp, get("/metrics")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_taken_over_tcp_is_free_over_the_socket() {
    let rig = Rig::new().await.with_followers(1).await;
    let read = |router: &axum::Router| router.clone().oneshot(Request::get("/v1/events").body(Body::empty()).unwrap());
    let mut streams = Vec::new();
    while streams.last().is_none_or(|response: &Response| response.status() == StatusCode::OK) {
        streams.push(read(&rig.router).await.unwrap());
        assert!(streams.len() < 10_000, "event streams are bounded");
    }
    assert_eq!(streams.pop().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(read(&rig.socket).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn reads_take_turns_and_whoever_waits_too_long_is_told_to_come_back() {
    let rig = Rig::new().await.with_followers(1).await;
    let app = patient(&rig);
    let router = router(app.clone());
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let entries = format!("/v1/accounts/{}/entries", key(1).id());
    let history = app.places.history.all();
    assert!(!history.is_empty() && history.len() <= 64, "a few at once: {}", history.len());
    for path in ["/v1/bans?after=0", "/v1/rounds", "/v1/rounds/1/members", entries.as_str()] {
        let busy = ask(&router, get(path)).await;
        assert_eq!((busy.code().as_str(), busy.status), ("busy", StatusCode::SERVICE_UNAVAILABLE), "{path}");
        assert!(busy.headers.contains_key("retry-after"));
    }
    assert_eq!(ask(&router, get("/v1/nodes")).await.status, StatusCode::OK, "lists have turns of their own");
    drop(history);
    assert_eq!(ask(&router, get("/v1/bans?after=0")).await.status, StatusCode::OK);
    let _lists = (app.places.lists.all(), app.places.history.all());
    for path in ["/v1/nodes?name=zzz", "/v1/followers/queue", "/v1/rewards"] {
        assert_eq!(ask(&router, get(path)).await.code(), "busy", "{path}");
    }
    // What reads a row or two stands behind nobody, claims above all.
    let cluster = rig.group.read(|state| state.meta.cluster.to_string());
    let expires_ms = rig.group.now_ms() + 60_000;
    let payload = json!({ "cluster": cluster, "sequence": 1, "expires_ms": expires_ms, "amount": 1 }).to_string();
    let claim = serde_json::to_string(&key(1).envelope(CLAIM_TYPE, payload.as_bytes())).unwrap();
    let claim = Request::post("/v1/claims").body(Body::from(claim)).unwrap();
    assert_eq!(ask(&router, claim).await.code(), "overclaim");
    for path in ["/v1/status", "/v1/accounts/treasury", "/metrics"] {
        assert_eq!(ask(&router, get(path)).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_table_of_codes_is_served() {
    let rig = Rig::new().await;
    let table = rig.read("/v1/problems").await;
    let rows = table["problems"].as_array().unwrap();
    assert_eq!(rows.len(), crate::rest::problem::Code::ALL.len());
    assert!(rows.iter().all(|row| row["cause"].is_string() && row["hint"].is_string()));
}
