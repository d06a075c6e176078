//! What a policy is to the kernel: a pure function from one round's columns to one round's decisions.
//!
//! The population is the queue in ascending order of key, and every column has one entry a member in that order. The
//! WebAssembly behind [`Policy`] lives in the room `policy`; the kernel also takes native ones, which is how rules are
//! tested without an engine.
//!
//! Invariant: nothing here decides. Bounds on what a policy may decide are in `guardrails`.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};
use sha2::Digest as _;

use crate::id::{Digest, RoundId};
use crate::records::review::Review;
use crate::settings::Settings;

/// Which rule a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Slot {
    /// Points for a round, and the tariff.
    #[n(0)]
    Reward,
    /// Standing: good, warned, suspended, banned.
    #[n(1)]
    Ban,
    /// Records: sign or refuse.
    #[n(2)]
    Signing,
}

impl Slot {
    /// All slots, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Reward, Self::Ban, Self::Signing];
    /// The slots that decide rounds: their policies run at settlements, on supers, with a memory of each member. The other
    /// one's runs on validators, when records come.
    pub const OF_ROUNDS: [Self; 2] = [Self::Reward, Self::Ban];

    /// The word in commands, config and routes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Ban => "ban",
            Self::Signing => "signing",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::str::FromStr for Slot {
    type Err = UnknownSlot;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|slot| slot.name() == text).ok_or(UnknownSlot)
    }
}

/// The text names no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSlot;

impl fmt::Display for UnknownSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the slots are `reward`, `ban` and `signing`")
    }
}

impl core::error::Error for UnknownSlot {}

/// What a policy says of itself when it is loaded with a config. Bounds are checked at admission.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Description {
    /// Its name, at most 64 printable characters.
    #[n(0)]
    pub name: String,
    /// Its version, at most 32 printable characters.
    #[n(1)]
    pub version: String,
    /// Bytes that it remembers of each member.
    #[n(2)]
    pub memory_bytes: u32,
    /// Names the meaning of those bytes: memory survives a swap between policies of the same schema and size.
    #[n(3)]
    pub memory_schema: String,
    /// Texts of its reason codes; code *i* is entry *i* - 1, code 0 is "none".
    #[n(4)]
    pub reasons: Vec<String>,
    /// Names of extra columns that it asks for.
    #[n(5)]
    pub extra: Vec<String>,
}

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

/// What an over-claim and a record cost: returned by the reward policy with each settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tariff {
    /// Over-claim penalty, basis points of the excess, up to 10,000.
    #[n(0)]
    pub overclaim_bp: u32,
    /// Over-claim penalty, at least this many points.
    #[n(1)]
    pub overclaim_min: u32,
    /// Points a record.
    #[n(2)]
    pub record_fee: u32,
    /// Points a KiB of record body.
    #[n(3)]
    pub record_fee_kib: u32,
}

impl Default for Tariff {
    /// PROTOCOLS 9.6: what `reward-flat` returns.
    fn default() -> Self {
        Self { overclaim_bp: 1_000, overclaim_min: 1, record_fee: 0, record_fee_kib: 0 }
    }
}

/// What a reward policy returns. Columns in the order of the input.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reward {
    /// Points for each member; below zero takes from what it earned.
    pub points: Vec<i64>,
    /// Reason codes.
    pub reasons: Vec<u16>,
    /// Memory for the next round.
    pub memory: Vec<u8>,
    /// Penalty and fees from now on.
    pub tariff: Tariff,
}

/// What a ban policy returns. Columns in the order of the input.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Strikes from now on.
    pub strikes: Vec<u16>,
    /// Standing codes 0 good, 1 warned, 2 suspended, 3 banned. Probation (4) is the host's alone.
    pub standing: Vec<u8>,
    /// Rounds from now until the earliest return; 0 = none.
    pub until: Vec<u32>,
    /// Reason codes.
    pub reasons: Vec<u16>,
    /// Memory for the next round.
    pub memory: Vec<u8>,
}

