//! A cluster's state in a file, and a cluster made of such a file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::operate::Admin;
use super::output::Output;
use super::source::Level;
use crate::config;
use crate::failure::Failure;
use crate::keys;
use crate::restore::{self, opened};
use crate::text::field;

/// Write the cluster's state, settings and history to a file
///
/// The file appears when it is whole, on the disk and verified. It holds everything but keys: who has it knows all that the
/// cluster knows of its members. `pingward cluster restore` makes a cluster of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward cluster backup lab.backup
  pingward cluster backup lab.backup --force --read local       also where no super leads")]
pub struct Backup {
    /// The file to write
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// How fresh: `linearizable` where nothing is said
    #[arg(long, value_enum, value_name = "LEVEL")]
    read: Option<Level>,
    #[command(flatten)]
    admin: Admin,
}

impl Backup {
    pub async fn run(self) -> Result<(), Failure> {
        let place = self.file.display().to_string();
        if self.file.exists() && !self.force {
            return Err(exists(&place));
        }
        let route = self
            .read
            .map_or_else(|| "/v1/cluster/backup".into(), |level| format!("/v1/cluster/backup?read={}", level.word()));
        let api = self.admin.client()?;
        let cannot = |error: std::io::Error| {
            Failure::new(format!("the backup cannot be written: {error}"), "check the folder, and the room on the disk")
                .at(place.clone())
        };
        let (draft, mut file) = keys::draft(&self.file).map_err(cannot)?;
        let done = async {
            api.download(&route, &mut |piece| file.write_all(piece).map_err(cannot)).await?;
            file.sync_all().map_err(cannot)?;
            // What was written is read again, from its first byte to its digest.
            let backup = opened(&draft)?;
            let named = if self.force { keys::put_over(&draft, &self.file) } else { keys::put_new(&draft, &self.file) };
            named.map_err(|error| {
                if error.kind() == std::io::ErrorKind::AlreadyExists { exists(&place) } else { cannot(error) }
            })?;
            Ok(backup)
        };
        let done: Result<store::Backup, Failure> = done.await;
        if done.is_err() {
            let _gone_or_never_there = std::fs::remove_file(&draft);
        }
        let backup = done?;
        let applied = backup.applied().map(|applied| applied.index);
        let said = json!({
            "file": place, "bytes": backup.len(), "cluster": backup.cluster().to_string(), "applied": applied,
            "release": backup.release(),
        });
        self.admin.output.print(&said, |said| {
            format!(
                "{}: {} bytes of {}, up to entry {} of the log\n",
                field(said, "file"),
                field(said, "bytes"),
                field(said, "cluster"),
                field(said, "applied")
            )
        })
    }
}

fn exists(place: &str) -> Failure {
    Failure::new("there is a file already", "name another one, or replace it with --force").at(place)
}

/// Make a new cluster of a backup, on a super with an empty data folder
///
/// Points, wallets, standings, settings, policies and history stay. The cluster gets a new genesis: what was signed for the
/// old one counts no more, and its followers must be told (they remove their known.json). Its group is this super alone;
/// others are added to it. Then start it with `pingward run`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward cluster restore lab.backup --config super-1/node.toml")]
pub struct Restore {
    /// The backup
    file: PathBuf,
    /// The config of the super that is to hold the new cluster
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Restore {
    pub fn run(self) -> Result<(), Failure> {
        let config = config::load(&self.config, &config::environment())?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let restored = restore::restore(&config, &self.file, u64::try_from(since.as_millis()).unwrap_or(u64::MAX))?;
        let said = json!({
            "cluster": restored.cluster.to_string(), "from": restored.from.to_string(), "round": restored.round.0,
            "node": restored.node.to_string(), "data_dir": config.data_dir.display().to_string(),
        });
        self.output.print(&said, |said| {
            format!(
                "restored {} after round {} as {}; start it with: pingward run --config {}\n",
                field(said, "from"),
                field(said, "round"),
                field(said, "cluster"),
                shown(&self.config)
            )
        })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
