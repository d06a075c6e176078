use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use super::rig::{Rig, key};
use crate::rest::health::openapi_text;

fn described() -> Value {
    serde_json::from_str(&openapi_text(&crate::rest::openapi())).unwrap()
}

/// Every method and path of the description.
fn operations(api: &Value) -> Vec<(String, String, Value)> {
    let paths = api["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn the_description_is_served_and_names_every_route_of_the_contract() {
    let rig = Rig::new().await;
    let served = rig.read("/openapi.json").await;
    assert_eq!(served, described());
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1"));
    let found: Vec<String> =
        operations(&served).into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    for route in [
        "GET /v1/status",
        "GET /v1/followers/queue",
        "GET /v1/nodes",
        "GET /v1/nodes/{node}",
        "GET /v1/rewards",
        "POST /v1/claims",
        "GET /v1/accounts/{key}",
        "GET /v1/accounts/{key}/entries",
        "GET /v1/bans",
        "GET /v1/rounds",
        "GET /v1/rounds/{round}",
        "POST /v1/rounds/accept",
        "POST /v1/policies/{slot}/accept",
        "POST /v1/policies/{slot}/rollback",
        "POST /v1/bans",
        "POST /v1/bans/lift",
        "POST /v1/compensations",
        "PUT /v1/nodes/{node}/class",
        "PUT /v1/settings",
        "GET /v1/settings",
        "GET /v1/changes",
        "GET /v1/cluster/members",
        "POST /v1/cluster/members",
        "GET /v1/cluster/state",
        "GET /v1/cluster/backup",
        "DELETE /v1/cluster/members/{node}",
        "POST /v1/cluster/members/{node}/promote",
        "GET /v1/events",
        "GET /v1/policies",
        "POST /v1/transfers",
        "GET /v1/validators",
        "POST /v1/validators",
        "DELETE /v1/validators/{node}",
        "POST /v1/evidence",
        "GET /v1/directory",
        "POST /v1/records",
        "GET /v1/records",
        "GET /v1/records/{digest}",
        "GET /v1/records/watch",
        "POST /v1/records/retry",
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /",
    ] {
        assert!(found.iter().any(|known| known == route), "{route} is not in {found:?}");
    }
}

#[tokio::test]
async fn every_described_operation_exists_and_every_change_wants_an_operator_or_a_signature() {
    let rig = Rig::new().await;
    for (method, path, operation) in operations(&described()) {
        let real = path.replace("{node}", &key(1).id().to_string()).replace("{key}", "treasury");
        let real = real.replace("{slot}", "ban").replace("{round}", "1").replace("{digest}", &"0".repeat(64));
        // They go on for ever.
        if ["/v1/events", "/v1/records/watch"].contains(&path.as_str()) {
            continue;
        }
        let answer = rig.ask(Request::builder().method(method.as_str()).uri(&real).body(Body::empty()).unwrap()).await;
        let is_problem = answer.headers["content-type"] == "application/problem+json";
        let code = if is_problem { answer.code() } else { String::new() };
        assert!(code != "unknown_route" && code != "wrong_method", "{method} {path}: {}", answer.text);
        let is_admin = operation["security"].is_array();
        assert_eq!(is_admin, code == "no_token", "{method} {path} without a token: {}", answer.text);
        let is_signed = ["/v1/claims", "/v1/transfers", "/v1/evidence", "/v1/records"].contains(&path.as_str());
        assert!(method == "GET" || is_admin || is_signed, "{method} {path} changes something for everybody");
        assert!(
            operation["responses"]["default"]["content"]["application/problem+json"].is_object(),
            "{method} {path}"
        );
        assert!(
            operation["summary"].is_string() || operation["description"].is_string(),
            "{method} {path} says what it does"
        );
    }
}

#[test]
fn every_reference_of_the_description_leads_somewhere() {
    fn walk(value: &Value, api: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                object.values().for_each(|value| walk(value, api));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, api)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let api = described();
    walk(&api, &api);
}

#[test]
fn the_checked_in_description_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/openapi.json");
    let text = openapi_text(&crate::rest::openapi());
    if std::env::var_os("PINGWARD_WRITE_OPENAPI").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == text,
        "run `PINGWARD_WRITE_OPENAPI=1 cargo test -p node --lib openapi` and commit {}",
        path.display()
    );
}