/// How a policy failed. The number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum FaultKind {
    /// It trapped: a panic, a division by zero, an access out of bounds.
    #[n(0)]
    Trap,
    /// It used up its fuel.
    #[n(1)]
    Fuel,
    /// The wall-clock net caught it. Never deterministic.
    #[n(2)]
    Deadline,
    /// It asked for more memory than its limit.
    #[n(3)]
    Memory,
    /// It recursed too deep.
    #[n(4)]
    Stack,
    /// It returned more data than its limit.
    #[n(5)]
    Output,
    /// A column of its answer has the wrong length.
    #[n(6)]
    Length,
    /// A code of its answer is out of range.
    #[n(7)]
    Code,
    /// It returned an error of its own.
    #[n(8)]
    Refused,
    /// Its memory changed by more than the delta's limit.
    #[n(9)]
    Delta,
    /// Positive points above the round's cap.
    #[n(10)]
    Points,
    /// It wrote more to `log` than its limit.
    #[n(11)]
    Log,
    /// The slot has no policy, it is not prepared here, or the host failed while it ran. A fault of ours, not of the
    /// policy.
    #[n(12)]
    NotPrepared,
}

impl FaultKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Trap,
        Self::Fuel,
        Self::Deadline,
        Self::Memory,
        Self::Stack,
        Self::Output,
        Self::Length,
        Self::Code,
        Self::Refused,
        Self::Delta,
        Self::Points,
        Self::Log,
        Self::NotPrepared,
    ];

    /// Whether the same inputs give the same fault on every machine. Only these count towards automatic return.
    #[must_use]
    pub const fn is_deterministic(self) -> bool {
        !matches!(self, Self::Deadline | Self::NotPrepared)
    }

    /// The word in logs, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Fuel => "fuel",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::Length => "length",
            Self::Code => "code",
            Self::Refused => "refused",
            Self::Delta => "delta",
            Self::Points => "points",
            Self::Log => "log",
            Self::NotPrepared => "not_prepared",
        }
    }
}

/// Why a policy's answer does not count, and what a person should read about it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fault {
    /// How it failed.
    #[n(0)]
    pub kind: FaultKind,
    /// The panic's own text, the column that is too short, and the like. At most [`Fault::MESSAGE_BYTES`], control
    /// characters escaped. For people: no rule reads it.
    #[n(1)]
    pub message: String,
}

impl Fault {
    /// Longest message that is kept.
    pub const MESSAGE_BYTES: usize = 1_024;

