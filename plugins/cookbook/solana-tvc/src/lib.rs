//! Solana's timely vote credits: who answers is paid, and who answers soon is paid more.
//!
//! A latency is the round trip in steps of `unit_us`, rounded up. Within `grace` steps it earns `most` credits; each further
//! step earns one less, never below 1. An answer whose round trip is not known earns 1.
//!
//! Config: `unit_us` (50,000; 1 to 3,600,000,000), `grace` (2; 1 to 1,000), `most` (8; 1 to 1,000), `points_per_credit`
//! (1; 1 to 1,000,000).
//!
//! - It remembers nothing, so an unknown presence and a suspect round have nothing to move: who was not seen gets nothing,
//!   who was seen is paid as ever.

use pingward_sdk::{
    About, Config, Members, Memory, Pay, Policy, Presence, RewardPolicy, Round, Row, Settlement, reasons,
};

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct TimelyCredits {
    unit_us: u32,
    grace: u32,
    most: u32,
    points_per_credit: u32,
}

reasons! {
    /// Why a member got its points.
    enum Why of rule: &TimelyCredits {
        InGrace: format!("answered within {} steps of {} us: full pay", rule.grace, rule.unit_us),
        Later: format!("answered after {} steps of {} us: a credit less for each", rule.grace, rule.unit_us),
        NoLatency: "answered, but its round trip is not known: the least pay",
        Down: "did not answer",
        Unknown: "was not observed",
        NotPaid: "is suspended",
    }
}

impl TimelyCredits {
    /// The latency in steps; 0 = not known.
    #[must_use]
    pub const fn latency(&self, rtt_us: u32) -> u32 {
        rtt_us.div_ceil(self.unit_us)
    }

    /// What a latency earns.
    #[must_use]
    pub const fn credits(&self, latency: u32) -> u32 {
        if latency == 0 {
            return 1;
        }
        let late = latency.saturating_sub(self.grace);
        let left = self.most.saturating_sub(late);
        if left == 0 { 1 } else { left }
    }

    /// What one member gets for one round.
    #[inline]
    fn pay_one(&self, row: &Row) -> Pay {
        match row.presence {
            Presence::Down => Pay::NOTHING.because(Why::Down),
            Presence::Unknown => Pay::NOTHING.because(Why::Unknown),
            Presence::Up if !row.standing.is_paid() => Pay::NOTHING.because(Why::NotPaid),
            Presence::Up => {
                let latency = self.latency(row.rtt_us);
                let reason = match latency {
                    0 => Why::NoLatency,
                    _ if latency <= self.grace => Why::InGrace,
                    _ => Why::Later,
                };
                let points = i64::from(self.credits(latency)) * i64::from(self.points_per_credit);
                Pay::points(points).because(reason)
            }
        }
    }
}

impl Policy for TimelyCredits {
    fn configure(config: &mut Config) -> Result<Self, String> {
        Ok(Self {
            unit_us: config.integer("unit_us", 50_000, 1..=3_600_000_000)? as u32,
            grace: config.integer("grace", 2, 1..=1_000)? as u32,
            most: config.integer("most", 8, 1..=1_000)? as u32,
            points_per_credit: config.integer("points_per_credit", 1, 1..=1_000_000)? as u32,
        })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self))
    }
}

impl RewardPolicy for TimelyCredits {
    fn settle(&self, _round: &Round, members: &Members<'_>, _memory: &mut Memory) -> Result<Settlement, String> {
        Ok(Settlement::each(members, |row| self.pay_one(&row)))
    }
}

pingward_sdk::export_reward!(TimelyCredits);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]
mod tests {
    use pingward_sdk::testing::{Cluster, describe};
    use pingward_sdk::{Standing, flag};
    use proptest::prelude::*;

    use super::*;

    /// The proposal's own numbers; only the unit is ours.
    const SOLANA: &str = r#"{"grace":2,"most":8,"unit_us":400000}"#;

    fn rule(config: &str) -> TimelyCredits {
        TimelyCredits::configure(&mut Config::parse(config).unwrap()).unwrap()
    }

    #[test]
    fn golden_credits_by_latency() {
        let rule = rule(SOLANA);
        let golden = [(0, 1), (1, 8), (2, 8), (3, 7), (5, 5), (8, 2), (9, 1), (10, 1), (255, 1)];
        for (latency, credits) in golden {
            assert_eq!(rule.credits(latency), credits, "latency {latency}");
        }
    }

