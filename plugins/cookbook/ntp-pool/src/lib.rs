//! The NTP pool's score. Every probe multiplies a member's score by 0.95 and adds a step: +1 for a good answer, -5 for
//! none. From 10 on it is listed; below it is suspended: asked on, and not paid.
//!
//! Config:
//!
//! | key | default | bounds | |
//! |---|---|---|---|
//! | `observers` | 0 | 0 to 8 | seats that keep a score each, of which the median counts; 0: one score of the merged observation |
//! | `listed` | 10 | 0 to 19 | points from which a member is in order |
//! | `start` | 0 | 0 to 20 | points of a new member |
//! | `mail` | 15 | 0 to 100 | so many points below zero the pool writes to the owner: another reason code, nothing else |
//! | `latency_percent` | 0 | 0 to 100 | this share of the round trip stands for the clock's offset; 0: an answer is a good answer |
//! | `recent_secs` | 1,200 | 1 to 604,800 | scores of observers that were silent longer do not count |
//! | `fallback_secs` | 2,700 | `recent_secs` to 604,800 | but so long if there is none younger |
//! | `probe_secs` | 0 | 0 to 86,400 | an observer's observations count at most once in so many seconds; 0: every round |
//! | `slow_probe_secs` | 0 | 0 to 86,400 | the same for members at -90 or below |
//!
//! - Scores are millionths, rounded down. The top is therefore 19.999981: compare with thresholds, never with 20.
//! - Unknown observations and suspect rounds move nothing.
//! - Whoever has no connection anywhere has not answered any of the observers that ever asked it.

use pingward_sdk::{
    About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Row, Standing, Verdict, fact,
    reasons,
};

/// A point in millionths.
const POINT: i64 = 1_000_000;
/// Scores at or below are probed slowly.
const SLOW: i64 = -90 * POINT;
/// Steps to look ahead for the earliest return; even from -200 it takes fewer.
const RETURN_MAX: u32 = 200;
const SEATS_MAX: usize = 8;

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct NtpPool {
    observers: u8,
    listed: i64,
    start: i64,
    mail: i64,
    latency_percent: u64,
    recent_secs: u32,
    fallback_secs: u32,
    probe_secs: u32,
    slow_probe_secs: u32,
}

reasons! {
    /// Why a member stands where it stands.
    enum Why of rule: &NtpPool {
        NotListed: format!("score is below {}: not paid until answers bring it back", rule.listed / POINT),
        Mail: format!("score is at or below {}: the pool would write to its owner", rule.mail / POINT),
        Missed: format!("did not answer; score is still {} or more", rule.listed / POINT),
        Unknown: "was not observed: nothing moves",
    }
}

/// What a probe showed: the lines of the pool's table, the first that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing came in time.
    NoAnswer,
    /// Refused: asked too often. No ping tells that.
    Rate,
    /// Refused: not for you. No ping tells that.
    Denied,
    /// An answer that says of itself that it is not in order. No ping tells that.
    Untrusted,
    /// An answer that is none: it cannot be read, or belongs to another question.
    Error,
    /// A clock too far from the source. No ping tells that.
    HighStratum,
    /// A valid answer.
    Answered {
        /// How far off it is, in microseconds.
        offset_us: u64,
    },
}

impl Probe {
    /// What it adds to a score, and the most that the score may be afterwards; both in millionths.
    #[must_use]
    pub const fn step(self) -> (i64, Option<i64>) {
        match self {
            Self::NoAnswer => (-5 * POINT, None),
            Self::Rate => (-7 * POINT / 2, None),
            Self::Denied => (-10 * POINT, Some(-50 * POINT)),
            Self::Untrusted => (-2 * POINT, Some(5 * POINT)),
            Self::Error | Self::HighStratum => (-4 * POINT, None),
            Self::Answered { offset_us: 3_000_001.. } => (-4 * POINT, Some(-20 * POINT)),
            Self::Answered { offset_us: 750_001.. } => (-2 * POINT, None),
            Self::Answered { offset_us: offset @ 100_001.. } => (line(731_000, 2_308, offset), None),
            Self::Answered { offset_us: offset @ 25_001.. } => {
                let step = line(1_167_000, 6_667, offset);
                (if step < POINT { step } else { POINT }, None)
            }
            Self::Answered { .. } => (POINT, None),
        }
    }

    /// A score after it.
    #[must_use]
    pub const fn after(self, score: i64) -> i64 {
        let (step, most) = self.step();
        let sum = (score * 95).div_euclid(100) + step;
        match most {
            Some(most) if sum > most => most,
            Some(_) | None => sum,
        }
    }
}

