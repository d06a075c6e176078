use super::*;
use crate::round::fixture::{node, row, state};

const I: u64 = 1_000_000;

fn may(opening: &Opening, now_us: u64, settled: u64) -> Result<(u64, u64, u64), Wait> {
    let mut state = state(1, 1);
    state.meta.settled = RoundId(settled);
    opening.may(now_us, &state).map(|(open, waited_us)| (open.round.0, open.base.0, waited_us))
}

#[test]
fn a_leader_opens_the_round_after_the_settled_one_and_one_more() {
    let mut opening = Opening::new(Term(1), 5);
    assert_eq!(may(&opening, 7, 9), Ok((10, 9, 0)), "that a new leader came late is no lag");
    opening.opened(RoundId(10), 7, I);
    assert_eq!(may(&opening, 7 + I - 1, 9), Err(Wait::Due(7 + I)));
    assert_eq!(may(&opening, 7 + I, 9), Ok((11, 9, 0)));
    opening.opened(RoundId(11), 7 + I, I);
    assert_eq!(may(&opening, 7 + 2 * I, 9), Err(Wait::Settlement(RoundId(10))));
    assert_eq!(opening.due_us(RoundId(9)), None);
    assert_eq!(may(&opening, 7 + 2 * I + 300, 10), Ok((12, 10, 300)), "the wait is its lag");
    // A settlement of a leader before us takes rounds that we would have opened.
    assert_eq!(may(&opening, 7 + 2 * I, 15), Ok((16, 15, 0)));
}

#[test]
fn a_leader_whose_term_is_not_applied_or_has_passed_opens_nothing() {
    for term in [0, 2] {
        assert_eq!(may(&Opening::new(Term(term), 0), 9, 9), Err(Wait::Term));
    }
}

#[test]
fn a_leader_without_the_policies_opens_nothing_until_they_are_there() {
    let mut opening = Opening::new(Term(1), 0);
    opening.prepared(false);
    assert_eq!((may(&opening, 9, 9), opening.due_us(RoundId(9))), (Err(Wait::Prepared), None));
    opening.prepared(true);
    assert_eq!(may(&opening, 9, 9), Ok((10, 9, 0)));
}

#[test]
fn the_policies_of_a_leader_are_those_in_force_and_those_of_the_round_after_the_next() {
    use crate::policies::Scheduled;
    let mut state = state(1, 1);
    let digest = |i| Digest([i; 32]);
    state.slot_mut(Slot::Ban).row.active = Some(digest(2));
    state.slot_mut(Slot::Reward).row.active = Some(digest(1));
    for (round, policies) in [(11, vec![1, 2, 3]), (12, vec![1, 2])] {
        let round = RoundId(round);
        state.slot_mut(Slot::Ban).row.scheduled = Some(Scheduled::from(round, digest(3)));
        assert_eq!(super::policies(&state), policies.into_iter().map(digest).collect::<Vec<_>>(), "{round}");
    }
}

#[test]
fn a_super_is_open_while_it_hears_of_rounds_and_has_a_seat() {
    let (mut attending, seat) = (Attending::default(), row(1));
    assert!(!attending.look(0, I, Some(&seat)), "nobody pings on it yet");
    attending.heard(5);
    assert!(attending.look(6, I, Some(&seat)));
    assert_eq!((attending.open_since_us(), attending.due_us(I)), (Some(6), Some(5 + 2 * I)));
    assert!(attending.look(4 + 2 * I, I, Some(&seat)));
    assert_eq!(attending.open_since_us(), Some(6));
    assert!(!attending.look(5 + 2 * I, I, Some(&seat)), "two intervals without a round");
    assert_eq!((attending.open_since_us(), attending.due_us(I)), (None, None));
    attending.heard(9 * I);
    assert!(attending.look(9 * I, I, Some(&seat)));
    assert_eq!(attending.open_since_us(), Some(9 * I), "it opened anew");
    assert!(!attending.look(9 * I, I, None), "it was removed");
    attending.heard(7 * I);
    assert!(attending.look(10 * I, I, Some(&seat)), "what is older is no news");
}

#[test]
fn a_super_whose_reports_do_not_come_through_is_not_open() {
    let (came, lost) = (row(1), SeatRow { came: false, ..row(1) });
    let mut attending = Attending::default();
    attending.heard(0);
    for (round, said, row, open) in [
        // It was not there: whoever restarts hears of rounds of before.
        (1, false, &lost, true),
        (2, true, &came, true),
        (3, true, &lost, false),
        (4, true, &lost, false),
        (5, true, &came, true),
    ] {
        if said {
            attending.said(RoundId(round), 0);
        }
        attending.settled(RoundId(round), Some(row));
        assert_eq!(attending.look(1, I, Some(row)), open, "after round {round}");
    }
}

#[test]
fn a_lag_is_told_until_a_settled_report_has_told_it() {
    let (came, lost) = (row(1), SeatRow { came: false, ..row(1) });
    let mut attending = Attending::default();
    attending.said(RoundId(1), 70_000);
    attending.settled(RoundId(1), Some(&lost));
    assert_eq!(attending.owed_us(), 70_000, "that report did not come");
    attending.said(RoundId(2), 70_000);
    attending.said(RoundId(2), 70_000);
    attending.said(RoundId(3), 90_000);
    attending.settled(RoundId(2), Some(&came));
    assert_eq!(attending.owed_us(), 90_000, "a later one is on its way");
    attending.settled(RoundId(3), Some(&came));
    assert_eq!(attending.owed_us(), 0);
    attending.said(RoundId(4), 3_000);
    attending.lagged(50_900);
    attending.settled(RoundId(4), Some(&came));
    assert_eq!(attending.owed_us(), 50_900, "it was late after the report that came");
    attending.said(RoundId(5), 20_000);
    attending.settled(RoundId(5), Some(&came));
    assert_eq!(attending.owed_us(), 50_900, "a walk that measured less has not told it");
    attending.said(RoundId(6), 50_000);
    attending.settled(RoundId(6), Some(&came));
    assert_eq!(attending.owed_us(), 0);
}

#[test]
fn queues_of_the_last_settlements_are_kept() {
    let mut queues = Queues::default();
    let mut now = state(1, 1);
    for round in 9..=15 {
        now.meta.settled = RoundId(round);
        now.queue = [node(round as u8)].into();
        queues.keep(&now);
        queues.keep(&now);
    }
    assert_eq!(queues.of(RoundId(15)).map(|queue| queue[0]), Some(node(15)));
    assert_eq!(queues.of(RoundId(12)).map(|queue| queue[0]), Some(node(12)));
    assert_eq!((queues.of(RoundId(11)), queues.of(RoundId(16))), (None, None));
    // An older state, as a snapshot may bring, is no news.
    now.meta.settled = RoundId(9);
    queues.keep(&now);
    assert_eq!(queues.of(RoundId(9)), None);
}
