//! How long a follower waits before it tries again. Nobody comes back at the same moment as the others.

use std::time::Duration;

use kernel::limits::{BACKOFF_MS, REFUSED_WAIT_MS};
use kernel::members::Refusal;
use wire::message::Welcome;

/// Cap of the backoff before any super has told one: half the grace at default settings.
const CAP_MS: u64 = 15_000;
/// A super cannot send a follower further away than this after a loss.
const SPREAD_MS: u64 = 60_000;
/// First wait after a refusal that only an operator can lift; it doubles.
const OPERATOR_MS: u64 = 5_000;

/// A small generator: nothing secret depends on it.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// From the system's randomness.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn seeded() -> Result<Self, getrandom::Error> {
        getrandom::u64().map(Self)
    }

    /// The same throws for the same seed.
    #[cfg(test)]
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to and without `end`; 0 when there is nothing between (splitmix64).
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of the product: even enough for a wait.
        ((u128::from(z) * u128::from(end)) >> 64) as u64
    }
}

/// What one super told about coming back, and how often it could not be reached since.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    spread_ms: u64,
    cap_ms: u64,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { spread_ms: 1_000, cap_ms: CAP_MS, failures: 0 }
    }
}

impl Backoff {
    /// A super welcomed us: its numbers count from here, and failures are forgotten.
    pub fn welcomed(&mut self, welcome: &Welcome) {
        self.spread_ms = welcome.reconnect_spread_ms.clamp(1, SPREAD_MS);
        self.cap_ms = welcome.backoff_cap_ms.clamp(BACKOFF_MS, REFUSED_WAIT_MS);
        self.failures = 0;
    }

    /// After a stream was lost: anywhere in the spread, because all the others lost theirs too.
    #[must_use]
    pub fn after_loss(&self, dice: &mut Dice) -> Duration {
        Duration::from_millis(dice.below(self.spread_ms))
    }

    /// After an attempt that got no answer: doubles from 0.5 s up to the cap; between half of it and all of it.
    pub fn after_failure(&mut self, dice: &mut Dice) -> Duration {
        let whole = doubled(BACKOFF_MS, self.failures).min(self.cap_ms);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(whole - dice.below(whole / 2 + 1))
    }

    /// After a refusal: until the earliest return or the time that the super gives, at most 10 min; what only an
    /// operator can lift is asked again more and more seldom.
    pub fn after_refusal(&mut self, refusal: &Refusal, now_ms: u64, dice: &mut Dice) -> Duration {
        let asked = match refusal {
            Refusal::Banned { until_ms, .. } => until_ms.saturating_sub(now_ms),
            Refusal::Busy { retry_ms } | Refusal::SlowDown { retry_ms } => *retry_ms,
            // A super of an earlier release tells no time.
            Refusal::Full { retry_ms, .. } => (*retry_ms).max(OPERATOR_MS),
            Refusal::WrongCluster { .. }
            | Refusal::Outdated { .. }
            | Refusal::PortMismatch { .. }
            | Refusal::PortTaken
            | Refusal::WrongRole
            | Refusal::Malformed { .. } => doubled(OPERATOR_MS, self.failures),
        };
        self.failures = self.failures.saturating_add(1);
        // Never early: a ban is over when it is over. Near the longest wait the jitter goes the other way.
        let wait = asked.max(BACKOFF_MS).saturating_add(dice.below(asked.min(REFUSED_WAIT_MS) / 10 + BACKOFF_MS));
        if wait <= REFUSED_WAIT_MS {
            return Duration::from_millis(wait);
        }
        Duration::from_millis(REFUSED_WAIT_MS - dice.below(REFUSED_WAIT_MS / 10))
    }

    /// After something that is wrong here, such as a key that is not the pinned one.
    pub fn after_error(&mut self, dice: &mut Dice) -> Duration {
        let whole = doubled(OPERATOR_MS, self.failures).min(REFUSED_WAIT_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(whole - dice.below(whole / 4 + 1))
    }
}

fn doubled(from_ms: u64, times: u32) -> u64 {
    from_ms.saturating_mul(1 << times.min(20))
}

#[cfg(test)]
mod tests {
    use kernel::id::{ClusterId, RoundId};