    #[test]
    fn golden_the_most_that_an_epoch_can_earn() {
        // An epoch has 432,000 slots; here each is a round that a member answers at once.
        let mut cluster = Cluster::new(1);
        cluster.members.rtt_us = vec![1];
        for _ in 0..432_000 {
            cluster.settle::<TimelyCredits>("{}", "+").unwrap();
        }
        assert_eq!(cluster.members.earned, [3_456_000]);
    }

    #[test]
    fn a_step_begins_above_the_one_before() {
        let mut cluster = Cluster::new(6);
        cluster.members.rtt_us = vec![0, 1, 100_000, 100_001, 450_001, u32::MAX];
        assert_eq!(cluster.settle::<TimelyCredits>("{}", "++++++").unwrap(), [1, 8, 8, 7, 1, 1]);
        let [none, grace, later] = [Why::NoLatency, Why::InGrace, Why::Later];
        assert_eq!(cluster.reasons, [none, grace, grace, later, later, later]);
    }

    #[test]
    fn only_who_answers_and_is_paid_gets_points() {
        let mut cluster = Cluster::new(5);
        cluster.members.rtt_us = vec![9; 5];
        cluster.members.standing[4] = Standing::Suspended.code();
        assert_eq!(cluster.settle::<TimelyCredits>("{}", "+-?m+").unwrap(), [8, 0, 0, 0, 0]);
        let [grace, down] = [Why::InGrace, Why::Down];
        assert_eq!(cluster.reasons, [grace, down, Why::Unknown, down, Why::NotPaid]);
    }

    #[test]
    fn a_bad_config_is_refused_with_the_reason() {
        let refused = |config| describe::<TimelyCredits>(config).unwrap_err();
        assert_eq!(
            refused(r#"{"unit":1}"#),
            "unknown key `unit`; it knows `unit_us`, `grace`, `most`, `points_per_credit`"
        );
        assert_eq!(refused(r#"{"unit_us":0}"#), "`unit_us` is 0; it may be 1 to 3600000000");
        assert_eq!(refused(r#"{"most":0}"#), "`most` is 0; it may be 1 to 1000");
    }

    /// The proposal in its own words, one slot at a time: nothing is divided.
    fn reference(unit_us: u32, grace: u32, most: u32, rtt_us: u32) -> i64 {
        if rtt_us == 0 {
            return 1;
        }
        let (mut credits, mut slot, mut end_us) = (i64::from(most), 1, u64::from(unit_us));
        while end_us < u64::from(rtt_us) && credits > 1 {
            slot += 1;
            end_us += u64::from(unit_us);
            if slot > grace {
                credits -= 1;
            }
        }
        credits
    }

    proptest! {
        #[test]
        fn it_pays_as_the_reference_does(
            unit_us in prop_oneof![1..2_000_u32, 10_000..500_000_u32],
            (grace, most, each) in (1..12_u32, 1..30_u32, 1..9_u32),
            rounds in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(
                    (0..3_u8, prop_oneof![Just(0), 1..5_000_u32, any::<u32>()], 0..5_u8, 0..8_u32), 0..9)),
                1..30,
            ),
        ) {
            let config = format!(
                r#"{{"grace":{grace},"most":{most},"points_per_credit":{each},"unit_us":{unit_us}}}"#
            );
            for (suspect, rows) in rounds {
                let mut cluster = Cluster::new(rows.len() as u32);
                cluster.round.suspect = suspect;
                let letters: String = rows.iter().map(|row| ['-', '+', '?'][usize::from(row.0)]).collect();
                cluster.members.rtt_us = rows.iter().map(|row| row.1).collect();
                cluster.members.standing = rows.iter().map(|row| row.2).collect();
                cluster.members.flags = rows.iter().map(|row| row.3 & !flag::MAINTENANCE).collect();
                let expected: Vec<i64> = rows.iter().map(|row| match (row.0, row.2) {
                    (1, 0 | 1 | 4) => i64::from(each) * reference(unit_us, grace, most, row.1),
                    _ => 0,
                }).collect();
                prop_assert_eq!(cluster.settle::<TimelyCredits>(&config, &letters).unwrap(), expected);
            }
        }
    }
}
