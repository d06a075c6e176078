//! Our accept loop, for people and programs ([`http`]) and nodes (gRPC over TLS).
//!
//! A connection costs memory and a descriptor before anybody knows who it is, so it passes a gate: a cap on all, a cap
//! per address, a bound on handshakes at once, and a deadline for its first bytes. A server without these holds silent
//! connections for ever, and a cap on all alone turns a flood from one place into an outage for everybody.
//!
//! Invariant: dropping the loop's future ends all its connections.

pub mod http;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// After `accept` failed for want of descriptors or memory: long enough for others to close, short for those who wait.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Descriptors for files, databases, other listeners and dials.
const OWN_DESCRIPTORS: u64 = 256;
/// Places beyond the bound for those whose address is vouched for: all lanes of all other supers.
const RESERVED: usize = 64;
/// Addresses that are vouched for.
const VOUCHED: usize = 32;
/// A connection that is asked to finish and does not is cut after this.
pub const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one IPv4 address or IPv6 /64. Loopback is exempt: it is this machine's own.
    pub per_address: usize,
    /// TLS handshakes at once: each costs some 0.4 ms of processor.
    pub handshakes: usize,
    /// For a free place among the handshakes, and again for the handshake itself.
    pub handshake: Duration,
    /// For the first bytes, for the head of an HTTP request, for the first gRPC stream of a node, and between the calls of a
    /// reader.
    pub first_bytes: Duration,
    /// For the other side to take something of an HTTP answer that waits, one of events included.
    pub write: Duration,
}

impl Limits {
    /// For HTTP.
    pub const HTTP: Self = Self {
        connections: 1_000,
        per_address: 64,
        handshakes: 64,
        handshake: Duration::from_secs(5),
        first_bytes: Duration::from_secs(5),
        write: Duration::from_secs(20),
    };
    /// For nodes: many share an address behind one router or in one data centre.
    pub const GRPC: Self = Self { connections: 20_000, per_address: 256, handshakes: 256, ..Self::HTTP };

    /// Keeps the cap below what the process may open, together with `others`.
    #[must_use]
    pub fn within(self, descriptors: u64, others: usize) -> Self {
        let room = descriptors.saturating_sub(OWN_DESCRIPTORS).saturating_sub(others as u64);
        Self { connections: self.connections.min(usize::try_from(room).unwrap_or(usize::MAX)).max(16), ..self }
    }
}

/// Raises the number of descriptors that this process may open to what the system allows, and gives it.
#[must_use]
pub fn descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Where it cannot be raised the old one stands, and the caps follow it.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.or(current).unwrap_or(u64::MAX)
}

/// Who may come in.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    inside: Mutex<Inside>,
    handshakes: Semaphore,
    /// Each connection that was turned away or said nothing, for `/metrics`.
    turned_away: Counter,
    overloaded: AtomicU64,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    of: BTreeMap<IpAddr, usize>,
    /// Where supers came from, the latest ones.
    vouched: VecDeque<IpAddr>,
}

impl Gate {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits, turned_away: Counter) -> Arc<Self> {
        let handshakes = Semaphore::new(limits.handshakes);
        Arc::new(Self { limits, inside: Mutex::default(), handshakes, turned_away, overloaded: AtomicU64::new(0) })
    }

    /// Its bounds.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Connections inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Connections that were turned away because this process had no room for them, since its start. One address that
    /// has used up its own share is not among them.
    #[must_use]
    pub fn overloaded(&self) -> u64 {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Lets a connection in, until the pass is dropped.
    fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Pass> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let is_vouched = inside.vouched.contains(&network(from));
        let network = (!from.to_canonical().is_loopback() && !is_vouched).then(|| network(from));
        let reserve = if is_vouched { RESERVED } else { 0 };
        if inside.all >= self.limits.connections + reserve {
            drop(inside);
            self.turn_away_overloaded("connections");
            return None;
        }
        if let Some(network) = network {
            let count = inside.of.entry(network).or_default();
            if *count >= self.limits.per_address {
                self.turned_away.inc();
                return None;
            }
            *count += 1;
        }
        inside.all += 1;
        Some(Pass { gate: Arc::clone(self), network })
    }

    /// A super has shown its key: from where it came there is a place also when strangers have taken all.
    pub fn vouch(&self, from: IpAddr) {
        let from = network(from);
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if !inside.vouched.contains(&from) {
            inside.vouched.push_back(from);
            while inside.vouched.len() > VOUCHED {
                inside.vouched.pop_front();
            }
        }
    }

    /// A place among the handshakes; `None` when none came free in time.
    pub async fn handshake(&self) -> Option<SemaphorePermit<'_>> {
        match timeout(self.limits.handshake, self.handshakes.acquire()).await {
            Ok(Ok(permit)) => Some(permit),
            Ok(Err(_)) | Err(_) => {
                self.turn_away_overloaded("handshakes");
                None
            }
        }
    }

    /// Counts a connection that said nothing, or not what it should, for too long.
    pub fn turn_away(&self) {
        self.turned_away.inc();
    }

    fn turn_away_overloaded(&self, what: &'static str) {
        self.turned_away.inc();
        // One line when it begins and then more and more seldom, because a flood must not fill the log.
        let before = self.overloaded.fetch_add(1, Ordering::Relaxed);
        if (before + 1).is_power_of_two() {
            tracing::warn!(what, turned_away = before + 1, "no room for more connections");
        }
    }
}

/// A place inside.
#[derive(Debug)]
struct Pass {
    gate: Arc<Gate>,
    network: Option<IpAddr>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_sub(1);
        if let Some(network) = self.network
            && let Some(count) = inside.of.get_mut(&network)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inside.of.remove(&network);
            }
        }
    }
}

/// What counts as one place: whoever has an IPv6 address has a /64 of them.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Accepts until `stop`, then waits for the connections at most [`CLOSE_WITHIN`] and cuts the rest. `serve` runs as a task of
/// its own for each connection and ends soon after `stop`.
pub async fn accept<F>(
    listener: TcpListener,
    gate: Arc<Gate>,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => ended_well(ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, from)) => {
                    let Some(pass) = gate.enter(from.ip()) else { continue };
                    // Messages are small and somebody waits for each.
                    let _best_effort = socket.set_nodelay(true);
                    let serving = serve(socket, from);
                    connections.spawn(async move {
                        serving.await;
                        drop(pass);
                    });
                }
                Err(error) if is_exhausted(&error) => {
                    gate.turn_away_overloaded("descriptors");
                    sleep(EXHAUSTED_PAUSE).await;
                }
                // Of the one connection that was to be accepted: it is gone already.
                Err(error) => tracing::debug!(%error, "accept"),
            },
        }
    }
    drop(listener);
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            ended_well(ended);
        }
    };
    let _cut = timeout(CLOSE_WITHIN, rest).await;
}

fn ended_well(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Waits for the first byte of what speaks first on its own: from then on the deadlines of that hold.
pub async fn first_byte(socket: &TcpStream, within: Duration) -> bool {
    matches!(timeout(within, socket.peek(&mut [0; 1])).await, Ok(Ok(1)))
}

#[cfg(test)]
mod tests;
