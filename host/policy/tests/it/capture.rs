//! Calls as cases: a round that was decided is played again, and a fault is cut down to the member that brings it about.

use kernel::columns::Inputs;
use kernel::decide::{Policy, Slot, sample};
use kernel::settings::Settings;
use policy::{Case, Expected, Failing, Played, Written, admit, cases, measure, prepare};

use crate::guests::{BAN_STRIKES, Guest, REWARD_FLAT, engine, limits, talking};

/// Panics where a member has the class 7.
fn picky() -> Guest {
    Guest {
        before: "(local.set $at (i32.load offset=128 (local.get $a)))
                 (block $done (loop $next
                   (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
                   (if (i32.eq (i32.load (local.get $at)) (i32.const 7)) (then (call $say) unreachable))
                   (local.set $at (i32.add (local.get $at) (i32.const 4)))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   (br $next)))"
            .into(),
        ..talking()
    }
}

/// Panics where there are more than 12 members.
fn crowded() -> Guest {
    let before = "(if (i32.gt_u (local.get $n) (i32.const 12)) (then (call $say) unreachable))";
    Guest { before: before.into(), ..talking() }
}

fn one(text: &str) -> Case {
    let mut read = cases(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(read.len(), 1, "{text}");
    read.remove(0)
}

fn play(text: &str, component: &[u8]) -> Played {
    one(text).play(engine(), Slot::Ban, component).unwrap()
}

#[test]
fn a_fault_in_a_played_round_is_cut_to_its_member_and_its_case_fails_again() {
    let component = picky().build();
    let played = play(
        "[[case]]\nname = \"a life\"\nrounds = [\"++++ x 3\", \"+-++\"]\nstart.class = [1, 2, 7, 4]\n\
         start.strikes = [0, 0, 5, 0]\nexpect.standing = [\"good\", \"good\", \"good\", \"good\"]\n",
        &component,
    );
    assert!(played.differences.iter().any(|line| line.starts_with("the rule failed: round 1: trap: ")), "{played:?}");
    let failing = played.failing.expect("the call is kept");
    assert_eq!((failing.inputs.members.len(), failing.fault.kind.name()), (4, "trap"));
    let policy = prepare(engine(), Slot::Ban, &component, "{}", &limits()).unwrap();
    let found = failing.smallest(&policy).unwrap();
    assert_eq!((found.places.as_slice(), found.of), ([2].as_slice(), 4));
    assert_eq!(found.failing.names, ["member-3"]);
    let shown = found.failing.shown(0);
    assert!(
        shown.contains(&("class".into(), "7".into())) && shown.contains(&("strikes".into(), "5".into())),
        "{shown:?}"
    );

    let text = found.failing.case();
    assert!(text.contains("too late"), "the panic's own words: {text}");
    let again = play(&text, &component);
    assert!(again.passed() && again.faults.len() == 1 && again.failing.is_none(), "{again:?}");
    // Mended: the case says what to do with it.
    let mended = play(&text, BAN_STRIKES);
    assert!(mended.differences[0].contains("none did; where it is mended"), "{mended:?}");
    assert!(play(&text.replace("\"trap\"", "\"none\""), BAN_STRIKES).passed());
    // Not mended, and said to be.
    let not = play(&text.replace("\"trap\"", "\"none\""), &component);
    assert!(!not.passed() && not.failing.is_some(), "{not:?}");
}

#[test]
fn a_fault_of_the_self_test_can_be_looked_into_though_the_rule_is_refused() {
    let component = crowded().build();
    let findings = admit(engine(), Slot::Ban, &component, "{}", &limits()).unwrap_err();
    assert_eq!(findings.0[0].check, "self-test");
    let policy = prepare(engine(), Slot::Ban, &component, "{}", &limits()).unwrap();
    let failing = Failing::of_self_test(&policy, Slot::Ban, "{}", &Settings::default()).unwrap();
    let found = failing.smallest(&policy).unwrap();
    assert_eq!((found.places.len(), found.of, found.ended_early), (13, 15, false), "it needs so many of them");
    assert!(play(&found.failing.case(), &component).passed());
}

#[test]
fn a_fault_while_measuring_keeps_its_call() {
    // Honest for the populations of the self-test.
    let before = "(if (i32.gt_u (local.get $n) (i32.const 100)) (then (call $say) unreachable))";
    let guest = Guest { before: before.into(), ..talking() };
    let admitted = guest.admit().unwrap();
    let failing =
        measure(&admitted.policy, Slot::Ban, "{}", 400, std::time::Duration::from_millis(1)).expect_err("it fails");
    assert_eq!(failing.inputs.members.len(), 400);
    let found = failing.smallest(&admitted.policy).unwrap();
    assert!((101..=110).contains(&found.places.len()) && found.ended_early, "{}", found.places.len());
}

fn inputs(slot: Slot, config: &str, policy: &dyn Policy) -> Inputs {
    let (round, members, memory) = sample(policy.description());
    Inputs { slot, config: config.into(), round, members, memory, settings: Settings::default() }
}

#[test]
fn a_round_plays_again_as_it_was_decided_and_another_config_shows_what_differs() {
    let config = r#"{"ban":9,"suspend":4,"warn":2}"#;
    let admitted = admit(engine(), Slot::Ban, BAN_STRIKES, config, &limits()).unwrap();
    let inputs = inputs(Slot::Ban, config, &admitted.policy);
    let judged = inputs.judge(&admitted.policy).result.unwrap();
    let reasons = &admitted.description.reasons;
    let expected = Expected::Judged(&judged, reasons);
    let text = Written { remarks: &[], name: "round 100", inputs: &inputs, names: &[], expected }.text();
    let played = play(&text, BAN_STRIKES);
    assert!(played.passed(), "{played:?}\n{text}");
    let other = one(&text).with_config(r#"{"ban":9,"suspend":9,"warn":2}"#.into());
    let played = other.play(engine(), Slot::Ban, BAN_STRIKES).unwrap();
    assert_eq!(played.differences, ["member 10: strikes should be 0, but is 4"], "suspend = 9 means another probation");
}

#[test]
fn a_round_of_the_reward_slot_plays_again_too() {
    let config = r#"{"points_per_round":7}"#;
    let admitted = admit(engine(), Slot::Reward, REWARD_FLAT, config, &limits()).unwrap();
    let inputs = inputs(Slot::Reward, config, &admitted.policy);
    let paid = inputs.reward(&admitted.policy).result.unwrap();
    let expected = Expected::Paid(&paid, &admitted.description.reasons);
    let text = Written { remarks: &[], name: "round 100", inputs: &inputs, names: &[], expected }.text();
    let played = one(&text).play(engine(), Slot::Reward, REWARD_FLAT).unwrap();
    assert!(played.passed(), "{played:?}\n{text}");
    let other = one(&text).with_config(r#"{"points_per_round":8}"#.into());
    assert!(!other.play(engine(), Slot::Reward, REWARD_FLAT).unwrap().passed());
}
