//! How this replica reaches the others: connections that somebody else makes, and openraft's calls over them.
//!
//! Appends, heartbeats, snapshots and calls have a connection each: a snapshot must not keep a heartbeat waiting. Every call
//! has a deadline. What cannot be reached is an error and never an answer: a replica that is cut off would else take its
//! own silence for votes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use openraft::RaftNetworkFactory;
use store::Replica;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use wire::pb::raft_client::RaftClient;
use wire::raft::{MESSAGE_BYTES, Route};

use crate::runs::Runs;
use crate::types::Types;

mod append;
mod calls;
mod snapshot;

pub(crate) use calls::{CallError, Calls};

/// What may be on its way in one stream, and in one connection: a full append and what is behind it.
const WINDOW_BYTES: u32 = 4 << 20;
/// A connection, its handshake included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A connection without a byte for so long is asked whether the other side is there.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// For its answer.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(2);
/// Calls that wait for a connection.
const WAITING: usize = 64;
/// Connections that are kept: those of a group in the middle of a change, each with all its lanes.
const CHANNELS: usize = 128;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Entries and votes.
    Appends,
    /// Signs of life.
    Heartbeats,
    /// States as a whole.
    Snapshots,
    /// Whatever is asked besides.
    Calls,
    /// What supers tell each other about rounds: not the log's, but made in the same way.
    Rounds,
}

/// A connection as bytes.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Makes connections to replicas. It knows how a replica proves that it has the key of its name: this room does not.
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Connects, and gives a connection only to who has the key.
    fn connect(&self, to: &Replica, lane: Lane) -> Connecting;
}

/// All connections of one replica.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    me: u64,
    connector: Arc<dyn Connector>,
    runs: Runs,
    channels: Mutex<BTreeMap<(u64, Lane), (Replica, Channel)>>,
    places: Places,
}

/// Where each replica is now: openraft keeps a connection for as long as a lead lasts, and a replica may move meanwhile.
type Places = Arc<Mutex<BTreeMap<u64, Replica>>>;

impl Network {
    pub(crate) fn new(me: u64, connector: Arc<dyn Connector>, runs: Runs) -> Self {
        let (channels, places) = (Mutex::default(), Places::default());
        Self { inner: Arc::new(Inner { me, connector, runs, channels, places }) }
    }

    /// Whoever is connected from now on is looked for here.
    pub(crate) fn moved(&self, replicas: BTreeMap<u64, Replica>) {
        *self.inner.places.lock().unwrap_or_else(PoisonError::into_inner) = replicas;
    }

    /// The connection to a replica; it is made when it is first used, and again when it broke.
    fn channel(&self, to: u64, replica: &Replica, lane: Lane) -> Channel {
        let mut channels = self.inner.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, channel)) = channels.get(&(to, lane))
            && (&known.key, &known.address) == (&replica.key, &replica.address)
        {
            return channel.clone();
        }
        if channels.len() >= CHANNELS {
            channels.clear();
        }
        let channel = open(Arc::clone(&self.inner.connector), Arc::clone(&self.inner.places), to, replica, lane);
        channels.insert((to, lane), (replica.clone(), channel.clone()));
        channel
    }

    fn peer(&self, to: u64, replica: &Replica, lane: Lane) -> Peer {
        let client = client(self.channel(to, replica, lane));
        Peer { route: Route { from: self.inner.me, to }, client, runs: self.inner.runs }
    }
}

/// A connection to a replica. It is made when it is first used, and again when it broke.
#[must_use]
pub fn connect(connector: Arc<dyn Connector>, to: &Replica, lane: Lane) -> Channel {
    open(connector, Places::default(), 0, to, lane)
}

fn open(connector: Arc<dyn Connector>, places: Places, id: u64, to: &Replica, lane: Lane) -> Channel {
    let to = to.clone();
    let connect = service_fn(move |_: Uri| {
        let now = places.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let connecting = connector.connect(now.as_ref().filter(|now| now.key == to.key).unwrap_or(&to), lane);
        async move {
            let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://pingward.node")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .buffer_size(WAITING)
        .connect_with_connector_lazy(connect)
}

fn client(channel: Channel) -> RaftClient<Channel> {
    RaftClient::new(channel).max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES)
}

/// One replica over one lane.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    route: Route,
    client: RaftClient<Channel>,
    runs: Runs,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Replica) -> Peer {
        self.peer(target, node, Lane::Appends)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Replica) -> Peer {
        self.peer(target, node, Lane::Heartbeats)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Replica) -> Peer {
        self.peer(target, node, Lane::Snapshots)
    }
}
