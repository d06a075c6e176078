//! Oxen's downtime credit: uptime earns time that a member may be down, at a price.
//!
//! A member that fails is *decommissioned* (suspended: pinged and not paid) as long as its credit lasts, spending a round of
//! it each round. When it answers again it is back, and the downtime costs it double. Who fails with less credit than
//! `least_minutes`, or runs out of it, is *deregistered* (banned), and starts as a new member when it comes back.
//!
//! Config: `credit_minutes_per_day` (48; 0 to 1,440) earned while up, `start_minutes` (120; 0 to 100,000) for a new member,
//! `most_minutes` (2,880; 0 to 100,000), `least_minutes` (120; 0 to 100,000) that a failing member needs, `proof_minutes`
//! (125; 0 to 100,000) for which an answer counts, `ban_days` (30; 1 to 30).
//!
//! - Time is counted in rounds that were observed: an unknown presence and a suspect round earn and spend nothing.
//! - Credit accrues rounded down over the whole stretch, not round by round, and is cut to the most when it is read.
//! - Declared maintenance is no excuse: the credit is there for it.

use pingward_sdk::{
    About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Row, Standing, Verdict, reasons,
};

/// Bytes that it remembers of a member.
const MEMORY_BYTES: u32 = 12;

const MINUTES_PER_DAY: u64 = 1_440;

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct DowntimeCredit {
    credit_minutes_per_day: u64,
    start_minutes: u64,
    most_minutes: u64,
    least_minutes: u64,
    proof_minutes: u64,
    ban_days: u64,
}

reasons! {
    /// Why a member stands where it stands.
    enum Why of rule: &DowntimeCredit {
        Missed: format!("missed a round; an answer counts for {} minutes", rule.proof_minutes),
        Decommissioned: "decommissioned while its credit lasts; the next answer ends it",
        TooLittle: format!("deregistered: it failed with less than {} minutes of credit", rule.least_minutes),
        Spent: "deregistered: its credit ran out",
        Recommissioned: "answered again: back, and the downtime cost it double",
        StillOut: "deregistered: the ban is still to come",
        Unknown: "was not observed: nothing moves",
    }
}

/// The config in rounds of one length.
#[derive(Clone, Copy, Debug)]
struct Rates {
    interval_ms: u64,
    credit_minutes_per_day: u64,
    start: u64,
    most: u64,
    least: u64,
    proof_ms: u64,
    ban: u32,
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Active,
    Decommissioned,
    Deregistered,
}

/// What is remembered of a member. Zeros are a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Node {
    stage: Stage,
    /// Credit with which it came back, in rounds; none before its first downtime.
    left: Option<u32>,
    /// Rounds active since then.
    active: u32,
    /// Active: misses in a row. Else: rounds down since it was decommissioned, that one included.
    down: u32,
}

impl Node {
    const DOWN: u32 = (1 << 30) - 1;

