use kernel::decide::{LimitSettings, Policy as _, Slot};
use kernel::id::Digest;
use policy::{CHECKS, Findings, admit, inspect, prepare};

use crate::guests::{BAN_STRIKES, REWARD_FLAT, SIGN_BASIC, WIT, admit_ban, engine, honest, judge, talking};

/// The candidate is refused by that check with exactly one finding, which says all of `words`.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Findings>, check: &str, words: &[&str]) {
    let findings = result.expect_err("it was admitted");
    assert_eq!(findings.0.len(), 1, "{findings}");
    let finding = &findings.0[0];
    assert!(CHECKS.contains(&finding.check), "{}", finding.check);
    assert_eq!(finding.check, check, "{finding}");
    for word in words {
        assert!(finding.to_string().contains(word), "{finding}\nlacks: {word}");
    }
}

#[test]
fn all_defaults_pass_and_say_what_they_are() {
    let limits = crate::guests::limits();
    for (slot, bytes, name) in [
        (Slot::Reward, REWARD_FLAT, "reward-flat"),
        (Slot::Ban, BAN_STRIKES, "ban-strikes"),
        (Slot::Signing, SIGN_BASIC, "sign-basic"),
    ] {
        let admitted = admit(engine(), slot, bytes, "{}", &limits).unwrap();
        assert_eq!((admitted.description.name.as_str(), admitted.description.version.as_str()), (name, "0.1.0"));
        assert_eq!(admitted.component, Digest::of(bytes));
        assert_eq!(admitted.digest, Digest::of_policy(Digest::of(bytes), Digest::of(b"{}")));
        assert!(bytes.len() < 100 << 10, "{name} has {} bytes", bytes.len());
    }
}

#[test]
fn what_passed_before_is_prepared_again_under_limits_that_were_lowered_since() {
    let limits = crate::guests::limits();
    for (slot, bytes) in [(Slot::Reward, REWARD_FLAT), (Slot::Ban, BAN_STRIKES), (Slot::Signing, SIGN_BASIC)] {
        let before = admit(engine(), slot, bytes, "{}", &limits).unwrap().description;
        let lowered = LimitSettings { state_bytes: 0, fuel_base: 1, memory_base_bytes: 1, ..limits };
        assert!(admit(engine(), slot, bytes, "{}", &lowered).is_err());
        let again = prepare(engine(), slot, bytes, "{}", &lowered).unwrap();
        assert_eq!(*again.description(), before);
    }
    let other = prepare(engine(), Slot::Ban, REWARD_FLAT, "{}", &limits);
    refused(other, "world", &["reward-policy"]);
}

