//! Followers attached to a super: one stream each. The hello comes in, the welcome or a typed refusal goes out; then
//! pongs in, pings out.
//!
//! Nothing is judged here. A session reads one message, waits until the mailbox takes it, and reads the next: a flood
//! fills its own sender's window and nobody else's.

use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use kernel::id::NodeId;
use kernel::members::Refusal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, Streaming};
use wire::codec::MESSAGE_BYTES;
use wire::convert;
use wire::message::{FromFollower, Hello, ToFollower};
use wire::pb;
use wire::pb::node_server::Node;

use crate::mail::{Attach, Mail, Out, StreamId};

/// Messages on their way to one node: two pings, an answer to its own, its line, and some of a slow moment.
const OUT_ROOM: usize = 16;
/// For the hello, from the opening of the stream.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// The gRPC service.
pub type NodeServer = pb::node_server::NodeServer<Attaching>;

/// The service over a mailbox.
#[must_use]
pub fn server(mailbox: mpsc::Sender<Mail>) -> NodeServer {
    let streams = Arc::new(AtomicU64::new(1));
    NodeServer::new(Attaching { mailbox, streams })
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

/// One connection: who is on the other side, and how far its stream is.
#[derive(Clone, Debug)]
pub struct Peer {
    node: NodeId,
    from: SocketAddr,
    taken: Arc<AtomicBool>,
    opened: CancellationToken,
    over: CancellationToken,
    cut: CancellationToken,
}

impl Peer {
    /// A connection without a stream.
    #[must_use]
    pub fn new(node: NodeId, from: SocketAddr) -> Self {
        let token = CancellationToken::new;
        Self { node, from, taken: Arc::default(), opened: token(), over: token(), cut: token() }
    }

    /// Whose it is.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Waits until its stream is over.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Waits until it is to be cut off, because its node does not read.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Waits until it has had so much time to open its stream and has not; else for ever.
    pub async fn idle(&self, within: Duration) {
        if timeout(within, self.opened.cancelled()).await.is_ok() {
            std::future::pending().await
        }
    }

    /// It carries calls about records, so it may live without a follower's stream.
    pub fn used(&self) {
        self.opened.cancel();
    }

    /// The one stream of a follower that a connection carries.
    fn take(&self) -> bool {
        self.opened.cancel();
        !self.taken.swap(true, Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Attaching {
    mailbox: mpsc::Sender<Mail>,
    streams: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Node for Attaching {
    type AttachStream = Outbound;

    async fn attach(&self, request: Request<Streaming<pb::FromFollower>>) -> Result<Response<Outbound>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("no connection"))?;
        if !peer.take() {
            return Err(Status::resource_exhausted("a connection carries one stream; open another connection"));
        }
        let (out, from, stuck) = Out::new(OUT_ROOM);
        let (opening, opened) = oneshot::channel();
        let (outbound_over, session_over) = (CancellationToken::new(), CancellationToken::new());
        let session = Session {
            stream: StreamId(self.streams.fetch_add(1, Ordering::Relaxed)),
            peer,
            mailbox: self.mailbox.clone(),
            stuck,
            outbound_over: outbound_over.clone(),
            _over: session_over.clone().drop_guard(),
        };
        // A task of its own, because what it promises the mailbox must hold whatever becomes of the request.
        tokio::spawn(session.run(request.into_inner(), out, opening));
        Ok(Response::new(Outbound {
            opening: Some(opened),
            from,
            session_over: Box::pin(session_over.cancelled_owned()),
            over: Some(outbound_over.drop_guard()),
        }))
    }
}

/// Reads one stream.
struct Session {
    stream: StreamId,
    peer: Peer,
    mailbox: mpsc::Sender<Mail>,
    stuck: CancellationToken,
    outbound_over: CancellationToken,
    _over: DropGuard,
}

impl Session {
    async fn run(self, mut inbound: Streaming<pb::FromFollower>, out: Out, opening: oneshot::Sender<ToFollower>) {
        match self.hello(&mut inbound).await {
            Some(Ok(hello)) => {
                let (stream, node) = (self.stream, self.peer.node);
                if self.attach(hello, out, opening).await {
                    self.read(&mut inbound).await;
                }
                let _closed = self.mailbox.send(Mail::Detached { stream, node }).await;
            }
            Some(Err(what)) => {
                let _gone = opening.send(ToFollower::Refused(Refusal::Malformed { what: what.to_owned() }));
            }
            None => drop(opening),
        }
        if self.stuck.is_cancelled() {
            self.peer.cut.cancel();
        }
        // Else the connection stays for a moment, so that what was said last gets through.
        self.peer.over.cancel();
    }

    async fn hello(&self, inbound: &mut Streaming<pb::FromFollower>) -> Option<Result<Hello, &'static str>> {
        let first = tokio::select! {
            () = self.outbound_over.cancelled() => return None,
            first = timeout(HELLO_WITHIN, inbound.message()) => first,
        };
        match convert::from_follower(first.ok()?.ok()??) {
            FromFollower::Hello(hello) => Some(Ok(hello)),
            FromFollower::Malformed(what) => Some(Err(what.0)),
            FromFollower::Pong(_)
            | FromFollower::Ping(_)
            | FromFollower::Goodbye
            | FromFollower::Return
            | FromFollower::Alive => Some(Err("the first message of a stream must be a hello")),
        }
    }

    /// Whether the node is welcome and knows it.
    async fn attach(&self, hello: Hello, out: Out, opening: oneshot::Sender<ToFollower>) -> bool {
        let (answer, answered) = oneshot::channel();
        let attach = Attach {
            stream: self.stream,
            node: self.peer.node,
            hello,
            ip: self.peer.from.ip().to_canonical(),
            source_port: self.peer.from.port(),
            out,
            answer,
        };
        if self.mailbox.send(Mail::Attach(Box::new(attach))).await.is_err() {
            return false;
        }
        // Nothing is read meanwhile: who does not wait for its welcome waits in its own window.
        tokio::select! {
            () = self.outbound_over.cancelled() => false,
            answer = answered => match answer {
                Ok(Ok(welcome)) => opening.send(ToFollower::Welcome(welcome)).is_ok(),
                Ok(Err(refusal)) => {
                    let _gone = opening.send(ToFollower::Refused(refusal));
                    false
                }
                Err(_) => false,
            }
        }
    }

    async fn read(&self, inbound: &mut Streaming<pb::FromFollower>) {
        loop {
            let message = tokio::select! {
                biased;
                () = self.outbound_over.cancelled() => return,
                () = self.stuck.cancelled() => return,
                message = inbound.message() => message,
            };
            let at = Instant::now();
            let Ok(Some(message)) = message else { return };
            let what = convert::from_follower(message);
            let mail = Mail::Message { stream: self.stream, node: self.peer.node, at, what };
            if self.mailbox.send(mail).await.is_err() {
                return;
            }
        }
    }
}

/// What goes out on one stream: the answer to the hello, then what the super says, until either side is done.
#[derive(Debug)]
pub struct Outbound {
    opening: Option<oneshot::Receiver<ToFollower>>,
    from: mpsc::Receiver<Box<ToFollower>>,
    session_over: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Tells the session; `None` after the last message.
    over: Option<DropGuard>,
}

impl Stream for Outbound {
    type Item = Result<pb::ToFollower, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over.is_none() {
            return Poll::Ready(None);
        }
        let next = match &mut this.opening {
            Some(opening) => {
                let opened = ready!(Pin::new(opening).poll(cx)).ok();
                this.opening = None;
                opened
            }
            None => match this.from.poll_recv(cx) {
                Poll::Ready(next) => next.map(|next| *next),
                Poll::Pending => {
                    ready!(this.session_over.as_mut().poll(cx));
                    None
                }
            },
        };
        if matches!(next, None | Some(ToFollower::Refused(_))) {
            this.over = None;
        }
        Poll::Ready(next.map(|next| Ok(convert::to_follower_pb(next))))
    }
}
