//! What a flaky follower does: earn, fall silent, be banned, come back, claim too much, then claim honestly, and again.
//!
//! The script goes by what the cluster decided, not by the clock: another ban rule or another length of round changes
//! when its steps come, not their order.

use kernel::standing::Standing;

/// By how much an over-claim is too much: a penalty that is seen and still leaves something.
pub const EXCESS: u64 = 50;
/// Rounds between two flaky followers' silences, so that their steps can be told apart.
const STAGGER_ROUNDS: u32 = 2;
/// Rounds of silence after which it gives up waiting for a ban: the rule may be one that never bans.
const SILENT_ROUNDS: u32 = 30;
/// Rounds of good behaviour before it begins again.
const GOOD_ROUNDS: u32 = 12;

/// What it does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Stops answering.
    FallSilent,
    /// Answers again, or asks to be let in again.
    Return {
        /// It is banned.
        banned: bool,
    },
    /// Claims more than it earned.
    Overclaim,
    /// Claims what it earned.
    ClaimAll,
}

/// What it and everybody can see of it after a settled round.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its standing.
    pub standing: Standing,
    /// Earned points.
    pub earned: i64,
    /// It is in the queue.
    pub is_queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Earning { rounds: u32 },
    Silent { rounds: u32 },
    SittingOut,
    Claiming,
}

/// One flaky follower.
#[derive(Clone, Debug)]
pub struct Flaky {
    name: String,
    phase: Phase,
}

impl Flaky {
    /// The one at this place among the flaky ones: later ones begin later.
    pub fn new(name: String, at: usize) -> Self {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        Self { name, phase: Phase::Earning { rounds: at.saturating_mul(STAGGER_ROUNDS) } }
    }

    /// Which follower it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// After each settled round: what it does now, if anything.
    pub fn step(&mut self, seen: Seen) -> Option<Act> {
        let (phase, act) = match self.phase {
            // A run on a kept folder may begin in the middle of a ban.
            Phase::Earning { .. } if seen.standing == Standing::Banned => (Phase::SittingOut, None),
            Phase::Earning { rounds: 0 } if seen.is_queued && seen.earned > 0 => {
                (Phase::Silent { rounds: SILENT_ROUNDS }, Some(Act::FallSilent))
            }
            Phase::Earning { rounds } if seen.is_queued => (Phase::Earning { rounds: rounds.saturating_sub(1) }, None),
            Phase::Earning { rounds } => (Phase::Earning { rounds }, None),
            Phase::Silent { .. } if seen.standing == Standing::Banned => {
                (Phase::SittingOut, Some(Act::Return { banned: true }))
            }
            Phase::Silent { rounds: 0 } => {
                (Phase::Earning { rounds: GOOD_ROUNDS }, Some(Act::Return { banned: false }))
            }
            Phase::Silent { rounds } => (Phase::Silent { rounds: rounds - 1 }, None),
            Phase::SittingOut if seen.is_queued && seen.standing != Standing::Banned => {
                (Phase::Claiming, Some(Act::Overclaim))
            }
            Phase::SittingOut => (Phase::SittingOut, None),
            Phase::Claiming if seen.earned > 0 => (Phase::Earning { rounds: GOOD_ROUNDS }, Some(Act::ClaimAll)),
            Phase::Claiming => (Phase::Claiming, None),
        };
        self.phase = phase;
        act
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(standing: Standing, earned: i64) -> Seen {
        Seen { standing, earned, is_queued: standing != Standing::Banned }
    }

    #[test]
    fn the_whole_script_is_played_within_fifteen_rounds() {
        let mut flaky = Flaky::new("f".into(), 0);
        let mut acts = Vec::new();
        let mut round = |flaky: &mut Flaky, n: u32, seen: Seen| acts.extend(flaky.step(seen).map(|act| (n, act)));
        round(&mut flaky, 1, seen(Standing::Good, 0));
        round(&mut flaky, 2, seen(Standing::Good, 10));
        for (n, standing) in [(3, Standing::Warned), (4, Standing::Suspended), (5, Standing::Suspended)] {
            round(&mut flaky, n, seen(standing, 20));
        }
        for n in 6..=11 {
            round(&mut flaky, n, seen(Standing::Banned, 20));
        }
        round(&mut flaky, 12, seen(Standing::Probation, 20));
        round(&mut flaky, 13, seen(Standing::Probation, 30));
        round(&mut flaky, 14, seen(Standing::Probation, 35));
        assert_eq!(
            acts,
            [(2, Act::FallSilent), (6, Act::Return { banned: true }), (12, Act::Overclaim), (13, Act::ClaimAll)]
        );
    }

    #[test]
    fn a_rule_that_never_bans_does_not_end_the_script() {
        let mut flaky = Flaky::new("f".into(), 0);
        let acts: Vec<Act> = (0..100).filter_map(|_| flaky.step(seen(Standing::Good, 10))).collect();
        assert!(acts.starts_with(&[Act::FallSilent, Act::Return { banned: false }, Act::FallSilent]), "{acts:?}");
    }

    #[test]
    fn later_ones_begin_later() {
        let first = |at| {
            let mut flaky = Flaky::new("f".into(), at);
            (0..50).position(|_| flaky.step(seen(Standing::Good, 10)).is_some())
        };
        assert_eq!((first(0), first(1), first(2)), (Some(0), Some(2), Some(4)));
    }
}
