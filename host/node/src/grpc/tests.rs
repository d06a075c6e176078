//! The server side of a stream, against clients that do not behave.

use std::time::Duration;

use bytes::BufMut as _;
use kernel::id::{ProtocolVersion, RoundId, Term};
use kernel::members::Refusal;
use kernel::outcome::Told;
use kernel::round::Presence;
use kernel::standing::Standing;
use kernel::units::Points;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use wire::convert;
use wire::message::{FromFollower, Hello, Own, Pong, Role, ToFollower};
use wire::pb;

use super::testing::{Stub, patient, ping, welcome};
use crate::keys::NodeKey;
use crate::known::Known;
use crate::listen::Limits;
use crate::mail::Mail;
use crate::roles::follower::dial;
use crate::tls::Dial;
use crate::wires::Wires;

/// What a client sends: a message, or bytes as they are.
enum Said {
    Message(FromFollower),
    Bytes(Vec<u8>),
}

type Ours = wire::codec::Codec<pb::FromFollower, pb::ToFollower>;

#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Said;
    type Decode = pb::ToFollower;
    type Encoder = Self;
    type Decoder = <Ours as Codec>::Decoder;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self::Decoder {
        Ours::default().decoder()
    }
}

impl Encoder for Raw {
    type Item = Said;
    type Error = Status;
    fn encode(&mut self, item: Said, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match item {
            Said::Message(message) => {
                Ours::default().encoder().encode(convert::from_follower_pb(message).unwrap(), buffer)
            }
            Said::Bytes(bytes) => {
                buffer.put_slice(&bytes);
                Ok(())
            }
        }
    }
}

/// A node that says what the test wants.
struct Client {
    key: NodeKey,
    to: mpsc::Sender<Said>,
    from: Streaming<pb::ToFollower>,
    _channel: Channel,
}

impl Client {
    async fn open(stub: &Stub, seed: u8) -> Self {
        let key = NodeKey::from_seed(&[seed; 32]);
        let (known, wires, peer) = (Known::in_memory(), Wires::default(), stub.peer(None));
        let dialled = dial::dial(&key, &known, &wires, &peer, dial::Source::ANYWHERE, Duration::from_secs(5));
        let (channel, _) = patient(Box::pin(dialled)).await.unwrap();
        let (to, from) = open_stream(&channel).await.unwrap();
        Self { key, to, from, _channel: channel }
    }

    async fn say(&self, what: FromFollower) {
        patient(self.to.send(Said::Message(what))).await.unwrap();
    }

    async fn say_bytes(&self, bytes: Vec<u8>) {
        patient(self.to.send(Said::Bytes(bytes))).await.unwrap();
    }

    async fn hears(&mut self) -> Option<ToFollower> {
        let message = patient(self.from.message()).await.unwrap()?;
        Some(convert::to_follower(message, self.key.id()).unwrap())
    }

    /// The stream ends, well or not, and nothing more comes.
    async fn hears_the_end(&mut self) {
        if let Ok(Some(message)) = patient(self.from.message()).await {
            panic!("{message:?}");
        }
    }
}

async fn open_stream(channel: &Channel) -> Result<(mpsc::Sender<Said>, Streaming<pb::ToFollower>), Status> {
    let (to, from) = mpsc::channel(4);
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    patient(grpc.ready()).await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/pingward.v1.Node/Attach");
    let response = patient(grpc.streaming(Request::new(ReceiverStream::new(from)), path, Raw)).await?;
    Ok((to, response.into_inner()))
}

fn hello() -> FromFollower {
    FromFollower::Hello(Hello {
        cluster: "lab".into(),
        role: Role::Follower,
        name: "f-1".into(),
        version: ProtocolVersion::OURS,
        software: "0".into(),
        port: 7101,
        rest: None,
    })
}

fn pong(nonce: u64) -> FromFollower {
    FromFollower::Pong(Pong {
        round: RoundId(7),
        term: Term(2),
        nonce,
        version: ProtocolVersion::OURS,
        data: 1,
        address: String::new(),
    })
}

fn impatient() -> Limits {
    Limits { first_bytes: Duration::from_millis(100), ..Limits::GRPC }
}

