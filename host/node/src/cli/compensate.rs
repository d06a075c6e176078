//! The file of `compensate`: CSV or TOML, read whole before anything is asked for. All that is wrong is told at once,
//! with its line.

use std::path::Path;

use kernel::limits::{COMPENSATION_POINTS, COMPENSATIONS, REASON_BYTES};
use toml::de::DeTable;

use crate::failure::Failure;

/// Room for every line that may be in it.
const FILE_BYTES: u64 = 8 << 20;
/// Problems that are listed.
const LISTED: usize = 20;
const COLUMNS: [&str; 4] = ["node", "points", "round", "reason"];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it stands, from 1.
    pub number: usize,
    /// Key, beginning of a key, or name.
    pub node: String,
    /// At least 1.
    pub points: i64,
    /// The round that it makes good.
    pub round: u64,
    /// Why.
    pub reason: String,
}

/// Reads and checks a file.
pub fn read(file: &Path) -> Result<Vec<Line>, Failure> {
    let place = file.display().to_string();
    let failed =
        |what: String| Failure::new(what, "see `pingward compensate --help` for what it looks like").at(place.clone());
    let size = std::fs::metadata(file).map_err(|error| failed(format!("the file cannot be read: {error}")))?.len();
    if size > FILE_BYTES {
        return Err(failed(format!("the file has {size} bytes, at most {FILE_BYTES} are read")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(format!("the file cannot be read: {error}")))?;
    let is_toml = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let parsed = if is_toml { from_toml(&text) } else { from_csv(&text) };
    match parsed {
        Ok(lines) if lines.is_empty() => Err(failed("the file has no lines".into())),
        Ok(lines) if lines.len() > COMPENSATIONS => Err(failed(format!(
            "the file has {} lines, at most {COMPENSATIONS} are taken at once: split it",
            lines.len()
        ))),
        Ok(lines) => Ok(lines),
        Err(problems) => {
            let mut what = String::from("nothing was paid, for some lines are wrong:");
            for (line, problem) in problems.iter().take(LISTED) {
                what.push_str(&format!("\n  {place}:{line}: {problem}"));
            }
            if problems.len() > LISTED {
                what.push_str(&format!("\n  and {} more", problems.len() - LISTED));
            }
            Err(failed(what))
        }
    }
}

type Problems = Vec<(usize, String)>;

fn collect(results: impl Iterator<Item = Result<Line, (usize, String)>>) -> Result<Vec<Line>, Problems> {
    let mut lines = Vec::new();
    let mut problems = Vec::new();
    for result in results {
        match result {
            Ok(line) => lines.push(line),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(lines) } else { Err(problems) }
}

fn from_csv(text: &str) -> Result<Vec<Line>, Problems> {
    let is_head = |line: &str| line.split(',').map(str::trim).eq(COLUMNS);
    let rows =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    collect(
        rows.filter(|(at, line)| {
            !(is_head(line) && text.lines().take(*at).all(|before| before.trim().is_empty() || before.starts_with('#')))
        })
        .map(|(at, line)| {
            let number = at + 1;
            let fields = split(line).map_err(|what| (number, what))?;
            let [node, points, round, reason] = <[String; 4]>::try_from(fields).map_err(|fields| {
                (
                    number,
                    format!(
                        "{} fields, expected 4: {}; put a reason with commas in quotes",
                        fields.len(),
                        COLUMNS.join(",")
                    ),
                )
            })?;
            let whole = |name: &str, text: &str| -> Result<i128, (usize, String)> {
                text.replace('_', "").parse().map_err(|_| (number, format!("{name} `{text}` is no whole number")))
            };
            check(number, node, whole("points", &points)?, whole("round", &round)?, reason)
        }),
    )
}

/// Splits at commas outside quotes; two quotes inside quotes are one.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(last) = fields.last_mut() else { continue };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                last.push('"');
            }
            '"' if quoted || last.trim().is_empty() => {
                quoted = !quoted;
                if quoted {
                    last.clear();
                }
            }
            ',' if !quoted => fields.push(String::new()),
            c => last.push(c),
        }
    }
    if quoted {
        Err("a quote is not closed on this line".into())
    } else {
        Ok(fields.iter().map(|field| field.trim().into()).collect())
    }
}

