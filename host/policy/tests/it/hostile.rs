use kernel::decide::{Call, Fault, FaultKind, LimitSettings, Policy, Slot, sample};
use policy::{Prepared, admit};

use crate::guests::{BAN_STRIKES, Guest, engine, honest, judge, talking};

/// Admitted while honest, dishonest when called: the deed is done only for other populations than those of the self-test.
fn later(mut guest: Guest) -> Prepared {
    let when = "(i32.eq (local.get $n) (i32.const 3))";
    guest.before = format!("(if {when} (then {}))", guest.before);
    guest.after = format!("(if {when} (then {}))", guest.after);
    guest.admit().unwrap_or_else(|findings| panic!("{findings}")).policy
}

fn judge_three(policy: &Prepared) -> Result<kernel::decide::Judgement, Fault> {
    let (mut round, mut members, _) = sample(policy.description());
    round.population = 3;
    for column in [&mut members.presence, &mut members.standing] {
        column.truncate(3);
    }
    for column in [&mut members.facts, &mut members.observers, &mut members.strikes] {
        column.truncate(3);
    }
    for column in [&mut members.rtt_us, &mut members.age, &mut members.class, &mut members.group, &mut members.flags] {
        column.truncate(3);
    }
    members.earned.truncate(3);
    members.data.truncate(3);
    let run = policy.judge(&Call { config: "{}", round: &round, members: &members, memory: &[] });
    run.result.and_then(|judged| kernel::decide::check_judgement(&judged, 3, policy.description()).map(|()| judged))
}

/// What the guest does when called is a fault of that kind with those words, in a live round and at admission, and the
/// next policy runs as if nothing had been.
#[track_caller]
fn faults(guest: &Guest, kind: FaultKind, words: &str) {
    let findings = guest.admit().expect_err("it was admitted");
    assert_eq!(findings.0[0].check, "self-test", "{findings}");
    assert!(findings.to_string().contains(words), "{findings}\nlacks: {words}");

    let policy = later(guest.clone());
    let fault = judge_three(&policy).expect_err("no fault");
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.message.contains(words), "{fault}\nlacks: {words}");

    let limits = crate::guests::limits();
    let next = admit(engine(), Slot::Ban, BAN_STRIKES, "{}", &limits).unwrap();
    assert!(judge(&next.policy, "{}").is_ok());
}

fn before(text: &str) -> Guest {
    Guest { before: text.into(), ..honest() }
}

fn after(text: &str) -> Guest {
    Guest { after: text.into(), ..honest() }
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    faults(&before("(loop $l (br $l))"), FaultKind::Fuel, "it used up its ");
}

#[test]
fn an_endless_loop_before_the_first_call_is_stopped_too() {
    let endless = "(loop $l (br $l))";
    let start = Guest { more: format!("(func $start {endless}) (start $start)"), ..honest() };
    let findings = start.admit().unwrap_err();
    assert_eq!(findings.0[0].check, "start");
    assert!(findings.to_string().contains("fuel: it used up its 200000000 units of fuel"), "{findings}");

    let describe = Guest { describe: endless.into(), ..honest() };
    let findings = describe.admit().unwrap_err();
    assert_eq!(findings.0[0].check, "config");
    assert!(findings.to_string().contains("`describe` failed: fuel"), "{findings}");
}

#[test]
fn the_wall_clock_is_a_net_below_the_fuel() {
    let policy = later(before("(loop $l (br $l))"));
    let limits = LimitSettings { fuel_base: u64::MAX / 2, deadline_ms: 30, ..crate::guests::limits() };
    let fault = judge_three(&policy.with_limits(limits)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Deadline);
    assert!(fault.message.starts_with("it took longer than 30 ms"), "{fault}");
}

#[test]
fn a_memory_bomb_is_stopped_at_the_limit() {
    let bomb = "(loop $l (drop (memory.grow (i32.const 16))) (br $l))";
    faults(&before(bomb), FaultKind::Memory, "bytes of memory and may have 671");
}

#[test]
fn tables_that_grow_are_stopped_at_the_limit() {
    let bomb = Guest {
        more: "(table $t 1 funcref)".into(),
        ..before("(loop $l (drop (table.grow $t (ref.null func) (i32.const 4000))) (br $l))")
    };
    faults(&bomb, FaultKind::Memory, "table elements and may have 10000");
}

#[test]
fn deep_recursion_runs_out_of_stack() {
    let deep = Guest {
        more: "(func $deep (param i64 i64 i64 i64) (result i64)
                 (i64.add (i64.const 1)
                   (call $deep (local.get 1) (local.get 2) (local.get 3) (i64.add (local.get 0) (i64.const 1)))))"
            .into(),
        ..before("(drop (call $deep (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))")
    };
    faults(&deep, FaultKind::Stack, "512 KiB of stack");
}

#[test]
fn a_huge_answer_is_not_copied() {
    let huge = after(
        "(drop (memory.grow (i32.const 512)))
         (i32.store offset=36 (local.get $out) (i32.const 0)) (i32.store offset=40 (local.get $out) (i32.const 33554432))",
    );
    faults(&huge, FaultKind::Output, "it handed out more than ");
}

#[test]
fn many_texts_at_one_place_do_not_multiply() {
    // A million reasons, each the same 64 KiB: 64 GiB on the host.
    let aliased = Guest {
        pages: 16,
        describe: "(local.set $at (call $zeros (i32.const 8000000)))
            (loop $l
              (call $list (i32.add (local.get $at) (i32.shl (local.get $i) (i32.const 3))) (i32.const 0) (i32.const 65536))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (i32.const 1000000))))
            (call $list (i32.add (local.get $out) (i32.const 32)) (local.get $at) (i32.const 1000000))"
            .into(),
        ..honest()
    };
    let findings = aliased.admit().unwrap_err();
    assert!(
        findings.to_string().contains("`describe` failed: output: it handed out more than 1048576 bytes"),
        "{findings}"
    );
}

