//! A recorded round as a case: taken from a running super, played again, and cut down where a rule failed.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::{Site, get, member, refused, round, round_of, runs, settled, until};

fn component(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    path.canonicalize().unwrap().to_string_lossy().to_string()
}

/// The slot's part of a round.
fn part(api: &str, number: u64, slot: &str) -> serde_json::Value {
    let round = round_of(api, number);
    let found = round["slots"].as_array().unwrap().iter().find(|part| part["slot"] == slot).cloned();
    found.unwrap_or_default()
}

fn read(folder: &Path, name: &str) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_round_is_captured_and_gives_the_same_decisions_again() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "[policy.ban]\ncomponent = \"builtin:ban-strikes\"\nconfig = { warn = 1, suspend = 3, ban = 4, ban_rounds = 6 }\n";
    let site = Site::of_super(folder.path(), "super-1", 1_000, rule);
    let _super = site.start();
    let _steady = Site::of_follower(folder.path(), "steady", &site).start();
    let victim = Site::of_follower(folder.path(), "victim", &site).start();
    until("both to be paid", || {
        let paid = |name: &&str| member(&site.api, name).is_some_and(|m| m["earned"].as_i64() > Some(0));
        ["steady", "victim"].iter().all(paid).then_some(())
    });
    victim.kill();
    crate::support::standing(&site.api, "victim", "suspended");
    let last = round(&site.api);
    let called = (1..=last).rev().find(|number| part(&site.api, *number, "ban")["called"] == true).unwrap();
    let number = called.to_string();

    let (ban, reward) =
        (component("plugins/prebuilt/ban-strikes.wasm"), component("plugins/prebuilt/reward-flat.wasm"));
    let said = site.operates(&["policy", "capture", "--slot", "ban", "--round", &number, "--component", &ban]);
    assert!(said.contains("its decisions") && said.contains("2 members"), "{said}");
    let name = format!("ban-round-{number}.toml");
    let text = read(&site.folder, &name);
    for word in ["name = \"victim\"", "presence = \"down\"", "expect.standing = [", "warn = 1", "sha256:"] {
        assert!(text.contains(word), "{word}:\n{text}");
    }
    assert!(!text.contains("127.0.0.1"), "no address: {text}");
    let played = runs(&site.folder, &["policy", "test", &ban, "--cases", &name]);
    assert!(played.contains("1 cases, all as expected"), "{played}");
    // Another config: what would have been decided.
    let config = r#"{"warn":100,"suspend":200,"ban":300,"ban_rounds":6}"#;
    let (code, _) = refused(&site.folder, &["policy", "test", &ban, "--cases", &name, "--config", config]);
    assert_eq!(code, 1);
    // The same again is the same file; another text would get another name, and a named file is never overwritten.
    site.operates(&["policy", "capture", "--slot", "ban", "--round", &number]);
    assert!(!site.folder.join(format!("ban-round-{number}-2.toml")).exists());
    let (code, said) =
        refused(&site.folder, &["policy", "capture", "--slot", "ban", "--round", &number, "--out", &name]);
    assert!(code == 1 && said.contains("nothing is overwritten"), "{code}: {said}");

    // A span of the other slot, and some members of one round.
    let from = called.saturating_sub(2).to_string();
    site.operates(&["policy", "capture", "--slot", "reward", "--round", &from, "--rounds", "3", "--out", "three.toml"]);
    let played = runs(&site.folder, &["policy", "test", &reward, "--cases", "three.toml"]);
    assert!(played.contains("3 cases, all as expected"), "{played}");
    site.operates(&[
        "policy", "capture", "--slot", "ban", "--round", &number, "--nodes", "victim", "--out", "one.toml",
    ]);
    assert!(read(&site.folder, "one.toml").contains("These are 1 of 2 members"));
    runs(&site.folder, &["policy", "test", &ban, "--cases", "one.toml"]);
}

