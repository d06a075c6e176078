#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails may panic")]

use proptest::prelude::*;

use super::*;

/// A register that adds: `Add` gives the sum after it.
struct Adder;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Add(u8),
    Read,
}

impl Model for Adder {
    type State = u8;
    type Call = Call;
    type Answer = u8;

    fn start(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, call: &Call, answer: Option<&u8>) -> Option<u8> {
        let after = match call {
            Call::Add(number) => state.wrapping_add(*number),
            Call::Read => *state,
        };
        answer.is_none_or(|answer| *answer == after).then_some(after)
    }
}

type Op = Operation<Call, u8>;

fn op(call: Call, from: u64, answered: Option<(u8, u64)>) -> Op {
    Operation { by: "c".into(), call, called_us: from, answered }
}

fn add(number: u8, from: u64, to: u64, sum: u8) -> Op {
    op(Call::Add(number), from, Some((sum, to)))
}

fn read(from: u64, to: u64, sum: u8) -> Op {
    op(Call::Read, from, Some((sum, to)))
}

fn lost(number: u8, from: u64) -> Op {
    op(Call::Add(number), from, None)
}

#[test]
fn histories_that_some_order_explains_are_accepted() {
    let right: [&[Op]; 7] = [
        &[],
        &[add(1, 0, 1, 1), read(2, 3, 1)],
        // Both reads overlap the addition, and may lie on either side of it.
        &[add(1, 0, 9, 1), read(1, 2, 0), read(3, 4, 1)],
        // At once, in the other order than they were asked in.
        &[add(1, 0, 9, 3), add(2, 1, 8, 2)],
        // An answer at the moment of a call: they may overlap.
        &[add(1, 0, 5, 3), add(2, 5, 6, 2)],
        // Nobody knows of the first one: it never happened, or it happened late.
        &[lost(1, 0), read(1, 2, 0), read(3, 4, 0)],
        &[lost(1, 0), read(1, 2, 0), read(3, 4, 1), read(5, 6, 1)],
    ];
    for history in right {
        assert_eq!(check(&Adder, history), Ok(()), "{history:?}");
    }
}

#[test]
fn histories_that_no_order_explains_are_not() {
    let wrong: [(&str, &[Op]); 8] = [
        ("a stale read", &[add(1, 0, 1, 1), read(2, 3, 0)]),
        ("a write that was lost", &[add(1, 0, 1, 1), add(2, 2, 3, 2)]),
        ("a write that counted twice", &[add(1, 0, 1, 1), read(2, 3, 2)]),
        ("two reads in the wrong order", &[add(1, 0, 9, 1), read(1, 2, 1), read(3, 4, 0)]),
        ("additions in the wrong order", &[add(1, 0, 1, 3), add(2, 2, 3, 2)]),
        ("a value that was never there", &[add(2, 0, 9, 2), read(1, 2, 1)]),
        ("one without an answer that counted twice", &[lost(1, 0), read(1, 2, 1), read(3, 4, 2)]),
        ("one that happened before it was asked", &[read(0, 1, 1), lost(1, 2)]),
    ];
    for (name, history) in wrong {
        let verdict = check(&Adder, history);
        assert!(matches!(verdict, Err(Wrong::NotLinearizable(_))), "{name}: {verdict:?}");
    }
}

#[test]
fn a_verdict_shows_where_to_look() {
    let history = [add(7, 0, 1, 7), lost(3, 2), read(4, 5, 11), read(6, 7, 12)];
    let Err(wrong) = check(&Adder, &history) else { panic!("accepted") };
    assert_eq!(
        wrong.to_string(),
        "the history is not linearizable\n  nothing explains  c: Read gave 11, from 4 to 5 µs\n  open meanwhile    c: Add(3) \
         got no answer, from 2 µs\n  answered before   c: Add(7) gave 7, from 0 to 1 µs\n  the object may be 7\n"
    );
}

#[test]
fn a_history_that_is_too_wild_is_given_up_and_not_accepted() {
    let mut history: Vec<Op> = (0..30).map(|at| lost(1 << (at % 8), 0)).collect();
    history.push(read(1, 2, 255));
    history.push(read(3, 4, 1));
    assert!(matches!(check(&Adder, &history), Err(Wrong::TooLarge(_))));
}

/// Every choice of the operations that nobody heard of, in every order that the clock allows.
fn brute(history: &[Op]) -> bool {
    fn go(history: &[Op], done: u32, state: u8) -> bool {
        let is_done = |at: usize| done & (1 << at) != 0;
        if (0..history.len()).all(|at| is_done(at) || history[at].answered.is_none()) {
            return true;
        }
        // What is next must have been called before any of the rest was answered.
        let first = (0..history.len()).filter(|at| !is_done(*at));
        let first = first.filter_map(|at| history[at].answered.map(|(_, us)| us)).min().unwrap_or(u64::MAX);
        (0..history.len()).filter(|at| !is_done(*at) && history[*at].called_us <= first).any(|at| {
            let answer = history[at].answered.map(|(sum, _)| sum);
            let after = Adder.step(&state, &history[at].call, answer.as_ref());
            after.is_some_and(|after| go(history, done | (1 << at), after))
        })
    }
    go(history, 0, 0)
}

fn operation() -> impl Strategy<Value = Op> {
    let call = prop_oneof![Just(Call::Read), (1_u8..3).prop_map(Call::Add)];
    (call, 0_u64..12, prop::option::weighted(0.8, (0_u8..5, 0_u64..6)))
        .prop_map(|(call, from, answered)| op(call, from, answered.map(|(sum, long)| (sum, from + long))))
}

/// A history that did happen: operations at moments within their spans, answered as they were.
fn lived(mut asked: Vec<(Call, u64, u64, u64, bool)>) -> Vec<Op> {
    asked.sort_by_key(|(_, from, wait, ..)| from + wait);
    let mut sum = 0;
    let answer = |(call, from, wait, more, heard): (Call, u64, u64, u64, bool)| {
        sum = Adder.step(&sum, &call, None).unwrap();
        op(call, from, heard.then_some((sum, from + wait + more)))
    };
    asked.into_iter().map(answer).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_search_agrees_with_trying_everything(history in prop::collection::vec(operation(), 0..7)) {
        prop_assert_eq!(check(&Adder, &history).is_ok(), brute(&history), "{:?}", history);
    }

    #[test]
    fn what_happened_is_accepted(
        asked in prop::collection::vec(
            (prop_oneof![Just(Call::Read), (1_u8..3).prop_map(Call::Add)], 0_u64..40, 0_u64..8, 0_u64..8, prop::bool::weighted(0.9)),
            0..24,
        )
    ) {
        prop_assert_eq!(check(&Adder, &lived(asked)), Ok(()));
    }

    #[test]
    fn one_wrong_answer_among_right_ones_is_found_as_by_trying_everything(
        asked in prop::collection::vec(
            (prop_oneof![Just(Call::Read), (1_u8..3).prop_map(Call::Add)], 0_u64..12, 0_u64..4, 0_u64..4, prop::bool::weighted(0.8)),
            1..7,
        ),
        at in any::<prop::sample::Index>(),
        by in 1_u8..3,
    ) {
        let mut history = lived(asked);
        let at = at.index(history.len());
        if let Some((sum, _)) = &mut history[at].answered {
            *sum += by;
        }
        prop_assert_eq!(check(&Adder, &history).is_ok(), brute(&history), "{:?}", history);
    }
}
