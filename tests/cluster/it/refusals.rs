//! Who is turned away and who is put out, and that it is told in words: what happened and what to do about it.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use rustix::process::Signal;

use crate::support::{Process, Site, free_port, member, refused, round, runs, settled, standing, until};

/// Changes a line of a site's config.
fn edit(site: &Site, from: &str, to: &str) {
    let file = site.folder.join("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "no `{from}` in:\n{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// A super with rounds of half a second, running.
fn lead(parent: &Path) -> (Site, Process) {
    let site = Site::of_super(parent, "super-1", 500, "");
    let process = site.start();
    (site, process)
}

fn paid(site: &Site, name: &str) {
    until(&format!("{name} to be paid"), || member(&site.api, name).filter(|m| m["earned"].as_i64() > Some(0)));
}

/// The source port of a follower.
fn port(follower: &Site) -> String {
    let text = std::fs::read_to_string(follower.folder.join("node.toml")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("connect_port = ")).unwrap().to_string()
}

/// Runs a follower that gives up at its first refusal; what it said.
fn gives_up(follower: &Site) -> String {
    let (code, said) = refused(&follower.folder, &["run", "--once", "--config", "node.toml"]);
    assert_eq!(code, 1, "{said}");
    said
}

#[test]
fn a_follower_of_another_cluster_is_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let (site, _super) = lead(folder.path());
    let follower = Site::of_follower(folder.path(), "stranger", &site);
    edit(&follower, "[cluster]\n", "[cluster]\nid = \"prod\"\n");
    let said = gives_up(&follower);
    assert!(said.contains("wrong_cluster") && said.contains("lab#") && said.contains("cluster.id"), "{said}");
    assert!(member(&site.api, "stranger").is_none(), "it is no member");
}

/// Carries bytes between whoever connects and a place, as a router that rewrites ports does; gives its own address.
fn rewriting_router(to: &str) -> String {
    let (listener, to) = (TcpListener::bind("127.0.0.1:0").unwrap(), to.to_string());
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for inside in listener.incoming().map_while(Result::ok) {
            let Ok(outside) = TcpStream::connect(&to) else { return };
            for (mut from, mut to) in [(inside.try_clone().unwrap(), outside.try_clone().unwrap()), (outside, inside)] {
                std::thread::spawn(move || {
                    let _ended = std::io::copy(&mut from, &mut to);
                    let _closed = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

#[test]
fn a_follower_whose_port_is_rewritten_on_the_way_is_refused_with_both_ports() {
    let folder = tempfile::tempdir().unwrap();
    let (site, _super) = lead(folder.path());
    let follower = Site::of_follower(folder.path(), "natted", &site);
    edit(&follower, &site.grpc, &rewriting_router(&site.grpc));
    let said = gives_up(&follower);
    assert!(said.contains("port_mismatch") && said.contains(&format!("declared port {}", port(&follower))), "{said}");
    assert!(member(&site.api, "natted").is_none(), "it is no member");
    // The operator may lift the rule.
    site.operates(&["cluster", "set", "round.require_declared_port", "false"]);
    let now = round(&site.api);
    settled(&site.api, now + 3);
    let _process = follower.start();
    paid(&site, "natted");
}

/// Loopback has many addresses here, so that two nodes can come from one port of one address.
#[cfg(target_os = "linux")]
#[test]
fn a_second_node_at_an_address_and_port_is_refused_until_it_has_a_port_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::of_super(folder.path(), "super-1", 500, "");
    let grpc_port = site.grpc.rsplit_once(':').unwrap().1;
    edit(&site, &format!("grpc = \"{}\"", site.grpc), &format!("grpc = \"0.0.0.0:{grpc_port}\""));
    let _super = site.start();
    let (first, second) =
        (Site::of_follower(folder.path(), "first", &site), Site::of_follower(folder.path(), "second", &site));
    let _first = first.start();
    paid(&site, "first");
    edit(&second, &port(&second), &port(&first));
    edit(&second, &site.grpc, &format!("127.0.0.2:{grpc_port}"));
    let said = gives_up(&second);
    assert!(said.contains("port_taken") && said.contains("its own follower.connect_port"), "{said}");
    assert!(member(&site.api, "second").is_none(), "it is no member");
    edit(&second, &port(&second), &free_port().to_string());
    let _second = second.start();
    paid(&site, "second");
}

#[test]
fn a_ban_by_hand_closes_the_stream_and_the_follower_says_until_when() {
    let folder = tempfile::tempdir().unwrap();
    let (site, _super) = lead(folder.path());
    let follower = Site::of_follower(folder.path(), "victim", &site);
    let process = follower.start();
    paid(&site, "victim");
    let seen = process.printed().len();
    site.operates(&["bans", "add", "victim", "--rounds", "8", "--reason", "asked to leave"]);
    let until_round = standing(&site.api, "victim", "banned")["ban"]["until_round"].as_u64().unwrap();
    let (line, seen) = process.line_after(seen, "that it is banned", |line| line.contains("banned through round"));
    assert!(line.contains(&format!("round {until_round}")) && line.contains("asked to leave"), "{line}");
    assert!(line.contains("it comes back by itself"), "{line}");
    until("its stream to be closed", || (member(&site.api, "victim")?["connected"] == false).then_some(()));
    // It does, by itself, and not before.
    standing(&site.api, "victim", "probation");
    assert!(round(&site.api) >= until_round);
    process.line_after(seen, "that it is attached again", |line| line.contains("attached"));

    let (_, said) = refused(&site.folder, &["bans", "add", "super-1", "--rounds", "8", "--reason", "x"]);
    assert!(said.contains("the key belongs to a super"), "{said}");
}

#[test]
fn other_accepted_versions_close_streams_with_the_range_and_the_way_back_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let (site, _super) = lead(folder.path());
    let follower = Site::of_follower(folder.path(), "old", &site);
    let process = follower.start();
    paid(&site, "old");
    site.operates(&["cluster", "set", "cluster.accept_versions", ">=0.7, <0.9"]);
    let line = process.line("the range", |line| line.contains("the cluster accepts"));
    assert!(line.contains(">=0.7, <0.9") && line.contains("outdated"), "{line}");
    until("its stream to be closed", || (member(&site.api, "old")?["connected"] == false).then_some(()));
    let now = round(&site.api);
    settled(&site.api, now + 6);
    let out = member(&site.api, "old").unwrap();
    assert_eq!((out["standing"].as_str(), out["strikes"].as_u64()), (Some("good"), Some(0)), "{out}");

    site.operates(&["cluster", "set", "cluster.accept_versions", ">=0.1, <0.2"]);
    let earned = out["earned"].as_i64();
    until("pay again", || member(&site.api, "old").filter(|m| m["earned"].as_i64() > earned));
}

#[test]
fn a_file_read_again_says_what_counts_and_what_waits_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (site, process) = lead(folder.path());
    let follower = Site::of_follower(folder.path(), "f-1", &site);
    let follower_process = follower.start();
    edit(&site, "name = \"super-1\"", "name = \"another\"");
    edit(&site, "interval_ms = 500", "interval_ms = 600");
    process.signal(Signal::HUP);
    let waits = process.line("what waits", |line| line.contains("counts from the next start"));
    assert!(waits.contains("node.name") && !waits.contains("listen"), "{waits}");
    process.line("what counts", |line| line.contains("round.interval_ms = 600"));
    process.line("that it was read", |line| line.contains("config file read again") && line.contains("settings=1"));
    follower_process.signal(Signal::HUP);
    follower_process.line("that it takes nothing", |line| line.contains("a follower has nothing to reload"));
}

#[test]
fn a_rules_file_that_has_gone_stops_neither_a_cluster_that_has_it_nor_its_operator() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "[policy.ban]\ncomponent = \"ban.wasm\"\nconfig = { warn = 2, suspend = 3, ban = 5, ban_rounds = 60 }\n";
    let site = Site::of_super(folder.path(), "super-1", 500, rule);
    let builtin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/prebuilt/ban-strikes.wasm");
    let file = site.folder.join("ban.wasm");
    // It cannot be founded without, and `config check` says so.
    for command in [["run", "--config"].as_slice(), &["config", "check"]] {
        let (_, said) = refused(&site.folder, &[command, &["node.toml"]].concat());
        assert!(said.contains("`policy.ban.component`: there is no file"), "{said}");
    }
    std::fs::copy(builtin, &file).unwrap();
    let process = site.start();
    settled(&site.api, 1);
    std::fs::remove_file(&file).unwrap();
    site.operates(&["cluster", "set", "round.second_ping_bp", "500"]);
    let (status, printed) = process.stop();
    assert!(status.success(), "{}", printed.join("\n"));
    let process = site.start();
    let (line, _) = process.line_after(0, "that the file has gone", |line| line.contains("policy refused"));
    assert!(line.contains("ban.wasm") && line.contains("what decides now goes on"), "{line}");
    let now = round(&site.api);
    settled(&site.api, now + 2);
    assert!(runs(&site.folder, &["policy", "list", "--api", &site.api]).contains("ban-strikes"));
    let (_, said) = refused(&site.folder, &["config", "check", "node.toml"]);
    assert!(said.contains("there is no file"), "{said}");
}
