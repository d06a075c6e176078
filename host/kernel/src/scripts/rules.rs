//! Small native rules for scripts, named `rule` or `rule:numbers`. The name is the component's bytes.

use crate::command::{Answer, BanColumns, RewardColumns};
use crate::decide::{Description, Fault, FaultKind, Slot, Tariff};
use crate::members::Member;
use crate::policies::delta;
use crate::round::Presence;
use crate::standing::Standing;

/// One row of what a rule sees.
pub(crate) struct Row<'a> {
    pub member: &'a Member,
    pub presence: Presence,
    pub memory: &'a [u8],
}

/// A rule by its name.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    name: String,
    numbers: Vec<i64>,
}

impl Rule {
    pub(crate) fn parse(text: &str) -> Self {
        let (name, numbers) = text.split_once(':').unwrap_or((text, ""));
        let numbers = numbers.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
        Self { name: name.into(), numbers }
    }

    fn number(&self, at: usize, default: i64) -> i64 {
        self.numbers.get(at).copied().unwrap_or(default)
    }

    pub(crate) fn slot(&self) -> Slot {
        match self.name.as_str() {
            "strikes" | "tyrant" | "lenient" | "creep" | "broken-ban" | "odd-ban" => Slot::Ban,
            "sign" | "sign-all" => Slot::Signing,
            _ => Slot::Reward,
        }
    }

    /// `strikes` and `lenient` share a memory of one byte, `tyrant` has one of its own; of the rewards only `count`
    /// remembers anything.
    pub(crate) fn description(&self) -> Description {
        let (memory_bytes, schema, reasons) = match self.name.as_str() {
            "strikes" | "lenient" => (1, "misses", vec!["missed", "too many misses", "not observed"]),
            "tyrant" => (2, "tyrant", vec!["because"]),
            "creep" => (1, "creep", vec!["its turn came"]),
            "sign" => (0, "", vec!["too long", "not polite"]),
            "count" => (4, "count", vec!["counted"]),
            _ => (0, "", vec!["paid"]),
        };
        Description {
            name: self.name.clone(),
            version: "1".into(),
            memory_bytes,
            memory_schema: schema.into(),
            reasons: reasons.into_iter().map(String::from).collect(),
            extra: Vec::new(),
        }
    }

    /// `strikes:WARN,SUSPEND,BAN,ROUNDS` gives a strike a miss and takes one back for each round up; `lenient` finds
    /// everybody good; `tyrant:ROUNDS` bans everybody; `creep:N` suspends one more each N rounds; `broken-ban` traps; `odd-ban` answers with codes that there are not.
    pub(crate) fn judge(&self, rows: &[Row<'_>]) -> Answer<BanColumns> {
        let mut columns = BanColumns::default();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            let mut memory = row.memory.to_vec();
            let (strikes, standing, until, reason) = match self.name.as_str() {
                "creep" => {
                    let rounds = memory.first_mut().map_or(0, |rounds| {
                        *rounds = rounds.saturating_add(1);
                        usize::from(*rounds)
                    });
                    let out = rounds / self.number(0, 1).max(1) as usize > at;
                    if out { (1, Standing::Suspended, 0, 1) } else { (0, Standing::Good, 0, 0) }
                }
                "strikes" => {
                    let strikes = match row.presence {
                        Presence::Down => row.member.hot.strikes.saturating_add(1),
                        Presence::Up => row.member.hot.strikes.saturating_sub(1),
                        Presence::Unknown => row.member.hot.strikes,
                    };
                    if let Some(misses) = memory.first_mut() {
                        *misses = misses.saturating_add(u8::from(row.presence == Presence::Down));
                    }
                    let reason = if row.presence == Presence::Unknown { 3 } else { 1 };
                    let n = i64::from(strikes);
                    if n >= self.number(2, 4) {
                        (0, Standing::Banned, self.number(3, 5), 2)
                    } else if n >= self.number(1, 2) {
                        (strikes, Standing::Suspended, 1, reason)
                    } else if n >= self.number(0, 1) {
                        (strikes, Standing::Warned, 0, reason)
                    } else {
                        (strikes, Standing::Good, 0, 0)
                    }
                }
                "lenient" => (0, Standing::Good, 0, 0),
                "tyrant" => {
                    memory.fill(7);
                    (9, Standing::Banned, self.number(0, 5), 1)
                }
                "odd-ban" => (0, Standing::Probation, 0, 0),
                _ => return Answer::Fault(Fault::new(FaultKind::Trap, "index out of bounds")),
            };
            columns.strikes.push(strikes);
            columns.standing.push(standing.code());
            columns.until.push(until as u32);
            columns.reasons.push(reason);
            before.extend_from_slice(row.memory);
            after.extend(memory);
        }
        columns.delta = delta(&before, &after);
        Answer::Columns(columns)
    }

    /// `flat:POINTS` pays who is up, `all:POINTS` pays everybody, `tariff:BP,MIN` is `flat` with another tariff, `count`
    /// is `flat` and counts the rounds that it paid; `broken` traps.
    pub(crate) fn reward(&self, rows: &[Row<'_>]) -> Answer<RewardColumns> {
        let mut columns = RewardColumns::default();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for row in rows {
            let mut memory = row.memory.to_vec();
            let up = row.presence == Presence::Up;
            columns.points.push(match self.name.as_str() {
                "flat" => self.number(0, 10) * i64::from(up),
                "all" => self.number(0, 10),
                "tariff" => 10 * i64::from(up),
                "count" => {
                    if let Some(paid) = memory.first_mut() {
                        *paid = paid.wrapping_add(u8::from(up));
                    }
                    10 * i64::from(up)
                }
                _ => return Answer::Fault(Fault::new(FaultKind::Trap, "divide by zero")),
            });
            columns.reasons.push(u16::from(up));
            before.extend_from_slice(row.memory);
            after.extend(memory);
        }
        columns.delta = delta(&before, &after);
        if self.name == "tariff" {
            let (bp, min) = (self.number(0, 1_000) as u32, self.number(1, 1) as u32);
            columns.tariff = Tariff { overclaim_bp: bp, overclaim_min: min, ..Tariff::default() };
        }
        Answer::Columns(columns)
    }
}
