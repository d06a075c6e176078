//! A cluster is written to a file and begins again from it, by another super.

use serde_json::Value;

use crate::support::{Site, get, refused, runs, settled, until};

fn json(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.operates(&[arguments, &["--output", "json"]].concat())).unwrap()
}

#[test]
fn a_cluster_begins_again_from_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let old = Site::of_super(folder.path(), "super-1", 500, "");
    let follower = Site::of_follower(folder.path(), "follower-1", &old);
    let (super_1, node) = (old.start(), follower.start());
    until("points", || {
        let rewards = get(&old.api, "/v1/rewards");
        rewards["rewards"].as_array()?.first()?["earned"].as_i64().filter(|earned| *earned > 0)
    });
    // Nothing is earned any more, so that both can be compared.
    let (status, _) = node.stop();
    assert!(status.success());
    settled(&old.api, get(&old.api, "/v1/status")["round"].as_u64().unwrap() + 3);

    let members = json(&old, &["cluster", "members"]);
    assert_eq!(members["members"][0]["name"], "super-1");
    let table = old.operates(&["cluster", "members", "--read", "local"]);
    assert!(table.contains("voter") && table.contains(&old.grpc), "{table}");
    let key = members["members"][0]["node"].as_str().unwrap().to_string();
    let (code, text) = refused(&old.folder, &["cluster", "remove", &key[..8]]);
    assert!(code == 1 && text.contains("[quorum]") && text.contains("0 of 0 voters"), "{code}: {text}");
    let (code, text) = refused(&old.folder, &["cluster", "promote", "super-1"]);
    assert!(code == 1 && text.contains("[already_member]"), "{code}: {text}");
    let (code, text) = refused(&old.folder, &["cluster", "add", "127.0.0.1:7001"]);
    assert!(code == 2 && text.contains("@host:port"), "{code}: {text}");

    old.operates(&["cluster", "set", "guardrails.probation_rounds", "7", "--reason", "a test"]);
    let said = json(&old, &["cluster", "backup", "lab.backup"]);
    assert_eq!(said["cluster"], get(&old.api, "/v1/status")["cluster"]);
    let file = old.folder.join("lab.backup");
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(said["bytes"].as_u64(), Some(bytes.len() as u64));
    let (code, text) = refused(&old.folder, &["cluster", "backup", "lab.backup"]);
    assert!(code == 1 && text.contains("--force"), "{code}: {text}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "it was left as it was");
    old.operates(&["cluster", "backup", "lab.backup", "--force"]);
    let beside: Vec<_> = std::fs::read_dir(&old.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.iter().filter(|name| name.to_string_lossy().starts_with("lab.backup")).count(), 1, "{beside:?}");

    let rewards = get(&old.api, "/v1/rewards");
    let cluster = get(&old.api, "/v1/status")["cluster"].clone();
    super_1.stop();

    let new = Site::of_super(folder.path(), "super-2", 500, "");
    let file = file.to_str().unwrap();
    let said = json(&new, &["cluster", "restore", file]);
    assert_eq!(said["from"], cluster);
    let again = refused(&new.folder, &["cluster", "restore", file]);
    assert!(again.0 == 1 && again.1.contains("holds a cluster already"), "{}", again.1);
    let super_2 = new.start();
    let status = get(&new.api, "/v1/status");
    assert_eq!((&status["cluster"], &status["name"]), (&said["cluster"], &"super-2".into()));
    assert_ne!(status["cluster"], cluster);
    assert_eq!(get(&new.api, "/v1/rewards"), rewards);
    settled(&new.api, said["round"].as_u64().unwrap() + 3);
    let settings = get(&new.api, "/v1/settings");
    assert_eq!(settings["settings"]["guardrails.probation_rounds"], 7, "{settings}");
    // Its follower follows when it has been told.
    let path = follower.folder.join("node.toml");
    let config = std::fs::read_to_string(&path).unwrap().replace(&old.grpc, &new.grpc);
    std::fs::write(&path, config).unwrap();
    std::fs::remove_file(follower.folder.join("data/known.json")).unwrap();
    let _node = follower.start();
    let before = rewards["rewards"][0]["earned"].as_i64().unwrap();
    until("more points", || {
        let rewards = get(&new.api, "/v1/rewards");
        rewards["rewards"].as_array()?.first()?["earned"].as_i64().filter(|earned| *earned > before)
    });
    // It still answers for who it is, with its own token alone.
    let listed = runs(&new.folder, &["cluster", "members", "--output", "json"]);
    assert!(listed.contains("super-2"), "{listed}");
    drop(super_2);
}
