//! A call written down as a case, so that it can be played again.
//!
//! Invariant: what is written and read again is the same call, bit for bit: a test draws calls and compares.

use std::fmt::Write as _;

use kernel::columns::Inputs;
use kernel::decide::{FaultKind, Judgement, Reward, flag, presence};
use kernel::round::fact;
use kernel::settings::Settings;
use kernel::standing::Standing;
use serde_json::Value as Json;

use super::call::usual_observers;
use super::file::{Seen, hex};
use crate::text::escape;

/// Values of a list in a line of the file.
const IN_LINE: usize = 16;
/// Bytes of a line of remarks.
const REMARK_BYTES: usize = 1_000;

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Lines for people, above the case.
    pub remarks: &'a [String],
    /// The case's name.
    pub name: &'a str,
    /// The call.
    pub inputs: &'a Inputs,
    /// Names of its members; one that is empty or missing is not written.
    pub names: &'a [String],
    /// What it must lead to.
    pub expected: Expected<'a>,
}

/// What a written call must lead to. Texts of reasons are those of the rule's description.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// A fault.
    Fault(FaultKind),
    /// A ban rule's answer.
    Judged(&'a Judgement, &'a [String]),
    /// A reward rule's answer.
    Paid(&'a Reward, &'a [String]),
}

impl Written<'_> {
    /// The case in TOML.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for remark in self.remarks {
            line(&mut out, format!("# {}", escape(remark, REMARK_BYTES)).trim_end());
        }
        line(&mut out, "[[case]]");
        line(&mut out, &format!("name = {}", quoted(self.name)));
        line(&mut out, &format!("slot = {}", quoted(self.inputs.slot.name())));
        let config = serde_json::from_str(&self.inputs.config).unwrap_or(Json::Null);
        line(&mut out, &format!("config = {}", inline(&config)));
        self.settings(&mut out);
        self.round(&mut out);
        let members = self.inputs.members.len();
        line(&mut out, if members == 0 { "members = []" } else { "members = [" });
        for at in 0..members {
            line(&mut out, &format!("    {{ {} }},", self.row(at).join(", ")));
        }
        if members > 0 {
            line(&mut out, "]");
        }
        self.expect(&mut out);
        out
    }

    fn settings(&self, out: &mut String) {
        let usual = Settings::default().entries();
        let other = self.inputs.settings.entries().into_iter().zip(usual).filter(|(own, usual)| own != usual);
        // The others mean nothing to one call.
        let other = other
            .map(|(own, _)| own)
            .filter(|(key, _)| key.starts_with("policy_limits.") || *key == "guardrails.points_member");
        let other: Vec<String> = other
            .map(|(key, value)| match value.parse::<i64>() {
                Ok(number) => format!("{} = {number}", quoted(key)),
                Err(_) => format!("{} = {}", quoted(key), quoted(&value)),
            })
            .collect();
        if !other.is_empty() {
            line(out, &format!("settings = {{ {} }}", other.join(", ")));
        }
    }

    fn round(&self, out: &mut String) {
        let round = &self.inputs.round;
        line(
            out,
            &format!(
                "round = {{ number = {}, now_ms = {}, elapsed_ms = {}, interval_ms = {}, suspect = {}, seed = {} }}",
                round.number,
                round.now_ms,
                round.elapsed_ms,
                round.interval_ms,
                round.suspect,
                quoted(&hex(&round.seed.0))
            ),
        );
    }

    /// Keys and values of a member, without those that are as when nothing is said.
    fn row(&self, at: usize) -> Vec<String> {
        let mut row = Vec::new();
        if let Some(name) = self.names.get(at).filter(|name| !name.is_empty()) {
            row.push(format!("name = {}", quoted(name)));
        }
        row.extend(fields(self.inputs, at).into_iter().map(|field| format!("{} = {}", field.key, field.value)));
        row
    }

    fn expect(&self, out: &mut String) {
        match self.expected {
            Expected::Fault(kind) => line(out, &format!("expect.fault = {}", quoted(kind.name()))),
            Expected::Judged(judged, reasons) => {
                let standing = judged.standing.iter().map(|code| quoted(standing_name(*code)));
                list(out, "standing", standing);
                list(out, "strikes", judged.strikes.iter().map(ToString::to_string));
                list(out, "until", judged.until.iter().map(ToString::to_string));
                list(out, "reason", judged.reasons.iter().map(|code| quoted(reason(*code, reasons))));
                self.memory_after(out, &judged.memory);
            }
            Expected::Paid(reward, reasons) => {
                list(out, "points", reward.points.iter().map(ToString::to_string));
                list(out, "reason", reward.reasons.iter().map(|code| quoted(reason(*code, reasons))));
                let tariff = reward.tariff;
                line(
                    out,
                    &format!(
                        "expect.tariff = {{ overclaim_bp = {}, overclaim_min = {}, record_fee = {}, record_fee_kib = {} }}",
                        tariff.overclaim_bp, tariff.overclaim_min, tariff.record_fee, tariff.record_fee_kib
                    ),
                );
                self.memory_after(out, &reward.memory);
            }
        }
    }

    fn memory_after(&self, out: &mut String, memory: &[u8]) {
        let row_bytes = memory.len().checked_div(self.inputs.members.len()).unwrap_or_default();
        if row_bytes > 0 {
            list(out, "memory", memory.chunks(row_bytes).map(|row| quoted(&hex(row))));
        }
    }
}

