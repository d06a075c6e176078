use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::id::{Signature, Term};
use crate::limits::SEATS;
use crate::round::fixture::{OPEN, letters, node, partial, requeue, row, says, sign, state};

fn merged(state: &State, said: &[&str]) -> Report {
    let partials: Vec<Partial> = said.iter().enumerate().map(|(seat, said)| says(seat as u8, said)).collect();
    merge(state, &OPEN, &state.queue, &partials)
}

#[test]
fn what_observers_say_is_weighed_in_one_order() {
    for (said, merged_as, facts) in [
        (["s", "m"], "u", fact::MISSED),
        (["s", "v"], "u", 0),
        (["s", "-"], "u", 0),
        (["v", "m"], "?", fact::MISSED),
        (["v", "-"], "?", 0),
        (["m", "-"], "d", fact::MISSED),
        (["-", "-"], "d", fact::ABSENT),
    ] {
        for said in [said, [said[1], said[0]]] {
            let report = merged(&state(2, 1), &said);
            assert_eq!((letters(&report).as_str(), report.facts[0]), (merged_as, facts), "{said:?}");
            assert!(report.is_well_formed(1));
        }
    }
}

#[test]
fn a_report_that_did_not_come_says_nothing() {
    let report = merge(&state(2, 2), &OPEN, &state(2, 2).queue, &[says(0, "s-")]);
    assert_eq!(letters(&report), "u?", "the member may be on its way from the seat that died");
    assert_eq!((report.seats[1].came, report.seats[1].grace_until), (false, RoundId(13)));
    let none = merge(&state(1, 2), &OPEN, &state(1, 2).queue, &[]);
    assert_eq!((letters(&none).as_str(), none.facts[0]), ("??", 0));
}

#[test]
fn a_super_that_was_not_open_all_round_says_nothing_of_the_absent() {
    let state = state(1, 2);
    let closed = Partial { open_all_round: false, ..says(0, "m-") };
    assert_eq!(letters(&merge(&state, &OPEN, &state.queue, &[closed])), "d?");
}

#[test]
fn absence_does_not_count_for_those_whom_a_super_in_grace_asked_last() {
    let mut state = state(2, 4);
    state.meta.seats[1].grace_until = RoundId(10);
    for (i, asked_seats) in [(0, 0b01), (1, 0b10), (2, 0b11), (3, 0)] {
        state.members.get_mut(&node(i)).unwrap().hot.asked_seats = asked_seats;
    }
    assert_eq!(letters(&merged(&state, &["----", "----"])), "d???");
    assert_eq!(letters(&merged(&state, &["mmmm", "----"])), "dddd", "a miss counts in any grace");
    state.meta.seats[1].grace_until = RoundId(9);
    assert_eq!(letters(&merged(&state, &["----", "----"])), "ddd?", "whom nobody has asked is still to arrive");
}

#[test]
fn who_is_on_its_way_is_excused_by_any_grace_and_not_for_ever() {
    let mut state = state(3, 6);
    state.meta.seats[2].grace_until = RoundId(10);
    // Three graces of three rounds, and never less than load alone may last.
    assert_eq!((way_rounds(3), way_rounds(4)), (10, 12));
    for (i, (asked_seats, away)) in
        [(0b01, 0), (0b01, 1), (0b01, 9), (0b01, 10), (0b100, 10), (0, crate::members::GONE)].into_iter().enumerate()
    {
        let hot = &mut state.members.get_mut(&node(i as u8)).unwrap().hot;
        (hot.asked_seats, hot.away) = (asked_seats, away);
    }
    assert_eq!(letters(&merged(&state, &["------", "------", "------"])), "d??ddd");
    state.meta.seats[2].grace_until = RoundId(9);
    assert_eq!(
        letters(&merged(&state, &["------", "------", "------"])),
        "dddddd",
        "without a grace nobody is excused"
    );
}

