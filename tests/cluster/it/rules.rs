//! Rules of a running cluster: swapped at a round boundary, refused with the reason, contained when they misbehave.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::bombs;
use crate::lives::books_close;
use crate::support::{Process, Site, get, member, round, round_of, runs, settled, until};

/// Where the component of `tests/misbehave` is.
fn misbehave() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../misbehave/misbehave.wasm").to_string_lossy().to_string()
}

fn rule(component: &str, config: &str) -> String {
    format!("[policy.ban]\ncomponent = \"{component}\"\nconfig = {config}\n")
}

fn rewrite(site: &Site, rule: &str) {
    let path = site.folder.join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let head = text.split("[policy.ban]").next().unwrap();
    std::fs::write(&path, format!("{head}{rule}")).unwrap();
}

fn active(api: &str) -> Value {
    get(api, "/v1/policies")["slots"]["ban"]["active"]["digest"].clone()
}

/// Changes the file and asks for a reload; waits until the new rule decides.
fn swaps(site: &Site, process: &Process, rule: &str) -> Value {
    let before = active(&site.api);
    rewrite(site, rule);
    process.signal(Signal::HUP);
    until("the new rule to be active", || Some(active(&site.api)).filter(|digest| *digest != before));
    active(&site.api)
}

/// The digest of the ban policy that decided a round.
fn decided_by(api: &str, number: u64) -> Value {
    let round = round_of(api, number);
    let slots = round["slots"].as_array().cloned().unwrap_or_default();
    slots.iter().find(|slot| slot["slot"] == "ban").map(|slot| slot["policy"].clone()).unwrap_or_default()
}

fn followers(site: &Site, parent: &Path, count: usize) -> Vec<Process> {
    let running: Vec<Process> =
        (1..=count).map(|i| Site::of_follower(parent, &format!("f-{i}"), site).start()).collect();
    until("everybody to be paid", || {
        let paid = |i: &usize| member(&site.api, &format!("f-{i}")).is_some_and(|m| m["earned"].as_i64() > Some(0));
        ((1..=count).filter(paid).count() == count).then_some(())
    });
    running
}

