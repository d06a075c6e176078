use std::collections::BTreeMap;
use std::path::Path;

use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    with(text, &[])
}

fn with(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env: Vec<_> = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    parse(Path::new("lab/node.toml"), text, &env)
}

/// The problems of a file with this text after `role = "super"` or follower, as people see them.
#[track_caller]
fn check(text: &str, expected: &str) {
    let error = read(text).expect_err("a problem");
    assert_eq!(error.to_string(), expected.trim_matches('\n'));
}

#[test]
fn a_role_is_enough() {
    let config = read("[node]\nrole = \"super\"").unwrap();
    assert_eq!(config.name, "super");
    assert_eq!(config.data_dir, Path::new("lab/data"));
    assert_eq!(config.key_file, Path::new("lab/node.key"));
    assert_eq!(config.grpc.to_string(), "127.0.0.1:7001");
    assert_eq!(config.rest.to_string(), "127.0.0.1:8080");
    assert_eq!(config.settings, Settings::default());
    assert!(config.supers.is_empty() && config.settings_said.is_empty() && config.notes.is_empty());
    let ban = &config.policies[&Slot::Ban];
    assert_eq!(ban.component.to_string(), "builtin:ban-strikes");
    assert_eq!(ban.config, r#"{"ban":5,"ban_rounds":60,"suspend":3,"warn":2}"#);
    let signing = &config.policies[&Slot::Signing];
    assert_eq!(
        (signing.component.to_string().as_str(), signing.config.as_str()),
        ("builtin:sign-basic", r#"{"max_bytes":65536}"#)
    );
    let follower = read("[node]\nrole = \"follower\"").unwrap();
    assert_eq!(follower.connect_port, 7_101);
    assert_eq!(follower.supers[0].to_string(), "127.0.0.1:7001");
}

#[test]
fn every_default_reads_as_its_kind() {
    assert_eq!(build::unreadable_defaults(), Vec::<&str>::new());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    check(
        "[node]\nrole = \"super\"\n[round]\nintervall_ms = 1000\n",
        "
lab/node.toml:4:1: there is no key `intervall_ms` in [round]
   |
 4 | intervall_ms = 1000
   | ^^^^^^^^^^^^
   = did you mean `interval_ms`?
",
    );
    check(
        "[node]\nrole = \"super\"\ninterval_ms = 1000\n",
        "
lab/node.toml:3:1: there is no key `interval_ms` in [node]
   |
 3 | interval_ms = 1000
   | ^^^^^^^^^^^
   = `interval_ms` belongs to [round]
",
    );
    check(
        "[node]\nrole = \"super\"\n[policy.rewards]\n",
        "
lab/node.toml:3:9: there is no section [policy.rewards]
   |
 3 | [policy.rewards]
   |         ^^^^^^^
   = did you mean [policy.reward]?
",
    );
    check(
        "role = \"super\"\n[node]\nrole = \"super\"\n",
        "
lab/node.toml:1:1: there is no key `role` outside a section
   |
 1 | role = \"super\"
   | ^^^^
   = `role` belongs to [node]
",
    );
}

#[test]
fn a_wrong_type_says_what_is_expected_under_a_caret() {
    check(
        "[node]\nrole = \"super\"\n[round]\ninterval_ms = \"1000\"\n",
        "
lab/node.toml:4:15: `round.interval_ms` is text, expected a whole number, 500 to 3600000
   |
 4 | interval_ms = \"1000\"
   |               ^^^^^^
   = write 1000 without quotes
",
    );
    check(
        "[node]\nrole = \"super\"\n[round]\nsuspect_share_bp = 0.3\nrequire_declared_port = 1\n",
        "
lab/node.toml:4:20: `round.suspect_share_bp` is a number with a fraction, expected a whole number, 500 to 10000
   |
 4 | suspect_share_bp = 0.3
   |                    ^^^
   = basis points are hundredths of a percent: 30 % is 3000

lab/node.toml:5:25: `round.require_declared_port` is a whole number, expected true or false
   |
 5 | require_declared_port = 1
   |                         ^
",
    );
    check(
        "round = 3\n[node]\nrole = \"super\"\n",
        "
lab/node.toml:1:9: `round` is a section, found a whole number
   |
 1 | round = 3
   |         ^
   = write [round] and its keys below it
",
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let error = with(
        "[node]\nrole = \"supper\"\nnane = \"a\"\n[listen]\nrest = \"localhost:80\"\n[history]\nmax_bytes = 5\n",
        &[("PINGWARD_ROUND__INTERVAL", "5"), ("PINGWARD_SERVICE_HOST", "10.0.0.1")],
    )
    .unwrap_err();
    let told: Vec<(String, String)> =
        error.problems.iter().map(|problem| (problem.what.clone(), problem.hint.clone())).collect();
    let expected = [
        ("`node.role` is `supper`", "did you mean \"super\"?"),
        ("there is no key `nane` in [node]", "did you mean `name`?"),
        ("`listen.rest` is `localhost:80`", "use an IP address: \"127.0.0.1:80\""),
        ("`history.max_bytes` is 5, out of bounds", "expected a whole number, 1048576 to 1125899906842624"),
        ("there is no key `round.interval`", "did you mean PINGWARD_ROUND__INTERVAL_MS?"),
    ];
    assert_eq!(told, expected.map(|(what, hint)| (what.to_string(), hint.to_string())));
}

#[test]
fn a_missing_role_and_a_role_of_later_releases_are_told() {
    check(
        "[node]\nname = \"a\"\n",
        "
lab/node.toml: `node.role` is missing; it is the one key without a default
 = write, in a section [node]: role = \"super\", or \"follower\", \"validator\", \"bootstrap\"
",
    );
    check(
        "[node]\nrole = \"observer\"\n",
        "
lab/node.toml:2:8: `node.role` is `observer`
   |
 2 | role = \"observer\"
   |        ^^^^^^^^^^
   = expected \"super\", \"follower\", \"validator\", \"bootstrap\"
",
    );
}

#[test]
fn what_is_not_toml_is_shown_with_its_line() {
    let error = read("[node]\nrole = \n[round\n").unwrap_err();
    assert!(error.problems.len() >= 2, "{error}");
    assert!(error.to_string().starts_with("lab/node.toml:2:"), "{error}");
    assert!(error.problems.iter().all(|problem| problem.what.starts_with("this is not TOML: ")), "{error}");
}

#[test]
fn a_place_that_is_not_toml_is_told_once() {
    let error = read("[node]\nrole = \"super\"\n[policy.ban]\nconfig = { warn = }\n").unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
}

#[test]
fn variables_override_the_file() {
    let config = with(
        "[node]\nrole = \"super\"\n[round]\ninterval_ms = 10000\n",
        &[
            ("PINGWARD_NODE__ROLE", "follower"),
            ("PINGWARD_ROUND__INTERVAL_MS", "1_000"),
            ("PINGWARD_ROUND__REQUIRE_DECLARED_PORT", "false"),
            ("PINGWARD_CLUSTER__SUPERS", "10.0.0.1:7001, [::1]:7002"),
            ("PINGWARD_POLICY__BAN__CONFIG", r#"{"warn": 1, "ban": 4}"#),
            ("PINGWARD_POLICY__REWARD__CONFIG", "{ points_per_round = 3 }"),
            ("PINGWARD_FOLLOWER__CONNECT_PORT", "0"),
        ],
    )
    .unwrap();
    assert_eq!((config.role, config.settings.interval_ms, config.settings.port_rule()), (Role::Follower, 1_000, false));
    assert_eq!(config.supers[1], PeerAddress { key: None, host: "::1".into(), port: 7_002 });
    assert_eq!(config.supers[1].to_string(), "[::1]:7002");
    assert_eq!(config.policies[&Slot::Ban].config, r#"{"ban":4,"warn":1}"#);
    assert_eq!(config.policies[&Slot::Reward].config, r#"{"points_per_round":3}"#);
    assert_eq!(
        config.settings_said,
        [("round.interval_ms", "1000"), ("round.require_declared_port", "false")].map(|(k, v)| (k.into(), v.into()))
    );
    let error = with("[node]\nrole = \"super\"", &[("PINGWARD_ROUND__INTERVAL_MS", "fast")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable PINGWARD_ROUND__INTERVAL_MS: `fast` is not taken, expected a whole number, 500 to 3600000"
    );
}

#[test]
fn a_timeout_above_half_the_interval_is_refused_where_it_stands() {
    check(
        "[node]\nrole = \"super\"\n[round]\nping_timeout_ms = 501\ninterval_ms = 1000\n",
        "
lab/node.toml:4:19: round.ping_timeout_ms 501 is more than half of round.interval_ms 1000; use at most 500 or leave it out
   |
 4 | ping_timeout_ms = 501
   |                   ^^^
",
    );
    assert!(read("[node]\nrole = \"super\"\n[round]\nping_timeout_ms = 500\ninterval_ms = 1000\n").is_ok());
}

#[test]
fn ports_that_cannot_both_be_had_are_refused() {
    check(
        "[node]\nrole = \"follower\"\n[listen]\nrest = \"127.0.0.1:7101\"\n[follower]\nconnect_port = 7101\n",
        "
lab/node.toml:6:16: `follower.connect_port` 7101 is the port of `listen.rest` 127.0.0.1:7101
   |
 6 | connect_port = 7101
   |                ^^^^
   = one port cannot do both: change one of them, or use 0 for any free port
",
    );
    check(
        "[node]\nrole = \"super\"\n[listen]\nrest = \"0.0.0.0:7001\"\n",
        "
lab/node.toml:4:8: `listen.grpc` 127.0.0.1:7001 and `listen.rest` 0.0.0.0:7001 are the same port
   |
 4 | rest = \"0.0.0.0:7001\"
   |        ^^^^^^^^^^^^^^
   = give each its own port
",
    );
}

#[test]
fn a_node_that_joins_knows_a_super_or_a_bootstrap_node() {
    let bootstrap = "[cluster]\nbootstrap = [\"10.0.0.1:7001\"]";
    let supers = "[cluster]\nsupers = []";
    for role in ["follower", "validator"] {
        let config = read(&format!("[node]\nrole = \"{role}\"\n{bootstrap}\n")).unwrap();
        assert_eq!((config.supers.len(), config.bootstrap.len()), (0, 1), "{role}");
        let error = read(&format!("[node]\nrole = \"{role}\"\n{supers}\n")).unwrap_err();
        assert!(error.to_string().contains(&format!("a {role} must know a super")), "{error}");
    }
    let config = read(&format!("[node]\nrole = \"super\"\n{bootstrap}\n")).unwrap();
    assert!(config.notes[0].contains("`cluster.bootstrap` is not read by a super"), "{:?}", config.notes);
    let error = read(&format!("[node]\nrole = \"bootstrap\"\n{supers}\n")).unwrap_err();
    assert!(error.to_string().contains("a bootstrap must know a super"), "{error}");
}

#[test]
fn a_validator_keeps_all_where_its_file_says_nothing_and_a_follower_does_not() {
    let records = |role: &str, more: &str| read(&format!("[node]\nrole = \"{role}\"\n{more}")).unwrap().records;
    assert_eq!(records("validator", "").keep_bytes, 0);
    assert_eq!(records("follower", "").keep_bytes, 1 << 30);
    let said = records("validator", "[records]\nkeep_bytes = 5\nkeep = \"none\"\nraw = \"open\"\nkeep_days = 2\n");
    let expected = RecordsConfig { keep: false, keep_bytes: 5, keep_days: 2, raw_open: true, streams: 64 };
    assert_eq!(said, expected);
}

#[test]
fn addresses_say_what_is_wrong_with_them() {
    let key = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    let pinned = format!("[node]\nrole = \"follower\"\n[cluster]\nsupers = [\"{key}@a.example:1\"]\n");
    assert_eq!(read(&pinned).unwrap().supers[0].key, NodeId::parse(key).ok());
    for (address, hint) in [
        ("a.example", "write host:port, such as 10.0.0.1:7001"),
        ("a.example:0", "the port is a number, 1 to 65535"),
        ("::1:7001", "put an IPv6 address in brackets: [::1]:7001"),
        ("abc@a:1", "the key before @: expected 64 hex digits, found 3 characters"),
        ("http://a:1", "put an IPv6 address in brackets: [http://a]:1"),
        (":1", "the host is a name or an IP address"),
    ] {
        let error = read(&format!("[node]\nrole = \"follower\"\n[cluster]\nsupers = [\"{address}\"]\n")).unwrap_err();
        assert_eq!(error.problems[0].hint, hint, "{address}");
    }
}

#[test]
fn a_policys_config_is_the_same_bytes_however_it_is_written() {
    let a = "[node]\nrole = \"super\"\n[policy.ban]\nconfig = { warn = 1, list = [1, \"a\", true], inner = { b = 2, a = 1 } }\n";
    let b = "[node]\nrole = \"super\"\n[policy.ban.config]\nlist = [1,'a',true]\nwarn = 0x1\n[policy.ban.config.inner]\na = 1\nb = 2\n";
    let expected = r#"{"inner":{"a":1,"b":2},"list":[1,"a",true],"warn":1}"#;
    for text in [a, b] {
        assert_eq!(read(text).unwrap().policies[&Slot::Ban].config, expected);
    }
    assert_eq!(json::canonical(r#" { "warn":1, "list":[1,"a",true],"inner":{"b":2,"a":1}}"#).unwrap(), expected);
    check(
        "[node]\nrole = \"super\"\n[policy.ban]\nconfig = { warn = 1.5 }\n",
        "
lab/node.toml:4:19: `policy.ban.config` has a number with a fraction; policies get whole numbers only
   |
 4 | config = { warn = 1.5 }
   |                   ^^^
   = use a smaller unit, such as basis points
",
    );
    for (text, error) in [
        ("[1]", "a policy's config is a JSON object, such as {\"warn\":2}"),
        (
            r#"{"a":{"b":[1,null]}}"#,
            "`a.b[1]` is null; a policy's config has whole numbers, text, booleans, lists and objects",
        ),
    ] {
        assert_eq!(json::canonical(text).unwrap_err().to_string(), error);
    }
}

#[test]
fn another_component_does_not_get_the_default_ones_config() {
    let text = "[node]\nrole = \"super\"\n[policy.ban]\ncomponent = \"builtin:other\"\n";
    assert_eq!(read(text).unwrap().policies[&Slot::Ban].config, "{}");
}

#[test]
fn a_component_file_counts_from_the_config_and_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "[node]\nrole = \"super\"\n[policy.ban]\ncomponent = \"rules/ban.wasm\"\n").unwrap();
    let error = load_whole(&file, &[]).unwrap_err();
    assert!(error.to_string().contains("node.toml:4:13: `policy.ban.component`: there is no file"), "{error}");
    // A node whose cluster has its rules in the log, and its operators, can do without.
    assert_eq!(load(&file, &[]).unwrap().missing, error.problems);
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    std::fs::write(dir.path().join("rules/ban.wasm"), "").unwrap();
    let config = load_whole(&file, &[]).unwrap();
    assert_eq!(config.policies[&Slot::Ban].component, Component::File(dir.path().join("rules/ban.wasm")));
}

#[test]
fn every_key_of_the_node_alone_is_named_when_it_differs() {
    let before = read("[node]\nrole = \"super\"").unwrap();
    assert_eq!(before.differs(&before), Vec::<&str>::new());
    let keys = schema::schema().iter().filter(|entry| entry.scope == schema::Scope::Node);
    for key in keys.map(|entry| entry.name.as_str()).filter(|key| !key.starts_with("policy.")) {
        let (section, name) = key.split_once('.').unwrap();
        let value = match key {
            "node.role" => "\"follower\"",
            "node.storage" => "\"memory\"",
            "listen.grpc" | "listen.rest" => "\"127.0.0.1:9\"",
            "cluster.supers" => "[\"127.0.0.1:7001\"]",
            "cluster.bootstrap" => "[\"127.0.0.1:7001\"]",
            "records.keep" => "\"none\"",
            "records.raw" => "\"open\"",
            "records.keep_bytes" | "records.keep_days" | "records.streams" => "7",
            "follower.connect_port" => "9",
            "rest.public_addresses" => "true",
            "cluster.heartbeat_ms" => "100",
            "history.max_bytes" => "2000000000",
            _ => "\"other\"",
        };
        // A key is read by every role, whichever uses it.
        let role = if key == "node.role" { "" } else { "node.role = \"super\"\n" };
        let after = read(&format!("{role}[{section}]\n{name} = {value}\n"));
        let after = after.or_else(|_| read(&format!("[node]\nrole = \"super\"\n{name} = {value}\n")));
        let after = after.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(before.differs(&after).contains(&key), "{key}");
    }
}

#[test]
fn what_a_role_does_not_read_is_noted() {
    let config =
        read("[node]\nrole = \"follower\"\n[round]\ninterval_ms = 1000\n[policy.signing]\ncomponent = \"x.wasm\"\n")
            .unwrap();
    assert_eq!(
        config.notes,
        [
            "lab/node.toml:4: `round.interval_ms` is not read by a follower",
            "lab/node.toml:6: `policy.signing.component` is not read by a follower",
        ]
    );
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = load(Path::new("/nowhere/node.toml"), &[]).unwrap_err();
    assert!(error.to_string().contains("pingward init --role super"), "{error}");
}

#[test]
fn the_file_that_init_writes_is_accepted_and_names_every_key_of_its_role() {
    for role in Role::ALL {
        let text = template::file(role, &BTreeMap::from([("node.role", format!("\"{role}\""))]));
        let config = read(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((config.role, config.notes.as_slice()), (role, [].as_slice()));
        // With every default taken into the file nothing changes.
        let all: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|line| line.contains(" = ") && !line.contains('`')).unwrap_or(line)
            })
            .fold(String::new(), |all, line| all + line + "\n");
        let full = read(&all).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((full.settings, full.policies), (config.settings, config.policies));
        for entry in schema::schema().iter().filter(|entry| entry.roles.contains(&role)) {
            assert!(all.lines().any(|line| line.starts_with(&format!("{} = ", entry.key()))), "{}", entry.name);
        }
    }
}