#[test]
fn an_absence_counts_where_a_super_has_been_open_for_long_enough() {
    let mut state = state(2, 1);
    let hot = &mut state.members.get_mut(&node(0)).unwrap().hot;
    (hot.asked_seats, hot.away) = (0b01, crate::members::GONE);
    state.meta.seats[0].grace_until = RoundId(10);
    assert_eq!(letters(&merged(&state, &["-", "-"])), "d");
    state.meta.seats[1].grace_until = RoundId(10);
    assert_eq!(letters(&merged(&state, &["-", "-"])), "?", "both have just opened");
    assert_eq!(letters(&merged(&state, &["-", "m"])), "d");
}

#[test]
fn a_removed_super_has_the_grace_of_a_dead_one_and_says_nothing() {
    let mut state = state(2, 2);
    state.members.get_mut(&node(1)).unwrap().hot.asked_seats = 0b01;
    let gone = state.meta.seats.pop().unwrap();
    state.meta.left.push(gone);
    let report = merged(&state, &["--"]);
    assert_eq!(letters(&report), "?d");
    let seats: Vec<_> = report.seats.iter().map(|seat| (seat.seat.0, seat.came, seat.grace_until.0)).collect();
    assert_eq!(seats, [(0, true, 0), (1, false, 13)]);
    assert_eq!(check(&sign(&says(1, "ss")), &state), Err(PartialError::NoSeat));
}

#[test]
fn a_seat_given_after_the_base_neither_speaks_nor_is_waited_for() {
    let mut state = state(2, 1);
    state.meta.seats[1].from = RoundId(10);
    assert_eq!(check(&sign(&says(1, "s")), &state), Err(PartialError::TooNew { from: RoundId(10) }));
    let report = merged(&state, &["s"]);
    assert_eq!(report.seats.len(), 1, "that it said nothing begins no grace");
    state.meta.seats[1].from = RoundId(9);
    assert!(check(&sign(&says(1, "s")), &state).is_ok());
}

#[test]
fn who_said_goodbye_or_is_outdated_leaves_without_being_down() {
    let mut state = state(1, 3);
    for (i, place) in [(0, Place::Leaving), (1, Place::Outdated)] {
        state.members.get_mut(&node(i)).unwrap().hot.place = place;
    }
    assert_eq!(letters(&merged(&state, &["---"])), "??d");
    assert_eq!(letters(&merged(&state, &["sms"])), "u?u");
}

#[test]
fn bans_by_hand_do_not_make_a_round_suspect() {
    let mut state = state(1, 10);
    for i in 0..5 {
        state.members.get_mut(&node(i)).unwrap().hot.standing = Standing::Banned;
    }
    let report = merged(&state, &["m----sssss"]);
    assert_eq!(letters(&report), "?????uuuuu");
    assert_eq!((report.marks.missing, report.marks.causes), (0, 0));
}

#[test]
fn places_follow_the_queue_of_now() {
    // Walked: 0 1 2 3. Since then 1 left and 4 came.
    let mut now = state(1, 5);
    let walked: Vec<NodeId> = (0..4).map(node).collect();
    now.members.get_mut(&node(1)).unwrap().hot.place = Place::Out;
    requeue(&mut now);
    let mut said = says(0, "smms");
    said.rtt = vec![10, 20, 30, 40];
    said.data = vec![At { at: 0, value: 5 }, At { at: 3, value: 6 }];
    said.facts = vec![At { at: 1, value: fact::LATE }, At { at: 2, value: fact::LATE | fact::ABSENT }];
    said.addresses = vec![At { at: 3, value: "x".into() }];
    said.returns.set(2);
    let report = merge(&now, &OPEN, &walked, &[said]);
    assert_eq!(letters(&report), "udu?");
    assert_eq!(report.seats[0].rtt, [10, 30, 40, 0]);
    assert_eq!((report.rtt_us(2), report.rtt_us(3)), (40, 0));
    assert_eq!(report.data, [5, 0, 6, 0]);
    assert_eq!(report.facts, [0, fact::MISSED | fact::LATE, 0, 0]);
    assert_eq!(report.addresses, [At { at: 2, value: "x".into() }]);
    assert!(report.returns.get(1) && report.returns.count() == 1);
    assert_eq!((&report.asked[..], &report.seen[..]), (&[1, 1, 1, 0][..], &[1, 0, 1, 0][..]));
}

