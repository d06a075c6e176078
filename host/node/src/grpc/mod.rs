//! What a super serves to other nodes: gRPC over TLS, behind the same gate as everything else.
//!
//! One connection carries one stream for as long as it lives. That makes every bound on connections a bound on streams,
//! and closing a stream for good means closing its connection, whether the other side reads or not.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kernel::id::NodeId;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service as _;

use crate::listen::http::http2_bounded;
use crate::listen::{CLOSE_WITHIN, Gate, accept, first_byte};
use crate::mail::Mail;
use crate::tls;

pub mod records;
pub mod rounds;
pub mod stream;

use raft::{Caller, RaftServer};
use rounds::RoundsServer;
use stream::{NodeServer, Peer};

use crate::records::keeper::KeeperServer;
use crate::server::DirectoryServer;
use records::IntakeServer;

const NODE_PATH: &str = "/pingward.v1.Node/";
const INTAKE_PATH: &str = "/pingward.v1.Intake/";
const KEEPER_PATH: &str = "/pingward.v1.Keeper/";
/// Calls of one node at once: its stream, its records, a directory.
const NODE_CALLS: u32 = 4;
/// Calls of one node at once to a validator: signatures for all batches that are handed out, and fetches.
const KEEPER_CALLS: u32 = 128;
const RAFT_PATH: &str = "/pingward.v1.Raft/";
const ROUNDS_PATH: &str = "/pingward.v1.Super/";
/// Calls of one super at once: an append stream, signs of life, a snapshot, and what is handed in.
const SUPER_CALLS: u32 = 256;
/// What one connection of a super may have on its way to us: a full append and what is behind it.
const SUPER_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that wait to be sent to one other super: what hyper has where nothing is said.
const SUPER_SEND_BYTES: usize = 400 << 10;

/// What a super offers to the others of its group.
#[derive(Clone)]
pub struct Offers {
    /// Its replica.
    pub raft: RaftServer,
    /// Its part in rounds.
    pub rounds: RoundsServer,
    /// Whether a key is one of a super.
    pub is_super: Arc<dyn Fn(&NodeId) -> bool + Send + Sync>,
    /// Fires when the replica has stopped. It is served for longer than nodes are: a lead is handed on after the last of
    /// them was let go.
    pub stop: CancellationToken,
}

/// What a node offers to nodes that are no supers.
#[derive(Clone)]
pub struct Services {
    /// A super's: followers attach.
    pub attach: Option<NodeServer>,
    /// A super's: records come in, validators have their streams.
    pub intake: Option<IntakeServer>,
    /// A validator's: signatures and sealed records.
    pub keeper: Option<KeeperServer>,
    /// A bootstrap node's: the directory.
    pub(crate) directory: Option<DirectoryServer>,
}

impl Services {
    /// A super's, over its mailbox.
    #[must_use]
    pub fn of_super(mailbox: mpsc::Sender<Mail>, intake: Option<IntakeServer>) -> Self {
        Self { attach: Some(stream::server(mailbox)), intake, keeper: None, directory: None }
    }

    /// A validator's.
    #[must_use]
    pub const fn of_validator(keeper: KeeperServer) -> Self {
        Self { attach: None, intake: None, keeper: Some(keeper), directory: None }
    }

    /// A bootstrap node's.
    pub(crate) const fn of_bootstrap(directory: DirectoryServer) -> Self {
        Self { attach: None, intake: None, keeper: None, directory: Some(directory) }
    }

    const fn calls(&self) -> u32 {
        if self.keeper.is_some() { KEEPER_CALLS } else { NODE_CALLS }
    }

    async fn call(mut self, request: Request<Incoming>, peer: &Peer) -> Result<http::Response<Body>, Infallible> {
        let path = request.uri().path();
        if path.starts_with(NODE_PATH)
            && let Some(server) = &mut self.attach
        {
            return server.call(request).await;
        }
        peer.used();
        if path.starts_with(INTAKE_PATH)
            && let Some(server) = &mut self.intake
        {
            return server.call(request).await;
        }
        if path.starts_with(INTAKE_PATH)
            && let Some(server) = &mut self.directory
        {
            return server.call(request).await;
        }
        if path.starts_with(KEEPER_PATH)
            && let Some(server) = &mut self.keeper
        {
            return server.call(request).await;
        }
        Ok(tonic::Status::unimplemented("a node of this role does not serve that").into_http())
    }
}

