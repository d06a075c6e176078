//! The option that every read has: columns for people, or the API's JSON for programs.

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::failure::Failure;
use crate::text::{note, print};

/// What a read prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// The API's JSON for programs.
    Json,
}

/// The option that every read has.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// What to print: columns for people, or the API's JSON
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

impl Output {
    /// Prints an answer: as it is, or as the text made of it.
    pub fn print(self, value: &Value, table: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        match self.output {
            Format::Json => print(&format!("{value:#}\n")),
            Format::Table => print(&table(value)),
        }
    }
}

/// The remark below a page that is not the last one.
pub fn more(value: &Value) {
    if let Some(next) = value.get("next").filter(|next| !next.is_null()) {
        let next = next.as_str().map_or_else(|| next.to_string(), Into::into);
        note(&format!("there is more: add --after {next}"));
    }
}
