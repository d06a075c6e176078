//! A group in one process: replicas over pipes that can be cut, on disks that outlive them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use kernel::command::{Command, Found, Ip, Join, Super};
use kernel::id::{ClusterId, Genesis, NodeId, ProtocolVersion};
use kernel::settings::Settings;
use store::{Disk, Replica, SpoolRoom, Store};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, ReadHalf, WriteHalf, duplex,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::{Caller, Connecting, Connector, Group, Io, Keeping, Lane, Parts, Roster, Runs, Timing};

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// A usable key for each number.
pub(crate) fn key(n: u8) -> NodeId {
    // Points of the curve are found by trying.
    (0..=255).find_map(|last| NodeId::checked([[n; 31].as_slice(), &[last]].concat().try_into().ok()?).ok()).unwrap()
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) }
}

/// A member that joins, another one for each number.
pub(crate) fn join(n: u16) -> Command {
    let [a, b] = n.to_be_bytes();
    let node = (0..=255).find_map(|last| {
        let bytes = [[9, a, b].as_slice(), &[5; 28], &[last]].concat();
        NodeId::checked(bytes.try_into().ok()?).ok()
    });
    Command::Join(Join {
        node: node.unwrap(),
        name: format!("node-{n}"),
        version: ProtocolVersion { major: 0, minor: 1 },
        software: "test".into(),
        ip: Ip::V4([127, 0, 0, 1]),
        port: 7_000,
        rest: None,
        now_ms: 1,
    })
}

/// All pipes between replicas.
#[derive(Debug, Default)]
pub(crate) struct Switchboard {
    doors: Mutex<BTreeMap<String, (NodeId, mpsc::Sender<Pipe>)>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    lines: Mutex<Vec<(NodeId, NodeId, Lane, CancellationToken)>>,
    late: Mutex<Option<(NodeId, Duration)>>,
}

impl Switchboard {
    /// No more lines between these two, and those that are there break.
    pub(crate) fn cut(&self, a: NodeId, b: NodeId) {
        self.cut.lock().unwrap().extend([(a, b), (b, a)]);
        self.lines.lock().unwrap().retain(|(from, to, _, line)| {
            let between = (*from, *to) == (a, b) || (*from, *to) == (b, a);
            if between {
                line.cancel();
            }
            !between
        });
    }

    /// All that this one says and hears is so late, on lines that are there and on new ones.
    pub(crate) fn lag(&self, node: NodeId, late: Duration) {
        *self.late.lock().unwrap() = Some((node, late));
    }

    fn late(&self, a: NodeId, b: NodeId) -> Duration {
        self.late.lock().unwrap().filter(|(node, _)| [a, b].contains(node)).map_or(Duration::ZERO, |(_, late)| late)
    }

    pub(crate) fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }

    /// Lines of a kind that were ever made to a replica.
    pub(crate) fn count(&self, to: NodeId, of: Lane) -> usize {
        self.lines.lock().unwrap().iter().filter(|(_, at, lane, _)| *at == to && *lane == of).count()
    }
}

/// Carries bytes in one direction, late where they are to be, until either end is gone. Then the other direction ends too.
async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    board: Arc<Switchboard>,
    (a, b): (NodeId, NodeId),
    line: CancellationToken,
) {
    let _ends = line.clone().drop_guard();
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let read = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + board.late(a, b);
            if sender.send((due, buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = line.cancelled() => {}
        ((), ()) = async { tokio::join!(read, write) } => {}
    }
}

/// One replica's end of the switchboard.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub me: NodeId,
    pub board: Arc<Switchboard>,
}

