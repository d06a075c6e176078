//! The network between replicas as they use it: connections, each a stream of bytes each way. What is on its way is late,
//! what is lost comes later, in order, and a cut holds it until it heals. A process that ends breaks its connections; a
//! machine that is gone says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kernel::id::NodeId;
use raft::{Caller, Connecting, Connector, Io, Lane, RaftServer};
use store::Replica;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tonic::codegen::Service as _;

use super::pipe::{Line, Pipe};
use crate::net::Weather;
use crate::raft::Id;
use crate::random::{Random, mix};
use crate::{MS, Us};

/// What is lost is sent again after this, then after twice that, and so on.
const AGAIN_US: Us = 200 * MS;
/// What one stream, and one connection, may have on its way, as the program sets it.
const WINDOW_BYTES: u32 = 4 << 20;

/// See the module. Clones are the same network.
#[derive(Clone, Debug)]
pub(crate) struct Wires {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Something was healed.
    healed: Notify,
}

#[derive(Debug)]
pub(super) struct Inner {
    random: Random,
    weather: Weather,
    /// From, to: how many faults cut it.
    cuts: BTreeMap<(Id, Id), u32>,
    /// Who is reached at an address.
    doors: BTreeMap<String, Door>,
    /// Machines that say nothing when somebody comes.
    silent: BTreeSet<String>,
    pub(super) lines: BTreeMap<u64, Line>,
    made: u64,
    /// What was carried, as it was carried.
    pub(super) digest: u64,
    pub(super) bytes: u64,
}

#[derive(Clone)]
struct Door {
    id: Id,
    key: NodeId,
    server: RaftServer,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn is_cut(&self, from: Id, to: Id) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|cuts| *cuts > 0)
    }

    /// How long something is on its way.
    pub(super) fn delay(&mut self) -> Duration {
        let weather = self.weather;
        let mut delay_us = 200 + self.random.below(2 * MS) + self.random.below(weather.delay_us);
        let mut again_us = AGAIN_US;
        while again_us < 8 * AGAIN_US && self.random.chance_bp(weather.lost_bp) {
            delay_us += again_us;
            again_us *= 2;
        }
        Duration::from_micros(delay_us)
    }

    /// Something is carried.
    pub(super) fn carries(&mut self, line: u64, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.digest = mix(self.digest ^ line ^ (bytes.len() as u64) << 32);
    }
}

impl Wires {
    pub(crate) fn new(seed: u64) -> Self {
        let inner = Inner {
            random: Random::new(mix(seed ^ 0x7769_7265)),
            weather: Weather::default(),
            cuts: BTreeMap::new(),
            doors: BTreeMap::new(),
            silent: BTreeSet::new(),
            lines: BTreeMap::new(),
            made: 0,
            digest: 0,
            bytes: 0,
        };
        Self { shared: Arc::new(Shared { inner: Mutex::new(inner), healed: Notify::new() }) }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hash over all that was carried.
    pub(crate) fn digest(&self) -> u64 {
        let inner = self.inner();
        mix(inner.digest ^ inner.bytes)
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.inner().weather = weather;
    }

    /// Cuts or heals.
    pub(crate) fn cut(&self, pairs: &BTreeSet<(Id, Id)>, cut: bool) {
        let mut inner = self.inner();
        for pair in pairs {
            let cuts = inner.cuts.entry(*pair).or_default();
            *cuts = if cut { *cuts + 1 } else { cuts.saturating_sub(1) };
        }
        if !cut {
            inner.lines.values_mut().for_each(Line::wake);
            drop(inner);
            self.shared.healed.notify_waiters();
        }
    }

    /// A process serves from now on; what was left of the connections of the one before is broken.
    pub(crate) fn up(&self, id: Id, key: NodeId, address: &str, server: RaftServer) {
        let mut inner = self.inner();
        for line in inner.lines.values_mut().filter(|line| line.is_of(id)) {
            line.break_off();
        }
        inner.silent.remove(address);
        inner.doors.insert(address.to_owned(), Door { id, key, server });
        drop(inner);
        self.shared.healed.notify_waiters();
    }

    /// A process has ended. Who is reached by the machine's word knows it at once, unless that is gone too.
    pub(crate) fn down(&self, id: Id, address: &str, silent: bool) {
        let mut inner = self.inner();
        inner.doors.remove(address);
        if silent {
            inner.silent.insert(address.to_owned());
        }
        let cuts = inner.cuts.clone();
        let is_cut = |from, to| cuts.get(&(from, to)).is_some_and(|cuts| *cuts > 0);
        for line in inner.lines.values_mut().filter(|line| line.is_of(id)) {
            line.end(id, !silent && !is_cut(id, line.other(id)));
        }
    }

    /// How one machine reaches the others.
    pub(crate) fn connector(&self, id: Id, key: NodeId) -> Arc<dyn Connector> {
        Arc::new(Socket { id, key, wires: self.clone() })
    }

    async fn connect(self, from: Id, key: NodeId, to: Replica) -> io::Result<Box<dyn Io>> {
        let there = self.inner().delay();
        let back = self.inner().delay();
        sleep(there + back).await;
        loop {
            let healed = self.shared.healed.notified();
            {
                let mut inner = self.inner();
                let door = inner.doors.get(&to.address).cloned();
                match door {
                    Some(door) if inner.is_cut(from, door.id) || inner.is_cut(door.id, from) => {}
                    Some(door) if door.key == to.key => {
                        inner.made += 1;
                        let line = inner.made;
                        inner.lines.insert(line, Line::new([from, door.id], Instant::now()));
                        drop(inner);
                        let ours = Pipe::new(self.clone(), line, 0);
                        serve(Pipe::new(self.clone(), line, 1), door.server, Caller(key));
                        return Ok(Box::new(ours));
                    }
                    None if inner.silent.contains(&to.address) => {}
                    Some(_) | None => return Err(io::ErrorKind::ConnectionRefused.into()),
                }
            }
            healed.await;
        }
    }
}

/// Serves a connection as the program does.
fn serve(pipe: Pipe, server: RaftServer, caller: Caller) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller);
        let mut server = server.clone();
        async move { server.call(request).await }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // It has the real time in it.
        .auto_date_header(false)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .serve_connection(TokioIo::new(pipe), service);
    tokio::spawn(async move {
        let _ended = connection.await;
    });
}

/// One machine's end of the network.
#[derive(Debug)]
struct Socket {
    id: Id,
    key: NodeId,
    wires: Wires,
}

impl Connector for Socket {
    fn connect(&self, to: &Replica, _lane: Lane) -> Connecting {
        Box::pin(self.wires.clone().connect(self.id, self.key, to.clone()))
    }
}
