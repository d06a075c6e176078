//! The file of cases: what may stand in it, and where it is wrong.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use kernel::settings::distance;
use serde::de::value::{I64Deserializer, SeqAccessDeserializer, U64Deserializer};
use serde::de::{Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::CaseError;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) case: Vec<Keys>,
}

/// The keys of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    /// What it shows.
    pub(super) name: Spanned<String>,
    /// The slot that its rule is for; only said where it matters to whoever reads it.
    pub(super) slot: Option<String>,
    /// The rule's config.
    #[serde(default)]
    pub(super) config: toml::Table,
    /// Cluster settings that are not the default ones, by key.
    #[serde(default)]
    pub(super) settings: toml::Table,
    /// Length of a round, ms. With `rounds`.
    pub(super) interval_ms: Option<u64>,
    /// A letter for each member in each round: `+` answers, `-` does not, `?` nobody had a fair chance to see it. A round
    /// that begins with `!` is suspect. `"+- x 5"` stands for five such rounds.
    #[serde(default)]
    pub(super) rounds: Vec<Spanned<String>>,
    /// What holds before the first round; one value for all members, or one for each. With `rounds`.
    #[serde(default)]
    pub(super) start: Start,
    /// One call instead of rounds: what the rule sees of each member.
    pub(super) members: Option<Vec<Spanned<Row>>>,
    /// The round of that call. With `members`.
    pub(super) round: Option<RoundKeys>,
    /// A batch instead of members, for a signing rule: what it sees of each record.
    pub(super) records: Option<Vec<Spanned<RecordRow>>>,
    /// What is known of that batch. With `records`.
    pub(super) batch: Option<BatchKeys>,
    /// What must hold after the last round or the call, one value for each member; or of each record.
    pub(super) expect: Expect,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    pub(super) age: Option<Each<u32>>,
    pub(super) strikes: Option<Each<u16>>,
    pub(super) earned: Option<Each<u32>>,
    pub(super) class: Option<Each<u32>>,
    pub(super) rtt_us: Option<Each<u32>>,
    pub(super) data: Option<Each<u32>>,
}

/// What the rule sees of a member in one call: the columns of `wit/policy.wit`, with names for bits and codes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Row {
    /// For people.
    pub(super) name: String,
    pub(super) presence: Seen,
    /// Names of facts.
    pub(super) facts: Vec<String>,
    pub(super) rtt_us: u32,
    /// One bit a seat that asked; seat 0 unless `presence` is unknown.
    pub(super) asked: Option<u8>,
    /// One bit a seat that saw it; seat 0 where it is up.
    pub(super) seen: Option<u8>,
    pub(super) age: u32,
    pub(super) standing: Option<String>,
    pub(super) strikes: u16,
    pub(super) earned: u64,
    pub(super) data: Wide,
    pub(super) class: u32,
    pub(super) group: u32,
    /// Names of flags.
    pub(super) flags: Vec<String>,
    /// What the rule remembers of it, hex; zeros where nothing is said.
    pub(super) memory: String,
    /// Extra columns by name.
    pub(super) extra: toml::Table,
}

/// Presence of a member in one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Seen {
    /// Answered.
    #[default]
    Up,
    /// Did not.
    Down,
    /// Nobody had a fair chance to see it.
    Unknown,
}

/// The round of one call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RoundKeys {
    pub(super) number: Option<u64>,
    pub(super) now_ms: Option<u64>,
    pub(super) elapsed_ms: Option<u64>,
    pub(super) interval_ms: Option<u64>,
    pub(super) suspect: bool,
    /// 64 hex digits.
    pub(super) seed: String,
}

/// What a signing rule sees of a record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RecordRow {
    /// For people.
    pub(super) name: String,
    /// What is to be signed, as text.
    pub(super) body: Option<String>,
    /// Or as bytes, two digits each.
    pub(super) hex: Option<String>,
    /// How often that is repeated: once unless it is said.
    pub(super) times: Option<u32>,
    /// The author's key, 64 hex digits; any other text is a name, and each name has a key of its own.
    pub(super) author: String,
    /// Counted from 1 where nothing is said.
    pub(super) sequence: Option<u64>,
    /// A minute after `batch.ordered_ms` where nothing is said.
    pub(super) expires_ms: Option<u64>,
    /// 64 hex digits; one of its own where nothing is said.
    pub(super) digest: String,
}

