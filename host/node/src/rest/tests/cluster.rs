use axum::http::StatusCode;
use serde_json::{Value, json};

use super::pair::{One, pair, patient};
use super::rig::{Rig, key};

const MEMBERS: &str = "/v1/cluster/members";

/// Promotes the second super as soon as it has caught up.
async fn promote(first: &One, second: &One) -> Value {
    patient(async {
        loop {
            let answer = first.operate("POST", &format!("{MEMBERS}/{}/promote", second.key), &json!({})).await;
            if answer.status == StatusCode::OK {
                return answer.json();
            }
            let code = answer.code();
            assert!(["not_caught_up", "unreachable"].contains(&code.as_str()), "{}", answer.text);
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_group_of_one_has_one_member() {
    let rig = Rig::new().await;
    assert_eq!(rig.get(MEMBERS).await.code(), "no_token");
    let members = rig.operate("GET", MEMBERS, &json!({})).await;
    assert!(members.headers["pingward-read"].to_str().unwrap().starts_with("linearizable; "));
    assert_eq!(
        members.json(),
        json!({ "members": [{
            "node": key(200).id().to_string(), "name": "super-1", "address": "127.0.0.1:7001", "replica": 0, "seat": 0,
            "state": "voter", "leader": true, "lag": 0, "reachable": true,
        }] })
    );
    let (one, nobody) = (key(200).id(), key(9).id());
    let before = rig.fingerprint().0;
    for (method, path, body, code, status) in [
        ("DELETE", format!("{MEMBERS}/{one}"), json!({}), "quorum", 409),
        ("DELETE", format!("{MEMBERS}/{nobody}"), json!({}), "unknown_member", 404),
        ("POST", format!("{MEMBERS}/{one}/promote"), json!({}), "already_member", 409),
        ("POST", format!("{MEMBERS}/{nobody}/promote"), json!({}), "unknown_member", 404),
        ("POST", MEMBERS.into(), json!({ "node": one.to_string(), "address": "a:1" }), "already_member", 409),
        ("POST", MEMBERS.into(), json!({ "node": nobody.to_string(), "address": "a" }), "bad_json", 400),
        (
            "POST",
            MEMBERS.into(),
            json!({ "node": nobody.to_string(), "address": format!("{one}@a:1") }),
            "bad_json",
            400,
        ),
        ("POST", MEMBERS.into(), json!({ "node": "abc", "address": "a:1" }), "bad_json", 400),
        ("POST", MEMBERS.into(), json!({ "node": nobody.to_string(), "address": "a:1", "seat": 1 }), "bad_json", 400),
        ("DELETE", format!("{MEMBERS}/abc"), json!({}), "bad_path", 400),
    ] {
        let answer = rig.operate(method, &path, &body).await;
        assert_eq!((answer.code().as_str(), answer.status.as_u16()), (code, status), "{method} {path} {}", answer.text);
    }
    let last = rig.operate("DELETE", &format!("{MEMBERS}/{one}"), &json!({})).await.json();
    assert!(last["detail"].as_str().unwrap().starts_with("0 of 0 voters"), "the numbers are told: {last}");
    assert_eq!(rig.fingerprint().0, before, "nothing of it reached the log");
    // Nobody is there: the place that its replica would have had is used up, and nothing else.
    let body = json!({ "node": nobody.to_string(), "address": "super-9:7001" });
    assert_eq!(rig.operate("POST", MEMBERS, &body).await.code(), "unreachable");
    assert_eq!(rig.operate("GET", MEMBERS, &json!({})).await.json()["members"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_super_is_added_promoted_and_removed_through_any_of_them() {
    let [first, second] = pair().await;
    let waiting = second.get("/v1/nodes").await;
    assert_eq!((waiting.code().as_str(), waiting.status.as_u16()), ("not_in_group", 503));
    assert_eq!(second.get(MEMBERS).await.code(), "not_in_group");
    assert_eq!(second.get("/v1/status").await.status, StatusCode::OK, "it says what it is all the same");
    assert_eq!(second.get("/readyz").await.code(), "not_ready");

    let body = json!({ "node": second.key.to_string(), "address": second.address });
    let added = first.operate("POST", MEMBERS, &body).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    let replica = added.json()["replica"].as_u64().unwrap();
    patient(second.group.joined()).await.unwrap();
    let learner = first.get(MEMBERS).await.json()["members"][1].clone();
    assert_eq!(
        (&learner["state"], &learner["seat"], &learner["name"]),
        (&json!("learner"), &Value::Null, &json!("super-1")),
        "{learner}"
    );
    assert_eq!(promote(&first, &second).await["replica"], replica);

    let voter = first.get(MEMBERS).await.json()["members"][1].clone();
    assert_eq!((&voter["state"], &voter["seat"]), (&json!("voter"), &json!(1)), "{voter}");
    assert!(voter["lag"].is_u64() && voter["reachable"].is_boolean(), "the leader knows: {voter}");
    // Another super knows who leads, and not how the others keep up.
    let told = second.get(MEMBERS).await;
    assert!(told.headers["pingward-read"].to_str().unwrap().starts_with("linearizable; "));
    for member in told.json()["members"].as_array().unwrap() {
        let leads = member["node"] == first.key.to_string();
        assert_eq!(
            (&member["leader"], &member["lag"], &member["reachable"]),
            (&json!(leads), &Value::Null, &Value::Null)
        );
    }
    assert_eq!(second.get("/readyz").await.status, StatusCode::OK, "whoever follows a leader is ready");
    // What was decided here is read there, and what is decided there counts.
    let set = json!({ "settings": { "round.interval_ms": 5_000 } });
    assert_eq!(second.operate("PUT", "/v1/settings", &set).await.status, StatusCode::ACCEPTED);
    for one in [&first, &second] {
        let settings = one.get("/v1/settings").await.json();
        assert_eq!(settings["next"]["settings"]["round.interval_ms"], 5_000, "{settings}");
    }
    // Both have the same, and anyone who may can see that.
    let [one, two] = [&first, &second].map(|one| one.operate("GET", "/v1/cluster/state", &Value::Null));
    let (one, two) = (one.await.json(), two.await.json());
    assert_eq!(one, two);
    assert_eq!(one["round"], Value::Null);
    assert!(one["digest"].as_str().unwrap().starts_with("sha256:"), "{one}");

    let removed = second.operate("DELETE", &format!("{MEMBERS}/{}", second.key), &json!({})).await;
    assert_eq!(
        (removed.status, removed.json()["replica"].as_u64()),
        (StatusCode::OK, Some(replica)),
        "{}",
        removed.text
    );
    assert_eq!(first.get(MEMBERS).await.json()["members"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn where_nobody_leads_only_a_local_read_is_answered() {
    let [first, second] = pair().await;
    let body = json!({ "node": second.key.to_string(), "address": second.address });
    assert_eq!(first.operate("POST", MEMBERS, &body).await.status, StatusCode::CREATED);
    patient(second.group.joined()).await.unwrap();
    promote(&first, &second).await;
    assert_eq!(second.get("/v1/nodes").await.status, StatusCode::OK);
    patient(first.group.kill()).await;

    let refused = second.get("/v1/nodes").await;
    assert_eq!((refused.code().as_str(), refused.status.as_u16()), ("no_leader", 503));
    assert!(refused.json()["hint"].as_str().unwrap().contains("?read=local"), "{}", refused.text);
    let nodes = second.get("/v1/nodes?read=local").await;
    assert_eq!(nodes.status, StatusCode::OK);
    assert!(nodes.headers["pingward-read"].to_str().unwrap().starts_with("local; applied="));
    assert_eq!(nodes.json()["nodes"].as_array().unwrap().len(), 2);
    let members = second.get(&format!("{MEMBERS}?read=local")).await.json();
    assert_eq!(members["members"].as_array().unwrap().len(), 2, "who is gone is still a member: {members}");
    for path in ["/v1/status", "/livez", "/metrics", "/v1/settings?read=local", "/v1/rounds?read=local"] {
        assert_eq!(second.get(path).await.status, StatusCode::OK, "{path}");
    }
}
