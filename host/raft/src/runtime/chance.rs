//! Where random numbers come from: the system, or in a simulation a seed.

use std::cell::Cell;
use std::convert::Infallible;
use std::marker::PhantomData;

use rand::{Rng as _, TryRng};

thread_local! {
    /// What the numbers of this thread follow from; `None`: the system draws them.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on, and until what this gives is dropped, all that is drawn on this thread follows from a number: how long each
/// replica waits for its leader, and by what it is known. For simulations, which have one thread.
#[must_use]
pub fn seed(seed: u64) -> Seeded {
    SEED.set(Some(seed));
    Seeded(PhantomData)
}

/// See [`seed`]. It stays on its thread.
#[derive(Debug)]
pub struct Seeded(PhantomData<*const ()>);

impl Drop for Seeded {
    fn drop(&mut self) {
        SEED.set(None);
    }
}

/// The next number.
pub(crate) fn drawn() -> u64 {
    match SEED.get() {
        // SplitMix64.
        Some(seed) => {
            let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            SEED.set(Some(seed));
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
        None => rand::rng().next_u64(),
    }
}

/// The numbers as openraft takes them.
#[derive(Clone, Copy, Debug)]
pub struct Chance;

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((drawn() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(drawn())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for piece in bytes.chunks_mut(8) {
            piece.iter_mut().zip(drawn().to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_the_system_others() {
        let three = || [drawn(), drawn(), drawn()];
        let seeded = |number| {
            let _seeded = seed(number);
            three()
        };
        assert_eq!(seeded(7), seeded(7));
        assert_ne!(seeded(7), seeded(8));
        assert_ne!(three(), three(), "nobody has given a seed any more");
    }
}
