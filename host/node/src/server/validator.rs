//! Starts a validator: what it keeps first, then where the supers are, then its doors, and its streams last.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use kernel::id::ClusterId;
use store::Disk;
use store::Records;
use tokio::sync::{Notify, watch};

use super::{Base, Node, StartParts, bind, endless};
use crate::config::{PeerAddress, Storage};
use crate::context::{Part, RecordsPart, ValidatorPart};
use crate::events::Events;
use crate::grpc::Services;
use crate::known::Known;
use crate::listen::Gate;
use crate::records::book::Book;
use crate::records::bound::Keep;
use crate::records::follow::Following;
use crate::records::ingress::{Ingress, now_ms};
use crate::records::keeper;
use crate::records::signer::Signer;
use crate::records::validator::{Others, Streams, ValidatorView, Way};
use crate::{compiling, grpc, tls};

/// In the data folder.
pub(super) const FILE: &str = "records.redb";

pub(super) async fn start(base: Base, parts: StartParts) -> anyhow::Result<Node> {
    let config = &base.config;
    for note in &config.notes {
        tracing::warn!(note, "config");
    }
    let listener = bind(config.grpc, "listen.grpc").await?;
    let grpc_address = listener.local_addr()?;
    let keeps = parts.records.is_none() && config.storage == Storage::Disk;
    let known = if keeps { Known::open(&config.data_dir)? } else { Known::in_memory() };
    let way = Way { key: base.key.clone(), known: known.clone(), wires: parts.wires };
    let book = Book::open(way.clone(), &config.cluster_id, keeps.then_some(config.data_dir.as_path()));
    let tasks = base.tasks.clone();
    let draining = tasks.draining();

    // A signature names the cluster with its genesis, so the first thing is to learn it, from a super or a bootstrap node.
    let first: Vec<PeerAddress> = config.supers.iter().chain(&config.bootstrap).cloned().collect();
    if first.is_empty() {
        bail!("cluster.supers is empty: a validator needs the address of a super, such as [\"10.0.0.1:7001\"]");
    }
    let cluster = match known.cluster() {
        Some(cluster) => cluster,
        None => {
            tracing::info!("asking for the directory");
            let directory = tokio::select! {
                directory = book.first(&first) => directory,
                () = draining.cancelled() => bail!("stopped before any super or bootstrap node had answered"),
            };
            let cluster: ClusterId = directory.cluster.parse().context("the directory's cluster")?;
            known.learn_cluster(&cluster)?;
            cluster
        }
    };
    let store = match parts.records {
        Some(disk) => Arc::new(Records::open(&disk, cluster.genesis)?),
        None if keeps => Arc::new(Records::open(&Disk::file(config.data_dir.join(FILE)), cluster.genesis)?),
        None => Arc::new(Records::open(&Disk::memory(), cluster.genesis)?),
    };
    let sealed = watch::Sender::new(store.complete_to()?);
    let cache = base.has_folder.then(|| compiling::cache(&config.data_dir, &base.key));
    let engine = compiling::engine(parts.compiler, cache)?;
    let others = Others::new(way.clone());
    let (signer, holding) = Signer::new(
        base.key.clone(),
        cluster.clone(),
        Arc::clone(&store),
        engine,
        others,
        parts.signing,
        sealed.clone(),
    );
    signer.abstain_to(store.abstain_below()?);
    tasks.spawn_below("holding batches", endless(holding));

    let supers = super::follower::supers_of(&config.supers, book.directory(), None, &tasks);
    let (ingress, handing) = Ingress::new(way.clone(), supers.clone(), draining.clone());
    tasks.spawn("handing records on", endless(handing));
    let following = Following {
        way: way.clone(),
        directory: book.directory(),
        stale: book.stale(),
        store: Arc::clone(&store),
        sealed: sealed.clone(),
        cluster: cluster.to_string(),
        all: true,
    };
    let keep = Keep::of(&config.records).run(Arc::clone(&store), sealed.subscribe(), draining.clone());
    tasks.spawn("bounding records", endless(keep));
    let lacks = Arc::new(Notify::new());
    // What was sealed while this validator was away is to be had from the others, whether it hears of it or not.
    lacks.notify_one();
    tasks.spawn("fetching what it lacks", endless(following.clone().run(Some(Arc::clone(&lacks)), draining.clone())));
    let (_, need) = watch::channel(true);
    tasks.spawn("the directory", endless(book.clone().keep(supers, need, draining.clone())));
    let view = watch::Sender::new(ValidatorView::default());
    let streams = Streams {
        way,
        name: config.name.clone(),
        cluster: cluster.clone(),
        signer: signer.clone(),
        store: Arc::clone(&store),
        directory: book.directory(),
        supers: config.supers.clone(),
        stale: book.stale(),
        lacks,
        view: view.clone(),
        welcome: Arc::default(),
    };
    tasks.spawn("streams to supers", endless(streams.run(draining.clone())));

    let limits = base.grpc_limits();
    let gate = Gate::new(limits, base.metrics.connections_refused.clone());
    let room = usize::try_from(config.records.streams).unwrap_or(usize::MAX);
    let keeper = keeper::server(cluster.clone(), signer.clone(), Arc::clone(&store), room, draining.clone());
    let services = Services::of_validator(keeper);
    let served = grpc::serve(listener, gate, tls::server(&base.key)?, services, None, draining.clone());
    tasks.spawn("gRPC", endless(served));

    let (node, rest) = (base.key.id(), base.rest_address);
    let events = Events::new(now_ms());
    let context = base.context(
        events.clone(),
        Part::Validator(ValidatorPart {
            view: view.subscribe(),
            signer,
            records: RecordsPart {
                cluster: watch::channel(Some(cluster.clone())).1,
                ingress,
                following: watch::channel(Some(following)).1,
                store: watch::channel(Some(store)).1,
                sealed: sealed.subscribe(),
                raw_open: config.records.raw_open,
                directory: book.directory(),
            },
        }),
    );
    tracing::info!(%node, name = config.name, %cluster, grpc = %grpc_address, %rest, "validator");
    base.serve_rest(&context)?;
    let watching = super::follower::watch_sealed(sealed.subscribe(), Arc::clone(&context), draining);
    tasks.spawn("events", endless(watching));
    Ok(Node { tasks, context, grpc: Some(grpc_address), rest })
}