/// `from - slope * x`, with the slope in thousandths and x in millionths; rounded down.
const fn line(from: i64, slope: u64, x: u64) -> i64 {
    from - (slope * x).div_ceil(1_000) as i64
}

/// What one observer keeps of a member: 8 bytes. All zero: it never asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Score {
    millionths: i32,
    /// When its last probe counted, in seconds since 1970.
    at_secs: u32,
}

type Bytes = [u8; 8];

impl Score {
    const fn read(bytes: &Bytes) -> Self {
        let [a, b, c, d, e, f, g, h] = *bytes;
        Self { millionths: i32::from_le_bytes([a, b, c, d]), at_secs: u32::from_le_bytes([e, f, g, h]) }
    }

    const fn write(self, bytes: &mut Bytes) {
        let ([a, b, c, d], [e, f, g, h]) = (self.millionths.to_le_bytes(), self.at_secs.to_le_bytes());
        *bytes = [a, b, c, d, e, f, g, h];
    }
}

/// What one observer saw of a member.
#[derive(Clone, Copy, Debug)]
struct View {
    presence: Presence,
    rtt_us: u32,
}

impl View {
    const MISSED: Self = Self { presence: Presence::Down, rtt_us: 0 };
}

/// The two columns of one observer.
type Seat<'a> = (&'a [i64], &'a [i64]);

impl NtpPool {
    /// What becomes of one member after one round. `view`: what an observer saw of it.
    fn judge_one(&self, round: &Round, row: &Row, view: impl Fn(usize) -> View, scores: &mut [Bytes]) -> Verdict {
        let now = (round.now_ms / 1_000) as u32;
        if round.suspect || row.presence == Presence::Unknown {
            let until = match row.standing {
                Standing::Suspended => self.published(scores, now).map_or(0, |score| self.answers_to_return(score)),
                Standing::Good | Standing::Warned | Standing::Banned | Standing::Probation => 0,
            };
            return Verdict { until, ..Verdict::stay(row).because(Why::Unknown) };
        }
        let is_absent =
            row.presence == Presence::Down && (0..scores.len()).all(|seat| view(seat).presence == Presence::Unknown);
        let is_new = scores.iter().all(|bytes| Score::read(bytes).at_secs == 0);
        for (seat, bytes) in scores.iter_mut().enumerate() {
            let score = Score::read(bytes);
            let is_known = score.at_secs != 0 || is_new && seat == 0;
            let view = if is_absent && is_known { View::MISSED } else { view(seat) };
            if let Some(probe) = self.probe(view, row.facts) {
                self.probed(score, probe, now).write(bytes);
            }
        }
        let Some(score) = self.published(scores, now) else { return Verdict::stay(row) };
        self.verdict(score, row.presence)
    }

    /// The line of the pool's table for what an observer saw; `None`: it did not look. Kinds of answers are known for
    /// all observers together: they count for those that missed it.
    const fn probe(&self, view: View, facts: u16) -> Option<Probe> {
        match view.presence {
            Presence::Unknown => None,
            Presence::Up => Some(Probe::Answered { offset_us: view.rtt_us as u64 * self.latency_percent / 100 }),
            Presence::Down if facts & (fact::MALFORMED | fact::STALE_NONCE) != 0 => Some(Probe::Error),
            Presence::Down => Some(Probe::NoAnswer),
        }
    }

    /// An observer's score after a probe, unless it is too soon for one.
    fn probed(&self, score: Score, probe: Probe, now: u32) -> Score {
        let is_new = score.at_secs == 0;
        let before = if is_new { self.start } else { score.millionths.into() };
        let pause_secs = if before <= SLOW { self.slow_probe_secs } else { self.probe_secs };
        if !is_new && now.saturating_sub(score.at_secs) < pause_secs {
            return score;
        }
        Score { millionths: probe.after(before) as i32, at_secs: now.max(1) }
    }

    /// The score that counts: the lower median of the recent ones; of fewer than three the oldest.
    fn published(&self, scores: &[Bytes], now: u32) -> Option<i64> {
        let of_the_last = |secs: u32| {
            let mut recent = [Score::default(); SEATS_MAX];
            let known = scores.iter().map(Score::read).filter(|score| score.at_secs != 0);
            let young = known.filter(|score| now.saturating_sub(score.at_secs) <= secs);
            let count = recent.iter_mut().zip(young).map(|(place, score)| *place = score).count();
            let recent = recent.get_mut(..count)?;
            if count < 3 {
                return recent.iter().min_by_key(|score| score.at_secs).copied();
            }
            recent.sort_unstable_by_key(|score| score.millionths);
            recent.get((count - 1) / 2).copied()
        };
        let score = of_the_last(self.recent_secs).or_else(|| of_the_last(self.fallback_secs));
        score.map(|score| score.millionths.into())
    }