    fn read(block: &[u8]) -> Self {
        let [left, active, down] =
            [0, 4, 8].map(|at| block.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b)));
        let stage = match down >> 30 {
            1 => Stage::Decommissioned,
            2 => Stage::Deregistered,
            _ => Stage::Active,
        };
        Self { stage, left: left.checked_sub(1), active, down: down & Self::DOWN }
    }

    fn write(self, block: &mut [u8]) {
        let stage = match self.stage {
            Stage::Active => 0,
            Stage::Decommissioned => 1 << 30,
            Stage::Deregistered => 2 << 30,
        };
        let left = self.left.map_or(0, |left| left.saturating_add(1));
        for (at, word) in [(0, left), (4, self.active), (8, self.down | stage)] {
            if let Some(place) = block.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *place = word.to_le_bytes();
            }
        }
    }

    /// What it may be down, in rounds, before the downtime that it is in.
    fn credit(&self, rates: &Rates) -> u64 {
        let before = self.left.map_or(rates.start, u64::from);
        let earned = u64::from(self.active) * rates.credit_minutes_per_day / MINUTES_PER_DAY;
        (before + earned).min(rates.most)
    }

    /// One more observed round. Returns the reason for what changed.
    fn step(&mut self, rates: &Rates, up: bool) -> Option<Why> {
        match (self.stage, up) {
            (Stage::Active, true) => {
                self.active = self.active.saturating_add(1);
                self.down = 0;
                None
            }
            (Stage::Active, false) => {
                self.active = self.active.saturating_add(1);
                self.down = (self.down + 1).min(Self::DOWN);
                if u64::from(self.down) * rates.interval_ms <= rates.proof_ms {
                    return Some(Why::Missed);
                }
                if self.credit(rates) < rates.least {
                    self.stage = Stage::Deregistered;
                    return Some(Why::TooLittle);
                }
                self.stage = Stage::Decommissioned;
                self.down = 1;
                Some(Why::Decommissioned)
            }
            (Stage::Decommissioned, true) => {
                let left = self.credit(rates).saturating_sub(2 * u64::from(self.down));
                *self = Self { left: Some(left.min(u64::from(u32::MAX) - 1) as u32), ..Self::default() };
                Some(Why::Recommissioned)
            }
            (Stage::Decommissioned, false) if u64::from(self.down) > self.credit(rates) => {
                self.stage = Stage::Deregistered;
                Some(Why::Spent)
            }
            (Stage::Decommissioned, false) => {
                self.down = (self.down + 1).min(Self::DOWN);
                Some(Why::Decommissioned)
            }
            (Stage::Deregistered, _) => Some(Why::StillOut),
        }
    }
}

impl DowntimeCredit {
    fn rates(&self, round: &Round) -> Rates {
        let interval_ms = round.interval_ms.max(1);
        let rounds = |minutes: u64| minutes * 60_000 / interval_ms;
        Rates {
            interval_ms,
            credit_minutes_per_day: self.credit_minutes_per_day,
            start: rounds(self.start_minutes),
            most: rounds(self.most_minutes),
            least: rounds(self.least_minutes),
            proof_ms: self.proof_minutes * 60_000,
            ban: rounds(self.ban_days * MINUTES_PER_DAY).clamp(1, u64::from(u32::MAX)) as u32,
        }
    }

    /// What becomes of one member after one round.
    #[inline]
    fn judge_one(rates: &Rates, suspect: bool, row: &Row, block: &mut [u8]) -> Verdict {
        if suspect || row.presence == Presence::Unknown {
            return Self::unmoved(rates, row);
        }
        let mut node = Node::read(block);
        // A ban that the host puts off leaves the member suspended: it is asked for again. On probation it is over.
        if node.stage == Stage::Deregistered && row.standing == Standing::Probation {
            node = Node::default();
        }
        let reason = node.step(rates, row.presence == Presence::Up);
        node.write(block);
        let (standing, until) = match node.stage {
            Stage::Active => (Standing::Good, 0),
            Stage::Decommissioned => (Standing::Suspended, 1),
            Stage::Deregistered => (Standing::Banned, rates.ban),
        };
        Verdict { standing, strikes: node.down.min(u32::from(u16::MAX)) as u16, until, reason: reason.into() }
    }

    fn unmoved(rates: &Rates, row: &Row) -> Verdict {
        let until = match row.standing {
            Standing::Suspended => 1,
            Standing::Banned => rates.ban,
            Standing::Good | Standing::Warned | Standing::Probation => 0,
        };
        Verdict { standing: row.standing, strikes: row.strikes, until, reason: Why::Unknown.into() }
    }
}

impl Policy for DowntimeCredit {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let rule = Self {
            credit_minutes_per_day: config.integer("credit_minutes_per_day", 48, 0..=MINUTES_PER_DAY)?,
            start_minutes: config.integer("start_minutes", 120, 0..=100_000)?,
            most_minutes: config.integer("most_minutes", 2_880, 0..=100_000)?,
            least_minutes: config.integer("least_minutes", 120, 0..=100_000)?,
            proof_minutes: config.integer("proof_minutes", 125, 0..=100_000)?,
            ban_days: config.integer("ban_days", 30, 1..=30)?,
        };
        let Self { start_minutes, most_minutes, least_minutes, .. } = rule;
        if least_minutes > most_minutes {
            return Err(format!(
                "`least_minutes` ({least_minutes}) is above `most_minutes` ({most_minutes}); no credit would ever do"
            ));
        }
        if start_minutes > most_minutes {
            return Err(format!("`start_minutes` ({start_minutes}) is above `most_minutes` ({most_minutes})"));
        }
        Ok(rule)
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .memory(MEMORY_BYTES, "oxen-credit/1")
            .reasons(Why::texts(self))
    }
}

