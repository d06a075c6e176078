//! The published numbers, and random histories against a window that is a list.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::collections::VecDeque;

use pingward_sdk::Reason;
use pingward_sdk::testing::{Cluster, describe};
use proptest::prelude::*;

use super::*;

const HUB: &str = r#"{"jail_secs":600,"min_signed_bp":500,"window":10000}"#;

/// Plays rounds of one letter until it is suspended; how many it took, if at most `most`.
fn suspended_after(cluster: &mut Cluster, config: &str, letter: &str, most: u32) -> Option<u32> {
    (1..=most).find(|_| {
        cluster.judge::<Window>(config, letter).unwrap();
        cluster.standing(0) == Standing::Suspended
    })
}

/// A member that was up for so many rounds.
fn up(config: &str, rounds: u32) -> Cluster {
    let mut cluster = Cluster::new(1);
    assert_eq!(suspended_after(&mut cluster, config, "+", rounds), None);
    cluster
}

#[test]
fn a_perfect_member_is_out_at_the_51st_miss_and_on_the_hub_at_the_9501st() {
    assert_eq!(suspended_after(&mut up("{}", 101), "{}", "-", 200), Some(51));
    assert_eq!(suspended_after(&mut up(HUB, 10_001), HUB, "-", 20_000), Some(9_501));
}

#[test]
fn the_limit_itself_is_no_miss_too_many() {
    for (config, window, limit) in [("{}", 100, 50), (HUB, 10_000, 9_500)] {
        let mut cluster = up(config, window + 1);
        assert_eq!(suspended_after(&mut cluster, config, "-", limit), None);
        assert_eq!(cluster.members.strikes[0], limit as u16);
        assert_eq!(suspended_after(&mut cluster, config, "+", 2 * window), None);
        assert_eq!(cluster.members.strikes[0], 0);
    }
}

#[test]
fn whoever_misses_every_second_round_is_never_out() {
    for (config, rounds) in [("{}", 1_000), (HUB, 30_000)] {
        let mut cluster = Cluster::new(1);
        for round in 0..rounds {
            cluster.judge::<Window>(config, if round % 2 == 0 { "-" } else { "+" }).unwrap();
            assert_eq!(cluster.standing(0), Standing::Good);
        }
    }
}

#[test]
fn nobody_is_judged_before_a_whole_window() {
    assert_eq!(suspended_after(&mut Cluster::new(1), "{}", "-", 200), Some(101));
    assert_eq!(suspended_after(&mut Cluster::new(1), HUB, "-", 20_000), Some(10_001));
}

