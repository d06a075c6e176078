//! One connection to one super: from the declared port, with both keys proven.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use kernel::id::NodeId;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::config::PeerAddress;
use crate::keys::NodeKey;
use crate::known::{Known, KnownError};
use crate::tls::{self, Dial, TlsError};
use crate::wires::Wires;

/// As the super does.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
const WINDOW_BYTES: u32 = 64 << 10;

/// Why a super could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{address} cannot be resolved; check cluster.supers and the name service")]
    Resolve {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The declared port is not free.
    #[error(
        "cannot connect from port {port}; another program uses it, or another node of this machine: set follower.connect_port to a free one"
    )]
    Port {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Nobody listens there, or it turned us away before it knew us.
    #[error("{address} cannot be reached; is the super running, and is that its listen.grpc?")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Another key than the config names.
    #[error(
        "{address} shows the key {shown}, but the config names {expected}; if that super really has a new key, change cluster.supers"
    )]
    OtherKey {
        /// Where.
        address: String,
        /// From the config.
        expected: NodeId,
        /// What it shows.
        shown: NodeId,
    },
    /// Another key than before.
    #[error(transparent)]
    Known(#[from] KnownError),
    /// Something here.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It does not speak what we speak.
    #[error("{address} does not speak gRPC; is that its listen.grpc?")]
    Grpc {
        /// Where.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

impl DialError {
    /// Whether only an operator can mend it.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        match self {
            Self::Port { .. } | Self::OtherKey { .. } | Self::Known(_) | Self::Tls(_) => true,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Grpc { .. } => false,
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source {
    /// The address; the system's choice where none is named.
    pub address: Option<IpAddr>,
    /// The port; 0 = any free one.
    pub port: u16,
}

impl Source {
    /// Wherever the system wants.
    pub const ANYWHERE: Self = Self { address: None, port: 0 };
}

/// Connects to a super and gives its key. `within`: for each step, a connection and a handshake.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    key: &NodeKey,
    known: &Known,
    wires: &Wires,
    to: &PeerAddress,
    from: Source,
    within: Duration,
) -> Result<(Channel, NodeId), DialError> {
    let address = address(to);
    let socket = connect(to, &address, from, within).await?;
    let remembered = known.key(&address);
    let socket = wires.through(socket, key.id(), to.key.or(remembered));
    let dial = Dial::new(key, to.key.or(remembered))?;
    let shaken = timeout(within, TlsConnector::from(dial.config.clone()).connect(dial.name.clone(), socket)).await;
    let unreachable = |source| DialError::Connect { address: address.clone(), source };
    let stream = match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(source) => {
            return Err(match (dial.shown(), to.key, remembered) {
                (Some(shown), Some(expected), _) if shown != expected => {
                    DialError::OtherKey { address, expected, shown }
                }
                (Some(shown), None, Some(remembered)) if shown != remembered => {
                    DialError::Known(KnownError::OtherKey { address, shown, remembered, file: known.file() })
                }
                _ => unreachable(source),
            });
        }
    };
    let shown = tls::peer(stream.get_ref().1).map_err(|error| unreachable(io::Error::other(error)))?;
    if to.key.is_none() {
        known.learn_key(&address, shown)?;
    }
    // The channel may ask for a new connection when this one is gone. There is none: who dials again says hello again.
    let mut io = Some(TokioIo::new(stream));
    let connector = service_fn(move |_: Uri| {
        let io = io.take();
        async move { io.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let channel = Endpoint::from_static("http://pingward.node")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .buffer_size(4)
        .connect_with_connector(connector)
        .await
        .map_err(|source| DialError::Grpc { address, source })?;
    Ok((channel, shown))
}

/// A free port for a node that declares any.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> io::Result<u16> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    socket.local_addr().map(|address| address.port())
}

/// `host:port`, as people write it.
#[must_use]
pub fn address(of: &PeerAddress) -> String {
    PeerAddress { key: None, ..of.clone() }.to_string()
}

async fn connect(to: &PeerAddress, address: &str, from: Source, within: Duration) -> Result<TcpStream, DialError> {
    let resolved = lookup_host((to.host.as_str(), to.port)).await;
    let resolved = resolved.map_err(|source| DialError::Resolve { address: address.to_owned(), source })?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for target in resolved {
        let socket = bind(target, from).map_err(|source| DialError::Port { port: from.port, source })?;
        match timeout(within, socket.connect(target)).await {
            Ok(Ok(stream)) => {
                let _best_effort = stream.set_nodelay(true);
                return Ok(stream);
            }
            // A connection from here to there exists already.
            Ok(Err(source)) if source.kind() == io::ErrorKind::AddrNotAvailable => {
                return Err(DialError::Port { port: from.port, source });
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Connect { address: address.to_owned(), source: last })
}

/// A socket at the declared port. The same port serves connections to several supers at once.
fn bind(target: SocketAddr, from: Source) -> io::Result<TcpSocket> {
    let (socket, any) = if target.is_ipv4() {
        (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    } else {
        (TcpSocket::new_v6()?, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    };
    socket.set_reuseaddr(true)?;
    // A connection that broke must not hold the port to this super until the network has told its end.
    socket.set_zero_linger()?;
    socket.bind((from.address.unwrap_or(any), from.port).into())?;
    Ok(socket)
}
