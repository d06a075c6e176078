//! The published numbers, and random histories against a list of all audits with exact fractions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use pingward_sdk::Reason;
use pingward_sdk::testing::{Cluster, describe};
use proptest::prelude::*;

use super::*;

const HALF_DAY_MS: u64 = 43_200_000;

/// Rounds of an hour: a window is twelve of them. The first begins a window.
fn hourly() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.round.interval_ms = 3_600_000;
    assert_eq!(cluster.round.now_ms % HALF_DAY_MS, 0);
    cluster
}

/// Plays whole windows of one letter.
fn windows(cluster: &mut Cluster, config: &str, letter: &str, count: u32) -> Standing {
    for _ in 0..12 * count {
        cluster.judge::<Online>(config, letter).unwrap();
    }
    cluster.standing(0)
}

/// One round.
fn audit(cluster: &mut Cluster, config: &str, letter: &str) -> Standing {
    cluster.judge::<Online>(config, letter).unwrap();
    cluster.standing(0)
}

/// Good for two months.
fn perfect() -> Cluster {
    let mut cluster = hourly();
    assert_eq!(windows(&mut cluster, "{}", "+", 120), Standing::Good);
    cluster
}

#[test]
fn memory_is_256_bytes() {
    let described = describe::<Online>("{}").unwrap();
    assert_eq!(described.memory_bytes, 256);
    assert_eq!(described.reasons[0], "online score is below 60.00 %: suspended while it is");
}

#[test]
fn twenty_four_lost_windows_are_just_good_enough() {
    let mut cluster = perfect();
    assert_eq!(windows(&mut cluster, "{}", "-", 24), Standing::Good);
    assert_eq!(audit(&mut cluster, "{}", "+"), Standing::Good);
    assert_eq!(cluster.members.strikes[0], 40);
}

#[test]
fn twenty_five_lost_windows_suspend_at_the_first_audit_after() {
    let mut cluster = perfect();
    assert_eq!(windows(&mut cluster, "{}", "-", 25), Standing::Good);
    assert_eq!(audit(&mut cluster, "{}", "+"), Standing::Suspended);
    assert_eq!((cluster.members.strikes[0], cluster.reasons[0], cluster.until[0]), (41, Why::Suspended.into(), 12));
}

#[test]
fn it_is_lifted_after_36_more_good_windows_which_are_18_days() {
    let mut cluster = perfect();
    windows(&mut cluster, "{}", "-", 25);
    assert_eq!(windows(&mut cluster, "{}", "+", 36), Standing::Suspended);
    assert_eq!(audit(&mut cluster, "{}", "+"), Standing::Good);
    assert_eq!(cluster.reasons[0], Why::Review);
}

#[test]
fn a_new_node_that_is_offline_is_not_judged_for_30_days() {
    let config = r#"{"stray":false}"#;
    let mut cluster = hourly();
    assert_eq!(windows(&mut cluster, config, "-", 60), Standing::Good);
    assert_eq!(cluster.reasons[0], Why::WarmUp);
    assert_eq!(audit(&mut cluster, config, "-"), Standing::Suspended);
}

#[test]
fn the_shortest_review_is_37_days() {
    let mut cluster = perfect();
    windows(&mut cluster, "{}", "-", 25);
    assert_eq!(audit(&mut cluster, "{}", "+"), Standing::Suspended);
    let began_ms = cluster.round.now_ms - cluster.round.interval_ms;
    let closed = (0..2_000).find(|_| {
        audit(&mut cluster, "{}", "+");
        cluster.reasons[0] == Reason::NONE
    });
    assert!(closed.is_some());
    let took_ms = cluster.round.now_ms - cluster.round.interval_ms - began_ms;
    // The first audit after 37 days.
    assert_eq!(took_ms, 37 * 24 * 3_600_000 + 3_600_000);
    assert_eq!(Head::read(cluster.memory.first_chunk().unwrap()).review_since, 0);
}

