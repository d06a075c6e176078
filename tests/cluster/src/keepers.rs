//! Validators and followers as processes, for the records of users: started, killed, started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use kernel::id::NodeId;
use node::client::Api;
use node::config::PeerAddress;
use node::keys::NodeKey;

use crate::process::Process;
use crate::supers::{read, until};

/// Ports of nodes begin here: below those that the system gives to outgoing connections, one of which could have a node's
/// port while it is dead.
const PORTS: u16 = 12_000;

/// A validator or a follower that keeps records.
#[derive(Debug)]
pub struct Keeper {
    /// `validator-1` and so on.
    pub name: String,
    /// Its key.
    pub key: NodeId,
    /// Where others reach it.
    pub grpc: SocketAddr,
    rest: SocketAddr,
    /// It runs, or not.
    pub process: Process,
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
        let mut one = Self { name, key, grpc, rest, process: Process::new(folder) };
        one.start(program).await?;
        Ok(one)
    }

    /// Starts its process and waits until it is alive.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn start(&mut self, program: &Path) -> Result<()> {
        self.process.start(Command::new(program))?;
        let api = self.api()?;
        let alive = until("a node to be alive", async || read(&api, "/v1/status").await).await.map(drop);
        alive.with_context(|| self.last_words())
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
        format!("--- {} said last:\n{}", self.name, self.process.last_words())
    }
}
