//! The one-process demo: what a newcomer sees first.

use crate::support::{Process, get, settled, until};

fn start(folder: &std::path::Path, more: &[&str]) -> (Process, String) {
    let mut arguments = vec!["demo", "--rest", "127.0.0.1:0"];
    arguments.extend(more);
    let demo = Process::start("demo", folder, &arguments);
    let first = demo.line("its REST address", |line| line.contains("http://"));
    let api = first.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    (demo, api.trim_end_matches('/').to_string())
}

#[test]
fn twenty_seconds_show_a_ban_a_return_and_a_penalty() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, _) = start(folder.path(), &["--duration", "20"]);
    let status = demo.ends();
    let printed = demo.printed();
    assert!(status.success(), "{status}\n{}", printed.join("\n"));
    let all = printed.join("\n");
    assert!(printed[0].contains("http://127.0.0.1:"), "the address comes first: {}", printed[0]);
    for (what, words) in [
        ("a warning", ["warned", "follower-"]),
        ("a suspension", ["suspended", "follower-"]),
        ("a ban", ["banned", "follower-"]),
        ("a return on probation", ["probation", "follower-"]),
        ("a penalised over-claim", ["penalty", "follower-"]),
    ] {
        let shown = printed.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(shown, "{what} is never shown:\n{all}");
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "it leaves no file");
}

#[test]
fn the_console_kills_restarts_overclaims_swaps_and_quits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, api) = start(folder.path(), &["--followers", "4", "--flaky", "0"]);
    settled(&api, 2);
    let mut at = 0;
    let mut says = |demo: &mut Process, typed: &str, wanted: &[&str]| {
        let from = demo.printed().len();
        demo.types(typed);
        let (line, _) = demo.line_after(from, &format!("{wanted:?} after `{typed}`"), |line| {
            wanted.iter().all(|word| line.contains(word))
        });
        at += 1;
        line
    };
    says(&mut demo, "help", &["swap"]);
    says(&mut demo, "dance", &["help"]);
    says(&mut demo, "kill follower-9", &["follower-9"]);
    says(&mut demo, "overclaim follower-2", &["penalty"]);
    says(&mut demo, "kill follower-1", &["follower-1"]);
    until("follower-1 to be put out", || {
        let nodes = get(&api, "/v1/nodes?limit=100");
        let node =
            nodes["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "follower-1").cloned().unwrap();
        (node["standing"] == "banned" || node["standing"] == "suspended").then_some(())
    });
    says(&mut demo, "restart follower-1", &["follower-1"]);
    let before = get(&api, "/v1/policies")["slots"]["ban"]["active"]["digest"].clone();
    says(&mut demo, "swap ban nothing.wasm", &["nothing.wasm"]);
    says(&mut demo, r#"swap ban builtin:ban-strikes {"warn":5,"suspend":6,"ban":7,"ban_rounds":3}"#, &["ban", "round"]);
    until("the new rule to be active", || {
        (get(&api, "/v1/policies")["slots"]["ban"]["active"]["digest"] != before).then_some(())
    });
    // A super that is killed takes nobody down with it: its disk stays, and nobody is struck.
    let round = get(&api, "/v1/status")["round"].as_u64().unwrap();
    says(&mut demo, "kill super-1", &["super-1"]);
    says(&mut demo, "restart super-1", &["super-1"]);
    settled(&api, round + 4);
    let nodes = get(&api, "/v1/nodes?limit=100");
    for node in nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["role"] == "follower" && node["name"] != "follower-1")
    {
        assert_eq!(node["standing"], "good", "{node}");
    }
    demo.types("quit");
    assert!(demo.ends().success());
    assert!(at > 8);
}

#[test]
fn a_taken_port_is_named_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = crate::support::refused(folder.path(), &["demo", "--rest", &address, "--duration", "1"]);
    assert_eq!(code, 1);
    assert!(text.contains(&address) && text.contains("--rest"), "{text}");
}

#[test]
fn a_group_of_three_loses_its_leader_is_cut_and_made_slow_and_nobody_is_struck() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, api) =
        start(folder.path(), &["--supers", "3", "--followers", "4", "--flaky", "0", "--round-ms", "2000"]);
    settled(&api, 4);
    let says = |demo: &mut Process, typed: &str, wanted: &[&str]| {
        let from = demo.printed().len();
        demo.types(typed);
        let (line, _) = demo.line_after(from, &format!("{wanted:?} after `{typed}`"), |line| {
            wanted.iter().all(|word| line.contains(word))
        });
        line
    };
    says(&mut demo, "kill super-1", &["killed super-1", "2 of 3 supers go on"]);
    // The table names a super that runs.
    let line = says(&mut demo, "status", &["http://", "followers running"]);
    let api = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_string();
    let round = || get(&api, "/v1/status?read=local")["round"].as_u64().unwrap();
    let goes_on = || {
        let goal = round() + 4;
        until("four more rounds", || (round() >= goal).then_some(()));
    };
    goes_on();
    says(&mut demo, "restart super-1", &["restarted super-1"]);
    goes_on();
    says(&mut demo, "partition super-1|super-2,super-3", &["cut between super-1 | super-2, super-3", "goes on"]);
    goes_on();
    says(&mut demo, "status", &["super-1", "out of reach"]);
    says(&mut demo, "heal", &["the network is whole again"]);
    says(&mut demo, "lag super-1 100ms", &["100 ms late"]);
    goes_on();
    says(&mut demo, "heal", &["the network is whole again"]);
    goes_on();
    let nodes = get(&api, "/v1/nodes?limit=100");
    for node in nodes["nodes"].as_array().unwrap().iter().filter(|node| node["role"] == "follower") {
        let detail = get(&api, &format!("/v1/nodes/{}", node["node"].as_str().unwrap()));
        assert_eq!((&detail["standing"], &detail["strikes"]), (&"good".into(), &0.into()), "{detail}");
    }
    demo.types("quit");
    assert!(demo.ends().success());
}