#[test]
fn what_fails_admission_leaves_the_running_rule_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let good = rule("builtin:ban-strikes", "{ warn = 2, suspend = 3, ban = 4, ban_rounds = 6 }");
    let site = Site::of_super(folder.path(), "super-1", 1_000, &good);
    let process = site.start();
    let _followers = followers(&site, folder.path(), 2);
    let running = active(&site.api);

    let builtin =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/prebuilt/ban-strikes.wasm")).unwrap();
    let flipped: Vec<u8> =
        builtin.iter().enumerate().map(|(i, b)| if i == builtin.len() / 2 { b ^ 0xff } else { *b }).collect();
    let reward =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/prebuilt/reward-flat.wasm")).unwrap();
    std::fs::write(site.folder.join("flipped.wasm"), flipped).unwrap();
    std::fs::write(site.folder.join("short.wasm"), &builtin[..builtin.len() / 2]).unwrap();
    std::fs::write(site.folder.join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(site.folder.join("reward.wasm"), reward).unwrap();
    std::fs::write(site.folder.join("text.wasm"), "(component)").unwrap();
    std::fs::write(site.folder.join("empty.wasm"), "").unwrap();
    let clock =
        r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result u64))))))"#;
    std::fs::write(site.folder.join("clock.wasm"), wat::parse_str(clock).unwrap()).unwrap();

    let always = |act: &str| format!("{{ act = \"{act}\", always = true }}");
    for (component, config, words) in [
        ("gone.wasm", "{}".to_string(), "gone.wasm"),
        ("flipped.wasm", "{}".to_string(), "it does not decode"),
        ("short.wasm", "{}".to_string(), "section range"),
        ("text.wasm", "{}".to_string(), "no WebAssembly"),
        ("empty.wasm", "{}".to_string(), "the file is empty"),
        ("clock.wasm", "{}".to_string(), "wasi:clocks/monotonic-clock"),
        ("core.wasm", "{}".to_string(), "core module"),
        ("reward.wasm", "{}".to_string(), "reward"),
        ("builtin:ban-strikes", "{ warn = 9, suspend = 3 }".to_string(), "warn"),
        ("builtin:ban-strike", "{}".to_string(), "ban-strikes"),
        (&misbehave(), always("panic"), "the rule fell over member 3"),
        (&misbehave(), always("loop"), "fuel"),
        (&misbehave(), always("grow"), "memory"),
        (&misbehave(), always("recurse"), "stack"),
        (&misbehave(), always("refuse"), "it does not want to"),
        (&misbehave(), always("length"), "memory"),
        (&misbehave(), always("huge"), "more than"),
    ] {
        let from = process.printed().len();
        rewrite(&site, &rule(component, &config));
        process.signal(Signal::HUP);
        let (line, _) = process.line_after(from, &format!("why {component} {config} is not taken"), |line| {
            line.to_lowercase().contains(&words.to_lowercase())
                && (line.contains("ban") || line.contains("polic"))
                && (line.contains("WARN") || line.contains("ERROR") || line.contains("not taken"))
        });
        assert!(!line.is_empty());
        let now = round(&site.api);
        settled(&site.api, now + 1);
        assert_eq!(active(&site.api), running, "{component} {config}");
    }
    // A file that is no config at all changes nothing either, and the line is named.
    let from = process.printed().len();
    rewrite(&site, &rule("builtin:ban-strikes", "{ warn = }"));
    process.signal(Signal::HUP);
    process.line_after(from, "the line of the file", |line| line.contains("node.toml:") && line.contains("not TOML"));
    rewrite(&site, &rule("builtin:ban-strikes", "{ warn = 1 }\nconfgi = 1"));
    process.signal(Signal::HUP);
    process.line_after(from, "a suggestion", |line| line.contains("confgi"));
    let now = round(&site.api);
    settled(&site.api, now + 2);
    assert_eq!(decided_by(&site.api, round(&site.api)), running);
}

#[test]
fn a_rule_that_misbehaves_later_is_contained_and_replaced_by_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let good = rule("builtin:ban-strikes", "{ warn = 2, suspend = 3, ban = 4, ban_rounds = 6 }");
    let site = Site::of_super(folder.path(), "super-1", 1_000, &good);
    let process = site.start();
    let _followers = followers(&site, folder.path(), 2);
    let last_good = active(&site.api);
    for (act, kind, words) in [
        ("panic", "trap", "the rule fell over member 3"),
        ("loop", "fuel", "fuel"),
        ("grow", "memory", "memory"),
        ("recurse", "stack", "stack"),
        ("refuse", "refused", "it does not want to"),
        ("log", "log", "log"),
        ("length", "length", "memory"),
        ("huge", "output", "bytes"),
    ] {
        let bad = swaps(&site, &process, &rule(&misbehave(), &format!("{{ act = \"{act}\" }}")));
        let from = round(&site.api);
        // Three faults in ten rounds bring the last good rule back by itself.
        until(&format!("the good rule to be back after {act}"), || (active(&site.api) == last_good).then_some(()));
        let faulty = (from..=round(&site.api))
            .map(|number| round_of(&site.api, number))
            .find(|round| round["slots"].to_string().contains(kind))
            .unwrap_or_else(|| panic!("no round names the fault {kind} of {bad}"));
        assert!(faulty["slots"].to_string().contains(words), "{faulty}");
    }
    for name in ["f-1", "f-2"] {
        let member = member(&site.api, name).unwrap();
        assert_eq!((member["standing"].as_str(), member["strikes"].as_u64()), (Some("good"), Some(0)), "{member}");
    }
    books_close(&site.api);
}

