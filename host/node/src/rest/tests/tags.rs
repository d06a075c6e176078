use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::pair::{pair, patient};
use super::rig::{Answer, Rig, TOKEN, key};

fn tag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().into()
}

async fn ask(rig: &Rig, method: &str, path: &str, header: (&str, &str), body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
    rig.ask(request.header(header.0, header.1).body(Body::from(body.to_string())).unwrap()).await
}

fn set(value: u64) -> Value {
    json!({ "settings": { "round.interval_ms": value } })
}

#[tokio::test]
async fn settings_change_only_while_they_are_as_they_were_read() {
    let rig = Rig::new().await;
    let read = tag(&rig.get("/v1/settings").await);
    assert!(read.starts_with("\"sha256:") && read.ends_with('"'), "{read}");
    let first = ask(&rig, "PUT", "/v1/settings", ("if-match", &read), &set(5_000)).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.text);
    let now = tag(&rig.get("/v1/settings").await);
    assert_ne!(now, read);

    for stale in [read.as_str(), "\"nothing of ours\"", "W/\"weak\"", &format!("W/{now}")] {
        let (before, _, _) = rig.fingerprint();
        let second = ask(&rig, "PUT", "/v1/settings", ("if-match", stale), &set(7_000)).await;
        assert_eq!((second.code().as_str(), second.status), ("changed", StatusCode::PRECONDITION_FAILED), "{stale}");
        assert_eq!((tag(&second), &second.json()["etag"]), (now.clone(), &json!(now)), "it says what to send");
        assert_eq!(rig.read("/v1/settings").await["next"]["settings"]["round.interval_ms"], 5_000);
        // The log alone knows what came first, so the question stands in it; nothing else does.
        assert_eq!(rig.fingerprint().0, before + 1);
        assert_eq!(tag(&rig.get("/v1/settings").await), now);
    }
    assert_eq!(ask(&rig, "PUT", "/v1/settings", ("if-match", &now), &set(7_000)).await.status, StatusCode::ACCEPTED);
    assert_eq!(ask(&rig, "PUT", "/v1/settings", ("if-match", "*"), &set(8_000)).await.status, StatusCode::ACCEPTED);
    let two = ask(&rig, "PUT", "/v1/settings", ("if-match", "\"a\", \"b\""), &set(9_000)).await;
    assert_eq!((two.code().as_str(), two.status.as_u16()), ("bad_if_match", 400));
}

#[tokio::test]
async fn of_two_who_decide_at_once_one_is_told() {
    let rig = Rig::new().await;
    let read = tag(&rig.get("/v1/settings").await);
    let (five, seven) = (set(5_000), set(7_000));
    let (a, b) = tokio::join!(
        ask(&rig, "PUT", "/v1/settings", ("if-match", &read), &five),
        ask(&rig, "PUT", "/v1/settings", ("if-match", &read), &seven),
    );
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 412], "{} {}", a.text, b.text);
}

#[tokio::test]
async fn a_reader_who_has_it_already_gets_no_body() {
    let mut rig = Rig::new().await.with_followers(2).await;
    for path in ["/v1/settings", "/v1/policies"] {
        let whole = rig.get(path).await;
        let tag = tag(&whole);
        for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".into()] {
            let answer = ask(&rig, "GET", path, ("if-none-match", &known), &Value::Null).await;
            assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path} {known}");
            assert_eq!(answer.headers["etag"], tag);
            assert!(answer.headers["pingward-read"].to_str().unwrap().starts_with("linearizable; "));
        }
        let other = ask(&rig, "GET", path, ("if-none-match", "\"x\""), &Value::Null).await;
        assert_eq!((other.status, other.text), (StatusCode::OK, whole.text));
        rig.settle(&[]).await;
        let later = ask(&rig, "GET", path, ("if-none-match", &tag), &Value::Null).await;
        assert_eq!(later.status, StatusCode::NOT_MODIFIED, "a round alone is no change of it");
    }
    // A node's numbers are in no tag, so they are told each time.
    let path = format!("/v1/nodes/{}", key(1).id());
    let tag = tag(&rig.get(&path).await);
    assert_eq!(ask(&rig, "GET", &path, ("if-none-match", &tag), &Value::Null).await.status, StatusCode::OK);
}

#[tokio::test]
async fn classes_and_policies_change_only_while_they_are_as_they_were_read() {
    let mut rig = Rig::new().await.with_followers(2).await;
    let (node, other) = (format!("/v1/nodes/{}", key(1).id()), format!("/v1/nodes/{}", key(2).id()));
    let read = tag(&rig.get(&node).await);
    rig.settle(&[1]).await;
    assert_eq!(tag(&rig.get(&node).await), read, "a strike is no change of its class");
    let class = format!("{node}/class");
    let body = json!({ "class": 2 });
    let wrong = ask(&rig, "PUT", &class, ("if-match", &tag(&rig.get(&other).await)), &body).await;
    assert_eq!((wrong.code().as_str(), tag(&wrong)), ("changed", read.clone()));
    assert_eq!(ask(&rig, "PUT", &class, ("if-match", &read), &body).await.status, StatusCode::OK);
    let again = ask(&rig, "PUT", &class, ("if-match", &read), &body).await;
    assert_eq!((again.code().as_str(), again.status.as_u16()), ("changed", 412));

    let read = tag(&rig.get("/v1/policies").await);
    let accept = "/v1/policies/ban/accept";
    assert_eq!(ask(&rig, "POST", accept, ("if-match", &read), &json!({})).await.status, StatusCode::OK);
    let late = ask(&rig, "POST", "/v1/policies/ban/rollback", ("if-match", &read), &json!({})).await;
    assert_eq!((late.code().as_str(), tag(&late)), ("changed", tag(&rig.get("/v1/policies").await)));
}

#[tokio::test]
async fn a_condition_that_would_count_for_nothing_is_refused() {
    let rig = Rig::new().await.with_followers(1).await;
    let before = rig.fingerprint();
    let ban = json!({ "node": key(1).id().to_string(), "rounds": 5, "reason": "test" });
    for (path, body) in [("/v1/bans", &ban), ("/v1/rounds/accept", &json!({})), ("/v1/claims", &json!({}))] {
        let answer = ask(&rig, "POST", path, ("if-match", "\"x\""), body).await;
        assert_eq!((answer.code().as_str(), answer.status.as_u16()), ("bad_if_match", 400), "{path}");
    }
    assert_eq!(rig.fingerprint(), before);
}

#[tokio::test]
async fn the_group_changes_only_while_it_is_as_it_was_read() {
    let [first, second] = pair().await;
    let members = "/v1/cluster/members";
    let body = json!({ "node": second.key.to_string(), "address": second.address });
    let read = tag(&first.get(members).await);
    let stale = first.operate_if("POST", members, &body, "\"99999\"").await;
    assert_eq!((stale.code().as_str(), stale.status.as_u16(), tag(&stale)), ("changed", 412, read.clone()));
    assert_eq!(first.get(members).await.json()["members"].as_array().unwrap().len(), 1);
    let added = first.operate_if("POST", members, &body, &read).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    patient(second.group.joined()).await.unwrap();
    let now = tag(&first.get(members).await);
    assert_ne!(now, read);
    // Also where the answer comes through a super that does not lead.
    let gone = format!("{members}/{}", second.key);
    let stale = second.operate_if("DELETE", &gone, &json!({}), &read).await;
    assert_eq!((stale.code().as_str(), tag(&stale)), ("changed", now.clone()));
    assert_eq!(first.operate_if("DELETE", &gone, &json!({}), &now).await.status, StatusCode::OK);
}