    fn verdict(&self, score: i64, presence: Presence) -> Verdict {
        if score >= self.listed {
            let reason = (presence == Presence::Down).then_some(Why::Missed);
            return Verdict::new(Standing::Good).because(reason);
        }
        Verdict {
            standing: Standing::Suspended,
            strikes: ((self.listed - score) as u64).div_ceil(POINT as u64) as u16,
            until: self.answers_to_return(score),
            reason: if score <= self.mail { Why::Mail } else { Why::NotListed }.into(),
        }
    }

    /// Good answers until a score is listed.
    fn answers_to_return(&self, mut score: i64) -> u32 {
        let mut answers = 0;
        while score < self.listed && answers < RETURN_MAX {
            score = Probe::Answered { offset_us: 0 }.after(score);
            answers += 1;
        }
        answers
    }

    /// The columns of all observers; none where one score of the merged observation is kept.
    fn seats<'a>(&self, members: &Members<'a>) -> Result<Vec<Seat<'a>>, String> {
        let column = |name: String| members.extra(&name).ok_or_else(|| format!("there is no column `{name}`"));
        (0..self.observers).map(|seat| Ok((column(presence_of(seat))?, column(rtt_of(seat))?))).collect()
    }
}

fn presence_of(seat: u8) -> String {
    format!("observer.{seat}.presence")
}

fn rtt_of(seat: u8) -> String {
    format!("observer.{seat}.rtt-us")
}

/// What the observers saw of the member at `index`.
fn look(seats: &[Seat<'_>], seat: usize, index: usize) -> View {
    let code = |column: &[i64]| column.get(index).copied();
    let (presence, rtt_us) = seats.get(seat).map_or((None, None), |(seen, rtt)| (code(seen), code(rtt)));
    let presence = match presence {
        Some(0) => Presence::Down,
        Some(1) => Presence::Up,
        Some(_) | None => Presence::Unknown,
    };
    View { presence, rtt_us: rtt_us.and_then(|us| u32::try_from(us).ok()).unwrap_or_default() }
}

impl Policy for NtpPool {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let observers = config.integer("observers", 0, 0..=SEATS_MAX as u64)? as u8;
        let mut points = |key, default, most| config.integer(key, default, 0..=most).map(|value| value as i64 * POINT);
        let (listed, start, mail) = (points("listed", 10, 19)?, points("start", 0, 20)?, points("mail", 15, 100)?);
        let latency_percent = config.integer("latency_percent", 0, 0..=100)?;
        let mut secs = |key, default, least, most| config.integer(key, default, least..=most).map(|value| value as u32);
        let recent_secs = secs("recent_secs", 1_200, 1, 604_800)?;
        let fallback_secs = secs("fallback_secs", 2_700, 1, 604_800)?;
        let probe_secs = secs("probe_secs", 0, 0, 86_400)?;
        let slow_probe_secs = secs("slow_probe_secs", 0, 0, 86_400)?;
        if fallback_secs < recent_secs {
            return Err(format!("`fallback_secs` ({fallback_secs}) is below `recent_secs` ({recent_secs})"));
        }
        if recent_secs < probe_secs {
            return Err(format!(
                "`recent_secs` ({recent_secs}) is below `probe_secs` ({probe_secs}): no score would count"
            ));
        }
        let mail = -mail;
        Ok(Self {
            observers,
            listed,
            start,
            mail,
            latency_percent,
            recent_secs,
            fallback_secs,
            probe_secs,
            slow_probe_secs,
        })
    }

    fn about(&self) -> About {
        let about = About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .memory(8 * u32::from(self.observers.max(1)), "ntp-pool/1")
            .reasons(Why::texts(self));
        (0..self.observers).fold(about, |about, seat| about.extra(&presence_of(seat)).extra(&rtt_of(seat)))
    }
}

impl BanPolicy for NtpPool {
    fn judge(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Judgement, String> {
        let seats = self.seats(members)?;
        Ok(Judgement::each_with(members, memory, |row, block| {
            let scores = block.as_chunks_mut::<8>().0;
            if self.observers == 0 {
                let merged = View { presence: row.presence, rtt_us: row.rtt_us };
                self.judge_one(round, &row, |_| merged, scores)
            } else {
                self.judge_one(round, &row, |seat| look(&seats, seat, row.index), scores)
            }
        }))
    }
}

pingward_sdk::export_ban!(NtpPool);

#[cfg(test)]
mod tests;
