//! Connections to other supers: TCP, TLS 1.3, each side pinned to the key of its name.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, io};

use kernel::id::NodeId;
use raft::{Connecting, Connector, Io, Lane, Roster};
use store::Replica;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::config::PeerAddress;
use crate::keys::NodeKey;
use crate::known::Known;
use crate::roles::follower::dial::{Source, dial};
use crate::tls::Dial;
use crate::wires::Wires;

/// For each step of an attempt to learn a key.
const WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts to learn a key.
const AGAIN: Duration = Duration::from_secs(1);

/// This super's way to the others, and whom it was told of. Clones are the same.
#[derive(Clone)]
pub struct Links {
    key: Option<NodeKey>,
    wires: Wires,
    told: Arc<RwLock<BTreeSet<NodeId>>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Links {
    /// With this super's key; it was told of these by its config.
    #[must_use]
    pub fn new(key: NodeKey, told: impl IntoIterator<Item = NodeId>, wires: Wires) -> Self {
        Self { key: Some(key), wires, told: Arc::new(RwLock::new(told.into_iter().collect())) }
    }

    /// Nobody is reached.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { key: None, wires: Wires::default(), told: Arc::default() }
    }

    /// Asks supers whose keys the config does not name for theirs, until all have answered. The first key that is seen is
    /// kept, and another one is refused from then on (PROTOCOLS 1.6).
    pub async fn learn(self, known: Arc<Known>, supers: Vec<PeerAddress>) {
        let Some(key) = self.key.clone() else { return };
        let mut left = supers;
        let mut said: BTreeSet<String> = BTreeSet::new();
        while !left.is_empty() {
            let mut still = Vec::new();
            for to in left {
                match dial(&key, &known, &self.wires, &to, Source::ANYWHERE, WITHIN).await {
                    Ok((_, shown)) => {
                        tracing::info!(address = %to, key = %shown, "a super's key is known");
                        self.told.write().unwrap_or_else(PoisonError::into_inner).insert(shown);
                    }
                    Err(error) => {
                        let why = error.to_string();
                        if said.insert(why.clone()) {
                            tracing::warn!(address = %to, why, "a super's key is not known yet; it is asked again");
                        }
                        still.push(to);
                    }
                }
            }
            left = still;
            if !left.is_empty() {
                sleep(AGAIN).await;
            }
        }
    }
}

impl Connector for Links {
    fn connect(&self, to: &Replica, _: Lane) -> Connecting {
        let (key, wires, to) = (self.key.clone(), self.wires.clone(), to.clone());
        Box::pin(async move {
            let key = key.ok_or(io::ErrorKind::NotConnected)?;
            let socket = TcpStream::connect(to.address.as_str()).await?;
            socket.set_nodelay(true)?;
            let socket = wires.through(socket, key.id(), Some(to.key));
            let dial = Dial::new(&key, Some(to.key)).map_err(io::Error::other)?;
            let shaken = TlsConnector::from(dial.config.clone()).connect(dial.name.clone(), socket).await;
            let stream = shaken.map_err(|error| match dial.shown() {
                Some(shown) if shown != to.key => {
                    io::Error::other(format!("{} shows the key {shown}, not {}", to.address, to.key))
                }
                Some(_) | None => error,
            })?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

impl Roster for Links {
    fn admits(&self, key: &NodeId) -> bool {
        self.told.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}
