//! Validators and followers as processes, for the records of users: started, killed, started again.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, anyhow};
use kernel::id::NodeId;
use node::client::Api;
use node::config::PeerAddress;
use node::keys::NodeKey;
use rustix::process::{Pid, Signal, kill_process};

use crate::supers::{AS_NODE, read, until};

/// Ports of nodes begin here: below those that the system gives to outgoing connections, one of which could have a node's
/// port while it is dead.
const PORTS: u16 = 12_000;

/// A validator or a follower that keeps records. Its process is killed when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    /// `validator-1` and so on.
    pub name: String,
    /// Its key.
    pub key: NodeId,
    /// Where others reach it.
    pub grpc: SocketAddr,
    rest: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
}

impl Keeper {
    /// Makes a node and starts it. `role` is `validator` or `follower`; no other node has its `place`.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn start_new(
        dir: &Path,
        (role, number, place): (&str, usize, usize),
        cluster: &str,
        supers: &[PeerAddress],
        program: &Path,
    ) -> Result<Self> {
        let name = format!("{role}-{number}");
        let folder = dir.join(&name);
        std::fs::create_dir_all(&folder)?;
        let key = NodeKey::load_or_create(&folder.join("node.key"))?.0.id();
        let mut ports = (PORTS..u16::MAX).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        // The place keeps those apart that do not listen yet.
        let mut free =
            || ports.by_ref().skip(place * 10).find(|at| TcpListener::bind(at).is_ok()).context("a free port");
        let (grpc, rest) = (free()?, free()?);
        // A follower is known by the port that it comes from.
        let from = match role {
            "follower" => format!("\n[follower]\nconnect_port = {}\n", free()?.port()),
            _ => String::new(),
        };
        let supers: Vec<String> = supers.iter().map(|to| format!("\"{to}\"")).collect();
        let text = format!(
            "[node]\nrole = \"{role}\"\nname = \"{name}\"\n\n[listen]\ngrpc = \"{grpc}\"\nrest = \"{rest}\"\n\n[cluster]\n\
             id = \"{cluster}\"\nsupers = [{}]\n{from}",
            supers.join(", ")
        );
        std::fs::write(folder.join("node.toml"), text)?;
        let mut one = Self { name, key, grpc, rest, folder, child: None };
        one.start(program).await?;
        Ok(one)
    }

    /// Starts its process and waits until it is alive.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn start(&mut self, program: &Path) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("node.log"))?;
        let child = Command::new(program)
            .args(["run", "--config", "node.toml"])
            .current_dir(&self.folder)
            .env(AS_NODE, "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        let api = self.api()?;
        let alive = until("a node to be alive", async || read(&api, "/v1/status").await).await.map(drop);
        alive.with_context(|| self.last_words())
    }

    /// Kills its process as a power cut would.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends its process in peace.
    ///
    /// # Errors
    /// It does not run.
    pub fn end(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        child.wait()?;
        Ok(())
    }

    /// Its API.
    ///
    /// # Errors
    /// None that is expected.
    pub fn api(&self) -> Result<Api> {
        Api::url(&format!("http://{}", self.rest)).map_err(|failure| anyhow!("{failure}"))
    }

    /// What it printed last.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.folder.join("node.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n");
        format!("--- {} said last:\n{last}", self.name)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _killed = child.kill();
            let _status = child.wait();
        }
    }
}
