//! Storj's online score: the mean of half-day windows over thirty days. Below 60 % a member is suspended and comes under
//! review; the suspension goes with the score, the review lasts for the grace and another thirty days.
//!
//! Config:
//!
//! | key | default | bounds | |
//! |---|---|---|---|
//! | `window_secs` | 43,200 | 60 to 2,592,000 | length of a window; windows begin at multiples of it since 1970 |
//! | `windows` | 60 | 1 to 360 | complete windows of the period: 60 half days are 30 days |
//! | `online_bp` | 6,000 | 0 to 10,000 | a score below this many basis points suspends |
//! | `grace_secs` | 604,800 | 0 to 31,536,000 | a review lasts so long and a period more |
//! | `disqualify` | false | | whether a score that is low when the review is over bans for good |
//! | `stray` | true | | whether a member that was never up in a whole period is banned for good |
//!
//! - Memory is `4 * (windows + 1) + 12` bytes: 256 for 60 windows. Above that it needs a cluster setting.
//! - The window that goes on does not count yet. A window in which the member was never observed is absent: the period is
//!   then not full, and nobody is suspended by it.
//! - Exactly the limit is good: ratios are added with 47 digits after the point, rounded up.
//! - Unknown observations and suspect rounds move nothing.
//! - For good means: banned for as long as the host allows, and again whenever it returns. `bans lift` ends it.

use pingward_sdk::{
    About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Row, Standing, Verdict, reasons,
};

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct Online {
    window_secs: u64,
    windows: u32,
    online_bp: u64,
    grace_secs: u64,
    disqualify: bool,
    stray: bool,
}

reasons! {
    /// Why a member stands where it stands.
    enum Why of rule: &Online {
        Suspended: format!("online score is below {}.{:02} %: suspended while it is", rule.online_bp / 100, rule.online_bp % 100),
        Review: "online score is good; the review goes on",
        Disqualified: "online score was too low when the review was over: banned for good",
        Stray: format!("never answered in {} windows of {} s: banned for good", rule.windows, rule.window_secs),
        WarmUp: format!("not judged: {} windows must have been observed", rule.windows),
        Unknown: "was not observed: nothing moves",
    }
}

/// One window of a member: how often it was observed, and how often it was up. All zero: absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    up: u16,
    seen: u16,
}

impl Window {
    const fn read(bytes: [u8; 4]) -> Self {
        let both = u32::from_le_bytes(bytes);
        Self { up: both as u16, seen: (both >> 16) as u16 }
    }

    const fn write(self) -> [u8; 4] {
        ((self.seen as u32) << 16 | self.up as u32).to_le_bytes()
    }

    /// Beyond 65,535 observations, more than any round length of a second makes in half a day, a window is full.
    const fn plus(self, is_up: bool) -> Self {
        if self.seen == u16::MAX {
            return self;
        }
        Self { up: self.up + is_up as u16, seen: self.seen + 1 }
    }

    /// Up over seen, rounded up; [`ONE`] is all. `None` where it is absent. Most windows are all or nothing.
    const fn ratio(self) -> Option<u64> {
        match self {
            Self { seen: 0, .. } => None,
            Self { up: 0, .. } => Some(0),
            Self { up, seen } if up == seen => Some(ONE),
            Self { up, seen } => Some(((up as u64) << DIGITS).div_ceil(seen as u64)),
        }
    }
}

const DIGITS: u32 = 47;
const ONE: u64 = 1 << DIGITS;

/// The fixed part of a member's memory; its windows follow, each at its number modulo how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// Number of the newest window.
    newest: u32,
    /// Seconds since 1970; 0 = it is not.
    suspended_since: u32,
    /// Seconds since 1970; 0 = it is not. [`FOR_GOOD`] and [`STRAYED`] end every review.
    review_since: u32,
}

const HEAD: usize = 12;
const FOR_GOOD: u32 = u32::MAX;
const STRAYED: u32 = u32::MAX - 1;

impl Head {
    const fn read(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            newest: u32::from_le_bytes([a, b, c, d]),
            suspended_since: u32::from_le_bytes([e, f, g, h]),
            review_since: u32::from_le_bytes([i, j, k, l]),
        }
    }

    const fn write(self, bytes: &mut [u8; HEAD]) {
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) =
            (self.newest.to_le_bytes(), self.suspended_since.to_le_bytes(), self.review_since.to_le_bytes());
        *bytes = [a, b, c, d, e, f, g, h, i, j, k, l];
    }
}

/// A period's score: the sum of its windows' ratios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Score {
    sum: u64,
    windows: u64,
}

impl Score {
    /// Compared by cross-multiplication.
    fn is_below(self, limit_bp: u64) -> bool {
        u128::from(self.sum) * 10_000 < u128::from(limit_bp) * u128::from(self.windows) * u128::from(ONE)
    }

    /// Whole percent of the period in which it was offline, rounded down.
    fn offline_percent(self) -> u16 {
        let online = (u128::from(self.sum) * 100).div_ceil(u128::from(self.windows.max(1)) * u128::from(ONE));
        100_u16.saturating_sub(online as u16)
    }
}

