//! Proxies: others reach a super at the address of a proxy of this process, which knows from whose process a connection
//! comes and stops to hand on bytes while the two are cut off. Connections stay open meanwhile, as with a broken switch.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Place, SUPERS};

/// Bytes that are on their way at one time.
const PIECE_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct Proxies {
    places: Vec<Place>,
    shared: Arc<Shared>,
    // Dropped with the network: the proxies end.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    pids: Mutex<BTreeMap<u32, usize>>,
    cuts: watch::Sender<Cuts>,
}

/// Who reaches whom.
#[derive(Clone, Debug, Default)]
struct Cuts {
    pairs: Vec<(usize, usize)>,
    alone: Vec<usize>,
}

/// An end of a connection: a super, or somebody else.
type End = Option<usize>;

impl Cuts {
    fn stop(&self, from: End, to: End) -> bool {
        let is_alone = |end: End| end.is_some_and(|end| self.alone.contains(&end));
        is_alone(from) || is_alone(to) || self.pairs.iter().any(|(a, b)| from == Some(*a) && to == Some(*b))
    }
}

impl Proxies {
    pub(super) async fn new() -> Result<Self> {
        let shared = Arc::new(Shared { pids: Mutex::default(), cuts: watch::Sender::default() });
        let (mut places, mut tasks) = (Vec::new(), JoinSet::new());
        for at in 0..SUPERS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a proxy's port")?;
            let place = Place { grpc: free()?, rest: free()?, reached: listener.local_addr()? };
            places.push(place);
            tasks.spawn(serve(listener, at, place.grpc, Arc::clone(&shared)));
        }
        Ok(Self { places, shared, _tasks: tasks })
    }

    pub(super) fn place(&self, at: usize) -> Result<Place> {
        self.places.get(at).copied().with_context(|| format!("there is no super {at}"))
    }

    pub(super) fn runs(&self, at: usize, pid: u32) {
        let mut pids = self.shared.pids.lock().unwrap_or_else(PoisonError::into_inner);
        pids.retain(|_, of| *of != at);
        pids.insert(pid, at);
    }

    pub(super) fn cut(&self, from: usize, to: usize) {
        self.shared.cuts.send_modify(|cuts| cuts.pairs.push((from, to)));
    }

    pub(super) fn isolate(&self, at: usize) {
        self.shared.cuts.send_modify(|cuts| cuts.alone.push(at));
    }

    pub(super) fn heal(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts = Cuts::default());
    }
}

/// An address that nobody listens on, below the ports that the system gives away by itself.
fn free() -> Result<SocketAddr> {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 20_000)?;
    for _ in 0..20_000 {
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 12_000 + start.wrapping_add(next.wrapping_mul(7)) % 20_000;
        if let Ok(listener) = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    anyhow::bail!("no port of loopback is free")
}

async fn serve(listener: TcpListener, at: usize, to: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        connections.spawn(pass(stream, peer, at, to, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(caller: TcpStream, peer: SocketAddr, at: usize, to: SocketAddr, shared: Arc<Shared>) {
    let pids = shared.pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let looked = tokio::task::spawn_blocking(move || caller_of(peer, &pids));
    let Ok(from) = looked.await else { return };
    // Whoever is cut off waits, as for a packet that is lost.
    let mut cuts = shared.cuts.subscribe();
    if cuts.wait_for(|cuts| !cuts.stop(from, Some(at)) && !cuts.stop(Some(at), from)).await.is_err() {
        return;
    }
    let Ok(called) = TcpStream::connect(to).await else { return };
    let _ = caller.set_nodelay(true);
    let _ = called.set_nodelay(true);
    let ((caller_in, caller_out), (called_in, called_out)) = (caller.into_split(), called.into_split());
    // Either end's end is that of both, as with a reset.
    tokio::select! {
        () = pump(caller_in, called_out, from, Some(at), shared.cuts.subscribe()) => {}
        () = pump(called_in, caller_out, Some(at), from, shared.cuts.subscribe()) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    ends_from: End,
    ends_to: End,
    mut cuts: watch::Receiver<Cuts>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(read) = from.read(&mut piece).await else { return };
        // Whatever was read, an end too, is told only to whom it can reach.
        if cuts.wait_for(|cuts| !cuts.stop(ends_from, ends_to)).await.is_err() || read == 0 {
            return;
        }
        let Some(bytes) = piece.get(..read) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Which super's process a connection of loopback comes from, if any.
fn caller_of(peer: SocketAddr, pids: &BTreeMap<u32, usize>) -> End {
    let SocketAddr::V4(peer) = peer else { return None };
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(peer.ip().octets()), peer.port());
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = fields.into_iter().find(|fields| fields.get(1) == Some(&local.as_str()))?;
    let socket = format!("socket:[{}]", row.get(9)?);
    let has = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .into_iter()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket.as_str()))
    };
    pids.iter().find(|(pid, _)| has(**pid)).map(|(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, byte: u8) {
        stream.write_all(&[byte]).await.unwrap();
    }

    /// Waits for a byte, for as long as a slow machine may need.
    async fn comes(stream: &mut TcpStream, byte: u8) {
        let mut piece = [0];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut piece)).await;
        assert!(read.is_ok_and(|read| read.is_ok()) && piece == [byte], "{byte} did not come");
    }

    /// Nothing comes for a while.
    async fn is_silent(stream: &mut TcpStream) {
        let mut piece = [0];
        let read = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut piece)).await;
        assert!(read.is_err(), "{piece:?} came");
    }

    #[tokio::test]
    async fn bytes_wait_while_two_are_cut_off_and_arrive_when_they_are_not() {
        let shared = Arc::new(Shared { pids: Mutex::default(), cuts: watch::Sender::default() });
        // This process calls, and is super 3 so to speak.
        shared.pids.lock().unwrap().insert(std::process::id(), 3);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, 1, echo().await, Arc::clone(&shared)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        says(&mut stream, 1).await;
        comes(&mut stream, 1).await;
        shared.cuts.send_modify(|cuts| cuts.pairs.push((2, 1)));
        // Another super is cut off.
        says(&mut stream, 2).await;
        comes(&mut stream, 2).await;
        for pair in [(3, 1), (1, 3)] {
            shared.cuts.send_modify(|cuts| cuts.pairs = vec![pair]);
            says(&mut stream, 3).await;
            is_silent(&mut stream).await;
            shared.cuts.send_modify(|cuts| *cuts = Cuts::default());
            comes(&mut stream, 3).await;
        }
        shared.cuts.send_modify(|cuts| cuts.alone.push(1));
        let mut another = TcpStream::connect(address).await.unwrap();
        says(&mut another, 4).await;
        is_silent(&mut another).await;
        shared.cuts.send_modify(|cuts| *cuts = Cuts::default());
        comes(&mut another, 4).await;
    }
}