#[test]
fn data_and_address_are_those_of_the_lowest_seat_that_saw_the_member() {
    let state = state(3, 1);
    let mut partials: Vec<Partial> = ["m", "s", "s"].iter().enumerate().map(|(i, s)| says(i as u8, s)).collect();
    for (partial, (data, address)) in partials.iter_mut().zip([(1, "a"), (2, "b"), (3, "c")]) {
        partial.data = vec![At { at: 0, value: data }];
        partial.addresses = vec![At { at: 0, value: address.into() }];
    }
    partials.reverse();
    let report = merge(&state, &OPEN, &state.queue, &partials);
    assert_eq!((report.data[0], report.addresses[0].value.as_str()), (2, "b"));
}

#[test]
fn a_grace_begins_with_a_start_a_death_a_pause_or_load_and_ends() {
    let came = |f: &dyn Fn(&mut Partial)| {
        let mut partial = partial(0, 0);
        f(&mut partial);
        Some(partial)
    };
    let (quiet, none): (Option<Partial>, Option<Partial>) = (came(&|_| {}), None);
    let started = came(&|p| p.open_since_ms = 2);
    let paused = came(&|p| p.lag_ms = 5_000);
    let lagged = came(&|p| p.lag_ms = 4_999);
    for (said, until) in [
        (vec![&quiet], 0),
        (vec![&started], 13),
        (vec![&paused], 13),
        (vec![&lagged], 0),
        (vec![&none], 13),
        // Only the first of a row of missing reports; the start after it is another reason.
        (vec![&none, &none, &none], 13),
        (vec![&none, &none, &started], 15),
        (vec![&none, &quiet, &none], 15),
    ] {
        let mut row = row(0);
        for (i, partial) in said.iter().enumerate() {
            let seat = seat_report(&row, partial.as_ref(), RoundId(10 + i as u64), 3, 10_000);
            (row.came, row.open_since_ms, row.grace_until) = (seat.came, seat.open_since_ms, seat.grace_until);
        }
        assert_eq!(row.grace_until, RoundId(until), "{} reports", said.len());
    }
}

#[test]
fn load_alone_gives_grace_for_ten_rounds_in_a_row_at_most() {
    let loads = |pattern: &dyn Fn(u64) -> u32| -> Vec<u64> {
        let mut row = row(0);
        let mut graced = Vec::new();
        for round in 1..=30 {
            let partial = Partial { refused: pattern(round), ..partial(0, 0) };
            let seat = seat_report(&row, Some(&partial), RoundId(round), 3, 10_000);
            (row.grace_until, row.load_rounds) = (seat.grace_until, seat.load_rounds);
            if seat.grace_until >= RoundId(round) {
                graced.push(round);
            }
        }
        graced
    };
    assert_eq!(loads(&|_| 1), (1..=10).collect::<Vec<_>>(), "without end");
    assert_eq!(loads(&|round| u32::from(round == 5)), [5, 6, 7, 8]);
    // Sparing a round does not begin the row anew while the grace lasts.
    let alternating = loads(&|round| u32::from(!round.is_multiple_of(3)));
    assert!(!alternating.contains(&11), "{alternating:?}");
    assert_eq!(loads(&|round| u32::from(round <= 2)), [1, 2, 3, 4, 5]);
    // Neither does one after it: a row is made good by as many quiet ones.
    assert_eq!(loads(&|round| u32::from(round != 14)), (1..=10).collect::<Vec<_>>());
    let later = loads(&|round| u32::from(round <= 12 || round >= 24));
    assert_eq!(later, (1..=10).chain(24..=30).collect::<Vec<_>>());
}

