//! RIPE Atlas' credits: so many for each minute connected, ten times as many for an anchor, posted once in a while.
//!
//! Config:
//!
//! | key | default | bounds | |
//! |---|---|---|---|
//! | `credits_per_minute` | 15 | 0 to 60,000 | points for a minute; times the factor a divisor of 60,000, so that a point is whole milliseconds |
//! | `anchor_class` | 1 | 0 to 4,294,967,295 | `class` of anchors; 0: there are none |
//! | `anchor_factor` | 10 | 1 to 60,000 | an anchor earns so many times as much |
//! | `post_secs` | 60 | 0 to 2,592,000 | points are posted when the clock passes a multiple of it; 0: every round |
//!
//! - An up round is worth its configured length. What is no whole point yet is carried.
//! - Posting once a day, as the original does, is `post_secs = 86400`; it needs a higher `guardrails.points_member`.
//! - Unknown observations move nothing, neither what is owed nor what is paid; in a suspect round who is up is paid.
//! - A suspended member earns nothing; what it was owed is posted when it is paid again.

use pingward_sdk::{
    About, Config, Members, Memory, Pay, Policy, Presence, RewardPolicy, Round, Row, Settlement, reasons,
};

const MINUTE_MS: u64 = 60_000;

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct Credits {
    credits_per_minute: u64,
    anchor_class: u32,
    anchor_factor: u64,
    post_secs: u64,
}

reasons! {
    /// Why a member got its points.
    enum Why of rule: &Credits {
        Posted: format!("connected: {} points a minute, posted in this round", rule.credits_per_minute),
        Counted: "connected: counted, not yet posted",
        Down: "did not answer",
        Unknown: "was not observed: nothing moves",
        NotPaid: "is suspended; what it is owed stays",
    }
}

/// Milliseconds connected that are no points yet: 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owed {
    ms: u32,
}

impl Owed {
    const fn read(bytes: [u8; 4]) -> Self {
        Self { ms: u32::from_le_bytes(bytes) }
    }

    const fn write(self) -> [u8; 4] {
        self.ms.to_le_bytes()
    }

    fn plus(self, ms: u64) -> Self {
        Self { ms: self.ms.saturating_add(u32::try_from(ms).unwrap_or(u32::MAX)) }
    }

    /// Whole points at so many a minute, and what is left over.
    fn post(self, per_minute: u64) -> (u64, Self) {
        let Some(point_ms) = MINUTE_MS.checked_div(per_minute) else { return (0, Self::default()) };
        let ms = u64::from(self.ms);
        (ms / point_ms, Self { ms: (ms % point_ms) as u32 })
    }
}

impl Credits {
    /// What one member gets for one round.
    fn pay_one(&self, round: &Round, row: &Row, owed: &mut Owed) -> Pay {
        let reason = match row.presence {
            Presence::Unknown => return Pay::NOTHING.because(Why::Unknown),
            Presence::Down if round.suspect => return Pay::NOTHING.because(Why::Unknown),
            Presence::Down | Presence::Up if !row.standing.is_paid() => {
                return Pay::NOTHING.because(Why::NotPaid);
            }
            Presence::Down => Why::Down,
            Presence::Up => {
                *owed = owed.plus(round.interval_ms);
                Why::Counted
            }
        };
        if !self.is_posted_in(round) {
            return Pay::NOTHING.because(reason);
        }
        let (points, rest) = owed.post(self.per_minute(row));
        *owed = rest;
        Pay::points(points as i64).because(if points > 0 { Why::Posted } else { reason })
    }

    fn per_minute(&self, row: &Row) -> u64 {
        let is_anchor = self.anchor_class != 0 && row.class == self.anchor_class;
        self.credits_per_minute * if is_anchor { self.anchor_factor } else { 1 }
    }

    /// Whether the clock passed a multiple of `post_secs` since the settlement before.
    fn is_posted_in(&self, round: &Round) -> bool {
        let period = |ms: u64| ms.checked_div(self.post_secs * 1_000);
        self.post_secs == 0 || period(round.now_ms) != period(round.now_ms.saturating_sub(round.elapsed_ms))
    }
}

impl Policy for Credits {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let credits_per_minute = config.integer("credits_per_minute", 15, 0..=MINUTE_MS)?;
        let anchor_class = config.integer("anchor_class", 1, 0..=u32::MAX.into())? as u32;
        let anchor_factor = config.integer("anchor_factor", 10, 1..=MINUTE_MS)?;
        let post_secs = config.integer("post_secs", 60, 0..=2_592_000)?;
        let of_anchors = credits_per_minute * anchor_factor;
        if of_anchors > 0 && !MINUTE_MS.is_multiple_of(of_anchors) {
            return Err(format!(
                "`credits_per_minute` times `anchor_factor` ({of_anchors}) does not divide 60000: a point would be no \
                 whole number of milliseconds"
            ));
        }
        Ok(Self { credits_per_minute, anchor_class, anchor_factor, post_secs })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .memory(4, "ripe-atlas/1")
            .reasons(Why::texts(self))
    }
}

impl RewardPolicy for Credits {
    fn settle(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Settlement, String> {
        Ok(Settlement::each_with(members, memory, |row, block| {
            let Some(bytes) = block.first_chunk_mut() else { return Pay::default() };
            let mut owed = Owed::read(*bytes);
            let pay = self.pay_one(round, &row, &mut owed);
            *bytes = owed.write();
            pay
        }))
    }
}

pingward_sdk::export_reward!(Credits);

#[cfg(test)]
mod tests;
