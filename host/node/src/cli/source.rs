//! Where to read, how fresh, and which part of a list.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::output::{Format, Output, more};
use crate::client::{Api, DEFAULT_URL};
use crate::failure::Failure;

/// Where to read.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL, env = "PINGWARD_API")]
    pub api: String,
    #[command(flatten)]
    pub output: Output,
}

impl Source {
    /// The client.
    pub fn api(&self) -> Result<Api, Failure> {
        Api::url(&self.api)
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What the asked super has, which may be old; it answers also where nobody leads
    Local,
    /// Not older than any answer before
    Linearizable,
}

impl Level {
    /// The word of the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Linearizable => "linearizable",
        }
    }
}

/// Where to read what the cluster knows, and how fresh.
#[derive(Clone, Debug, Args)]
pub struct Reading {
    #[command(flatten)]
    from: Source,
    /// How fresh: `linearizable` where nothing is said
    #[arg(long, value_enum, value_name = "LEVEL")]
    read: Option<Level>,
}

impl Reading {
    /// The client.
    pub fn api(&self) -> Result<Api, Failure> {
        Ok(self.from.api()?.reading(self.read.map(Level::word)))
    }

    /// What to print.
    pub const fn output(&self) -> Output {
        self.from.output
    }

    /// Reads a route and prints it.
    pub async fn show(&self, route: &str, table: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        let answer = self.api()?.get(route).await?;
        self.output().print(&answer, table)?;
        if self.output().output == Format::Table {
            more(&answer);
        }
        Ok(())
    }
}

/// Which part of a list.
#[derive(Clone, Debug, Args)]
pub struct Page {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Those after this one: what the page before named as `next`
    #[arg(long, value_name = "NEXT")]
    pub after: Option<String>,
}

impl Page {
    /// A list's route with this part of it.
    pub fn route(&self, route: &str) -> Result<String, Failure> {
        let mut route = format!("{route}?limit={}", self.limit);
        if let Some(after) = &self.after {
            if after.is_empty() || !after.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:.".contains(&b)) {
                return Err(Failure::usage(
                    format!("--after {after} is no place in a list"),
                    "take it from `next` of the page before",
                ));
            }
            route.push_str("&after=");
            route.push_str(after);
        }
        Ok(route)
    }
}