/// What is known of a batch.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BatchKeys {
    pub(super) number: Option<u64>,
    pub(super) round: Option<u64>,
    pub(super) ordered_ms: Option<u64>,
    pub(super) set_size: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Expect {
    /// `sign` or `refuse`, of records.
    pub(super) verdict: Option<Vec<String>>,
    pub(super) standing: Option<Vec<String>>,
    pub(super) strikes: Option<Vec<u16>>,
    /// Points of all rounds of the case; of one call, as the rule says them.
    pub(super) points: Option<Vec<i64>>,
    /// Of the last round; of records, why they are refused.
    pub(super) reason: Option<Vec<String>>,
    /// The last round of a ban or the earliest return, counted from the first round of the case; 0 = none. Of one call: the
    /// rounds that the rule says.
    pub(super) until: Option<Vec<u64>>,
    /// What the rule remembers after the call, hex.
    pub(super) memory: Option<Vec<String>>,
    /// What wrong claims and records cost after the call.
    pub(super) tariff: Option<TariffKeys>,
    /// The kind of a fault that must happen in some round; `none`: there must be no fault.
    pub(super) fault: Option<String>,
}

/// See [`kernel::decide::Tariff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TariffKeys {
    pub(super) overclaim_bp: u32,
    pub(super) overclaim_min: u32,
    pub(super) record_fee: u32,
    pub(super) record_fee_kib: u32,
}

/// One value for all, or one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Each<T> {
    All(T),
    Each(Vec<T>),
}

impl<T: Copy> Each<T> {
    pub(super) fn of(this: Option<&Self>, at: usize) -> Option<T> {
        match this? {
            Self::All(value) => Some(*value),
            Self::Each(values) => values.get(at).copied(),
        }
    }

    pub(super) fn fits(this: Option<&Self>, members: usize) -> bool {
        !matches!(this, Some(Self::Each(values)) if values.len() != members)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Each<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number for all members, or a list with one for each")
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Each<T>, E> {
                let value: I64Deserializer<E> = value.into_deserializer();
                T::deserialize(value).map(Each::All)
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Each<T>, E> {
                let value: U64Deserializer<E> = value.into_deserializer();
                T::deserialize(value).map(Each::All)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Each<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Each::Each)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A whole number of 64 bits. TOML's are of 63: a larger one is written as `"0x..."`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wide(pub(super) u64);

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Wide;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or a text such as \"0xffffffffffffffff\"")
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Wide, E> {
                u64::try_from(value).map(Wide).map_err(|_| E::custom("a number below zero"))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Wide, E> {
                Ok(Wide(value))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Wide, E> {
                let number = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
                number.map(Wide).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// The text of a file, for its places.
#[derive(Clone, Debug, Default)]
pub(super) struct Source(pub(super) Arc<str>);

impl Source {
    /// Line and column of a byte, from 1.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let before = self.0.get(..at).unwrap_or(&self.0);
        let line_at = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_at..).unwrap_or_default().chars().count() + 1;
        (before.bytes().filter(|byte| *byte == b'\n').count() + 1, column)
    }
}

/// Reads the keys of a file.
pub(super) fn read(text: &str) -> Result<(Source, File), CaseError> {
    let source = Source(text.into());
    let file = toml::from_str(text).map_err(|error| {
        let what = error.message().trim().replace('\n', "; ");
        let cure = meant(&what);
        CaseError::File { place: error.span().map(|span| source.place(span.start)), what, cure }
    })?;
    Ok((source, file))
}

/// What an unknown word was meant to be, out of what serde says that was expected.
fn meant(what: &str) -> Option<String> {
    let rest = what.strip_prefix("unknown field ").or_else(|| what.strip_prefix("unknown variant "))?;
    let mut words = rest.split('`').skip(1).step_by(2);
    let word = words.next()?;
    near(word, words).map(|near| format!("did you mean `{near}`?"))
}

/// The word that is nearest to a wrong one, where one is near.
pub(super) fn near<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let nearest = known.map(|known| (distance(word, known), known)).min()?;
    (nearest.0 <= 1 + word.len() / 4).then_some(nearest.1)
}

/// What is wrong with a word that is none of those that there are.
pub(super) fn unknown(word: &str, what: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match near(word, known.iter().copied()) {
        Some(near) => format!("`{word}` is no {what}; did you mean `{near}`? There are {list}"),
        None => format!("`{word}` is no {what}; there are {list}"),
    }
}

/// Bytes of hex digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
