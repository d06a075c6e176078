//! A backup: all that this super holds of the cluster, as the bytes of a snapshot, with their digest at the end.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use kernel::id::LogIndex;
use store::Spool;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::access::By;
use super::input::{Params, ReadQuery};
use super::places::blocking;
use super::problem::{Code, Problem};
use super::{App, store_failed};

/// Bytes that are read at once; two such pieces are in memory.
const PIECE_BYTES: usize = 256 << 10;
/// A reader that takes no piece for so long has gone.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// All that this super holds of the cluster, history included. `pingward cluster restore` makes a cluster of it; the last 32
/// bytes are the SHA-256 of those before them.
#[utoipa::path(get, path = "/v1/cluster/backup", tag = "cluster", params(ReadQuery),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 503, description = "busy: another backup is being read")),
    security(("token" = [])))]
pub async fn backup(_: By, State(app): State<App>, Params(query): Params<ReadQuery>) -> Result<Response, Problem> {
    let (part, backups) = (app.part()?, app.places.backups.clone());
    let busy = |_| Problem::new(Code::Busy, "another backup is being read");
    let turn = backups.try_acquire_owned().map_err(busy)?;
    let fresh = app.fresh(query.level()).await?;
    let (group, store) = (part.group.clone(), part.store.clone());
    let packed = blocking(move || {
        let (mark, spool) = store.snapshot(group.spools()).map_err(store_failed)?;
        let applied = mark.applied.ok_or_else(|| Problem::of(Code::NotFounded))?;
        // The first read makes the bytes, so that their number is known.
        spool.read(0, 1).map_err(|error| {
            tracing::error!(%error, "a backup cannot be packed");
            Problem::of(Code::StoreFailed)
        })?;
        Ok::<_, Problem>((LogIndex(applied.index), spool))
    });
    let (applied, spool) = packed.await??;
    let len = spool.len();
    let (to, pieces) = mpsc::channel(1);
    tokio::spawn(send(spool, to, turn));
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(pieces)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    fresh.tell(applied, &mut response);
    Ok(response)
}

/// Hands over the bytes, as fast as they are taken.
async fn send(spool: Spool, to: mpsc::Sender<io::Result<Bytes>>, turn: OwnedSemaphorePermit) {
    let mut at = 0;
    loop {
        let from = spool.clone();
        let piece = match blocking(move || from.read(at, PIECE_BYTES)).await {
            Ok(Ok(piece)) if piece.is_empty() => break,
            Ok(Ok(piece)) => Ok(Bytes::from(piece)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the node is stopping")),
        };
        at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let over = piece.is_err();
        if !matches!(timeout(TAKEN_WITHIN, to.send(piece)).await, Ok(Ok(()))) || over {
            tracing::debug!(at, "a backup was not read to its end");
            break;
        }
    }
    drop(turn);
}
