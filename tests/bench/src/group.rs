//! A group of supers in this process: replicas with files of their own, over gRPC on this machine's loopback, without TLS.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Result, anyhow};
use kernel::command::{Command, Found, Ip, Join, Super};
use kernel::id::{ClusterId, Genesis, NodeId, ProtocolVersion};
use kernel::outcome::Reply;
use kernel::settings::Settings;
use raft::{Caller, Connecting, Connector, Group, Io, Keeping, Lane, Parts, Roster, Runs, Timing};
use store::{Disk, Replica, SpoolRoom, Store};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// Supers of a group.
pub(crate) const SUPERS: u8 = 3;
/// When everything happens, for the kernel.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;
const CACHE_BYTES: u64 = 64 << 20;

/// A super that runs.
pub(crate) struct Seat {
    pub(crate) group: Group,
    pub(crate) store: Arc<Store>,
    place: Place,
    served: Served,
}

/// Where a super is while it runs and while it does not.
#[derive(Clone)]
pub(crate) struct Place {
    number: u8,
    home: PathBuf,
    address: SocketAddr,
}

/// What answers for a super; its connections break with `stop`.
struct Served {
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

/// The first one founds; the others are added and promoted.
pub(crate) async fn form(folder: &Path, founding: Vec<Command>) -> Result<Vec<Seat>> {
    let mut supers: Vec<Seat> = Vec::new();
    for number in 0..SUPERS {
        let home = folder.join(format!("super-{number}"));
        std::fs::create_dir(&home)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let place = Place { number, home, address: listener.local_addr()? };
        let (key, address) = (super_key(number), place.address.to_string());
        let seat = open(place, listener).await?;
        match supers.first() {
            None => {
                for command in &founding {
                    propose(&seat.group, command.clone()).await?;
                }
            }
            Some(leader) => {
                leader.group.add(key, address).await?;
                seat.group.joined().await?;
                // It is refused until the new one has what it lacks.
                while let Err(error) = leader.group.promote(key).await {
                    tracing::debug!(%error, "not yet promoted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        supers.push(seat);
    }
    Ok(supers)
}

/// Has so many members join.
pub(crate) async fn populate(group: &Group, members: u16) -> Result<()> {
    for answer in group.propose_many((0..members).map(join).collect()).await {
        answer?.map_err(|reject| anyhow!("a member may not join: {reject:?}"))?;
    }
    Ok(())
}

/// Proposes a command that must not be refused.
pub(crate) async fn propose(group: &Group, command: Command) -> Result<Reply> {
    group.propose(command).await?.map_err(|reject| anyhow!("the kernel refused a command of the benchmark: {reject:?}"))
}

impl Seat {
    /// Where it is.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// Ends it as a failed machine would; its files stay.
    pub(crate) async fn kill(self) -> Result<Place> {
        self.group.kill().await;
        self.group.stopped().cancelled().await;
        self.served.stop.cancel();
        self.served.accepting.await?;
        Ok(self.place)
    }
}

impl Place {
    /// Starts it again from its files.
    pub(crate) async fn start(self) -> Result<Seat> {
        let listener = TcpListener::bind(self.address).await?;
        open(self, listener).await
    }

    /// Bytes of its log's file.
    pub(crate) fn log_bytes(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(self.home.join("raft.redb"))?.len())
    }
}

async fn open(place: Place, listener: TcpListener) -> Result<Seat> {
    let (key, address) = (super_key(place.number), place.address.to_string());
    let founder = Super { node: key, name: format!("super-{}", place.number), address: address.clone() };
    let cluster = ClusterId { id: "bench".into(), genesis: Genesis([1; 16]) };
    // As many may join as a benchmark wants, at once.
    let settings = Settings { joins_round: 1_000_000, ..Settings::default() };
    let store = Arc::new(Store::open(&Disk::file(place.home.join("state.redb")), CACHE_BYTES)?);
    let parts = Parts {
        key,
        address,
        log: Disk::file(place.home.join("raft.redb")),
        store: Arc::clone(&store),
        spools: SpoolRoom::folder(&place.home),
        connector: Arc::new(Plain(key)),
        roster: Arc::new(Everybody),
        timing: Timing::default(),
        keeping: Keeping::default(),
        runs: Runs::OnThreads,
        watcher: Arc::new(()),
        found: Found { cluster, founder, settings, now_ms: NOW_MS },
        may_found: place.number == 0,
    };
    let group = Group::open(parts).await?;
    let served = serve(&group, listener);
    Ok(Seat { group, store, place, served })
}

fn serve(group: &Group, listener: TcpListener) -> Served {
    let stop = CancellationToken::new();
    let (door, connections) = mpsc::channel(64);
    let ends = stop.clone();
    let accepting = tokio::spawn(async move {
        while let Some(Ok((socket, _))) = ends.run_until_cancelled(listener.accept()).await {
            match Known::accept(socket, &ends).await {
                Ok(known) => {
                    if door.send(known).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "a connection without a key"),
            }
        }
    });
    let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    let server = Server::builder().add_service(group.server());
    tokio::spawn(server.serve_with_incoming(incoming));
    Served { stop, accepting }
}

fn join(number: u16) -> Command {
    let [high, low] = number.to_be_bytes();
    Command::Join(Join {
        node: member(number),
        name: format!("node-{number}"),
        version: ProtocolVersion::OURS,
        software: "bench".into(),
        // Loopback: joins of one network are not bounded there.
        ip: Ip::V4([127, 0, high, low]),
        port: 7_000,
        rest: None,
        now_ms: NOW_MS,
    })
}

/// The key of a member.
pub(crate) fn member(number: u16) -> NodeId {
    let [high, low] = number.to_be_bytes();
    key([9, high, low])
}

/// A usable key that begins so: points of the curve are found by trying.
fn key(start: [u8; 3]) -> NodeId {
    let mut bytes = [5; 32];
    bytes.iter_mut().zip(start).for_each(|(byte, new)| *byte = new);
    for last in 0..=u8::MAX {
        if let Some(byte) = bytes.last_mut() {
            *byte = last;
        }
        if let Ok(key) = NodeId::checked(bytes) {
            return key;
        }
    }
    NodeId(bytes)
}

/// The key of a super.
pub(crate) fn super_key(number: u8) -> NodeId {
    key([number, 0, 0])
}

/// Says its key first: nobody lies here.
#[derive(Debug)]
struct Plain(NodeId);

impl Connector for Plain {
    fn connect(&self, to: &Replica, _: Lane) -> Connecting {
        let (me, address) = (self.0, to.address.clone());
        Box::pin(async move {
            let mut socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            socket.write_all(&me.0).await?;
            Ok(Box::new(socket) as Box<dyn Io>)
        })
    }
}

#[derive(Debug)]
struct Everybody;

impl Roster for Everybody {
    fn admits(&self, _: &NodeId) -> bool {
        true
    }
}

/// The served end of a connection, by somebody whose key is known.
struct Known {
    caller: Caller,
    socket: TcpStream,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Known {
    async fn accept(mut socket: TcpStream, ends: &CancellationToken) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let mut key = [0; 32];
        socket.read_exact(&mut key).await?;
        Ok(Self { caller: Caller(NodeId(key)), socket, broken: Box::pin(ends.clone().cancelled_owned()) })
    }
}

impl Connected for Known {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Known {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.socket).poll_read(cx, to)
    }
}

impl AsyncWrite for Known {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