/// Serves nodes until `stop`. Serves supers until their own `stop`.
pub async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    tls: Arc<ServerConfig>,
    services: Services,
    offers: Option<Offers>,
    stop: CancellationToken,
) {
    let server = services;
    let acceptor = TlsAcceptor::from(tls);
    let last = offers.as_ref().map_or_else(|| stop.clone(), |offers| offers.stop.clone());
    let of = Arc::clone(&gate);
    accept(listener, gate, last, move |socket, from| {
        let (gate, acceptor) = (Arc::clone(&of), acceptor.clone());
        let (server, offers, stop) = (server.clone(), offers.clone(), stop.clone());
        async move {
            let Some((tls, node)) = handshake(&gate, &acceptor, socket).await else { return };
            match offers.filter(|offers| (offers.is_super)(&node)) {
                Some(offers) => {
                    gate.vouch(from.ip());
                    super_connection(tls, Peer::new(node, from), server, offers).await;
                }
                None if stop.is_cancelled() => {}
                None => connection(&gate, tls, node, from, server, stop).await,
            }
        }
    })
    .await;
}

/// A connection of another super: many calls at once. What is said to the service for nodes gets that one's answer.
async fn super_connection(tls: TlsStream<TcpStream>, peer: Peer, server: Services, offers: Offers) {
    let node = peer.node();
    let stop = offers.stop.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller(node));
        request.extensions_mut().insert(peer.clone());
        let (server, mut offers, peer) = (server.clone(), offers.clone(), peer.clone());
        async move {
            let path = request.uri().path();
            if path.starts_with(RAFT_PATH) {
                offers.raft.call(request).await
            } else if path.starts_with(ROUNDS_PATH) {
                offers.rounds.call(request).await
            } else {
                server.call(request, &peer).await
            }
        }
    });
    let connection = http2_bounded(SUPER_CALLS)
        .initial_stream_window_size(SUPER_WINDOW_BYTES)
        .initial_connection_window_size(SUPER_WINDOW_BYTES)
        .max_send_buf_size(SUPER_SEND_BYTES)
        .serve_connection(TokioIo::new(tls), service);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        ended = connection => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%node, %error, "a super's connection ended");
    }
}

async fn handshake(gate: &Gate, acceptor: &TlsAcceptor, socket: TcpStream) -> Option<(TlsStream<TcpStream>, NodeId)> {
    // Who says nothing takes no place from those who do.
    if !first_byte(&socket, gate.limits().first_bytes).await {
        gate.turn_away();
        return None;
    }
    let _place = gate.handshake().await?;
    match timeout(gate.limits().handshake, acceptor.accept(socket)).await {
        Ok(Ok(tls)) => match tls::peer(tls.get_ref().1) {
            Ok(node) => return Some((tls, node)),
            Err(error) => tracing::debug!(%error, "a handshake without a key"),
        },
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
    gate.turn_away();
    None
}

async fn connection(
    gate: &Gate,
    tls: TlsStream<TcpStream>,
    node: NodeId,
    from: SocketAddr,
    server: Services,
    stop: CancellationToken,
) {
    let peer = Peer::new(node, from);
    let of = peer.clone();
    let calls = server.calls();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(of.clone());
        let (server, peer) = (server.clone(), of.clone());
        async move { server.call(request, &peer).await }
    });
    let mut connection = std::pin::pin!(http2_bounded(calls).serve_connection(TokioIo::new(tls), service));
    tokio::select! {
        biased;
        () = peer.cut() => return,
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%node, %error, "a node's connection ended");
            }
            return;
        }
        () = peer.over() => {}
        () = stop.cancelled() => {}
        () = peer.idle(gate.limits().first_bytes) => {
            gate.turn_away();
            return;
        }
    }
    connection.as_mut().graceful_shutdown();
    // Who does not read its last messages is cut off.
    let _cut = timeout(CLOSE_WITHIN, connection).await;
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
