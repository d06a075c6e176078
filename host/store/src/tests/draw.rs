//! Random values that a seed determines.

use kernel::id::{Digest, NodeId, Signature};
use kernel::records::order::{Arrived, Contents};
use kernel::records::record::{Forward, Record};

/// Random numbers (SplitMix64), and what is made of them.
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number of any size: small ones are as frequent as large ones.
    pub(crate) fn number(&mut self) -> u64 {
        let shift = self.below(64);
        self.next() >> shift
    }

    /// Heads or tails.
    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// One of them.
    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Something or nothing.
    pub(crate) fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.coin().then(|| make(self))
    }

    /// Up to four of them.
    pub(crate) fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(5)).map(|_| make(self)).collect()
    }

    /// A short text.
    pub(crate) fn text(&mut self) -> String {
        let word = self.one_of(&["", "a", "missed its turn", "grün", "\u{1f980}"]);
        format!("{word}{}", self.below(1_000))
    }

    pub(crate) fn node(&mut self) -> NodeId {
        NodeId(self.digest().0)
    }

    pub(crate) fn digest(&mut self) -> Digest {
        Digest::of(&self.next().to_be_bytes())
    }

    pub(crate) fn signature(&mut self) -> Signature {
        Signature([self.below(256) as u8; 64])
    }

    /// A record that no other is the same as.
    pub(crate) fn record(&mut self) -> Record {
        let payload = format!("{{\"nonce\":{}}}\n{}", self.next(), self.text()).into_bytes();
        Record { author: self.node(), payload, signature: self.maybe(Self::signature) }
    }

    /// What a batch consists of.
    pub(crate) fn contents(&mut self) -> Contents {
        let arrived = |draw: &mut Self| Arrived {
            record: draw.record(),
            forward: draw.below(3) as u16,
            expires_ms: draw.number(),
        };
        let forward = |draw: &mut Self| Forward {
            ingress: draw.node(),
            payload: draw.text().into_bytes(),
            signature: draw.signature(),
        };
        Contents { records: self.some(arrived), forwards: self.some(forward) }
    }
}
