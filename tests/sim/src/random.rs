//! All chance of a run comes from one number.

use crate::Us;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; neighbours give unrelated runs.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn take(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// 0 to `n` - 1; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.take()) * u128::from(n)) >> 64) as u64
    }

    /// `from` to `to` - 1.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True so many times in 10,000.
    pub fn chance_bp(&mut self, bp: u64) -> bool {
        bp > 0 && self.below(10_000) < bp
    }

    /// One of two.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// One of a list that is not empty.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A wait of about `mean`, short ones oftener than long ones: 1/20 to three times of it.
    pub fn about(&mut self, mean: Us) -> Us {
        let (a, b) = (self.below(mean), self.below(mean));
        mean / 20 + a.min(b) + self.below(mean)
    }
}

/// Spreads a number over all bits.
#[must_use]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
