//! The published numbers, and random histories against the pool's own arithmetic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails may panic")]

use pingward_sdk::testing::{Cluster, describe};
use pingward_sdk::types::Column;
use proptest::prelude::*;

use super::*;

const GOOD: Probe = Probe::Answered { offset_us: 0 };
const TOP: i64 = 19_999_981;

fn step(score: &mut i64, probe: Probe) -> i64 {
    *score = probe.after(*score);
    *score
}

/// Probes until `done`; how many it took, and the score then.
fn until(mut score: i64, probe: Probe, done: impl Fn(i64) -> bool) -> (u32, i64) {
    let mut probes = 0;
    while !done(score) {
        score = probe.after(score);
        probes += 1;
        assert!(probes < 10_000, "never");
    }
    (probes, score)
}

/// A score to four digits after the point, rounded: as the published numbers are given.
fn four_digits(score: i64) -> i64 {
    (score + 50).div_euclid(100)
}

fn listed(score: i64) -> bool {
    score >= 10 * POINT
}

#[test]
fn a_new_server_is_listed_after_14_good_answers() {
    let (answers, score) = until(0, GOOD, listed);
    assert_eq!((answers, four_digits(score)), (14, 102_465));
}

#[test]
fn a_perfect_server_is_out_at_the_second_miss_and_back_after_four_answers() {
    let misses: Vec<i64> = (1..=3).scan(TOP, |score, _| Some(step(score, Probe::NoAnswer))).collect();
    assert_eq!(misses.iter().map(|score| (score + 500) / 1_000).collect::<Vec<_>>(), [14_000, 8_300, 2_885]);
    let (answers, score) = until(misses[1], GOOD, listed);
    assert_eq!((answers, four_digits(score)), (4, 104_703));
}

#[test]
fn the_score_has_a_top_and_a_bottom() {
    assert_eq!(until(0, GOOD, |score| GOOD.after(score) == score).1, TOP);
    assert_eq!(until(0, Probe::NoAnswer, |score| Probe::NoAnswer.after(score) == score).1, -100 * POINT);
}

#[test]
fn from_the_bottom_back_it_takes_49_answers() {
    let (answers, score) = until(-100 * POINT, GOOD, listed);
    assert_eq!((answers, four_digits(score)), (49, 102_806));
}

#[test]
fn from_the_top_the_owner_gets_mail_at_the_7th_miss_and_slow_probes_at_the_49th() {
    let (misses, score) = until(20 * POINT, Probe::NoAnswer, |score| score <= -15 * POINT);
    assert_eq!((misses, four_digits(score)), (7, -161_995));
    let (misses, score) = until(20 * POINT, Probe::NoAnswer, |score| score <= SLOW);
    assert_eq!((misses, (score + 5_000).div_euclid(10_000)), (49, -9_028));
}

#[test]
fn a_refusal_or_a_wrong_clock_caps_the_score() {
    assert_eq!(Probe::Denied.after(TOP), -50 * POINT);
    assert_eq!(until(-50 * POINT, GOOD, listed).0, 38);
    let wrong = Probe::Answered { offset_us: 3_000_001 };
    assert_eq!(wrong.after(TOP), -20 * POINT);
    assert_eq!(until(-20 * POINT, GOOD, listed).0, 28);
    assert_eq!(
        (Probe::Untrusted.after(TOP), Probe::Rate.after(0), Probe::Error.after(0)),
        (5 * POINT, -3_500_000, -4 * POINT)
    );
}

/// 20 - 120 p, by the mean over whole cycles of evenly spread misses, once the start is forgotten.
#[test]
fn steady_loss_has_its_mean_score() {
    for (every, mean) in [(12, 10 * POINT), (10, 8 * POINT), (20, 14 * POINT), (4, -10 * POINT)] {
        let (mut score, mut sum) = (0, 0);
        for probe in 0..1_000 * every {
            step(&mut score, if probe % every == 0 { Probe::NoAnswer } else { GOOD });
            if probe >= 500 * every {
                sum += score;
            }
        }
        let found = sum / (500 * every);
        assert!((found - mean).abs() < 20, "one miss in {every}: {found}");
    }
}

