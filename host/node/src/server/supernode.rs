//! Starts a super: the group first, then its policies, then its doors, and its rounds last.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use kernel::command::{Found, Super};
use kernel::decide::Slot;
use kernel::id::{ClusterId, Digest, Genesis, NodeId};
use kernel::outcome::Notice;
use kernel::state::State;
use raft::Roster as _;
use store::Store;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Base, Node, StartParts, bind, endless, super_part};
use crate::config::{Config, ConfigError, PeerAddress, Storage};
use crate::context::{Context, Part, SuperPart};
use crate::events::Events;
use crate::group::{self, Disks, Group, Links, Opening};
use crate::grpc::{Offers, Services, rounds};
use crate::known::Known;
use crate::listen::Gate;
use crate::mail::SuperMail;
use crate::metrics::Metrics;
use crate::prepare::{Outcome, Policies, Reload};
use crate::records::hub::Hub;
use crate::records::intake::Intake;
use crate::roles::peers::Peers;
use crate::roles::supernode::{Order, Parts, Supernode};
use crate::shadow::{self, Shadows};
use crate::streams::Streams;
use crate::text::capture_hint;
use crate::{compiling, grpc, tls};

/// Messages of followers that wait for the loop; past it the streams wait, each for itself.
const MAILBOX: usize = 8_192;
/// What other supers say and the loop has not taken.
const SUPER_MAIL: usize = 256;
/// A process that may open files for fewer followers than this says so at its start.
const FEW_FOLLOWERS: usize = 2_000;
/// A process that ended a moment ago may still hold the store.
const STORE_TRIES: u32 = 20;
const STORE_WAIT: Duration = Duration::from_millis(100);

