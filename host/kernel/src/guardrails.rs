//! Bounds on what a policy may decide, so that a wrong rule is a nuisance and no disaster (PROTOCOLS 5.9, 5.11, 7).
//!
//! An answer of the wrong shape, with a memory that changed too much or with too many points is a *fault*: the neutral
//! decision stands in its place. Single numbers out of bounds are *clamped*. Bans beyond the cap of a round are
//! *deferred*, and members put out beyond the cap over time are *held* back, because a fault there would jam the slot and
//! throw out a good policy whenever a data centre goes.

use alloc::format;
use alloc::vec::Vec;

use crate::command::{BanColumns, RewardColumns};
use crate::decide::{self, Description, Fault, FaultKind, Tariff};
use crate::id::RoundId;
use crate::policies::inflate_delta;
use crate::settings::Settings;
use crate::units::BasisPoints;

/// The fault of a reward policy whose positive points sum to more than the cap of a round. Not a clamp: a cut sum has no
/// fair order.
///
/// # Errors
/// [`FaultKind::Points`].
pub fn check_points(points: &[i64], settings: &Settings) -> Result<(), Fault> {
    let given: i128 = points.iter().filter(|points| **points > 0).map(|points| i128::from(*points)).sum();
    let cap = i128::from(settings.points_member) * points.len() as i128;
    if given <= cap {
        return Ok(());
    }
    let text = format!("{given} points for {} members; guardrails.points_member allows {cap}", points.len());
    Err(Fault::new(FaultKind::Points, &text))
}

/// The fault of a policy whose memory changed by more than may go through the log.
///
/// # Errors
/// [`FaultKind::Delta`].
pub fn check_delta(delta: &[u8], population: usize, settings: &Settings) -> Result<(), Fault> {
    let cap = settings.delta_base_bytes.saturating_add(settings.delta_member_bytes.saturating_mul(population as u64));
    if delta.len() as u64 <= cap {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::Delta,
        &format!("the change of memory has {} bytes, at most {cap} are taken", delta.len()),
    ))
}

/// Whether penalty and fees are within their bounds.
pub(crate) const fn tariff_fits(tariff: &Tariff, settings: &Settings) -> bool {
    let max = settings.tariff_max;
    tariff.overclaim_bp <= BasisPoints::WHOLE
        && tariff.overclaim_min as u64 <= max
        && tariff.record_fee as u64 <= max
        && tariff.record_fee_kib as u64 <= max
}

/// Checks a ban policy's columns as they came through the log; gives the change of memory, one row a member.
pub(crate) fn check_ban(
    columns: &BanColumns,
    population: usize,
    description: &Description,
    settings: &Settings,
) -> Result<Vec<u8>, Fault> {
    decide::lengths(
        &[
            ("strikes", columns.strikes.len()),
            ("standing", columns.standing.len()),
            ("until", columns.until.len()),
            ("reasons", columns.reasons.len()),
        ],
        population,
    )?;
    decide::standings(&columns.standing)?;
    decide::reasons(&columns.reasons, description)?;
    memory_change(&columns.delta, population, description, settings)
}

/// Checks a reward policy's columns as they came through the log; gives the change of memory, one row a member.
pub(crate) fn check_reward(
    columns: &RewardColumns,
    population: usize,
    description: &Description,
    settings: &Settings,
) -> Result<Vec<u8>, Fault> {
    decide::lengths(&[("points", columns.points.len()), ("reasons", columns.reasons.len())], population)?;
    decide::reasons(&columns.reasons, description)?;
    check_points(&columns.points, settings)?;
    memory_change(&columns.delta, population, description, settings)
}

fn memory_change(
    delta: &[u8],
    population: usize,
    description: &Description,
    settings: &Settings,
) -> Result<Vec<u8>, Fault> {
    check_delta(delta, population, settings)?;
    let size = population.saturating_mul(description.memory_bytes as usize);
    inflate_delta(delta, size)
        .ok_or_else(|| Fault::new(FaultKind::Delta, &format!("the change of memory does not inflate to {size} bytes")))
}

/// A member that the ban policy wants to put out: to move to suspended or banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutOut {
    /// Its last round up: those that are missing longest go first.
    pub last_up: RoundId,
    /// Its place in the queue, which is in order of key.
    pub at: usize,
    /// It is to be banned.
    pub ban: bool,
    /// It was put out within the span already, so that it does not count again.
    pub counted: bool,
}

