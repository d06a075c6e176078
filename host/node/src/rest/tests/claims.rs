use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kernel::envelope::{CLAIM_TYPE, PARTIAL_TYPE};
use kernel::limits::SIGNED_EXPIRY_MS;
use serde_json::{Value, json};

use super::rig::{Answer, Rig, key};

/// Two followers, the first has earned 30.
async fn earned() -> Rig {
    let mut rig = Rig::new().await.with_followers(2).await;
    for _ in 0..3 {
        rig.settle(&[]).await;
    }
    rig
}

fn payload(rig: &Rig, sequence: u64, amount: impl Into<Value>) -> Value {
    let cluster = rig.group.read(|state| state.meta.cluster.to_string());
    json!({ "cluster": cluster, "sequence": sequence, "expires_ms": rig.group.now_ms() + 60_000, "amount": amount.into() })
}

fn sealed(by: u8, payload: &Value) -> Value {
    serde_json::to_value(key(by).envelope(CLAIM_TYPE, payload.to_string().as_bytes())).unwrap()
}

async fn send(rig: &Rig, envelope: &Value) -> Answer {
    rig.post("/v1/claims", envelope.to_string()).await
}

fn balances(rig: &Rig, n: u8) -> (i64, i64) {
    let node = key(n).id();
    rig.group.read(|state| {
        (state.members[&node].hot.earned.0, state.wallets.get(&node).map_or(0, |wallet| wallet.balance.0))
    })
}

#[tokio::test]
async fn a_claim_is_paid_once_however_often_it_is_sent() {
    let rig = earned().await;
    let claim = sealed(1, &payload(&rig, 1, 20));
    let paid = send(&rig, &claim).await;
    assert_eq!(paid.status, StatusCode::OK, "{}", paid.text);
    let body = paid.json();
    assert_eq!((&body["paid"], &body["earned"], &body["wallet"]), (&json!(20), &json!(10), &json!(20)));
    let after = rig.fingerprint();
    let again = send(&rig, &claim).await;
    assert_eq!((again.status, again.text), (StatusCode::OK, paid.text));
    assert_eq!(rig.fingerprint(), after, "a repeated claim does not even reach the log");
    assert_eq!(balances(&rig, 1), (10, 20));
    let all = send(&rig, &sealed(1, &payload(&rig, 9, "all"))).await.json();
    assert_eq!((&all["paid"], &all["earned"]), (&json!(10), &json!(0)));
    let nothing = send(&rig, &sealed(1, &payload(&rig, 10, "all"))).await;
    assert_eq!((nothing.code().as_str(), nothing.status.as_u16()), ("nothing_to_pay", 409));
}

#[tokio::test]
async fn an_over_claim_costs_its_penalty_once() {
    let rig = earned().await;
    let claim = sealed(1, &payload(&rig, 1, 130));
    for _ in 0..3 {
        let refused = send(&rig, &claim).await;
        assert_eq!((refused.code().as_str(), refused.status), ("overclaim", StatusCode::CONFLICT));
        assert_eq!((&refused.json()["penalty"], &refused.json()["earned"]), (&json!(10), &json!(20)));
        assert_eq!(balances(&rig, 1), (20, 0));
    }
    let treasury = rig.read("/v1/accounts/treasury/entries").await;
    assert_eq!((&treasury["entries"][0]["kind"], &treasury["entries"][0]["points"]), (&json!("penalty"), &json!(10)));
    assert_eq!(treasury["entries"].as_array().unwrap().len(), 1);
    let metrics = rig.get("/metrics").await.text;
    assert!(metrics.contains("pingward_claims_total{outcome=\"overclaim\"} 1"), "one penalty: {metrics}");
    assert!(metrics.contains("pingward_claims_total{outcome=\"repeated\"} 2"), "{metrics}");
}

#[tokio::test]
async fn over_claims_of_nothing_do_not_fill_the_log() {
    let mut rig = Rig::new().await.with_followers(1).await;
    for sequence in 1..=8 {
        let refused = send(&rig, &sealed(1, &payload(&rig, sequence, 50))).await;
        assert_eq!(refused.code(), "overclaim");
    }
    let (before, ninth) = (rig.fingerprint(), sealed(1, &payload(&rig, 9, 50)));
    let slow = send(&rig, &ninth).await;
    assert_eq!((slow.code().as_str(), slow.status), ("slow_down", StatusCode::TOO_MANY_REQUESTS));
    assert_eq!((&slow.headers["retry-after"], &slow.json()["retry_ms"]), (&"10".parse().unwrap(), &json!(10_000)));
    let nothing = send(&rig, &sealed(1, &payload(&rig, 10, "all"))).await;
    assert_eq!(nothing.code(), "nothing_to_pay");
    assert_eq!(rig.fingerprint(), before, "what is refused for free never reaches the log");
    rig.settle(&[1]).await;
    assert_eq!(send(&rig, &ninth).await.code(), "overclaim", "the sequence was not used up");
}

#[tokio::test]
async fn points_can_go_to_another_wallet() {
    let rig = earned().await;
    let mut claim = payload(&rig, 1, 20);
    claim["to"] = json!(key(50).id().to_string());
    let paid = send(&rig, &sealed(1, &claim)).await.json();
    assert_eq!((&paid["paid"], &paid["wallet"]), (&json!(19), &json!(19)), "a new wallet costs a point");
    let account = rig.read(&format!("/v1/accounts/{}", key(50).id())).await;
    assert_eq!((&account["wallet"], &account["earned"]), (&json!(19), &Value::Null));
}

