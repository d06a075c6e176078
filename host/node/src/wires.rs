//! Faults of the network on purpose, inside one process: for the demo's console and for tests.
//!
//! Each connection that a node of the process makes goes through here, where it can be delayed or cut, in both directions.
//! A cut holds what is on its way until it heals, as a network that drops packets does; the connections stay, and notice
//! by silence. Without faults on purpose nothing is in the way at all: the connection is the socket.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kernel::id::NodeId;
use raft::Io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, duplex};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What is on its way in one direction of a connection, in pieces.
const PIECES: usize = 256;
/// One piece, and what waits on the node's side, bytes.
const PIECE_BYTES: usize = 16 << 10;

/// The network of a process. Clones are the same. The default one has no faults, ever.
#[derive(Clone, Debug, Default)]
pub struct Wires {
    faults: Option<Arc<watch::Sender<Faults>>>,
}

/// What is wrong now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Faults {
    /// Whatever a node sends or gets is so late.
    lag: BTreeMap<NodeId, Duration>,
    /// Sides of a cut: who is on one reaches nobody on another. Whoever is on none reaches all, unless there is one side only:
    /// that one is cut off from everybody else.
    sides: Vec<BTreeSet<NodeId>>,
}

impl Faults {
    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        let side = |node| self.sides.iter().position(|side| side.contains(&node));
        match (side(a), side(b)) {
            (Some(a), Some(b)) => a != b,
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => self.sides.len() == 1,
        }
    }

    fn lag(&self, a: NodeId, b: NodeId) -> Duration {
        let of = |node| self.lag.get(&node).copied().unwrap_or_default();
        of(a) + of(b)
    }
}

impl Wires {
    /// A network in which something can be wrong.
    #[must_use]
    pub fn faulty() -> Self {
        Self { faults: Some(Arc::default()) }
    }

    /// Everything that a node sends or gets is so late; zero ends it.
    pub fn lag(&self, node: NodeId, late: Duration) {
        self.change(|faults| {
            if late.is_zero() {
                faults.lag.remove(&node);
            } else {
                faults.lag.insert(node, late);
            }
        });
    }

    /// Nobody on one of these sides reaches anybody on another; who is on none reaches all. One side alone is cut off from
    /// everybody else. It replaces what was cut before.
    pub fn partition(&self, sides: Vec<BTreeSet<NodeId>>) {
        self.change(|faults| faults.sides = sides);
    }

    /// Nothing is wrong any more. Gives whether something was.
    pub fn heal(&self) -> bool {
        let mut was = false;
        self.change(|faults| was = std::mem::take(faults) != Faults::default());
        was
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        if let Some(faults) = &self.faults {
            faults.send_modify(change);
        }
    }

    /// Puts the network between a socket and the node that made it. `to`: whose key the other side must show, where that is
    /// known.
    #[must_use]
    pub fn through(&self, socket: TcpStream, from: NodeId, to: Option<NodeId>) -> Box<dyn Io> {
        let (Some(faults), Some(to)) = (&self.faults, to) else { return Box::new(socket) };
        let (ours, theirs) = duplex(PIECE_BYTES);
        let (from_node, to_node) = tokio::io::split(theirs);
        let (from_socket, to_socket) = tokio::io::split(socket);
        let way = |faults: &Arc<watch::Sender<Faults>>| Way { faults: faults.subscribe(), a: from, b: to };
        carry(from_node, to_socket, way(faults), false);
        carry(from_socket, to_node, way(faults), true);
        Box::new(ours)
    }
}

/// One direction of a connection.
struct Way {
    faults: watch::Receiver<Faults>,
    a: NodeId,
    b: NodeId,
}

/// Carries bytes until either side is gone. `holds_end`: an end is held by a cut too. The node's own end is not: its port
/// would be taken for as long as the cut lasts.
fn carry<R, W>(mut from: ReadHalf<R>, mut to: WriteHalf<W>, mut way: Way, holds_end: bool)
where
    R: AsyncRead + Send + 'static,
    W: AsyncWrite + Send + 'static,
{
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let faults = way.faults.clone();
    let (a, b) = (way.a, way.b);
    let ended = CancellationToken::new();
    let ends = ended.clone().drop_guard();
    tokio::spawn(async move {
        let _ends = ends;
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = sender.closed() => Err(io::ErrorKind::BrokenPipe.into()),
        } {
            let due = Instant::now() + faults.borrow().lag(a, b);
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send((due, piece)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            let open = tokio::select! {
                open = way.faults.wait_for(|faults| !faults.is_cut(a, b)) => open.is_ok(),
                () = ended.cancelled(), if !holds_end => false,
            };
            if !open || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        if holds_end {
            let _ended = way.faults.wait_for(|faults| !faults.is_cut(a, b)).await.is_ok();
        }
        let _gone = to.shutdown().await;
    });
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const C: NodeId = NodeId([3; 32]);
    const HANG: Duration = Duration::from_secs(30);

    async fn connected(wires: &Wires) -> (Box<dyn Io>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (other, _) = listener.accept().await.unwrap();
        (wires.through(socket, A, Some(B)), other)
    }

    #[tokio::test]
    async fn a_cut_holds_what_is_on_its_way_in_both_directions_until_it_heals() {
        let wires = Wires::faulty();
        let (mut near, mut far) = connected(&wires).await;
        near.write_all(b"1").await.unwrap();
        assert_eq!(timeout(HANG, far.read_u8()).await.unwrap().unwrap(), b'1');
        wires.partition(vec![BTreeSet::from([A, C])]);
        near.write_all(b"2").await.unwrap();
        far.write_all(b"3").await.unwrap();
        let mut byte = [0];
        assert!(timeout(Duration::from_millis(100), far.read(&mut byte)).await.is_err());
        assert!(timeout(Duration::from_millis(100), near.read(&mut byte)).await.is_err());
        assert!(wires.heal() && !wires.heal());
        assert_eq!(timeout(HANG, far.read_u8()).await.unwrap().unwrap(), b'2');
        assert_eq!(timeout(HANG, near.read_u8()).await.unwrap().unwrap(), b'3');
        drop(near);
        assert_eq!(timeout(HANG, far.read(&mut byte)).await.unwrap().unwrap(), 0, "an end gets through");
    }

    #[test]
    fn a_cut_is_between_its_sides_and_one_side_alone_is_cut_off_from_all() {
        let faults = Faults { sides: vec![BTreeSet::from([A])], lag: BTreeMap::from([(A, HANG), (B, HANG)]) };
        assert!(faults.is_cut(A, B) && faults.is_cut(C, A) && !faults.is_cut(B, C) && !faults.is_cut(A, A));
        let two = Faults { sides: vec![BTreeSet::from([A]), BTreeSet::from([B])], ..Faults::default() };
        assert!(two.is_cut(A, B) && two.is_cut(B, A) && !two.is_cut(A, C) && !two.is_cut(C, B));
        assert_eq!((faults.lag(A, B), faults.lag(C, B), faults.lag(C, C)), (2 * HANG, HANG, Duration::ZERO));
    }

    #[tokio::test]
    async fn without_faults_on_purpose_nothing_is_in_the_way() {
        let wires = Wires::default();
        wires.partition(vec![BTreeSet::from([A])]);
        let (mut near, mut far) = connected(&wires).await;
        near.write_all(b"1").await.unwrap();
        assert_eq!(timeout(HANG, far.read_u8()).await.unwrap().unwrap(), b'1');
        assert!(!wires.heal());
    }
}