#[tokio::test]
async fn a_stream_from_its_hello_to_its_end() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let mut client = Client::open(&stub, 2).await;
    client.say(hello()).await;
    let attach = stub.hello().await;
    assert_eq!((attach.node, attach.ip), (client.key.id(), stub.address.ip()));
    assert!(attach.source_port != 0 && FromFollower::Hello(attach.hello) == hello());
    // What is sent before the answer follows the welcome.
    attach.out.send(ToFollower::Ping(ping(1))).unwrap();
    attach.answer.send(Ok(welcome())).unwrap();
    assert_eq!(client.hears().await, Some(ToFollower::Welcome(welcome())));
    assert_eq!(client.hears().await, Some(ToFollower::Ping(ping(1))));
    client.say(pong(1)).await;
    assert_eq!(stub.message().await, pong(1));
    client.say(FromFollower::Goodbye).await;
    let Client { to, mut from, .. } = client;
    drop(to);
    assert_eq!(stub.message().await, FromFollower::Goodbye);
    assert_eq!(stub.detached().await, attach.stream);
    assert!(patient(from.message()).await.unwrap().is_none(), "both sides end");
    stub.ends_quietly().await;
}

#[tokio::test]
async fn a_refusal_arrives_before_the_stream_ends() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let mut client = Client::open(&stub, 2).await;
    client.say(hello()).await;
    stub.refuse(Refusal::PortTaken).await;
    assert_eq!(client.hears().await, Some(ToFollower::Refused(Refusal::PortTaken)));
    client.hears_the_end().await;

    // The same later, on a stream that was welcome; what waits before it still gets through.
    let mut client = Client::open(&stub, 2).await;
    client.say(hello()).await;
    let attached = stub.welcome().await;
    attached.out.send(ToFollower::Ping(ping(1))).unwrap();
    attached.out.refuse(Refusal::WrongRole);
    assert_eq!(stub.detached().await, attached.stream);
    client.hears().await.unwrap();
    assert_eq!(client.hears().await, Some(ToFollower::Ping(ping(1))));
    assert_eq!(client.hears().await, Some(ToFollower::Refused(Refusal::WrongRole)));
    client.hears_the_end().await;
    stub.ends_quietly().await;
}

#[tokio::test]
async fn the_super_ends_a_stream_by_dropping_its_way_back() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let (mut old, mut new) = (Client::open(&stub, 2).await, Client::open(&stub, 2).await);
    old.say(hello()).await;
    let first = stub.welcome().await;
    old.hears().await.unwrap();
    new.say(hello()).await;
    let second = stub.welcome().await;
    assert!(first.node == second.node && first.stream != second.stream);
    drop(first.out);
    old.hears_the_end().await;
    assert_eq!(stub.detached().await, first.stream);
    new.hears().await.unwrap();
    new.say(pong(2)).await;
    assert_eq!(stub.message().await, pong(2), "the newer one goes on");
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_a_fact_and_the_stream_goes_on() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let client = Client::open(&stub, 2).await;
    client.say(hello()).await;
    let _attached = stub.welcome().await;
    for bytes in [vec![0xff; 40], vec![], vec![0x12, 0x7f, 1], vec![0xf8, 0x07, 1]] {
        client.say_bytes(bytes).await;
        assert!(matches!(stub.message().await, FromFollower::Malformed(_)));
    }
    client.say(pong(1)).await;
    assert_eq!(stub.message().await, pong(1));
}

#[tokio::test]
async fn who_does_not_begin_with_a_hello_is_told_so() {
    let stub = Stub::start(1, Limits::GRPC).await;
    for first in [Said::Bytes(vec![0xff; 9]), Said::Message(pong(1))] {
        let mut client = Client::open(&stub, 2).await;
        client.to.send(first).await.unwrap();
        assert!(matches!(client.hears().await, Some(ToFollower::Refused(Refusal::Malformed { .. }))));
        client.hears_the_end().await;
    }
    stub.ends_quietly().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_its_own_stream_only() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let (mut long, other) = (Client::open(&stub, 2).await, Client::open(&stub, 3).await);
    long.say(hello()).await;
    let of_long = stub.welcome().await;
    other.say(hello()).await;
    let _of_other = stub.welcome().await;
    long.hears().await.unwrap();
    long.say_bytes(vec![0; 1 << 20]).await;
    assert_eq!(stub.detached().await, of_long.stream);
    long.hears_the_end().await;
    other.say(pong(1)).await;
    assert_eq!(stub.message().await, pong(1));
}

