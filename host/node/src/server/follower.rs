//! Starts a follower.

use std::sync::Arc;

use anyhow::bail;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Base, Node, StartParts, endless};
use crate::config::Storage;
use crate::context::{Context, FollowerPart, Part};
use crate::events::Events;
use crate::known::Known;
use crate::roles::follower::{self, FollowerView};

pub(super) async fn start(base: Base, parts: StartParts) -> anyhow::Result<Node> {
    let config = &base.config;
    for note in &config.notes {
        tracing::warn!(note, "config");
    }
    if config.supers.is_empty() {
        bail!("cluster.supers is empty: a follower needs the address of a super, such as [\"10.0.0.1:7001\"]");
    }
    let keeps = parts.disk.is_none() && config.storage == Storage::Disk;
    let known = if keeps { Known::open(&config.data_dir)? } else { Known::in_memory() };
    let (node, rest_address) = (base.key.id(), base.rest_address);
    let rest = rest_address.to_string();
    let events = Events::new(now_ms());
    let settings = follower::Settings {
        key: base.key.clone(),
        known,
        cluster: config.cluster_id.clone(),
        name: config.name.clone(),
        supers: config.supers.clone(),
        connect_port: config.connect_port,
        address: if config.address.is_empty() { rest.clone() } else { config.address.clone() },
        rest: Some(rest),
        once: parts.once,
        wires: parts.wires,
        events: events.clone(),
        faults: parts.faults,
    };
    let (view, own) = watch::channel(FollowerView::default());
    let context = Arc::new(Context {
        node,
        name: config.name.clone(),
        role: config.role,
        started: base.started,
        metrics: Arc::clone(&base.metrics),
        events: events.clone(),
        public_addresses: config.public_addresses,
        part: Part::Follower(FollowerPart { own: own.clone() }),
    });
    tracing::info!(%node, name = config.name, cluster = config.cluster_id, rest = %rest_address, "follower");
    let tasks = base.tasks.clone();
    base.serve_rest(&context)?;
    let draining = tasks.draining();
    tasks.spawn("events", endless(watch_own(own, events, draining.clone())));
    tasks.spawn("the follower", Box::pin(follower::run(settings, view, draining)));
    Ok(Node { tasks, context, grpc: None, rest: rest_address })
}

/// Each own line is an event.
async fn watch_own(mut own: watch::Receiver<FollowerView>, events: Events, draining: CancellationToken) {
    let mut told = None;
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            changed = own.changed() => if changed.is_err() {
                return;
            },
        }
        let line = own.borrow_and_update().own.clone();
        if let Some(line) = line.filter(|line| told != Some(line.told.round)) {
            told = Some(line.told.round);
            events.told(now_ms(), &line.told, line.until_ms, line.warning.as_deref());
        }
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
