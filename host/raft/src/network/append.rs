//! openraft's calls of one replica.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use wire::message::Malformed;
use wire::pb;
use wire::raft::{self as said, Append, Appended, Route, convert};

use super::{Peer, snapshot};
use crate::convert::{self as ours, UnfitEntry};
use crate::types::{RaftVote, Snapshot, Types};

/// An append that is not answered for so long is lost: the other side's disk has had its time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What went wrong with a call. Whoever cannot be asked is unreachable: openraft then waits before it asks again.
fn failed(status: &Status) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(status))
}

fn malformed(error: &Malformed) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}

impl Peer {
    fn late(&self, action: RPCTypes, within: Duration) -> RPCError<Types> {
        RPCError::Timeout(Timeout { action, id: self.route.from, target: self.route.to, timeout: within })
    }

    async fn unary<T>(
        &self,
        action: RPCTypes,
        within: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, RPCError<Types>> {
        match timeout(within, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(failed(&status)),
            Err(_) => Err(self.late(action, within)),
        }
    }

    fn ballot(&self, rpc: &VoteRequest<Types>) -> pb::VoteRequest {
        convert::vote_request_pb(said::VoteRequest {
            route: self.route,
            vote: ours::vote(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(ours::place),
            hand_over: rpc.leadership_transfer,
        })
    }
}

fn voted(answer: pb::VoteAnswer) -> Result<VoteResponse<Types>, RPCError<Types>> {
    let answer = convert::vote_answer(answer).map_err(|error| malformed(&error))?;
    Ok(VoteResponse::new(ours::raft_vote(answer.vote), answer.last.map(ours::raft_place), answer.granted))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = store::Spool;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answers = self.stream_append(Box::pin(stream::once(async { rpc })), option).await?;
        let first = pin!(answers).next().await;
        let first = first.unwrap_or_else(|| Err(malformed(&Malformed("no answer to an append"))))?;
        Ok(first.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            // openraft waits in here after an error, so it is asked before a connection is: who cannot be reached would else be
            // dialled without a pause.
            let Some(first) = input.next().await else {
                let none: BoxStream<'s, _> = Box::pin(stream::empty());
                return Ok(none);
            };
            let flow = Arc::new(Flow::default());
            let requests = Requests { first: Some(first), input, route: self.route, flow: Arc::clone(&flow) };
            let mut client = self.client.clone();
            // The other side answers the call itself at once.
            let opened = timeout(ANSWER_WITHIN, client.append(requests)).await;
            let answers = match opened {
                Ok(Ok(answers)) => answers.into_inner(),
                Ok(Err(status)) => return Err(failed(&status)),
                Err(_) => return Err(self.late(RPCTypes::AppendEntries, ANSWER_WITHIN)),
            };
            let state = Some(Answers { answers, flow, peer: self });
            let answers: BoxStream<'s, _> = Box::pin(stream::unfold(state, |state| async move {
                let mut state = state?;
                match state.next().await? {
                    Ok(Ok(matching)) => Some((Ok(Ok(matching)), Some(state))),
                    last => Some((last, None)),
                }
            }));
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let ballot = self.ballot(&rpc);
        let mut client = self.client.clone();
        voted(self.unary(RPCTypes::Vote, option.hard_ttl(), client.vote(ballot)).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let ballot = self.ballot(&rpc);
        let mut client = self.client.clone();
        voted(self.unary(RPCTypes::Vote, option.hard_ttl(), client.pre_vote(ballot)).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        snapshot::send(self, vote, snapshot, cancel, option.hard_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let wish = convert::hand_over_pb(said::HandOver {
            route: self.route,
            vote: ours::vote(req.from_leader()),
            to: *req.to_node_id(),
            last: req.last_log_id().map(ours::place),
        });
        let mut client = self.client.clone();
        let answer = self.unary(RPCTypes::TransferLeader, option.hard_ttl(), client.hand_over(wish)).await?;
        let answer = convert::handed_over(answer).map_err(|error| malformed(&error))?;
        Ok(ours::raft_handed_over(answer))
    }
}

/// How many appends went out and how many answers came.
#[derive(Debug, Default)]
struct Flow {
    sent: AtomicU64,
    answered: AtomicU64,
    went: Notify,
    unfit: std::sync::Mutex<Option<UnfitEntry>>,
}

impl Flow {
    fn is_waiting(&self) -> bool {
        self.sent.load(Ordering::Acquire) > self.answered.load(Ordering::Acquire)
    }
}

/// Appends on their way out.
struct Requests<S> {
    first: Option<AppendEntriesRequest<Types>>,
    input: S,
    route: Route,
    flow: Arc<Flow>,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Stream for Requests<S> {
    type Item = pb::Append;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<pb::Append>> {
        let this = &mut *self;
        let request = match this.first.take() {
            Some(first) => Some(first),
            None => std::task::ready!(Pin::new(&mut this.input).poll_next(cx)),
        };
        let written = request.map(|request| write(this.route, request));
        std::task::Poll::Ready(match written {
            Some(Ok(append)) => {
                this.flow.sent.fetch_add(1, Ordering::AcqRel);
                this.flow.went.notify_one();
                Some(append)
            }
            Some(Err(error)) => {
                *this.flow.unfit.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                this.flow.went.notify_one();
                None
            }
            None => None,
        })
    }
}

fn write(route: Route, request: AppendEntriesRequest<Types>) -> Result<pb::Append, UnfitEntry> {
    Ok(convert::append_pb(Append {
        route,
        vote: ours::vote(&request.vote),
        previous: request.prev_log_id.as_ref().map(ours::place),
        committed: request.leader_commit.as_ref().map(ours::place),
        entries: request.entries.iter().map(ours::entry).collect::<Result<_, _>>()?,
    }))
}

/// Answers as they come in.
struct Answers<'s> {
    answers: Streaming<pb::Appended>,
    flow: Arc<Flow>,
    peer: &'s Peer,
}

impl Answers<'_> {
    /// `None` at the end.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        let message = loop {
            if self.flow.is_waiting() {
                match timeout(ANSWER_WITHIN, self.answers.message()).await {
                    Ok(message) => break message,
                    Err(_) => return Some(Err(self.peer.late(RPCTypes::AppendEntries, ANSWER_WITHIN))),
                }
            }
            // Nothing is due: for how long is the leader's to say.
            tokio::select! {
                biased;
                message = self.answers.message() => break message,
                () = self.flow.went.notified() => {}
            }
        };
        match message {
            Ok(Some(answer)) => {
                self.flow.answered.fetch_add(1, Ordering::AcqRel);
                Some(convert::appended(answer).map_err(|error| malformed(&error)).map(result))
            }
            Ok(None) => self.unfit().map(Err),
            Err(status) if status.code() == Code::Cancelled && self.unfit().is_some() => self.unfit().map(Err),
            Err(status) => Some(Err(failed(&status))),
        }
    }

    fn unfit(&self) -> Option<RPCError<Types>> {
        let unfit = self.flow.unfit.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unfit.as_ref().map(|error| RPCError::Unreachable(Unreachable::new(error)))
    }
}

fn result(answer: Appended) -> StreamAppendResult<Types> {
    match answer {
        Appended::Matching(at) => Ok(at.map(ours::raft_place)),
        Appended::Conflict(at) => Err(StreamAppendError::Conflict(ours::raft_place(at))),
        Appended::Higher(vote) => Err(StreamAppendError::HigherVote(ours::raft_vote(vote))),
    }
}