pub(super) async fn start(base: Base, parts: StartParts) -> anyhow::Result<Node> {
    let config = &base.config;
    let grpc = bind(config.grpc, "listen.grpc").await?;
    let grpc_address = grpc.local_addr()?;
    let in_memory = config.storage == Storage::Memory && parts.disk.is_none();
    let disks = match (parts.disk, config.storage) {
        (Some(disks), _) => disks,
        (None, Storage::Disk) => Disks::folder(&config.data_dir),
        (None, Storage::Memory) => Disks::memory(),
    };
    let store = Arc::new(open(&disks, config.history_max_bytes).await?);
    let node = base.key.id();
    let is_empty = !store.load()?.is_founded();
    let place = Place::of(config, node, grpc_address).await;
    if is_empty && place.is_alone() && !config.missing.is_empty() {
        return Err(ConfigError::new(config.missing.clone()).into());
    }
    let told = config.supers.iter().filter_map(|address| address.key);
    let links = Links::new(base.key.clone(), told, parts.wires);
    let opening = Opening {
        disks,
        store: Arc::clone(&store),
        is_empty,
        found: founding(config, node, &place.address)?,
        may_found: place.is_alone(),
        links: links.clone(),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
        metrics: Arc::clone(&base.metrics),
    };
    let (group, founded) = group::open(opening, &base.tasks).await?;

    let cache = base.has_folder.then(|| compiling::cache(&config.data_dir, &base.key));
    let policies = Policies::new(group.clone(), node, compiling::engine(parts.compiler, cache)?);
    let streams = Streams::default();
    let (order_sender, order) = watch::channel(Order::default());
    let events = Events::new(group.now_ms());
    let shadows = Shadows::default();
    let hub = Hub::new(group.clone(), node);
    let following = Box::new(shadow::Parts {
        group: group.clone(),
        store: Arc::clone(&store),
        policies: policies.clone(),
        events: events.clone(),
        metrics: Arc::clone(&base.metrics),
        shadows: shadows.clone(),
    });
    let context = base.context(
        events.clone(),
        Part::Super(SuperPart {
            group: group.clone(),
            store,
            streams: streams.clone(),
            order,
            policies: policies.clone(),
            shadows,
            hub: hub.clone(),
            key: Arc::new(base.key.clone()),
            in_memory,
        }),
    );

    let draining = base.tasks.draining();
    let watching = watch_notices(group.clone(), events.clone(), Arc::clone(&base.metrics), draining.clone());
    base.tasks.spawn("events", endless(watching));
    let (mail, mailbox) = mpsc::channel(MAILBOX);
    let (super_mail, supers) = mpsc::channel(SUPER_MAIL);
    let limits = base.grpc_limits();
    let gate = Gate::new(limits, base.metrics.connections_refused.clone());
    if limits.connections < FEW_FOLLOWERS {
        tracing::warn!(
            followers = limits.connections,
            descriptors = base.descriptors,
            "this process may open too few files for all the followers that it could serve; raise its limit (`ulimit -n`)"
        );
    }
    // The group is served before anything waits for it: the others may be what it waits for.
    let offers = offers(&group, &links, super_mail);
    let (intake, ordering) = Intake::new(group.clone(), draining.clone());
    base.tasks.spawn("ordering records", endless(ordering));
    let validators = hub.clone().run(events.clone(), Arc::clone(&base.metrics), draining.clone());
    base.tasks.spawn("validators", validators);
    let records = grpc::records::server(intake, hub, group.clone(), Arc::new(base.key.clone()));
    let services = Services::of_super(mail, Some(records));
    let served =
        grpc::serve(grpc, Arc::clone(&gate), tls::server(&base.key)?, services, Some(offers), draining.clone());
    base.tasks.spawn_below("gRPC", endless(served));
    let unknown: Vec<PeerAddress> = place.others.iter().filter(|other| other.key.is_none()).cloned().collect();
    if !unknown.is_empty() {
        let known = if base.has_folder { Known::open(&config.data_dir)? } else { Known::in_memory() };
        base.tasks
            .spawn_connection("learning keys", until(draining.clone(), links.clone().learn(Arc::new(known), unknown)));
    }

    let supernode = Supernode::new(Parts {
        key: Arc::new(base.key.clone()),
        group: group.clone(),
        peers: Peers::new(group.clone(), Arc::new(links)),
        policies: policies.clone(),
        streams,
        order: order_sender,
        metrics: Arc::clone(&base.metrics),
        events,
        gate,
        mailbox,
        supers,
        tasks: base.tasks.clone(),
    });
    let tasks = base.tasks.clone();
    let rest_address = base.rest_address;
    let ready = Readying {
        group,
        policies,
        context: Arc::clone(&context),
        grpc: grpc_address,
        rest: rest_address,
        names_nobody: place.is_alone(),
    };
    // Whoever is in a group of more does not make others wait for what it takes from them.
    if ready.group.read(State::is_founded) {
        ready.ready(config, founded).await?;
        base.serve_rest(&context)?;
        tasks.spawn("shadows", shadow::keep_up(following, draining.clone()));
        tasks.spawn("preparing policies", ready.policies.keep_up(draining));
        tasks.spawn("the super's loop", Box::pin(supernode.run()));
    } else {
        wait_words(config, &place, node);
        let (config, of_it) = (config.clone(), tasks.clone());
        base.serve_rest(&context)?;
        tasks.spawn("joining", async move {
            tokio::select! {
                () = draining.cancelled() => return anyhow::Ok(()),
                joined = ready.group.joined() => joined?,
            }
            ready.ready(&config, false).await?;
            of_it.spawn("shadows", shadow::keep_up(following, draining.clone()));
            of_it.spawn("preparing policies", ready.policies.keep_up(draining));
            supernode.run().await
        });
    }
    Ok(Node { tasks, context, grpc: Some(grpc_address), rest: rest_address })
}

/// What is left to do before a super that has its state takes part.
struct Readying {
    group: Group,
    policies: Policies,
    context: Arc<Context>,
    grpc: SocketAddr,
    rest: SocketAddr,
    /// The config names no other super.
    names_nobody: bool,
}

impl Readying {
    async fn ready(&self, config: &Config, founded: bool) -> anyhow::Result<()> {
        // What is active is prepared again before any round opens: that it was acknowledged once is history.
        self.policies.catch_up(&mut BTreeSet::new()).await?;
        let reload = self.policies.take_file(config).await?;
        every_slot_is_filled(&self.group, &reload)?;
        self.warn_of_a_second_founding();
        announce(config, &self.context, self.grpc, self.rest, founded)
    }
}

