//! What REST, events, the demo and tests see of a running node.

use std::sync::Arc;
use std::time::Instant;

use kernel::id::NodeId;
use store::Store;
use tokio::sync::watch;

use crate::config::Role;
use crate::events::Events;
use crate::group::Group;
use crate::metrics::Metrics;
use crate::prepare::Policies;
use crate::roles::follower::FollowerView;
use crate::roles::supernode::Order;
use crate::shadow::Shadows;
use crate::streams::Streams;

/// A running node. Shared by reference; nothing in it owns a task.
pub struct Context {
    /// Its key.
    pub node: NodeId,
    /// Its display name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// When this process or, in the demo, this node started.
    pub started: Instant,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// What happens, for watchers.
    pub events: Events,
    /// Whether anonymous readers see addresses.
    pub public_addresses: bool,
    /// What only nodes of its role have.
    pub part: Part,
}

/// See [`Context::part`].
pub enum Part {
    /// A super.
    Super(SuperPart),
    /// A follower.
    Follower(FollowerPart),
}

/// What a super has.
pub struct SuperPart {
    /// The cluster: read it, change it.
    pub group: Group,
    /// History.
    pub store: Arc<Store>,
    /// Who is connected here.
    pub streams: Streams,
    /// In which order the members of the last settled round were asked.
    pub order: watch::Receiver<Order>,
    /// Policies: what is prepared here, and how to bring in another one.
    pub policies: Policies,
    /// What shadowed policies would have done.
    pub shadows: Shadows,
    /// Nothing survives a restart: "acknowledged means durable" does not hold (PROTOCOLS 1.4).
    pub in_memory: bool,
}

/// What a follower has.
pub struct FollowerPart {
    /// How it stands, as its supers tell it.
    pub own: watch::Receiver<FollowerView>,
}

impl Context {
    /// The super's part; `None` on a node of another role.
    #[must_use]
    pub const fn as_super(&self) -> Option<&SuperPart> {
        match &self.part {
            Part::Super(part) => Some(part),
            Part::Follower(_) => None,
        }
    }

    /// The follower's part; `None` on a node of another role.
    #[must_use]
    pub const fn as_follower(&self) -> Option<&FollowerPart> {
        match &self.part {
            Part::Follower(part) => Some(part),
            Part::Super(_) => None,
        }
    }

    /// How long it has been running, ms.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
