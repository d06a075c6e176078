//! What a group of three supers commits: three replicas with files of their own, over gRPC on this machine's loopback, each
//! client waiting for its answer before it asks again.
//!
//! The replicas are in this process and speak without TLS; what the clients ask for is proposed on the leader, and in the
//! second table on another super, which forwards it. Beside it stands what one append with fdatasync takes here, because
//! every figure scales with that.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use kernel::command::{Command, Found, Ip, Join, Operate, Operation, Operator, Super};
use kernel::id::{ClusterId, Genesis, NodeId, ProtocolVersion};
use kernel::settings::Settings;
use raft::{Caller, Connecting, Connector, Group, Io, Keeping, Lane, Parts, Roster, Runs, Timing};
use store::{Disk, Replica, SpoolRoom, Store};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::figures::Samples;

const SUPERS: u8 = 3;
/// Members that the commands are about.
const MEMBERS: u16 = 500;
/// Text of a command that makes it 256 bytes in all, as a value of a key-value store.
const REASON_BYTES: usize = 184;
const CACHE_BYTES: u64 = 64 << 20;
/// Until the group stands.
const PATIENCE: Duration = Duration::from_secs(60);
const NOW_MS: u64 = 1_767_225_600_000;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Clients at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    clients: Vec<usize>,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let supers = tokio::time::timeout(PATIENCE, form(folder.path())).await.context("the group does not form")??;
    println!("{SUPERS} supers, files in {}, entries of about 256 bytes", folder.path().display());
    println!(
        "{:>8} {:>8} {:>10} {:>9} {:>9} {:>14}",
        "asked", "clients", "commits/s", "p50 ms", "p99 ms", "fdatasync us"
    );
    for (asked, group) in [("leader", supers.first()), ("another", supers.last())] {
        let group = &group.ok_or_else(|| anyhow!("no super"))?.group;
        for clients in &options.clients {
            let fdatasync = probe(folder.path())?;
            let (rate, times) = load(group, *clients, Duration::from_secs(options.seconds)).await?;
            let (p50, p99) = (times.ms(50), times.ms(99));
            println!("{asked:>8} {clients:>8} {rate:>10.0} {p50:>9.3} {p99:>9.3} {fdatasync:>14.0}");
        }
    }
    // Nothing is acknowledged by one that the others do not know.
    for seat in &supers {
        seat.group.linearizable().await?;
    }
    let digests = supers.iter().map(|seat| seat.store.state_digest()).collect::<Result<Vec<_>, _>>()?;
    ensure!(digests.iter().all(|digest| Some(digest) == digests.first()), "the supers' states differ");
    println!("all states are equal");
    Ok(())
}

/// Commits a second, and how long each took.
async fn load(group: &Group, clients: usize, time: Duration) -> Result<(f64, Samples)> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let group = group.clone();
            tokio::spawn(async move {
                let (mut samples, mut number) = (Vec::new(), client);
                while began.elapsed() < time {
                    let asked = Instant::now();
                    group.propose(command(number)).await?.map_err(|reject| anyhow!("refused: {reject:?}"))?;
                    samples.push(asked.elapsed());
                    number += clients;
                }
                anyhow::Ok(samples)
            })
        })
        .collect();
    let mut all = Samples::default();
    let mut count = 0_usize;
    for task in tasks {
        for sample in task.await?? {
            all.push(sample);
            count += 1;
        }
    }
    Ok((count as f64 / began.elapsed().as_secs_f64(), all))
}

fn command(number: usize) -> Command {
    let node = member((number % usize::from(MEMBERS)) as u16);
    let what = Operation::SetClass { node, class: number as u32 };
    Command::Operate(Operate { by: Operator::Token, reason: "x".repeat(REASON_BYTES), now_ms: NOW_MS, what })
}

fn member(number: u16) -> NodeId {
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

fn super_key(number: u8) -> NodeId {
    key([number, 0, 0])
}

/// The first one founds; the others are added and promoted.
async fn form(folder: &Path) -> Result<Vec<Seat>> {
    let mut supers: Vec<Seat> = Vec::new();
    for number in 0..SUPERS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let seat = open(folder, number, address.clone()).await?;
        serve(&seat.group, listener);
        if let Some(leader) = supers.first() {
            leader.group.add(super_key(number), address).await?;
            seat.group.joined().await?;
            // It is refused until the new one has what it lacks.
            while let Err(error) = leader.group.promote(super_key(number)).await {
                tracing::debug!(%error, "not yet promoted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        supers.push(seat);
    }
    let leader = supers.first().ok_or_else(|| anyhow!("no super"))?;
    for answer in leader.group.propose_many((0..MEMBERS).map(join).collect()).await {
        answer?.map_err(|reject| anyhow!("a member may not join: {reject:?}"))?;
    }
    Ok(supers)
}

/// A super that runs.
struct Seat {
    group: Group,
    store: Arc<Store>,
}

async fn open(folder: &Path, number: u8, address: String) -> Result<Seat> {
    let home = folder.join(format!("super-{number}"));
    std::fs::create_dir(&home)?;
    let key = super_key(number);
    let founder = Super { node: key, name: format!("super-{number}"), address: address.clone() };
    let cluster = ClusterId { id: "bench".into(), genesis: Genesis([1; 16]) };
    let store = Arc::new(Store::open(&Disk::file(home.join("state.redb")), CACHE_BYTES)?);
    let parts = Parts {
        key,
        address,
        log: Disk::file(home.join("raft.redb")),
        store: Arc::clone(&store),
        spools: SpoolRoom::folder(&home),
        connector: Arc::new(Plain(key)),
        roster: Arc::new(Everybody),
        timing: Timing::default(),
        keeping: Keeping::default(),
        runs: Runs::OnThreads,
        watcher: Arc::new(()),
        found: Found { cluster, founder, settings: Settings::default(), now_ms: NOW_MS },
        may_found: number == 0,
    };
    Ok(Seat { group: Group::open(parts).await?, store })
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

/// The median of 200 appends of 256 bytes with fdatasync, µs.
fn probe(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("probe"))?;
    let mut samples = Samples::default();
    for _ in 0..200 {
        samples.time(|| file.write_all(&[7; 256]).and_then(|()| file.sync_data()))?;
    }
    Ok(samples.ms(50) * 1_000.0)
}

/// Takes connections for a super until the process ends.
fn serve(group: &Group, listener: TcpListener) {
    let (door, connections) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            match Served::accept(socket).await {
                Ok(served) => {
                    if door.send(served).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "a connection without a key"),
            }
        }
    });
    let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    tokio::spawn(Server::builder().add_service(group.server()).serve_with_incoming(incoming));
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

/// The served end of a connection.
struct Served {
    caller: Caller,
    socket: TcpStream,
}

impl Served {
    async fn accept(mut socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let mut key = [0; 32];
        socket.read_exact(&mut key).await?;
        Ok(Self { caller: Caller(NodeId(key)), socket })
    }
}

impl Connected for Served {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Served {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, to)
    }
}

impl AsyncWrite for Served {
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