impl Online {
    /// What becomes of one member after one round.
    fn judge_one(&self, round: &Round, row: &Row, head: &mut Head, ring: &mut [[u8; 4]]) -> Verdict {
        let now = round.now_ms / 1_000;
        if round.suspect || row.presence == Presence::Unknown {
            let until = if row.standing == Standing::Suspended { self.next_window(round) } else { 0 };
            return Verdict { until, ..Verdict::stay(row).because(Why::Unknown) };
        }
        if let Some(banned) = for_good(head) {
            return banned;
        }
        let window = (now / self.window_secs) as u32;
        open(window, head, ring);
        if let Some(bytes) = ring.get_mut(place(window, ring.len())) {
            *bytes = Window::read(*bytes).plus(row.presence == Presence::Up).write();
        }
        let full = period(window, ring);
        self.review(full, now as u32, head);
        if self.stray && full.is_some() && ring.iter().all(|bytes| Window::read(*bytes).up == 0) {
            head.review_since = STRAYED;
        }
        for_good(head).unwrap_or_else(|| self.verdict(round, full, head))
    }

    /// In and out of suspension, into and out of review. `full`: the score, where there is one to judge by.
    fn review(&self, full: Option<Score>, now: u32, head: &mut Head) {
        let is_low = full.is_some_and(|score| score.is_below(self.online_bp));
        match (is_low, head.suspended_since) {
            (true, 0) => head.suspended_since = now.max(1),
            (true, _) => {}
            (false, _) => head.suspended_since = 0,
        }
        if head.review_since == 0 {
            head.review_since = head.suspended_since;
        } else if u64::from(now) > u64::from(head.review_since) + self.grace_secs + self.period_secs() {
            match (is_low, self.disqualify) {
                (true, true) => head.review_since = FOR_GOOD,
                (true, false) => {}
                (false, _) => head.review_since = 0,
            }
        }
    }

    fn verdict(&self, round: &Round, full: Option<Score>, head: &Head) -> Verdict {
        let strikes = full.map_or(0, Score::offline_percent);
        if head.suspended_since != 0 {
            // The score stays what it is until the next window begins.
            let until = self.next_window(round);
            return Verdict { standing: Standing::Suspended, strikes, until, reason: Why::Suspended.into() };
        }
        let reason = match (head.review_since, full) {
            (0, Some(_)) => None,
            (0, None) => Some(Why::WarmUp),
            (_, _) => Some(Why::Review),
        };
        Verdict { standing: Standing::Good, strikes, until: 0, reason: reason.into() }
    }

    const fn period_secs(&self) -> u64 {
        self.window_secs * self.windows as u64
    }

    /// Rounds until the next window begins.
    fn next_window(&self, round: &Round) -> u32 {
        let window_ms = self.window_secs * 1_000;
        let left_ms = window_ms - round.now_ms % window_ms;
        left_ms.div_ceil(round.interval_ms.max(1)).clamp(1, u32::MAX.into()) as u32
    }

    const fn memory_bytes(&self) -> u32 {
        HEAD as u32 + 4 * (self.windows + 1)
    }
}

/// The host cuts it to the longest ban that it allows.
fn for_good(head: &Head) -> Option<Verdict> {
    let reason = match head.review_since {
        FOR_GOOD => Why::Disqualified,
        STRAYED => Why::Stray,
        _ => return None,
    };
    Some(Verdict { standing: Standing::Banned, strikes: 100, until: u32::MAX, reason: reason.into() })
}

const fn place(window: u32, len: usize) -> usize {
    if len == 0 { 0 } else { window as usize % len }
}

/// Makes a window the newest one, and those before it that nobody saw absent.
fn open(window: u32, head: &mut Head, ring: &mut [[u8; 4]]) {
    let passed = window.saturating_sub(head.newest);
    for ahead in 0..passed.min(ring.len() as u32) {
        if let Some(bytes) = ring.get_mut(place(window - ahead, ring.len())) {
            *bytes = Window::default().write();
        }
    }
    head.newest = head.newest.max(window);
}

/// The score of the complete windows; `None` unless each of them was observed.
fn period(window: u32, ring: &[[u8; 4]]) -> Option<Score> {
    let newest = place(window, ring.len());
    let mut sum = 0;
    for (at, bytes) in ring.iter().enumerate() {
        if at != newest {
            sum += Window::read(*bytes).ratio()?;
        }
    }
    Some(Score { sum, windows: ring.len() as u64 - 1 })
}

impl Policy for Online {
    fn configure(config: &mut Config) -> Result<Self, String> {
        Ok(Self {
            window_secs: config.integer("window_secs", 43_200, 60..=2_592_000)?,
            windows: config.integer("windows", 60, 1..=360)? as u32,
            online_bp: config.integer("online_bp", 6_000, 0..=10_000)?,
            grace_secs: config.integer("grace_secs", 604_800, 0..=31_536_000)?,
            disqualify: config.boolean("disqualify", false)?,
            stray: config.boolean("stray", true)?,
        })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .memory(self.memory_bytes(), &format!("storj-online/1/{}", self.window_secs))
            .reasons(Why::texts(self))
    }
}

impl BanPolicy for Online {
    fn judge(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Judgement, String> {
        Ok(Judgement::each_with(members, memory, |row, block| {
            let Some((bytes, windows)) = block.split_first_chunk_mut::<HEAD>() else { return Verdict::stay(&row) };
            let mut head = Head::read(bytes);
            let verdict = self.judge_one(round, &row, &mut head, windows.as_chunks_mut::<4>().0);
            head.write(bytes);
            verdict
        }))
    }
}

pingward_sdk::export_ban!(Online);

#[cfg(test)]
mod tests;
