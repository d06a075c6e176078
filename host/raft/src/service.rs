//! What this replica answers to the others: the gRPC service of the group.
//!
//! Who calls is known before: whoever serves the connection puts a [`Caller`] into each request. A caller that is no replica
//! of the group is refused, and so is a message that is for another replica than this one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use kernel::id::NodeId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest};
use store::{Mark, Spool};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use wire::message::Malformed;
use wire::pb;
use wire::raft::{Appended, MESSAGE_BYTES, Route, SNAPSHOT_BYTES, SnapshotPart, VoteAnswer, convert};

use crate::convert::{self as ours, UnfitEntry};
use crate::group::{Core, Inner};
use crate::runs::Runs;
use crate::types::{self, Snapshot, Types};

/// The gRPC service.
pub type RaftServer = pb::raft_server::RaftServer<Replies>;

/// Who calls. The server of the connection puts it into each request, from the key that the connection was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub NodeId);

/// Who may be a replica of the group where the log does not say so yet: a super that was just added knows nobody.
pub trait Roster: fmt::Debug + Send + Sync + 'static {
    /// Whether this key is one of the supers that this node was told of.
    fn admits(&self, key: &NodeId) -> bool;
}

/// Answers to appends, in the order of the appends.
pub type Appendeds = BoxStream<'static, Result<pb::Appended, Status>>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Replies {
    inner: Arc<Inner>,
    /// One state as a whole at a time: each takes as much disk as the state.
    receiving: Arc<Semaphore>,
}

