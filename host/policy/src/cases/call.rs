//! Cases of one call: rows in, the rule's own answer out. Nothing of the host stands between, but the checks of an answer.

use kernel::columns::Inputs;
use kernel::decide::{Column, Description, Fault, LogLine, Members, Policy, RoundInput, Slot, flag, presence};
use kernel::id::Digest;
use kernel::round::fact;
use kernel::settings::Settings;
use kernel::standing::Standing;

use super::file::{self, RoundKeys, Row, Seen, TariffKeys, Wide, hex, unhex};
use super::world::{LOG_LINES, START_MS};
use super::{CALL_MEMBERS, Case, CaseError, INTERVAL_MS, Played};
use crate::failing::Failing;

/// What a rule answered, as far as a case can expect something of it.
#[derive(Debug, Default)]
struct Answered {
    standing: Vec<u8>,
    strikes: Vec<u16>,
    until: Vec<u32>,
    points: Vec<i64>,
    reasons: Vec<u16>,
    memory: Vec<u8>,
    tariff: Option<TariffKeys>,
}

impl Case {
    pub(super) fn check_call(&self) -> Result<(), CaseError> {
        let keys = &self.keys;
        if self.rows().len() > CALL_MEMBERS {
            return Err(self.wrong(format!("`members` has a row for each member, at most {CALL_MEMBERS}")));
        }
        if !keys.rounds.is_empty() {
            return Err(self.wrong("a case has `rounds`, or `members` for one call, and not both"));
        }
        if keys.start != file::Start::default() || keys.interval_ms.is_some() {
            let what = "`start` and `interval_ms` go with `rounds`; beside `members`, what holds stands in each row, and \
                        `round.interval_ms` is the length of a round";
            return Err(self.wrong(what));
        }
        for spanned in self.rows() {
            Self::check_row(spanned.get_ref()).map_err(|what| self.wrong_at(spanned.span().start, what))?;
        }
        let seed = keys.round.as_ref().map_or("", |round| &round.seed);
        if !seed.is_empty() && unhex(seed).is_none_or(|bytes| bytes.len() != 32) {
            return Err(self.wrong("`round.seed` is 64 hex digits"));
        }
        Ok(())
    }

    fn check_row(row: &Row) -> Result<(), String> {
        if let Some(other) = row.facts.iter().find(|name| bit(name, &fact::NAMES, 16).is_none()) {
            return Err(file::unknown(other, "fact", &fact::NAMES));
        }
        if let Some(other) = row.flags.iter().find(|name| bit(name, &flag::NAMES, 32).is_none()) {
            return Err(file::unknown(other, "flag", &flag::NAMES));
        }
        let names = Standing::ALL.map(Standing::name);
        if let Some(other) = row.standing.as_ref().filter(|name| !names.contains(&name.as_str())) {
            return Err(file::unknown(other, "standing", &names));
        }
        match unhex(&row.memory) {
            Some(_) => Ok(()),
            None => Err(format!("`memory` is hex, two digits a byte, and not `{}`", row.memory)),
        }
    }

    /// What the rule is called with; `None` for a case of rounds.
    ///
    /// # Errors
    /// [`CaseError::Case`] where the rows do not fit what the rule says of itself.
    pub fn inputs(&self, slot: Slot, description: &Description) -> Result<Option<Inputs>, CaseError> {
        if !self.is_call() {
            return Ok(None);
        }
        self.call_inputs(slot, self.config()?, self.cluster_settings()?, description).map(Some)
    }

    fn call_inputs(
        &self,
        slot: Slot,
        config: String,
        settings: Settings,
        description: &Description,
    ) -> Result<Inputs, CaseError> {
        let rows: Vec<&Row> = self.rows().iter().map(|row| row.get_ref()).collect();
        let mut memory = Vec::with_capacity(rows.len() * description.memory_bytes as usize);
        for spanned in self.rows() {
            let row = row_memory(spanned.get_ref(), description.memory_bytes as usize);
            memory.extend(row.map_err(|what| self.wrong_at(spanned.span().start, what))?);
        }
        let extra = self.extra(description)?;
        Ok(Inputs {
            slot,
            config,
            round: round(self.keys.round.as_ref(), rows.len()),
            members: columns(&rows, extra),
            memory,
            settings,
        })
    }

