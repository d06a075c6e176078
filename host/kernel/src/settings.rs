//! Cluster settings: the numbers that `apply` and the round read. One set for the whole cluster, in `State`, with a
//! version; the founder's file seeds them and commands change them (PROTOCOLS 12, 16).
//!
//! Each key is one line of the table below: its name in the config file and in `cluster set`, unit, bounds, default and
//! meaning. Nothing else lists them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};

use crate::decide::LimitSettings;
use crate::id::VersionRange;
use crate::limits::REASON_BYTES;

/// One key of the settings: what a config file, `cluster set` and the docs need to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// `section.name`, as in the config file.
    pub name: &'static str,
    /// Smallest value; booleans are 0 and 1.
    pub min: u64,
    /// Largest value.
    pub max: u64,
    /// Value of a new cluster.
    pub default: u64,
    /// Written `true` or `false`.
    pub is_bool: bool,
    /// One line: what it does.
    pub doc: &'static str,
}

macro_rules! settings {
    ($($n:literal $field:ident: $name:literal, $kind:ident, $min:expr, $max:expr, $default:expr, $doc:literal;)*) => {
        /// All settings. Numbers are stored as u64 whatever their unit; `section.name` and bounds are in [`Settings::KEYS`].
        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
        pub struct Settings {
            $(#[doc = $doc] #[n($n)] #[cbor(default)] pub $field: u64,)*
            /// Protocol versions that may attach: `accept_versions` of `[cluster]`. In force at once.
            #[n(100)]
            pub accept_versions: VersionRange,
        }

        impl Settings {
            /// Every numeric and boolean key.
            pub const KEYS: &'static [Key] = &[
                $(Key { name: $name, min: $min, max: $max, default: $default, is_bool: settings!(@bool $kind), doc: $doc },)*
            ];

            /// The value of a key; `None` for an unknown one.
            #[must_use]
            pub fn number(&self, name: &str) -> Option<u64> {
                match name { $($name => Some(self.$field),)* _ => None }
            }

            /// What was stored before a key came to be has no value for it: it gets its default.
            pub(crate) fn complete(&mut self) {
                for key in Self::KEYS {
                    if let Some(value) = self.slot(key.name).filter(|value| **value < key.min) {
                        *value = key.default;
                    }
                }
            }

            fn slot(&mut self, name: &str) -> Option<&mut u64> {
                match name { $($name => Some(&mut self.$field),)* _ => None }
            }
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* accept_versions: default_versions() }
            }
        }
    };
    (@bool number) => { false };
    (@bool switch) => { true };
}

