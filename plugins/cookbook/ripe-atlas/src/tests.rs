//! The published numbers, and random histories against plain sums.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use pingward_sdk::Standing;
use pingward_sdk::testing::{Cluster, describe};
use proptest::prelude::*;

use super::*;

const DAILY: &str = r#"{"post_secs":86400}"#;
const DAY_ROUNDS: usize = 8_640;

/// A probe and an anchor, in a cluster whose first round of 10 s ends 10 s into a day.
fn probe_and_anchor() -> Cluster {
    let mut cluster = Cluster::new(2);
    cluster.members.class = vec![0, 1];
    cluster.round.now_ms += 10_000;
    cluster
}

/// Plays a day in which both miss the first `missed` rounds; all that was posted.
fn day(cluster: &mut Cluster, config: &str, missed: usize) -> Vec<i64> {
    let mut posted = vec![0, 0];
    for round in 0..DAY_ROUNDS {
        let paid = cluster.settle::<Credits>(config, if round < missed { "--" } else { "++" }).unwrap();
        posted.iter_mut().zip(paid).for_each(|(sum, points)| *sum += points);
    }
    posted
}

#[test]
fn a_day_is_21600_and_an_anchors_216000() {
    for config in [DAILY, "{}", r#"{"post_secs":0}"#] {
        assert_eq!(day(&mut probe_and_anchor(), config, 0), [21_600, 216_000], "{config}");
    }
}