/// Half of every window is missed: the score stays at 50 %.
fn half(cluster: &mut Cluster, config: &str, count: u32) {
    (0..6 * count).for_each(|_| {
        audit(cluster, config, "+");
        audit(cluster, config, "-");
    });
}

#[test]
fn a_low_score_after_the_review_bans_only_where_the_switch_is_on() {
    let mut cluster = hourly();
    half(&mut cluster, "{}", 200);
    assert_eq!(cluster.standing(0), Standing::Suspended);
    let config = r#"{"disqualify":true}"#;
    let mut cluster = hourly();
    half(&mut cluster, config, 60);
    assert_eq!(audit(&mut cluster, config, "-"), Standing::Suspended);
    half(&mut cluster, config, 74);
    assert_eq!(cluster.standing(0), Standing::Suspended);
    assert_eq!(audit(&mut cluster, config, "+"), Standing::Banned);
    assert_eq!((cluster.reasons[0], cluster.until[0]), (Why::Disqualified.into(), u32::MAX));
    // For good: back on probation, it is banned again; no news says nothing.
    cluster.members.standing = vec![Standing::Probation.code()];
    assert_eq!(audit(&mut cluster, config, "?"), Standing::Probation);
    assert_eq!(audit(&mut cluster, config, "+"), Standing::Banned);
}

#[test]
fn whoever_is_never_there_for_a_period_is_a_stray() {
    let mut cluster = perfect();
    assert_eq!(windows(&mut cluster, "{}", "-", 60), Standing::Suspended);
    assert_eq!(audit(&mut cluster, "{}", "-"), Standing::Banned);
    assert_eq!(cluster.reasons[0], Why::Stray);
}

#[test]
fn a_window_without_an_audit_stops_the_judging_for_a_period() {
    let mut cluster = perfect();
    windows(&mut cluster, "{}", "-", 25);
    assert_eq!(audit(&mut cluster, "{}", "-"), Standing::Suspended);
    for _ in 0..35 {
        audit(&mut cluster, "{}", "?");
    }
    // As there: the score of a period that is not full suspends nobody.
    assert_eq!(cluster.standing(0), Standing::Suspended);
    assert_eq!(audit(&mut cluster, "{}", "-"), Standing::Good);
    assert_eq!(windows(&mut cluster, "{}", "-", 58), Standing::Good);
}

#[test]
fn no_news_moves_nothing() {
    let mut cluster = perfect();
    windows(&mut cluster, "{}", "-", 26);
    let (before, standing) = (cluster.memory.clone(), cluster.standing(0));
    windows(&mut cluster, "{}", "?", 3);
    cluster.round.suspect = true;
    windows(&mut cluster, "{}", "-", 3);
    windows(&mut cluster, "{}", "+", 3);
    assert_eq!((cluster.memory.clone(), cluster.standing(0)), (before, standing));
}

