//! Tor's directory flags: who is reachable is *Running*, who stays up as long as half of the others is *Stable*, and who has
//! besides been known for long and hardly ever missing is a *Guard*. Each flag pays.
//!
//! A run ends when a member was not reached for `running_minutes`. Stable: the weighted mean length of its runs is at least
//! the median of all running members, or five days. Guard: Stable, among the seven eighths that have been known longest (or
//! for eight weighted days), and its weighted share of time up is at least the median of those, or 98 %. What is over loses
//! weight: it counts `keep_percent` of itself after each step of `step_minutes`. The run that is going on counts whole.
//!
//! Config: `running_minutes` (45; 0 to 10,000), `step_minutes` (720; 1 to 100,000), `keep_percent` (95; 1 to 99),
//! `stable_minutes` (7,200; 0 to 10,000,000) that is always stable, `familiar_minutes` (11,520; 0 to 10,000,000) that is
//! always familiar, `up_bp` (9,800; 0 to 10,000) that is always enough, `per_group` (2; 0 to 1,000,000, 0: no limit) members
//! of one network group that can be Running, `running_points` (4), `stable_points` (3), `guard_points` (3) (each 0 to 1,000).
//!
//! - Time is that between rounds that were observed: an unknown presence and a suspect round are no time at all.
//! - Thresholds come from the whole population in one pass, flags in a second; ties do not depend on the order of rows.

use pingward_sdk::{
    About, Config, Members, Memory, Pay, Policy, Presence, RewardPolicy, Round, Row, Settlement, fixed, reasons,
};

/// Bytes that it remembers of a member.
const MEMORY_BYTES: u32 = 40;

/// 1 in Q32.
const ONE: u64 = 1 << 32;

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    running_ms: u32,
    step_ms: u64,
    keep_percent: u64,
    stable_ms: u64,
    familiar_ms: u64,
    up_share: u64,
    per_group: usize,
    running_points: u16,
    stable_points: u16,
    guard_points: u16,
}

reasons! {
    /// Why a member got its points.
    enum Why of rule: &Flags {
        Running: "Running: it was reached",
        Stable: "Stable: its runs are as long as those of half of the others",
        Guard: "Guard: Stable, known for long, and up as much as half of the others",
        Crowd: format!("more than {} members are in its network group", rule.per_group),
        Down: "did not answer",
        Unknown: "was not observed: nothing moves",
        NotPaid: "is suspended",
    }
}

/// What a member is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Spell {
    /// It was never observed.
    #[default]
    None,
    Run,
    Downtime,
}

/// What is remembered of a member. Zeros are a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct History {
    spell: Spell,
    /// How long that has been.
    spell_ms: u64,
    /// In a run: the end of it without an answer.
    silent_ms: u32,
    /// Weighted length of the runs that are over.
    run_ms: u64,
    /// Weighted length of all spells that are over.
    known_ms: u64,
    /// Weighted number of the runs that are over, Q32.
    runs: u64,
    /// The step up to which weights are taken off.
    step: u32,
}

impl History {
    const SILENT: u32 = (1 << 30) - 1;
    /// Far more than any history; keeps products within 64 bits.
    const MOST: u64 = 1 << 56;