settings! {
    0 interval_ms: "round.interval_ms", number, 500, 3_600_000, 10_000, "length of a round, ms";
    1 ping_timeout_ms: "round.ping_timeout_ms", number, 50, 1_800_000, 0, "time a follower has to answer, ms; 0 = a quarter of the interval, at most 2,000; at most half the interval";
    2 second_ping_bp: "round.second_ping_bp", number, 0, 10_000, 1_000, "share of members that get a second ping in a round, basis points";
    3 grace_rounds: "round.grace_rounds", number, 1, 60, 3, "rounds after a super's start or death in which absence does not count";
    4 observers: "round.observers", number, 1, 8, 2, "supers that a follower attaches to, where there are that many";
    5 require_declared_port: "round.require_declared_port", switch, 0, 1, 1, "a follower must connect from the port that it declares";
    6 suspect_share_bp: "round.suspect_share_bp", number, 500, 10_000, 3_000, "a round is suspect when this share of those up before is missing, basis points";
    7 suspect_min: "round.suspect_min", number, 1, 1_000_000, 5, "and at least this many";
    8 disagree_share_bp: "guard.disagree_share_bp", number, 500, 10_000, 2_000, "a round is suspect when this share of those asked twice is seen by one and missed by another, basis points";
    9 disagree_min: "guard.disagree_min", number, 1, 1_000_000, 5, "and at least this many";
    10 suspect_rounds: "guard.suspect_rounds", number, 1, 1_000, 3, "suspect rounds in a row before an event asks the operator";
    11 members: "guardrails.members", number, 1, 1_000_000, 20_000, "members in the queue";
    12 rows_factor: "guardrails.rows_factor", number, 1, 100, 10, "known members, as a multiple of `members`";
    13 joins_round: "guardrails.joins_round", number, 1, 1_000_000, 500, "new members a round";
    14 joins_group_round: "guardrails.joins_group_round", number, 1, 1_000_000, 10, "new members a round from one network group";
    15 group_members: "guardrails.group_members", number, 1, 1_000_000, 100, "members of one network group";
    16 probation_rounds: "guardrails.probation_rounds", number, 0, 10_000, 10, "settled, trusted rounds of probation after a ban";
    17 ban_rounds_max: "guardrails.ban_rounds_max", number, 1, 100_000_000, 0, "longest ban, rounds; 0 = 30 days of rounds";
    18 forget_days: "guardrails.forget_days", number, 1, 3_650, 30, "a member out of the queue with nothing earned is forgotten after so many days";
    19 bans_round_bp: "guardrails.bans_round_bp", number, 0, 10_000, 500, "new bans a round, basis points of the queue";
    20 bans_round_min: "guardrails.bans_round_min", number, 0, 1_000_000, 3, "new bans a round that are always possible";
    21 moves_bp: "guardrails.moves_bp", number, 100, 10_000, 2_000, "distinct members moved to suspended or banned within `moves_rounds`, basis points of the queue";
    22 moves_min: "guardrails.moves_min", number, 1, 1_000_000, 5, "and so many are always possible";
    23 moves_rounds: "guardrails.moves_rounds", number, 1, 1_000_000, 360, "the span of that count, rounds";
    24 points_member: "guardrails.points_member", number, 0, 1_000_000_000, 1_000, "positive points a round, as a multiple of the queue";
    25 wallet_fee: "guardrails.wallet_fee", number, 0, 1_000, 1, "points that the first credit to a new wallet costs";
    26 tariff_max: "guardrails.tariff_max", number, 0, 1_000, 1_000, "largest least penalty and record fee, points";
    27 fuel_base: "policy_limits.fuel_base", number, 1_000_000, 1_000_000_000_000, 200_000_000, "fuel of one evaluation";
    28 fuel_member: "policy_limits.fuel_member", number, 0, 10_000_000, 20_000, "fuel a member besides";
    29 memory_base_bytes: "policy_limits.memory_base_bytes", number, 1_048_576, 4_294_967_296, 67_108_864, "guest memory of one evaluation, bytes";
    30 memory_member_bytes: "policy_limits.memory_member_bytes", number, 0, 1_048_576, 512, "guest memory a member besides (and three times its memory-bytes)";
    31 output_base_bytes: "policy_limits.output_base_bytes", number, 65_536, 1_073_741_824, 1_048_576, "data out of a component beyond the columns' own size, bytes";
    32 deadline_ms: "policy_limits.deadline_ms", number, 1, 1_800_000, 1_000, "wall clock of one evaluation, ms; at most half the interval counts";
    33 log_bytes: "policy_limits.log_bytes", number, 0, 1_048_576, 65_536, "text to `log` a round, bytes";
    34 state_bytes: "policy_limits.state_bytes", number, 0, 4_096, 256, "largest memory-bytes of a policy";
    35 delta_base_bytes: "policy_limits.delta_base_bytes", number, 65_536, 16_777_216, 262_144, "encoded change of memory a round, bytes";
    36 delta_member_bytes: "policy_limits.delta_member_bytes", number, 0, 4_096, 32, "and a member besides";
    37 return_faults: "policy_limits.return_faults", number, 1, 10, 3, "deterministic faults within 10 rounds that bring the previous policy back";
    38 notice_rounds: "guardrails.notice_rounds", number, 0, 1_000_000, 0, "rounds between an activation and the first round that the policy decides; never less than 2";
    39 notice_always: "guardrails.notice_always", switch, 0, 1, 0, "not even an emergency activation may go without that notice";
    40 batch_bytes: "records.batch_bytes", number, 131_072, 8_388_608, 1_048_576, "bytes of records in a batch";
    41 batch_records: "records.batch_records", number, 1, 512, 512, "records in a batch";
    42 batch_ms: "records.batch_ms", number, 0, 1_000, 5, "time that a batch waits for more records while others are under way, ms";
    43 pending_bytes: "records.pending_bytes", number, 1_048_576, 4_294_967_296, 67_108_864, "bytes of records that are ordered and not sealed";
    44 pending_batches: "records.pending_batches", number, 1, 65_536, 1_024, "batches that are ordered and not sealed";
    45 handed_out: "records.handed_out", number, 1, 64, 8, "batches that validators work on at a time";
    46 digests: "records.digests", number, 1, 100_000_000, 4_000_000, "digests of records that are known until they expire";
    47 certificates: "records.certificates", number, 1, 1_000_000, 10_000, "certificates that supers keep, and signatures that validators remember";
    48 turn_ms: "records.turn_ms", number, 50, 600_000, 2_000, "time that a validator has to gather signatures before it is the next one's turn, ms";
    49 stuck_turns: "records.stuck_turns", number, 1, 1_000, 3, "turns of the whole set without a quorum before an event says that a batch is stuck";
    50 quorum: "records.quorum", number, 0, 64, 0, "signatures that seal a batch; never less than two thirds of the set and one more, never more than the set; 0 = the least";
}