fn from_toml(text: &str) -> Result<Vec<Line>, Problems> {
    let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let told =
            errors.iter().map(|error| (line_of(error.span().map_or(0, |span| span.start)), error.message().into()));
        return Err(told.collect());
    }
    let mut problems = Problems::new();
    let mut tables = Vec::new();
    for (key, value) in table.get_ref() {
        match value.get_ref().as_array().filter(|_| key.get_ref() == "line") {
            Some(items) => tables.extend(items.iter()),
            None => problems.push((
                line_of(key.span().start),
                format!("`{}` is not known here; each line is a table [[line]]", key.get_ref()),
            )),
        }
    }
    let read = collect(tables.into_iter().map(|item| {
        let number = line_of(item.span().start);
        let table = item.get_ref().as_table().ok_or_else(|| (number, "a line is a table [[line]]".to_string()))?;
        if let Some((key, _)) = table.iter().find(|(key, _)| !COLUMNS.contains(&key.get_ref().as_ref())) {
            return Err((
                line_of(key.span().start),
                format!("`{}` is not known; a line has {}", key.get_ref(), COLUMNS.join(", ")),
            ));
        }
        let get = |name: &str| {
            let found = table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value);
            found.ok_or_else(|| (number, format!("`{name}` is missing")))
        };
        let words = |name: &str| {
            let value = get(name)?;
            let text = value
                .get_ref()
                .as_str()
                .ok_or_else(|| (line_of(value.span().start), format!("`{name}` is text in quotes")))?;
            Ok(text.to_string())
        };
        let whole = |name: &str| {
            let value = get(name)?;
            let integer = value.get_ref().as_integer();
            let number = integer.and_then(|integer| i128::from_str_radix(integer.as_str(), integer.radix()).ok());
            number.ok_or_else(|| (line_of(value.span().start), format!("`{name}` is a whole number")))
        };
        check(number, words("node")?, whole("points")?, whole("round")?, words("reason")?)
    }));
    match read {
        Ok(lines) if problems.is_empty() => Ok(lines),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            problems.sort();
            Err(problems)
        }
    }
}

fn check(number: usize, node: String, points: i128, round: i128, reason: String) -> Result<Line, (usize, String)> {
    let wrong = |what: String| Err((number, what));
    let points = i64::try_from(points).ok().filter(|points| (1..=COMPENSATION_POINTS).contains(points));
    let (Some(points), Ok(round)) = (points, u64::try_from(round)) else {
        return wrong(format!("points are from 1 to {COMPENSATION_POINTS}, and a round is 0 or more"));
    };
    if node.is_empty() {
        return wrong("the node is missing".into());
    }
    if reason.is_empty() || reason.len() > REASON_BYTES || reason.chars().any(char::is_control) {
        return wrong(format!("the reason is one line of 1 to {REASON_BYTES} bytes"));
    }
    Ok(Line { number, node, points, round, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize, node: &str, points: i64, round: u64, reason: &str) -> Line {
        Line { number, node: node.into(), points, round, reason: reason.into() }
    }

    #[test]
    fn csv_and_toml_say_the_same() {
        let csv = "# why\nnode,points,round,reason\n\nfollower-1, 1_000,120,banned by mistake\n8a88e3dd,10,0,\"ours, not \"\"theirs\"\"\"\n";
        let expected = [
            line(4, "follower-1", 1_000, 120, "banned by mistake"),
            line(5, "8a88e3dd", 10, 0, "ours, not \"theirs\""),
        ];
        assert_eq!(from_csv(csv).unwrap(), expected);
        let toml = "[[line]]\nnode = \"a\"\npoints = 5\nround = 1\nreason = \"x\"\n\n[[line]]\nnode = \"b\"\npoints = 6\nround = 2\nreason = \"y\"\n";
        assert_eq!(from_toml(toml).unwrap(), [line(1, "a", 5, 1, "x"), line(7, "b", 6, 2, "y")]);
    }

    #[test]
    fn every_wrong_line_is_told_with_its_number() {
        let csv = "a,1,1,x\nb,one,1,x\nc,1,1\nd,0,1,x\ne,1,-1,x\n,1,1,x\nf,1,1,\ng,1,1,\"x\n";
        let problems = from_csv(csv).unwrap_err();
        let told: Vec<String> = problems.iter().map(|(line, what)| format!("{line} {what}")).collect();
        let bounds = "points are from 1 to 1000000000000, and a round is 0 or more";
        assert_eq!(
            told,
            [
                "2 points `one` is no whole number",
                "3 3 fields, expected 4: node,points,round,reason; put a reason with commas in quotes",
                &format!("4 {bounds}"),
                &format!("5 {bounds}"),
                "6 the node is missing",
                "7 the reason is one line of 1 to 200 bytes",
                "8 a quote is not closed on this line",
            ]
        );
        let toml =
            "x = 1\n[[line]]\nnode = \"a\"\npoint = 5\n[[line]]\nnode = 1\npoints = 5\nround = 1\nreason = \"x\"\n";
        let problems = from_toml(toml).unwrap_err();
        let told: Vec<String> = problems.iter().map(|(line, what)| format!("{line} {what}")).collect();
        assert_eq!(
            told,
            [
                "1 `x` is not known here; each line is a table [[line]]",
                "4 `point` is not known; a line has node, points, round, reason",
                "6 `node` is text in quotes",
            ]
        );
    }

    #[test]
    fn a_file_is_taken_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lines.csv");
        std::fs::write(&file, "a,1,1,x\nb,one,1,x\n").unwrap();
        let failure = read(&file).unwrap_err();
        assert!(failure.what.contains("lines.csv:2: points `one`"), "{failure}");
        std::fs::write(&file, "node,points,round,reason\n").unwrap();
        assert_eq!(read(&file).unwrap_err().what, "the file has no lines");
        std::fs::write(&file, "a,1,1,x\n".repeat(COMPENSATIONS + 1)).unwrap();
        assert!(read(&file).unwrap_err().what.contains("split it"));
        assert!(read(&dir.path().join("none")).unwrap_err().what.starts_with("the file cannot be read"));
    }
}
