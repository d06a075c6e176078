//! Cosmos' signing window: the last so many rounds as bits, and how many of them were missed. More than the limit, once
//! a whole window has been seen, suspends for a time; after that the member must ask to come back, and starts anew.
//!
//! Config, the defaults of the SDK (the Hub's values: 10,000, 500 and 600):
//!
//! | key | default | bounds | |
//! |---|---|---|---|
//! | `window` | 100 | 1 to 32,672 | rounds in the window |
//! | `min_signed_bp` | 5,000 | 0 to 10,000 | share of the window, in basis points, that must be answered |
//! | `jail_secs` | 600 | 0 to 31,536,000 | seconds until it may ask to come back |
//!
//! - Memory is `window / 8 + 12` bytes: 25 for 100 rounds; 1,262 for 10,000, which needs a cluster setting.
//! - One round costs the same whatever the window: its bit replaces the oldest one, and the count follows.
//! - Unknown observations and suspect rounds move nothing: the window holds rounds in which the member could be seen.
//! - While it is suspended nothing is counted.

use pingward_sdk::{
    About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Row, Standing, Verdict, flag,
    reasons,
};

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    window: u16,
    missed_max: u16,
    jail_secs: u32,
}

reasons! {
    /// Why a member stands where it stands.
    enum Why of rule: &Window {
        Missed: format!("missed; strikes are the misses among the last {} rounds, {} are allowed", rule.window, rule.missed_max),
        TooMany: format!("missed more than {} of the last {} rounds: suspended for {} s", rule.missed_max, rule.window, rule.jail_secs),
        Waits: "is suspended; may ask to return when the time is over",
        MayAsk: "is suspended; the time is over, it may ask to return",
        Back: "asked to return: starts with an empty window",
        Unknown: "was not observed: nothing moves",
    }
}

/// The fixed part of a member's memory; a bit for each round of the window, 1 = missed, follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// Where the next round's bit goes.
    index: u16,
    /// Bits that are set.
    missed: u16,
    /// Rounds since the start.
    counted: u32,
    /// Seconds since 1970 from which it may come back; 0 = it is not suspended.
    until_secs: u32,
}

const HEAD: usize = 12;

impl Head {
    const fn read(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            index: u16::from_le_bytes([a, b]),
            missed: u16::from_le_bytes([c, d]),
            counted: u32::from_le_bytes([e, f, g, h]),
            until_secs: u32::from_le_bytes([i, j, k, l]),
        }
    }

    const fn write(self, bytes: &mut [u8; HEAD]) {
        let ([a, b], [c, d]) = (self.index.to_le_bytes(), self.missed.to_le_bytes());
        let ([e, f, g, h], [i, j, k, l]) = (self.counted.to_le_bytes(), self.until_secs.to_le_bytes());
        *bytes = [a, b, c, d, e, f, g, h, i, j, k, l];
    }
}

impl Window {
    /// What becomes of one member after one round.
    fn judge_one(&self, round: &Round, row: &Row, head: &mut Head, ring: &mut [u8]) -> Verdict {
        let now = round.now_ms / 1_000;
        if round.suspect || row.presence == Presence::Unknown {
            let until = rounds(round, head.until_secs, now);
            return Verdict { until, ..Verdict::stay(row).because(Why::Unknown) };
        }
        if head.until_secs != 0 {
            return self.suspended(round, row, head, now);
        }
        let missed = row.presence == Presence::Down;
        self.count(missed, head, ring);
        if head.counted > u32::from(self.window) && head.missed > self.missed_max {
            let until = now.saturating_add(self.jail_secs.into());
            *head = Head { until_secs: until.clamp(1, u32::MAX.into()) as u32, ..Head::default() };
            ring.fill(0);
            return waits(rounds(round, head.until_secs, now)).because(Why::TooMany);
        }
        let reason = (missed).then_some(Why::Missed);
        Verdict { standing: Standing::Good, strikes: head.missed, until: 0, reason: reason.into() }
    }

    /// It comes back when its time is over and it asks.
    fn suspended(&self, round: &Round, row: &Row, head: &mut Head, now: u64) -> Verdict {
        if now < head.until_secs.into() {
            return waits(rounds(round, head.until_secs, now)).because(Why::Waits);
        }
        if row.flags & flag::ASKED_TO_RETURN == 0 {
            return waits(0).because(Why::MayAsk);
        }
        *head = Head::default();
        Verdict::new(Standing::Good).because(Why::Back)
    }

    /// Puts a round's bit in place of the oldest one.
    fn count(&self, missed: bool, head: &mut Head, ring: &mut [u8]) {
        let index = usize::from(head.index);
        let Some(byte) = ring.get_mut(index / 8) else { return };
        let bit = 1 << (index % 8);
        head.missed -= u16::from(*byte & bit != 0 && head.missed > 0);
        head.missed += u16::from(missed);
        *byte = if missed { *byte | bit } else { *byte & !bit };
        head.index = if head.index.saturating_add(1) < self.window { head.index + 1 } else { 0 };
        head.counted = head.counted.saturating_add(1);
    }

    fn memory_bytes(&self) -> u32 {
        HEAD as u32 + u32::from(self.window).div_ceil(8)
    }
}

const fn waits(until: u32) -> Verdict {
    Verdict::new(Standing::Suspended).until(until)
}

/// Rounds until a time; 0 when it is over: a follower asks to return once nothing is said of an earliest return.
fn rounds(round: &Round, until_secs: u32, now: u64) -> u32 {
    let left_ms = u64::from(until_secs).saturating_sub(now) * 1_000;
    left_ms.div_ceil(round.interval_ms.max(1)).min(u32::MAX.into()) as u32
}

impl Policy for Window {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let window = config.integer("window", 100, 1..=32_672)?;
        let min_signed_bp = config.integer("min_signed_bp", 5_000, 0..=10_000)?;
        let jail_secs = config.integer("jail_secs", 600, 0..=31_536_000)? as u32;
        // Rounded to the nearest, as there.
        let min_signed = (window * min_signed_bp + 5_000) / 10_000;
        Ok(Self { window: window as u16, missed_max: (window - min_signed) as u16, jail_secs })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .memory(self.memory_bytes(), &format!("cosmos-window/1/{}", self.window))
            .reasons(Why::texts(self))
    }
}

impl BanPolicy for Window {
    fn judge(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Judgement, String> {
        Ok(Judgement::each_with(members, memory, |row, block| {
            let Some((bytes, ring)) = block.split_first_chunk_mut::<HEAD>() else { return Verdict::stay(&row) };
            let mut head = Head::read(bytes);
            let verdict = self.judge_one(round, &row, &mut head, ring);
            head.write(bytes);
            verdict
        }))
    }
}

pingward_sdk::export_ban!(Window);

#[cfg(test)]
mod tests;