#[test]
fn a_rule_that_bans_everybody_is_capped_rolled_back_and_made_good() {
    let folder = tempfile::tempdir().unwrap();
    let good = rule("builtin:ban-strikes", "{ warn = 2, suspend = 3, ban = 4, ban_rounds = 6 }");
    let site = Site::of_super(folder.path(), "super-1", 1_000, &good);
    let process = site.start();
    let _followers = followers(&site, folder.path(), 12);
    let start = round(&site.api);
    let bad = swaps(&site, &process, &rule(&misbehave(), "{ act = \"ban\" }"));
    let since = round(&site.api);
    // At most five of twelve may be put out within the window: the rest of the moves are held.
    until("the held cap to bite", || {
        let answer = crate::support::request(&site.api, "GET", "/readyz", &[], b"").ok()?;
        (answer.status == 503 && answer.text.contains("held")).then_some(())
    });
    let out = || {
        let nodes = get(&site.api, "/v1/nodes?limit=100");
        let nodes = nodes["nodes"].as_array().unwrap();
        nodes.iter().filter(|node| node["standing"] == "banned" || node["standing"] == "suspended").count()
    };
    until("somebody to be put out", || (out() > 0).then_some(()));
    let now = round(&site.api);
    settled(&site.api, now + 4);
    assert!(out() <= 5, "{} of 12 are out", out());
    site.operates(&["policy", "rollback", "ban"]);
    until("the rollback", || (active(&site.api) != bad).then_some(()));
    let digest = bad.as_str().unwrap().to_string();
    site.operates(&[
        "bans",
        "lift",
        "--policy",
        &digest,
        "--since",
        &since.saturating_sub(2).to_string(),
        "--reason",
        "a wrong rule",
    ]);
    until("everybody to be good again", || (out() == 0).then_some(()));
    // What they missed meanwhile is made good by the operator.
    let last = round(&site.api);
    let mut lines = String::from("node,points,round,reason\n");
    for i in 1..=12 {
        let key = member(&site.api, &format!("f-{i}")).unwrap()["node"].as_str().unwrap().to_string();
        lines.push_str(&format!("{key},50,{last},made good\n"));
    }
    std::fs::write(site.folder.join("good.csv"), lines).unwrap();
    let before = member(&site.api, "f-1").unwrap()["earned"].as_i64().unwrap();
    site.operates(&["compensate", "good.csv"]);
    assert!(member(&site.api, "f-1").unwrap()["earned"].as_i64().unwrap() >= before + 50);
    assert!(start < last);
    books_close(&site.api);
}

#[test]
fn a_swap_under_two_hundred_followers_loses_no_ping_and_drops_no_stream() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Process::start(
        "demo",
        folder.path(),
        &["demo", "--rest", "127.0.0.1:0", "--followers", "200", "--flaky", "0", "--round-ms", "2000"],
    );
    let first = demo.line("its address", |line| line.contains("http://"));
    let api =
        first.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches('/').to_string();
    let all_up = |number: u64| {
        let round = round_of(&api, number);
        (round["up"].as_u64(), round["down"].as_u64(), round["unknown"].as_u64())
    };
    until("two hundred to be up", || {
        let last = round(&api);
        (last > 0 && all_up(last).0 == Some(200)).then_some(())
    });
    let before = active(&api);
    let start = round(&api);
    demo.types(r#"swap ban builtin:ban-strikes {"warn":5,"suspend":6,"ban":7,"ban_rounds":3}"#);
    until("the new rule", || (active(&api) != before).then_some(()));
    let end = round(&api) + 3;
    settled(&api, end);
    let digests: Vec<Value> = (start..=end).map(|number| decided_by(&api, number)).collect();
    let changes = digests.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 1, "one boundary: {digests:?}");
    for number in start..=end {
        assert_eq!(all_up(number), (Some(200), Some(0), Some(0)), "round {number}");
    }
    let nodes = get(&api, "/v1/nodes?limit=1000");
    assert!(nodes["nodes"].as_array().unwrap().iter().all(|node| node["connected"] == true));
    demo.types("quit");
    assert!(demo.ends().success());
}

