//! What Cargo and the compiler do not hold by themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a rule that cannot be read is broken"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tidy::{files, root};
use toml::{Table, Value};

fn manifest(path: &Path) -> Table {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table<'a>(value: &'a Table, key: &str) -> Option<&'a Table> {
    value.get(key).and_then(Value::as_table)
}

/// Names of all that a manifest depends on, build and dev dependencies included.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut names: BTreeSet<String> =
        kinds.iter().filter_map(|kind| table(manifest, kind)).flat_map(|t| t.keys().cloned()).collect();
    if let Some(targets) = table(manifest, "target") {
        for target in targets.values().filter_map(Value::as_table) {
            names.extend(kinds.iter().filter_map(|kind| table(target, kind)).flat_map(|t| t.keys().cloned()));
        }
    }
    names
}

fn members() -> Vec<(String, Table)> {
    let root_manifest = manifest(&root().join("Cargo.toml"));
    let members = root_manifest["workspace"]["members"].as_array().unwrap().clone();
    members
        .iter()
        .map(|member| {
            let folder = member.as_str().unwrap();
            let manifest = manifest(&root().join(folder).join("Cargo.toml"));
            (folder.to_string(), manifest)
        })
        .collect()
}

/// The floor plan: what each room may import of ours. Rooms on one floor never see each other.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("host/kernel", &[]),
    ("host/wire", &["kernel"]),
    ("host/store", &["kernel"]),
    (
        "host/policy",
        &[
            "kernel",
            "pingward-sdk",
            "reward-flat",
            "ban-strikes",
            "my-ban-rule",
            "my-reward-rule",
            "my-signing-rule",
            "sign-basic",
            "ntp-pool",
            "cosmos-window",
            "storj-online",
            "ripe-atlas",
            "solana-tvc",
            "oxen-credit",
            "lido-csm",
            "tor-flags",
        ],
    ),
    ("host/raft", &["kernel", "wire", "store"]),
    ("host/node", &["kernel", "wire", "store", "policy", "raft"]),
    ("plugins/sdk", &[]),
    ("plugins/reward-flat", &["pingward-sdk"]),
    ("plugins/ban-strikes", &["pingward-sdk"]),
    ("plugins/sign-basic", &["pingward-sdk"]),
    ("plugins/template", &["pingward-sdk"]),
    ("plugins/template-reward", &["pingward-sdk"]),
    ("plugins/template-signing", &["pingward-sdk"]),
    ("plugins/cookbook/ntp-pool", &["pingward-sdk"]),
    ("plugins/cookbook/cosmos-window", &["pingward-sdk"]),
    ("plugins/cookbook/storj-online", &["pingward-sdk"]),
    ("plugins/cookbook/ripe-atlas", &["pingward-sdk"]),
    ("plugins/cookbook/solana-tvc", &["pingward-sdk"]),
    ("plugins/cookbook/oxen-credit", &["pingward-sdk"]),
    ("plugins/cookbook/lido-csm", &["pingward-sdk"]),
    ("plugins/cookbook/tor-flags", &["pingward-sdk"]),
    ("tests/tidy", &[]),
    ("tests/misbehave", &["pingward-sdk"]),
    ("tests/sim", &["kernel", "store", "raft"]),
    ("tests/cluster", &["kernel", "wire", "store", "policy", "raft", "node"]),
    (
        "tests/bench",
        &[
            "kernel",
            "wire",
            "store",
            "policy",
            "raft",
            "node",
            "pingward-sdk",
            "reward-flat",
            "ban-strikes",
            "ripe-atlas",
        ],
    ),
];

#[test]
fn imports_go_down_the_floors_only() {
    let members = members();
    let ours: BTreeSet<String> = members.iter().map(|(_, m)| m["package"]["name"].as_str().unwrap().into()).collect();
    for (folder, manifest) in &members {
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(room, _)| room == folder)
            .unwrap_or_else(|| panic!("{folder} is not in the floor plan of tests/tidy"));
        for used in dependencies(manifest).intersection(&ours) {
            assert!(allowed.contains(&used.as_str()), "{folder} imports {used}, which the floor plan does not allow");
        }
    }
    // Plugins may meet the policy room in its tests only, as native twins: never in what is built.
    let policy = members.iter().find(|(folder, _)| folder == "host/policy").map(|(_, m)| m).unwrap();
    let built = table(policy, "dependencies").unwrap();
    let mut plugins = members.iter().filter(|(folder, _)| folder.starts_with("plugins/"));
    assert!(
        plugins.all(|(_, plugin)| !built.contains_key(plugin["package"]["name"].as_str().unwrap())),
        "plugins are bytes to the host"
    );
}

#[test]
fn members_are_listed_from_the_ground_up() {
    let order: Vec<String> = members().into_iter().map(|(folder, _)| folder).collect();
    let plan: Vec<&str> =
        MAY_IMPORT.iter().map(|(room, _)| *room).filter(|room| order.iter().any(|o| o == room)).collect();
    assert_eq!(order, plan, "Cargo.toml lists the rooms in the order of the floor plan");
}

