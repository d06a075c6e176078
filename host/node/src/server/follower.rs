//! Starts a follower.

use std::sync::Arc;

use std::path::Path;

use anyhow::bail;
use kernel::id::{ClusterId, LogIndex};
use kernel::records::certificate::Verdict;
use store::Disk;
use store::Records;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Base, Node, StartParts, endless};
use crate::config::{PeerAddress, Storage};
use crate::context::{Context, FollowerPart, Part, RecordsPart};
use crate::events::Events;
use crate::known::Known;
use crate::records::book::Book;
use crate::records::bound::Keep;
use crate::records::directory::Directory;
use crate::records::follow::Following;
use crate::records::ingress::Ingress;
use crate::records::validator::Way;
use crate::roles::follower::{self, FollowerView};
use crate::tasks::Tasks;

/// Of what was sealed in one go so much is told as events.
const EVENTS: usize = 256;
const EVENT_BYTES: usize = 4 << 20;

pub(super) async fn start(base: Base, parts: StartParts) -> anyhow::Result<Node> {
    let config = &base.config;
    for note in &config.notes {
        tracing::warn!(note, "config");
    }
    if config.supers.is_empty() && config.bootstrap.is_empty() {
        bail!("cluster.supers is empty: a follower needs the address of a super, such as [\"10.0.0.1:7001\"]");
    }
    let keeps = parts.disk.is_none() && config.storage == Storage::Disk;
    let folder = (keeps && base.has_folder).then_some(config.data_dir.as_path());
    let known = if keeps { Known::open(&config.data_dir)? } else { Known::in_memory() };
    let (node, rest_address) = (base.key.id(), base.rest_address);
    let rest = rest_address.to_string();
    let events = Events::new(now_ms());
    let tasks = base.tasks.clone();
    let draining = tasks.draining();
    let way = Way { key: base.key.clone(), known: known.clone(), wires: parts.wires.clone() };
    let book = Book::open(way.clone(), &config.cluster_id, folder);
    let supers = first_supers(&config.supers, &config.bootstrap, &book, &draining).await?;
    let settings = follower::Settings {
        key: base.key.clone(),
        known,
        cluster: config.cluster_id.clone(),
        name: config.name.clone(),
        supers,
        connect_port: config.connect_port,
        connect_from: None,
        address: if config.address.is_empty() { rest.clone() } else { config.address.clone() },
        rest: Some(rest),
        once: parts.once,
        wires: parts.wires,
        events: events.clone(),
        faults: parts.faults,
    };
    let (view, own) = watch::channel(FollowerView::default());
    let records = records(&base, parts.records, way, &book, folder, own.clone());
    let context = base.context(events.clone(), Part::Follower(FollowerPart { own: own.clone(), records }));
    tracing::info!(%node, name = config.name, cluster = config.cluster_id, rest = %rest_address, "follower");
    base.serve_rest(&context)?;
    let sealed = context.records().map(|records| records.sealed.clone());
    if let Some(sealed) = sealed {
        tasks.spawn("events of records", endless(watch_sealed(sealed, Arc::clone(&context), draining.clone())));
    }
    tasks.spawn("events", endless(watch_own(own, events, draining.clone())));
    tasks.spawn("the follower", Box::pin(follower::run(settings, view, draining)));
    Ok(Node { tasks, context, grpc: None, rest: rest_address })
}

/// The supers to begin with: those of the config, of a directory that was kept, or, for a newcomer, of the directory that a
/// bootstrap node hands out.
async fn first_supers(
    supers: &[PeerAddress],
    bootstrap: &[PeerAddress],
    book: &Book,
    draining: &CancellationToken,
) -> anyhow::Result<Vec<PeerAddress>> {
    if !supers.is_empty() {
        return Ok(supers.to_vec());
    }
    let kept = book.directory().borrow().clone();
    let directory = match kept {
        Some(directory) => directory,
        None => tokio::select! {
            directory = book.first(bootstrap) => directory,
            () = draining.cancelled() => bail!("stopped before any bootstrap node had answered"),
        },
    };
    tracing::info!(
        supers = directory.supers.len(),
        cluster = directory.cluster,
        "the directory says where the supers are"
    );
    Ok(directory.super_addresses())
}

/// The supers, the one that leads first, as the directory or, without one, the follower's links say.
pub(super) fn supers_of(
    config: &[PeerAddress],
    mut directory: watch::Receiver<Option<Arc<Directory>>>,
    view: Option<watch::Receiver<FollowerView>>,
    tasks: &Tasks,
) -> watch::Receiver<Vec<PeerAddress>> {
    let config = config.to_vec();
    let (to, supers) = watch::channel(config.clone());
    let draining = tasks.draining();
    tasks.spawn(
        "where the supers are",
        endless(async move {
            let (_nobody, nothing) = watch::channel(FollowerView::default());
            let mut view = view.unwrap_or(nothing);
            loop {
                let listed = directory.borrow_and_update().as_ref().map(|directory| directory.super_addresses());
                let now = view.borrow_and_update().clone();
                let links = now.supers.iter().filter_map(|link| {
                    let address = crate::config::address(&link.address).ok()?;
                    Some(PeerAddress { key: link.key, ..address })
                });
                let mut all = listed.unwrap_or_else(|| links.collect());
                if all.is_empty() {
                    all.clone_from(&config);
                }
                all.sort_by_key(|one| one.key.is_none() || one.key != now.leader);
                to.send_if_modified(|known| {
                    let news = *known != all;
                    *known = all;
                    news
                });
                tokio::select! {
                    () = draining.cancelled() => return,
                    changed = directory.changed() => if changed.is_err() {
                        return;
                    },
                    changed = view.changed() => if changed.is_err() {
                        return;
                    },
                }
            }
        }),
    );
    supers
}