    use super::*;

    fn welcome(reconnect_spread_ms: u64, backoff_cap_ms: u64) -> Welcome {
        Welcome {
            cluster: ClusterId::default(),
            leader: None,
            interval_ms: 1_000,
            timeout_ms: 250,
            settings_version: 1,
            reconnect_spread_ms,
            backoff_cap_ms,
            supers: Vec::new(),
            observers: 0,
            set_version: 0,
            policies: None,
        }
    }

    #[test]
    fn the_backoff_doubles_up_to_half_the_grace_and_starts_anew_after_a_welcome() {
        let mut dice = Dice::from_seed(1);
        let mut backoff = Backoff::default();
        backoff.welcomed(&welcome(1_000, 1_500));
        for most in [500, 1_000, 1_500, 1_500, 1_500] {
            let wait = backoff.after_failure(&mut dice).as_millis() as u64;
            assert!((most / 2..=most).contains(&wait), "{wait} of {most}");
        }
        backoff.welcomed(&welcome(1_000, 1_500));
        assert!(backoff.after_failure(&mut dice).as_millis() <= 500);
    }

    #[test]
    fn after_a_loss_everybody_comes_back_somewhere_in_the_spread() {
        let mut dice = Dice::from_seed(2);
        let mut backoff = Backoff::default();
        backoff.welcomed(&welcome(10_000, 1_500));
        let mut tenths = [0; 10];
        for _ in 0..1_000 {
            tenths[backoff.after_loss(&mut dice).as_millis() as usize / 1_000] += 1;
        }
        assert!(tenths.iter().all(|n| (50..200).contains(n)), "{tenths:?}");
        backoff.welcomed(&welcome(u64::MAX, u64::MAX));
        assert!(backoff.after_loss(&mut dice) <= Duration::from_secs(60));
    }

    #[test]
    fn a_ban_is_waited_out_but_never_longer_than_ten_minutes_at_once() {
        let mut dice = Dice::from_seed(3);
        for (left_ms, least, most) in
            [(0, 500, 1_000), (5_000, 5_000, 6_000), (600_000, 540_000, 600_000), (u64::MAX / 2, 540_000, 600_000)]
        {
            for _ in 0..100 {
                let refusal = Refusal::Banned { until: RoundId(9), until_ms: 1_000 + left_ms, reason: String::new() };
                let wait = Backoff::default().after_refusal(&refusal, 1_000, &mut dice).as_millis() as u64;
                assert!((least..=most).contains(&wait), "{left_ms}: {wait}");
            }
        }
    }

    #[test]
    fn what_only_an_operator_can_lift_is_asked_more_and_more_seldom() {
        let mut dice = Dice::from_seed(4);
        let mut backoff = Backoff::default();
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            let wait = backoff.after_refusal(&Refusal::PortTaken, 0, &mut dice);
            assert!(wait > last);
            last = wait;
        }
        for _ in 0..100 {
            assert!(backoff.after_refusal(&Refusal::WrongRole, 0, &mut dice) <= Duration::from_secs(600));
        }
    }

    #[test]
    fn throws_stay_below_their_end() {
        let mut dice = Dice::from_seed(5);
        assert_eq!(dice.below(0), 0);
        assert!((0..1_000).all(|_| dice.below(3) < 3));
    }

    #[test]
    fn who_finds_no_room_comes_back_when_the_super_says() {
        let mut dice = Dice::from_seed(5);
        let mut backoff = Backoff::default();
        // However often it is told: room does not become less likely.
        for _ in 0..100 {
            let refusal = Refusal::Full { what: String::new(), retry_ms: 100_000 };
            let wait = backoff.after_refusal(&refusal, 0, &mut dice).as_millis() as u64;
            assert!((100_000..=111_000).contains(&wait), "{wait}");
        }
        let untold = Refusal::Full { what: String::new(), retry_ms: 0 };
        assert!(backoff.after_refusal(&untold, 0, &mut dice) >= Duration::from_millis(OPERATOR_MS));
    }
}