#[test]
fn offsets_have_their_steps() {
    let steps = [50, 100, 300, 750].map(|ms| Probe::Answered { offset_us: ms * 1_000 }.step().0);
    assert_eq!(steps, [833_650, 500_300, 38_600, -1_000_000]);
    let edges =
        [0, 25_000, 25_001, 100_001, 750_001, 3_000_000].map(|offset_us| Probe::Answered { offset_us }.step().0);
    assert_eq!(edges, [POINT, POINT, POINT, 500_197, -2 * POINT, -2 * POINT]);
}

/// Plays one member; its standing after each round: `+` in order, `s` suspended.
fn play(cluster: &mut Cluster, config: &str, seen: &str) -> String {
    seen.chars()
        .map(|letter| {
            cluster.judge::<NtpPool>(config, &letter.to_string()).unwrap();
            if cluster.standing(0) == Standing::Suspended { 's' } else { '+' }
        })
        .collect()
}

#[test]
fn below_ten_a_member_is_suspended_and_told_how_far_it_is() {
    let mut cluster = Cluster::new(1);
    assert_eq!(play(&mut cluster, "{}", "++++++++++++++"), "sssssssssssss+");
    play(&mut cluster, "{}", &"+".repeat(400));
    assert_eq!(play(&mut cluster, "{}", "-"), "+");
    assert_eq!((cluster.reasons[0], cluster.members.strikes[0], cluster.until[0]), (Why::Missed.into(), 0, 0));
    assert_eq!(play(&mut cluster, "{}", "-"), "s");
    assert_eq!((cluster.reasons[0], cluster.members.strikes[0], cluster.until[0]), (Why::NotListed.into(), 2, 4));
    assert_eq!(play(&mut cluster, "{}", "?++?++"), "sssss+");
    play(&mut cluster, "{}", "-------");
    assert_eq!(cluster.reasons[0], Why::Mail);
}

#[test]
fn no_news_moves_nothing() {
    let mut cluster = Cluster::new(1);
    play(&mut cluster, "{}", "+++-");
    let before = cluster.memory.clone();
    play(&mut cluster, "{}", "???");
    assert_eq!((cluster.memory.clone(), cluster.reasons[0]), (before.clone(), Why::Unknown.into()));
    cluster.round.suspect = true;
    play(&mut cluster, "{}", "+-");
    assert_eq!(cluster.memory, before);
}

