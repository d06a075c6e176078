//! What a policy is given: one round's columns, and the digest that names them.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use sha2::Digest as _;

use super::{Description, Slot};
use crate::id::{Digest, RoundId};

/// The round that is being decided, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RoundInput {
    /// Its number.
    pub number: u64,
    /// The stamp of the settlement that is being made, ms since 1970.
    pub now_ms: u64,
    /// Ms since the settlement before.
    pub elapsed_ms: u64,
    /// Configured length of a round, ms.
    pub interval_ms: u64,
    /// Members in the queue; the length of every column.
    pub population: u32,
    /// The round's observations are doubted (PROTOCOLS 4).
    pub suspect: bool,
    /// Digest of the settlement before: the same for everybody, known to nobody earlier.
    pub seed: Digest,
}

/// Presence codes of the column.
pub mod presence {
    /// No valid answer, though there was a fair chance.
    pub const DOWN: u8 = 0;
    /// Answered.
    pub const UP: u8 = 1;
    /// Nobody had a fair chance to see it.
    pub const UNKNOWN: u8 = 2;
}

/// Bits of the column `flags`.
pub mod flag {
    /// The member declared maintenance that covers this round.
    pub const MAINTENANCE: u32 = 1;
    /// It speaks a newer protocol version than ours.
    pub const NEWER_VERSION: u32 = 2;
    /// It asked to return since the settlement before.
    pub const ASKED_TO_RETURN: u32 = 4;

    /// Names of the bits, in order.
    pub const NAMES: [&str; 3] = ["maintenance", "newer_version", "asked_to_return"];
}

/// A named column that a policy asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Column {
    /// As in [`Description::extra`].
    pub name: String,
    /// One value a member.
    pub values: Vec<i64>,
}

/// One round's columns, all of the same length and order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Members {
    /// [`presence`] codes.
    pub presence: Vec<u8>,
    /// Fact bits of the merged report.
    pub facts: Vec<u16>,
    /// Lowest round trip seen, µs; 0 = none.
    pub rtt_us: Vec<u32>,
    /// Observers: asked ≪ 8 | seen.
    pub observers: Vec<u16>,
    /// Rounds in the queue since it joined.
    pub age: Vec<u32>,
    /// Standing codes.
    pub standing: Vec<u8>,
    /// Strikes.
    pub strikes: Vec<u16>,
    /// Earned points that are not claimed.
    pub earned: Vec<u64>,
    /// The `data` of its last pong.
    pub data: Vec<u64>,
    /// Set by the operator.
    pub class: Vec<u32>,
    /// Network group.
    pub group: Vec<u32>,
    /// [`flag`] bits.
    pub flags: Vec<u32>,
    /// Extra columns, in the order of [`Description::extra`].
    pub extra: Vec<Column>,
}

impl Members {
    /// Length of the columns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.presence.len()
    }

    /// Whether there is nobody in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.presence.is_empty()
    }

    /// Bytes of all columns: what crosses into the component besides memory and config.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let row = 1 + 2 + 4 + 2 + 4 + 1 + 2 + 8 + 8 + 4 + 4 + 4;
        row * self.len() + self.extra.iter().map(|column| column.name.len() + 8 * column.values.len()).sum::<usize>()
    }
}

/// All that a policy is called with.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Config: JSON, keys sorted, no spaces, as it was hashed.
    pub config: &'a str,
    /// The round.
    pub round: &'a RoundInput,
    /// The columns.
    pub members: &'a Members,
    /// `population` x `memory-bytes`.
    pub memory: &'a [u8],
}

impl Call<'_> {
    /// SHA-256 of everything that the policy sees: slot, config, round record, columns, memory, in the order of the WIT,
    /// integers little endian, each list after its length (u64).
    #[must_use]
    pub fn digest(&self, slot: Slot) -> Digest {
        let mut h = sha2::Sha256::new();
        h.update([slot as u8]);
        bytes(&mut h, self.config.as_bytes());
        let r = self.round;
        h.update(r.number.to_le_bytes());
        h.update(r.now_ms.to_le_bytes());
        h.update(r.elapsed_ms.to_le_bytes());
        h.update(r.interval_ms.to_le_bytes());
        h.update(r.population.to_le_bytes());
        h.update([u8::from(r.suspect)]);
        h.update(r.seed.0);
        let m = self.members;
        bytes(&mut h, &m.presence);
        list(&mut h, &m.facts, u16::to_le_bytes);
        list(&mut h, &m.rtt_us, u32::to_le_bytes);
        list(&mut h, &m.observers, u16::to_le_bytes);
        list(&mut h, &m.age, u32::to_le_bytes);
        bytes(&mut h, &m.standing);
        list(&mut h, &m.strikes, u16::to_le_bytes);
        list(&mut h, &m.earned, u64::to_le_bytes);
        list(&mut h, &m.data, u64::to_le_bytes);
        list(&mut h, &m.class, u32::to_le_bytes);
        list(&mut h, &m.group, u32::to_le_bytes);
        list(&mut h, &m.flags, u32::to_le_bytes);
        h.update((m.extra.len() as u64).to_le_bytes());
        for column in &m.extra {
            bytes(&mut h, column.name.as_bytes());
            list(&mut h, &column.values, i64::to_le_bytes);
        }
        bytes(&mut h, self.memory);
        Digest(h.finalize().into())
    }
}

