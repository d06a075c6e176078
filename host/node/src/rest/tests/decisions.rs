use axum::body::Body;
use axum::http::{Request, StatusCode};
use kernel::standing::Standing;
use serde_json::{Value, json};

use super::rig::{Rig, TOKEN, key};

/// Every route that changes the cluster by an operator's word.
fn decisions() -> Vec<(&'static str, String, Value)> {
    let node = key(1).id().to_string();
    vec![
        ("POST", "/v1/rounds/accept".into(), json!({ "reason": "real" })),
        ("POST", "/v1/policies/ban/accept".into(), json!({ "reason": "right" })),
        ("POST", "/v1/policies/ban/rollback".into(), json!({ "reason": "wrong" })),
        ("POST", "/v1/bans".into(), json!({ "node": node, "rounds": 3, "reason": "asked" })),
        ("POST", "/v1/bans/lift".into(), json!({ "node": node, "reason": "back" })),
        (
            "POST",
            "/v1/compensations".into(),
            json!({ "lines": [{ "node": node, "points": 5, "round": 1 }], "reason": "ours" }),
        ),
        ("PUT", format!("/v1/nodes/{node}/class"), json!({ "class": 2 })),
        ("PUT", "/v1/settings".into(), json!({ "settings": { "round.interval_ms": 5000 } })),
    ]
}

#[tokio::test]
async fn without_a_token_nothing_is_decided() {
    let rig = Rig::new().await.with_followers(2).await;
    let before = rig.fingerprint();
    for (method, path, body) in decisions() {
        let request = |header: Option<&str>| {
            let request = Request::builder().method(method).uri(&path);
            let request = header.into_iter().fold(request, |request, value| request.header("authorization", value));
            request.body(Body::from(body.to_string())).unwrap()
        };
        let none = rig.ask(request(None)).await;
        assert_eq!((none.code().as_str(), none.status), ("no_token", StatusCode::UNAUTHORIZED), "{path}");
        assert!(none.headers.contains_key("www-authenticate"));
        let almost = TOKEN.replace("aa", "ab");
        for wrong in ["Bearer", "Bearer x", &format!("Basic {TOKEN}"), &format!("Bearer {almost}")] {
            let answer = rig.ask(request(Some(wrong))).await;
            assert_eq!((answer.code().as_str(), answer.status), ("bad_token", StatusCode::UNAUTHORIZED), "{wrong}");
        }
        let mut cross = request(Some(&format!("Bearer {TOKEN}")));
        cross.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert_eq!(rig.ask(cross).await.code(), "cross_site");
    }
    assert_eq!(rig.fingerprint(), before);
    let read = Request::get("/v1/nodes").header("authorization", "Bearer x").body(Body::empty()).unwrap();
    assert_eq!(rig.ask(read).await.code(), "bad_token", "a wrong token is never taken for none");
}

#[tokio::test]
async fn each_decision_is_taken_answered_and_in_the_change_log() {
    let mut rig = Rig::new().await.with_followers(3).await;
    rig.settle(&[]).await;
    let node = key(1).id();
    let mut all = decisions().into_iter();
    let mut next = async || {
        let (method, path, body) = all.next().unwrap();
        rig.operate(method, &path, &body).await
    };
    let accepted = next().await;
    assert_eq!((accepted.status, accepted.json()), (StatusCode::OK, json!({ "round": 2, "up": 3 })));
    assert_eq!(next().await.json(), json!({ "slot": "ban" }));
    assert_eq!(next().await.code(), "nothing_to_roll_back");
    let banned = next().await;
    assert_eq!((banned.status, &banned.json()["until_round"]), (StatusCode::CREATED, &json!(5)));
    assert_eq!(rig.group.read(|state| state.members[&node].hot.standing), Standing::Banned);
    assert_eq!(rig.read(&format!("/v1/nodes/{node}")).await["ban"]["reason"], "asked");
    assert_eq!(next().await.json(), json!({ "changed": 1 }));
    assert_eq!(rig.group.read(|state| state.members[&node].hot.standing), Standing::Good);
    assert_eq!(next().await.json(), json!({ "lines": 1, "points": 5 }));
    let entries = rig.read(&format!("/v1/accounts/{node}/entries?limit=1")).await;
    assert_eq!(
        (&entries["entries"][0]["kind"], &entries["entries"][0]["reason"]),
        (&json!("compensation"), &json!("ours"))
    );
    assert_eq!(next().await.json(), json!({ "node": node.to_string(), "class": 2 }));
    let set = next().await;
    assert_eq!((set.status, set.json()), (StatusCode::ACCEPTED, json!({ "round": 4, "memory_empty": 0 })));
    assert_eq!(
        rig.read("/v1/settings").await["next"],
        json!({ "round": 4, "settings": { "round.interval_ms": 5000 } })
    );

    let changes = rig.read("/v1/changes").await;
    let by_token: Vec<_> =
        changes["changes"].as_array().unwrap().iter().filter(|change| change["by"] == "token").collect();
    assert_eq!(by_token.len(), 7, "{changes}");
    assert_eq!(by_token[0]["reason"], "real");
    assert_eq!((&by_token[6]["from"], &by_token[6]["to"]), (&json!("10000"), &json!("5000")));
    let bans = rig.read("/v1/bans").await;
    assert_eq!((&bans["bans"][0]["by"], &bans["bans"][0]["active"]), (&json!("token"), &json!(false)));
}