#[test]
fn memory_is_25_bytes_and_on_the_hub_1262() {
    let bytes = |config| describe::<Window>(config).unwrap().memory_bytes;
    assert_eq!((bytes("{}"), bytes(HUB), bytes(r#"{"window":32672}"#)), (25, 1_262, 4_096));
}

/// One round with or without the wish to return.
fn round(cluster: &mut Cluster, letter: &str, asks: bool) -> (Standing, Reason, u32) {
    cluster.members.flags[0] = if asks { flag::ASKED_TO_RETURN } else { 0 };
    cluster.judge::<Window>("{}", letter).unwrap();
    (cluster.standing(0), cluster.reasons[0], cluster.until[0])
}

#[test]
fn it_returns_when_the_time_is_over_and_it_asks() {
    let mut cluster = Cluster::new(1);
    assert_eq!(suspended_after(&mut cluster, "{}", "-", 200), Some(101));
    assert_eq!((cluster.reasons[0], cluster.until[0]), (Why::TooMany.into(), 60));
    for left in (1..60).rev() {
        assert_eq!(round(&mut cluster, "+", true), (Standing::Suspended, Why::Waits.into(), left));
    }
    assert_eq!(round(&mut cluster, "+", false), (Standing::Suspended, Why::MayAsk.into(), 0));
    assert_eq!(round(&mut cluster, "?", true), (Standing::Suspended, Why::Unknown.into(), 0));
    assert_eq!(round(&mut cluster, "+", true), (Standing::Good, Why::Back.into(), 0));
    // From an empty window: another whole one must pass.
    assert_eq!(suspended_after(&mut cluster, "{}", "-", 200), Some(101));
}

#[test]
fn no_news_moves_nothing() {
    let mut cluster = Cluster::new(1);
    round(&mut cluster, "-", false);
    let before = cluster.memory.clone();
    assert_eq!(round(&mut cluster, "?", false), (Standing::Good, Why::Unknown.into(), 0));
    cluster.round.suspect = true;
    round(&mut cluster, "-", false);
    round(&mut cluster, "+", false);
    assert_eq!((cluster.memory, cluster.members.strikes[0]), (before, 1));
}

#[test]
fn a_suspension_by_another_rule_ends() {
    let mut cluster = Cluster::new(1);
    cluster.members.standing = vec![Standing::Suspended.code()];
    assert_eq!(round(&mut cluster, "+", false), (Standing::Good, Reason::NONE, 0));
}

#[test]
fn the_share_is_rounded_to_the_nearest_round() {
    // 5 % of 10 rounds are half a round: one must be answered, so the tenth miss in a row is one too many.
    let config = r#"{"min_signed_bp":500,"window":10}"#;
    assert_eq!(suspended_after(&mut up(config, 11), config, "-", 100), Some(10));
    let config = r#"{"min_signed_bp":499,"window":10}"#;
    assert_eq!(suspended_after(&mut up(config, 11), config, "-", 100), None);
}

#[test]
fn a_bad_config_is_refused_with_the_reason() {
    let refused = |config| describe::<Window>(config).unwrap_err();
    assert_eq!(refused(r#"{"window":0}"#), "`window` is 0; it may be 1 to 32672");
    assert_eq!(refused(r#"{"windw":9}"#), "unknown key `windw`; did you mean `window`?");
}

/// The plain way: every round that counted since the start, and the last ones of them looked at afresh.
#[derive(Default)]
struct Model {
    since_start: VecDeque<bool>,
    until_ms: Option<u64>,
}

impl Model {
    /// Whether it is suspended after a round.
    fn round(&mut self, window: usize, missed_max: usize, now_ms: u64, letter: char, asks: bool) -> bool {
        if let Some(until_ms) = self.until_ms {
            if letter != '?' && now_ms >= until_ms && asks {
                self.until_ms = None;
            }
            return self.until_ms.is_some();
        }
        if letter != '?' {
            self.since_start.push_back(letter == '-');
            let missed = self.since_start.iter().rev().take(window).filter(|missed| **missed).count();
            if self.since_start.len() > window && missed > missed_max {
                *self = Self { since_start: VecDeque::new(), until_ms: Some(now_ms + 30_000) };
            }
        }
        self.until_ms.is_some()
    }
}

proptest! {
    #[test]
    fn random_histories_come_out_as_from_a_list(
        rounds in prop::collection::vec((prop_oneof![4 => Just('+'), 3 => Just('-'), 1 => Just('?')], any::<bool>()), 1..600),
        window in 1..40_usize,
        min_signed in 0..=40_usize,
    ) {
        let min_signed = min_signed.min(window);
        let bp = (min_signed * 10_000).div_ceil(window);
        let config = format!(r#"{{"jail_secs":30,"min_signed_bp":{bp},"window":{window}}}"#);
        let (mut cluster, mut model) = (Cluster::new(1), Model::default());
        for (letter, asks) in rounds {
            cluster.members.flags[0] = if asks { flag::ASKED_TO_RETURN } else { 0 };
            let now_ms = cluster.round.now_ms;
            cluster.judge::<Window>(&config, &letter.to_string()).unwrap();
            let expected = model.round(window, window - min_signed, now_ms, letter, asks);
            prop_assert_eq!(cluster.standing(0) == Standing::Suspended, expected);
        }
    }
}