#[test]
fn a_grace_lasts_at_least_twice_the_reconnect_spread() {
    let mut settings = Settings::default();
    for (interval_ms, spread_ms, rounds) in
        [(10_000, 1_000, 3), (10_000, 15_000, 3), (10_000, 15_001, 4), (1_000, 4_000, 8), (1_000, 1 << 40, 120)]
    {
        settings.interval_ms = interval_ms;
        assert_eq!(grace_rounds(&settings, spread_ms), rounds, "{interval_ms} {spread_ms}");
    }
}

#[test]
fn a_partial_report_is_taken_from_its_signer_for_its_cluster_only() {
    let state = state(2, 2);
    let good = says(1, "sm");
    assert_eq!(check(&sign(&good), &state), Ok(good.clone()));
    let wrong_seat = SignedPartial { ..sign(&good) };
    let cluster = Partial { cluster: "lab#00".into(), ..good.clone() };
    let forged = SignedPartial { signature: Signature([3; 64]), ..sign(&good) };
    let cut = {
        let mut signed = sign(&good);
        signed.payload.pop();
        signed
    };
    for (signed, error) in [
        (sign(&says(2, "sm")), PartialError::NoSeat),
        (forged, PartialError::Signature),
        (cut, PartialError::Signature),
        (sign(&cluster), PartialError::Cluster { found: "lab#00".into() }),
    ] {
        assert_eq!(check(&signed, &state), Err(error.clone()), "{error}");
    }
    // Signed by seat 1 for seat 0.
    let other = says(0, "sm").payload();
    let key = crate::round::fixture::key(1);
    let bytes = crate::envelope::pae(PARTIAL_TYPE, &other);
    let signature = Signature(ed25519_dalek::Signer::sign(&key, &bytes).to_bytes());
    let signed = SignedPartial { payload: other, signature, ..wrong_seat };
    let error = PartialError::WrongSeat { expected: Seat(1), found: Seat(0) };
    assert_eq!(check(&signed, &state), Err(error));
    let bytes = crate::envelope::pae(PARTIAL_TYPE, b"no cbor");
    let signature = Signature(ed25519_dalek::Signer::sign(&key, &bytes).to_bytes());
    let signed = SignedPartial { payload: b"no cbor".to_vec(), signature, ..signed };
    assert_eq!(check(&signed, &state), Err(PartialError::Encoding));
}

#[test]
fn columns_that_do_not_fit_are_refused_by_name() {
    let good = says(0, "smv");
    assert_eq!(check_lengths(&good, 3), Ok(()));
    let broken = |f: &dyn Fn(&mut Partial)| {
        let mut partial = good.clone();
        f(&mut partial);
        partial
    };
    for (what, partial) in [
        ("asked", broken(&|p| p.asked = Bits::zeros(4))),
        ("seen", broken(&|p| p.seen.set(2))),
        ("void", broken(&|p| p.void.set(0))),
        ("returns", broken(&|p| p.returns = Bits::zeros(2))),
        ("rtt", broken(&|p| p.rtt.clear())),
        ("facts", broken(&|p| p.facts = vec![At { at: 3, value: 4 }])),
        ("data", broken(&|p| p.data = vec![At { at: 1, value: 4 }, At { at: 1, value: 5 }])),
        ("addresses", broken(&|p| p.addresses = vec![At { at: 1, value: "\n".into() }])),
    ] {
        assert_eq!(check_lengths(&partial, 3), Err(PartialError::Length { what }));
    }
}