    fn read(block: &[u8]) -> Self {
        let long = |at: usize| block.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_le_bytes(*b));
        let short = |at: usize| block.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b));
        let [spell_ms, run_ms, known_ms, runs] = [0, 8, 16, 24].map(|at| long(at).min(Self::MOST));
        let spell = match short(36) >> 30 {
            0 => Spell::None,
            1 => Spell::Run,
            _ => Spell::Downtime,
        };
        Self { spell, spell_ms, silent_ms: short(36) & Self::SILENT, run_ms, known_ms, runs, step: short(32) }
    }

    fn write(self, block: &mut [u8]) {
        let spell = match self.spell {
            Spell::None => 0,
            Spell::Run => 1 << 30,
            Spell::Downtime => 2 << 30,
        };
        for (at, long) in [(0, self.spell_ms), (8, self.run_ms), (16, self.known_ms), (24, self.runs)] {
            if let Some(place) = block.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *place = long.to_le_bytes();
            }
        }
        for (at, short) in [(32, self.step), (36, self.silent_ms | spell)] {
            if let Some(place) = block.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *place = short.to_le_bytes();
            }
        }
    }

    /// Takes the weight of whole steps off what is over.
    fn discount(&mut self, step: u32, keep_percent: u64) {
        for _ in self.step..step {
            if self.run_ms | self.known_ms | self.runs == 0 {
                break;
            }
            for weighted in [&mut self.run_ms, &mut self.known_ms, &mut self.runs] {
                *weighted = *weighted * keep_percent / 100;
            }
        }
        self.step = step;
    }

    /// One more observed round, `elapsed_ms` after the one before.
    fn observe(&mut self, up: bool, elapsed_ms: u64, interval_ms: u64, running_ms: u32) {
        let elapsed_ms = elapsed_ms.min(Self::MOST);
        match (self.spell, up) {
            (Spell::None, true) => self.spell = Spell::Run,
            (Spell::None, false) => self.spell = Spell::Downtime,
            (Spell::Run, true) => {
                self.spell_ms = (self.spell_ms + elapsed_ms).min(Self::MOST);
                self.silent_ms = 0;
            }
            (Spell::Run, false) => {
                let silent_ms = u64::from(self.silent_ms) + elapsed_ms;
                self.spell_ms = (self.spell_ms + elapsed_ms).min(Self::MOST);
                if silent_ms <= u64::from(running_ms) {
                    self.silent_ms = silent_ms as u32;
                } else {
                    // It has been down since the first round that it could have answered and did not.
                    let down_ms = silent_ms.saturating_sub(interval_ms);
                    let run_ms = self.spell_ms.saturating_sub(down_ms);
                    self.run_ms = (self.run_ms + run_ms).min(Self::MOST);
                    self.known_ms = (self.known_ms + run_ms).min(Self::MOST);
                    self.runs = (self.runs + ONE).min(Self::MOST);
                    (self.spell, self.spell_ms, self.silent_ms) = (Spell::Downtime, down_ms, 0);
                }
            }
            (Spell::Downtime, true) => {
                self.known_ms = (self.known_ms + self.spell_ms + elapsed_ms).min(Self::MOST);
                (self.spell, self.spell_ms) = (Spell::Run, 0);
            }
            (Spell::Downtime, false) => self.spell_ms = (self.spell_ms + elapsed_ms).min(Self::MOST),
        }
    }

    const fn is_running(&self) -> bool {
        matches!(self.spell, Spell::Run)
    }

    /// Length of the run that is going on.
    const fn current_ms(&self) -> u64 {
        if self.is_running() { self.spell_ms } else { 0 }
    }

    /// Weighted mean time between failures. Of hardly any weight it is none.
    fn between_failures_ms(&self) -> u64 {
        let runs = self.runs + if self.is_running() { ONE } else { 0 };
        if runs < ONE / 10_000 {
            return 0;
        }
        let total = u128::from(self.run_ms + self.current_ms()) * u128::from(ONE) / u128::from(runs);
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    /// For how long it has been known, weighted.
    const fn known_ms(&self) -> u64 {
        self.known_ms + self.spell_ms
    }

    /// Weighted share of time up, Q32.
    fn up_share(&self) -> u64 {
        let up = u128::from(self.run_ms + self.current_ms()) * u128::from(ONE);
        up.checked_div(u128::from(self.known_ms())).map_or(0, |share| share.min(u128::from(ONE)) as u64)
    }
}

/// From how much on a member has a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thresholds {
    stable_ms: u64,
    familiar_ms: u64,
    up_share: u64,
}

impl Flags {
    fn thresholds(&self, running: &[History]) -> Thresholds {
        let between: Vec<u64> = running.iter().map(History::between_failures_ms).collect();
        let known: Vec<u64> = running.iter().map(History::known_ms).collect();
        let familiar_ms = fixed::kth(&known, known.len() / 8).unwrap_or_default().min(self.familiar_ms);
        let familiar = running.iter().filter(|history| history.known_ms() >= familiar_ms);
        let shares: Vec<u64> = familiar.map(History::up_share).collect();
        Thresholds {
            stable_ms: fixed::median(&between).unwrap_or_default().min(self.stable_ms),
            familiar_ms,
            up_share: fixed::median(&shares).unwrap_or_default().min(self.up_share),
        }
    }

