//! The gate under connections that do not behave. Deadlines are short, and every wait is for something that happens.

use std::net::Ipv4Addr;

use ::http::Request;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::http::serve_http;
use super::*;

const SHORT: Limits = Limits { first_bytes: Duration::from_millis(100), ..Limits::HTTP };
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

struct Server {
    address: SocketAddr,
    gate: Arc<Gate>,
    turned_away: Counter,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

async fn serve(limits: Limits, router: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (turned_away, stop) = (Counter::default(), CancellationToken::new());
    let gate = Gate::new(limits, turned_away.clone());
    let serving = tokio::spawn(serve_http(listener, Arc::clone(&gate), router.clone(), router, stop.clone()));
    Server { address, gate, turned_away, stop, serving }
}

async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap()
}

fn hello() -> Router {
    Router::new().route("/", get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.ip().to_string() }))
}

/// What comes until the server closes.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _reset_or_end = patient(socket.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn connections_that_never_finish_a_request_are_closed() {
    let server = serve(SHORT, hello()).await;
    for begun in [&b""[..], b"G", b"GET / HTTP/1.1\r\nhost: a\r\n", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(begun).await.unwrap();
        let said = rest(&mut socket).await;
        assert!(!said.contains("200"), "{begun:?}: {said}");
    }
    // One that asked and then says nothing more.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(REQUEST).await.unwrap();
    let said = rest(&mut socket).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("127.0.0.1"), "{said}");
    assert_eq!(server.gate.inside(), 0);
}

type NoBody = http_body_util::Empty<bytes::Bytes>;

fn no_body() -> Request<NoBody> {
    Request::get("http://a/").body(NoBody::new()).unwrap()
}

/// A connection of HTTP/2, and the task that ends with it.
async fn http2(server: &Server) -> (hyper::client::conn::http2::SendRequest<NoBody>, JoinHandle<()>) {
    let socket = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (ask, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    let connection = tokio::spawn(async move {
        let _however_it_ends = connection.await;
    });
    (ask, connection)
}

#[tokio::test]
async fn a_connection_of_http2_lives_as_long_as_a_call_is_under_way() {
    let (more, pieces) = tokio::sync::mpsc::channel(1);
    let pieces = Arc::new(Mutex::new(Some(pieces)));
    let answer = get(move || {
        let pieces = pieces.lock().unwrap().take().unwrap();
        async move { axum::body::Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(pieces)) }
    });
    let limits = Limits { first_bytes: Duration::from_millis(500), ..Limits::HTTP };
    let server = serve(limits, Router::new().route("/", answer)).await;
    let (mut ask, connection) = http2(&server).await;
    let mut answer = patient(ask.send_request(no_body())).await.unwrap().into_body();
    // Longer than a connection without a call may live.
    for _ in 0..2 {
        sleep(limits.first_bytes).await;
        more.send(Ok::<_, std::convert::Infallible>("piece")).await.unwrap();
        assert_eq!(patient(answer.frame()).await.unwrap().unwrap().into_data().unwrap(), "piece");
    }
    assert_eq!((server.gate.inside(), server.turned_away.get()), (1, 0));
    drop(more);
    assert!(patient(answer.collect()).await.unwrap().to_bytes().is_empty());
    // Now nothing is asked any more: it ends, and that is nobody's fault.
    patient(connection).await.unwrap();
    assert_eq!(server.turned_away.get(), 0);
}

#[tokio::test]
async fn a_connection_of_http2_can_be_cut_with_a_call_under_way() {
    let answer = get(async |axum::Extension(cut): axum::Extension<http::Cut>| {
        cut.now();
        std::future::pending::<()>().await;
    });
    let server = serve(Limits::HTTP, Router::new().route("/", answer)).await;
    let (mut ask, _connection) = http2(&server).await;
    assert!(patient(ask.send_request(no_body())).await.is_err());
    assert_eq!((server.gate.inside(), server.turned_away.get()), (0, 1));
}

/// An answer that has no end.
async fn endless() -> axum::body::Body {
    let pieces = std::iter::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![b'x'; 64 << 10]));
    axum::body::Body::from_stream(tokio_stream::iter(pieces))
}

