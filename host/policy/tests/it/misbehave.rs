//! A policy made with the SDK that misbehaves as its config says (`tests/misbehave`): the panic hook, the names of
//! functions in traps, and memory, through the real thing.

use kernel::decide::{FaultKind, LimitSettings, Slot};
use policy::{Admitted, Findings, admit};

use crate::guests::{engine, judge};

const MISBEHAVE: &[u8] = include_bytes!("../../../../tests/misbehave/misbehave.wasm");

fn admitted(act: &str, always: bool) -> Result<Admitted, Findings> {
    let config = format!(r#"{{"act":"{act}","always":{always},"memory":1}}"#);
    admit(engine(), Slot::Ban, MISBEHAVE, &config, &crate::guests::limits())
}

#[test]
fn every_act_is_a_fault_of_its_kind_with_its_reason() {
    for (act, kind, words) in [
        ("panic", FaultKind::Trap, ["the rule fell over member 3", "src/lib.rs"]),
        (
            "index",
            FaultKind::Trap,
            ["index out of bounds: the len is 0 but the index is 15 ", "panicked at tests/misbehave/src/lib.rs:"],
        ),
        ("refuse", FaultKind::Refused, ["it does not want to", ""]),
        ("loop", FaultKind::Fuel, ["it used up its", "misbehave::Misbehave"]),
        ("grow", FaultKind::Memory, ["bytes of memory and may have", "misbehave::"]),
        ("recurse", FaultKind::Stack, ["512 KiB of stack", "recurse"]),
        ("log", FaultKind::Log, ["more than 65536 bytes to `log`", "judge"]),
    ] {
        assert!(admitted(act, false).is_ok(), "{act} is done in live rounds only");
        let findings = admitted(act, true).unwrap_err();
        let text = findings.to_string();
        assert!(text.starts_with(&format!("self-test: with a population of 15: {}: ", kind.name())), "{act}: {text}");
        for words in words {
            assert!(text.contains(words), "{act}: {text}\nlacks: {words}");
        }
    }
}

#[test]
fn a_policy_that_bans_everybody_is_a_policy_too() {
    let admitted = admitted("ban", true).unwrap();
    let judged = judge(&admitted.policy, r#"{"act":"ban","always":true,"memory":1}"#).unwrap();
    assert_eq!((judged.standing, judged.until, judged.memory), (vec![3; 15], vec![1_000; 15], vec![1; 15]));
}

#[test]
fn a_slow_policy_keeps_to_its_fuel_and_the_wall_clock_alone_ends_it() {
    let admitted = admitted("slow", true).unwrap();
    let config = r#"{"act":"slow","always":true,"memory":1}"#;
    judge(&admitted.policy, config).unwrap();
    let hurried = admitted.policy.with_limits(LimitSettings { deadline_ms: 1, ..crate::guests::limits() });
    let fault = judge(&hurried, config).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Deadline, "{fault}");
}

#[test]
fn an_unknown_act_is_refused_with_the_known_ones() {
    let text = admitted("hide", false).unwrap_err().to_string();
    assert!(
        text.starts_with("config: the policy refuses its config: `act` is `hide`; it may be one of nothing, ban"),
        "{text}"
    );
}
