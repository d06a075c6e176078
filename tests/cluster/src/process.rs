//! A node's process, which tests start, stop and kill.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Set for a process of this program that is to be the node.
pub const AS_NODE: &str = "FAULTS_AS_NODE";
/// What a node prints.
const LOG: &str = "node.log";
/// Lines of it that are shown.
const SHOWN: usize = 12;

/// A node in a folder with its `node.toml`. Its process is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    folder: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// It does not run yet.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, child: None }
    }

    /// Starts it by a command of this program. Gives its number.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(&mut self, mut command: Command) -> Result<u32> {
        let file = self.folder.join(LOG);
        let log =
            OpenOptions::new().create(true).append(true).open(&file).with_context(|| file.display().to_string())?;
        command.args(["run", "--config", "node.toml"]).current_dir(&self.folder).stdin(Stdio::null());
        command.env(AS_NODE, "1").env("NO_COLOR", "1").stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", self.folder.display()))?;
        let number = child.id();
        self.child = Some(child);
        Ok(number)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills it as a power cut would.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends it in peace.
    ///
    /// # Errors
    /// It does not run.
    pub fn end(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.child.take().context("it does not run")?.wait()?;
        Ok(())
    }

    /// What it printed last.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.folder.join(LOG)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // A standing is told for each follower, and shown elsewhere.
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(": standing ")).collect();
        lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _killed = child.kill();
            let _status = child.wait();
        }
    }
}