impl BanPolicy for DowntimeCredit {
    fn judge(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Judgement, String> {
        let rates = self.rates(round);
        Ok(Judgement::each_with(members, memory, |row, block| Self::judge_one(&rates, round.suspect, &row, block)))
    }
}

pingward_sdk::export_ban!(DowntimeCredit);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]
mod tests {
    use pingward_sdk::testing::{Cluster, describe};
    use proptest::prelude::*;

    use super::*;

    const GOOD: Standing = Standing::Good;
    const SUSPENDED: Standing = Standing::Suspended;
    const BANNED: Standing = Standing::Banned;
    const PROBATION: Standing = Standing::Probation;

    /// An answer counts for its round only, so that downtime starts with the first miss, as in the golden values.
    const AT_ONCE: &str = r#"{"proof_minutes":0}"#;

    /// Blocks of 2 minutes, 720 a day.
    fn blocks() -> Cluster {
        let mut cluster = Cluster::new(1);
        cluster.round.interval_ms = 120_000;
        cluster
    }

    fn play(cluster: &mut Cluster, config: &str, letter: &str, rounds: u32) {
        for _ in 0..rounds {
            cluster.judge::<DowntimeCredit>(config, letter).unwrap();
        }
    }

    fn credit(cluster: &Cluster) -> u64 {
        let rule = DowntimeCredit::configure(&mut Config::parse("").unwrap()).unwrap();
        Node::read(&cluster.memory).credit(&rule.rates(&cluster.round))
    }

    /// A member with so much credit.
    fn with_credit(rounds: u32) -> Cluster {
        let mut cluster = blocks();
        cluster.memory = vec![0; MEMORY_BYTES as usize];
        Node { left: Some(rounds), ..Node::default() }.write(&mut cluster.memory);
        cluster
    }

    #[test]
    fn golden_numbers_in_blocks() {
        let rule = DowntimeCredit::configure(&mut Config::parse("").unwrap()).unwrap();
        let rates = rule.rates(&blocks().round);
        assert_eq!((rates.start, rates.most, rates.least, rates.ban), (60, 1_440, 60, 21_600));
        let day = Node { left: Some(0), active: 720, ..Node::default() };
        assert_eq!(day.credit(&rates), 24);
    }

    #[test]
    fn golden_the_cap_is_reached_after_57_days_and_a_half() {
        let mut cluster = blocks();
        play(&mut cluster, AT_ONCE, "+", 41_399);
        assert_eq!(credit(&cluster), 1_439);
        play(&mut cluster, AT_ONCE, "+", 1);
        assert_eq!(credit(&cluster), 1_440);
        play(&mut cluster, AT_ONCE, "+", 720);
        assert_eq!(credit(&cluster), 1_440);
    }

    #[test]
    fn golden_ten_hours_down_from_the_cap_cost_twenty_and_take_25_days() {
        let mut cluster = with_credit(1_440);
        play(&mut cluster, AT_ONCE, "-", 300);
        assert_eq!(cluster.standing(0), SUSPENDED);
        play(&mut cluster, AT_ONCE, "+", 1);
        assert_eq!((cluster.standing(0), credit(&cluster)), (GOOD, 840));
        play(&mut cluster, AT_ONCE, "+", 25 * 720 - 1);
        assert_eq!(credit(&cluster), 1_439);
        play(&mut cluster, AT_ONCE, "+", 1);
        assert_eq!(credit(&cluster), 1_440);
    }

