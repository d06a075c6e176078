//! A whole node: opens what it keeps, binds what it offers, starts its role, and ends all of it again.
//!
//! A process may run many nodes (the demo does). Nothing of a node is global but the TLS provider and the process's
//! bound on descriptors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kernel::command::Operator;
use kernel::decide::Slot;
use policy::Compiler;
use store::Disk;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Config, PolicySource, Role, Storage};
use crate::context::{Context, Part, SuperPart};
use crate::events::Events;
use crate::group::Disks;
use crate::keys::{self, NodeKey};
use crate::listen::http::serve_http;
use crate::listen::{Gate, Limits};
use crate::metrics::Metrics;
use crate::prepare::{Outcome, PolicyError, Reload};
use crate::records::signer::ValidatorFaults;
use crate::rest::access::Admin;
use crate::rest::{self, Entrances};
use crate::roles::follower::FollowerFaults;
use crate::tasks::Tasks;
use crate::wires::Wires;

pub(crate) use bootstrap::DirectoryServer;

mod bootstrap;
mod follower;
mod supernode;
mod validator;

#[cfg(test)]
mod tests;

/// How long a draining node waits for what is under way.
const DRAIN: Duration = Duration::from_secs(15);

/// What a node is started with besides its config.
#[derive(Default)]
pub struct StartParts {
    /// Where a super keeps its state, instead of what the config says. The demo's disks outlive their nodes.
    pub disk: Option<Disks>,
    /// Its key, instead of the key file.
    pub key: Option<NodeKey>,
    /// Where a follower or validator keeps sealed records, instead of what the config says.
    pub records: Option<Disk>,
    /// What a validator does wrong on purpose.
    pub signing: Arc<ValidatorFaults>,
    /// What a follower does wrong on purpose.
    pub faults: Arc<FollowerFaults>,
    /// A follower gives up at the first refusal.
    pub once: bool,
    /// The network, where something is to be wrong with it on purpose.
    pub wires: Wires,
    /// How a super compiles components of others. In this process by default, which is for tests: their program is no node.
    pub compiler: Compiler,
}

/// A running node. Dropping it leaves it running; end it with [`Node::stop`] or [`Node::kill`].
pub struct Node {
    tasks: Tasks,
    context: Arc<Context>,
    grpc: Option<SocketAddr>,
    rest: SocketAddr,
}

/// What every role begins with.
struct Base {
    config: Config,
    key: NodeKey,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    rest: TcpListener,
    rest_address: SocketAddr,
    started: Instant,
    /// It has a data folder of its own: the place of its admin token and socket.
    has_folder: bool,
    /// Descriptors that the process may open.
    descriptors: u64,
}

impl Node {
    /// Starts a node and returns when it serves.
    ///
    /// # Errors
    /// What is missing or wrong, where, and how to mend it.
    pub async fn start(config: Config, parts: StartParts) -> anyhow::Result<Self> {
        crate::tls::install_provider();
        let started = Instant::now();
        let has_folder = parts.key.is_none() || config.storage == Storage::Disk && parts.disk.is_none();
        if has_folder {
            keys::data_dir(&config.data_dir)?;
        }
        let key = match &parts.key {
            Some(key) => key.clone(),
            None => {
                let (key, made) = NodeKey::load_or_create(&config.key_file)?;
                if made {
                    tracing::info!(file = %config.key_file.display(), node = %key.id(), "a new key");
                }
                key
            }
        };
        let rest = bind(config.rest, "listen.rest").await?;
        let rest_address = rest.local_addr()?;
        let base = Base {
            config,
            key,
            tasks: Tasks::new(),
            metrics: Arc::new(Metrics::new()),
            rest,
            rest_address,
            started,
            has_folder,
            descriptors: crate::listen::descriptors(),
        };
        let tasks = base.tasks.clone();
        let node = match base.config.role {
            Role::Super => Box::pin(supernode::start(base, parts)).await,
            Role::Follower => Box::pin(follower::start(base, parts)).await,
            Role::Validator => Box::pin(validator::start(base, parts)).await,
            Role::Bootstrap => Box::pin(bootstrap::start(base, parts)).await,
        };
        if node.is_err() {
            // Whatever has begun already ends with the attempt.
            tasks.kill();
        }
        node
    }

