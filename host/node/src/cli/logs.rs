//! Logs: to standard error, filtered.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// How a node logs.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// What to log, for example `debug` or `node=debug,warn`; RUST_LOG says the same
    #[arg(long, value_name = "FILTER", env = "RUST_LOG")]
    pub log: Option<String>,
    /// How to write log lines
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Logs {
    /// Starts logging. `default` = the filter when none is given.
    pub fn start(&self, default: &str) -> Result<(), Failure> {
        // The library under the group warns of what it mends itself, in words that nobody can act on.
        let usual = format!("{default},openraft=error");
        let text = self.log.as_deref().filter(|text| !text.is_empty()).unwrap_or(&usual);
        let filter = EnvFilter::try_new(text).map_err(|error| {
            Failure::usage(
                format!("--log {text}: {error}"),
                "write a level (error, warn, info, debug, trace) or `room=level,level`",
            )
        })?;
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
        let started = match self.log_format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        // Only tests start it twice, and the first one counts then.
        started.or(Ok(()))
    }
}
