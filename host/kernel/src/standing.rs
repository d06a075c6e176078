//! The five grades and who may set which.
//!
//! `good → warned → suspended (pinged, not paid) → banned(until) → probation → good`. The ban policy moves a member
//! between good, warned, suspended and banned; the host alone ends bans and probation (PROTOCOLS 6).

use core::fmt;

use minicbor::{Decode, Encode};

/// A member's grade. The numbers are those of the policies' column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Standing {
    /// Nothing against it.
    #[default]
    #[n(0)]
    Good,
    /// Near a limit; nothing is taken away.
    #[n(1)]
    Warned,
    /// Still attached and pinged, not paid.
    #[n(2)]
    Suspended,
    /// Disconnected and refused until its ban is over; not in the queue.
    #[n(3)]
    Banned,
    /// Back from a ban.
    #[n(4)]
    Probation,
}

impl Standing {
    /// All grades, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Good, Self::Warned, Self::Suspended, Self::Banned, Self::Probation];

    /// The code in the policies' column.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The standing that a ban policy's code asks for; `None` for probation and unknown codes.
    #[must_use]
    pub const fn from_policy(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Good),
            1 => Some(Self::Warned),
            2 => Some(Self::Suspended),
            3 => Some(Self::Banned),
            _ => None,
        }
    }

    /// Good, warned and probation are paid; who ends a round suspended or banned gets nothing for it.
    #[must_use]
    pub const fn is_paid(self) -> bool {
        matches!(self, Self::Good | Self::Warned | Self::Probation)
    }

    /// Suspended or banned: what the guardrails count as "put out".
    #[must_use]
    pub const fn is_out(self) -> bool {
        !self.is_paid()
    }

    /// The word in the API and on screens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warned => "warned",
            Self::Suspended => "suspended",
            Self::Banned => "banned",
            Self::Probation => "probation",
        }
    }

    /// What a member stands at when its policy asks for `wanted` and its probation, if it is on one, is over or not.
    /// During probation good and warned leave it there; suspended and banned take effect.
    #[must_use]
    pub const fn after(self, wanted: Self, probation_over: bool) -> Self {
        match (self, wanted) {
            (Self::Probation, Self::Good | Self::Warned) if !probation_over => Self::Probation,
            _ => wanted,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probation_ends_only_when_it_is_over_or_the_policy_is_stern() {
        use Standing::{Banned, Good, Probation, Suspended, Warned};
        for (from, wanted, over, after) in [
            (Probation, Good, false, Probation),
            (Probation, Warned, false, Probation),
            (Probation, Good, true, Good),
            (Probation, Suspended, false, Suspended),
            (Probation, Banned, false, Banned),
            (Suspended, Good, false, Good),
            (Good, Banned, false, Banned),
        ] {
            assert_eq!(from.after(wanted, over), after, "{from} {wanted} {over}");
        }
    }
}
