use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use kernel::decide::Slot;
use kernel::id::{Digest, LogIndex, RoundId};
use kernel::members::Refusal;
use kernel::outcome::Told;
use kernel::round::Presence;
use kernel::standing::Standing;
use kernel::units::Points;
use serde_json::{Value, json};
use wire::message::{Own, PolicyName, ScheduledPolicy, SlotPolicies};

use super::rig::{Rig, TOKEN, ask, follower, key};
use crate::rest::nodes::{Eyes, NodesQuery, page};
use crate::roles::follower::FollowerView;
use crate::roles::follower::policies::KnownPolicies;
use crate::streams::Streams;

/// The fields of an object, sorted.
fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn has(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "{name} is not in {value}");
    }
}

#[tokio::test]
async fn every_read_has_the_fields_of_the_contract() {
    let mut rig = Rig::new().await.with_followers(4).await;
    rig.settle(&[2]).await;
    rig.settle(&[2]).await;
    let node = key(2).id();

    let status = rig.read("/v1/status").await;
    has(&status, &["node", "name", "role", "version", "cluster", "leader", "round", "suspect", "uptime_ms"]);
    assert_eq!((&status["role"], &status["round"], &status["suspect"]), (&json!("super"), &json!(3), &json!(false)));
    assert_eq!(status["cluster"], format!("lab#{}", "07".repeat(16)));
    assert_eq!(status["leader"], status["node"]);
    assert_eq!(status["storage"], "memory");

    let queue = rig.read("/v1/followers/queue").await;
    assert_eq!((fields(&queue), queue["round"].as_u64()), (vec!["queue", "round"], Some(3)));
    has(&queue["queue"][0], &["position", "node", "name", "address", "standing"]);
    assert_eq!(queue["queue"].as_array().unwrap().len(), 3, "the banned one is not in it");

    let nodes = rig.read("/v1/nodes").await;
    let names = [
        "node",
        "name",
        "role",
        "ip",
        "port",
        "rest",
        "version",
        "standing",
        "connected",
        "joined_round",
        "last_pong_ms",
        "rtt_us",
    ];
    let nodes = nodes["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 5, "four followers and the super");
    nodes.iter().for_each(|node| has(node, &names));

    let one = rig.read(&format!("/v1/nodes/{node}")).await;
    has(&one, &names);
    has(&one, &["strikes", "ban", "earned", "warning"]);
    assert_eq!((&one["standing"], &one["strikes"], &one["earned"]), (&json!("banned"), &json!(2), &json!(0)));
    has(&one["ban"], &["until_round", "until_ms", "reason", "over"]);
    assert_eq!((&one["ban"]["until_round"], &one["ban"]["reason"]), (&json!(8), &json!("missed")));

    let rewards = rig.read("/v1/rewards").await;
    has(&rewards["rewards"][0], &["node", "name", "address", "earned", "claimed", "penalties"]);
    assert_eq!(rewards["total_issued"], 60, "three up in two rounds");

    let bans = rig.read("/v1/bans").await;
    let ban = &bans["bans"][0];
    has(ban, &["node", "name", "round", "time_ms", "until_round", "until_ms", "reason", "policy", "active"]);
    assert_eq!((&ban["node"], &ban["active"], &ban["by"]), (&json!(node.to_string()), &json!(true), &json!("policy")));

    let moves = rig.read(&format!("/v1/nodes/{node}/moves")).await;
    let to: Vec<_> = moves["moves"].as_array().unwrap().iter().map(|m| m["to"].as_str().unwrap()).collect();
    assert_eq!(to, ["warned", "banned"]);

    let policies = rig.read("/v1/policies").await;
    for slot in ["reward", "ban"] {
        let row = &policies["slots"][slot];
        has(row, &["active", "previous", "staged", "shadow", "scheduled", "faults"]);
        has(&row["active"], &["digest", "component", "config_digest", "name", "version", "state", "replicas"]);
        assert_eq!(row["active"]["config"], json!({ "level": 3 }));
        assert_eq!((&row["previous"], &row["shadow"]), (&Value::Null, &Value::Null));
    }

    let rounds = rig.read("/v1/rounds").await;
    let last = &rounds["rounds"][2];
    assert_eq!(last["policies"]["ban"], policies["slots"]["ban"]["active"]["digest"]);
    let round = rig.read("/v1/rounds/3").await;
    has(&round, &["marks", "slots", "policies", "causes", "up", "down", "unknown"]);
    assert_eq!((&round["up"], &round["down"], &round["issued"]), (&json!(3), &json!(1), &json!(30)));
    has(&round["slots"][1], &["slot", "policy", "called", "input", "fault", "fuel"]);

    let members = rig.read("/v1/rounds/3/members").await;
    let down = members["members"].as_array().unwrap().iter().find(|m| m["node"] == node.to_string()).unwrap().clone();
    assert_eq!((&down["presence"], &down["points"]), (&json!("down"), &json!(0)));

    let settings = rig.read("/v1/settings").await;
    assert_eq!(settings["settings"]["round.interval_ms"], 10_000);
    assert_eq!((&settings["settings"]["round.require_declared_port"], &settings["next"]), (&json!(true), &Value::Null));
    let changes = rig.read("/v1/changes").await;
    has(&changes["changes"][0], &["time_ms", "by", "what", "from", "to", "reason"]);

    let treasury = rig.read("/v1/accounts/treasury").await;
    assert_eq!(treasury["balance"], -60);
    let account = rig.read(&format!("/v1/accounts/{}", key(1).id())).await;
    assert_eq!((&account["earned"], &account["wallet"], &account["next_sequence"]), (&json!(20), &json!(0), &json!(1)));
    let entries = rig.read(&format!("/v1/accounts/{}/entries", key(1).id())).await;
    let entry = &entries["entries"][0];
    has(entry, &["round", "policy", "kind", "from", "to", "points", "reason"]);
    assert_eq!((&entry["kind"], &entry["points"], &entry["round"]), (&json!("reward"), &json!(10), &json!(2)));
    assert_eq!((&entry["policy"], &entry["reason"]), (&last["policies"]["reward"], &json!("answered")));
}

#[tokio::test]
async fn unknown_is_null_and_never_zero() {
    let rig = Rig::new().await;
    let status = rig.read("/v1/status").await;
    assert_eq!(
        (&status["suspect"], &status["settled_ms"], &status["trusted_round"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let rig = rig.with_followers(1).await;
    let one = rig.read(&format!("/v1/nodes/{}", key(1).id())).await;
    for field in [
        "presence",
        "last_pong_ms",
        "rtt_us",
        "last_up_round",
        "ban",
        "warning",
        "reason",
        "earliest_return",
        "joined_round",
    ] {
        assert_eq!(one[field], Value::Null, "{field}: it has only just come");
    }
    let supers = rig.read("/v1/nodes?role=super").await;
    for field in ["standing", "presence", "joined_round", "rtt_us"] {
        assert_eq!(supers["nodes"][0][field], Value::Null, "{field}: nobody judges a super");
    }
}

#[tokio::test]
async fn addresses_are_for_operators_unless_the_node_shows_them() {
    let rig = Rig::new().await.with_followers(2).await;
    let path = format!("/v1/nodes/{}", key(1).id());
    let anonymous = rig.read(&path).await;
    for field in ["ip", "port", "rest", "address"] {
        assert_eq!(anonymous[field], Value::Null, "{field}");
    }
    let request = Request::get(&path).header("authorization", format!("Bearer {TOKEN}")).body(Body::empty()).unwrap();
    let operator = rig.ask(request).await.json();
    assert_eq!((&operator["ip"], &operator["port"]), (&json!("127.0.0.1"), &json!(7_101)));
    let open = Rig::with_addresses(true).await.with_followers(1).await;
    assert_eq!(open.read(&path).await["ip"], "127.0.0.1");
}

#[tokio::test]
async fn a_read_says_how_fresh_it_is() {
    let rig = Rig::new().await;
    let applied = rig.fingerprint().0;
    for (path, level) in [
        ("/v1/status", "local"),
        ("/v1/status?read=linearizable", "local"),
        ("/v1/nodes", "linearizable"),
        ("/v1/nodes?read=local", "local"),
        ("/v1/settings?read=linearizable", "linearizable"),
        ("/v1/policies?read=local", "local"),
        ("/v1/rounds?read=local", "local"),
        ("/v1/rounds", "linearizable"),
    ] {
        let answer = rig.get(path).await;
        assert_eq!(answer.headers["pingward-read"], format!("{level}; applied={applied}"), "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["x-request-id"].len(), 36);
    }
    assert_eq!(rig.get("/v1/status?read=fresh").await.code(), "bad_query");
}

/// Reads a list page by page and gives what names its items.
async fn walk(rig: &Rig, path: &str, list: &str, from: Option<&str>, name: impl Fn(&Value) -> String) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = from.map(str::to_string);
    for _ in 0..100 {
        let query = after.as_ref().map_or_else(String::new, |after| format!("&after={after}"));
        let page = rig.read(&format!("{path}?limit=2{query}")).await;
        let items = page[list].as_array().unwrap();
        assert!(items.len() <= 2, "{page}");
        found.extend(items.iter().map(&name));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_string()),
            None => return found,
        }
    }
    panic!("{path} does not end");
}

#[tokio::test]
async fn lists_are_read_to_their_end_without_gaps_or_repeats() {
    let mut rig = Rig::new().await.with_followers(7).await;
    for _ in 0..4 {
        rig.settle(&[3, 5]).await;
    }
    let text = |field: &'static str| move |item: &Value| item[field].to_string();
    let distinct = |found: &[String]| found.iter().collect::<BTreeSet<_>>().len();
    for (path, list, from, name, count) in [
        ("/v1/nodes", "nodes", None, "node", 8),
        ("/v1/rewards", "rewards", None, "node", 7),
        ("/v1/followers/queue", "queue", None, "node", 5),
        ("/v1/rounds", "rounds", Some("0"), "round", 5),
        ("/v1/bans", "bans", Some("0"), "node", 2),
        ("/v1/changes", "changes", Some("0"), "index", 6),
        ("/v1/rounds/3/members", "members", None, "number", 7),
    ] {
        let found = walk(&rig, path, list, from, text(name)).await;
        assert_eq!((found.len(), distinct(&found)), (count, count), "{path}: {found:?}");
    }
    let path = format!("/v1/accounts/{}/entries", key(1).id());
    let rounds = walk(&rig, &path, "entries", Some("0"), text("round")).await;
    assert_eq!(rounds, ["2", "3", "4", "5"]);
    let path = format!("/v1/nodes/{}/moves", key(3).id());
    assert_eq!(walk(&rig, &path, "moves", Some("0"), text("to")).await, ["\"warned\"", "\"banned\""]);

    let newest = rig.read("/v1/rounds?limit=2").await;
    let rounds: Vec<_> = newest["rounds"].as_array().unwrap().iter().map(|r| r["round"].as_u64().unwrap()).collect();
    assert_eq!((rounds, newest.get("next")), (vec![4, 5], None), "the newest page, oldest first");
    assert_eq!(rig.read("/v1/rounds?after=4").await["rounds"][0]["round"], 5);
}

#[tokio::test]
async fn pages_of_the_queue_keep_the_order_with_which_they_began() {
    let mut rig = Rig::new().await.with_followers(6).await;
    rig.settle(&[]).await;
    let first = rig.read("/v1/followers/queue?limit=4").await;
    rig.settle(&[]).await;
    let rest = rig.read(&format!("/v1/followers/queue?after={}", first["next"].as_str().unwrap())).await;
    let all: Vec<&Value> = [&first, &rest].into_iter().flat_map(|page| page["queue"].as_array().unwrap()).collect();
    let positions: Vec<_> = all.iter().map(|entry| entry["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
    assert_eq!(all.iter().map(|entry| entry["node"].to_string()).collect::<BTreeSet<_>>().len(), 6);
    let long_ago = format!("/v1/followers/queue?after=99-{}", key(1).id());
    assert_eq!(rig.get(&long_ago).await.code(), "bad_query");
}

#[tokio::test]
async fn nodes_are_found_by_name_role_and_standing() {
    let mut rig = Rig::new().await.with_followers(3).await;
    rig.settle(&[1]).await;
    for (query, count) in
        [("name=follower-2", 1), ("role=super", 1), ("role=follower", 3), ("standing=warned", 1), ("name=x", 0)]
    {
        assert_eq!(rig.read(&format!("/v1/nodes?{query}")).await["nodes"].as_array().unwrap().len(), count, "{query}");
    }
    for query in ["standing=bad", "role=leader"] {
        assert_eq!(rig.get(&format!("/v1/nodes?{query}")).await.code(), "bad_query", "{query}");
    }
}

#[tokio::test]
async fn a_ban_that_is_over_says_so_until_the_member_attaches() {
    let mut rig = Rig::new().await.with_followers(2).await;
    let banned = format!("/v1/nodes/{}", key(1).id());
    while rig.read(&banned).await["ban"].is_null() {
        rig.settle(&[1]).await;
    }
    let until = rig.read(&banned).await["ban"]["until_round"].as_u64().unwrap();
    loop {
        let (round, ban) = (rig.settle(&[]).await.0, rig.read(&banned).await["ban"].clone());
        // It stands banned all the same: who does not come back is never good again by itself.
        assert_eq!((&ban["until_round"], &ban["over"]), (&json!(until), &json!(round >= until)), "round {round}");
        if round > until {
            break;
        }
    }
}

#[tokio::test]
async fn a_list_that_shows_few_looks_at_so_many_rows_and_says_where_to_go_on() {
    let rig = Rig::new().await.with_followers(5).await;
    let eyes = Eyes { ours: key(200).id(), streams: Streams::default(), addresses: false };
    for (name, role, shown) in [
        (Some("zzz"), None, 0),
        (Some("follower-3"), None, 1),
        (Some("super-1"), None, 1),
        (None, Some("super"), 1),
        (None, Some("follower"), 5),
        (None, None, 6),
    ] {
        let query = NodesQuery { name: name.map(Into::into), role: role.map(Into::into), ..NodesQuery::default() };
        let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = rig.group.read(|state| page(state, &query, &eyes, after, 1_000, 2));
            assert!(page.nodes.len() <= 3, "two rows and the super");
            seen.extend(page.nodes.into_iter().map(|node| node.node));
            pages += 1;
            let Some(next) = page.next else { break };
            after = Some(next.parse().unwrap());
        }
        assert_eq!((seen.len(), pages), (shown, 3), "{query:?}");
        assert!(seen.is_sorted_by(|a, b| a < b), "each once, in order of key");
    }
}

#[tokio::test]
async fn health_says_what_is_missing() {
    let mut rig = Rig::new().await.with_followers(2).await;
    assert_eq!(rig.get("/livez").await.text, "ok\n");
    // The rules of this rig are native: nothing is compiled here.
    let ready = rig.get("/readyz").await;
    assert_eq!((ready.code().as_str(), ready.status.as_u16()), ("not_ready", 503));
    assert_eq!(ready.json()["ready"], false);
    let checks = ready.json()["checks"].clone();
    let failed: Vec<_> =
        checks.as_array().unwrap().iter().filter(|c| c["ok"] == false).map(|c| c["name"].clone()).collect();
    assert_eq!(failed, ["policies_prepared"]);
    rig.app.context().metrics.open.set(0);
    let why = rig.get("/readyz").await.json()["checks"][1].clone();
    assert!(why["name"] == "takes_part" && why["why"].as_str().unwrap().contains("hears of no rounds"), "{why}");
    rig.settle(&[]).await;
    let metrics = rig.get("/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    for line in
        ["pingward_settled_round 2", "pingward_queue 2", "pingward_leading 1", "pingward_members{standing=\"good\"} 2"]
    {
        assert!(metrics.text.contains(line), "{line} is not in {}", metrics.text);
    }
    assert!(metrics.text.contains("route=\"/readyz\",status=\"503\"} 2"), "{}", metrics.text);
    let index = rig.get("/").await;
    assert!(index.text.contains("/v1/status") && index.headers.contains_key("content-security-policy"));
}

#[tokio::test]
async fn a_follower_shows_how_it_stands_and_says_whom_to_ask_for_the_rest() {
    let nothing = follower(FollowerView::default());
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let status = ask(&nothing, get("/v1/status")).await.json();
    let fields = ["cluster", "leader", "round", "standing", "reason", "earned", "wallet", "warning", "earliest_return"];
    for field in fields.into_iter().chain(["rules"]) {
        assert_eq!(status[field], Value::Null, "{field}: it has not been told");
    }
    assert_eq!(ask(&nothing, get("/readyz")).await.code(), "not_ready");
    for path in ["/v1/nodes", "/v1/rounds", "/v1/policies", "/v1/accounts/treasury"] {
        let answer = ask(&nothing, get(path)).await;
        assert_eq!((answer.code().as_str(), answer.status), ("wrong_role", StatusCode::NOT_FOUND), "{path}");
    }
    let claim = Request::post("/v1/claims").body(Body::empty()).unwrap();
    assert_eq!(ask(&nothing, claim).await.code(), "wrong_role");

    let told = Told {
        node: key(1).id(),
        round: RoundId(9),
        presence: Presence::Unknown,
        standing: Standing::Suspended,
        reason: "missed".into(),
        earned: Points(12),
        wallet: Points(3),
        until: Some(RoundId(20)),
    };
    let own = Own { told, until_ms: Some(5_000), warning: None };
    let suspended = follower(FollowerView { own: Some(own), ..FollowerView::default() });
    let status = ask(&suspended, get("/v1/status")).await.json();
    assert_eq!(
        (&status["standing"], &status["reason"], &status["round"]),
        (&json!("suspended"), &json!("missed"), &json!(9))
    );
    assert_eq!(
        (&status["earned"], &status["wallet"], &status["earliest_return"]),
        (&json!(12), &json!(3), &json!(5_000))
    );
    assert_eq!(status["presence"], Value::Null, "nobody saw it, which is not down");
}

#[tokio::test]
async fn a_follower_shows_the_rules_as_far_as_it_was_told() {
    let policy = |seed, name: &str| PolicyName { digest: Digest([seed; 32]), name: name.into(), version: "2".into() };
    let scheduled = ScheduledPolicy { policy: Some(policy(9, "new")), round: RoundId(22), kind: None };
    let slot = SlotPolicies { slot: Slot::Ban, active: None, scheduled: Some(scheduled) };
    let mut policies = KnownPolicies::default();
    let told = wire::message::Policies { as_of: LogIndex(5), settled: RoundId(10), slots: vec![slot] };
    policies.learn(told, 500);
    let told = follower(FollowerView { policies: Some(policies), ..FollowerView::default() });
    let status = ask(&told, Request::get("/v1/status").body(Body::empty()).unwrap()).await.json();
    let coming = json!({
        "digest": format!("sha256:{}", "09".repeat(32)), "name": "new", "version": "2", "round": 22,
        "notice_rounds": 12, "notice_ms": 6_000, "kind": null,
    });
    let rules = json!({ "reward": null, "ban": { "active": null, "scheduled": coming }, "signing": null });
    assert_eq!(status["rules"], rules, "nobody told of the reward slot, and the ban slot is neutral");
}

#[tokio::test]
async fn a_refused_follower_says_why_and_until_when() {
    let refusal = Refusal::Banned { until: RoundId(40), until_ms: 9_000, reason: "missed".into() };
    let words = crate::roles::follower::words::refusal(&refusal, "known.json");
    let refused = Some(crate::roles::follower::Refused { refusal, words, retry_ms: 8_000 });
    let banned = follower(FollowerView { refused, ..FollowerView::default() });
    let status = ask(&banned, Request::get("/v1/status").body(Body::empty()).unwrap()).await.json();
    assert_eq!((&status["standing"], &status["earliest_return"]), (&json!("banned"), &json!(9_000)));
    assert_eq!((&status["refused"]["code"], &status["retry_ms"]), (&json!("banned"), &json!(8_000)));
    assert!(status["refused"]["hint"].as_str().unwrap().contains("wait"), "{status}");
}