    /// What one member gets for one round.
    #[inline]
    fn pay_one(&self, thresholds: &Thresholds, row: &Row, history: &History, in_crowd: bool) -> Pay {
        let reason = match row.presence {
            Presence::Down => Why::Down,
            Presence::Unknown => Why::Unknown,
            Presence::Up if !row.standing.is_paid() => Why::NotPaid,
            Presence::Up if in_crowd => Why::Crowd,
            Presence::Up if history.between_failures_ms() < thresholds.stable_ms => Why::Running,
            Presence::Up if history.known_ms() < thresholds.familiar_ms || history.up_share() < thresholds.up_share => {
                Why::Stable
            }
            Presence::Up => Why::Guard,
        };
        let [running, stable, guard] = [self.running_points, self.stable_points, self.guard_points].map(i64::from);
        let points = match reason {
            Why::Running => running,
            Why::Stable => running + stable,
            Why::Guard => running + stable + guard,
            Why::Crowd | Why::Down | Why::Unknown | Why::NotPaid => 0,
        };
        Pay::points(points).because(reason)
    }

    /// Which members are too many in their network group. The running ones come first, then the older; members that are
    /// equal in both stay or go together.
    fn crowds(&self, members: &Members<'_>, histories: &[History]) -> Vec<bool> {
        if self.per_group == 0 {
            return vec![false; members.len()];
        }
        let place = |row: &Row, history: &History| (row.group, !history.is_running(), u32::MAX - row.age);
        let places: Vec<_> = members.rows().zip(histories).map(|(row, history)| place(&row, history)).collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        let is_crowded = |place: &(u32, bool, u32)| {
            let first = sorted.partition_point(|other| other.0 < place.0);
            let last = sorted.partition_point(|other| other <= place);
            last - first > self.per_group
        };
        places.iter().map(is_crowded).collect()
    }

    /// Everybody's history after this round. Where nothing moves, what is remembered stays as it was.
    fn histories(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Vec<History> {
        let step = u32::try_from(round.now_ms / self.step_ms).unwrap_or(u32::MAX);
        let rows = members.rows().zip(memory.blocks());
        rows.map(|(row, block)| {
            let mut history = History::read(block);
            history.discount(step, self.keep_percent);
            if row.presence != Presence::Unknown && !round.suspect {
                history.observe(row.presence == Presence::Up, round.elapsed_ms, round.interval_ms, self.running_ms);
                history.write(block);
            }
            history
        })
        .collect()
    }
}

impl Policy for Flags {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let up_bp = config.integer("up_bp", 9_800, 0..=10_000)?;
        let mut minutes = |key, default, most| config.integer(key, default, 0..=most).map(|minutes| minutes * 60_000);
        let running_ms = minutes("running_minutes", 45, 10_000)? as u32;
        let stable_ms = minutes("stable_minutes", 7_200, 10_000_000)?;
        let familiar_ms = minutes("familiar_minutes", 11_520, 10_000_000)?;
        let mut points = |key, default| config.integer(key, default, 0..=1_000).map(|points| points as u16);
        let running_points = points("running_points", 4)?;
        let stable_points = points("stable_points", 3)?;
        let guard_points = points("guard_points", 3)?;
        Ok(Self {
            running_ms,
            step_ms: config.integer("step_minutes", 720, 1..=100_000)? * 60_000,
            keep_percent: config.integer("keep_percent", 95, 1..=99)?,
            stable_ms,
            familiar_ms,
            up_share: up_bp * ONE / 10_000,
            per_group: config.integer("per_group", 2, 0..=1_000_000)? as usize,
            running_points,
            stable_points,
            guard_points,
        })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            // Weights of other steps are other weights.
            .memory(MEMORY_BYTES, &format!("tor-flags/1/{}/{}", self.step_ms / 60_000, self.keep_percent))
            .reasons(Why::texts(self))
    }
}

impl RewardPolicy for Flags {
    fn settle(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Settlement, String> {
        let histories = self.histories(round, members, memory);
        let crowds = self.crowds(members, &histories);
        let counted = histories.iter().zip(&crowds).filter(|(history, in_crowd)| history.is_running() && !**in_crowd);
        let counted: Vec<History> = counted.map(|(history, _)| *history).collect();
        let thresholds = self.thresholds(&counted);
        let mut known = histories.iter().zip(&crowds);
        Ok(Settlement::each(members, |row| match known.next() {
            Some((history, in_crowd)) => self.pay_one(&thresholds, &row, history, *in_crowd),
            None => Pay::default(),
        }))
    }
}

pingward_sdk::export_reward!(Flags);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]
mod tests {
    use pingward_sdk::Standing;
    use pingward_sdk::testing::{Cluster, describe};
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const HALF_DAY_MS: u64 = DAY_MS / 2;