    fn extra(&self, description: &Description) -> Result<Vec<Column>, CaseError> {
        for spanned in self.rows() {
            let known: Vec<&str> = description.extra.iter().map(String::as_str).collect();
            for (name, value) in &spanned.get_ref().extra {
                let wrong = |what| Err(self.wrong_at(spanned.span().start, what));
                if !known.contains(&name.as_str()) {
                    return wrong(if known.is_empty() {
                        format!("`extra` has `{name}`, and the rule asks for no extra column")
                    } else {
                        file::unknown(name, "extra column that the rule asks for", &known)
                    });
                }
                if !value.is_integer() {
                    return wrong(format!("`extra`: `{name}` is a whole number, and not {value}"));
                }
            }
        }
        let value = |row: &Row, name: &String| {
            let nothing = if name.ends_with(".presence") { presence::UNKNOWN.into() } else { 0 };
            row.extra.get(name).and_then(toml::Value::as_integer).unwrap_or(nothing)
        };
        let column = |name: &String| Column {
            name: name.clone(),
            values: self.rows().iter().map(|row| value(row.get_ref(), name)).collect(),
        };
        Ok(description.extra.iter().map(column).collect())
    }

    pub(super) fn play_call(
        &self,
        slot: Slot,
        config: &str,
        settings: Settings,
        policy: &dyn Policy,
    ) -> Result<Played, CaseError> {
        let inputs = self.call_inputs(slot, config.into(), settings, policy.description())?;
        let (answer, log) = answer(&inputs, policy);
        let round = inputs.round.number;
        let faults: Vec<(u64, Fault)> = answer.as_ref().err().map(|fault| (round, fault.clone())).into_iter().collect();
        let mut differences: Vec<String> = self.fault_difference(&faults).into_iter().collect();
        if let Ok(answered) = &answer {
            differences.extend(self.call_differences(answered, policy.description()));
        }
        let failing = answer.err().filter(|fault| !self.expects(fault.kind)).map(|fault| {
            let names = self.rows().iter().map(|row| row.get_ref().name.clone()).collect();
            Box::new(Failing { inputs, names, fault })
        });
        Ok(Played {
            name: self.name().into(),
            differences,
            faults: faults.iter().map(|(round, fault)| format!("round {round}: {fault}")).collect(),
            log: log.into_iter().rev().take(LOG_LINES).rev().map(|line| line.message).collect(),
            failing,
        })
    }

    fn call_differences(&self, answered: &Answered, description: &Description) -> Vec<String> {
        let expect = &self.keys.expect;
        let reason = |code: u16| {
            let text = usize::from(code).checked_sub(1).and_then(|at| description.reasons.get(at));
            format!("\"{}\"", text.map_or("", String::as_str))
        };
        let standing = |code: u8| Standing::ALL.get(usize::from(code)).map_or("none", |standing| standing.name());
        let row_bytes = description.memory_bytes as usize;
        let mut out = Vec::new();
        for (at, row) in self.rows().iter().enumerate() {
            let name = &row.get_ref().name;
            let who = if name.is_empty() { String::new() } else { format!(" ({name})") };
            let mut compare = |what: &str, expected: Option<String>, got: Option<String>| {
                let (Some(expected), got) = (expected, got.unwrap_or_else(|| "nothing".into())) else { return };
                if expected != got {
                    out.push(format!("member {}{who}: {what} should be {expected}, but is {got}", at + 1));
                }
            };
            compare(
                "standing",
                expect.standing.as_ref().and_then(|all| all.get(at)).cloned(),
                answered.standing.get(at).map(|code| standing(*code).into()),
            );
            compare("strikes", text(expect.strikes.as_ref(), at), text(Some(&answered.strikes), at));
            compare("points", text(expect.points.as_ref(), at), text(Some(&answered.points), at));
            compare("until", text(expect.until.as_ref(), at), text(Some(&answered.until), at));
            compare(
                "reason",
                expect.reason.as_ref().and_then(|all| all.get(at)).map(|text| format!("\"{text}\"")),
                answered.reasons.get(at).map(|code| reason(*code)),
            );
            compare(
                "memory",
                expect.memory.as_ref().and_then(|all| all.get(at)).cloned(),
                answered.memory.get(at * row_bytes..(at + 1) * row_bytes).map(hex),
            );
        }
        if let Some(expected) = expect.tariff.filter(|expected| Some(*expected) != answered.tariff) {
            out.push(format!(
                "the tariff should be {}, but is {}",
                tariff_text(Some(expected)),
                tariff_text(answered.tariff)
            ));
        }
        out
    }
}

fn tariff_text(tariff: Option<TariffKeys>) -> String {
    tariff.map_or_else(
        || "none: the rule is a ban rule".into(),
        |TariffKeys { overclaim_bp, overclaim_min, record_fee, record_fee_kib }| {
            format!(
                "{{ overclaim_bp = {overclaim_bp}, overclaim_min = {overclaim_min}, record_fee = {record_fee}, \
                 record_fee_kib = {record_fee_kib} }}"
            )
        },
    )
}