impl Connector for Line {
    fn connect(&self, to: &Replica, lane: Lane) -> Connecting {
        let (me, board, to) = (self.me, Arc::clone(&self.board), to.clone());
        Box::pin(async move {
            if board.cut.lock().unwrap().contains(&(me, to.key)) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let door = board.doors.lock().unwrap().get(&to.address).cloned();
            let Some((_, door)) = door.filter(|(key, _)| *key == to.key) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let ((ours, a), (b, theirs)) = (duplex(64 << 10), duplex(64 << 10));
            let line = CancellationToken::new();
            board.lines.lock().unwrap().push((me, to.key, lane, line.clone()));
            let ((from_a, to_a), (from_b, to_b)) = (tokio::io::split(a), tokio::io::split(b));
            for (from, into) in [(from_a, to_b), (from_b, to_a)] {
                let carrying = carry(from, into, Arc::clone(&board), (me, to.key), line.clone());
                tokio::spawn(carrying);
            }
            let pipe = Pipe { caller: Caller(me), io: Box::new(theirs) };
            door.send(pipe).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

/// The served end of a connection.
pub(crate) struct Pipe {
    pub caller: Caller,
    pub io: Box<dyn Io>,
}

impl Connected for Pipe {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Supers that a node was told of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(pub BTreeSet<NodeId>);

impl Roster for Told {
    fn admits(&self, key: &NodeId) -> bool {
        self.0.contains(key)
    }
}

/// What a super keeps when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub n: u8,
    /// Where it is reached.
    pub host: String,
    pub log: Disk,
    pub state: Disk,
}

impl Home {
    pub(crate) fn new(n: u8) -> Self {
        Self { n, host: format!("super-{n}:7001"), log: Disk::memory(), state: Disk::memory() }
    }

    pub(crate) fn key(&self) -> NodeId {
        key(self.n)
    }

    pub(crate) fn address(&self) -> String {
        self.host.clone()
    }
}

pub(crate) fn parts(home: &Home, connector: Arc<dyn Connector>, may_found: bool) -> Parts {
    let founder = Super { node: home.key(), name: format!("super-{}", home.n), address: home.address() };
    Parts {
        key: home.key(),
        address: home.address(),
        log: home.log.clone(),
        store: Arc::new(Store::open(&home.state, 64 << 20).unwrap()),
        spools: SpoolRoom::memory(),
        connector,
        roster: Arc::new(Told((0..8).map(key).collect())),
        timing: Timing::default(),
        keeping: Keeping::default(),
        runs: Runs::Inline,
        watcher: Arc::new(()),
        found: Found { cluster: cluster(), founder, settings: Settings::default(), now_ms: 0 },
        may_found,
    }
}

/// A super that runs.
pub(crate) struct Node {
    pub home: Home,
    pub group: Group,
    board: Arc<Switchboard>,
    serving: tokio::task::JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(board: &Arc<Switchboard>, home: &Home, may_found: bool) -> Self {
        Self::with(board, home, may_found, |_| {}).await
    }

    pub(crate) async fn with(
        board: &Arc<Switchboard>,
        home: &Home,
        may_found: bool,
        change: impl FnOnce(&mut Parts),
    ) -> Self {
        let line = Arc::new(Line { me: home.key(), board: Arc::clone(board) });
        let mut parts = parts(home, line, may_found);
        change(&mut parts);
        let group = patient(Group::open(parts)).await.unwrap();
        let (door, pipes) = mpsc::channel(64);
        board.doors.lock().unwrap().insert(home.address(), (home.key(), door));
        let incoming = ReceiverStream::new(pipes);
        let incoming = tokio_stream::StreamExt::map(incoming, Ok::<_, io::Error>);
        let server = Server::builder().add_service(group.server()).serve_with_incoming(incoming);
        let serving = tokio::spawn(async move {
            let _ended = server.await;
        });
        Self { home: home.clone(), group, board: Arc::clone(board), serving }
    }

    pub(crate) fn key(&self) -> NodeId {
        self.home.key()
    }

    /// Nobody reaches it any more, and it reaches nobody.
    pub(crate) fn isolate(&self) {
        (0..8).map(key).filter(|other| *other != self.key()).for_each(|other| self.board.cut(self.key(), other));
    }

    fn hang_up(&self) {
        self.board.doors.lock().unwrap().remove(&self.home.address());
        self.board.lines.lock().unwrap().retain(|(from, to, _, line)| {
            let ours = *from == self.key() || *to == self.key();
            if ours {
                line.cancel();
            }
            !ours
        });
        self.serving.abort();
    }

    /// As after `kill -9`.
    pub(crate) async fn kill(self) -> Home {
        self.hang_up();
        patient(self.group.kill()).await;
        self.home.clone()
    }

    /// Drains.
    pub(crate) async fn stop(self) -> Home {
        patient(self.group.stop(Duration::from_secs(10))).await;
        self.hang_up();
        self.home.clone()
    }

    pub(crate) fn members(&self) -> usize {
        self.group.read(|state| state.members.len())
    }

    /// Waits until so many members are in its state.
    pub(crate) async fn has(&self, members: usize) {
        let mut applied = self.group.applied();
        patient(async {
            while self.members() < members {
                applied.changed().await.unwrap();
            }
        })
        .await;
        assert_eq!(self.members(), members);
    }
}

/// A group of so many voters, the first of which leads.
pub(crate) async fn group(voters: u8) -> (Arc<Switchboard>, Vec<Node>) {
    let board = Arc::new(Switchboard::default());
    let mut nodes = vec![Node::start(&board, &Home::new(0), true).await];
    for n in 1..voters {
        let node = Node::start(&board, &Home::new(n), false).await;
        enter(&nodes[0], &node).await;
        nodes.push(node);
    }
    (board, nodes)
}

/// Adds and promotes a super.
pub(crate) async fn enter(leader: &Node, node: &Node) {
    patient(leader.group.add(node.key(), node.home.address())).await.unwrap();
    patient(node.group.joined()).await.unwrap();
    promote(leader, node.key()).await;
}

/// Promotes a super as soon as it may be.
pub(crate) async fn promote(leader: &Node, key: NodeId) {
    patient(async {
        loop {
            match leader.group.promote(key).await {
                Ok(_) => return,
                Err(crate::ChangeError::Refused { code, .. }) if code == "not_caught_up" || code == "unreachable" => {
                    // What it lacks is on its way; time passes only when nothing else is to be done.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

/// The one of these that leads.
pub(crate) async fn leader(nodes: &[Node]) -> usize {
    patient(async {
        let mut watches: Vec<_> = nodes.iter().map(|node| node.group.leadership()).collect();
        loop {
            if let Some(at) = watches.iter_mut().position(|watch| watch.borrow_and_update().ready) {
                return at;
            }
            let changes = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
            let _ = futures_util::future::select_all(changes).await;
        }
    })
    .await
}
