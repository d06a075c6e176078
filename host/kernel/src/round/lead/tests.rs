use super::*;
use crate::round::fixture::{says, sign, state};

const I: u64 = 10_000_000;
const T: u64 = 2_000_000;

/// What the leader does at a time, in one line.
fn steps(lead: &mut Lead, now_us: u64, state: &State) -> String {
    let mut all = Vec::new();
    while let Some(step) = lead.step(now_us, state) {
        all.push(match step {
            Step::Open { open, waited_us, .. } => format!("open {} on {} +{waited_us}", open.round, open.base),
            Step::Settle(gathered) => format!("settle {} with {}", gathered.open.round, gathered.partials.len()),
        });
    }
    all.join(", ")
}

fn report(lead: &mut Lead, seat: u8, round: u64, base: u64, state: &State) -> Result<(), PartialError> {
    let open = OpenRound { round: RoundId(round), term: lead.term(), base: RoundId(base) };
    lead.partial(sign(&Partial { open, ..says(seat, "ss") }), state)
}

#[test]
fn a_steady_lead_opens_every_interval_and_settles_when_all_is_in() {
    let mut state = state(2, 2);
    let mut lead = Lead::new(Term(1), 100);
    assert_eq!(steps(&mut lead, 100, &state), "open 10 on 9 +0");
    assert_eq!(lead.next_due_us(RoundId(9)), Some(100 + I));
    assert_eq!(report(&mut lead, 0, 10, 9, &state), Ok(()));
    assert_eq!(steps(&mut lead, 900, &state), "");
    assert_eq!(report(&mut lead, 1, 10, 9, &state), Ok(()));
    assert_eq!(steps(&mut lead, 900, &state), "settle 10 with 2");
    assert_eq!(steps(&mut lead, 901, &state), "", "once");
    state.meta.settled = RoundId(10);
    assert_eq!(steps(&mut lead, 100 + I + 7, &state), "open 11 on 10 +7");
    assert_eq!(lead.next_due_us(RoundId(10)), Some(100 + I + 7 + I), "a round is never shorter than its walk");
}

#[test]
fn who_does_not_report_is_waited_for_until_the_timeout_after_the_round() {
    let state = state(2, 2);
    let mut lead = Lead::new(Term(1), 0);
    steps(&mut lead, 0, &state);
    report(&mut lead, 1, 10, 9, &state).unwrap();
    assert_eq!(steps(&mut lead, I, &state), "open 11 on 9 +0");
    assert_eq!(lead.next_due_us(RoundId(9)), Some(I + T));
    assert_eq!(steps(&mut lead, I + T - 1, &state), "");
    assert_eq!(steps(&mut lead, I + T, &state), "settle 10 with 1");
    assert_eq!(lead.next_due_us(RoundId(9)), None, "all waits for the settlement");
    assert_eq!(report(&mut lead, 0, 10, 9, &state), Err(PartialError::Again), "too late");
}

#[test]
fn the_round_after_the_next_waits_for_the_settlement_and_the_wait_is_lag() {
    let mut state = state(1, 2);
    let mut lead = Lead::new(Term(1), 0);
    steps(&mut lead, 0, &state);
    report(&mut lead, 0, 10, 9, &state).unwrap();
    assert_eq!(steps(&mut lead, I, &state), "settle 10 with 1, open 11 on 9 +0");
    report(&mut lead, 0, 11, 9, &state).unwrap();
    assert_eq!(steps(&mut lead, 2 * I + 5, &state), "", "11 is not settled before 10, and 12 does not open");
    state.meta.settled = RoundId(10);
    assert_eq!(steps(&mut lead, 2 * I + 50, &state), "settle 11 with 1, open 12 on 10 +50");
}

#[test]
fn a_settlement_that_failed_is_made_again_on_the_state_of_then() {
    let state = state(1, 2);
    let mut lead = Lead::new(Term(1), 0);
    steps(&mut lead, 0, &state);
    report(&mut lead, 0, 10, 9, &state).unwrap();
    assert_eq!(steps(&mut lead, 1, &state), "settle 10 with 1");
    lead.failed(RoundId(10), 500);
    assert_eq!(lead.next_due_us(RoundId(9)), Some(500));
    assert_eq!(steps(&mut lead, 499, &state), "");
    assert_eq!(steps(&mut lead, 500, &state), "settle 10 with 1");
}

