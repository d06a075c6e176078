//! A component over REST: staged, tried on past rounds, activated, shadowed; and all that is no component.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use kernel::decide::Slot;
use serde_json::{Value, json};

use super::rig::{Answer, Rig, TOKEN};
use crate::builtin;

/// Parts of a form: name and bytes.
type Parts<'a> = &'a [(&'a str, &'a [u8])];

fn form(parts: Parts<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        body.extend(format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--\r\n");
    body
}

async fn send(rig: &Rig, path: &str, kind: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(path).header("authorization", format!("Bearer {TOKEN}")).header("content-type", kind);
    // Admission takes longer than the impatient routes of the rig wait.
    rig.ask(request.body(Body::from(body)).unwrap()).await
}

async fn upload(rig: &Rig, path: &str, parts: Parts<'_>) -> Answer {
    send(rig, path, "multipart/form-data; boundary=x", form(parts)).await
}

fn strikes() -> &'static [u8] {
    builtin::of(Slot::Ban).component
}

async fn staged(rig: &Rig, config: &str) -> Value {
    let answer = upload(rig, "/v1/policies/ban", &[("component", strikes()), ("config", config.as_bytes())]).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_component_is_staged_activated_and_named_by_its_digest() {
    let rig = Rig::new().await.with_followers(2).await;
    let staged = staged(&rig, " {\"warn\": 1, \"ban\": 3, \"suspend\": 2 }").await;
    assert_eq!((&staged["slot"], &staged["name"]), (&json!("ban"), &json!("ban-strikes")));
    assert_eq!(staged["replicas"][0]["state"], "ready", "{staged}");
    assert_eq!(staged["replicas"][0]["name"], "super-1");
    let listed = rig.read("/v1/policies").await;
    let one = &listed["slots"]["ban"]["staged"][0];
    assert_eq!((&one["digest"], &one["config"]), (&staged["digest"], &json!({ "warn": 1, "suspend": 2, "ban": 3 })));

    let activate = async |body: Value| rig.operate("POST", "/v1/policies/ban/activate", &body).await;
    let digest = staged["digest"].clone();
    assert_eq!(activate(json!({ "digest": "sha256:00" })).await.code(), "bad_json");
    assert_eq!(
        activate(json!({ "digest": listed["slots"]["reward"]["active"]["digest"] })).await.code(),
        "unknown_policy"
    );
    assert_eq!(activate(json!({ "digest": digest, "round": 2 })).await.code(), "too_early");
    let answer = activate(json!({ "digest": digest, "round": 9, "reason": "stricter" })).await;
    assert_eq!((answer.status, &answer.json()["round"]), (StatusCode::ACCEPTED, &json!(9)), "{}", answer.text);
    let slot = rig.read("/v1/policies").await["slots"]["ban"].clone();
    let scheduled = &slot["scheduled"];
    assert_eq!(
        (&scheduled["digest"], &scheduled["round"], &scheduled["emergency"]),
        (&digest, &json!(9), &json!(false))
    );
    assert_eq!(slot["staged"], json!([]));
    let changes = rig.read("/v1/changes").await;
    let what: Vec<&str> =
        changes["changes"].as_array().unwrap().iter().rev().take(2).map(|c| c["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["policy ban from round 9", "policy ban staged"]);
}

#[tokio::test]
async fn what_is_no_component_is_refused_before_the_cluster_hears_of_it() {
    let rig = Rig::new().await;
    let before = rig.fingerprint();
    let path = "/v1/policies/ban";
    for (parts, code, detail) in [
        (&[("component", &b"\0asm garbage"[..])][..], "not_admitted", "component"),
        (&[("component", b"")], "not_admitted", "size"),
        (&[("config", b"{}")], "bad_form", "component"),
        (&[("component", strikes()), ("config", b"{\"warn\":0.5}")], "bad_form", "a fraction"),
        (&[("component", strikes()), ("config", b"{\"wurn\":1}")], "not_admitted", "wurn"),
        (&[("component", strikes()), ("config", b"\xff")], "bad_form", "UTF-8"),
        (&[("component", strikes()), ("component", strikes())], "bad_form", "two parts"),
        (&[("component", strikes()), ("konfig", b"{}")], "bad_form", "konfig"),
    ] {
        let answer = upload(&rig, path, parts).await;
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{detail}: {}", answer.text);
    }
    let findings = upload(&rig, path, &[("component", b"\0asm garbage")]).await.json()["findings"].clone();
    assert!(findings[0]["check"].is_string() && findings[0]["cure"].is_string(), "{findings}");
    assert_eq!(upload(&rig, "/v1/policies/reward", &[("component", strikes())]).await.code(), "not_admitted");
    assert_eq!(upload(&rig, "/v1/policies/dance", &[("component", strikes())]).await.code(), "unknown_slot");
    assert_eq!(send(&rig, path, "application/json", b"{}".to_vec()).await.code(), "bad_form");
    let cut = form(&[("component", strikes())]);
    assert_eq!(
        send(&rig, path, "multipart/form-data; boundary=x", cut[..cut.len() / 2].to_vec()).await.code(),
        "bad_form"
    );
    assert_eq!(send(&rig, path, "multipart/form-data; boundary=x", vec![0; 5 << 20]).await.code(), "body_too_large");
    assert_eq!(rig.fingerprint(), before);
}

#[tokio::test]
async fn a_policy_that_too_few_supers_can_run_is_not_activated_and_the_answer_names_them() {
    use kernel::command::{Command, Unready};
    use kernel::id::Seat;
    let rig = Rig::new().await.with_followers(1).await;
    let digest = staged(&rig, "{}").await["digest"].clone();
    let policy = digest.as_str().unwrap().parse().unwrap();
    rig.propose(Command::Unready(Unready { seat: Seat(0), policy, why: "compile: no memory".into() })).await;
    let answer = rig.operate("POST", "/v1/policies/ban/activate", &json!({ "digest": digest })).await;
    assert_eq!(answer.code(), "policy_not_ready");
    let problem = answer.json();
    assert!(problem["detail"].as_str().unwrap().contains("super-1 (compile: no memory)"), "{problem}");
    assert_eq!(problem["missing"][0]["state"], "failed");
}

#[tokio::test]
async fn an_emergency_goes_without_the_notice_and_says_so() {
    let rig = Rig::new().await.with_followers(1).await;
    let digest = staged(&rig, "{}").await["digest"].clone();
    rig.operate("PUT", "/v1/settings", &json!({ "settings": { "guardrails.notice_rounds": 50 } })).await;
    let mut rig = rig;
    for _ in 0..2 {
        rig.settle(&[]).await;
    }
    let now = rig.fingerprint().2;
    let early = rig.operate("POST", "/v1/policies/ban/activate", &json!({ "digest": digest, "round": now + 10 })).await;
    assert_eq!((early.code().as_str(), &early.json()["earliest"]), ("too_early", &json!(now + 50)));
    let body = json!({ "digest": digest, "emergency": true, "reason": "it bans everybody" });
    let answer = rig.operate("POST", "/v1/policies/ban/activate", &body).await;
    assert_eq!(answer.json()["round"], now + 2, "{}", answer.text);
    assert_eq!(rig.read("/v1/policies").await["slots"]["ban"]["scheduled"]["emergency"], true);
}

#[tokio::test]
async fn a_signing_rule_is_staged_and_what_plays_rounds_again_refuses_it() {
    let rig = Rig::new().await.with_followers(1).await;
    let parts: [(&str, &[u8]); 2] =
        [("component", builtin::of(Slot::Signing).component), ("config", br#"{"json":true}"#)];
    let none = upload(&rig, "/v1/policies/signing?dry_run=true", &parts).await;
    assert_eq!((none.status, none.code().as_str()), (StatusCode::CONFLICT, "not_of_rounds"));
    assert_eq!(rig.read("/v1/policies").await["slots"]["signing"]["staged"], json!([]));
    let answer = upload(&rig, "/v1/policies/signing", &parts).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let staged = answer.json();
    assert_eq!((&staged["slot"], &staged["name"]), (&json!("signing"), &json!("sign-basic")));
    assert_eq!((&staged["memory_bytes"], &staged["memory_empty"]), (&json!(0), &json!(0)), "{staged}");
    assert_eq!(staged["replicas"][0]["state"], "ready", "{staged}");
    let listed = rig.read("/v1/policies").await;
    let one = &listed["slots"]["signing"]["staged"][0];
    assert_eq!((&one["digest"], &one["validators"]), (&staged["digest"], &json!([])), "{listed}");

    let digest = &staged["digest"];
    let answer = rig.operate("POST", "/v1/policies/signing/shadow", &json!({ "digest": digest })).await;
    assert_eq!(answer.code(), "not_of_rounds");
    for route in ["/v1/policies/signing/shadow", "/v1/rounds/1/inputs?slot=signing"] {
        assert_eq!(rig.operate("GET", route, &json!({})).await.code(), "not_of_rounds", "{route}");
    }
    let answer = rig.operate("POST", "/v1/policies/signing/activate", &json!({ "digest": digest })).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(&rig.read("/v1/policies").await["slots"]["signing"]["scheduled"]["digest"], digest);
}

#[tokio::test]
async fn a_dry_run_tells_who_would_change_side_and_stages_nothing() {
    let mut rig = Rig::new().await.with_followers(3).await;
    let none = upload(&rig, "/v1/policies/ban?dry_run=true", &[("component", strikes())]).await;
    assert_eq!((none.status, &none.json()["differences"]), (StatusCode::OK, &Value::Null), "{}", none.text);
    for down in [&[1][..], &[1, 2], &[1], &[], &[]] {
        rig.settle(down).await;
    }
    let before = rig.fingerprint();
    // The rule in force warns at one miss in a row and bans at two; this one bans at three.
    let config = br#"{"warn":1,"suspend":2,"ban":3,"ban_rounds":60}"#;
    let answer = upload(&rig, "/v1/policies/ban?dry_run=true", &[("component", strikes()), ("config", config)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let run = answer.json();
    let found = &run["differences"];
    assert_eq!((&found["rounds"], &found["since_round"]), (&json!(5), &json!(1)), "{run}");
    assert_eq!((&found["active"]["banned"], &found["shadow"]["banned"]), (&json!(1), &json!(0)), "{run}");
    assert_eq!(found["shadow"]["suspended"], 1, "{run}");
    let names: Vec<&str> = found["members"].as_array().unwrap().iter().filter_map(|m| m["name"].as_str()).collect();
    assert!(names.contains(&"follower-1"), "{run}");
    assert_eq!(rig.fingerprint(), before);
    assert_eq!(rig.read("/v1/policies").await["slots"]["ban"]["staged"], json!([]));
    assert_eq!(upload(&rig, "/v1/policies/ban?dry=1", &[]).await.code(), "bad_query");
}

#[tokio::test]
async fn a_shadow_is_begun_and_ended_by_decisions() {
    let rig = Rig::new().await.with_followers(1).await;
    let digest = staged(&rig, "{}").await["digest"].clone();
    let decide = async |body: Value| rig.operate("POST", "/v1/policies/ban/shadow", &body).await;
    let begun = decide(json!({ "digest": digest, "reason": "to see" })).await;
    assert_eq!((begun.status, &begun.json()["round"]), (StatusCode::ACCEPTED, &json!(2)), "{}", begun.text);
    let slot = rig.read("/v1/policies").await["slots"]["ban"].clone();
    assert_eq!(
        (&slot["shadow"]["digest"], &slot["shadow"]["state"], &slot["staged"]),
        (&digest, &json!("shadow"), &json!([]))
    );
    // Nobody follows the log here.
    assert_eq!(rig.read("/v1/policies/ban/shadow").await, json!({ "slot": "ban", "shadow": null }));
    assert_eq!(decide(json!({ "digest": slot["active"]["digest"] })).await.code(), "malformed");
    assert_eq!(decide(json!({ "digest": null })).await.status, StatusCode::ACCEPTED);
    assert_eq!(rig.read("/v1/policies").await["slots"]["ban"]["shadow"], Value::Null);
}