/// What becomes of a wish to put a member out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It takes effect.
    Stands,
    /// Over the bans of a round: suspended for now, judged again in the next round.
    Deferred,
    /// Over the cap over time: it keeps its standing until an operator accepts.
    Held,
}

/// Rules on all wishes of a round. `counted` = distinct members put out within the span so far, the members of the
/// queue that are named in `wishes` included.
pub(crate) fn rule(
    mut wishes: Vec<PutOut>,
    queue: usize,
    counted: usize,
    settings: &Settings,
) -> Vec<(PutOut, Ruling)> {
    let cap = |bp: u64, min: u64| BasisPoints(bp as u32).of(queue as u64).max(min);
    let mut moves_left = cap(settings.moves_bp, settings.moves_min).saturating_sub(counted as u64);
    let mut bans_left = cap(settings.bans_round_bp, settings.bans_round_min);
    wishes.sort_by_key(|wish| (wish.last_up, wish.at));
    let mut ruling = |wish: PutOut| {
        if !wish.counted && moves_left == 0 {
            return Ruling::Held;
        }
        moves_left -= u64::from(!wish.counted);
        if wish.ban && bans_left == 0 {
            return Ruling::Deferred;
        }
        bans_left -= u64::from(wish.ban);
        Ruling::Stands
    };
    wishes.into_iter().map(|wish| (wish, ruling(wish))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(at: usize, last_up: u64, ban: bool, counted: bool) -> PutOut {
        PutOut { last_up: RoundId(last_up), at, ban, counted }
    }

    #[test]
    fn those_missing_longest_are_banned_first_and_the_rest_deferred() {
        let wishes =
            vec![wish(0, 9, true, false), wish(1, 7, true, false), wish(2, 8, true, false), wish(3, 7, true, false)];
        let ruled = rule(wishes, 20, 0, &Settings::default());
        let order: Vec<_> = ruled.iter().map(|(wish, ruling)| (wish.at, *ruling)).collect();
        use Ruling::{Deferred, Stands};
        assert_eq!(order, [(1, Stands), (3, Stands), (2, Stands), (0, Deferred)]);
    }

    #[test]
    fn bans_of_a_round_are_a_share_of_the_queue_and_a_least_number() {
        for (queue, bans) in [(1, 1), (10, 3), (79, 3), (80, 4), (100, 5), (119, 5), (1_000, 50)] {
            let wishes = (0..queue).map(|at| wish(at, 1, true, true)).collect();
            let ruled = rule(wishes, queue, 0, &Settings::default());
            let count = |what| ruled.iter().filter(|(_, ruling)| *ruling == what).count();
            assert_eq!((count(Ruling::Stands), count(Ruling::Deferred)), (bans, queue - bans), "{queue} members");
        }
    }

    #[test]
    fn every_number_of_a_tariff_has_its_bound() {
        let fits = |change: &dyn Fn(&mut Tariff)| {
            let mut tariff = Tariff::default();
            change(&mut tariff);
            tariff_fits(&tariff, &Settings { tariff_max: 500, ..Settings::default() })
        };
        assert!(fits(&|_| {}));
        type Set = fn(&mut Tariff, u32);
        let numbers: [(&str, Set, u32); 4] = [
            ("overclaim_bp", |tariff, n| tariff.overclaim_bp = n, 10_000),
            ("overclaim_min", |tariff, n| tariff.overclaim_min = n, 500),
            ("record_fee", |tariff, n| tariff.record_fee = n, 500),
            ("record_fee_kib", |tariff, n| tariff.record_fee_kib = n, 500),
        ];
        for (name, set, max) in numbers {
            assert!(fits(&|tariff| set(tariff, max)), "{name}");
            assert!(!fits(&|tariff| set(tariff, max + 1)), "{name}");
        }
    }

    #[test]
    fn who_is_counted_already_does_not_use_up_the_cap_over_time() {
        let wishes = vec![wish(0, 1, false, true), wish(1, 2, false, false), wish(2, 3, false, false)];
        let rulings: Vec<_> = rule(wishes, 20, 4, &Settings::default()).iter().map(|(_, ruling)| *ruling).collect();
        assert_eq!(rulings, [Ruling::Stands, Ruling::Stands, Ruling::Held]);
    }

    #[test]
    fn a_sum_over_the_range_of_a_number_is_a_fault_and_no_panic() {
        let fault = check_points(&[i64::MAX, i64::MAX, i64::MIN], &Settings::default()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Points);
        check_points(&[1_000, 1_000, -5], &Settings::default()).unwrap();
    }
}