    const RUNNING: i64 = 4;
    const STABLE: i64 = 7;
    const GUARD: i64 = 10;

    /// Members in networks of their own, and rounds of so many minutes. The first round begins a step.
    fn cluster(population: u32, minutes: u64) -> Cluster {
        let mut cluster = Cluster::new(population);
        cluster.members.group = (0..population).collect();
        cluster.round.interval_ms = minutes * 60_000;
        cluster.round.elapsed_ms = minutes * 60_000;
        cluster
    }

    fn play(cluster: &mut Cluster, letters: &str, rounds: u64) -> Vec<i64> {
        let mut points = Vec::new();
        for _ in 0..rounds {
            points = cluster.settle::<Flags>("{}", letters).unwrap();
        }
        points
    }

    fn history(cluster: &Cluster, member: usize) -> History {
        History::read(&cluster.memory[40 * member..])
    }

    fn rule(config: &str) -> Flags {
        Flags::configure(&mut Config::parse(config).unwrap()).unwrap()
    }

    // Not reproduced: "Stable = 6.8 d up" and "familiar = 15.7 d" for a member that is simply up. The source discounts spells
    // that are over only (rep_hist_downrate_old_runs leaves the start of a run alone), so that one unbroken run reaches 5 and
    // 8 days after 5 and 8 days. 10(1 - 0.95^n) is what is known when a spell ends in every half day: so it is played here.
    // Fast, HSDir and the bandwidth of Guard need a bandwidth, which a ping does not measure.

    #[test]
    fn golden_what_ended_a_week_and_a_month_ago_counts_0_488_and_0_046() {
        for (days, thousandths) in [(7, 488), (30, 46)] {
            let mut history = History { runs: ONE, run_ms: 1_000_000, known_ms: 1_000_000, ..History::default() };
            history.discount(2 * days, 95);
            assert_eq!((history.runs * 1_000 + ONE / 2) / ONE, thousandths);
            assert_eq!((history.run_ms + 500) / 1_000, thousandths);
            assert_eq!(history.run_ms, history.known_ms);
        }
    }

    /// A spell ends in every half day; half days until so many weighted ones are known.
    fn half_days_until(weighted_ms: u64) -> u32 {
        let mut history = History::default();
        for step in 1.. {
            history.discount(step, 95);
            history.known_ms += HALF_DAY_MS;
            if history.known_ms() >= weighted_ms {
                return step;
            }
        }
        0
    }

    #[test]
    fn golden_5_and_8_weighted_days_are_6_8_and_15_7_days_of_short_spells() {
        // ln 0.5 / ln 0.95 = 13.5 half days, and ln 0.2 / ln 0.95 = 31.4.
        assert_eq!(half_days_until(5 * DAY_MS), 14);
        assert_eq!(half_days_until(8 * DAY_MS), 32);
    }

    #[test]
    fn golden_weighted_time_of_ended_spells_never_exceeds_10_days() {
        let mut history = History::default();
        for step in 1..5_000 {
            history.discount(step, 95);
            history.known_ms += HALF_DAY_MS;
            assert!(history.known_ms <= 10 * DAY_MS);
        }
        assert!(history.known_ms > 10 * DAY_MS - 60_000);
    }

    #[test]
    fn golden_an_unbroken_run_is_always_stable_after_5_days() {
        // Eight others have been up for longer, so that the median and the oldest seven eighths are beyond reach.
        let mut all = cluster(9, 60);
        play(&mut all, "++++++++?", 24 * 20);
        assert_eq!(play(&mut all, "+++++++++", 1)[8], RUNNING);
        assert_eq!(play(&mut all, "+++++++++", 24 * 5 - 1)[8], RUNNING);
        assert_eq!(history(&all, 8).between_failures_ms(), 5 * DAY_MS - 3_600_000);
        assert_eq!(play(&mut all, "+++++++++", 1)[8], STABLE);
        // Familiar after 8 days, and never away: a guard.
        assert_eq!(play(&mut all, "+++++++++", 24 * 3 - 1)[8], STABLE);
        assert_eq!(play(&mut all, "+++++++++", 1)[8], GUARD);
    }