#[tokio::test]
async fn a_node_that_does_not_read_loses_its_stream_and_its_connection() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let client = Client::open(&stub, 2).await;
    client.say(hello()).await;
    let attached = stub.welcome().await;
    let told = Told {
        node: client.key.id(),
        round: RoundId(1),
        presence: Presence::Up,
        standing: Standing::Good,
        reason: "r".repeat(200),
        earned: Points(0),
        wallet: Points(0),
        until: None,
    };
    let line = ToFollower::Own(Own { told, until_ms: None, warning: None });
    while attached.out.send(line.clone()).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(stub.detached().await, attached.stream);
    assert!(attached.out.send(line).is_err());
    // It is cut off although it still holds its end and reads nothing.
    patient(async {
        while stub.gate.inside() != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(client);
}

#[tokio::test]
async fn a_connection_carries_one_stream() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let client = Client::open(&stub, 2).await;
    client.say(hello()).await;
    let attached = stub.welcome().await;
    let second = tokio::spawn({
        let channel = client._channel.clone();
        async move { open_stream(&channel).await.is_err() }
    });
    client.say(pong(1)).await;
    assert_eq!(stub.message().await, pong(1));
    drop(attached.out);
    assert_eq!(stub.detached().await, attached.stream);
    assert!(patient(second).await.unwrap(), "a second one does not come after the first either");
    stub.ends_quietly().await;
}

#[tokio::test]
async fn a_flood_of_one_node_waits_in_its_own_window() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let (loud, calm) = (Client::open(&stub, 2).await, Client::open(&stub, 3).await);
    loud.say(hello()).await;
    let _of_loud = stub.welcome().await;
    calm.say(hello()).await;
    let of_calm = stub.welcome().await;
    let flood = tokio::spawn({
        let to = loud.to.clone();
        async move { while to.send(Said::Message(pong(9))).await.is_ok() {} }
    });
    calm.say(pong(1)).await;
    // At most what fits into the mailbox, and one message a stream, comes before it.
    let before = async {
        let mut before = 0;
        loop {
            if matches!(stub.mail().await, Mail::Message { node, .. } if node == of_calm.node) {
                return before;
            }
            before += 1;
        }
    };
    let before = patient(before).await;
    flood.abort();
    assert!(before < 10_000, "{before}");
}

#[tokio::test]
async fn who_shows_no_certificate_or_speaks_no_tls_gets_nowhere() {
    let stub = Stub::start(1, Limits::GRPC).await;
    let mut plain = TcpStream::connect(stub.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let _whatever = patient(plain.read_to_end(&mut Vec::new())).await;

    let mut dial = Dial::new(&stub.key, None).unwrap();
    dial.config = crate::tls::anonymous();
    let socket = TcpStream::connect(stub.address).await.unwrap();
    // TLS 1.3 reports it late: the client believes in its handshake, and its first read fails.
    if let Ok(mut stream) = patient(TlsConnector::from(dial.config).connect(dial.name, socket)).await {
        assert!(patient(stream.read_to_end(&mut Vec::new())).await.is_err());
    }
    assert_eq!(stub.turned_away.get(), 2);
    stub.ends_quietly().await;
}

#[tokio::test]
async fn silent_connections_are_closed_before_and_after_the_handshake() {
    let stub = Stub::start(1, impatient()).await;
    let mut silent = TcpStream::connect(stub.address).await.unwrap();
    assert_eq!(patient(silent.read(&mut [0])).await.unwrap(), 0);

    let dial = Dial::new(&NodeKey::from_seed(&[2; 32]), None).unwrap();
    let socket = TcpStream::connect(stub.address).await.unwrap();
    let mut stream = patient(TlsConnector::from(dial.config).connect(dial.name, socket)).await.unwrap();
    let _settings_then_the_end = patient(stream.read_to_end(&mut Vec::new())).await;
    assert_eq!((stub.gate.inside(), stub.turned_away.get()), (0, 2));
    stub.ends_quietly().await;
}

#[tokio::test]
async fn stopping_lets_the_super_end_its_streams() {
    let mut stub = Stub::start(1, Limits::GRPC).await;
    let mut client = Client::open(&stub, 2).await;
    client.say(hello()).await;
    let attached = stub.welcome().await;
    client.hears().await.unwrap();
    stub.stop.cancel();
    attached.out.send(ToFollower::Ping(ping(1))).unwrap();
    drop(attached.out);
    assert_eq!(client.hears().await, Some(ToFollower::Ping(ping(1))));
    client.hears_the_end().await;
    assert_eq!(stub.detached().await, attached.stream);
    stub.ends_quietly().await;
}
