//! The follower: attached to its supers, it answers pings in its turn, is told how it stands, and comes back when it was
//! away.
//!
//! It runs up to [`OBSERVERS`] links, each to another super. A link dials, says hello, answers, and waits before it tries
//! again: long enough to be no burden, short enough to be back within the super's grace. Where a super is gone it goes on to
//! the next one. Whatever happens is said in the
//! log, with what to do about it.
//!
//! Not here, on purpose: choosing a super that pleases. The order follows from the keys ([`choice`]).

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kernel::id::{ClusterId, NodeId, ProtocolVersion};
use kernel::members::Refusal;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::message::{Own, SUPERS};

use crate::config::PeerAddress;
use crate::events::Events;
use crate::keys::NodeKey;
use crate::known::{Known, KnownError};
use crate::wires::Wires;

mod attached;
mod choice;
pub(crate) mod dial;
mod link;
pub mod policies;
mod wait;
pub mod words;

pub use dial::DialError;

use choice::Choice;
use policies::KnownPolicies;
use wait::Dice;

/// Supers that a follower attaches to at once, where there are so many, before one tells how many the cluster wants.
pub const OBSERVERS: usize = 2;

/// What a follower is.
#[derive(Debug)]
pub struct Settings {
    /// Its key.
    pub key: NodeKey,
    /// What it remembers.
    pub known: Known,
    /// The cluster's name, without a genesis.
    pub cluster: String,
    /// Its display name.
    pub name: String,
    /// The supers.
    pub supers: Vec<PeerAddress>,
    /// The port that it connects from; 0 = a free one, chosen once.
    pub connect_port: u16,
    /// The address that it connects from; the system's choice where none is named.
    pub connect_from: Option<IpAddr>,
    /// What its pongs tell as its address.
    pub address: String,
    /// Its own REST address, as its hello tells it.
    pub rest: Option<String>,
    /// Give up at the first refusal or failure.
    pub once: bool,
    /// The network.
    pub wires: Wires,
    /// What it tells the public of the rules.
    pub events: Events,
    /// What it does wrong on purpose.
    pub faults: Arc<FollowerFaults>,
}

/// How a follower stands, for its log, its API and the demo's screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowerView {
    /// Its cluster, once it was welcome.
    pub cluster: Option<ClusterId>,
    /// The leading super, as it was told.
    pub leader: Option<NodeId>,
    /// The supers that it knows, in the order in which it dials them.
    pub supers: Vec<Link>,
    /// The last line about itself.
    pub own: Option<Own>,
    /// Version of the set of validators, as a super told it; 0 = there is none.
    pub set_version: u64,
    /// The rules in force and those that are to come, once a super told them.
    pub policies: Option<KnownPolicies>,
    /// The last refusal; `None` once it is welcome again.
    pub refused: Option<Refused>,
    /// The last failure that was no refusal, in words; `None` once it is welcome again.
    pub failed: Option<String>,
}

impl FollowerView {
    /// Whether a super has it in its turns.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.supers.iter().any(|link| link.attached)
    }
}

/// One super that a follower knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `host:port`.
    pub address: String,
    /// Its key, once it is known.
    pub key: Option<NodeId>,
    /// Welcome there, and the stream stands.
    pub attached: bool,
}

/// A refusal and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// In words.
    pub words: words::Words,
    /// When it tries again, ms since 1970.
    pub retry_ms: u64,
}

/// What a follower does wrong on purpose: for the demo's flaky followers and for tests. All off at first.
#[derive(Debug, Default)]
pub struct FollowerFaults {
    now: watch::Sender<Faults>,
}

/// See [`FollowerFaults`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Faults {
    /// It hears pings and does not answer.
    pub mute: bool,
    /// It hangs up without a goodbye and stays away.
    pub offline: bool,
    /// It says that it speaks this version.
    pub version: Option<ProtocolVersion>,
    /// It declares this port and connects from its own.
    pub port: Option<u16>,
}

impl FollowerFaults {
    /// Changes what it does wrong, at once.
    pub fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.now.send_modify(change);
    }

    /// What it does wrong.
    #[must_use]
    pub fn now(&self) -> Faults {
        *self.now.borrow()
    }

    /// Waits until it is offline, or is not.
    async fn until_offline(&self, offline: bool) {
        // The sender is ours, so waiting cannot fail.
        let _changed = self.now.subscribe().wait_for(|faults| faults.offline == offline).await.is_ok();
    }
}

/// Why a follower gave up.
#[derive(Debug, thiserror::Error)]
pub enum FollowerError {
    /// There is nobody to attach to.
    #[error("cluster.supers is empty; name at least one super as \"host:port\"")]
    NoSupers,
    /// The system has no free port or no randomness.
    #[error("cannot start: {0}")]
    System(std::io::Error),
    /// A super refused it, and it was to try once.
    #[error("refused ({code}): {what}; {cure}")]
    Refused {
        /// The word.
        code: &'static str,
        /// What it is.
        what: String,
        /// What to do.
        cure: String,
    },
    /// A super could not be reached, and it was to try once.
    #[error("{0}")]
    Unreachable(Box<DialError>),
    /// The super belongs elsewhere, and it was to try once.
    #[error("{0}")]
    OtherCluster(Box<KnownError>),
    /// The stream ended, and it was to try once.
    #[error("{address} ended the stream: {why}")]
    Lost {
        /// Who.
        address: String,
        /// What is known of the reason.
        why: String,
    },
}

/// Runs a follower until `stop`, when it says goodbye.
///
/// # Errors
/// [`FollowerError`]: something without which it cannot start, or the first failure when it is to try once.
pub async fn run(
    settings: Settings,
    view: watch::Sender<FollowerView>,
    stop: CancellationToken,
) -> Result<(), FollowerError> {
    if settings.supers.is_empty() {
        return Err(FollowerError::NoSupers);
    }
    let port = match settings.connect_port {
        0 => dial::free_port().map_err(FollowerError::System)?,
        port => port,
    };
    let dice = Dice::seeded().map_err(|error| FollowerError::System(std::io::Error::other(error)))?;
    let choice = Choice::new(settings.key.id(), &settings.supers, &settings.known, dice);
    view.send_modify(|view| {
        view.cluster = settings.known.cluster();
        view.supers = choice.links();
    });
    let shared = Arc::new(link::Shared {
        settings,
        view,
        stop,
        started: Instant::now(),
        choice: Mutex::new(choice),
        policies: Mutex::default(),
        dialing: Semaphore::new(1),
        port: watch::Sender::new(port),
        interval: watch::Sender::new(None),
    });
    let mut links = JoinSet::new();
    for _ in 0..SUPERS {
        links.spawn(link::run(Arc::clone(&shared)));
    }
    // Dropping the set ends what is left.
    while let Some(ended) = links.join_next().await {
        match ended {
            Ok(ended) => ended?,
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    Ok(())
}

/// ms since 1970.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
