//! Who is connected to this super. The one loop of the super writes it, everybody may read it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use kernel::id::NodeId;

/// Followers with a stream, by key.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    connected: Arc<RwLock<BTreeMap<NodeId, Connected>>>,
}

/// What is known of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Since when, ms since 1970.
    pub since_ms: u64,
    /// When its last valid pong came, ms since 1970; `None` = none on this stream.
    pub last_pong_ms: Option<u64>,
    /// The round trip of that pong, µs.
    pub rtt_us: Option<u32>,
    /// Where it comes from.
    pub ip: IpAddr,
    /// Its source port.
    pub port: u16,
}

impl Streams {
    /// One follower's stream; `None` when it is not connected here.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<Connected> {
        self.read(|all| all.get(node).cloned())
    }

    /// Whether a follower is connected here.
    #[must_use]
    pub fn is_connected(&self, node: &NodeId) -> bool {
        self.read(|all| all.contains_key(node))
    }

    /// How many are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.read(BTreeMap::len)
    }

    /// Looks at all of them at once.
    pub fn read<T>(&self, look: impl FnOnce(&BTreeMap<NodeId, Connected>) -> T) -> T {
        look(&self.connected.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut BTreeMap<NodeId, Connected>) -> T) -> T {
        change(&mut self.connected.write().unwrap_or_else(PoisonError::into_inner))
    }
}