    #[test]
    fn golden_running_lasts_45_minutes_after_the_last_answer() {
        let mut all = cluster(1, 15);
        play(&mut all, "+", 5);
        play(&mut all, "-", 3);
        assert!(history(&all, 0).is_running());
        play(&mut all, "-", 1);
        let ended = history(&all, 0);
        assert_eq!((ended.spell, ended.spell_ms / 60_000, ended.run_ms / 60_000), (Spell::Downtime, 45, 75));
        // Back within 45 minutes it was never away.
        let mut all = cluster(1, 15);
        play(&mut all, "+", 5);
        play(&mut all, "-", 3);
        play(&mut all, "+", 1);
        let on = history(&all, 0);
        assert_eq!((on.spell, on.spell_ms / 60_000, on.silent_ms, on.runs), (Spell::Run, 120, 0, 0));
    }

    #[test]
    fn golden_more_than_two_in_a_network_lose_running() {
        let mut all = cluster(5, 60);
        all.members.group = vec![7, 7, 7, 8, 8];
        all.members.age = vec![5, 9, 3, 1, 1];
        assert_eq!(play(&mut all, "+++++", 1), [GUARD, GUARD, 0, GUARD, GUARD]);
        assert_eq!(all.reasons[2], Why::Crowd);
        // Who is not running makes room; who cannot be told apart goes together.
        all.members.age = vec![5, 9, 3, 1, 1];
        assert_eq!(play(&mut all, "+-+++", 2)[..3], [GUARD, 0, GUARD]);
        all.members.age = vec![3; 5];
        assert_eq!(play(&mut all, "+++++", 2), [0, 0, 0, GUARD, GUARD]);
        assert_eq!(all.settle::<Flags>(r#"{"per_group":0}"#, "+++++").unwrap()[0], GUARD);
    }

    #[test]
    fn the_median_is_stable_and_the_newest_eighth_is_not_familiar() {
        // Member i joins at hour i: nine members, each with an unbroken run.
        let mut all = cluster(9, 60);
        let mut points = Vec::new();
        for hour in 0..12 {
            let letters: String = (0..9).map(|i| if i <= hour { '+' } else { '?' }).collect();
            points = play(&mut all, &letters, 1);
        }
        // The median of nine runs is the fifth; the second newest is where familiar begins; all were up all the time.
        assert_eq!(points, [GUARD, GUARD, GUARD, GUARD, GUARD, RUNNING, RUNNING, RUNNING, RUNNING]);
        let thresholds = rule("{}").thresholds(&(0..9).map(|i| history(&all, i)).collect::<Vec<_>>());
        let hour = 3_600_000;
        assert_eq!(thresholds, Thresholds { stable_ms: 7 * hour, familiar_ms: 4 * hour, up_share: 98 * ONE / 100 });
    }

    #[test]
    fn a_guard_is_never_asked_for_more_than_98_percent() {
        let share = |up, known| History { run_ms: up, known_ms: known, ..History::default() }.up_share();
        let always = History { spell: Spell::Run, spell_ms: 1, ..History::default() };
        let asked = rule("{}").thresholds(&[always; 3]).up_share;
        assert!(share(98, 100) >= asked && share(9_799, 10_000) < asked);
        assert_eq!(rule("{}").thresholds(&[]), Thresholds { stable_ms: 0, familiar_ms: 0, up_share: 0 });
    }

    #[test]
    fn no_news_moves_nothing() {
        let mut all = cluster(2, 60);
        play(&mut all, "+-", 30);
        let memory = all.memory.clone();
        assert_eq!(play(&mut all, "??", 30), [0, 0]);
        all.round.suspect = true;
        assert_eq!(play(&mut all, "+?", 30), [GUARD, 0]);
        assert_eq!(play(&mut all, "--", 30), [0, 0]);
        assert_eq!(all.memory, memory);
    }

    #[test]
    fn only_who_is_in_good_standing_is_paid() {
        let mut all = cluster(3, 60);
        all.members.standing =
            [Standing::Suspended, Standing::Warned, Standing::Probation].map(Standing::code).to_vec();
        assert_eq!(play(&mut all, "+++", 1), [0, GUARD, GUARD]);
        assert_eq!(all.reasons[0], Why::NotPaid);
    }

    #[test]
    fn nothing_overflows() {
        let mut all = cluster(3, 60);
        all.memory = vec![0xff; 120];
        all.round.now_ms = u64::MAX / 2;
        all.round.elapsed_ms = u64::MAX;
        play(&mut all, "+-?", 2);
        all.memory = vec![0x7f; 120];
        play(&mut all, "+-?", 1);
    }

    #[test]
    fn a_bad_config_is_refused_with_the_reason() {
        let refused = |config| describe::<Flags>(config).unwrap_err();
        assert_eq!(refused(r#"{"keep_percent":100}"#), "`keep_percent` is 100; it may be 1 to 99");
        assert_eq!(refused(r#"{"stable_point":1}"#), "unknown key `stable_point`; did you mean `stable_points`?");
        let description = describe::<Flags>("{}").unwrap();
        assert_eq!((description.memory_bytes, description.memory_schema.as_str()), (40, "tor-flags/1/720/95"));
    }

    /// One observed round of a member: its step, the time since the round before, and whether it answered.
    type Seen = (u64, u64, bool);

    /// What the whole history amounts to: weighted runs, time in them and time known, then the spell that is going on.
    #[derive(Debug, PartialEq, Eq)]
    struct Reading {
        runs: u64,
        run_ms: u64,
        known_ms: u64,
        running: bool,
        spell_ms: u64,
    }

    /// Reads the whole history: first where spells begin and end, then what each weighs at `step`.
    fn read(history: &[Seen], step: u64, keep: u64, interval_ms: u64, running_ms: u64) -> Option<Reading> {
        let time: Vec<u64> = history
            .iter()
            .enumerate()
            .scan(0, |at, (i, seen)| {
                *at += if i == 0 { 0 } else { seen.1 };
                Some(*at)
            })
            .collect();
        let now = *time.last()?;
        // Ended spells: the step in which that was noticed, length, and whether it was a run.
        let mut ended: Vec<(u64, u64, bool)> = Vec::new();
        let mut from = 0;
        let mut start = time[0];
        let mut running = history[0].2;
        loop {
            if running {
                // The first round in which too long has passed since the last answer.
                let lost = (from..history.len()).find_map(|i| {
                    let last = (from..=i).rev().find(|k| history[*k].2)?;
                    (time[i] - time[last] > running_ms).then_some((i, last))
                });
                let Some((i, last)) = lost else { break };
                let end = (time[last] + interval_ms).min(time[i]);
                ended.push((history[i].0, end - start, true));
                (from, start, running) = (i, end, false);
            } else {
                let Some(i) = (from..history.len()).find(|i| history[*i].2) else { break };
                ended.push((history[i].0, time[i] - start, false));
                (from, start, running) = (i, time[i], true);
            }
        }
        let mut weighed = [0; 3];
        for at in ended.first().map_or(step, |first| first.0)..=step {
            weighed = weighed.map(|weight| weight * keep / 100);
            for (_, length, run) in ended.iter().filter(|spell| spell.0 == at) {
                weighed[0] += if *run { ONE } else { 0 };
                weighed[1] += if *run { *length } else { 0 };
                weighed[2] += length;
            }
        }
        let [runs, run_ms, known_ms] = weighed;
        Some(Reading { runs, run_ms, known_ms, running, spell_ms: now - start })
    }

    /// The flags' points from everybody's reading: sorted lists and fractions.
    fn flags(all: &[(Option<Reading>, u32, u32, char)], rule: &Flags) -> Vec<i64> {
        let between = |r: &Reading| {
            let runs = r.runs + if r.running { ONE } else { 0 };
            let up = r.run_ms + if r.running { r.spell_ms } else { 0 };
            if runs * 10_000 < ONE { 0 } else { (u128::from(up) << 32) / u128::from(runs) }
        };
        let known = |r: &Reading| u128::from(r.known_ms + r.spell_ms);
        let share = |r: &Reading| {
            let up = u128::from(r.run_ms + if r.running { r.spell_ms } else { 0 });
            if known(r) == 0 { 0 } else { (up << 32) / known(r) }
        };
        let is_running = |i: usize| all[i].0.as_ref().is_some_and(|r| r.running);
        let at_least_as_good =
            |i: usize, k: usize| all[i].1 == all[k].1 && (is_running(k), all[k].2) >= (is_running(i), all[i].2);
        let crowded = |i: usize| {
            rule.per_group > 0 && (0..all.len()).filter(|k| at_least_as_good(i, *k)).count() > rule.per_group
        };
        let counted: Vec<&Reading> =
            (0..all.len()).filter(|i| is_running(*i) && !crowded(*i)).filter_map(|i| all[i].0.as_ref()).collect();
        let sorted = |mut list: Vec<u128>| {
            list.sort_unstable();
            list
        };
        let lower_median = |list: &[u128]| if list.is_empty() { 0 } else { list[(list.len() - 1) / 2] };
        let stable =
            lower_median(&sorted(counted.iter().map(|r| between(r)).collect())).min(u128::from(rule.stable_ms));
        let ages = sorted(counted.iter().map(|r| known(r)).collect());
        let familiar = ages.get(ages.len() / 8).copied().unwrap_or(0).min(u128::from(rule.familiar_ms));
        let shares = sorted(counted.iter().filter(|r| known(r) >= familiar).map(|r| share(r)).collect());
        let asked = lower_median(&shares).min(u128::from(rule.up_share));
        (0..all.len())
            .map(|i| match &all[i] {
                (Some(r), _, _, '+') if !crowded(i) => {
                    let is_stable = between(r) >= stable;
                    let is_guard = is_stable && known(r) >= familiar && share(r) >= asked;
                    1 + if is_stable { 10 } else { 0 } + if is_guard { 100 } else { 0 }
                }
                _ => 0,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn it_pays_as_a_reading_of_whole_histories_does(
            population in 1..12_usize,
            (running, step, keep, stable, up_bp, per_group) in
                (0..60_u64, 30..900_u64, 50..100_u64, 0..3_000_u64, 0..10_001_u64, 0..4_usize),
            groups in prop::collection::vec((0..4_u32, 0..3_u32), 12),
            rounds in prop::collection::vec(
                (prop::collection::vec(prop_oneof![6 => Just('+'), 3 => Just('-'), 1 => Just('?')], 12),
                 prop_oneof![8 => Just(10_u64), 1 => 1..2_000_u64], prop_oneof![9 => Just(false), 1 => Just(true)]),
                1..70,
            ),
        ) {
            let config = format!(
                r#"{{"familiar_minutes":{stable},"guard_points":100,"keep_percent":{keep},"per_group":{per_group},"running_minutes":{running},"running_points":1,"stable_minutes":{stable},"stable_points":10,"step_minutes":{step},"up_bp":{up_bp}}}"#
            );
            let rule = rule(&config);
            let mut all = cluster(population as u32, 10);
            all.members.group = groups[..population].iter().map(|g| g.0).collect();
            all.members.age = groups[..population].iter().map(|g| g.1).collect();
            let mut histories: Vec<Vec<Seen>> = vec![Vec::new(); population];
            for (letters, elapsed_minutes, suspect) in rounds {
                all.round.elapsed_ms = elapsed_minutes * 60_000;
                all.round.now_ms += all.round.elapsed_ms;
                all.round.suspect = suspect;
                let now_step = all.round.now_ms / 60_000 / step;
                let letters: Vec<char> =
                    letters[..population].iter().map(|c| if suspect && *c == '-' { '?' } else { *c }).collect();
                for (history, letter) in histories.iter_mut().zip(&letters) {
                    if !suspect && *letter != '?' {
                        history.push((now_step, elapsed_minutes * 60_000, *letter == '+'));
                    }
                }
                let facts: Vec<_> = (0..population)
                    .map(|i| {
                        let reading = read(&histories[i], now_step, keep, 600_000, running * 60_000)
                            .or(Some(Reading { runs: 0, run_ms: 0, known_ms: 0, running: false, spell_ms: 0 }));
                        (reading, all.members.group[i], all.members.age[i], letters[i])
                    })
                    .collect();
                let expected = flags(&facts, &rule);
                let points = all.settle::<Flags>(&config, &letters.iter().collect::<String>()).unwrap();
                prop_assert_eq!(&points, &expected);
                // Read the other way round, the rows get the same.
                let mut turned = all.clone();
                turned.round.now_ms -= turned.round.interval_ms;
                turned.round.suspect = true;
                turned.members.age.iter_mut().for_each(|age| *age -= 1);
                let before: String = letters.iter().collect();
                let straight = turned.clone().settle::<Flags>(&config, &before).unwrap();
                turned.members.group.reverse();
                turned.members.age.reverse();
                turned.memory = turned.memory.chunks(40).rev().flatten().copied().collect();
                let mut back = turned.settle::<Flags>(&config, &before.chars().rev().collect::<String>()).unwrap();
                back.reverse();
                prop_assert_eq!(straight, back);
            }
        }
    }
}
