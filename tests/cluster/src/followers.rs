//! Many followers in this process: the node's own, each with its key, its connections and its declared port.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use node::config::PeerAddress;
use node::events::Events;
use node::keys::NodeKey;
use node::known::Known;
use node::roles::follower::{FollowerFaults, FollowerView, Settings, run};
use node::wires::Wires;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Followers that run.
#[derive(Debug)]
pub struct Followers {
    /// Their keys.
    pub keys: Vec<NodeKey>,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Followers {
    /// Starts so many followers of these supers; they learn of others by themselves. They take turns in the addresses that
    /// they connect from, where some are named: a super takes so many connections of each.
    ///
    /// # Errors
    /// The machine has no room for them.
    pub fn start(count: usize, cluster: &str, supers: &[PeerAddress], from: &[IpAddr]) -> Result<Self> {
        let descriptors = node::listen::descriptors();
        let wanted = count as u64 * 2 + 200;
        ensure!(descriptors >= wanted, "only {descriptors} files may be open at once: `ulimit -n {wanted}`");
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        // One for all: each has room for thousands, and nobody reads them here.
        let events = Events::new(0);
        let keys = (0..count).map(|_| NodeKey::generate()).collect::<Result<Vec<_>, _>>()?;
        for (number, key) in keys.iter().enumerate() {
            let settings = Settings {
                key: key.clone(),
                known: Known::in_memory(),
                cluster: cluster.into(),
                name: format!("follower-{}", number + 1),
                supers: supers.to_vec(),
                connect_port: 0,
                connect_from: from.get(number % from.len().max(1)).copied(),
                address: String::new(),
                rest: None,
                once: false,
                wires: Wires::default(),
                faults: Arc::new(FollowerFaults::default()),
                events: events.clone(),
            };
            let (view, stop) = (watch::Sender::new(FollowerView::default()), stop.clone());
            tasks.spawn(async move { run(settings, view, stop).await.context("a follower gave up") });
        }
        Ok(Self { keys, stop, tasks })
    }

    /// Lets all say goodbye.
    ///
    /// # Errors
    /// One gave up before.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
