use proptest::prelude::*;

use super::*;
use crate::decide::presence;
use crate::round::fixture::{OPEN, node, says, state};
use crate::round::{Partial, merge::merge};

/// The marks of a round in which each seat says so, with these lags.
fn marks(state: &State, said: &[String], lags_ms: &[u64]) -> Marks {
    let partials: Vec<Partial> = said
        .iter()
        .zip(lags_ms)
        .enumerate()
        .map(|(seat, (said, lag_ms))| Partial { lag_ms: *lag_ms, ..says(seat as u8, said) })
        .collect();
    merge(state, &OPEN, &state.queue, &partials).marks
}

fn one(up: usize, down: usize) -> Vec<String> {
    vec![format!("{}{}", "s".repeat(up), "m".repeat(down))]
}

#[test]
fn many_missing_is_a_share_of_those_up_before_and_a_least_number() {
    for (members, down, suspect) in
        [(20, 5, false), (20, 6, true), (16, 5, true), (17, 5, false), (10, 4, false), (5, 5, true), (4, 4, false)]
    {
        let state = state(1, members);
        let marks = marks(&state, &one(usize::from(members - down), down.into()), &[0]);
        assert_eq!(marks.causes & cause::MISSING != 0, suspect, "{down} of {members}");
        assert_eq!((marks.missing, marks.trusted_up), (down.into(), members.into()));
    }
}

#[test]
fn only_those_up_in_the_last_trusted_round_can_be_missing() {
    let mut state = state(1, 20);
    for i in 10..20 {
        state.members.get_mut(&node(i)).unwrap().hot.trusted_up = false;
    }
    let marks_of = |state: &State| marks(state, &one(6, 14), &[0]);
    assert_eq!((marks_of(&state).missing, marks_of(&state).trusted_up, marks_of(&state).causes), (4, 10, 0));
    state.members.get_mut(&node(10)).unwrap().hot.trusted_up = true;
    assert_eq!(marks_of(&state).causes, cause::MISSING);
    state.meta.trusted = RoundId(0);
    assert_eq!(marks_of(&state).causes, 0, "no round is trusted yet");
}

#[test]
fn unknown_is_not_missing() {
    let state = state(1, 20);
    assert_eq!(marks(&state, &["v".repeat(20)], &[0]).missing, 0);
}

#[test]
fn lag_counts_in_half_or_more_of_the_reports_that_came() {
    // T/2 is 1,000 ms.
    for (lags, suspect) in [
        (&[1_000][..], false),
        (&[1_001], true),
        (&[0, 1_001], true),
        (&[0, 0, 1_001], false),
        (&[0, 1_001, 1_001], true),
        (&[], false),
    ] {
        let state = state(3, 1);
        let said = vec!["s".to_string(); lags.len()];
        let marks = marks(&state, &said, lags);
        assert_eq!(marks.causes & cause::LAG != 0, suspect, "{lags:?}");
        assert_eq!(marks.partials as usize, lags.len());
    }
}

#[test]
fn another_term_than_that_of_the_settlement_before_is_suspect() {
    let mut state = state(1, 1);
    assert_eq!(marks(&state, &one(1, 0), &[0]).causes, 0);
    state.meta.settled_term = Term(3);
    let marks_then = marks(&state, &one(1, 0), &[0]);
    assert_eq!((marks_then.causes, marks_then.term_before), (cause::LEADER, Term(3)));
    state.meta.settled_term = Term(0);
    assert_eq!(marks(&state, &one(1, 0), &[0]).causes, 0, "the first round of a cluster");
}

#[test]
fn observers_disagree_about_those_whom_two_asked() {
    for (agreed, disputed, alone, suspect) in
        [(20, 5, 0, true), (21, 5, 0, false), (10, 4, 0, false), (0, 5, 40, true), (0, 0, 40, false)]
    {
        let state = state(2, (agreed + disputed + alone) as u8);
        let said = [
            format!("{}{}{}", "s".repeat(agreed), "s".repeat(disputed), "s".repeat(alone)),
            format!("{}{}{}", "s".repeat(agreed), "m".repeat(disputed), "-".repeat(alone)),
        ];
        let marks = marks(&state, &said, &[0, 0]);
        assert_eq!(marks.causes & cause::DISAGREEMENT != 0, suspect, "{agreed} {disputed} {alone}");
        assert_eq!((marks.asked_twice, marks.disputed), ((agreed + disputed) as u32, disputed as u32));
    }
}

#[test]
fn both_missing_is_no_disagreement() {
    let said = vec!["m".repeat(10), "m".repeat(10)];
    let marks = marks(&state(2, 10), &said, &[0, 0]);
    assert_eq!((marks.asked_twice, marks.disputed, marks.causes), (10, 0, cause::MISSING));
}

proptest! {
    #[test]
    fn marks_follow_from_the_report_alone(
        said in proptest::collection::vec("[smv-]{40}", 1..4),
        lags in proptest::collection::vec(0..2_000_u64, 4),
        trusted in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let mut state = state(3, 40);
        for (i, trusted) in trusted.iter().enumerate() {
            state.members.get_mut(&node(i as u8)).unwrap().hot.trusted_up = *trusted;
        }
        let partials: Vec<Partial> = said.iter().zip(&lags).enumerate()
            .map(|(seat, (said, lag_ms))| Partial { lag_ms: *lag_ms, ..says(seat as u8, said) }).collect();
        let report = merge(&state, &OPEN, &state.queue, &partials);
        let unmarked = Report { marks: Marks::default(), ..report.clone() };
        prop_assert_eq!(derive(&unmarked, &state), report.marks, "whatever marks it carries");

        // The same numbers, counted from what was said.
        let n = |count: usize| count as u32;
        let missing = report.presence.iter().zip(&trusted).filter(|(p, t)| **p == presence::DOWN && **t).count();
        let up = trusted.iter().filter(|trusted| **trusted).count();
        let lagging = said.iter().zip(&lags).filter(|(_, lag_ms)| **lag_ms > 1_000).count();
        let of = |place: usize| said.iter().map(move |said| said.as_bytes()[place]);
        let asked = |place: &usize| of(*place).filter(|letter| b"sm".contains(letter)).count() >= 2;
        let disputed = |place: &usize| asked(place) && of(*place).any(|l| l == b's') && of(*place).any(|l| l == b'm');
        let (twice, disputed) = ((0..40).filter(asked).count(), (0..40).filter(disputed).count());
        let share = |part: usize, whole: usize, percent: usize| part >= 5 && 100 * part >= percent * whole;
        let causes = [
            (share(missing, up, 30), cause::MISSING),
            (2 * lagging >= said.len() && lagging > 0, cause::LAG),
            (share(disputed, twice, 20), cause::DISAGREEMENT),
        ];
        prop_assert_eq!(report.marks, Marks {
            causes: causes.iter().filter(|(holds, _)| *holds).map(|(_, cause)| cause).sum(),
            missing: n(missing),
            trusted_up: n(up),
            partials: n(said.len()),
            lagging: n(lagging),
            asked_twice: n(twice),
            disputed: n(disputed),
            term_before: Term(1),
        });
    }
}