#[test]
fn every_room_takes_the_workspace_lints_and_versions() {
    for (folder, manifest) in members() {
        let lints = table(&manifest, "lints").and_then(|t| t.get("workspace")).and_then(Value::as_bool);
        // The templates go out of the workspace, where there is nothing to inherit.
        if !folder.starts_with("plugins/template") {
            assert_eq!(lints, Some(true), "{folder}: add [lints] workspace = true");
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in table(&manifest, kind).into_iter().flatten() {
                let inherited = value.as_table().and_then(|t| t.get("workspace")).and_then(Value::as_bool);
                let by_path = folder.starts_with("plugins") && value.as_table().is_some_and(|t| t.contains_key("path"));
                assert!(
                    inherited == Some(true) || by_path,
                    "{folder}: {name}: versions stand in the root Cargo.toml only"
                );
            }
        }
    }
}

fn locked() -> BTreeMap<String, Vec<(String, BTreeSet<String>)>> {
    let lock = manifest(&root().join("Cargo.lock"));
    let mut all: BTreeMap<String, Vec<(String, BTreeSet<String>)>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let dependencies = package.get("dependencies").and_then(Value::as_array).cloned().unwrap_or_default();
        let names = dependencies.iter().filter_map(Value::as_str);
        let names = names.map(|name| name.split(' ').next().unwrap_or_default().to_string()).collect();
        let version = package["version"].as_str().unwrap().to_string();
        all.entry(package["name"].as_str().unwrap().to_string()).or_default().push((version, names));
    }
    all
}

#[test]
fn banned_crates_are_absent_and_heavy_ones_stay_in_their_room() {
    let deny = manifest(&root().join(".deny.toml"));
    let locked = locked();
    for ban in deny["bans"]["deny"].as_array().unwrap() {
        let name = ban["crate"].as_str().unwrap();
        let Some(wrappers) = ban.get("wrappers").and_then(Value::as_array) else {
            let reason = ban.get("reason").and_then(Value::as_str).unwrap_or_default();
            assert!(!locked.contains_key(name), "{name} is in Cargo.lock: {reason}");
            continue;
        };
        let users = locked.iter().filter(|(_, versions)| versions.iter().any(|(_, uses)| uses.contains(name)));
        for (user, _) in users {
            let allowed = wrappers.iter().any(|wrapper| wrapper.as_str() == Some(user));
            assert!(allowed || user.starts_with("wasmtime"), "{user} uses {name}, which belongs to {wrappers:?}");
        }
    }
}

#[test]
fn the_engine_is_at_or_above_its_security_floor() {
    // 48.0.7 fixes CVE-2026-115893; 48 is the line with long support.
    let [(version, _)] = locked()["wasmtime"].clone().try_into().expect("one wasmtime");
    let parts: Vec<u64> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts[0] == 48 && (parts[1], parts[2]) >= (0, 7), "wasmtime {version} is below 48.0.7 or of another line");
}

#[test]
fn unsafe_code_is_forbidden_in_every_room() {
    for (folder, manifest) in members() {
        if folder.starts_with("plugins") || folder == "tests/misbehave" {
            // The bindings of the component model are generated and need it; the workspace lint denies it elsewhere.
            continue;
        }
        let library =
            manifest.get("lib").and_then(|lib| lib.get("path")).and_then(Value::as_str).unwrap_or("src/lib.rs");
        let path = root().join(&folder).join(library);
        let path = if path.exists() { path } else { root().join(&folder).join("src/main.rs") };
        let head = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The engine's generated bindings lift the lint for themselves, which a forbid would not let them.
        let word = if folder == "host/policy" { "deny" } else { "forbid" };
        let wanted = format!("#![{word}(unsafe_code)]");
        assert!(head.contains(&wanted), "{}: {wanted} belongs at its head", path.display());
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("todo", "!("), concat!("#[ig", "nore")];
    for folder in ["host", "plugins", "wit", "tests"] {
        for ends in [".rs", ".md", ".wit", ".proto", ".toml"] {
            for path in files(&root().join(folder), ends) {
                let text = std::fs::read_to_string(&path).unwrap();
                for (number, line) in text.lines().enumerate() {
                    let found = words.iter().find(|word| line.contains(*word));
                    assert!(found.is_none(), "{}:{}: {}", path.display(), number + 1, found.unwrap_or(&""));
                }
            }
        }
    }
}

#[test]
fn every_metric_is_moved_by_somebody() {
    let node = root().join("host/node/src");
    let metrics = std::fs::read_to_string(node.join("metrics.rs")).unwrap();
    let body =
        metrics.split("pub struct Metrics {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("struct Metrics");
    let fields: Vec<&str> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ").and_then(|line| line.split(':').next()))
        .collect();
    assert!(fields.len() > 5, "struct Metrics has public fields");
    let sources: Vec<String> = files(&node, ".rs")
        .into_iter()
        .filter(|path| !path.ends_with("metrics.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for field in fields {
        let moved = sources
            .iter()
            .any(|source| source.match_indices(field).any(|(at, _)| source[..at].trim_end().ends_with('.')));
        assert!(moved, "metrics.{field} is shown but nothing moves it");
    }
}

#[test]
fn the_tree_has_the_agreed_top_level() {
    let allowed = ["Cargo.toml", "Cargo.lock", "README.md", "host", "plugins", "wit", "tests", "target"];
    for entry in std::fs::read_dir(root()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().to_string();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name} does not belong at the top level");
    }
}
