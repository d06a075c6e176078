//! What is shown: on a terminal a table that is drawn again in place with the last lines below it; elsewhere plain
//! lines, one for each round and for each thing that happens.

use std::collections::VecDeque;

use crate::client::printable;
use crate::failure::Failure;
use crate::text::{Columns, print};

/// Lines about what happened that stay on a terminal's screen.
const LINES: usize = 10;
/// Followers that have a row: a screen has an end.
const ROWS: usize = 16;
/// Lines longer than this would break on a narrow terminal and spoil the drawing in place.
const WIDTH: usize = 110;

/// A node's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// The first digits of its key.
    pub key: String,
    /// `up`, `down`, or `-` where nobody could see it.
    pub presence: &'static str,
    /// Its standing; empty = not a member yet.
    pub standing: &'static str,
    /// Strikes.
    pub strikes: u16,
    /// Earned points.
    pub earned: i64,
    /// Points in its wallet.
    pub wallet: i64,
    /// All penalties.
    pub penalties: i64,
    /// Its round trip, µs; 0 = none.
    pub rtt_us: u32,
    /// What else: `killed`, `silent`, until when it is banned.
    pub note: String,
}

/// The table of the nodes, below the lines about the whole.
pub fn table(rows: &[Row], headline: Vec<String>) -> Vec<String> {
    let mut columns =
        Columns::new(&["name", "key", "seen", "standing", "strikes", "earned", "wallet", "penalties", "rtt", ""]);
    let mut shown: Vec<&Row> = rows.iter().collect();
    if rows.len() > ROWS {
        // Those with something to see come first.
        shown.sort_by_key(|row| row.standing == "good" && row.note.is_empty());
        shown.truncate(ROWS);
    }
    for row in shown {
        let rtt = if row.rtt_us == 0 {
            "-".into()
        } else {
            format!("{}.{} ms", row.rtt_us / 1_000, row.rtt_us % 1_000 / 100)
        };
        let standing = if row.standing.is_empty() { "-" } else { row.standing };
        columns.row([
            row.name.clone(),
            row.key.clone(),
            row.presence.into(),
            standing.into(),
            row.strikes.to_string(),
            row.earned.to_string(),
            row.wallet.to_string(),
            row.penalties.to_string(),
            rtt,
            row.note.clone(),
        ]);
    }
    let mut lines = headline;
    lines.extend(columns.text("no followers").lines().map(Into::into));
    if rows.len() > ROWS {
        lines.push(format!("and {} more: pingward nodes", rows.len() - ROWS));
    }
    lines
}

/// Where it is shown.
pub struct Screen {
    is_live: bool,
    lines: VecDeque<String>,
    /// Lines of the last drawing that the cursor is below.
    drawn: usize,
    left: bool,
}

impl Screen {
    /// `is_live`: standard output is a terminal, and the table is drawn in place.
    pub fn new(is_live: bool) -> Self {
        Self { is_live, lines: VecDeque::new(), drawn: 0, left: false }
    }

    /// The first line of all: where the REST API is.
    pub fn first(&self, url: &str) -> Result<(), Failure> {
        print(&format!("{url}\n"))
    }

    /// Says something that happened.
    pub fn say(&mut self, text: &str) -> Result<(), Failure> {
        if !self.is_live || self.left {
            return print(&format!("{text}\n"));
        }
        for line in text.lines() {
            self.lines.push_back(cut(line));
        }
        while self.lines.len() > LINES {
            self.lines.pop_front();
        }
        Ok(())
    }

    /// Somebody typed a line: the cursor is one line further down.
    pub fn typed(&mut self) {
        if self.is_live {
            self.drawn += 1;
        }
    }

    /// Draws the table; elsewhere than on a terminal only the first time, for the lines tell the rest.
    pub fn draw(&mut self, first: bool, table: impl FnOnce() -> Vec<String>) -> Result<(), Failure> {
        if !self.is_live {
            return if first { print(&format!("{}\n", table().join("\n"))) } else { Ok(()) };
        }
        let mut lines: Vec<String> = table().iter().map(|line| cut(line)).collect();
        lines.push(String::new());
        lines.extend(self.lines.iter().cloned());
        lines.push("type `help` for the fault console, Ctrl-C to end".into());
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\u{1b}[{}A\r", self.drawn));
        }
        // From here down the old drawing goes.
        text.push_str("\u{1b}[J");
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        print(&text)
    }

    /// From now on plain lines: the drawing stays as it is.
    pub fn leave(&mut self) {
        self.left = true;
    }

    /// The last lines.
    pub fn last(&mut self, summary: &str) -> Result<(), Failure> {
        self.say(summary)
    }
}

fn cut(line: &str) -> String {
    printable(line).chars().take(WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: usize, standing: &'static str) -> Row {
        Row {
            name: format!("follower-{at}"),
            key: "8a88e3dd".into(),
            presence: "up",
            standing,
            strikes: 0,
            earned: 10,
            wallet: 0,
            penalties: 0,
            rtt_us: 350,
            note: String::new(),
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_node() {
        let rows = [
            row(1, "good"),
            Row { note: "until round 11".into(), standing: "banned", presence: "-", rtt_us: 0, ..row(2, "banned") },
        ];
        assert_eq!(
            table(&rows, vec!["round 6".into()]).join("\n"),
            "round 6\n\
             name        key       seen  standing  strikes  earned  wallet  penalties  rtt\n\
             follower-1  8a88e3dd  up    good      0        10      0       0          0.3 ms\n\
             follower-2  8a88e3dd  -     banned    0        10      0       0          -       until round 11"
        );
    }

    #[test]
    fn a_long_table_shows_those_with_something_to_see() {
        let mut rows: Vec<Row> = (0..40).map(|at| row(at, "good")).collect();
        rows[39].standing = "banned";
        let lines = table(&rows, vec!["x".into()]);
        assert_eq!(lines.len(), 1 + 1 + ROWS + 1);
        assert!(lines[2].starts_with("follower-39"), "{}", lines[2]);
        assert_eq!(lines.last().unwrap(), "and 24 more: pingward nodes");
    }
}