#[test]
fn a_fault_in_a_round_names_the_command_that_captures_it_and_its_case_fails_again() {
    let folder = tempfile::tempdir().unwrap();
    // It is not replaced while it is looked at.
    let good = "[policy_limits]\nreturn_faults = 10\n[policy.ban]\ncomponent = \"builtin:ban-strikes\"\n";
    let site = Site::of_super(folder.path(), "super-1", 1_000, good);
    let process = site.start();
    let _followers: Vec<_> =
        (1..=3).map(|i| Site::of_follower(folder.path(), &format!("f-{i}"), &site).start()).collect();
    until("everybody to be in the queue", || {
        let queue = get(&site.api, "/v1/followers/queue?limit=10");
        (queue["queue"].as_array().map(Vec::len) == Some(3)).then_some(())
    });
    let misbehave = component("tests/misbehave/misbehave.wasm");
    let text = read(&site.folder, "node.toml");
    let head = text.split("[policy.ban]").next().unwrap();
    let rule = format!("[policy.ban]\ncomponent = \"{misbehave}\"\nconfig = {{ act = \"panic\", memory = 2 }}\n");
    std::fs::write(site.folder.join("node.toml"), format!("{head}{rule}")).unwrap();
    process.signal(Signal::HUP);

    let hint =
        process.line("the fault with its hint", |line| line.contains("pingward policy capture --slot ban --round "));
    let number =
        hint.split("--round ").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap().to_string();
    assert!(hint.contains("the rule fell over member 3"), "{hint}");
    let listed = runs(&site.folder, &["policy", "list", "--api", &site.api]);
    assert!(listed.contains(&format!("pingward policy capture --slot ban --round {number}`")), "{listed}");
    let events = runs(&site.folder, &["events", "--api", &site.api, "--last", "200"]);
    assert!(events.contains(&format!("--round {number}`")), "{events}");
    settled(&site.api, number.parse::<u64>().unwrap() + 1);

    // All that it saw, and with the component at hand the fewest members that it takes.
    let said = site.operates(&["policy", "capture", "--slot", "ban", "--round", &number, "--out", "all.toml"]);
    assert!(said.contains("3 members, it failed: trap: "), "{said}");
    let played = runs(&site.folder, &["policy", "test", &misbehave, "--cases", "all.toml"]);
    assert!(played.contains("failed as expected") && played.contains("the rule fell over member 3"), "{played}");
    let said = site.operates(&[
        "policy",
        "capture",
        "--slot",
        "ban",
        "--round",
        &number,
        "--component",
        &misbehave,
        "--out",
        "least.toml",
    ]);
    assert!(said.contains("alone brings it about"), "{said}");
    assert_eq!(read(&site.folder, "least.toml").matches("name = \"f-").count(), 1);
    runs(&site.folder, &["policy", "test", &misbehave, "--cases", "least.toml"]);
    // With a rule that is mended the case says so.
    let (code, _) = refused(
        &site.folder,
        &["policy", "test", &component("plugins/prebuilt/ban-strikes.wasm"), "--cases", "least.toml", "--config", "{}"],
    );
    assert_eq!(code, 1);
}

#[test]
fn an_author_sees_the_member_that_a_rule_fails_over_and_gets_a_case() {
    let folder = tempfile::tempdir().unwrap();
    let misbehave = folder.path().join("my-rule.wasm");
    std::fs::copy(component("tests/misbehave/misbehave.wasm"), &misbehave).unwrap();
    let cases = "[[case]]\nname = \"a life\"\nconfig = { act = \"panic\" }\nrounds = [\"+-\"]\nexpect.standing = [\"good\", \"good\"]\n";
    std::fs::write(folder.path().join("cases.toml"), cases).unwrap();
    let output = crate::support::run(folder.path(), &["policy", "test", "my-rule.wasm"]);
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in
        ["DIFF  a life", "the rule fell over member 3", "alone brings it about", "presence", "wrote my-rule.fault.toml"]
    {
        assert!(said.contains(word), "{word}:\n{said}");
    }
    let said = runs(folder.path(), &["policy", "test", "my-rule.wasm", "--cases", "my-rule.fault.toml"]);
    assert!(said.contains("failed as expected"), "{said}");
    // Admission's self-test is told in the same way.
    let config = r#"{"act":"panic","always":true}"#;
    let output = crate::support::run(folder.path(), &["policy", "check", "my-rule.wasm", "--config", config]);
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert!(said.contains("FAULT in the self-test") && said.contains("of 15 alone brings it about"), "{said}");
    assert!(folder.path().join("my-rule.fault-2.toml").exists(), "{said}");
    let output = crate::support::run(
        folder.path(),
        &["policy", "bench", "my-rule.wasm", "--config", r#"{"act":"panic"}"#, "--members", "40"],
    );
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert!(said.contains("FAULT with 40 members") && said.contains("of 40 alone brings it about"), "{said}");
}