#[test]
fn a_missed_round_costs_two_and_a_half_of_which_half_is_carried() {
    let mut cluster = probe_and_anchor();
    assert_eq!(day(&mut cluster, DAILY, 1), [21_597, 215_975]);
    assert_eq!(cluster.memory, [2_000_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat());
    // The next day's missing half makes it whole.
    assert_eq!(day(&mut cluster, DAILY, 1), [21_598, 215_975]);
}

#[test]
fn posting_once_a_day_is_one_post() {
    let mut cluster = probe_and_anchor();
    let posts = (0..2 * DAY_ROUNDS).filter(|_| cluster.settle::<Credits>(DAILY, "++").unwrap()[0] > 0).count();
    assert_eq!((posts, cluster.members.earned), (2, vec![43_200, 432_000]));
}

#[test]
fn usually_it_is_posted_every_minute() {
    let mut cluster = probe_and_anchor();
    let posts: Vec<i64> = (0..12).map(|_| cluster.settle::<Credits>("{}", "++").unwrap()[0]).collect();
    assert_eq!(posts, [0, 0, 0, 0, 0, 15, 0, 0, 0, 0, 0, 15]);
    assert_eq!(cluster.reasons, [Why::Posted; 2]);
    let paid: Vec<i64> = (0..4).map(|_| cluster.settle::<Credits>(r#"{"post_secs":0}"#, "++").unwrap()[0]).collect();
    assert_eq!(paid, [2, 3, 2, 3]);
}

#[test]
fn unknown_and_down_earn_nothing_and_lose_nothing() {
    let mut cluster = probe_and_anchor();
    let every_round = r#"{"post_secs":0}"#;
    cluster.settle::<Credits>(every_round, "++").unwrap();
    let before = cluster.memory.clone();
    for (seen, reasons) in [
        ("?-", [Why::Unknown.into(), Why::Down.into()]),
        ("-?", [Why::Down.into(), Why::Unknown.into()]),
        ("mm", [Why::Down.into(); 2]),
    ] {
        assert_eq!(cluster.settle::<Credits>(every_round, seen).unwrap(), [0, 0]);
        assert_eq!((&cluster.memory, &cluster.reasons[..]), (&before, &reasons[..]));
    }
    cluster.round.suspect = true;
    assert_eq!(cluster.settle::<Credits>(every_round, "-+").unwrap(), [0, 25]);
    assert_eq!((&cluster.memory, cluster.reasons[0]), (&before, Why::Unknown.into()));
}

#[test]
fn what_is_owed_waits_for_the_end_of_a_suspension() {
    let mut cluster = probe_and_anchor();
    let minute =
        |cluster: &mut Cluster, seen| (0..6).map(|_| cluster.settle::<Credits>("{}", seen).unwrap()[0]).sum::<i64>();
    (0..5).for_each(|_| assert_eq!(cluster.settle::<Credits>("{}", "++").unwrap(), [0, 0]));
    cluster.members.standing = vec![Standing::Suspended.code(); 2];
    cluster.settle::<Credits>("{}", "++").unwrap();
    assert_eq!(minute(&mut cluster, "++"), 0);
    assert_eq!(cluster.reasons, [Why::NotPaid; 2]);
    cluster.members.standing = vec![Standing::Probation.code(); 2];
    // 50 s from before and 10 s of this minute, in which it answers once.
    cluster.settle::<Credits>("{}", "++").unwrap();
    assert_eq!((0..5).map(|_| cluster.settle::<Credits>("{}", "--").unwrap()[0]).sum::<i64>(), 15);
}

#[test]
fn a_round_longer_than_a_minute_posts_each_time() {
    let mut cluster = Cluster::new(1);
    (cluster.round.interval_ms, cluster.round.elapsed_ms) = (600_000, 600_000);
    assert_eq!(cluster.settle::<Credits>("{}", "+").unwrap(), [150]);
}

#[test]
fn a_bad_config_is_refused_with_the_reason() {
    let refused = |config| describe::<Credits>(config).unwrap_err();
    assert_eq!(
        refused(r#"{"credits_per_minute":7}"#),
        "`credits_per_minute` times `anchor_factor` (70) does not divide 60000: a point would be no whole number of \
         milliseconds"
    );
    assert_eq!(refused(r#"{"post_sec":1}"#), "unknown key `post_sec`; did you mean `post_secs`?");
    assert_eq!(describe::<Credits>(r#"{"credits_per_minute":0}"#).unwrap().memory_bytes, 4);
}

/// A round: letters, standing's code, suspect, ms since the settlement before.
fn rounds() -> impl Strategy<Value = Vec<(char, u8, bool, u64)>> {
    let letter = prop_oneof![6 => Just('+'), 2 => Just('-'), 1 => Just('?')];
    let standing = prop_oneof![5 => Just(0_u8), 1 => Just(2_u8), 1 => Just(4_u8)];
    prop::collection::vec((letter, standing, prop::bool::weighted(0.1), 3_000..40_000_u64), 1..200)
}

proptest! {
    /// The plain way: all time connected so far, turned into points at the last posting; it is paid what is new in it.
    #[test]
    fn random_histories_come_out_as_plain_sums(
        rounds in rounds(),
        interval_ms in 1..20_000_u64,
        per_minute in prop::sample::select(vec![1_u64, 4, 15, 60, 300]),
        post_secs in prop::sample::select(vec![0_u64, 10, 60, 300]),
        is_anchor: bool,
    ) {
        let config = format!(r#"{{"credits_per_minute":{per_minute},"post_secs":{post_secs}}}"#);
        let mut cluster = Cluster::new(1);
        cluster.round.interval_ms = interval_ms;
        cluster.members.class = vec![u32::from(is_anchor)];
        let (mut connected_ms, mut paid) = (0_u128, 0_u128);
        let mut now_ms = cluster.round.now_ms;
        for (letter, standing, suspect, elapsed_ms) in rounds {
            let before_ms = now_ms;
            now_ms += elapsed_ms;
            (cluster.round.now_ms, cluster.round.elapsed_ms) = (now_ms, elapsed_ms);
            cluster.round.suspect = suspect;
            cluster.members.standing = vec![standing];
            let points = cluster.settle::<Credits>(&config, &letter.to_string()).unwrap()[0];
            let is_paid = standing != 2 && letter != '?' && !(suspect && letter == '-');
            if is_paid && letter == '+' {
                connected_ms += u128::from(interval_ms);
            }
            let is_posted = post_secs == 0 || (before_ms + 1..=now_ms).any(|ms| ms % (post_secs * 1_000) == 0);
            let factor = if is_anchor { 10 } else { 1 };
            let due = connected_ms * u128::from(per_minute * factor) / 60_000;
            let expected = if is_paid && is_posted { due - paid } else { 0 };
            paid += expected;
            prop_assert_eq!(points, expected as i64);
        }
    }
}