    #[test]
    fn golden_coming_back_costs_double() {
        for (down, left) in [(100, 800), (499, 2), (500, 0), (501, 0), (999, 0)] {
            let mut cluster = with_credit(1_000);
            play(&mut cluster, AT_ONCE, "-", down);
            play(&mut cluster, AT_ONCE, "+", 1);
            assert_eq!((cluster.standing(0), credit(&cluster)), (GOOD, left), "{down} down");
        }
    }

    #[test]
    fn golden_with_too_little_credit_a_failure_is_the_end() {
        let mut cluster = with_credit(59);
        play(&mut cluster, AT_ONCE, "-", 1);
        assert_eq!(
            (cluster.standing(0), cluster.until[0], cluster.reasons[0]),
            (BANNED, 21_600, Why::TooLittle.into())
        );
        let mut cluster = with_credit(60);
        // Credit 60 lasts until a test finds less than none of it left.
        play(&mut cluster, AT_ONCE, "-", 61);
        assert_eq!((cluster.standing(0), cluster.reasons[0]), (SUSPENDED, Why::Decommissioned.into()));
        play(&mut cluster, AT_ONCE, "-", 1);
        assert_eq!((cluster.standing(0), cluster.reasons[0]), (BANNED, Why::Spent.into()));
    }

    #[test]
    fn golden_an_answer_counts_for_two_hours_and_five_minutes() {
        let mut cluster = blocks();
        play(&mut cluster, "{}", "-", 62);
        assert_eq!(
            (cluster.standing(0), cluster.reasons[0], cluster.members.strikes[0]),
            (GOOD, Why::Missed.into(), 62)
        );
        play(&mut cluster, "{}", "-", 1);
        assert_eq!((cluster.standing(0), cluster.until[0], cluster.members.strikes[0]), (SUSPENDED, 1, 1));
    }

    #[test]
    fn no_news_moves_nothing_in_any_stage() {
        for (before, standing) in [("+", GOOD), ("-", SUSPENDED)] {
            let mut cluster = blocks();
            play(&mut cluster, AT_ONCE, before, 9);
            let memory = cluster.memory.clone();
            play(&mut cluster, AT_ONCE, "?", 99);
            cluster.round.suspect = true;
            play(&mut cluster, AT_ONCE, "-", 99);
            play(&mut cluster, AT_ONCE, "+", 99);
            assert_eq!((cluster.standing(0), &cluster.memory), (standing, &memory));
        }
    }

    #[test]
    fn a_ban_is_asked_for_until_it_comes_and_then_it_is_over() {
        let mut cluster = with_credit(0);
        play(&mut cluster, AT_ONCE, "-", 1);
        for letter in ["-", "+"] {
            // The host put the ban off.
            cluster.members.standing = vec![SUSPENDED.code()];
            play(&mut cluster, AT_ONCE, letter, 1);
            assert_eq!((cluster.standing(0), cluster.reasons[0]), (BANNED, Why::StillOut.into()));
        }
        cluster.members.standing = vec![PROBATION.code()];
        play(&mut cluster, AT_ONCE, "+", 1);
        assert_eq!((cluster.standing(0), credit(&cluster)), (PROBATION, 60));
        play(&mut cluster, AT_ONCE, "-", 1);
        assert_eq!(cluster.standing(0), SUSPENDED);
    }

