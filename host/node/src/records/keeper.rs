//! What a validator serves to others: its signature to other validators, sealed batches to whoever keeps them, single
//! records to everybody.
//!
//! Full streams are few, because each carries everything; whoever finds no room fetches what it is asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kernel::id::{ClusterId, LogIndex, NodeId};
use kernel::records::sealed::{Proofs, SealedBatch};
use store::Records;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::pb;
use wire::pb::keeper_server::Keeper;
use wire::records::{self, Fetched, Part};

use super::hub::same_cluster;
use super::signer::Signer;
use crate::grpc::stream::Peer;

/// Bytes that are read from the store at once for a stream.
const PAGE_BYTES: usize = 2 << 20;
/// Batches of a page.
const PAGE: usize = 64;
/// Parts on their way to one reader.
const OUT_ROOM: usize = 2;
/// Where nothing new is sealed, a stream says so after this time.
const QUIET: Duration = Duration::from_secs(10);
/// Longest wait for a record to be sealed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Fetches that wait at once.
const WAITS: usize = 4_096;

/// The gRPC service.
pub type KeeperServer = pb::keeper_server::KeeperServer<Keeping>;

/// See the module.
#[derive(Clone)]
pub struct Keeping {
    cluster: ClusterId,
    signer: Signer,
    store: Arc<Records>,
    sealed: watch::Receiver<LogIndex>,
    streams: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The service of a validator, with room for so many full streams.
#[must_use]
pub fn server(
    cluster: ClusterId,
    signer: Signer,
    store: Arc<Records>,
    streams: usize,
    stop: CancellationToken,
) -> KeeperServer {
    let sealed = signer.sealed();
    let (streams, waits) = (Arc::new(Semaphore::new(streams)), Arc::new(Semaphore::new(WAITS)));
    KeeperServer::new(Keeping { cluster, signer, store, sealed, streams, waits, stop })
        .max_decoding_message_size(records::MESSAGE_BYTES)
        .max_encoding_message_size(records::MESSAGE_BYTES)
}

fn caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let peer = request.extensions().get::<Peer>();
    peer.map(Peer::node).ok_or_else(|| Status::internal("nobody knows who calls"))
}

impl Keeping {
    fn same_cluster(&self, named: &str) -> Result<(), Status> {
        if same_cluster(named, &self.cluster) {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this validator belongs to {}", self.cluster)))
    }

    async fn page(&self, after: LogIndex) -> Result<Vec<SealedBatch>, Status> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || store.after(after, PAGE_BYTES, PAGE));
        match read.await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(error)) => {
                tracing::error!(%error, "sealed batches cannot be read");
                Err(Status::internal("sealed batches cannot be read here"))
            }
            Err(_) => Err(Status::internal("reading failed")),
        }
    }

    /// Tells one reader, until it goes.
    async fn tell(
        self,
        after: LogIndex,
        out: mpsc::Sender<Result<pb::SealedPart, Status>>,
        _room: OwnedSemaphorePermit,
    ) {
        let (mut at, mut sealed) = (after, self.sealed.clone());
        loop {
            sealed.mark_unchanged();
            let page = match self.page(at).await {
                Ok(page) => page,
                Err(status) => {
                    let _gone = out.send(Err(status)).await;
                    return;
                }
            };
            let told = page.len();
            for batch in page {
                at = batch.at;
                if out.send(Ok(records::part_pb(&Part::Batch(Box::new(batch))))).await.is_err() {
                    return;
                }
            }
            if told > 0 {
                continue;
            }
            let news = tokio::select! {
                () = self.stop.cancelled() => return,
                () = out.closed() => return,
                changed = sealed.changed() => changed.is_ok(),
                () = tokio::time::sleep(QUIET) => false,
            };
            if !news && out.send(Ok(records::part_pb(&Part::ToldTo(at)))).await.is_err() {
                return;
            }
        }
    }

    async fn find(&self, digest: kernel::id::Digest) -> Result<Option<Fetched>, Status> {
        let store = Arc::clone(&self.store);
        let found = tokio::task::spawn_blocking(move || store.by_digest(&digest)).await;
        match found {
            Ok(Ok(found)) => Ok(found.and_then(|(batch, at)| fetched(&batch, at))),
            Ok(Err(error)) => {
                tracing::error!(%error, "a record cannot be read");
                Err(Status::internal("this record cannot be read here"))
            }
            Err(_) => Err(Status::internal("reading failed")),
        }
    }
}

/// A record of a batch with its proof.
#[must_use]
pub fn fetched(batch: &SealedBatch, place: u32) -> Option<Fetched> {
    fetched_by(batch, &batch.proofs(), place)
}

/// The same, where the proofs of the batch serve several.
#[must_use]
pub fn fetched_by(batch: &SealedBatch, proofs: &Proofs, place: u32) -> Option<Fetched> {
    Some(Fetched {
        record: batch.records.get(place as usize)?.clone(),
        proof: proofs.of(place)?,
        ordered_ms: batch.ordered_ms,
        at: batch.at,
    })
}

#[tonic::async_trait]
impl Keeper for Keeping {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<pb::SealedPart, Status>> + Send>>;

    async fn attest(&self, request: Request<pb::AttestRequest>) -> Result<Response<pb::AttestAnswer>, Status> {
        let from = caller(&request)?;
        let ask = records::attest(request.get_ref()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let answer = self.signer.attest(from, &ask).await;
        Ok(Response::new(records::attest_answer_pb(answer)))
    }

    async fn follow(&self, request: Request<pb::FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        caller(&request)?;
        self.same_cluster(&request.get_ref().cluster)?;
        let (out, parts) = mpsc::channel(OUT_ROOM);
        match Arc::clone(&self.streams).try_acquire_owned() {
            Ok(room) => {
                let after = LogIndex(request.get_ref().after);
                tokio::spawn(self.clone().tell(after, out, room));
            }
            Err(_) => {
                let _sent = out.try_send(Ok(records::part_pb(&Part::KeepNone)));
            }
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn fetch(&self, request: Request<pb::FetchRequest>) -> Result<Response<pb::FetchAnswer>, Status> {
        caller(&request)?;
        self.same_cluster(&request.get_ref().cluster)?;
        let digest = records::fetch(request.get_ref()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let wait = Duration::from_millis(request.get_ref().wait_ms).min(LONGEST_WAIT);
        let deadline = tokio::time::Instant::now() + wait;
        let mut sealed = self.sealed.clone();
        loop {
            sealed.mark_unchanged();
            if let Some(found) = self.find(digest).await? {
                return Ok(Response::new(records::fetched_pb(Some(&found))));
            }
            // Only so many wait: the others ask again.
            let Ok(_waits) = self.waits.try_acquire() else { break };
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = sealed.changed() => if changed.is_err() {
                    break;
                },
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        Ok(Response::new(records::fetched_pb(None)))
    }
}
