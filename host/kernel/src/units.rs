//! Units, so that a number cannot be taken for another: points and basis points. Times are `u64` milliseconds in fields
//! that end in `_ms`.

use core::fmt;

use minicbor::{Decode, Encode};

/// Whole points. Only the treasury may be below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Points(#[n(0)] pub i64);

impl Points {
    /// No points.
    pub const ZERO: Self = Self(0);

    /// The sum; stays at the end of the range instead of running over.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; stays at the end of the range instead of running over.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hundredths of a percent, 0 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct BasisPoints(#[n(0)] pub u32);

impl BasisPoints {
    /// The whole: 10,000.
    pub const WHOLE: u32 = 10_000;

    /// That share of a number, rounded down.
    #[must_use]
    pub const fn of(self, whole: u64) -> u64 {
        (whole as u128 * self.0 as u128 / Self::WHOLE as u128) as u64
    }

    /// Whether `part` is at least this share of `whole`. Exact, without division.
    #[must_use]
    pub const fn reached_by(self, part: u64, whole: u64) -> bool {
        part as u128 * Self::WHOLE as u128 >= whole as u128 * self.0 as u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_reached_exactly_at_its_edge() {
        let third = BasisPoints(3_000);
        assert!(third.reached_by(3, 10));
        assert!(!third.reached_by(2, 10));
        assert_eq!(third.of(10), 3);
        assert_eq!(third.of(9), 2);
    }
}
