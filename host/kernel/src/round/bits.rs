//! One bit for each member of a queue.

use alloc::vec;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

/// One bit a member, in the order of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Bits {
    #[n(0)]
    len: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    bytes: Vec<u8>,
}

impl Bits {
    /// So many zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self { len: u32::try_from(len).unwrap_or(u32::MAX), bytes: vec![0; len.div_ceil(8)] }
    }

    /// Number of bits.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the stored bytes fit the length: decoded ones may not.
    #[must_use]
    pub fn is_well_formed(&self, len: usize) -> bool {
        self.len() == len && self.bytes.len() == len.div_ceil(8)
    }

    /// Bit `at`; false beyond the end.
    #[must_use]
    pub fn get(&self, at: usize) -> bool {
        at < self.len() && self.bytes.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
    }

    /// Sets bit `at`; nothing happens beyond the end.
    pub fn set(&mut self, at: usize) {
        if at < self.len()
            && let Some(byte) = self.bytes.get_mut(at / 8)
        {
            *byte |= 1 << (at % 8);
        }
    }

    /// Whether all that are set are set in `other` too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.bytes.iter().zip(&other.bytes).all(|(a, b)| a & !b == 0)
    }

    /// Whether none that is set is set in `other` too.
    #[must_use]
    pub fn is_apart_from(&self, other: &Self) -> bool {
        self.bytes.iter().zip(&other.bytes).all(|(a, b)| a & b == 0)
    }

    /// How many are set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_beyond_the_end_do_not_exist() {
        let mut bits = Bits::zeros(9);
        bits.set(8);
        bits.set(9);
        assert_eq!((bits.get(8), bits.get(9), bits.count()), (true, false, 1));
        assert!(bits.is_well_formed(9) && !bits.is_well_formed(8));
    }
}
