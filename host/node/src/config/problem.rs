//! What is wrong with a config, where, and how to mend it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a config was not taken: every problem that was found, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
    /// How to mend it; may be empty.
    pub hint: String,
}

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    Line {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The text of the line.
        text: String,
        /// Characters to underline, at least 1.
        width: usize,
    },
    /// An environment variable.
    Variable(String),
    /// The file as a whole.
    File(PathBuf),
}

impl Place {
    /// The place of a span of bytes in the file's text.
    #[must_use]
    pub fn of(file: &Path, source: &str, span: &Range<usize>) -> Self {
        let start = floor(source, span.start);
        let before = source.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let text = source.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let end = floor(source, span.end).min(line_start + text.len()).max(start);
        Self::Line {
            file: file.to_path_buf(),
            line: before.matches('\n').count() + 1,
            column: source.get(line_start..start).unwrap_or_default().chars().count() + 1,
            text: text.to_string(),
            width: source.get(start..end).unwrap_or_default().chars().count().max(1),
        }
    }

    fn order(&self) -> (usize, usize) {
        match self {
            Self::Line { line, column, .. } => (*line, *column),
            Self::Variable(_) | Self::File(_) => (usize::MAX, 0),
        }
    }
}

/// The nearest border of a character at or before a byte.
fn floor(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0)
}

/// With the colon and space that lead to what is said of it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, .. } => write!(f, "{}:{line}: ", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}: "),
            Self::File(file) => write!(f, "{}: ", file.display()),
        }
    }
}

impl ConfigError {
    /// The problems in the order of the file.
    #[must_use]
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place.order());
        Self { problems }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line { file, line, column, text, width } => {
                let number = line.to_string();
                let pad = " ".repeat(number.len());
                let lead: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "{}:{line}:{column}: {}", file.display(), self.what)?;
                write!(f, "\n {pad} |\n {number} | {text}\n {pad} | {lead}{}", "^".repeat(*width))?;
                if !self.hint.is_empty() {
                    write!(f, "\n {pad} = {}", self.hint)?;
                }
                return Ok(());
            }
            Place::Variable(_) | Place::File(_) => write!(f, "{}{}", self.place, self.what)?,
        }
        if !self.hint.is_empty() {
            write!(f, "\n = {}", self.hint)?;
        }
        Ok(())
    }
}
