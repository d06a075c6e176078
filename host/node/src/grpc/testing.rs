//! A super that is only its mailbox: tests read its mail and answer by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kernel::id::{ClusterId, Genesis, NodeId, RoundId, Term};
use kernel::members::Refusal;
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wire::message::{FromFollower, Ping, Welcome};

use crate::config::PeerAddress;
use crate::keys::NodeKey;
use crate::listen::{Gate, Limits};
use crate::mail::{Attach, Mail, Out, StreamId};
use crate::tls;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Stub {
    pub address: SocketAddr,
    pub key: NodeKey,
    pub gate: Arc<Gate>,
    pub turned_away: Counter,
    pub stop: CancellationToken,
    pub serving: JoinHandle<()>,
    mail: mpsc::Receiver<Mail>,
}

impl Stub {
    pub async fn start(seed: u8, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, seed, limits)
    }

    pub fn on(listener: TcpListener, seed: u8, limits: Limits) -> Self {
        let address = listener.local_addr().unwrap();
        let key = NodeKey::from_seed(&[seed; 32]);
        let turned_away = Counter::default();
        let gate = Gate::new(limits, turned_away.clone());
        let (mailbox, mail) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let tls = tls::server(&key).unwrap();
        let serving = tokio::spawn(super::serve(
            listener,
            Arc::clone(&gate),
            tls,
            super::Services::of_super(mailbox, None),
            None,
            stop.clone(),
        ));
        Self { address, key, gate, turned_away, stop, serving, mail }
    }

    /// As a follower's config names it.
    pub fn peer(&self, key: Option<NodeId>) -> PeerAddress {
        PeerAddress { key, host: self.address.ip().to_string(), port: self.address.port() }
    }

    pub async fn mail(&mut self) -> Mail {
        patient(self.mail.recv()).await.unwrap()
    }

    /// The next mail must be a hello.
    pub async fn hello(&mut self) -> Attach {
        let Mail::Attach(attach) = self.mail().await else { panic!("no hello") };
        *attach
    }

    /// The next mail must be a hello, which is welcomed.
    pub async fn welcome(&mut self) -> Attached {
        let attach = self.hello().await;
        attach.answer.send(Ok(welcome())).unwrap();
        Attached { stream: attach.stream, node: attach.node, out: attach.out }
    }

    /// The next mail must be a hello, which is refused, and then the end of its stream.
    pub async fn refuse(&mut self, refusal: Refusal) {
        let attach = self.hello().await;
        let stream = attach.stream;
        attach.answer.send(Err(refusal)).unwrap();
        drop(attach.out);
        assert_eq!(self.detached().await, stream);
    }

    /// The next mail must be a message.
    pub async fn message(&mut self) -> FromFollower {
        let Mail::Message { what, .. } = self.mail().await else { panic!("no message") };
        what
    }

    /// The next mail must be the end of a stream.
    pub async fn detached(&mut self) -> StreamId {
        let Mail::Detached { stream, .. } = self.mail().await else { panic!("not the end of a stream") };
        stream
    }

    /// Stops and gives whether there was no more mail.
    pub async fn ends_quietly(mut self) {
        self.stop.cancel();
        patient(self.serving).await.unwrap();
        if let Some(mail) = patient(self.mail.recv()).await {
            panic!("{mail:?}");
        }
    }
}

pub(crate) struct Attached {
    pub stream: StreamId,
    pub node: NodeId,
    pub out: Out,
}

pub(crate) async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap()
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        cluster: ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) },
        leader: None,
        interval_ms: 1_000,
        timeout_ms: 250,
        settings_version: 1,
        reconnect_spread_ms: 1,
        backoff_cap_ms: 500,
        supers: Vec::new(),
        observers: 0,
        set_version: 0,
        policies: None,
    }
}

pub(crate) fn ping(nonce: u64) -> Ping {
    Ping { round: RoundId(7), term: Term(2), nonce }
}
