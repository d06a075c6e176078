use serde_json::json;

use super::*;

const KEY: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(text, expected.trim_start_matches('\n'), "\n{text}");
}

#[test]
fn a_followers_status_tells_its_standing_and_points() {
    let status = json!({
        "node": KEY, "name": "follower-1", "role": "follower", "version": "0.1.0", "cluster": "lab#00", "leader": null,
        "round": 7, "suspect": false, "uptime_ms": 65_000, "standing": "warned", "reason": "missed 1", "earned": 60, "wallet": 0,
        "warning": null, "earliest_return": null, "connected_to": ["127.0.0.1:7001"], "refused": null, "retry_ms": null,
        "failed": null,
    });
    check(
        &status_text(&status),
        "
node          8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c
name          follower-1
role          follower
version       0.1.0
cluster       lab#00
leader        -
round         7
suspect       no
up for        1 min 5 s
standing      warned
reason        missed 1
earned        60
wallet        0
warning       -
returns       -
reward rule   -
ban rule      -
signing rule  -
attached to   127.0.0.1:7001
",
    );
}

#[test]
fn a_followers_status_tells_the_rules_in_force_and_those_to_come() {
    let rule = |name: &str| json!({ "digest": format!("sha256:{name}"), "name": name, "version": "1" });
    let coming = |name: Option<&str>, kind: &str| {
        let digest = name.map(|name| format!("sha256:{name}"));
        json!({ "digest": digest, "name": name, "version": name.map(|_| "2"), "round": 22, "notice_rounds": 12,
                "notice_ms": 120_000, "kind": kind })
    };
    let check = |round: Option<u64>, rules: Value, expected: &str| {
        let text = status_text(&json!({ "role": "follower", "round": round, "rules": rules }));
        let rows: Vec<&str> = text
            .lines()
            .skip_while(|row| !row.starts_with("reward rule"))
            .take_while(|row| !row.starts_with("attached to"))
            .collect();
        assert_eq!(rows.join("\n"), expected.trim(), "\n{text}");
    };
    check(
        Some(15),
        json!({ "reward": { "active": rule("flat"), "scheduled": null },
                "ban": { "active": rule("strikes"), "scheduled": coming(Some("lenient"), "scheduled") },
                "signing": { "active": rule("basic"), "scheduled": null } }),
        "
reward rule   flat 1 sha256:flat
ban rule      strikes 1 sha256:strikes
to come       from round 22 on (in 7 rounds, about 1 min 10 s): lenient 2 sha256:lenient
signing rule  basic 1 sha256:basic",
    );
    check(
        None,
        json!({ "reward": { "active": null, "scheduled": coming(None, "returned") }, "ban": null }),
        "
reward rule   none, the slot is neutral
to come       from round 22 on (in 12 rounds, about 2 min 0 s), because the one in force failed too often: none, the slot is neutral
ban rule      -
signing rule  -",
    );
}

#[test]
fn a_refused_follower_says_why_and_when_it_tries_again() {
    let refused = json!({ "code": "banned", "detail": "banned until round 11", "hint": "wait" });
    let status = json!({ "role": "follower", "refused": refused, "retry_ms": 1_764_064_502_123_u64 });
    let text = status_text(&status);
    assert!(text.contains("refused       banned until round 11 [banned]\nhint          wait\n"), "{text}");
    assert!(text.contains("tries again   2025-11-25 09:55:02Z\n"), "{text}");
}

#[test]
fn nodes_fit_eighty_columns() {
    let answer = json!({ "nodes": [
        { "node": KEY, "name": "super-1", "role": "super", "standing": null, "connected": false, "last_pong_ms": null, "rtt_us": null },
        { "node": KEY, "name": "follower-1", "role": "follower", "standing": "good", "connected": true, "last_pong_ms": 10_000, "rtt_us": 1_250 },
    ], "next": null });
    let text = nodes_text(&answer, 10_400);
    check(
        &text,
        "
name        key       role      standing  stream  last pong  rtt
super-1     8a88e3dd  super     -         -       -          -
follower-1  8a88e3dd  follower  good      open    400 ms     1.2 ms
",
    );
    assert!(text.lines().all(|line| line.len() <= 80));
}