pub(crate) fn server(inner: Arc<Inner>) -> RaftServer {
    pb::raft_server::RaftServer::new(Replies { inner, receiving: Arc::new(Semaphore::new(1)) })
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

fn unreadable(error: &Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn unfit(error: &UnfitEntry) -> Status {
    Status::invalid_argument(error.to_string())
}

fn ended(error: &impl fmt::Display) -> Status {
    Status::unavailable(format!("this replica is stopping: {error}"))
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().copied().ok_or_else(|| Status::internal("nobody knows who calls"))
}

impl Replies {
    /// This replica, if the message is for it and the caller is the replica that it says to be.
    async fn check(&self, caller: Caller, route: Route) -> Result<&Core, Status> {
        let core = self.inner.core_for(caller, route.to).await?;
        let members = core.members();
        let known = members.membership().get_node(&route.from);
        let admitted = match known {
            Some(replica) => replica.key == caller.0,
            None => self.inner.roster.admits(&caller.0),
        };
        if admitted { Ok(core) } else { Err(foreign(caller)) }
    }
}

impl Replies {
    /// Answers to the appends of one stream.
    async fn answers(&self, caller: Caller, mut inbound: Streaming<pb::Append>) -> Result<Appendeds, Status> {
        let Some(first) = inbound.message().await? else { return Ok(stream::empty().boxed()) };
        let first = convert::append(first).map_err(|error| unreadable(&error))?;
        let route = first.route;
        let core = self.check(caller, route).await?;
        // A stream has one leader. What it has committed by now happened before this replica heard of it.
        let committed = first.committed.map(|at| store::Place { term: at.term, index: at.index });
        core.machine.heard(first.vote.term, committed);
        let first = read(first).map_err(|error| unfit(&error))?;
        let refused = Arc::new(Mutex::new(None));
        let reader = Reader { replies: self.clone(), caller, route, inbound, refused: Arc::clone(&refused) };
        let requests = stream::once(async { first }).chain(stream::unfold(reader, Reader::next));
        let answers = core.raft.stream_append(requests).map(|answer| match answer {
            Ok(answer) => Ok(convert::appended_pb(match answer {
                Ok(at) => Appended::Matching(at.as_ref().map(ours::place)),
                Err(StreamAppendError::Conflict(at)) => Appended::Conflict(ours::place(&at)),
                Err(StreamAppendError::HigherVote(vote)) => Appended::Higher(ours::vote(&vote)),
            })),
            Err(fatal) => Err(ended(&fatal)),
        });
        // Why nothing more is read is said after the last answer.
        let last = stream::once(async move { refused.lock().unwrap_or_else(PoisonError::into_inner).take() });
        let last = last.filter_map(|refused| async move { refused.map(Err) });
        Ok(answers.chain(last).boxed())
    }
}

fn foreign(caller: Caller) -> Status {
    Status::permission_denied(format!("{} is no replica of this group", caller.0))
}

#[tonic::async_trait]
impl pb::raft_server::Raft for Replies {
    type AppendStream = Appendeds;

    async fn append(&self, request: Request<Streaming<pb::Append>>) -> Result<Response<Self::AppendStream>, Status> {
        let caller = caller(&request)?;
        let (replies, inbound) = (self.clone(), request.into_inner());
        // The call is answered at once, whenever its first append comes.
        let answers = stream::once(async move { replies.answers(caller, inbound).await });
        let answers =
            answers.map(|answers| answers.unwrap_or_else(|status| stream::once(async { Err(status) }).boxed()));
        Ok(Response::new(answers.flatten().boxed()))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteAnswer>, Status> {
        let caller = caller(&request)?;
        let asked = convert::vote_request(request.into_inner()).map_err(|error| unreadable(&error))?;
        let core = self.check(caller, asked.route).await?;
        let answer = core.raft.vote(ballot(asked)).await.map_err(|error| ended(&error))?;
        Ok(Response::new(voted(&answer)))
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteAnswer>, Status> {
        let caller = caller(&request)?;
        let asked = convert::vote_request(request.into_inner()).map_err(|error| unreadable(&error))?;
        let core = self.check(caller, asked.route).await?;
        let answer = core.raft.pre_vote(ballot(asked)).await.map_err(|error| ended(&error))?;
        Ok(Response::new(voted(&answer)))
    }

    async fn hand_over(&self, request: Request<pb::HandOverRequest>) -> Result<Response<pb::HandOverAnswer>, Status> {
        let caller = caller(&request)?;
        let wish = convert::hand_over(request.into_inner()).map_err(|error| unreadable(&error))?;
        let core = self.check(caller, wish.route).await?;
        let wish = TransferLeaderRequest::new(ours::raft_vote(wish.vote), wish.to, wish.last.map(ours::raft_place));
        let answer = core.raft.handle_transfer_leader(wish).await.map_err(|error| ended(&error))?;
        Ok(Response::new(convert::handed_over_pb(ours::handed_over(answer))))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotAnswer>, Status> {
        let caller = caller(&request)?;
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.ok_or_else(|| Status::invalid_argument("a snapshot without a head"))?;
        let SnapshotPart::Head(head) = convert::snapshot_part(first).map_err(|error| unreadable(&error))? else {
            return Err(Status::invalid_argument("a snapshot without a head"));
        };
        let core = self.check(caller, head.route).await?;
        let Ok(_one) = self.receiving.try_acquire() else {
            return Err(Status::resource_exhausted("another snapshot is on its way to this replica"));
        };
        let spool = self.inner.spools.create().map_err(|error| Status::internal(error.to_string()))?;
        receive(self.inner.runs, &spool, &mut inbound).await?;
        let mark = Mark::of_bytes(&head.mark).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (last_log_id, last_membership) =
            types::raft_mark(mark).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let meta = types::SnapshotMeta { last_log_id, last_membership };
        // One that is not whole would end this replica.
        let checked = core.machine.check(&meta, &spool).await;
        checked.map_err(|error| Status::invalid_argument(format!("the snapshot is of no use: {error}")))?;
        let snapshot = Snapshot { meta, snapshot: spool };
        let answer = core.raft.install_full_snapshot(ours::raft_vote(head.vote), snapshot).await;
        let answer = answer.map_err(|error| ended(&error))?;
        Ok(Response::new(convert::snapshot_answer_pb(ours::vote(&answer.vote))))
    }

    async fn forward(&self, request: Request<pb::ForwardRequest>) -> Result<Response<pb::ForwardAnswer>, Status> {
        let caller = caller(&request)?;
        let forward = convert::forward(request.into_inner()).map_err(|error| unreadable(&error))?;
        let core = self.check(caller, forward.route).await?;
        let commands = forward.commands.iter().map(|bytes| ours::read_command(bytes)).collect::<Result<Vec<_>, _>>();
        let commands = commands.map_err(|error| unfit(&error))?;
        if let Some(command) = commands.iter().find(|command| command.is_leaders()) {
            return Err(Status::invalid_argument(format!("`{}` is the leader's own to propose", command.kind())));
        }
        let answers = self.inner.propose_forwarded(core, commands).await;
        Ok(Response::new(convert::forwarded_pb(answers)))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexAnswer>, Status> {
        let caller = caller(&request)?;
        let route = convert::read_index(request.into_inner()).map_err(|error| unreadable(&error))?;
        let core = self.check(caller, route).await?;
        let until = self.inner.read_index_here(core).await.map_err(|error| ended(&error))?;
        Ok(Response::new(convert::read_until_pb(until)))
    }

    async fn change(&self, request: Request<pb::ChangeRequest>) -> Result<Response<pb::ChangeAnswer>, Status> {
        let caller = caller(&request)?;
        let (route, change, only_at) = convert::change(request.into_inner()).map_err(|error| unreadable(&error))?;
        self.check(caller, route).await?;
        let changed = Inner::change_here(&self.inner, change, only_at).await;
        Ok(Response::new(convert::changed_pb(changed)))
    }

    async fn invite(&self, request: Request<pb::InviteRequest>) -> Result<Response<pb::InviteAnswer>, Status> {
        let caller = caller(&request)?;
        let invite = convert::invite(&request.into_inner()).map_err(|error| unreadable(&error))?;
        let members = self.inner.core.get().map(Core::members);
        let member = members.is_some_and(|all| all.membership().nodes().any(|(_, replica)| replica.key == caller.0));
        let answer = if member || self.inner.roster.admits(&caller.0) {
            self.inner.invited(caller, &invite).await
        } else {
            Err(format!("{} is not among the supers that its config names", caller.0))
        };
        Ok(Response::new(convert::invited_pb(answer)))
    }
}

fn ballot(asked: wire::raft::VoteRequest) -> VoteRequest<Types> {
    VoteRequest {
        vote: ours::raft_vote(asked.vote),
        last_log_id: asked.last.map(ours::raft_place),
        leadership_transfer: asked.hand_over,
    }
}

fn voted(answer: &openraft::raft::VoteResponse<Types>) -> pb::VoteAnswer {
    convert::vote_answer_pb(VoteAnswer {
        vote: ours::vote(&answer.vote),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(ours::place),
    })
}

fn read(append: wire::raft::Append) -> Result<AppendEntriesRequest<Types>, UnfitEntry> {
    Ok(AppendEntriesRequest {
        vote: ours::raft_vote(append.vote),
        prev_log_id: append.previous.map(ours::raft_place),
        entries: append.entries.iter().map(|bytes| ours::raft_entry(bytes)).collect::<Result<_, _>>()?,
        leader_commit: append.committed.map(ours::raft_place),
    })
}

/// Reads the appends of one stream.
struct Reader {
    replies: Replies,
    caller: Caller,
    route: Route,
    inbound: Streaming<pb::Append>,
    refused: Arc<Mutex<Option<Status>>>,
}

impl Reader {
    async fn next(mut self) -> Option<(AppendEntriesRequest<Types>, Self)> {
        match self.read().await {
            Ok(Some(request)) => Some((request, self)),
            Ok(None) => None,
            Err(status) => {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                None
            }
        }
    }

    async fn read(&mut self) -> Result<Option<AppendEntriesRequest<Types>>, Status> {
        let Some(message) = self.inbound.message().await? else { return Ok(None) };
        let append = convert::append(message).map_err(|error| unreadable(&error))?;
        if append.route != self.route {
            return Err(Status::invalid_argument("a stream has one route"));
        }
        // Who was a replica when the stream began may be none by now.
        self.replies.check(self.caller, append.route).await?;
        read(append).map(Some).map_err(|error| unfit(&error))
    }
}

async fn receive(runs: Runs, spool: &Spool, inbound: &mut Streaming<pb::SnapshotPart>) -> Result<(), Status> {
    while let Some(part) = inbound.message().await? {
        let SnapshotPart::Piece(piece) = convert::snapshot_part(part).map_err(|error| unreadable(&error))? else {
            return Err(Status::invalid_argument("a snapshot with two heads"));
        };
        if spool.len() + piece.len() as u64 > SNAPSHOT_BYTES {
            return Err(Status::invalid_argument("a snapshot that is too long"));
        }
        let spool = spool.clone();
        let written = runs.run(move || spool.append(&piece)).await;
        written.map_err(|error| Status::internal(format!("a snapshot cannot be written: {error}")))?;
    }
    Ok(())
}