#[test]
fn another_config_is_another_policy() {
    let limits = crate::guests::limits();
    let digest = |config| admit(engine(), Slot::Ban, BAN_STRIKES, config, &limits).unwrap().digest;
    assert_ne!(digest(r#"{"ban":5}"#), digest(r#"{"ban":6}"#));
    assert_eq!(digest(r#"{"ban":5}"#), digest(r#"{"ban":5}"#));
}

#[test]
fn a_config_that_the_policy_refuses_is_refused_in_its_own_words() {
    let admit = |config| admit(engine(), Slot::Ban, BAN_STRIKES, config, &crate::guests::limits());
    refused(admit(r#"{"wran":1}"#), "config", &["unknown key `wran`; did you mean `warn`?", "which is {\"wran\":1}"]);
    refused(admit(r#"{"warn":9}"#), "config", &["`warn` (9) is above `suspend` (3)"]);
    refused(admit(&format!("{{\"a\":\"{}\"}}", "x".repeat(65_536))), "config", &["may have 65536"]);
}

#[test]
fn what_is_no_component_is_named_as_what_it_is() {
    refused(admit_ban(b""), "size", &["the file is empty"]);
    refused(admit_ban(&vec![0; (4 << 20) + 1]), "size", &["4194305 bytes", "may have 4194304"]);
    refused(admit_ban(b"fn main() {}\x1b[31m"), "component", &["no WebAssembly", r"`fn main() {}\u{1b}[31`"]);
    refused(admit_ban(&honest().module()), "component", &["a core module, not a component", "pingward policy build"]);
    refused(admit_ban(&BAN_STRIKES[..BAN_STRIKES.len() / 2]), "decode", &["does not decode", "copy the file again"]);
}

#[test]
fn flipped_bytes_never_bring_the_host_down() {
    for at in (8..BAN_STRIKES.len()).step_by(BAN_STRIKES.len() / 24) {
        let mut bytes = BAN_STRIKES.to_vec();
        bytes[at] ^= 0x55;
        // A flipped byte may sit in a name or in a text: then it is another policy, and runs.
        if let Err(findings) = admit_ban(&bytes) {
            assert!(!findings.0.is_empty());
        }
    }
    assert!(admit_ban(BAN_STRIKES).is_ok());
}

#[test]
fn a_component_of_another_world_is_named() {
    refused(admit_ban(REWARD_FLAT), "world", &["world `reward-policy`", "load it into the slot `reward`"]);
    let nothing = wat::parse_str("(component)").unwrap();
    refused(admit_ban(&nothing), "world", &["does not export `pingward:policy/ban`", "ban-policy"]);
}

#[test]
fn every_import_but_log_is_refused_by_name() {
    let mut guest = honest();
    guest.imports = "import wasi:clocks/wall-clock@0.2.6;";
    guest.head = r#"(import "wasi:clocks/wall-clock@0.2.6" "now" (func $now (result i64)))"#.into();
    refused(guest.admit(), "imports", &["`wasi:clocks/wall-clock@0.2.6#now`", "no clock, randomness or files"]);

    let mut guest = honest();
    guest.imports = "import secret: func() -> u32;";
    guest.head = r#"(import "$root" "secret" (func $secret (result i32)))"#.into();
    refused(guest.admit(), "imports", &["`secret`", "`pingward:policy/log` and nothing else"]);

    assert!(talking().admit().is_ok());
}

#[test]
fn another_version_of_the_contract_is_named() {
    let mut guest = honest();
    guest.version = "2.0.0";
    guest.wit = WIT.replace("policy@1.0.0", "policy@2.0.0");
    refused(guest.admit(), "version", &["version 2.0.0", "runs 1.0.x"]);

    let mut guest = honest();
    guest.version = "1.7.0";
    guest.wit = WIT.replace("policy@1.0.0", "policy@1.7.0");
    let admitted = guest.admit().unwrap();
    assert_eq!(judge(&admitted.policy, "{}").unwrap().standing, [0; 15]);
}

#[test]
fn records_with_other_fields_are_refused_before_anything_runs() {
    let mut guest = honest();
    guest.wit = WIT.replace("memory-bytes: u32,", "memory-bytes: u32, colour: u32,");
    refused(guest.admit(), "start", &["expected record of 6 fields, found 7 fields", "types must match exactly"]);
}

#[test]
fn a_guest_that_wants_too_much_at_the_start_is_refused() {
    let mut guest = honest();
    guest.pages = 1_025;
    refused(guest.admit(), "resources", &["67174400 bytes of memory", "may have 67108864"]);

    let mut guest = honest();
    guest.more = "(table 10001 funcref)".into();
    refused(guest.admit(), "resources", &["10001", "10000"]);

    let mut guest = honest();
    guest.more = "(table 1 funcref)".repeat(17);
    refused(guest.admit(), "resources", &["17", "16"]);

    refused(admit_ban(&with_instances(&honest().build(), 70)), "resources", &["instances", "64"]);
}

/// Appends a module that is empty, and so many instances of it.
fn with_instances(component: &[u8], instances: u8) -> Vec<u8> {
    let modules = wasmparser::Parser::new(0).parse_all(component);
    let modules = modules.filter(|part| matches!(part, Ok(wasmparser::Payload::ModuleSection { .. }))).count() as u8;
    let mut bytes = component.to_vec();
    bytes.extend([1, 8]);
    bytes.extend(b"\0asm\x01\0\0\0");
    bytes.extend([2, 0x80 | (1 + 3 * u16::from(instances)) as u8 & 0x7f, ((1 + 3 * u16::from(instances)) >> 7) as u8]);
    bytes.push(instances);
    for _ in 0..instances {
        bytes.extend([0, modules, 0]);
    }
    bytes
}

#[test]
fn a_description_out_of_bounds_is_refused() {
    let describe = |body: &str| {
        let mut guest = honest();
        guest.describe = body.into();
        guest.admit()
    };
    let set = |offset: u32, value: u32| format!("(i32.store offset={offset} (local.get $out) (i32.const {value}))");
    refused(describe(&set(8, 0)), "description", &["`name` is empty"]);
    refused(describe(&set(8, 65)), "description", &["`name`", "64 printable characters"]);
    refused(describe(&set(16, 2)), "description", &[r"`version` is `1\u{0}`", "32 printable characters"]);
    refused(describe(&set(20, 1)), "description", &["`memory-schema` is empty"]);
    let schema = set(24, 48) + &set(28, 1);
    refused(describe(&(set(20, 257) + &schema)), "description", &["`memory-bytes` is 257, and may be 256"]);
    // A list of one text, whose pointer and length are the place of the name.
    let list = |at: u32| {
        format!(
            "(i32.store (i32.const 256) (i32.const 16)) (i32.store (i32.const 260) (i32.const 5)) {}{}",
            set(at, 256),
            set(at + 4, 1)
        )
    };
    refused(describe(&list(40)), "description", &["extra column `guest`", "observer.N.rtt-us"]);
    assert_eq!(describe(&list(32)).unwrap().description.reasons, ["guest"]);
    refused(
        describe(&(list(32) + &set(260, 201).replace("(local.get $out)", "(i32.const 0)"))),
        "description",
        &["reason 1"],
    );
    // The error case: its text is the policy's own.
    let refusal = "(i32.store8 (local.get $out) (i32.const 1)) (call $list (i32.add (local.get $out) (i32.const 4)) (i32.const 64) (i32.const 12))";
    refused(describe(refusal), "config", &["the policy refuses its config: no such luck"]);
}

#[test]
fn inspection_shows_a_file_without_admitting_it() {
    let limits = crate::guests::limits();
    let seen = inspect(engine(), BAN_STRIKES, "{}", &limits).unwrap();
    assert_eq!((seen.slot, seen.world().as_deref()), (Some(Slot::Ban), Some("ban-policy")));
    assert_eq!((seen.wit_version.as_deref(), seen.wit_versions), (Some("1.0.0"), "1.0.x"));
    assert_eq!((seen.name.as_deref(), seen.version.as_deref()), (Some("ban-strikes"), Some("0.1.0")));
    assert!(seen.description.unwrap().starts_with("Misses in a row"));
    assert_eq!(seen.imports, ["pingward:policy/log@1.0.0#write"]);
    assert_eq!((seen.size, seen.digest, seen.revision), (BAN_STRIKES.len(), Digest::of(BAN_STRIKES), None));
    assert_eq!(seen.described.unwrap().reasons.len(), 7);

    let seen = inspect(engine(), BAN_STRIKES, "[]", &limits).unwrap();
    assert!(seen.described.unwrap_err().contains("no JSON object"));

    let mut guest = honest();
    guest.imports = "import wasi:clocks/wall-clock@0.2.6;";
    guest.head = r#"(import "wasi:clocks/wall-clock@0.2.6" "now" (func $now (result i64)))"#.into();
    let seen = inspect(engine(), &guest.build(), "{}", &limits).unwrap();
    assert_eq!(seen.imports, ["wasi:clocks/wall-clock@0.2.6#now"]);
    assert!(seen.described.unwrap_err().contains("wasi:clocks"));
    assert!(inspect(engine(), b"", "{}", &limits).is_err());
}
