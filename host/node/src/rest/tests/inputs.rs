//! What a rule saw of a round: rebuilt from history, the same as it was, or not at all.

use axum::http::StatusCode;
use kernel::id::RoundId;
use serde_json::{Value, json};

use super::rig::{Rig, key};
use crate::rest::view::{InputsView, RowAnswer};

async fn inputs(rig: &Rig, round: RoundId, more: &str) -> InputsView {
    let answer = rig.operate("GET", &format!("/v1/rounds/{round}/inputs?slot=ban{more}"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    serde_json::from_str(&answer.text).unwrap()
}

fn recorded(round: &Value, slot: &str) -> Value {
    let slots = round["slots"].as_array().unwrap();
    slots.iter().find(|part| part["slot"] == slot).unwrap()["input"].clone()
}

#[tokio::test]
async fn what_a_rule_saw_and_said_comes_back() {
    let mut rig = Rig::new().await.with_followers(3).await;
    let quiet = rig.settle(&[]).await;
    let first = rig.settle(&[2]).await;
    let second = rig.settle(&[2]).await;
    // Commands in between belong to the past of later rounds only.
    let path = format!("/v1/nodes/{}/class", key(1).id());
    assert_eq!(rig.operate("PUT", &path, &json!({ "class": 9 })).await.status, StatusCode::OK);
    let third = rig.settle(&[]).await;
    for round in [quiet, first, second, third] {
        let view = inputs(&rig, round, "").await;
        let told = rig.read(&format!("/v1/rounds/{round}")).await;
        assert_eq!(Value::from(view.input.clone()), recorded(&told, "ban"));
        assert_eq!((view.round, view.population, view.engine.as_str()), (round.0, view.members.len(), "native"));
        assert!(view.fault.is_none() && view.config == json!({ "level": 3 }), "{view:?}");
        let answer = rig.operate("GET", &format!("/v1/rounds/{round}/inputs?slot=reward"), &json!({})).await;
        assert_eq!(answer.json()["input"].clone(), recorded(&told, "reward"));
    }
    let row = |view: &InputsView, n: u8| {
        let node = key(n).id().to_string();
        view.members.iter().find(|row| row.node == node).cloned()
    };
    let view = inputs(&rig, second, "").await;
    let member = row(&view, 2).unwrap();
    assert_eq!((member.name.as_str(), member.presence, member.strikes, member.age), ("follower-2", 0, 1, 2));
    let Some(RowAnswer::Judged(judged)) = member.answer else { panic!("{member:?}") };
    assert_eq!((judged.standing, judged.strikes, judged.until, judged.reason), (3, 2, 5, 1));
    let view = inputs(&rig, third, "").await;
    assert_eq!((view.population, row(&view, 1).unwrap().class), (2, 9), "who is banned is not in the queue");
    assert_eq!(row(&inputs(&rig, second, "").await, 1).unwrap().class, 0);

    let some = inputs(&rig, second, &format!("&nodes={}", key(2).id())).await;
    assert_eq!((some.population, some.members.len(), some.members[0].node == member.node), (3, 1, true));
    let text = serde_json::to_string(&some).unwrap();
    assert!(!text.contains("127.0.0") && !text.contains("7102"), "no address: {text}");
}

#[tokio::test]
async fn what_cannot_be_told_says_why() {
    let mut rig = Rig::new().await.with_followers(2).await;
    let round = rig.settle(&[]).await;
    let before = rig.fingerprint();
    let stranger = key(9).id();
    for (path, code, said) in [
        (format!("/v1/rounds/{round}/inputs?slot=bann"), "unknown_slot", "reward"),
        (format!("/v1/rounds/{round}/inputs"), "bad_query", "slot"),
        ("/v1/rounds/99/inputs?slot=ban".into(), "unknown_round", "not settled yet"),
        (format!("/v1/rounds/{round}/inputs?slot=ban&nodes=abc"), "bad_query", "nodes"),
        (format!("/v1/rounds/{round}/inputs?slot=ban&nodes={stranger}"), "unknown_node", "was not in the queue"),
    ] {
        let answer = rig.operate("GET", &path, &json!({})).await;
        assert_eq!(answer.code(), code, "{path}");
        assert!(answer.text.contains(said), "{path}: {}", answer.text);
    }
    let path = format!("/v1/rounds/{round}/inputs?slot=ban");
    assert_eq!(rig.get(&path).await.code(), "no_token", "it is an operator's");
    assert_eq!(rig.fingerprint(), before);
}

#[tokio::test]
async fn a_round_far_from_the_first_one_is_told_from_a_keyframe() {
    let mut rig = Rig::new().await.with_followers(2).await;
    let mut last = RoundId(0);
    for number in 0..store::KEYFRAME_ROUNDS * 2 + 40 {
        last = rig.settle(if number % 3 == 0 { &[1] } else { &[] }).await;
    }
    // Keyframes are made beside the commits: the answer comes when the last one is there.
    let view = loop {
        let answer = rig.operate("GET", &format!("/v1/rounds/{last}/inputs?slot=ban"), &json!({})).await;
        if answer.status == StatusCode::OK {
            break answer.json();
        }
        assert_eq!(answer.code(), "inputs_unknown");
        tokio::task::yield_now().await;
    };
    assert_eq!(view["input"], recorded(&rig.read(&format!("/v1/rounds/{last}")).await, "ban"));
}