fn default_versions() -> VersionRange {
    // The text is a constant of ours; the test below reads it.
    ">=0.1, <0.2".parse().unwrap_or_else(|_| unreachable!())
}

/// Why a setting was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SettingError {
    /// No such key.
    #[n(0)]
    Unknown {
        /// The nearest key that exists, if one is near.
        #[n(0)]
        near: Option<String>,
    },
    /// The text is no number or boolean.
    #[n(1)]
    Type {
        /// What is expected.
        #[n(0)]
        expected: String,
    },
    /// Outside the bounds.
    #[n(2)]
    Range {
        /// Smallest value.
        #[n(0)]
        min: u64,
        /// Largest value.
        #[n(1)]
        max: u64,
    },
    /// It contradicts another setting.
    #[n(3)]
    Conflict {
        /// Which, and how to mend it.
        #[n(0)]
        text: String,
    },
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { near: Some(near) } => write!(f, "there is no such setting; did you mean `{near}`?"),
            Self::Unknown { near: None } => f.write_str("there is no such setting"),
            Self::Type { expected } => write!(f, "expected {expected}"),
            Self::Range { min, max } => write!(f, "must be from {min} to {max}"),
            Self::Conflict { text } => f.write_str(text),
        }
    }
}

impl core::error::Error for SettingError {}

impl Settings {
    /// Name of the one key that is text.
    pub const ACCEPT_VERSIONS: &'static str = "cluster.accept_versions";