#[test]
fn the_queue_has_turns() {
    let answer = json!({ "round": 3, "queue": [
        { "position": 1, "node": KEY, "name": "follower-2", "address": "127.0.0.1:8081", "standing": "good" },
        { "position": 2, "node": KEY, "name": null, "address": null, "standing": "probation" },
    ] });
    check(
        &queue_text(&answer),
        "
turn  name        key       standing   address
1     follower-2  8a88e3dd  good       127.0.0.1:8081
2     -           8a88e3dd  probation  -
",
    );
    check(&queue_text(&json!({ "queue": [] })), "the queue is empty: no follower has joined yet\n");
}

#[test]
fn rewards_end_with_the_total() {
    let answer = json!({ "rewards": [{ "node": KEY, "name": "a", "address": null, "earned": 30, "claimed": 5, "penalties": 1 }], "total_issued": 36 });
    check(
        &rewards_text(&answer),
        "
name  key       earned  claimed  penalties  address
a     8a88e3dd  30      5        1          -
total issued: 36
",
    );
}

#[test]
fn a_round_names_the_rules_that_decided_it_and_their_faults() {
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let round = json!({
        "round": 9, "term": 1, "time_ms": 1_764_064_502_123_u64, "suspect": true, "causes": ["lag"], "up": 3, "down": 1,
        "unknown": 0, "issued": 30, "moves": 0, "deferred": 0, "held": 0, "clamped": 0,
        "policies": { "reward": digest, "ban": null }, "settings_version": 1, "digest": digest,
        "slots": [{ "slot": "reward", "policy": digest, "called": true, "input": digest, "fuel": 12_000,
                    "fault": { "kind": "trap", "message": "my own words" } }],
    });
    check(
        &rounds_text(&json!({ "rounds": [round] })),
        "
round  time                  up  down  unknown  issued  moves  suspect  reward    ban
9      2025-11-25 09:55:02Z  3   1     0        30      0      lag      ba7816bf  -
",
    );
    let text = round_text(&round);
    assert!(text.contains("up / down / unknown        3 / 1 / 0\n"), "{text}");
    assert!(text.contains(&format!("reward  {digest}  yes     12000  trap: my own words\n")), "{text}");
}

#[test]
fn bans_say_until_when_and_why() {
    let answer = json!({ "bans": [{ "index": 4, "node": KEY, "name": "f", "round": 12, "time_ms": 1, "from": "suspended", "to": "banned",
        "strikes": 4, "until_round": 17, "until_ms": 2, "reason": "4 misses", "by": "policy",
        "policy": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "active": true, "over": false }] });
    check(
        &bans_text(&answer),
        "
round  name  key       until round  active  by      policy    reason
12     f     8a88e3dd  17           yes     policy  ba7816bf  4 misses
",
    );
}

#[test]
fn an_account_shows_its_movements() {
    let account = json!({ "key": KEY, "name": "f", "earned": 9, "wallet": 1, "balance": null, "claimed": 1, "penalties": 0, "next_sequence": 5 });
    let entries = json!({ "entries": [{ "index": 1, "part": 0, "round": 2, "time_ms": 1_764_064_502_123_u64, "kind": "reward",
        "from": "treasury", "to": format!("earned:{KEY}"), "points": 10, "policy": null, "reason": null }] });
    check(
        &account_text(&account, &entries),
        "
key            8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c
name           f
earned         9
wallet         1
claimed        1
penalties      0
next sequence  5

round  time                  kind    points  from      to               reason
2      2025-11-25 09:55:02Z  reward  10      treasury  earned:8a88e3dd  -
",
    );
}

#[test]
fn a_page_is_asked_for_by_its_end() {
    let page = |after: &str| Page { limit: 5, after: Some(after.into()) }.route("/v1/nodes");
    assert_eq!(page("ab-1").unwrap(), "/v1/nodes?limit=5&after=ab-1");
    for after in ["", "a&b", "a b", "ü"] {
        assert!(page(after).unwrap_err().usage, "{after}");
    }
}
