//! Connections to other supers: TCP, TLS 1.3, each side pinned to the key of its name.

use std::collections::BTreeSet;
use std::io;

use kernel::id::NodeId;
use raft::{Connecting, Connector, Io, Lane, Roster};
use store::Replica;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::keys::NodeKey;
use crate::tls::Dial;

/// This super's way to the others, and whom it was told of.
#[derive(Clone)]
pub struct Links {
    key: Option<NodeKey>,
    told: BTreeSet<NodeId>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Links {
    /// With this super's key; it was told of these by its config.
    #[must_use]
    pub fn new(key: NodeKey, told: impl IntoIterator<Item = NodeId>) -> Self {
        Self { key: Some(key), told: told.into_iter().collect() }
    }

    /// Nobody is reached.
    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Self { key: None, told: BTreeSet::new() }
    }
}

impl Connector for Links {
    fn connect(&self, to: &Replica, _: Lane) -> Connecting {
        let (key, to) = (self.key.clone(), to.clone());
        Box::pin(async move {
            let key = key.ok_or(io::ErrorKind::NotConnected)?;
            let socket = TcpStream::connect(to.address.as_str()).await?;
            socket.set_nodelay(true)?;
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
        self.told.contains(key)
    }
}
