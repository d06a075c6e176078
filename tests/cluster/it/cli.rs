//! The command line as scripts meet it: exit codes, and what goes to which stream.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{free_port, refused, run, runs};

#[test]
fn a_wrong_command_line_ends_with_two_and_says_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (vec!["statsu"], "status"),
        (vec!["demo", "--follower", "3"], "--followers"),
        (vec!["claim", "--key", "k", "--amount", "0"], "1"),
        (vec!["bans", "lift", "x", "--reason", "y"], "--config"),
    ] {
        let (code, text) = refused(folder.path(), &arguments);
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}

#[test]
fn a_node_that_is_not_there_is_a_failure_with_its_address_and_nothing_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let api = format!("http://127.0.0.1:{}", free_port());
    for command in ["status", "queue", "nodes", "rewards", "bans", "rounds", "events"] {
        for output in ["table", "json"] {
            let done = run(folder.path(), &[command, "--api", &api, "--output", output]);
            let text = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(1), "{command}: {text}");
            assert!(done.stdout.is_empty() && text.contains(&api) && text.contains("hint"), "{command}: {text}");
        }
    }
}

#[test]
fn what_is_made_once_is_never_overwritten_and_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    runs(folder.path(), &["init", "--role", "follower", "--dir", "f"]);
    let key = folder.path().join("f/node.key");
    let before = std::fs::read(&key).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, text) = refused(folder.path(), &["init", "--role", "super", "--dir", "f"]);
    assert!(code == 1 && text.contains("nothing is overwritten"), "{code}: {text}");
    let (code, text) = refused(folder.path(), &["key", "new", "f/node.key"]);
    assert!(code == 1 && text.contains("f/node.key"), "{code}: {text}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    let shown = runs(folder.path(), &["key", "show", "f/node.key"]);
    assert!(shown.split_whitespace().any(|word| word.len() == 64), "{shown}");
    runs(folder.path(), &["config", "check", "f/node.toml"]);
}

#[test]
fn an_unknown_key_of_a_config_is_named_with_its_line_and_the_one_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("node.toml"), "[node]\nrole = \"super\"\n\n[round]\nintervall_ms = 1000\n")
        .unwrap();
    for arguments in [["config", "check", "node.toml"], ["run", "--config", "node.toml"]] {
        let (code, text) = refused(folder.path(), &arguments);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("node.toml:5:") && text.contains("interval_ms"), "{text}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was begun");
}

#[test]
fn a_rule_that_refuses_its_config_is_found_before_the_node_runs() {
    let folder = tempfile::tempdir().unwrap();
    let config = |rule: &str| {
        let text = format!("[node]\nrole = \"super\"\n[policy.ban]\n{rule}\n");
        std::fs::write(folder.path().join("node.toml"), text).unwrap();
    };
    config("config = { warn = 9, suspend = 3 }");
    let (code, text) = refused(folder.path(), &["config", "check", "node.toml"]);
    assert!(code == 1 && text.contains("[policy.ban]") && text.contains("warn"), "{code}: {text}");
    config("component = \"gone.wasm\"");
    let (code, text) = refused(folder.path(), &["config", "check", "node.toml"]);
    assert!(code == 1 && text.contains("gone.wasm"), "{code}: {text}");
    config("config = { warn = 1, suspend = 2 }");
    assert_eq!(runs(folder.path(), &["config", "check", "node.toml"]), "ok\n");
}

#[test]
fn completions_are_for_a_shell_that_exists() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(runs(folder.path(), &["completions", shell]).contains("pingward"), "{shell}");
    }
    assert_eq!(refused(folder.path(), &["completions", "tcl"]).0, 2);
}
