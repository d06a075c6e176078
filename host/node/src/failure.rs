//! Why a command failed: what happened, where, and how to mend it.

use std::fmt;
use std::io::Write as _;

/// A command's failure. Exit code 1, or 2 when the command line itself was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub what: String,
    /// Where: a route, a file with its line.
    pub place: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
    /// The API's word for it.
    pub code: Option<String>,
    /// The command line was wrong: exit code 2.
    pub usage: bool,
    /// Nobody reads any more what is printed, as after `| head`: an end, not an error. Exit code 0, nothing is said.
    pub unread: bool,
}

impl Failure {
    /// A failure with its cure.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), place: None, hint: Some(hint.into()), code: None, usage: false, unread: false }
    }

    /// A wrong command line.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(what, hint) }
    }

    /// A failure whose text says all, such as a list of config problems.
    pub fn plain(what: impl Into<String>) -> Self {
        Self { what: what.into(), place: None, hint: None, code: None, usage: false, unread: false }
    }

    /// Whoever read standard output has gone.
    pub fn unread() -> Self {
        Self { unread: true, ..Self::plain("nobody reads standard output") }
    }

    /// The same with its place.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        // Where standard error is gone, nobody wants to know.
        let _ = write!(anstream::stderr().lock(), "{self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Colours are taken out where nobody can see them (NO_COLOR, pipes).
        write!(f, "\u{1b}[1;31merror\u{1b}[0m: {}", self.what)?;
        if let Some(code) = &self.code {
            write!(f, " [{code}]")?;
        }
        writeln!(f)?;
        if let Some(place) = &self.place {
            writeln!(f, "  where: {place}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  hint: {hint}")?;
        }
        Ok(())
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        let count = error.problems.len();
        let what =
            if count == 1 { "the config has a problem".into() } else { format!("the config has {count} problems") };
        Self::plain(format!("{what}\n\n{error}\n"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::plain(format!("{error:#}"))
    }
}