fn text<T: ToString>(column: Option<&Vec<T>>, at: usize) -> Option<String> {
    column.and_then(|column| column.get(at)).map(ToString::to_string)
}

fn answer(inputs: &Inputs, policy: &dyn Policy) -> (Result<Answered, Fault>, Vec<LogLine>) {
    match inputs.slot {
        Slot::Ban => {
            let run = inputs.judge(policy);
            let answered = run.result.map(|judged| Answered {
                standing: judged.standing,
                strikes: judged.strikes,
                until: judged.until,
                reasons: judged.reasons,
                memory: judged.memory,
                ..Answered::default()
            });
            (answered, run.log)
        }
        Slot::Reward => {
            let run = inputs.reward(policy);
            let answered = run.result.map(|reward| Answered {
                points: reward.points,
                reasons: reward.reasons,
                memory: reward.memory,
                tariff: Some(TariffKeys {
                    overclaim_bp: reward.tariff.overclaim_bp,
                    overclaim_min: reward.tariff.overclaim_min,
                    record_fee: reward.tariff.record_fee,
                    record_fee_kib: reward.tariff.record_fee_kib,
                }),
                ..Answered::default()
            });
            (answered, run.log)
        }
        // `play` lets no case of members come this far.
        Slot::Signing => (Ok(Answered::default()), Vec::new()),
    }
}

/// The bit of a name; `bit9` for those that have none.
pub(super) fn bit(name: &str, names: &[&str], bits: u32) -> Option<u32> {
    let at = names.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok());
    at.or_else(|| name.strip_prefix("bit")?.parse().ok()).filter(|at| *at < bits)
}

fn row_memory(row: &Row, bytes: usize) -> Result<Vec<u8>, String> {
    let memory = unhex(&row.memory).unwrap_or_default();
    match memory.len() {
        0 => Ok(vec![0; bytes]),
        some if some == bytes => Ok(memory),
        some => Err(format!(
            "`memory` has {some} bytes, and the rule remembers {bytes} of each member under this config: leave it out, or \
             write {} hex digits",
            2 * bytes
        )),
    }
}

fn round(keys: Option<&RoundKeys>, population: usize) -> RoundInput {
    let keys = keys.cloned().unwrap_or_default();
    let interval_ms = keys.interval_ms.unwrap_or(INTERVAL_MS);
    let seed = unhex(&keys.seed).and_then(|bytes| bytes.try_into().ok());
    RoundInput {
        number: keys.number.unwrap_or(1),
        now_ms: keys.now_ms.unwrap_or(START_MS),
        elapsed_ms: keys.elapsed_ms.unwrap_or(interval_ms),
        interval_ms,
        population: population as u32,
        suspect: keys.suspect,
        seed: Digest(seed.unwrap_or_default()),
    }
}

/// Seats that asked and that saw a member of whom nothing else is said: the first one does both.
pub(super) const fn usual_observers(seen: Seen) -> (u8, u8) {
    match seen {
        Seen::Up => (1, 1),
        Seen::Down => (1, 0),
        Seen::Unknown => (0, 0),
    }
}

fn columns(rows: &[&Row], extra: Vec<Column>) -> Members {
    fn each<T>(rows: &[&Row], of: impl Fn(&Row) -> T) -> Vec<T> {
        rows.iter().map(|row| of(row)).collect()
    }
    let bits = |names: &[String], known: &[&str], most| {
        names.iter().filter_map(|name| bit(name, known, most)).fold(0_u32, |bits, at| bits | 1 << at)
    };
    let standing =
        |row: &Row| Standing::ALL.into_iter().find(|standing| Some(standing.name()) == row.standing.as_deref());
    Members {
        presence: each(rows, |row| match row.presence {
            Seen::Up => presence::UP,
            Seen::Down => presence::DOWN,
            Seen::Unknown => presence::UNKNOWN,
        }),
        facts: each(rows, |row| bits(&row.facts, &fact::NAMES, 16) as u16),
        rtt_us: each(rows, |row| row.rtt_us),
        observers: each(rows, |row| {
            let (asked, seen) = usual_observers(row.presence);
            u16::from(row.asked.unwrap_or(asked)) << 8 | u16::from(row.seen.unwrap_or(seen))
        }),
        age: each(rows, |row| row.age),
        standing: each(rows, |row| standing(row).unwrap_or_default().code()),
        strikes: each(rows, |row| row.strikes),
        earned: each(rows, |row| row.earned),
        data: each(rows, |row| {
            let Wide(data) = row.data;
            data
        }),
        class: each(rows, |row| row.class),
        group: each(rows, |row| row.group),
        flags: each(rows, |row| bits(&row.flags, &flag::NAMES, 32)),
        extra,
    }
}
