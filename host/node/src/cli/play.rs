//! `pingward policy test`: cases are played, and what differs or fails is told.

use std::path::PathBuf;

use clap::Args;
use kernel::decide::Slot;
use kernel::settings::Settings;
use policy::CaseError;

use super::author::{engine, read_component, read_config, slot_of, tell_of_self_test};
use super::capture::CASES_BYTES;
use super::fault::tell;
use super::operate::slot;
use crate::client::printable;
use crate::failure::Failure;
use crate::text::print;

/// Play a rule through cases: members and rounds in, decisions out, and what differs
///
/// Each case is a small cluster of its own, settled by the host's own rules, guardrails and probation included; of a signing
/// rule it is a batch of records, judged as a validator judges it. Cases are TOML; the file of a project that `policy new` made shows how they are written, and `pingward policy capture` writes one
/// of a recorded round. Where the rule fails and should not, the fewest members that bring it about are looked for, shown,
/// and written as a case beside the component.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward policy test my-ban-rule/my-ban-rule.wasm
  pingward policy test my-ban.wasm --cases cases.toml
  pingward policy test my-ban.wasm --cases ban-round-812.toml --config '{\"ban\":5}'")]
pub struct Test {
    /// The component
    file: PathBuf,
    /// The cases; the default is cases.toml beside the component
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The slot that it is for; the one whose world it exports when none is given
    #[arg(long, value_parser = slot)]
    slot: Option<Slot>,
    /// Another config than the cases': JSON, or a file with JSON
    #[arg(long, value_name = "JSON|FILE")]
    config: Option<String>,
}

impl Test {
    pub fn run(self) -> Result<(), Failure> {
        let bytes = read_component(&self.file)?;
        let file = self.cases.unwrap_or_else(|| self.file.with_file_name("cases.toml"));
        let place = file.display().to_string();
        let failed = |what: String, hint: &str| Failure::new(what, hint).at(place.clone());
        let unread = |error: std::io::Error| {
            failed(format!("the cases cannot be read: {error}"), "name their file with --cases FILE")
        };
        if std::fs::metadata(&file).map_err(unread)?.len() > CASES_BYTES as u64 {
            return Err(failed(format!("the file has more than {CASES_BYTES} bytes"), "split it"));
        }
        let text = std::fs::read_to_string(&file).map_err(unread)?;
        let config = self.config.as_deref().map(read_config).transpose()?;
        let cases = policy::cases(&text).map_err(|error| unplayed(&error, &place))?;
        let engine = engine()?;
        let slot = match self.slot {
            Some(slot) => slot,
            None => slot_of(&engine, &bytes, &self.file)?,
        };
        let mut wrong = 0;
        let count = cases.len();
        for case in cases {
            let case = match &config {
                Some(config) => case.with_config(config.clone()),
                None => case,
            };
            let played = match case.play(&engine, slot, &bytes) {
                Ok(played) => played,
                Err(error) => {
                    if let CaseError::Refused { config, findings, .. } = &error {
                        let settings = Settings::default();
                        tell_of_self_test(&engine, (slot, config, &settings), &bytes, &self.file, findings)?;
                    }
                    return Err(unplayed(&error, &place));
                }
            };
            print(&played_text(&played))?;
            if let Some(failing) = &played.failing {
                tell(&engine, &bytes, &self.file, failing)?;
            }
            wrong += usize::from(!played.passed());
        }
        match wrong {
            0 => print(&format!("{count} cases, all as expected\n")),
            _ => {
                Err(Failure::new(format!("{wrong} of {count} cases differ"), "mend the rule, or what the case expects")
                    .at(place))
            }
        }
    }
}

/// Why cases could not be played, with the place in their file.
fn unplayed(error: &CaseError, file: &str) -> Failure {
    let place = error.place().map_or_else(|| file.to_string(), |(line, column)| format!("{file}:{line}:{column}"));
    let what = printable(&error.to_string());
    match error.cure() {
        Some(cure) => Failure::new(what, cure).at(place),
        None => Failure::plain(error.to_string()).at(place),
    }
}

fn played_text(played: &policy::Played) -> String {
    if played.passed() {
        // A fault is as expected only where the case says so.
        let fault = played.faults.first().map_or_else(String::new, |fault| format!(" (failed as expected in {fault})"));
        return format!("ok    {}{}\n", printable(&played.name), printable(&fault));
    }
    let mut text = format!("DIFF  {}\n", printable(&played.name));
    for line in &played.differences {
        text.push_str(&format!("      {}\n", printable(line)));
    }
    for line in &played.log {
        text.push_str(&format!("      log: {}\n", printable(line)));
    }
    text
}