#[test]
fn a_start_above_the_limit_suspends_nobody_at_first() {
    assert_eq!(play(&mut Cluster::new(1), r#"{"start":20}"#, "+++"), "+++");
    assert_eq!(play(&mut Cluster::new(1), r#"{"start":20}"#, "--"), "+s");
}

#[test]
fn probes_may_be_further_apart_than_rounds() {
    // Every 60 s of rounds of 10 s: the misses in between are not seen.
    let mut cluster = Cluster::new(1);
    let config = r#"{"probe_secs":60,"start":20}"#;
    assert_eq!(play(&mut cluster, config, "+-----+-----+"), "+++++++++++++");
    let config = r#"{"slow_probe_secs":120}"#;
    let mut cluster = Cluster::new(1);
    play(&mut cluster, config, &"-".repeat(45));
    let before = cluster.memory.clone();
    assert!(Score::read(before.first_chunk().unwrap()).millionths as i64 <= SLOW);
    assert_eq!(play(&mut cluster, config, "+++++++++++"), "sssssssssss");
    assert_eq!(cluster.memory, before);
    play(&mut cluster, config, "+");
    assert_ne!(cluster.memory, before);
}

/// One round of one member as each of three observers saw it: `+`, `-` or `.` for one that did not look.
fn observe(cluster: &mut Cluster, config: &str, merged: &str, views: &str) {
    cluster.members.extra = views
        .chars()
        .zip(0..)
        .flat_map(|(view, seat)| {
            let code = match view {
                '-' => 0,
                '+' => 1,
                _ => 2,
            };
            [Column { name: presence_of(seat), values: vec![code] }, Column { name: rtt_of(seat), values: vec![0] }]
        })
        .collect();
    cluster.judge::<NtpPool>(config, merged).unwrap();
}

fn scores(cluster: &Cluster) -> Vec<i32> {
    cluster.memory.as_chunks::<8>().0.iter().map(|bytes| Score::read(bytes).millionths).collect()
}

#[test]
fn observers_have_a_score_each_and_the_median_counts() {
    let mut cluster = Cluster::new(1);
    let config = r#"{"observers":3}"#;
    for _ in 0..14 {
        observe(&mut cluster, config, "+", "++-");
    }
    assert_eq!(cluster.standing(0), Standing::Good);
    observe(&mut cluster, config, "+", "-+-");
    assert_eq!(cluster.standing(0), Standing::Suspended);
    observe(&mut cluster, config, "?", "---");
    observe(&mut cluster, config, "+", ".+.");
    assert_eq!(scores(&cluster).iter().map(|score| score / 100_000).collect::<Vec<_>>(), [47, 111, -536]);
    // No connection anywhere: not one answer for any of them.
    observe(&mut cluster, config, "-", "...");
    assert_eq!(scores(&cluster).iter().map(|score| score / 100_000).collect::<Vec<_>>(), [-5, 56, -559]);
}

#[test]
fn silent_observers_age_out_of_the_median_and_keep_their_score() {
    let mut cluster = Cluster::new(1);
    let config = r#"{"observers":3,"recent_secs":100}"#;
    for _ in 0..14 {
        observe(&mut cluster, config, "+", "++-");
    }
    for _ in 0..10 {
        observe(&mut cluster, config, "+", "..-");
    }
    // Of three, the median is one of the good ones; of the one that is left, its own.
    assert_eq!(cluster.standing(0), Standing::Good);
    let before = scores(&cluster);
    observe(&mut cluster, config, "+", "..-");
    assert_eq!(cluster.standing(0), Standing::Suspended);
    assert_eq!(scores(&cluster)[..2], before[..2]);
    observe(&mut cluster, config, "+", "++-");
    assert_eq!(cluster.standing(0), Standing::Good);
}

#[test]
fn of_two_scores_the_oldest_counts() {
    let mut cluster = Cluster::new(1);
    let config = r#"{"observers":2}"#;
    for _ in 0..14 {
        observe(&mut cluster, config, "+", "+-");
    }
    assert_eq!(cluster.standing(0), Standing::Good);
    observe(&mut cluster, config, "+", "+.");
    assert_eq!(cluster.standing(0), Standing::Suspended);
}

#[test]
fn an_absent_newcomer_has_missed_at_the_first_observer() {
    let mut cluster = Cluster::new(1);
    observe(&mut cluster, r#"{"observers":3}"#, "-", "...");
    assert_eq!(scores(&cluster), [-5_000_000, 0, 0]);
}

#[test]
fn a_share_of_the_round_trip_may_stand_for_the_offset() {
    let mut cluster = Cluster::new(1);
    cluster.members.rtt_us = vec![200_000];
    play(&mut cluster, r#"{"latency_percent":50}"#, "+");
    assert_eq!(scores(&cluster), [500_300]);
    cluster.members.facts = vec![fact::MALFORMED];
    play(&mut cluster, "{}", "-");
    assert_eq!(scores(&cluster), [475_285 - 4_000_000]);
}

#[test]
fn a_bad_config_is_refused_with_the_reason() {
    let refused = |config| describe::<NtpPool>(config).unwrap_err();
    assert_eq!(refused(r#"{"observers":9}"#), "`observers` is 9; it may be 0 to 8");
    assert_eq!(refused(r#"{"listed":20}"#), "`listed` is 20; it may be 0 to 19");
    assert_eq!(refused(r#"{"fallback_secs":9}"#), "`fallback_secs` (9) is below `recent_secs` (1200)");
    assert_eq!(
        refused(r#"{"probe_secs":1300}"#),
        "`recent_secs` (1200) is below `probe_secs` (1300): no score would count"
    );
    let described = describe::<NtpPool>(r#"{"observers":2}"#).unwrap();
    assert_eq!(described.memory_bytes, 16);
    assert_eq!(described.extra[2], "observer.1.presence");
}

/// The pool's own way: floats, every probe kept, everything computed again from the first one.
mod model {
    /// Seconds, answered.
    pub type History = Vec<(u64, bool)>;

    pub fn score(history: &History) -> f64 {
        history.iter().fold(0.0, |score, (_, answered)| score * 0.95 + if *answered { 1.0 } else { -5.0 })
    }

    pub fn published(histories: &[History], now: u64) -> Option<f64> {
        for secs in [1_200, 2_700] {
            let mut recent: Vec<(u64, f64)> = histories
                .iter()
                .filter_map(|history| Some((history.last()?.0, score(history))))
                .filter(|(at, _)| now - at <= secs)
                .collect();
            if recent.is_empty() {
                continue;
            }
            recent.sort_by_key(|(at, _)| *at);
            if recent.len() >= 3 {
                recent.sort_by(|a, b| a.1.total_cmp(&b.1));
                return Some(recent[(recent.len() - 1) / 2].1);
            }
            return Some(recent[0].1);
        }
        None
    }
}

/// A round: the observers' views, a pause before it in seconds, and whether it is suspect.
fn history() -> impl Strategy<Value = Vec<(Vec<u8>, u64, bool)>> {
    // Stretches of like rounds: single ones would stay around zero.
    let view = || prop_oneof![1 => Just(0_u8), 4 => Just(1_u8), 1 => Just(2_u8)];
    let round = (
        prop::collection::vec(view(), 4),
        prop_oneof![8 => Just(10_u64), 1 => 0..4_000_u64],
        prop::bool::weighted(0.05),
    );
    let stretch = (round, 1..25_usize).prop_map(|(round, times)| vec![round; times]);
    prop::collection::vec(stretch, 1..20).prop_map(|stretches| stretches.concat())
}

proptest! {
    #[test]
    fn random_histories_come_out_as_the_pool_computes_them(rounds in history(), observers in 0..=4_usize) {
        let mut cluster = Cluster::new(1);
        let config = format!(r#"{{"observers":{observers}}}"#);
        let mut histories = vec![model::History::new(); observers.max(1)];
        for (views, pause, suspect) in rounds {
            cluster.round.now_ms += pause * 1_000;
            cluster.round.suspect = suspect;
            let now = cluster.round.now_ms / 1_000;
            let looked = &views[..observers.max(1)];
            let merged = [(1, "+"), (0, "-")].into_iter().find(|(code, _)| looked.contains(code)).map_or("?", |(_, letter)| letter);
            let before = cluster.standing(0);
            let letters: String = looked.iter().map(|view| ['-', '+', '.'][usize::from(*view)]).collect();
            observe(&mut cluster, &config, merged, &letters);
            let mut expected = before;
            if !suspect && merged != "?" {
                for (view, history) in looked.iter().zip(&mut histories) {
                    if *view != 2 {
                        history.push((now, *view == 1));
                    }
                }
                if let Some(score) = model::published(&histories, now) {
                    // Rounding down loses at most a millionth a step, 20 in all: no score came so close to the limit.
                    prop_assert!((score - 10.0).abs() > 20e-6);
                    expected = if score >= 10.0 { Standing::Good } else { Standing::Suspended };
                }
            }
            prop_assert_eq!(cluster.standing(0), expected);
            for (history, found) in histories.iter().zip(scores(&cluster)) {
                let lost = model::score(history) * 1e6 - f64::from(found);
                prop_assert!((-0.001..=20.0).contains(&lost), "{} lost", lost);
            }
        }
    }
}
