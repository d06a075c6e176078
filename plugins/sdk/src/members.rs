//! The columns as rows.

use crate::types;

/// What the host saw of a member in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No valid answer, though there was a fair chance.
    Down,
    /// It answered.
    Up,
    /// Nobody had a fair chance to see it: no news at all. Move no counter.
    Unknown,
}

impl Presence {
    /// The code in the column.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Down => 0,
            Self::Up => 1,
            Self::Unknown => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Down,
            1 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

/// A member's grade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing against it.
    Good,
    /// Near a limit; nothing is taken away.
    Warned,
    /// Still pinged, not paid.
    Suspended,
    /// Disconnected and refused until its ban is over.
    Banned,
    /// Back from a ban, watched by the host. A policy sees it and never returns it.
    Probation,
}

impl Standing {
    /// The code in the column.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Warned => 1,
            Self::Suspended => 2,
            Self::Banned => 3,
            Self::Probation => 4,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Warned,
            2 => Self::Suspended,
            3 => Self::Banned,
            4 => Self::Probation,
            _ => Self::Good,
        }
    }

    /// Good, warned and on probation are paid.
    #[must_use]
    pub const fn is_paid(self) -> bool {
        matches!(self, Self::Good | Self::Warned | Self::Probation)
    }
}

/// Bits of [`Row::facts`].
pub mod fact {
    /// No connection in its turn.
    pub const ABSENT: u16 = 1;
    /// A ping without a valid answer in time.
    pub const MISSED: u16 = 2;
    /// An answer after its time.
    pub const LATE: u16 = 4;
    /// An answer to an earlier ping.
    pub const STALE_NONCE: u16 = 8;
    /// A message outside of its turn.
    pub const OUT_OF_TURN: u16 = 16;
    /// A message that cannot be read.
    pub const MALFORMED: u16 = 32;
    /// Too many unasked messages.
    pub const FLOOD: u16 = 64;
}

/// Bits of [`Row::flags`].
pub mod flag {
    /// It declared maintenance that covers this round.
    pub const MAINTENANCE: u32 = 1;
    /// It speaks a newer protocol version than the host.
    pub const NEWER_VERSION: u32 = 2;
    /// It asked to return since the settlement before.
    pub const ASKED_TO_RETURN: u32 = 4;
}

/// All that is known of one member in one round.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its place in the columns. Says nothing about the member.
    pub index: usize,
    /// Up, down or unknown.
    pub presence: Presence,
    /// Bits of [`fact`].
    pub facts: u16,
    /// Lowest round trip, µs; 0 = none.
    pub rtt_us: u32,
    /// Observers that asked it.
    pub asked: u8,
    /// Observers that saw it.
    pub seen: u8,
    /// Rounds in the queue since it joined.
    pub age: u32,
    /// Its grade after the settlement before.
    pub standing: Standing,
    /// Strikes as last returned.
    pub strikes: u16,
    /// Points earned and not claimed.
    pub earned: u64,
    /// A number that the member writes itself: never trust it.
    pub data: u64,
    /// A number that the operator gave it.
    pub class: u32,
    /// Its network group.
    pub group: u32,
    /// Bits of [`flag`].
    pub flags: u32,
}

impl Row {
    /// It declared maintenance that covers this round.
    #[must_use]
    pub const fn in_maintenance(&self) -> bool {
        self.flags & flag::MAINTENANCE != 0
    }
}

/// One round's members. All columns have been checked to have the same length.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    columns: &'a types::Members,
    len: usize,
}

impl<'a> Members<'a> {
    /// Checks the lengths.
    ///
    /// # Errors
    /// Names the column that is too long or too short.
    pub fn new(columns: &'a types::Members, population: u32) -> Result<Self, String> {
        let len = population as usize;
        let c = columns;
        let lengths = [
            ("presence", c.presence.len()),
            ("facts", c.facts.len()),
            ("rtt-us", c.rtt_us.len()),
            ("observers", c.observers.len()),
            ("age", c.age.len()),
            ("standing", c.standing.len()),
            ("strikes", c.strikes.len()),
            ("earned", c.earned.len()),
            ("data", c.data.len()),
            ("class", c.class.len()),
            ("group", c.group.len()),
            ("flags", c.flags.len()),
        ];
        let extra = c.extra.iter().map(|column| (column.name.as_str(), column.values.len()));
        match lengths.into_iter().chain(extra).find(|(_, found)| *found != len) {
            None => Ok(Self { columns, len }),
            Some((name, found)) => Err(format!("column `{name}` has {found} entries for a population of {len}")),
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nobody.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The columns themselves, for rules that look at the whole population at once.
    #[must_use]
    pub const fn columns(&self) -> &'a types::Members {
        self.columns
    }

    /// An extra column by the name that [`About::extra`](crate::About::extra) asked for.
    #[must_use]
    pub fn extra(&self, name: &str) -> Option<&'a [i64]> {
        self.columns.extra.iter().find(|column| column.name == name).map(|column| column.values.as_slice())
    }

    /// Row after row. Fields that a rule does not read cost nothing.
    #[inline]
    pub fn rows(&self) -> impl Iterator<Item = Row> + use<'a> {
        let c = self.columns;
        let observed = c.presence.iter().zip(&c.facts).zip(&c.rtt_us).zip(&c.observers);
        let known = c.age.iter().zip(&c.standing).zip(&c.strikes).zip(&c.earned).zip(&c.data);
        let set = c.class.iter().zip(&c.group).zip(&c.flags);
        observed.zip(known).zip(set).enumerate().map(
            |(
                index,
                (((((presence, facts), rtt_us), observers), ((((age, standing), strikes), earned), data)), set),
            )| {
                let ((class, group), flags) = set;
                Row {
                    index,
                    presence: Presence::from_code(*presence),
                    facts: *facts,
                    rtt_us: *rtt_us,
                    asked: (*observers >> 8) as u8,
                    seen: *observers as u8,
                    age: *age,
                    standing: Standing::from_code(*standing),
                    strikes: *strikes,
                    earned: *earned,
                    data: *data,
                    class: *class,
                    group: *group,
                    flags: *flags,
                }
            },
        )
    }
}
