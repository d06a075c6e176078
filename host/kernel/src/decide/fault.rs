//! What went wrong when a policy ran.

use alloc::string::String;
use core::fmt;

use minicbor::{Decode, Encode};

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