#[test]
fn lists_outside_of_memory_are_refused() {
    let outside = after("(i32.store offset=4 (local.get $out) (i32.const 0x7fffff00))");
    faults(&outside, FaultKind::Trap, "out of bounds");
    let bad_text = after(
        "(i32.store8 (i32.const 300) (i32.const 255)) (i32.store8 (local.get $out) (i32.const 1))
         (call $list (i32.add (local.get $out) (i32.const 4)) (i32.const 300) (i32.const 1))",
    );
    faults(&bad_text, FaultKind::Trap, "invalid utf-8");
}

#[test]
fn an_answer_that_is_neither_a_decision_nor_a_refusal_is_a_trap() {
    faults(&after("(i32.store8 (local.get $out) (i32.const 2))"), FaultKind::Trap, "invalid expected discriminant");
    faults(&after("(i32.store8 (local.get $out) (i32.const 255))"), FaultKind::Trap, "invalid expected discriminant");
}

#[test]
fn room_that_is_not_there_is_not_written_to() {
    // Where the config goes, a text, and where the columns go, which must be aligned.
    for (room, check, words) in [
        ("(i32.const 0x7fffff00)", "config", "`describe` failed: trap: realloc return: beyond end of memory"),
        ("(i32.const -1)", "config", "`describe` failed: trap: realloc return: beyond end of memory"),
        ("(i32.const 1)", "self-test", "trap: realloc return: result not aligned"),
        ("(loop $l (br $l)) (i32.const 0)", "config", "`describe` failed: fuel: it used up its"),
        ("unreachable", "config", "`describe` failed: trap: it stopped itself"),
    ] {
        let findings = Guest { realloc: room.into(), ..honest() }.admit().expect_err(room);
        assert_eq!(findings.0[0].check, check, "{room}: {findings}");
        assert!(findings.to_string().contains(words), "{room}: {findings}");
    }
}

#[test]
fn columns_of_another_length_are_named() {
    faults(&after("(i32.store offset=8 (local.get $out) (i32.const 2))"), FaultKind::Length, "`strikes` has 2 entries");
    faults(
        &after("(i32.store offset=16 (local.get $out) (i32.const 4))"),
        FaultKind::Length,
        "`standing` has 4 entries",
    );
    faults(&after("(i32.store offset=40 (local.get $out) (i32.const 1))"), FaultKind::Length, "`memory` has 1 bytes");
}

#[test]
fn codes_that_do_not_exist_are_named() {
    let standing = |code| {
        after(&format!("(i32.store8 (i32.const 300) (i32.const {code})) (i32.store8 (i32.const 301) (i32.const 0))
            (i32.store offset=12 (local.get $out) (i32.const 300)) (i32.store offset=16 (local.get $out) (local.get $n))"))
    };
    faults(&standing(4), FaultKind::Code, "standing[0] is 4 (probation)");
    faults(&standing(9), FaultKind::Code, "standing[0] is 9");
    let reason =
        after("(i32.store16 (i32.const 302) (i32.const 1)) (i32.store offset=28 (local.get $out) (i32.const 300))");
    faults(&reason, FaultKind::Code, "reasons[1] is 1, but `describe` lists 0 reasons");
}

#[test]
fn a_panic_is_shown_in_its_own_words_and_with_its_place() {
    let guest = Guest {
        more: format!("{} (func $my_rule (call $say) unreachable)", talking().more),
        before: "(call $my_rule)".into(),
        ..talking()
    };
    faults(&guest, FaultKind::Trap, "panicked at src/lib.rs:7:9: too late (in my_rule");
    faults(&before("unreachable"), FaultKind::Trap, "it stopped itself (`unreachable`) and logged no reason");
    faults(&before("(drop (i32.div_u (i32.const 1) (i32.const 0)))"), FaultKind::Trap, "integer divide by zero");
}

#[test]
fn a_refusal_is_shown_in_its_own_words() {
    let refusal = after(
        "(i32.store8 (local.get $out) (i32.const 1))
         (call $list (i32.add (local.get $out) (i32.const 4)) (i32.const 64) (i32.const 12))",
    );
    faults(&refusal, FaultKind::Refused, "no such luck");
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let flood = |text: &str| Guest { before: format!("(loop $l {text} (br $l))"), ..talking() };
    faults(&flood("(call $say)"), FaultKind::Log, "more than 65536 bytes to `log`; its last words: panicked at");
    faults(&flood("(call $log (i32.const 0) (i32.const 0) (i32.const 0))"), FaultKind::Log, "more than 65536 bytes");
}

#[test]
fn log_lines_arrive_escaped_and_with_their_level() {
    let guest = Guest {
        more: format!(r#"(data (i32.const 320) "a\1b[2Jb") {}"#, talking().more),
        before: "(call $log (i32.const 3) (i32.const 320) (i32.const 6)) (call $log (i32.const 9) (i32.const 16) (i32.const 5))".into(),
        ..talking()
    };
    let policy = guest.admit().unwrap().policy;
    let (round, members, memory) = sample(policy.description());
    let run = policy.judge(&Call { config: "{}", round: &round, members: &members, memory: &memory });
    let lines: Vec<(u8, &str)> = run.log.iter().map(|line| (line.level, line.message.as_str())).collect();
    assert_eq!(lines, [(3, "a\\u{1b}[2Jb"), (4, "guest")]);
    assert!(run.result.is_ok() && run.fuel > 0);
}