/// What a follower does with records, once it knows its cluster.
fn records(
    base: &Base,
    given: Option<Disk>,
    way: Way,
    book: &Book,
    folder: Option<&Path>,
    own: watch::Receiver<FollowerView>,
) -> RecordsPart {
    let (config, tasks) = (&base.config, &base.tasks);
    let draining = tasks.draining();
    let supers = supers_of(&config.supers, book.directory(), Some(own.clone()), tasks);
    let (ingress, handing) = Ingress::new(way.clone(), supers.clone(), draining.clone());
    tasks.spawn("handing records on", endless(handing));
    // Where there are no validators there are no records, and nobody needs a directory.
    let (needs, need) = watch::channel(false);
    tasks.spawn("the directory", endless(book.clone().keep(supers, need, draining.clone())));
    tasks.spawn("the set of validators", endless(watch_set(own.clone(), book.clone(), draining.clone())));
    let (cluster_to, cluster) = watch::channel(None);
    let (following_to, following) = watch::channel(None);
    let (store_to, store) = watch::channel(None);
    let (sealed_to, sealed) = watch::channel(LogIndex(0));
    let part = RecordsPart {
        cluster,
        ingress,
        following,
        store,
        sealed: sealed.clone(),
        raw_open: config.records.raw_open,
        directory: book.directory(),
    };
    let file = folder.map(|folder| folder.join(super::validator::FILE));
    let (keep, bounds) = (config.records.keep, Keep::of(&config.records));
    let (directory, stale, of) = (book.directory(), book.stale(), tasks.clone());
    tasks.spawn("keeping records", async move {
        let Some(found) = first_set(own, &draining).await else { return anyhow::Ok(()) };
        needs.send_replace(true);
        let disk = match (given, file) {
            _ if !keep => Disk::memory(),
            (Some(disk), _) => disk,
            (None, Some(file)) => Disk::file(file),
            (None, None) => Disk::memory(),
        };
        let store = Arc::new(Records::open(&disk, found.genesis)?);
        sealed_to.send_replace(store.complete_to()?);
        let following = Following {
            way,
            directory,
            stale,
            store: Arc::clone(&store),
            sealed: sealed_to,
            cluster: found.to_string(),
            all: keep,
        };
        let bounding = bounds.run(Arc::clone(&store), sealed.clone(), draining.clone());
        of.spawn("bounding records", endless(bounding));
        store_to.send_replace(Some(store));
        following_to.send_replace(Some(following.clone()));
        cluster_to.send_replace(Some(found));
        if keep {
            of.spawn("following records", endless(following.run(None, draining.clone())));
        }
        // What the others read stays as long as the node.
        draining.cancelled().await;
        Ok(())
    });
    part
}

/// Asks for a newer directory where a super tells of another set than the one that is known.
async fn watch_set(mut own: watch::Receiver<FollowerView>, book: Book, draining: CancellationToken) {
    loop {
        let told = own.borrow_and_update().set_version;
        let known = book.directory().borrow().as_ref().map_or(0, |directory| directory.validators.version);
        if told > known {
            book.stale().notify_one();
        }
        tokio::select! {
            () = draining.cancelled() => return,
            changed = own.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Waits until a super has said that there are validators; gives the cluster.
async fn first_set(mut own: watch::Receiver<FollowerView>, draining: &CancellationToken) -> Option<ClusterId> {
    tokio::select! {
        () = draining.cancelled() => None,
        view = own.wait_for(|view| view.set_version > 0 && view.cluster.is_some()) => view.ok()?.cluster.clone(),
    }
}

/// What is sealed and kept here is an event, once a batch.
pub(super) async fn watch_sealed(
    mut sealed: watch::Receiver<LogIndex>,
    context: Arc<Context>,
    draining: CancellationToken,
) {
    let mut told = *sealed.borrow_and_update();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            changed = sealed.changed() => if changed.is_err() {
                return;
            },
        }
        let Some(store) = context.records().and_then(|part| part.store.borrow().clone()) else { continue };
        let (from, to) = (told, *sealed.borrow_and_update());
        let page = tokio::task::spawn_blocking(move || store.after(from, EVENT_BYTES, EVENTS)).await;
        let Ok(Ok(page)) = page else { continue };
        for batch in &page {
            let refused = batch.verdicts.iter().filter(|verdict| **verdict != Verdict::Signed).count();
            let count = batch.certificate.attestation.count;
            let of = (batch.number(), batch.first_sequence(), count);
            context.events.sealed_batch(now_ms(), of, refused, batch.ordered_ms);
        }
        // Of a long catch-up the middle is no news.
        told = to;
    }
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