#[test]
fn a_bad_config_is_refused_with_the_reason() {
    let refused = |config| describe::<Online>(config).unwrap_err();
    assert_eq!(refused(r#"{"windows":0}"#), "`windows` is 0; it may be 1 to 360");
    assert_eq!(refused(r#"{"disqualify":1}"#), "`disqualify` is a number; it must be true or false");
}

/// The plain way: every audit is kept, and a score is a fraction.
#[derive(Default)]
struct Model {
    audits: Vec<(u64, bool)>,
    suspended: bool,
    review_since: Option<u64>,
    banned: bool,
}

struct Limits {
    window_secs: u64,
    windows: u64,
    online_bp: u128,
    grace_secs: u64,
    disqualify: bool,
    stray: bool,
}

impl Model {
    fn standing(&self) -> Standing {
        match (self.banned, self.suspended) {
            (true, _) => Standing::Banned,
            (false, true) => Standing::Suspended,
            (false, false) => Standing::Good,
        }
    }

    fn audit(&mut self, limits: &Limits, now: u64, is_up: bool) {
        if self.banned {
            return;
        }
        self.audits.push((now, is_up));
        let current = now / limits.window_secs;
        let of = |window: u64| self.audits.iter().filter(move |(at, _)| at / limits.window_secs == window);
        let complete = current - limits.windows..current;
        let is_full = complete.clone().all(|window| of(window).count() > 0);
        let mut sum = (0_u128, 1_u128);
        for window in complete.clone().filter(|window| of(*window).count() > 0) {
            let (up, seen) = (of(window).filter(|(_, up)| *up).count() as u128, of(window).count() as u128);
            sum = reduced(sum.0 * seen + up * sum.1, sum.1 * seen);
        }
        let is_low = is_full && sum.0 * 10_000 < limits.online_bp * u128::from(limits.windows) * sum.1;
        let was_there = complete.chain([current]).any(|window| of(window).any(|(_, up)| *up));
        self.suspended = is_low;
        match self.review_since {
            None if is_low => self.review_since = Some(now),
            Some(since) if now > since + limits.grace_secs + limits.windows * limits.window_secs => {
                self.banned = is_low && limits.disqualify;
                self.review_since = self.review_since.filter(|_| is_low);
            }
            None | Some(_) => {}
        }
        self.banned |= limits.stray && is_full && !was_there;
    }
}

fn reduced(numerator: u128, denominator: u128) -> (u128, u128) {
    let (mut a, mut b) = (numerator, denominator);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    (numerator / a, denominator / a)
}

proptest! {
    #[test]
    fn random_histories_come_out_as_from_a_list_of_audits(
        stretches in prop::collection::vec(
            (prop_oneof![3 => Just(9_u8), 2 => Just(5_u8), 2 => Just(1_u8), 1 => Just(0_u8)], 1..60_usize, 0..400_u64),
            1..30,
        ),
        lots in prop::collection::vec(0..10_u8, 64),
        windows in 1..8_u64,
        online_bp in 0..=10_000_u64,
        grace_secs in 0..1_000_u64,
        switches: (bool, bool),
    ) {
        let (disqualify, stray) = switches;
        let limits = Limits { window_secs: 60, windows, online_bp: online_bp.into(), grace_secs, disqualify, stray };
        let config = format!(
            r#"{{"disqualify":{disqualify},"grace_secs":{grace_secs},"online_bp":{online_bp},"stray":{stray},"window_secs":60,"windows":{windows}}}"#
        );
        let (mut cluster, mut model) = (Cluster::new(1), Model::default());
        // Of ten rounds so many are up; one in sixteen is unknown.
        for (at, (up, pause)) in
            stretches.iter().flat_map(|(up, rounds, pause)| (0..*rounds).map(move |at| (up, if at == 0 { *pause } else { 0 }))).enumerate()
        {
            cluster.round.now_ms += pause * 1_000;
            let letter = match lots[at % 64] {
                _ if at % 16 == 7 => '?',
                lot if lot < *up => '+',
                _ => '-',
            };
            let now = cluster.round.now_ms / 1_000;
            if letter != '?' {
                model.audit(&limits, now, letter == '+');
            }
            prop_assert_eq!(audit(&mut cluster, &config, &letter.to_string()), model.standing());
        }
    }

    /// The common scale of the ratios is fine enough for all counts of a window: it never turns "equal" into "below".
    #[test]
    fn exactly_the_limit_is_good(up in 0..=4_320_u16, seen in 1..=4_320_u16) {
        let (window, rest) = (Window { up: up.min(seen), seen }, Window { up: seen - up.min(seen), seen });
        let sum = window.ratio().unwrap() + rest.ratio().unwrap();
        let halves = Score { sum, windows: 2 };
        prop_assert!(!halves.is_below(5_000));
        let one_less = Window { up: seen - 1, seen }.ratio().unwrap();
        let all_but_one = Score { sum: one_less, windows: 1 };
        prop_assert!(all_but_one.is_below(10_000));
    }
}