#[test]
fn a_settlement_of_the_leader_before_takes_its_round_away() {
    let mut state = state(1, 2);
    let mut lead = Lead::new(Term(1), 0);
    steps(&mut lead, 0, &state);
    steps(&mut lead, I, &state);
    state.meta.settled = RoundId(10);
    assert_eq!(lead.rounds().count(), 2);
    assert_eq!(steps(&mut lead, I + 1, &state), "");
    assert_eq!(lead.rounds().map(|(open, _)| open.round).collect::<Vec<_>>(), [RoundId(11)]);
    assert!(matches!(report(&mut lead, 0, 10, 9, &state), Err(PartialError::NotOpen { .. })));
    // Both its rounds are taken: it goes on behind them.
    state.meta.settled = RoundId(11);
    assert_eq!(steps(&mut lead, 2 * I, &state), "open 12 on 11 +0");
}

#[test]
fn a_leader_of_an_earlier_term_does_nothing_and_a_new_one_opens_the_same_round_again() {
    let mut state = state(1, 2);
    let mut old = Lead::new(Term(1), 0);
    steps(&mut old, 0, &state);
    state.meta.term = Term(2);
    assert_eq!(steps(&mut old, 5 * I, &state), "");
    let mut new = Lead::new(Term(2), 5 * I);
    assert_eq!(steps(&mut new, 5 * I, &state), "open 10 on 9 +0");
    let open = OpenRound { round: RoundId(10), term: Term(1), base: RoundId(9) };
    let stale = sign(&Partial { open, ..says(0, "ss") });
    assert_eq!(new.partial(stale, &state), Err(PartialError::NotOpen { found: open }), "of the old term");
    let other = OpenRound { term: Term(2), base: RoundId(8), ..open };
    let stale = sign(&Partial { open: other, ..says(0, "ss") });
    assert_eq!(new.partial(stale, &state), Err(PartialError::NotOpen { found: other }), "of another base");
    report(&mut new, 0, 10, 9, &state).unwrap();
    let Some(Step::Settle(gathered)) = new.step(5 * I, &state) else { panic!() };
    assert!(gathered.merge(&state).marks.is_suspect(), "the leader changed");
}

#[test]
fn a_report_for_another_queue_is_refused() {
    let state = state(1, 3);
    let mut lead = Lead::new(Term(1), 0);
    steps(&mut lead, 0, &state);
    assert_eq!(report(&mut lead, 0, 10, 9, &state), Err(PartialError::Length { what: "asked" }));
}

#[test]
fn stamps_follow_the_clock_within_its_bound_and_the_elapsed_time_beyond() {
    let second = 1_000_000;
    // (µs of the steady clock, the machine's clock, stamp, off)
    for script in [
        // The first stamp of a process is its clock's, however long the cluster stood still.
        &[(0, 900_000, 900_000, None), (second, 901_000, 901_000, None)][..],
        // Never below the last stamp in state, 500 s.
        &[(0, 480_000, 500_000, None), (second, 481_000, 500_000, None)],
        // Ahead by 30 s is followed, by more is not, and the elapsed time goes on.
        &[
            (0, 600_000, 600_000, None),
            (second, 631_000, 631_000, None),
            (2 * second, 662_001, 632_000, Some(30_001)),
            (3 * second, 1_000_000, 633_000, Some(367_000)),
            (4 * second, 634_500, 634_500, None),
        ],
        // Back by more than 30 s: time goes on.
        &[
            (0, 600_000, 600_000, None),
            (second, 1_000, 601_000, Some(-600_000)),
            (2 * second, 1_000, 602_000, Some(-601_000)),
        ],
    ] {
        let mut clock = Clock::default();
        let mut last_ms = 500_000;
        for (now_us, clock_ms, now_ms, off_ms) in script {
            let stamp = clock.stamp(last_ms, *clock_ms, *now_us);
            assert_eq!(stamp, Stamp { now_ms: *now_ms, off_ms: *off_ms }, "{script:?}");
            assert!(stamp.now_ms >= last_ms);
            last_ms = stamp.now_ms;
            clock.saw(last_ms, *now_us);
        }
    }
}

