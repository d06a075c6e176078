use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::rig::{RUN, Rig, key};

/// The lines of a stream until it ends.
async fn stream(rig: &Rig, path: &str, last: Option<&str>) -> Vec<(String, String, Value)> {
    let request = Request::get(path);
    let request = last.into_iter().fold(request, |request, id| request.header("last-event-id", id));
    let response = rig.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    rig.events.close();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")));
        line.unwrap_or_default().to_string()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("event:"));
    blocks
        .map(|block| (field(block, "id"), field(block, "event"), serde_json::from_str(&field(block, "data")).unwrap()))
        .collect()
}

async fn busy() -> Rig {
    let mut rig = Rig::new().await.with_followers(2).await;
    rig.settle(&[1]).await;
    rig.settle(&[1]).await;
    rig
}

#[tokio::test]
async fn a_ban_is_told_as_it_happened() {
    let rig = busy().await;
    let events = stream(&rig, "/v1/events?recent=1000", None).await;
    let node = key(1).id().to_string();
    let of_node: Vec<_> = events.iter().filter(|(_, _, data)| data["node"] == node).collect();
    let told: Vec<_> = of_node.iter().map(|(_, kind, data)| (kind.as_str(), data["to"].as_str().unwrap())).collect();
    assert_eq!(told, [("standing", "warned"), ("standing", "banned"), ("ban", "banned")]);
    assert_eq!((&of_node[2].2["until_round"], &of_node[2].2["name"]), (&8.into(), &"follower-1".into()));
    let rounds: Vec<_> =
        events.iter().filter(|(_, kind, _)| kind == "round").map(|(_, _, data)| data["round"].clone()).collect();
    assert_eq!(rounds, [1, 2, 3]);
    assert!(events.iter().all(|(_, _, data)| data["time_ms"].is_u64() && data.get("ip").is_none()), "{events:?}");
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let rig = busy().await;
    let all = stream(&rig, "/v1/events?recent=1000&follow=false", None).await;
    let rig = busy().await;
    let last = all[2].0.clone();
    let rest = stream(&rig, "/v1/events?recent=1000", Some(&last)).await;
    let ids = |events: &[(String, String, Value)]| events.iter().map(|(id, ..)| id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&rest), ids(&all)[3..]);
    assert_eq!(all[0].0, format!("{RUN}-1"));
}

#[tokio::test]
async fn who_was_away_for_too_long_is_told_to_read_again() {
    for last in ["5-3", "nonsense", "77-999"] {
        let rig = busy().await;
        let events = stream(&rig, "/v1/events", Some(last)).await;
        assert_eq!(events[0].1, "lagged", "{last}");
        assert!(events[0].2["hint"].as_str().unwrap().contains("read again"));
    }
}

#[tokio::test]
async fn kinds_can_be_chosen_and_wrong_words_are_told() {
    let rig = busy().await;
    let events = stream(&rig, "/v1/events?recent=1000&kinds=ban", None).await;
    assert_eq!(events.iter().map(|(_, kind, _)| kind.as_str()).collect::<Vec<_>>(), ["ban"]);
    for query in ["kinds=bans", "after=x", "since=1", "recent=maybe", "recent=5&after=77-1"] {
        assert_eq!(rig.get(&format!("/v1/events?{query}")).await.code(), "bad_query", "{query}");
    }
    assert_eq!(rig.get("/v1/events").await.code(), "stopping");
}

#[tokio::test]
async fn readers_of_records_are_bounded_and_one_that_goes_leaves_its_place() {
    let rig = Rig::new().await;
    let open = async || {
        let request = Request::get("/v1/records/watch").body(Body::empty()).unwrap();
        rig.router.clone().oneshot(request).await.unwrap()
    };
    let mut readers = Vec::new();
    let refused = loop {
        let answer = open().await;
        if !answer.status().is_success() {
            break answer.status();
        }
        readers.push(answer);
    };
    assert_eq!((readers.len(), refused.as_u16()), (64, 503));
    readers.pop();
    while !open().await.status().is_success() {
        tokio::task::yield_now().await;
    }
}