/// A key of a member, and its value as it stands in a file.
pub(crate) struct Field {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// What a rule sees of a member, without what is as when nothing is said; presence always.
pub(crate) fn fields(inputs: &Inputs, at: usize) -> Vec<Field> {
    fn of<T: Copy + Default>(column: &[T], at: usize) -> T {
        column.get(at).copied().unwrap_or_default()
    }
    let m = &inputs.members;
    let mut fields = Vec::new();
    let mut add = |key: &str, value: String| fields.push(Field { key: key.into(), value });
    let (seen, word) = match of(&m.presence, at) {
        presence::UP => (Seen::Up, "up"),
        presence::DOWN => (Seen::Down, "down"),
        _ => (Seen::Unknown, "unknown"),
    };
    add("presence", quoted(word));
    let names = |bits: u32, known: &[&str]| {
        let name = |at: u32| {
            let name = known.get(at as usize).map(|name| (*name).to_string());
            quoted(&name.unwrap_or_else(|| format!("bit{at}")))
        };
        let names: Vec<String> = (0..32).filter(|at| bits & 1 << at != 0).map(name).collect();
        format!("[{}]", names.join(", "))
    };
    if of(&m.facts, at) != 0 {
        add("facts", names(of(&m.facts, at).into(), &fact::NAMES));
    }
    let [asked, saw] = of(&m.observers, at).to_be_bytes();
    let usual = usual_observers(seen);
    if asked != usual.0 {
        add("asked", asked.to_string());
    }
    if saw != usual.1 {
        add("seen", saw.to_string());
    }
    let mut number = |key: &str, value: u64| {
        if value != 0 {
            // TOML has whole numbers of 63 bits.
            let wide = i64::try_from(value).is_err();
            add(key, if wide { format!("\"{value:#x}\"") } else { value.to_string() });
        }
    };
    number("rtt_us", of(&m.rtt_us, at).into());
    number("age", of(&m.age, at).into());
    number("strikes", of(&m.strikes, at).into());
    number("earned", of(&m.earned, at));
    number("data", of(&m.data, at));
    number("class", of(&m.class, at).into());
    number("group", of(&m.group, at).into());
    if of(&m.standing, at) != 0 {
        add("standing", quoted(standing_name(of(&m.standing, at))));
    }
    if of(&m.flags, at) != 0 {
        add("flags", names(of(&m.flags, at), &flag::NAMES));
    }
    let row_bytes = inputs.memory.len().checked_div(m.len()).unwrap_or_default();
    let memory = inputs.memory.get(at * row_bytes..(at + 1) * row_bytes).unwrap_or_default();
    if memory.iter().any(|byte| *byte != 0) {
        add("memory", quoted(&hex(memory)));
    }
    if !m.extra.is_empty() {
        let extra: Vec<String> =
            m.extra.iter().map(|column| format!("{} = {}", quoted(&column.name), of(&column.values, at))).collect();
        add("extra", format!("{{ {} }}", extra.join(", ")));
    }
    fields
}

fn standing_name(code: u8) -> &'static str {
    Standing::ALL.get(usize::from(code)).map_or("good", |standing| standing.name())
}

fn reason(code: u16, reasons: &[String]) -> &str {
    usize::from(code).checked_sub(1).and_then(|at| reasons.get(at)).map_or("", String::as_str)
}

fn line(out: &mut String, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{text}");
}

fn list(out: &mut String, key: &str, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    if values.len() <= IN_LINE {
        return line(out, &format!("expect.{key} = [{}]", values.join(", ")));
    }
    line(out, &format!("expect.{key} = ["));
    for some in values.chunks(IN_LINE) {
        line(out, &format!("    {},", some.join(", ")));
    }
    line(out, "]");
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || !crate::text::is_printable(c.encode_utf8(&mut [0; 4])) => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// JSON as a TOML value in one line. Configs have no fractions and no null.
fn inline(value: &Json) -> String {
    match value {
        Json::Null => "{}".into(),
        Json::Bool(is) => is.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => quoted(text),
        Json::Array(all) => format!("[{}]", all.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::Object(all) if all.is_empty() => "{}".into(),
        Json::Object(all) => {
            let all: Vec<String> =
                all.iter().map(|(key, value)| format!("{} = {}", key_text(key), inline(value))).collect();
            format!("{{ {} }}", all.join(", "))
        }
    }
}

fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.into() } else { quoted(key) }
}

#[cfg(test)]
mod tests;