    /// What it shows of itself.
    #[must_use]
    pub fn context(&self) -> Arc<Context> {
        Arc::clone(&self.context)
    }

    /// Where other nodes reach it; `None` on a follower, which nobody dials.
    #[must_use]
    pub const fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where people and programs reach it.
    #[must_use]
    pub const fn rest_address(&self) -> SocketAddr {
        self.rest
    }

    /// Waits until the node cannot go on, and says why.
    pub async fn failed(&self) -> String {
        self.tasks.failed().await
    }

    /// Takes what a config says of policies and settings, where that is new, and tries again to prepare what could not be.
    /// A follower has none of it.
    ///
    /// # Errors
    /// [`PolicyError`]; what decided goes on.
    pub async fn reload(&self, config: &Config) -> Result<Reload, PolicyError> {
        match self.context.as_super() {
            Some(part) => {
                part.policies.try_again().await?;
                part.policies.take_file(config).await
            }
            None => Ok(Reload { slots: Vec::new(), settings: Vec::new(), settings_refused: None }),
        }
    }

    /// Brings one policy into its slot.
    ///
    /// # Errors
    /// [`PolicyError`]; `None` in its place on a follower, which has no slots.
    pub async fn swap(&self, slot: Slot, source: &PolicySource) -> Option<Result<Outcome, PolicyError>> {
        let part = self.context.as_super()?;
        Some(part.policies.swap(slot, source, Operator::Console).await)
    }

    /// Drains: says goodbye, finishes what is under way, keeps everything, ends.
    ///
    /// # Errors
    /// Something failed meanwhile, a last commit for instance, or did not end in time: it ended all the same.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop_within(DRAIN).await
    }

    async fn stop_within(self, within: Duration) -> anyhow::Result<()> {
        self.context.events.close();
        let mut in_time = self.tasks.drain(within).await;
        if let Some(part) = self.context.as_super() {
            let stopped = part.group.stopped();
            in_time &= tokio::time::timeout(within, stopped.cancelled()).await.is_ok();
        }
        self.tasks.kill();
        self.tasks.ended().await;
        if let Some(why) = self.tasks.failure() {
            bail!("the node failed while it drained: {why}");
        }
        if !in_time {
            bail!(
                "not everything ended within {} s, and the rest was cut off: what was answered is kept, what was under way \
                 may be lost",
                within.as_secs()
            );
        }
        Ok(())
    }

    /// Ends everything at once, as `kill -9` does: nobody is told and nothing is flushed. Returns when nothing of the node
    /// touches its disk any more.
    pub async fn kill(self) {
        self.tasks.kill();
        if let Some(part) = self.context.as_super() {
            part.group.stopped().cancelled().await;
        }
        self.tasks.ended().await;
    }
}

/// Runs one node as a process of its own, until it is told to end or cannot go on. `SIGTERM` and `SIGINT` drain, a second
/// one ends at once, `SIGHUP` reads the file again.
///
/// # Errors
/// Why it could not start, or why it ended by itself.
pub async fn run(config: Config, parts: StartParts) -> anyhow::Result<()> {
    let started_with = config.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let node = Node::start(config, parts).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            why = node.failed() => {
                node.kill().await;
                bail!("the node stopped: {why}");
            }
            // Compiling what the file names may take a minute, and nobody who ends a node waits for that.
            _ = hang_up.recv() => tokio::select! {
                () = reread(&node, &started_with) => {}
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            },
        }
    }
    tracing::info!("draining; a second signal ends at once");
    tokio::select! {
        ended = node.stop() => {
            ended?;
            tracing::info!("stopped");
            Ok(())
        }
        _ = terminate.recv() => bail!("ended before everything was finished"),
        _ = interrupt.recv() => bail!("ended before everything was finished"),
    }
}

