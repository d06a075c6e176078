//! Fractions without floats: results must be the same bits on every machine.
//!
//! [`Fixed`] is Q32: 2^32 stands for 1. Products go through 128 bits, sums saturate, and every step that loses digits says
//! how it rounds.

use std::cmp::Ordering;

/// A fraction: a whole number of 2^-32 parts. Reaches about ±2 billion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Fixed(i64);

impl Fixed {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(1 << 32);

    /// From the 8 bytes that a policy keeps in memory.
    #[must_use]
    pub const fn from_bits(bits: i64) -> Self {
        Self(bits)
    }

    /// For a policy's memory.
    #[must_use]
    pub const fn to_bits(self) -> i64 {
        self.0
    }

    /// `numerator / denominator`, rounded down; 0 when the denominator is 0.
    #[must_use]
    pub fn ratio(numerator: i64, denominator: i64) -> Self {
        if denominator == 0 {
            return Self::ZERO;
        }
        Self(clamp((i128::from(numerator) << 32).div_euclid(i128::from(denominator))))
    }

    /// A whole number.
    #[must_use]
    pub fn whole(value: i64) -> Self {
        Self::ratio(value, 1)
    }

    /// The product, rounded down.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        Self(clamp((i128::from(self.0) * i128::from(other.0)) >> 32))
    }

    /// `self * numerator / denominator`, rounded down once at the end.
    #[must_use]
    pub fn scale(self, numerator: i64, denominator: i64) -> Self {
        if denominator == 0 {
            return Self::ZERO;
        }
        Self(clamp((i128::from(self.0) * i128::from(numerator)).div_euclid(i128::from(denominator))))
    }

    /// The sum; stops at the ends of the range.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; stops at the ends of the range.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The whole number below.
    #[must_use]
    pub const fn floor(self) -> i64 {
        self.0 >> 32
    }

    /// The whole number above.
    #[must_use]
    pub const fn ceil(self) -> i64 {
        self.floor() + if self.0 & 0xffff_ffff == 0 { 0 } else { 1 }
    }

    /// The nearest whole number; a half goes up.
    #[must_use]
    pub const fn round(self) -> i64 {
        self.0.saturating_add(1 << 31) >> 32
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// A share of a number in basis points (1/10,000), rounded down.
#[must_use]
pub fn basis_points(value: u64, share_bp: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(share_bp) / 10_000).unwrap_or(u64::MAX)
}

/// Compares `a / b` with `c / d` exactly. Denominators are counts: 0 is read as 1.
#[must_use]
pub fn compare(a: u64, b: u64, c: u64, d: u64) -> Ordering {
    (u128::from(a) * u128::from(d.max(1))).cmp(&(u128::from(c) * u128::from(b.max(1))))
}

/// The largest number whose square is not above `value`.
#[must_use]
pub const fn square_root(value: u64) -> u64 {
    value.isqrt()
}

/// The k-th smallest value (from 0); `None` when there are not so many. The order of `values` does not matter.
#[must_use]
pub fn kth<T: Ord + Copy>(values: &[T], k: usize) -> Option<T> {
    if k >= values.len() {
        return None;
    }
    let mut sorted = values.to_vec();
    Some(*sorted.select_nth_unstable(k).1)
}

/// The middle value, of two middle ones the lower; `None` of nothing.
#[must_use]
pub fn median<T: Ord + Copy>(values: &[T]) -> Option<T> {
    kth(values, values.len().saturating_sub(1) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_says_where_it_goes() {
        let third = Fixed::ratio(1, 3);
        assert_eq!(third.plus(third).plus(third).minus(Fixed::ONE).to_bits(), -1);
        for (value, floor, round, ceil) in
            [(Fixed::ratio(5, 2), 2, 3, 3), (Fixed::ratio(-5, 2), -3, -2, -2), (Fixed::whole(7), 7, 7, 7)]
        {
            assert_eq!((value.floor(), value.round(), value.ceil()), (floor, round, ceil), "{value:?}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let most = Fixed::from_bits(i64::MAX);
        assert_eq!(most.plus(Fixed::ONE), most);
        assert_eq!(most.times(most), most);
        assert_eq!(Fixed::whole(i64::MIN).to_bits(), i64::MIN);
        assert_eq!(Fixed::ratio(1, 0), Fixed::ZERO);
        assert_eq!(basis_points(u64::MAX, 10_000), u64::MAX);
    }

    #[test]
    fn a_decaying_score_comes_out_as_on_paper() {
        // 999 / 1000 a step: after 10 misses in a row from 1, 41 steps to fall below 96 %.
        let mut score = Fixed::ONE;
        let steps = (1..).find(|_| {
            score = score.scale(999, 1_000);
            score < Fixed::ratio(96, 100)
        });
        assert_eq!(steps, Some(41));
    }

    #[test]
    fn order_statistics_ignore_the_order() {
        assert_eq!(median(&[5, 1, 4]), Some(4));
        assert_eq!(median(&[5, 1, 4, 2]), Some(2));
        assert_eq!(median::<u8>(&[]), None);
        assert_eq!(kth(&[9, 7, 8], 2), Some(9));
        assert_eq!(kth(&[9, 7, 8], 3), None);
        assert_eq!(compare(1, 3, 2, 6), Ordering::Equal);
        assert_eq!(compare(2, 3, 2, 4), Ordering::Greater);
        assert_eq!(square_root(99), 9);
    }
}