proptest! {
    /// The table of 3.13 over sets of observers, for up to eight seats and any mix of queues, places and graces.
    #[test]
    fn merging_is_what_the_sets_of_observers_say(
        seats in 1_u8..=SEATS,
        said in proptest::collection::vec("[smv-]{8}", 8),
        came in proptest::collection::vec(any::<bool>(), 8),
        open in proptest::collection::vec(proptest::bool::weighted(0.8), 8),
        grace in proptest::collection::vec(proptest::bool::weighted(0.3), 8),
        places in proptest::collection::vec(0_u8..4, 10),
        asked_last in proptest::collection::vec(any::<u8>(), 10),
        away in proptest::collection::vec(prop_oneof![Just(0_u16), 0_u16..12], 10),
    ) {
        // Ten keys: in both queues, only in the walked one, only in that of now, leaving.
        let mut state = state(seats, 10);
        let mut walked = Vec::new();
        for i in 0..10_u8 {
            let hot = &mut state.members.get_mut(&node(i)).unwrap().hot;
            hot.asked_seats = asked_last[usize::from(i)];
            hot.away = away[usize::from(i)];
            hot.place = match places[usize::from(i)] {
                1 => Place::Out,
                3 => Place::Leaving,
                _ => Place::Queued,
            };
            if places[usize::from(i)] != 2 && walked.len() < 8 {
                walked.push(node(i));
            }
        }
        requeue(&mut state);
        for (row, grace) in state.meta.seats.iter_mut().zip(&grace) {
            row.grace_until = RoundId(if *grace { 10 } else { 9 });
            row.came = false;
        }
        let partials: Vec<Partial> = (0..seats)
            .filter(|seat| came[usize::from(*seat)])
            .map(|seat| Partial { open_all_round: open[usize::from(seat)], ..says(seat, &said[usize::from(seat)][..walked.len()]) })
            .collect();
        let report = merge(&state, &OPEN, &walked, &partials);
        prop_assert!(report.is_well_formed(state.queue.len()));
        let (mut missing, mut asked_twice, mut disputed) = (0, 0, 0);
        for (at, node) in state.queue.iter().enumerate() {
            let hot = &state.members[node].hot;
            let base = walked.iter().position(|walked| walked == node);
            let by = |letter: char| -> BTreeSet<u8> {
                let Some(place) = base else { return BTreeSet::new() };
                let says = |p: &&Partial| said[usize::from(p.seat.0)].as_bytes()[place] == letter as u8;
                let counts = |p: &&Partial| letter != '-' || p.open_all_round;
                partials.iter().filter(says).filter(counts).map(|p| p.seat.0).collect()
            };
            let (seen, missed, void, absent) = (by('s'), by('m'), by('v'), by('-'));
            let asked_last: BTreeSet<u8> = (0..8).filter(|seat| hot.away > 0 || hot.asked_seats & (1 << seat) != 0).collect();
            let in_grace: BTreeSet<u8> = (0..seats).filter(|seat| grace[usize::from(*seat)]).collect();
            let expected = if !seen.is_empty() {
                Presence::Up
            } else if !void.is_empty() || hot.place == Place::Leaving {
                Presence::Unknown
            } else if !missed.is_empty() || !absent.is_subset(&in_grace) && (hot.asked_seats != 0 && asked_last.is_disjoint(&in_grace) || hot.away >= 10) {
                Presence::Down
            } else {
                Presence::Unknown
            };
            prop_assert_eq!(report.presence(at), expected);
            missing += u32::from(expected == Presence::Down);
            asked_twice += u32::from(seen.len() + missed.len() >= 2);
            disputed += u32::from(!seen.is_empty() && !missed.is_empty());
            let asked: BTreeSet<u8> = seen.union(&missed).copied().collect();
            prop_assert_eq!(report.asked[at], asked.iter().fold(0, |bits, seat| bits | 1 << seat));
            prop_assert_eq!(report.seen[at], seen.iter().fold(0, |bits, seat| bits | 1 << seat));
            // Unknown is never down: who was not in the walked queue was not looked for.
            prop_assert!(base.is_some() || report.presence(at) == Presence::Unknown);
        }
        let marks = report.marks;
        prop_assert_eq!((marks.missing, marks.asked_twice, marks.disputed), (missing, asked_twice, disputed));
        prop_assert_eq!((marks.trusted_up as usize, marks.partials as usize), (state.queue.len(), partials.len()));
    }
}

#[test]
fn counts_are_of_up_down_and_all_the_rest() {
    assert_eq!(counts(&[0, 1, 1, 2, 9]), (2, 1, 2));
    assert_eq!(OPEN.term, Term(1));
}
