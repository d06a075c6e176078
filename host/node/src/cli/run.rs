//! `run`: one node, until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::logs::Logs;
use crate::compiling;
use crate::config;
use crate::failure::Failure;
use crate::server::{self, StartParts};

/// For what is still in the air when the node has ended: look-ups of names, mostly.
const LAST: Duration = Duration::from_secs(2);

/// Run one node
///
/// SIGTERM and Ctrl-C drain and stop it: a follower says goodbye, a super finishes what is under way; a second one ends it
/// at once. SIGHUP reads the config again: a super takes the rules and cluster settings that it says otherwise than
/// before, at a round boundary; when the file has a problem, nothing changes and the log says what is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward run --config super-1/node.toml
  pingward run --config follower-1/node.toml --once
  PINGWARD_ROUND__INTERVAL_MS=1000 pingward run --config node.toml")]
pub struct Run {
    /// The node's config
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
    /// A follower that is refused or cannot attach gives up with exit code 1; without it, it waits and tries again
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    logs: Logs,
}

impl Run {
    pub fn run(self) -> Result<(), Failure> {
        let config = config::load(&self.config, &config::environment())?;
        self.logs.start("info")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::new(format!("no runtime: {error}"), "look at this process's limits"))?;
        let parts = StartParts { once: self.once, compiler: compiling::child(), ..StartParts::default() };
        let ended = runtime.block_on(server::run(config, parts));
        runtime.shutdown_timeout(LAST);
        ended.map_err(|error| Failure::plain(format!("{error:#}")).at(self.config.display().to_string()))
    }
}
