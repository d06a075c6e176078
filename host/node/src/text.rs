//! What people and programs read: columns, pairs, times. Results go to standard output, all else to standard error.

use std::io::{ErrorKind, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kernel::decide::Slot;
use kernel::id::RoundId;
use serde_json::Value;

use crate::failure::Failure;

/// Writes results to standard output. A reader that has gone, such as `head`, ends the command without an error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::unread()),
        Err(error) => Err(Failure::new(
            format!("standard output cannot be written: {error}"),
            "free some space, or print elsewhere",
        )),
    }
}

/// Writes a remark to standard error.
pub fn note(text: &str) {
    // Where standard error is gone, nobody wants to know.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Columns without lines around them, so that `grep` and `awk` can read them.
pub struct Columns(Table);

impl Columns {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|heading| (*heading).to_string()));
        Self(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells);
    }

    /// The text; with no row, the sentence for that.
    pub fn text(&self, none: &str) -> String {
        if self.0.row_count() == 0 {
            return format!("{none}\n");
        }
        self.0.lines().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end())).collect()
    }
}

/// Pairs of a name and a value, one a line.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// How to look into a call in which a policy failed.
pub fn capture_hint(slot: Slot, round: RoundId) -> String {
    format!("`pingward policy capture --slot {slot} --round {round}` writes it as a case")
}

/// What stands for "unknown".
pub const NONE: &str = "-";

/// A field as text; `-` for null and for what is not there.
pub fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => NONE.into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".into(),
        Some(Value::Bool(false)) => "no".into(),
        Some(Value::Array(items)) => {
            let items: Vec<String> =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), Into::into)).collect();
            if items.is_empty() { NONE.into() } else { items.join(", ") }
        }
        Some(other @ (Value::Number(_) | Value::Object(_))) => other.to_string(),
    }
}

/// The first eight characters of a key, or of a digest after its prefix.
pub fn short(value: &Value, name: &str) -> String {
    let text = field(value, name);
    text.strip_prefix("sha256:").unwrap_or(&text).chars().take(8).collect()
}

/// A list in an answer.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A time of the API (ms since 1970) in UTC.
pub fn time(value: &Value, name: &str) -> String {
    let ms = value.get(name).and_then(Value::as_i64);
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| NONE.into(), |time| time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// How long ago a time of the API is.
pub fn ago(value: &Value, name: &str, now_ms: u64) -> String {
    value.get(name).and_then(Value::as_u64).map_or_else(|| NONE.into(), |ms| span(now_ms.saturating_sub(ms)))
}

/// A length of time in two units at most.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// So many rounds.
pub fn rounds(count: u64) -> String {
    if count == 1 { "1 round".into() } else { format!("{count} rounds") }
}

/// A round trip (µs) in ms.
pub fn rtt(value: &Value, name: &str) -> String {
    let us = value.get(name).and_then(Value::as_u64);
    us.map_or_else(|| NONE.into(), |us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_is_a_dash_and_never_zero() {
        let value = json!({ "a": null, "b": 0, "list": [], "on": true });
        for (name, text) in [("a", "-"), ("b", "0"), ("c", "-"), ("list", "-"), ("on", "yes")] {
            assert_eq!(field(&value, name), text, "{name}");
        }
        assert_eq!((time(&value, "a"), ago(&value, "a", 5), rtt(&value, "a")), ("-".into(), "-".into(), "-".into()));
    }

    #[test]
    fn lengths_of_time_are_told_in_two_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn columns_have_no_lines_around_them() {
        let mut columns = Columns::new(&["name", "points"]);
        assert_eq!(columns.text("nobody"), "nobody\n");
        columns.row(["a".into(), "10".into()]);
        columns.row(["follower-2".into(), "5".into()]);
        assert_eq!(columns.text("nobody"), "name        points\na           10\nfollower-2  5\n");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(&json!({ "t": 1_764_064_502_123_u64 }), "t"), "2025-11-25 09:55:02Z");
    }
}