impl Readying {
    /// A file that names nobody else was right for a founder. In a group it would found a second cluster on the day on which
    /// the disk is lost.
    fn warn_of_a_second_founding(&self) {
        let ours = self.context.node;
        let others: Vec<String> = self.group.read(|state| {
            let others = state.meta.seats.iter().filter(|row| row.holder.node != ours);
            others.map(|row| format!("\"{}@{}\"", row.holder.node, row.holder.address)).collect()
        });
        if self.names_nobody && !others.is_empty() {
            tracing::warn!(
                supers = format!("[{}]", others.join(", ")),
                "cluster.supers of this file names no other super of the group: put them there, else this super founds a \
                 second cluster should it ever lose its disk"
            );
        }
    }
}

/// What this super offers to the others.
fn offers(group: &Group, links: &Links, super_mail: mpsc::Sender<SuperMail>) -> Offers {
    let (of, told) = (group.clone(), links.clone());
    Offers {
        raft: group.server(),
        rounds: rounds::server(super_mail),
        is_super: Arc::new(move |key| told.admits(key) || of.has_member(key)),
        stop: group.stopped(),
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Where this super is, as the others reach it, and who the others are, as its config says.
struct Place {
    address: String,
    others: Vec<PeerAddress>,
}

impl Place {
    async fn of(config: &Config, node: NodeId, grpc: SocketAddr) -> Self {
        let (mut others, mut own) = (Vec::new(), None);
        for address in &config.supers {
            if is_ours(address, node, grpc).await {
                own.get_or_insert_with(|| PeerAddress { key: None, ..address.clone() }.to_string());
            } else {
                others.push(address.clone());
            }
        }
        if own.is_none() && grpc.ip().is_unspecified() {
            tracing::warn!(
                %grpc,
                "nobody else reaches this super at the address that it listens on: name the one that they are to use in \
                 cluster.supers, with this super's key where it is not one of this machine's"
            );
        }
        Self { address: own.unwrap_or_else(|| grpc.to_string()), others }
    }

    /// An empty super founds a cluster only when it is alone: one that lost its disk must not found a second one beside the
    /// first (PROTOCOLS 1.3).
    const fn is_alone(&self) -> bool {
        self.others.is_empty()
    }
}

/// What a person needs to know of an empty super that founds nothing.
fn wait_words(config: &Config, place: &Place, node: NodeId) {
    let others = place.others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let address = &place.address;
    let (add, promote) = (format!("pingward cluster add {node}@{address}"), format!("pingward cluster promote {node}"));
    tracing::warn!(
        cluster = config.cluster_id,
        others,
        "this super is empty and cluster.supers names others: it founds no cluster beside theirs, and waits to be added. On \
         one of theirs run `{add}` and then `{promote}`; to found a new cluster instead, let cluster.supers name this super \
         alone"
    );
}

async fn open(disks: &Disks, history_max_bytes: u64) -> anyhow::Result<Store> {
    let mut tries = 0;
    loop {
        match disks.open(history_max_bytes) {
            Ok(store) => return Ok(store),
            Err(store::StoreError::InUse { .. }) if tries < STORE_TRIES => {
                tries += 1;
                tokio::time::sleep(STORE_WAIT).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an address is this super's own.
pub(super) async fn is_ours(address: &PeerAddress, node: NodeId, grpc: SocketAddr) -> bool {
    if let Some(key) = address.key {
        return key == node;
    }
    if address.port != grpc.port() {
        return false;
    }
    // A name that nobody knows names nobody, hence not this super.
    let Ok(mut found) = tokio::net::lookup_host((address.host.as_str(), address.port)).await else { return false };
    found.any(|to| if grpc.ip().is_unspecified() { is_here(to.ip()) } else { to.ip() == grpc.ip() })
}

/// Whether an address is one of this machine's: the system lets nobody bind another's.
fn is_here(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn founding(config: &Config, node: NodeId, address: &str) -> anyhow::Result<Found> {
    let mut genesis = [0; 16];
    getrandom::fill(&mut genesis).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(Found {
        cluster: ClusterId { id: config.cluster_id.clone(), genesis: Genesis(genesis) },
        founder: Super { node, name: config.name.clone(), address: address.to_owned() },
        settings: config.settings.clone(),
        now_ms: 0,
    })
}

/// The first round is decided by the founder's rules, so a founder whose rules are refused does not begin. Later on the
/// rules that decide go on, whatever the file says.
fn every_slot_is_filled(group: &Group, reload: &Reload) -> anyhow::Result<()> {
    for (slot, outcome) in &reload.slots {
        let empty = group.read(|state| state.meta.settled.0 == 0 && state.slot(*slot).row.active.is_none());
        if let Outcome::Refused { component, findings } = outcome
            && empty
        {
            bail!("the {slot} policy {component} is refused:\n  {}", findings.join("\n  "));
        }
    }
    Ok(())
}

/// What a person needs to know of a super that has started.
fn announce(
    config: &Config,
    context: &Context,
    grpc: SocketAddr,
    rest: SocketAddr,
    founded: bool,
) -> anyhow::Result<()> {
    let part = super_part(context)?;
    for note in &config.notes {
        tracing::warn!(note, "config");
    }
    let (cluster, settled, members) =
        part.group.read(|state| (state.meta.cluster.to_string(), state.meta.settled.0, state.queue.len()));
    let what = if founded { "a new cluster is founded" } else { "the cluster goes on" };
    tracing::info!(cluster, node = %context.node, %grpc, %rest, settled, members, "{what}");
    for slot in Slot::ALL {
        let active = part.group.read(|state| {
            state.active(slot).map(|(digest, row)| {
                (digest, format!("{} {}", row.description.name, row.description.version), row.config.clone())
            })
        });
        match active {
            Some((policy, name, config)) => tracing::info!(slot = slot.name(), %policy, name, config, "policy active"),
            None => tracing::warn!(slot = slot.name(), "the slot is neutral: no policy decides"),
        }
    }
    if part.in_memory {
        tracing::warn!(
            "storage = \"memory\": nothing survives a restart, every start founds a new cluster, and an answer does not mean that anything is kept"
        );
    }
    Ok(())
}

/// Tells watchers and counters what happened.
async fn watch_notices(group: Group, events: Events, metrics: Arc<Metrics>, draining: CancellationToken) {
    let mut notices = group.notices();
    loop {
        let notice = tokio::select! {
            () = draining.cancelled() => return,
            notice = notices.recv() => notice,
        };
        match notice {
            Ok(notice) => {
                count(&notice, &metrics);
                group.read(|state| events.notice(&notice, state));
            }
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events were lost; history has them"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn count(notice: &Notice, metrics: &Metrics) {
    match notice {
        Notice::Round(record) => {
            metrics.settled(record.marks.causes);
            for (kind, decisions) in [("held", record.held), ("deferred", record.deferred), ("clamped", record.clamped)]
            {
                metrics.limited(kind, decisions);
            }
            for slot in &record.slots {
                if slot.called {
                    metrics.policy_called(slot.slot, slot.fuel);
                }
                if let Some(fault) = &slot.fault {
                    metrics.fault(slot.slot, fault.kind);
                    let policy = slot.policy.as_ref().map(Digest::to_string).unwrap_or_default();
                    let hint = capture_hint(slot.slot, record.round);
                    tracing::warn!(
                        slot = slot.slot.name(),
                        round = record.round.0,
                        policy,
                        kind = fault.kind.name(),
                        fault.message,
                        hint,
                        "a policy failed: the neutral decision counts"
                    );
                }
            }
            let (up, down, unknown) = record.counts;
            let suspect = record.marks.is_suspect();
            tracing::debug!(
                round = record.round.0,
                up,
                down,
                unknown,
                suspect,
                issued = record.issued.0,
                "round settled"
            );
        }
        Notice::Moved(moved) => {
            tracing::info!(
                node = %moved.node, round = moved.round.0, from = moved.from.name(), to = moved.to.name(),
                until = moved.until.map(|until| until.0), reason = moved.reason, "standing"
            );
        }
        Notice::Policy { slot, policy, what, round, detail } => {
            let policy = policy.as_ref().map_or_else(|| "none".to_owned(), Digest::to_string);
            tracing::info!(slot = slot.name(), policy, what, round = round.0, detail, "policy");
        }
        Notice::AskOperator { round, rounds } => {
            tracing::warn!(
                round = round.0,
                rounds,
                "suspect rounds in a row: if the missing nodes are really gone, run `pingward rounds accept`"
            );
        }
        Notice::Changed(change) => {
            tracing::info!(what = change.what, from = change.from, to = change.to, reason = change.reason, "changed");
        }
        Notice::Validators { version } => tracing::info!(version, "another set of validators"),
        Notice::Claimed { .. } | Notice::Leader { .. } | Notice::Closed(_) | Notice::Ordered(_) | Notice::Sealed(_) => {
        }
    }
}
