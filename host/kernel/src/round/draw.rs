//! When each member is asked, and with which nonces: drawn from a super's secret of the round.
//!
//! The secret is disclosed in the super's partial report, so that anyone can draw again afterwards and nobody can know
//! before: whoever knew its turn could be up only then, and whoever knew another's could attack it just then.
//!
//! Invariant: what is drawn follows from secret, round, term and place alone.

use alloc::vec::Vec;

use sha2::Digest as _;

use super::OpenRound;

/// The moments and nonces of one member: a pure function of the secret, the round and the place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Members are asked in ascending order of this, then of place. Its lower half is where in its slot a member is asked:
    /// in a small queue the slots alone would be known to everybody.
    pub order: u64,
    /// Nonces of the first and second ping.
    pub nonces: [u64; 2],
    /// The moment of the second ping as a fraction of the span, of 2^32; `None` = there is none.
    pub second: Option<u32>,
}

impl Draw {
    /// Draws. SHA-256 of `pingward`, secret, round, term and place: 32 bytes, little endian.
    #[must_use]
    pub fn of(secret: &[u8; 16], open: &OpenRound, place: u32, second_ping_bp: u64) -> Self {
        let mut hasher = sha2::Sha256::new();
        hasher.update(b"pingward");
        hasher.update(secret);
        hasher.update(open.round.0.to_le_bytes());
        hasher.update(open.term.0.to_le_bytes());
        hasher.update(place.to_le_bytes());
        let bytes: [u8; 32] = hasher.finalize().into();
        let (words, _) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut word = || words.next().unwrap_or_default();
        let (order, nonces, last) = (word(), [word(), word()], word());
        let chance = ((last & 0xffff_ffff) * 10_000) >> 32;
        Self { order, nonces, second: (chance < second_ping_bp).then_some((last >> 32) as u32) }
    }
}

/// One ping of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// When it leaves, µs after the start.
    pub at_us: u64,
    /// The member's place in the queue.
    pub place: u32,
    /// Its nonce.
    pub nonce: u64,
}

/// All pings of a round over `len` members, in the order in which they leave: first ones one in each of as many equal slots
/// of the span, in a shuffled order; second ones anywhere in it.
#[must_use]
pub fn schedule(secret: &[u8; 16], open: &OpenRound, len: usize, span_us: u64, second_ping_bp: u64) -> Vec<Drawn> {
    let draws = (0..len as u32).map(|place| (place, Draw::of(secret, open, place, second_ping_bp)));
    let mut draws: Vec<(u32, Draw)> = draws.collect();
    draws.sort_unstable_by_key(|(place, draw)| (draw.order, *place));
    let mut schedule = Vec::with_capacity(len + len / 8);
    for (rank, (place, draw)) in draws.into_iter().enumerate() {
        let [first, second] = draw.nonces;
        let slots = ((rank as u128) << 32) | u128::from(draw.order & 0xffff_ffff);
        let at_us = ((u128::from(span_us) * slots / len.max(1) as u128) >> 32) as u64;
        schedule.push(Drawn { at_us, place, nonce: first });
        if let Some(fraction) = draw.second {
            let at_us = ((u128::from(span_us) * u128::from(fraction)) >> 32) as u64;
            schedule.push(Drawn { at_us, place, nonce: second });
        }
    }
    schedule.sort_unstable_by_key(|drawn| (drawn.at_us, drawn.place));
    schedule
}