    /// A fault with its text cut to the bound and escaped.
    #[must_use]
    pub fn new(kind: FaultKind, message: &str) -> Self {
        let mut text = String::new();
        for c in message.chars() {
            if text.len() >= Self::MESSAGE_BYTES {
                text.push('…');
                break;
            }
            match c {
                '\n' => text.push(' '),
                c if c.is_control() => text.push('\u{fffd}'),
                c => text.push(c),
            }
        }
        Self { kind, message: text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

/// One line that a policy wrote to `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error.
    pub level: u8,
    /// Escaped and bounded.
    pub message: String,
}

/// What one evaluation gave and cost.
#[derive(Clone, Debug)]
pub struct Run<T> {
    /// The decision, or the fault that stands in its place.
    pub result: Result<T, Fault>,
    /// Fuel used.
    pub fuel: u64,
    /// Lines that it logged.
    pub log: Vec<LogLine>,
}

impl<T> Run<T> {
    /// A run that cost nothing, as native policies give.
    #[must_use]
    pub const fn native(result: Result<T, Fault>) -> Self {
        Self { result, fuel: 0, log: Vec::new() }
    }
}

/// A rule that is ready to run. An implementation is pure: the same call gives the same answer and changes nothing.
pub trait Policy: Send + Sync {
    /// What it said of itself for its config.
    fn description(&self) -> &Description;

    /// Decides points. Only of a reward policy.
    fn reward(&self, call: &Call<'_>) -> Run<Reward>;

    /// Judges standing. Only of a ban policy.
    fn judge(&self, call: &Call<'_>) -> Run<Judgement>;

    /// Reviews records: a code for each one, 0 = sign. Only of a signing policy.
    fn review(&self, review: &Review<'_>) -> Run<Vec<u16>> {
        let _ = review;
        Run::native(Err(Fault::new(FaultKind::NotPrepared, "this policy fills another slot")))
    }
}

/// Bounds on one evaluation, already scaled to a population (PROTOCOLS 5.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Fuel.
    pub fuel: u64,
    /// Guest memory, bytes.
    pub memory_bytes: u64,
    /// Data that may cross out of the component, bytes.
    pub output_bytes: u64,
    /// Wall clock, ms: the net, not the limit of record.
    pub deadline_ms: u64,
    /// `log` text, bytes a round.
    pub log_bytes: u64,
}

/// What [`PolicyLimits`] are computed from: cluster settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LimitSettings {
    /// Fuel that each call has.
    #[n(0)]
    pub fuel_base: u64,
    /// And for each member.
    #[n(1)]
    pub fuel_member: u64,
    /// Guest memory that each call has, bytes.
    #[n(2)]
    pub memory_base_bytes: u64,
    /// And for each member, besides three times its `memory-bytes`.
    #[n(3)]
    pub memory_member_bytes: u64,
    /// Data out beyond the columns' own size, bytes.
    #[n(4)]
    pub output_base_bytes: u64,
    /// Wall clock, ms.
    #[n(5)]
    pub deadline_ms: u64,
    /// `log` text a round, bytes.
    #[n(6)]
    pub log_bytes: u64,
    /// Largest `memory-bytes` of a policy.
    #[n(7)]
    pub state_bytes: u32,
}

impl Default for LimitSettings {
    /// Those of a new cluster.
    fn default() -> Self {
        Settings::default().policy_limits()
    }
}

impl LimitSettings {
    /// The limits of one call over `columns_bytes` of columns for `population` members with `memory_bytes` each.
    #[must_use]
    pub const fn scaled(&self, population: u64, memory_bytes: u64, columns_bytes: u64) -> PolicyLimits {
        PolicyLimits {
            fuel: self.fuel_base.saturating_add(self.fuel_member.saturating_mul(population)),
            memory_bytes: self
                .memory_base_bytes
                .saturating_add(self.memory_member_bytes.saturating_add(3 * memory_bytes).saturating_mul(population)),
            output_bytes: self
                .output_base_bytes
                .saturating_add(columns_bytes)
                .saturating_add(memory_bytes.saturating_mul(population)),
            deadline_ms: self.deadline_ms,
            log_bytes: self.log_bytes,
        }
    }
}

/// Checks the shape of a reward decision: lengths, reason codes.
///
/// # Errors
/// The fault to record instead.
pub fn check_reward(reward: &Reward, population: usize, description: &Description) -> Result<(), Fault> {
    lengths(&[("points", reward.points.len()), ("reasons", reward.reasons.len())], population)?;
    memory_length(reward.memory.len(), population, description)?;
    reasons(&reward.reasons, description)
}

/// Checks the shape of a ban decision: lengths, standing codes (probation is not a policy's to give), reason codes.
///
/// # Errors
/// The fault to record instead.
pub fn check_judgement(judgement: &Judgement, population: usize, description: &Description) -> Result<(), Fault> {
    lengths(
        &[
            ("strikes", judgement.strikes.len()),
            ("standing", judgement.standing.len()),
            ("until", judgement.until.len()),
            ("reasons", judgement.reasons.len()),
        ],
        population,
    )?;
    memory_length(judgement.memory.len(), population, description)?;
    standings(&judgement.standing)?;
    reasons(&judgement.reasons, description)
}

pub(crate) fn standings(codes: &[u8]) -> Result<(), Fault> {
    let Some((at, code)) = codes.iter().enumerate().find(|(_, code)| **code > 3) else { return Ok(()) };
    let text = match code {
        4 => alloc::format!("standing[{at}] is 4 (probation), which only the host gives"),
        code => alloc::format!("standing[{at}] is {code}; the codes are 0 good, 1 warned, 2 suspended, 3 banned"),
    };
    Err(Fault::new(FaultKind::Code, &text))
}

pub(crate) fn lengths(columns: &[(&str, usize)], population: usize) -> Result<(), Fault> {
    match columns.iter().find(|(_, len)| *len != population) {
        None => Ok(()),
        Some((name, len)) => Err(Fault::new(
            FaultKind::Length,
            &alloc::format!("`{name}` has {len} entries for a population of {population}"),
        )),
    }
}

fn memory_length(len: usize, population: usize, description: &Description) -> Result<(), Fault> {
    let expected = population.saturating_mul(description.memory_bytes as usize);
    if len == expected {
        return Ok(());
    }
    let bytes = description.memory_bytes;
    Err(Fault::new(
        FaultKind::Length,
        &alloc::format!("`memory` has {len} bytes; {population} members of {bytes} bytes are {expected}"),
    ))
}

pub(crate) fn reasons(codes: &[u16], description: &Description) -> Result<(), Fault> {
    let known = description.reasons.len();
    match codes.iter().enumerate().find(|(_, code)| usize::from(**code) > known) {
        None => Ok(()),
        Some((at, code)) => Err(Fault::new(
            FaultKind::Code,
            &alloc::format!("reasons[{at}] is {code}, but `describe` lists {known} reasons"),
        )),
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