fn bytes(h: &mut sha2::Sha256, bytes: &[u8]) {
    h.update((bytes.len() as u64).to_le_bytes());
    h.update(bytes);
}

/// Hashes a column in pieces that are large enough for the hash to run at its own speed.
fn list<T: Copy, const N: usize>(h: &mut sha2::Sha256, values: &[T], encode: impl Fn(T) -> [u8; N]) {
    h.update((values.len() as u64).to_le_bytes());
    let mut piece = [[0; N]; 512];
    for chunk in values.chunks(piece.len()) {
        for (to, value) in piece.iter_mut().zip(chunk) {
            *to = encode(*value);
        }
        h.update(piece.get(..chunk.len()).unwrap_or_default().as_flattened());
    }
}

/// A small population that every candidate is run on before it may be staged: all presence values and standings occur,
/// so that a rule that cannot cope with them fails at admission and not in a live round.
#[must_use]
pub fn sample(description: &Description) -> (RoundInput, Members, Vec<u8>) {
    let population = 15;
    let column = |f: &dyn Fn(u64) -> u64| (0..population).map(f).collect::<Vec<u64>>();
    let round = RoundInput {
        number: RoundId(100).0,
        now_ms: 1_767_225_600_000,
        elapsed_ms: 10_000,
        interval_ms: 10_000,
        population: population as u32,
        suspect: false,
        seed: Digest::of(b"sample"),
    };
    let members = Members {
        presence: column(&|i| i % 3).into_iter().map(|v| v as u8).collect(),
        facts: column(&|i| if i % 3 == 0 { 2 } else { 0 }).into_iter().map(|v| v as u16).collect(),
        rtt_us: column(&|i| if i % 3 == 1 { 800 * (i + 1) } else { 0 }).into_iter().map(|v| v as u32).collect(),
        observers: column(&|i| 0x0100 | u64::from(i % 3 == 1)).into_iter().map(|v| v as u16).collect(),
        age: column(&|i| i * i).into_iter().map(|v| v as u32).collect(),
        standing: column(&|i| match i / 3 % 4 {
            3 => 4,
            code => code,
        })
        .into_iter()
        .map(|v| v as u8)
        .collect(),
        strikes: column(&|i| i % 5).into_iter().map(|v| v as u16).collect(),
        earned: column(&|i| 10 * i),
        data: column(&|i| i),
        class: column(&|i| i % 2).into_iter().map(|v| v as u32).collect(),
        group: column(&|i| i / 4).into_iter().map(|v| v as u32).collect(),
        flags: column(&|i| i % 8).into_iter().map(|v| v as u32).collect(),
        extra: description
            .extra
            .iter()
            .map(|name| Column { name: name.to_string(), values: vec![0; population as usize] })
            .collect(),
    };
    let memory = vec![0; population as usize * description.memory_bytes as usize];
    (round, members, memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoding is part of what is stored in the log: another hash here means another release of the format.
    #[test]
    fn the_digest_of_the_sample_is_fixed() {
        let extra = ["observer.0.presence".to_string(), "observer.3.rtt-us".to_string()].to_vec();
        let description = Description { memory_bytes: 3, extra, ..Description::default() };
        let (round, members, memory) = sample(&description);
        let call = Call { config: r#"{"suspend":3}"#, round: &round, members: &members, memory: &memory };
        assert_eq!(
            call.digest(Slot::Ban).to_string(),
            "sha256:04329b873af7e203cb953651d50b974e93917c6538030381bf1bed9b24b7b05d"
        );
        assert_ne!(call.digest(Slot::Reward), call.digest(Slot::Ban));
    }

    #[test]
    fn the_digest_is_that_of_all_values_in_a_row() {
        let members = Members {
            presence: (0..1_300).map(|i| (i % 3) as u8).collect(),
            rtt_us: (0..1_300).collect(),
            extra: [Column { name: "x".into(), values: (0..1_300).map(|i| -i).collect() }].to_vec(),
            ..Members::default()
        };
        let round = RoundInput { number: 7, suspect: true, ..RoundInput::default() };
        let call = Call { config: "{}", round: &round, members: &members, memory: &[1, 2] };
        let mut plain: Vec<u8> = [1, 2, 0, 0, 0, 0, 0, 0, 0].to_vec();
        plain.extend(b"{}");
        for number in [7, 0, 0, 0_u64] {
            plain.extend(number.to_le_bytes());
        }
        plain.extend([0, 0, 0, 0, 1]);
        plain.extend([0; 32]);
        plain.extend(1_300_u64.to_le_bytes());
        plain.extend(&members.presence);
        plain.extend(0_u64.to_le_bytes());
        plain.extend(1_300_u64.to_le_bytes());
        plain.extend(members.rtt_us.iter().flat_map(|v| v.to_le_bytes()));
        (0..9).for_each(|_| plain.extend(0_u64.to_le_bytes()));
        plain.extend(1_u64.to_le_bytes());
        plain.extend(1_u64.to_le_bytes());
        plain.extend(b"x");
        plain.extend(1_300_u64.to_le_bytes());
        plain.extend((0..1_300_i64).flat_map(|v| (-v).to_le_bytes()));
        plain.extend(2_u64.to_le_bytes());
        plain.extend([1, 2]);
        assert_eq!(call.digest(Slot::Ban), Digest::of(&plain));
    }
}
