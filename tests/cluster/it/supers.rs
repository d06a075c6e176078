//! A group of supers under faults, in short: the command `faults` does it, with few followers and few faults.

use std::process::{Command, Stdio};

/// Exit code of whoever found nothing wrong and took longer than a quiet machine should.
const SLOW: i32 = 3;

/// What the command printed. It must find nothing wrong, however fast it is.
fn hurt(arguments: &[&str], own_network: bool) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faults"));
    command.args(arguments).stdin(Stdio::null());
    if !own_network {
        command.env("FAULTS_NO_NETWORK", "1");
    }
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let code = output.status.code();
    assert!(code == Some(0) || code == Some(SLOW), "{arguments:?} ended with {code:?}\n{out}\n{err}");
    assert!(out.contains("all histories are linearizable"), "{out}");
    out.to_string()
}

#[test]
fn a_group_that_is_killed_paused_cut_off_grown_and_shrunk_under_load_loses_nothing_and_strikes_nobody() {
    let said = hurt(&["--kills", "2", "--pauses", "1", "--partitions", "1", "--followers", "20", "--most", "4"], true);
    for what in ["killed super-", "paused super-", "the leader was cut off", "super-4 belongs", "was removed"] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn rules_change_under_load_while_leaders_are_killed_and_no_round_is_mixed_or_lost() {
    let said = hurt(
        &["--kills", "0", "--pauses", "0", "--partitions", "0", "--swaps", "3", "--followers", "10", "--most", "3"],
        true,
    );
    for what in ["ban rule activated", "ban rule taken back", "3 swaps of rules: each round was decided by one rule"] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn records_are_sealed_once_whoever_is_killed_while_they_are_handed_in() {
    let said = hurt(
        &["--kills", "0", "--pauses", "0", "--partitions", "0", "--records", "4", "--followers", "10", "--most", "3"],
        true,
    );
    for what in ["4 validators and 3 followers take records", "records were taken under 4 kills: each is sealed once"] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn the_same_holds_where_the_network_is_one_of_proxies() {
    let said = hurt(&["--kills", "0", "--pauses", "0", "--partitions", "1", "--followers", "10", "--most", "3"], false);
    assert!(said.contains("user-space proxies"), "{said}");
}
