//! What REST, events, the demo and tests see of a running node.

use std::sync::Arc;
use std::time::Instant;

use kernel::id::{ClusterId, LogIndex, NodeId};
use store::Records;
use store::Store;
use tokio::sync::watch;

use crate::config::Role;
use crate::events::Events;
use crate::group::Group;
use crate::keys::NodeKey;
use crate::metrics::Metrics;
use crate::prepare::Policies;
use crate::records::directory::Directory;
use crate::records::follow::Following;
use crate::records::hub::Hub;
use crate::records::ingress::Ingress;
use crate::records::signer::Signer;
use crate::records::validator::ValidatorView;
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
    /// A validator.
    Validator(ValidatorPart),
    /// A bootstrap node.
    Bootstrap(BootstrapPart),
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
    /// The validators that are attached here.
    pub hub: Hub,
    /// What the directory is signed with.
    pub key: Arc<NodeKey>,
    /// Nothing survives a restart: "acknowledged means durable" does not hold (PROTOCOLS 1.4).
    pub in_memory: bool,
}

/// What a follower has.
pub struct FollowerPart {
    /// How it stands, as its supers tell it.
    pub own: watch::Receiver<FollowerView>,
    /// Users' records.
    pub records: RecordsPart,
}

/// What a validator has.
pub struct ValidatorPart {
    /// How it stands.
    pub view: watch::Receiver<ValidatorView>,
    /// What it signs with.
    pub signer: Signer,
    /// Users' records.
    pub records: RecordsPart,
}

/// What a bootstrap node has.
pub struct BootstrapPart {
    /// What it hands out.
    pub directory: watch::Receiver<Option<Arc<Directory>>>,
    /// The same, as it was signed.
    pub envelope: watch::Receiver<Vec<u8>>,
}

/// What a node has that takes records in and keeps sealed ones. What needs the cluster's genesis is there once it is known.
#[derive(Clone)]
pub struct RecordsPart {
    /// The cluster, once it is known.
    pub cluster: watch::Receiver<Option<ClusterId>>,
    /// The way in.
    pub ingress: Ingress,
    /// The way to single records.
    pub following: watch::Receiver<Option<Following>>,
    /// What is kept here.
    pub store: watch::Receiver<Option<Arc<Records>>>,
    /// How far it is kept.
    pub sealed: watch::Receiver<LogIndex>,
    /// Anybody may hand in raw bodies.
    pub raw_open: bool,
    /// Supers and validators.
    pub directory: watch::Receiver<Option<Arc<Directory>>>,
}

impl Context {
    /// The super's part; `None` on a node of another role.
    #[must_use]
    pub const fn as_super(&self) -> Option<&SuperPart> {
        match &self.part {
            Part::Super(part) => Some(part),
            Part::Follower(_) | Part::Validator(_) | Part::Bootstrap(_) => None,
        }
    }

    /// What it does with records; `None` on a node that takes none in.
    #[must_use]
    pub const fn records(&self) -> Option<&RecordsPart> {
        match &self.part {
            Part::Follower(part) => Some(&part.records),
            Part::Validator(part) => Some(&part.records),
            Part::Super(_) | Part::Bootstrap(_) => None,
        }
    }

    /// The validator's part; `None` on a node of another role.
    #[must_use]
    pub const fn as_validator(&self) -> Option<&ValidatorPart> {
        match &self.part {
            Part::Validator(part) => Some(part),
            Part::Super(_) | Part::Follower(_) | Part::Bootstrap(_) => None,
        }
    }

    /// The follower's part; `None` on a node of another role.
    #[must_use]
    pub const fn as_follower(&self) -> Option<&FollowerPart> {
        match &self.part {
            Part::Follower(part) => Some(part),
            Part::Super(_) | Part::Validator(_) | Part::Bootstrap(_) => None,
        }
    }

    /// How long it has been running, ms.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