    #[test]
    fn a_bad_config_is_refused_with_the_reason() {
        let refused = |config| describe::<DowntimeCredit>(config).unwrap_err();
        assert_eq!(refused(r#"{"ban_days":31}"#), "`ban_days` is 31; it may be 1 to 30");
        assert_eq!(
            refused(r#"{"most_minutes":60,"start_minutes":60}"#),
            "`least_minutes` (120) is above `most_minutes` (60); no credit would ever do"
        );
        assert_eq!(refused(r#"{"start_minutes":9999}"#), "`start_minutes` (9999) is above `most_minutes` (2880)");
        assert_eq!(describe::<DowntimeCredit>("{}").unwrap().memory_bytes, 12);
    }

    /// The original's bookkeeping: heights, and differences between them. Heights are observed rounds.
    #[derive(Default)]
    struct Original {
        height: i64,
        active_since: i64,
        proof: i64,
        decommissioned_at: Option<i64>,
        decommissions: u32,
        recommission_credit: i64,
        out: bool,
    }

    impl Original {
        fn credit(&self, rates: &Rates) -> i64 {
            let end = self.decommissioned_at.unwrap_or(self.height);
            let blocks_up = end - self.active_since;
            let earned = blocks_up * rates.credit_minutes_per_day as i64 / 1_440;
            let first = self.decommissions <= u32::from(self.decommissioned_at.is_some());
            let before = if first { rates.start as i64 } else { self.recommission_credit };
            let credit = (before + earned).min(rates.most as i64);
            self.decommissioned_at.map_or(credit, |at| credit - (self.height - at))
        }

        /// The letter is `+` or `-`.
        fn test(&mut self, rates: &Rates, letter: char) -> Standing {
            self.height += 1;
            if letter == '+' {
                self.proof = self.height;
            }
            let passed = (self.height - self.proof) * rates.interval_ms as i64 <= rates.proof_ms as i64;
            match self.decommissioned_at {
                _ if self.out => {}
                None if passed => {}
                None => {
                    if self.credit(rates) >= rates.least as i64 {
                        self.decommissions += 1;
                        self.decommissioned_at = Some(self.height);
                    } else {
                        self.out = true;
                    }
                }
                Some(at) if letter == '+' => {
                    let downtime = self.height - at;
                    let had = self.credit(rates) + downtime;
                    self.recommission_credit = (had - 2 * downtime).max(0);
                    self.active_since = self.height;
                    self.decommissioned_at = None;
                }
                Some(_) => self.out = self.credit(rates) < 0,
            }
            match self.decommissioned_at {
                _ if self.out => BANNED,
                None => GOOD,
                Some(_) => SUSPENDED,
            }
        }
    }

    proptest! {
        #[test]
        fn it_judges_as_the_original_bookkeeping_does(
            (interval_s, per_day, start, most, least, proof) in
                (prop_oneof![Just(120), 7..700_u64], 0..1_441_u64, 0..200_u64, 200..400_u64, 0..200_u64, 0..60_u64),
            runs in prop::collection::vec((prop_oneof![Just('+'), Just('-'), Just('?')], 1..150_u32), 1..25),
            back in 1..20_u32,
        ) {
            let config = format!(
                r#"{{"credit_minutes_per_day":{per_day},"least_minutes":{least},"most_minutes":{most},"proof_minutes":{proof},"start_minutes":{start}}}"#
            );
            let mut cluster = Cluster::new(1);
            cluster.round.interval_ms = interval_s * 1_000;
            let rule = DowntimeCredit::configure(&mut Config::parse(&config).unwrap()).unwrap();
            let rates = rule.rates(&cluster.round);
            let mut original = Original::default();
            let (mut wanted, mut banned_rounds) = (GOOD, 0);
            for letter in runs.into_iter().flat_map(|(letter, count)| vec![letter; count as usize]) {
                if wanted == BANNED {
                    banned_rounds += 1;
                    // For some rounds the host puts the ban off, then it is served and the member starts anew.
                    let over = banned_rounds > back;
                    cluster.members.standing = vec![if over { PROBATION } else { SUSPENDED }.code()];
                    if over && letter != '?' {
                        (original, banned_rounds) = (Original::default(), 0);
                    }
                }
                cluster.judge::<DowntimeCredit>(&config, &letter.to_string()).unwrap();
                if letter == '?' {
                    prop_assert_eq!(cluster.reasons[0], Why::Unknown);
                    continue;
                }
                wanted = original.test(&rates, letter);
                let standing = cluster.standing(0);
                let seen = if standing == PROBATION { GOOD } else { standing };
                prop_assert_eq!(seen, wanted);
                if !original.out {
                    let node = Node::read(&cluster.memory);
                    let spent = if node.stage == Stage::Active { 0 } else { i64::from(node.down) - 1 };
                    prop_assert_eq!(node.credit(&rates) as i64 - spent, original.credit(&rates));
                }
            }
        }
    }
}