#[test]
fn the_memory_of_a_rule_is_kept_or_starts_empty_as_its_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let config = |schema: &str, act: &str| {
        rule(&misbehave(), &format!("{{ memory = 8, schema = \"{schema}\", act = \"{act}\" }}"))
    };
    let site = Site::of_super(folder.path(), "super-1", 1_000, &config("a", "nothing"));
    let process = site.start();
    let _followers = followers(&site, folder.path(), 1);
    let said = |rule: &str, wanted: &str| {
        let from = process.printed().len();
        swaps(&site, &process, rule);
        process.line_after(from, wanted, |line| line.contains(wanted)).0
    };
    // Another config of the same component: a new policy that finds the old one's memory.
    said(&rule(&misbehave(), "{ memory = 8, schema = \"a\", act = \"nothing\", always = true }"), "kept");
    said(&config("b", "nothing"), "empty");
}

#[test]
fn a_component_that_exhausts_its_compiler_is_refused_while_rounds_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let good = rule("builtin:ban-strikes", "{ warn = 1, suspend = 2, ban = 3, ban_rounds = 6 }");
    let site = Site::of_super(folder.path(), "super-1", 1_000, &good);
    let process = site.start();
    let _followers = followers(&site, folder.path(), 2);
    let running = active(&site.api);
    // One that takes its compiler long, and one that takes it much.
    std::fs::write(site.folder.join("slow.wasm"), bombs::many_functions(600_000)).unwrap();
    std::fs::write(site.folder.join("large.wasm"), bombs::loops_of_variables(1_000, 40_000)).unwrap();
    let (first, from) = (round(&site.api), process.printed().len());
    rewrite(&site, &rule("slow.wasm", "{}"));
    process.signal(Signal::HUP);
    // Its compiler stands back behind other work, so on a busy machine it is the wall clock that ends it.
    process.line_after(from, "why the bomb is not taken", |line| {
        let ended =
            line.contains("compiling it takes more than the ") || line.contains("compiling it was not done after ");
        ended && line.contains("fewer and smaller functions")
    });
    let last = round(&site.api) + 1;
    settled(&site.api, last);
    assert!(last > first + 1, "it was no bomb");
    assert_eq!(active(&site.api), running);
    // Nobody was struck for what the super had to do meanwhile.
    for name in ["f-1", "f-2"] {
        let member = member(&site.api, name).unwrap();
        assert_eq!((&member["standing"], &member["strikes"]), (&"good".into(), &0.into()), "{member}");
    }
    // The author's commands take it no better.
    let (code, text) = crate::support::refused(&site.folder, &["policy", "check", "large.wasm"]);
    assert!(code == 1 && text.contains("compile: compiling it takes more than the 1024 MiB of memory"), "{text}");
}

#[test]
fn a_restart_takes_compiled_code_from_its_own_folder_and_no_code_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::of_super(folder.path(), "super-1", 1_000, &rule(&misbehave(), "{ act = \"nothing\" }"));
    let process = site.start();
    settled(&site.api, 1);
    let running = active(&site.api);
    assert!(process.stop().0.success());
    let compiled = || -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(site.folder.join("data/compiled")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    // Three rules, and the builtin to which a rule that fails returns.
    let files = compiled();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in &files {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }
    let process = site.start();
    let now = round(&site.api);
    settled(&site.api, now + 1);
    assert_eq!(active(&site.api), running);
    let (status, printed) = process.stop();
    let warned = |printed: &[String]| printed.iter().filter(|line| line.contains("not as this node wrote it")).count();
    assert!(status.success() && warned(&printed) == 4, "{}", printed.join("\n"));
    assert_eq!(compiled(), files, "and they are there again");
    let process = site.start();
    settled(&site.api, now + 2);
    assert_eq!(warned(&process.stop().1), 0);
}

#[test]
fn a_component_can_be_checked_and_looked_at_without_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let said = runs(folder.path(), &["policy", "inspect", &misbehave()]);
    for word in ["misbehave", "ban", "sha256:", "pingward:policy/log"] {
        assert!(said.contains(word), "{word}:\n{said}");
    }
    runs(folder.path(), &["policy", "check", &misbehave(), "--slot", "ban"]);
    let (code, text) = crate::support::refused(folder.path(), &["policy", "check", &misbehave(), "--slot", "reward"]);
    assert_eq!(code, 1);
    assert!(text.contains("ban"), "{text}");
}
