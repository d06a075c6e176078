//! A state as a whole, in pieces.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream;
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCTypes;
use openraft::raft::SnapshotResponse;
use store::Spool;
use tokio::sync::watch;
use tokio::time::timeout;
use wire::raft::{PIECE_BYTES, SnapshotHead, SnapshotPart, convert};

use super::Peer;
use crate::convert as ours;
use crate::runs::Runs;
use crate::types::{self, RaftVote, Snapshot, Types};

/// Sends a snapshot and waits until it is installed. Without progress for `within` it is lost.
pub(super) async fn send(
    peer: &Peer,
    vote: RaftVote,
    snapshot: Snapshot,
    cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
    within: Duration,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let mark = types::mark(snapshot.meta.last_log_id.as_ref(), &snapshot.meta.last_membership);
    let mark = mark.to_bytes().map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
    let head = SnapshotHead { route: peer.route, vote: ours::vote(&vote), mark };
    let (progress, mut moved) = watch::channel(0_u64);
    let pieces = Pieces { head: Some(head), spool: snapshot.snapshot, at: 0, runs: peer.runs, progress };
    let parts = stream::unfold(pieces, |mut pieces| async move {
        let part = pieces.next().await?;
        Some((convert::snapshot_part_pb(part), pieces))
    });
    let mut client = peer.client.clone();
    let mut sending = pin!(client.snapshot(Box::pin(parts)));
    let mut cancel = pin!(cancel);
    let answer = loop {
        let step = async {
            tokio::select! {
                biased;
                closed = &mut cancel => Step::Closed(closed),
                answer = &mut sending => Step::Answer(answer),
                Ok(()) = moved.changed() => if *moved.borrow() == BROKEN { Step::Broken } else { Step::Moved },
            }
        };
        match timeout(within, step).await {
            Ok(Step::Moved) => {}
            Ok(Step::Broken) => {
                let error = NetworkError::from_string("the snapshot cannot be read");
                return Err(StreamingError::Network(error));
            }
            Ok(Step::Answer(Ok(answer))) => break answer.into_inner(),
            Ok(Step::Answer(Err(status))) => return Err(StreamingError::Unreachable(Unreachable::new(&status))),
            Ok(Step::Closed(closed)) => return Err(StreamingError::Closed(closed)),
            Err(_) => {
                let (id, target) = (peer.route.from, peer.route.to);
                return Err(StreamingError::Timeout(Timeout {
                    action: RPCTypes::InstallSnapshot,
                    id,
                    target,
                    timeout: within,
                }));
            }
        }
    };
    let vote = convert::snapshot_answer(answer).map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
    Ok(SnapshotResponse::new(ours::raft_vote(vote)))
}

enum Step<T> {
    Closed(ReplicationClosed),
    Answer(T),
    Moved,
    Broken,
}

/// Instead of how far a snapshot was read: it cannot be.
const BROKEN: u64 = u64::MAX;

/// What is sent of it, one part after the other.
struct Pieces {
    head: Option<SnapshotHead>,
    spool: Spool,
    at: u64,
    runs: Runs,
    progress: watch::Sender<u64>,
}

impl Pieces {
    /// `None` at the end. Where the disk fails it never comes to that: the other side must not take a part for the whole.
    async fn next(&mut self) -> Option<SnapshotPart> {
        if let Some(head) = self.head.take() {
            return Some(SnapshotPart::Head(head));
        }
        let (spool, at) = (self.spool.clone(), self.at);
        let piece = match self.runs.run(move || spool.read(at, PIECE_BYTES)).await {
            Ok(piece) => piece,
            Err(error) => {
                tracing::error!(%error, at, "a snapshot cannot be read");
                self.progress.send_replace(BROKEN);
                return std::future::pending().await;
            }
        };
        if piece.is_empty() {
            return None;
        }
        self.at += piece.len() as u64;
        self.progress.send_replace(self.at);
        Some(SnapshotPart::Piece(piece))
    }
}