#[tokio::test]
async fn who_asks_and_does_not_read_loses_its_connection() {
    let limits = Limits { write: Duration::from_millis(500), ..Limits::HTTP };
    let server = serve(limits, Router::new().route("/", get(endless))).await;
    let mut reads = TcpStream::connect(server.address).await.unwrap();
    reads.write_all(REQUEST).await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(REQUEST).await.unwrap();
    let mut piece = vec![0; 64 << 10];
    let (mut both, mut one) = (false, false);
    patient(async {
        while !one {
            // Whoever reads, however long the answer is, stays.
            assert!(reads.read(&mut piece).await.unwrap() > 0);
            both |= server.gate.inside() == 2;
            one = both && server.gate.inside() == 1;
        }
    })
    .await;
    assert!(reads.read(&mut piece).await.unwrap() > 0);
}

#[tokio::test]
async fn beyond_the_cap_connections_are_closed_at_once_and_counted() {
    let server = serve(Limits { connections: 2, ..Limits::HTTP }, hello()).await;
    let held = [TcpStream::connect(server.address).await.unwrap(), TcpStream::connect(server.address).await.unwrap()];
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(rest(&mut third).await, "");
    assert_eq!((server.gate.inside(), server.gate.overloaded(), server.turned_away.get()), (2, 1, 1));
    drop(held);
    patient(async {
        loop {
            let mut next = TcpStream::connect(server.address).await.unwrap();
            let asked = next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            if asked.is_ok() && rest(&mut next).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    })
    .await;
}

#[test]
fn one_place_cannot_take_all_the_room() {
    let gate = Gate::new(Limits { connections: 100, per_address: 2, ..Limits::HTTP }, Counter::default());
    let mut inside = Vec::new();
    for (from, enters) in [
        ("192.0.2.1", true),
        ("192.0.2.1", true),
        ("192.0.2.1", false),
        ("::ffff:192.0.2.1", false),
        ("192.0.2.2", true),
        ("2001:db8::1", true),
        ("2001:db8::2", true),
        ("2001:db8::3", false),
        ("2001:db8:0:1::3", true),
        ("127.0.0.1", true),
        ("127.0.0.1", true),
        ("127.0.0.1", true),
        ("::1", true),
    ] {
        let pass = gate.enter(from.parse().unwrap());
        assert_eq!(pass.is_some(), enters, "{from}");
        inside.extend(pass);
    }
    assert_eq!((gate.inside(), gate.overloaded(), gate.turned_away.get()), (10, 0, 3));
    inside.clear();
    assert_eq!(gate.inside(), 0);
    assert!(gate.enter("192.0.2.1".parse().unwrap()).is_some());
    assert_eq!(gate.inside.lock().unwrap().of.len(), 0, "who is gone leaves nothing behind");
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = Router::new().route("/", {
        let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
        get(|| async move {
            asked.notify_one();
            go.notified().await;
            "done"
        })
    });
    let server = serve(Limits::HTTP, router).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(REQUEST).await.unwrap();
    patient(asked.notified()).await;
    server.stop.cancel();
    go.notify_one();
    assert!(rest(&mut busy).await.ends_with("done"));
    patient(server.serving).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn dropping_the_loop_ends_its_connections() {
    let server = serve(Limits::HTTP, hello()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(REQUEST).await.unwrap();
    patient(socket.read(&mut [0])).await.unwrap();
    server.serving.abort();
    rest(&mut socket).await;
}

#[tokio::test]
async fn a_handshake_that_finds_no_place_is_overload() {
    let limits = Limits { handshakes: 1, handshake: Duration::from_millis(50), ..Limits::GRPC };
    let gate = Gate::new(limits, Counter::default());
    let place = gate.handshake().await.unwrap();
    assert!(gate.handshake().await.is_none());
    assert_eq!(gate.overloaded(), 1);
    drop(place);
    assert!(gate.handshake().await.is_some());
}

#[test]
fn the_cap_stays_below_the_descriptors() {
    assert_eq!(Limits::GRPC.within(1_024, 100).connections, 1_024 - 256 - 100);
    assert_eq!(Limits::GRPC.within(u64::MAX, 100).connections, Limits::GRPC.connections);
    assert_eq!(Limits::GRPC.within(10, 100).connections, 16, "enough to see what is wrong");
    assert!(descriptors() > 0);
    assert!(is_exhausted(&io::Error::from_raw_os_error(24)) && !is_exhausted(&io::ErrorKind::ConnectionAborted.into()));
    assert_eq!(network(IpAddr::V4(Ipv4Addr::LOCALHOST)), IpAddr::V4(Ipv4Addr::LOCALHOST));
}