/// Stamps once a second: the stamps at the named seconds, and whether the clock counted.
fn stamps(clock: &mut Clock, last_ms: u64, wall: impl Fn(u64) -> u64, at_s: &[u64]) -> Vec<(u64, bool)> {
    let mut last_ms = last_ms;
    let mut told = Vec::new();
    for second in 0..=*at_s.last().unwrap() {
        let stamp = clock.stamp(last_ms, wall(second), second * 1_000_000);
        assert!(stamp.now_ms >= last_ms, "second {second}");
        last_ms = stamp.now_ms;
        clock.saw(last_ms, second * 1_000_000);
        if at_s.contains(&second) {
            told.push((last_ms, stamp.off_ms.is_none()));
        }
    }
    told
}

#[test]
fn a_machine_that_starts_an_hour_ahead_is_caught_up_by_its_clock() {
    let hour_ms = 3_600_000;
    // Its clock is set after a minute.
    let wall = |second| 1_000 * second + if second < 60 { 2 * hour_ms } else { hour_ms };
    let told = stamps(&mut Clock::default(), 5_000, wall, &[59, 60, 660, 760, 7_799, 7_800, 7_900]);
    let at = |second: u64| 1_000 * second + 2 * hour_ms;
    let expected = [
        (at(59), true),
        (at(60), false),
        // Ten minutes later the stamps slow down to half.
        (at(660) - 500, false),
        (at(760) - 50_500, false),
        (at(7_799) - 3_570_000, false),
        // Within 30 s the clock counts again. Stamps wait for it and do not fall.
        (at(7_799) - 3_570_000, true),
        (1_000 * 7_900 + hour_ms, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_machine_that_starts_in_1970_takes_its_clock_as_soon_as_it_is_set() {
    let wall = |second| if second < 60 { 1_000 * second } else { 900_000_000 + 1_000 * second };
    let told = stamps(&mut Clock::default(), 500_000, wall, &[0, 59, 60, 61]);
    // Time goes on meanwhile, from the latest stamp.
    assert_eq!(told, [(500_000, false), (559_000, false), (900_060_000, true), (900_061_000, true)]);
}

#[test]
fn a_clock_that_jumps_about_is_never_approached() {
    let wall = |second| 1_000 * second + 10_000_000 * (1 + second / 500);
    let mut clock = Clock::default();
    clock.saw(5_000, 0);
    assert_eq!(stamps(&mut clock, 5_000, wall, &[5_000]), [(5_005_000, false)]);
}

#[test]
fn a_clock_that_is_ahead_for_long_is_approached() {
    let wall = |second| 1_000 * second + 600_000;
    let mut clock = Clock::default();
    clock.saw(5_000, 0);
    // Ten minutes of its own time, then half a second a second, until it is within 30 s.
    let told = stamps(&mut clock, 5_000, wall, &[600, 602, 1_750]);
    assert_eq!(told, [(605_500, false), (608_500, false), (2_350_000, true)]);
}

#[test]
fn a_clock_that_is_off_loses_no_time_however_often_it_stamps() {
    let mut clock = Clock::default();
    let mut last_ms = clock.stamp(0, 1_000, 0).now_ms;
    for now_us in (0..1_000_000).step_by(300) {
        last_ms = clock.stamp(last_ms, 10_000_000, now_us).now_ms;
    }
    assert_eq!(last_ms, 1_999);
}

#[test]
fn a_super_that_saw_stamps_knows_the_time_when_it_becomes_the_leader() {
    let mut clock = Clock::default();
    clock.saw(600_000, 0);
    clock.saw(590_000, 5_000_000);
    assert_eq!(clock.stamp(600_000, 900_000, 10_000_000), Stamp { now_ms: 610_000, off_ms: Some(290_000) });
}