#[tokio::test]
async fn a_bad_envelope_has_no_effect_and_a_code() {
    let rig = earned().await;
    let before = rig.fingerprint();
    let good = sealed(1, &payload(&rig, 5, 1));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        envelope
    };
    let weak = format!("01{}", "00".repeat(31));
    let text = payload(&rig, 5, 1).to_string();
    let other_type = serde_json::to_value(key(1).envelope(PARTIAL_TYPE, text.as_bytes())).unwrap();
    for (envelope, code, status) in [
        (json!("x"), "bad_envelope", 400),
        (json!({}), "bad_envelope", 400),
        (with(&|e| e["extra"] = json!(1)), "bad_envelope", 400),
        (with(&|e| e["signatures"] = json!([])), "bad_envelope", 400),
        (with(&|e| e["signatures"] = json!([e["signatures"][0], e["signatures"][0]])), "bad_envelope", 400),
        (with(&|e| e["payload"] = json!("***")), "bad_envelope", 400),
        (with(&|e| e["signatures"][0]["sig"] = json!("AAAA")), "bad_envelope", 400),
        (with(&|e| e["signatures"][0]["keyid"] = json!("abc")), "bad_envelope", 400),
        (with(&|e| e["signatures"][0]["keyid"] = json!(weak)), "weak_key", 400),
        (with(&|e| e["signatures"][0]["keyid"] = json!(key(2).id().to_string())), "bad_signature", 403),
        (with(&|e| e["payload"] = json!(STANDARD.encode(format!("{text} ")))), "bad_signature", 403),
        (with(&|e| e["signatures"][0]["sig"] = json!(STANDARD.encode([0; 64]))), "bad_signature", 403),
        (other_type.clone(), "wrong_type", 400),
        // The type is inside the signature: renaming it does not help.
        (
            {
                let mut e = other_type;
                e["payloadType"] = json!(CLAIM_TYPE);
                e
            },
            "bad_signature",
            403,
        ),
    ] {
        let answer = send(&rig, &envelope).await;
        assert_eq!((answer.code().as_str(), answer.status.as_u16()), (code, status), "{envelope}");
    }
    assert_eq!(rig.fingerprint(), before);
    let mut url_safe = good.clone();
    let decoded = STANDARD.decode(good["payload"].as_str().unwrap()).unwrap();
    url_safe["payload"] = json!(URL_SAFE_NO_PAD.encode(decoded));
    assert_eq!(send(&rig, &url_safe).await.status, StatusCode::OK, "both alphabets of DSSE are taken");
}

#[tokio::test]
async fn a_claim_that_does_not_count_has_no_effect_and_a_code() {
    let rig = earned().await;
    assert_eq!(send(&rig, &sealed(1, &payload(&rig, 5, 1))).await.status, StatusCode::OK);
    let (before, balance) = (rig.fingerprint(), balances(&rig, 1));
    let with = |field: &str, value: Value| {
        let mut claim = payload(&rig, 6, 1);
        claim[field] = value;
        claim
    };
    let without = |field: &str| {
        let mut claim = payload(&rig, 6, 1);
        claim.as_object_mut().unwrap().remove(field);
        claim
    };
    let now_ms = rig.group.now_ms();
    for (by, claim, code, status) in [
        (1, with("cluster", json!("lab")), "wrong_cluster", 403),
        (1, with("cluster", json!(format!("lab#{}", "00".repeat(16)))), "wrong_cluster", 403),
        // Another amount: the same bytes again would be the same claim.
        (1, payload(&rig, 5, 2), "stale_sequence", 409),
        (1, with("sequence", json!(0)), "stale_sequence", 409),
        (1, with("expires_ms", json!(now_ms.saturating_sub(1))), "expired", 400),
        (1, with("expires_ms", json!(now_ms + SIGNED_EXPIRY_MS + 600_000)), "expires_too_late", 400),
        (1, with("amount", json!(0)), "out_of_bounds", 400),
        (1, with("amount", json!(-1)), "bad_payload", 400),
        (1, with("amount", json!(1.5)), "bad_payload", 400),
        (1, with("amount", json!("most")), "bad_payload", 400),
        (1, with("to", json!("me")), "bad_payload", 400),
        (1, with("to", json!(format!("01{}", "00".repeat(31)))), "bad_payload", 400),
        (1, with("extra", json!(1)), "bad_payload", 400),
        (1, json!(["lab", 6, now_ms + 1_000, 1]), "bad_payload", 400),
        (1, without("sequence"), "bad_payload", 400),
        (1, without("cluster"), "bad_payload", 400),
        (9, payload(&rig, 1, 1), "unknown_node", 404),
        (200, payload(&rig, 1, 1), "unknown_node", 404),
    ] {
        let answer = send(&rig, &sealed(by, &claim)).await;
        assert_eq!((answer.code().as_str(), answer.status.as_u16()), (code, status), "{claim}: {}", answer.text);
        if code == "stale_sequence" {
            assert_eq!(answer.json()["next"], 6);
        }
    }
    assert_eq!((rig.fingerprint(), balances(&rig, 1)), (before, balance));
}
