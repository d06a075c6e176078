//! A policy made with the SDK that misbehaves as its config says (`tests/guests/deeds`): the panic hook, the names of
//! functions in traps, and memory, through the real thing.

use kernel::decide::{FaultKind, Slot};
use policy::{Admitted, Findings, admit};

use crate::guests::{engine, judge};

const DEEDS: &[u8] = include_bytes!("../guests/deeds.wasm");

fn admit_deed(deed: &str, live_only: bool) -> Result<Admitted, Findings> {
    let config = format!(r#"{{"deed":"{deed}","live_only":{live_only}}}"#);
    admit(engine(), Slot::Ban, DEEDS, &config, &crate::guests::limits())
}

#[test]
fn every_deed_is_a_fault_of_its_kind_with_its_reason() {
    let place = "(in <deeds::Deeds as pingward_sdk::BanPolicy>::judge)";
    for (deed, kind, words) in [
        ("panic", FaultKind::Trap, ["the policy of the tests panics, as it was told", "src/lib.rs"]),
        (
            "index",
            FaultKind::Trap,
            ["panicked at src/lib.rs:39:44: index out of bounds: the len is 0 but the index is 15 ", place],
        ),
        ("refuse", FaultKind::Refused, ["no such luck", ""]),
        ("loop", FaultKind::Fuel, ["it used up its", place]),
        ("allocate", FaultKind::Memory, ["bytes of memory and may have", "judge)"]),
        ("recurse", FaultKind::Stack, ["512 KiB of stack", "deeper"]),
        ("flood", FaultKind::Log, ["more than 65536 bytes to `log`", "judge)"]),
    ] {
        assert!(admit_deed(deed, true).is_ok(), "{deed} is done in live rounds only");
        let findings = admit_deed(deed, false).unwrap_err();
        let text = findings.to_string();
        assert!(text.starts_with(&format!("self-test: with a population of 15: {}: ", kind.name())), "{deed}: {text}");
        for words in words {
            assert!(text.contains(words), "{deed}: {text}\nlacks: {words}");
        }
    }
}

#[test]
fn a_policy_that_bans_everybody_is_a_policy_too() {
    let admitted = admit_deed("ban_all", false).unwrap();
    let judged = judge(&admitted.policy, r#"{"deed":"ban_all","live_only":false}"#).unwrap();
    assert_eq!((judged.standing, judged.until, judged.memory), (vec![3; 15], vec![1_000; 15], vec![1; 15]));
}

#[test]
fn an_unknown_deed_is_refused_with_the_known_ones() {
    let text = admit_deed("hide", true).unwrap_err().to_string();
    assert!(
        text.starts_with("config: the policy refuses its config: `deed` is `hide`; it may be one of none, panic"),
        "{text}"
    );
}