    /// Every key with its value as text, in the order of the table.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let mut all: Vec<_> = Self::KEYS
            .iter()
            .map(|key| {
                let value = self.number(key.name).unwrap_or(key.default);
                (key.name, if key.is_bool { (value == 1).to_string() } else { value.to_string() })
            })
            .collect();
        all.push((Self::ACCEPT_VERSIONS, self.accept_versions.to_string()));
        all
    }

    /// Sets one key from text. Digits may be grouped with `_`.
    ///
    /// # Errors
    /// [`SettingError`]; the settings are then as before.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let mut next = self.clone();
        next.put(name, value)?;
        next.check()?;
        *self = next;
        Ok(())
    }

    /// The name of a key as it is stored: the one key of `[cluster]` is also known without its section.
    #[must_use]
    pub fn full_name(name: &str) -> &str {
        if name == "accept_versions" { Self::ACCEPT_VERSIONS } else { name }
    }

    /// The value of any key as text; `None` for an unknown one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        let name = Self::full_name(name);
        self.entries().into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Sets one key from text, whether or not it fits to the others: several changes are checked together, when the last
    /// one is in.
    ///
    /// # Errors
    /// [`SettingError`]; the settings are then as before.
    pub fn put(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let name = Self::full_name(name);
        if name == Self::ACCEPT_VERSIONS {
            let expected = || SettingError::Type { expected: "a range of versions such as `>=0.1, <0.2`".into() };
            self.accept_versions = Some(value)
                .filter(|value| value.len() <= REASON_BYTES)
                .ok_or_else(expected)?
                .parse()
                .map_err(|_| expected())?;
            return Ok(());
        }
        let key = Self::KEYS.iter().find(|key| key.name == name).ok_or_else(|| Self::unknown(name))?;
        let number = match (key.is_bool, value) {
            (true, "true") => 1,
            (true, "false") => 0,
            (true, _) => return Err(SettingError::Type { expected: "true or false".into() }),
            (false, _) => {
                value.replace('_', "").parse().map_err(|_| SettingError::Type { expected: "a whole number".into() })?
            }
        };
        // 0 in a key whose default is 0 means "derived" or "none", whatever its bounds.
        let derived = number == 0 && key.default == 0;
        if !derived && !(key.min..=key.max).contains(&number) {
            return Err(SettingError::Range { min: key.min, max: key.max });
        }
        if let Some(slot) = self.slot(name) {
            *slot = number;
        }
        Ok(())
    }

    /// Whether the settings fit together.
    ///
    /// # Errors
    /// [`SettingError::Conflict`] with the two keys and the cure.
    pub fn check(&self) -> Result<(), SettingError> {
        if self.ping_timeout_ms > self.interval_ms / 2 {
            let text = alloc::format!(
                "round.ping_timeout_ms {} is more than half of round.interval_ms {}; use at most {} or leave it out",
                self.ping_timeout_ms,
                self.interval_ms,
                self.interval_ms / 2
            );
            return Err(SettingError::Conflict { text });
        }
        Ok(())
    }

    fn unknown(name: &str) -> SettingError {
        let near = Self::KEYS
            .iter()
            .map(|key| (distance(name, key.name), key.name))
            .min()
            .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
            .map(|(_, name)| name.to_string());
        SettingError::Unknown { near }
    }

    /// The ping timeout *T* in force, ms: the setting, or min(2 s, *I*/4).
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        if self.ping_timeout_ms == 0 { (self.interval_ms / 4).min(2_000) } else { self.ping_timeout_ms }
    }

    /// The longest ban in force, rounds: the setting, or 30 days of rounds.
    #[must_use]
    pub fn longest_ban_rounds(&self) -> u64 {
        if self.ban_rounds_max == 0 { self.rounds_in_days(30) } else { self.ban_rounds_max }
    }

    /// How many rounds so many days are, at least 1.
    #[must_use]
    pub fn rounds_in_days(&self, days: u64) -> u64 {
        (days.saturating_mul(86_400_000) / self.interval_ms.max(1)).max(1)
    }

    /// Whether the port rule is on.
    #[must_use]
    pub const fn port_rule(&self) -> bool {
        self.require_declared_port == 1
    }

    /// Limits of policies.
    #[must_use]
    pub fn policy_limits(&self) -> LimitSettings {
        LimitSettings {
            fuel_base: self.fuel_base,
            fuel_member: self.fuel_member,
            memory_base_bytes: self.memory_base_bytes,
            memory_member_bytes: self.memory_member_bytes,
            output_base_bytes: self.output_base_bytes,
            deadline_ms: self.deadline_ms.min(self.interval_ms / 2),
            log_bytes: self.log_bytes,
            state_bytes: u32::try_from(self.state_bytes).unwrap_or(u32::MAX),
        }
    }
}

/// Edits (insert, remove, replace) from one text to the other: for "did you mean".
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replace = diagonal + usize::from(x != *y);
            diagonal = *cell;
            *cell = replace.min(*cell + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_own_bounds_and_fit_together() {
        let settings = Settings::default();
        settings.check().unwrap();
        for key in Settings::KEYS {
            assert!(key.default == 0 || (key.min..=key.max).contains(&key.default), "{}", key.name);
            assert_eq!(settings.number(key.name), Some(key.default));
        }
        assert_eq!(settings.timeout_ms(), 2_000);
        assert_eq!(settings.longest_ban_rounds(), 259_200);
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let mut settings = Settings::default();
        for (name, value, error) in [
            ("round.intervall_ms", "1000", SettingError::Unknown { near: Some("round.interval_ms".into()) }),
            ("zzz", "1", SettingError::Unknown { near: None }),
            ("round.interval_ms", "fast", SettingError::Type { expected: "a whole number".into() }),
            ("round.ping_timeout_ms", "49", SettingError::Range { min: 50, max: 1_800_000 }),
            ("round.interval_ms", "1", SettingError::Range { min: 500, max: 3_600_000 }),
            ("round.require_declared_port", "1", SettingError::Type { expected: "true or false".into() }),
        ] {
            assert_eq!(settings.set(name, value), Err(error), "{name}");
        }
        assert!(matches!(settings.set("round.ping_timeout_ms", "5001"), Err(SettingError::Conflict { .. })));
        assert_eq!(settings, Settings::default());
        settings.set("round.interval_ms", "60_000").unwrap();
        settings.set("round.ping_timeout_ms", "50").unwrap();
        settings.set("round.ping_timeout_ms", "0").unwrap();
        settings.set("round.require_declared_port", "false").unwrap();
        settings.set("accept_versions", ">=0.1, <0.3").unwrap();
        assert_eq!((settings.interval_ms, settings.port_rule()), (60_000, false));
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0), ("ab", "ba", 2)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