#[tokio::test]
async fn a_wrong_decision_changes_nothing_and_says_which_field() {
    let rig = Rig::new().await.with_followers(1).await;
    let before = rig.fingerprint();
    let (node, stranger) = (key(1).id().to_string(), key(99).id().to_string());
    let a_super = key(200).id().to_string();
    let line = |node: &str, points: i64, round: u64| json!({ "lines": [{ "node": node, "points": points, "round": round }], "reason": "x" });
    let long = "x".repeat(201);
    for (method, path, body, code, detail) in [
        ("POST", "/v1/bans", json!({ "node": "x", "rounds": 3, "reason": "r" }), "bad_json", "node"),
        ("POST", "/v1/bans", json!({ "node": stranger, "rounds": 3, "reason": "r" }), "unknown_node", &stranger),
        ("POST", "/v1/bans", json!({ "node": a_super, "rounds": 3, "reason": "r" }), "wrong_role", "a super"),
        ("POST", "/v1/bans/lift", json!({ "node": a_super, "reason": "r" }), "wrong_role", "a super"),
        ("POST", "/v1/bans", json!({ "node": node, "rounds": 0, "reason": "r" }), "out_of_bounds", "rounds"),
        ("POST", "/v1/bans", json!({ "node": node, "rounds": 3, "reason": " " }), "bad_json", "reason"),
        ("POST", "/v1/bans", json!({ "node": node, "rounds": 3, "reason": long }), "malformed", "reason"),
        ("POST", "/v1/bans", json!({ "node": node, "rounds": 3 }), "bad_json", "reason"),
        ("POST", "/v1/bans", json!({ "node": node, "rounds": 3, "reason": "r", "until": 3 }), "bad_json", "until"),
        ("POST", "/v1/bans/lift", json!({ "reason": "r" }), "bad_json", "node"),
        ("POST", "/v1/bans/lift", json!({ "node": node, "policy": "x", "reason": "r" }), "bad_json", "either"),
        ("POST", "/v1/bans/lift", json!({ "policy": "x", "since": 1, "reason": "r" }), "bad_json", "policy"),
        ("POST", "/v1/bans/lift", json!({ "nodes": [node, "x"], "reason": "r" }), "bad_json", "nodes[1]"),
        ("POST", "/v1/bans/lift", json!({ "node": stranger, "reason": "r" }), "unknown_node", &stranger),
        ("POST", "/v1/compensations", json!({ "lines": [], "reason": "r" }), "out_of_bounds", "lines"),
        ("POST", "/v1/compensations", line(&node, 0, 1), "out_of_bounds", "points"),
        ("POST", "/v1/compensations", line(&node, 5, 9), "out_of_bounds", "round"),
        ("POST", "/v1/compensations", line(&stranger, 5, 1), "unknown_node", &stranger),
        ("POST", "/v1/compensations", line("x", 5, 1), "bad_json", "lines[0].node"),
        ("PUT", "/v1/settings", json!({ "settings": {} }), "out_of_bounds", "settings"),
        ("PUT", "/v1/settings", json!({ "settings": { "round.intervall_ms": 1 } }), "bad_setting", "round.interval_ms"),
        ("PUT", "/v1/settings", json!({ "settings": { "round.interval_ms": 1 } }), "bad_setting", "from 500"),
        ("PUT", "/v1/settings", json!({ "settings": { "round.interval_ms": [1] } }), "bad_json", "round.interval_ms"),
        (
            "PUT",
            "/v1/settings",
            json!({ "settings": { "round.interval_ms": 600, "round.ping_timeout_ms": 400 } }),
            "bad_setting",
            "half",
        ),
        ("POST", "/v1/policies/dance/accept", json!({}), "unknown_slot", "reward"),
        ("POST", "/v1/policies/signing/accept", json!({}), "malformed", "use ban"),
        (
            "POST",
            "/v1/policies/signing/shadow",
            json!({ "digest": format!("sha256:{}", "0".repeat(64)) }),
            "not_of_rounds",
            "no rounds",
        ),
        ("POST", "/v1/validators", json!({ "node": node, "address": "a:1" }), "wrong_role", ""),
        ("POST", "/v1/validators", json!({ "node": stranger, "address": "a" }), "bad_json", "address"),
        ("POST", "/v1/records/retry", json!({ "batch": 1 }), "unknown_batch", ""),
        ("POST", "/v1/policies/ban/rollback", json!({}), "nothing_to_roll_back", ""),
    ] {
        let answer = rig.operate(method, path, &body).await;
        assert_eq!(answer.code(), code, "{path} {body}: {}", answer.text);
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{detail}: {}", answer.text);
    }
    // What the kernel refuses is an entry of the log that changes nothing.
    let after = rig.fingerprint();
    assert_eq!((after.1, after.2), (before.1, before.2));
    assert!(rig.read("/v1/changes?after=0").await["changes"].as_array().unwrap().iter().all(|c| c["by"] != "token"));
}