/// Reads the file again, and says what of it is taken and what has to wait.
async fn reread(node: &Node, started_with: &Config) {
    let file = &started_with.file;
    if file.as_os_str().is_empty() {
        tracing::warn!("there is no config file to read again");
        return;
    }
    let config = match config::load(file, &config::environment()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the config file is not usable: everything stays as it is");
            return;
        }
    };
    let next_start = started_with.differs(&config);
    if !next_start.is_empty() {
        let keys = next_start.join(", ");
        tracing::warn!(keys, "changed in the config file, and counts from the next start of this node");
    }
    if started_with.role != Role::Super {
        let role = started_with.role;
        tracing::info!("a {role} has nothing to reload: its file counts at its start");
        return;
    }
    match node.reload(&config).await {
        Ok(reload) => {
            for change in &reload.settings {
                tracing::info!(change, "cluster setting changed, in force from the second next round");
            }
            let slots = |of: fn(&Outcome) -> bool| {
                let slots = reload.slots.iter().filter(|(_, outcome)| of(outcome)).map(|(slot, _)| slot.name());
                slots.collect::<Vec<_>>().join(", ")
            };
            let scheduled = slots(|outcome| matches!(outcome, Outcome::Scheduled(_)));
            let refused = slots(|outcome| matches!(outcome, Outcome::Refused { .. }));
            let (settings, settings_refused) = (reload.settings.len(), reload.settings_refused.is_some());
            tracing::info!(
                scheduled,
                refused,
                settings,
                settings_refused,
                "config file read again: policies and settings"
            );
        }
        Err(error) => tracing::error!(%error, "reading the config again failed"),
    }
}

impl Base {
    /// What its requests are answered from.
    fn context(&self, events: Events, part: Part) -> Arc<Context> {
        Arc::new(Context {
            node: self.key.id(),
            name: self.config.name.clone(),
            role: self.config.role,
            started: self.started,
            metrics: Arc::clone(&self.metrics),
            events,
            public_addresses: self.config.public_addresses,
            part,
        })
    }

    /// Bounds of its gRPC listener, which leave enough descriptors for REST.
    fn grpc_limits(&self) -> Limits {
        Limits::GRPC.within(self.descriptors, Limits::HTTP.connections.min(self.descriptors as usize / 8))
    }

    /// Serves the routes; on a super, whose operators decide, with a token and on a socket for them.
    fn serve_rest(self, context: &Arc<Context>) -> anyhow::Result<()> {
        // A follower or validator has an operator too: who hands in records in the node's own name.
        let has_operator = self.config.role != Role::Bootstrap;
        let folder = Some(&self.config.data_dir).filter(|_| self.has_folder && has_operator);
        let admin = folder.map_or_else(|| Ok(Admin::none()), |folder| Admin::in_dir(folder))?;
        let Entrances { tcp, grpc, socket: operators } = rest::entrances(Arc::clone(context), admin);
        let socket = folder.map(|folder| rest::serve::bind_socket(folder)).transpose()?;
        let limits = Limits::HTTP.within(self.descriptors / 8, 0);
        let gate = Gate::new(limits, self.metrics.connections_refused.clone());
        let stop = self.tasks.draining();
        let served = serve_http(self.rest, gate, tcp, grpc, stop.clone());
        self.tasks.spawn("REST", endless(served));
        if let Some(socket) = socket {
            self.tasks.spawn("the admin socket", endless(socket.serve(operators, stop)));
        }
        Ok(())
    }
}

/// Something that ends with the node only, and has no way to fail.
async fn endless(work: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    work.await;
    Ok(())
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{key} = \"{address}\" cannot be bound; is another process on it? name another address or port")
    })
}

/// A super's part of a context that has one.
fn super_part(context: &Context) -> anyhow::Result<&SuperPart> {
    context.as_super().context("a super's context has a super's part")
}
