//! What is spoken over a connection that came through the gate: HTTP/1, and gRPC in the clear, which is HTTP/2.
//!
//! Whoever asks and does not read, or holds a connection and does not ask, loses it: places are few.

use std::convert::Infallible;
use std::future::Future as _;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{CLOSE_WITHIN, Gate, Limits, accept};

/// Of one HTTP request, before its body.
const HEADERS: usize = 64;
/// Bytes of one HTTP request's head.
const HEAD_BYTES: usize = 16 << 10;
/// How HTTP/2 begins, and no request of HTTP/1.
const HTTP2_BEGINS: &[u8; 3] = b"PRI";
/// Calls of one reader's HTTP/2 connection at once.
const CALLS: u32 = 16;
/// After so long without a byte the other side of an HTTP/2 connection is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// For its answer.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// What one connection may have on its way to us: a flood waits in its sender's memory.
const WINDOW_BYTES: u32 = 64 << 10;
/// Bytes that wait to be sent to one other side.
const SEND_BYTES: usize = 16 << 10;
/// Headers of a call: ours have some 200 bytes.
const HEADER_BYTES: u32 = 4 << 10;

/// How many calls one connection of HTTP/2 has, and what it may make us hold.
pub fn http2_bounded(calls: u32) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .max_concurrent_streams(calls)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES)
        .max_header_list_size(HEADER_BYTES);
    builder
}

/// Serves HTTP/1 on a listener until `stop`, and gRPC to those who begin to speak HTTP/2 without asking. Handlers find the
/// other side's address as [`ConnectInfo`].
pub async fn serve_http(listener: TcpListener, gate: Arc<Gate>, router: Router, grpc: Router, stop: CancellationToken) {
    let (of, stopping) = (Arc::clone(&gate), stop.clone());
    accept(listener, gate, stop, move |mut socket, from| {
        let (gate, router, grpc, stop) = (Arc::clone(&of), router.clone(), grpc.clone(), stopping.clone());
        async move {
            let mut begins = [0; HTTP2_BEGINS.len()];
            if !matches!(timeout(gate.limits().first_bytes, socket.read_exact(&mut begins)).await, Ok(Ok(_))) {
                gate.turn_away();
                return;
            }
            let (reads, writes) = socket.into_split();
            let io = tokio::io::join(Cursor::new(begins).chain(reads), writes);
            if begins == *HTTP2_BEGINS {
                serve_http2_connection(io, from, grpc, &gate, stop).await;
            } else {
                serve_http_connection(io, Some(from), router, &gate.limits(), stop).await;
            }
        }
    })
    .await;
}

/// Serves HTTP/2 on one connection until it ends or has no call under way for too long; after `stop` only what is.
async fn serve_http2_connection<I>(io: I, from: SocketAddr, router: Router, gate: &Gate, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (calls, under_way) = watch::channel(0);
    let again = under_way.clone();
    let cut = CancellationToken::new();
    let cutting = Cut(cut.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        request.extensions_mut().insert(cutting.clone());
        let (call, answer) = (Call::begins(&calls), router.clone().call(request));
        async move {
            let answer = answer.await?;
            // It is under way until the connection has its last byte.
            let held = move |error| {
                let _until_then = &call;
                error
            };
            Ok::<_, Infallible>(answer.map(|body| Body::new(body.map_err(held))))
        }
    });
    let io = TokioIo::new(Taken::within(gate.limits().write, io));
    let mut connection = pin!(http2_bounded(CALLS).serve_connection(io, service));
    let is_idle = tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::trace!(%error, "an HTTP/2 connection ended");
            }
            return;
        }
        () = cut.cancelled() => {
            gate.turn_away();
            return;
        }
        () = stop.cancelled() => false,
        called = idle(under_way, gate.limits().first_bytes) => {
            if !called {
                gate.turn_away();
            }
            true
        }
    };
    connection.as_mut().graceful_shutdown();
    // Who does not read its last messages is cut off, but not in a call that began just now.
    let last = async {
        if is_idle {
            tokio::select! {
                _ = idle(again, CLOSE_WITHIN) => return,
                () = stop.cancelled() => {}
            }
        }
        sleep(CLOSE_WITHIN).await;
    };
    tokio::select! {
        _ = connection => {}
        () = cut.cancelled() => gate.turn_away(),
        () = last => {}
    }
}

/// Cuts the connection of HTTP/2 that a request came over, for who finds that its other side takes nothing: what waits for it
/// waits in the connection, where no answer can end it.
#[derive(Clone, Debug)]
pub struct Cut(CancellationToken);

impl Cut {
    /// At once, with all that is under way on it.
    pub fn now(&self) {
        self.0.cancel();
    }
}

/// A call that is under way.
struct Call(watch::Sender<usize>);

impl Call {
    fn begins(calls: &watch::Sender<usize>) -> Self {
        calls.send_modify(|count| *count += 1);
        Self(calls.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Waits until no call was under way for so long; whether there ever was one.
async fn idle(mut calls: watch::Receiver<usize>, within: Duration) -> bool {
    let mut called = false;
    loop {
        let no_call = timeout(within, calls.wait_for(|count| *count > 0)).await.is_err();
        if no_call || calls.wait_for(|count| *count == 0).await.is_err() {
            return called;
        }
        called = true;
    }
}

/// Serves HTTP/1 on one connection until it ends; after `stop` only what is under way. `from`: the other side's address,
/// where it has one.
pub async fn serve_http_connection<I>(
    io: I,
    from: Option<SocketAddr>,
    router: Router,
    limits: &Limits,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(from) = from {
            request.extensions_mut().insert(ConnectInfo(from));
        }
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.first_bytes)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Taken::within(limits.write, io)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "an HTTP connection ended");
    }
}

/// A connection that fails when the other side takes nothing of what waits for it. Without that, whoever asks and does
/// not read keeps its place for ever, and a few addresses take all of them.
#[derive(Debug)]
struct Taken<I> {
    io: I,
    within: Duration,
    /// Since something waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<I> Taken<I> {
    const fn within(within: Duration, io: I) -> Self {
        Self { io, within, deadline: None }
    }

    fn in_time<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.deadline = None;
            return wrote;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.within)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Taken<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Taken<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, buf);
        self.in_time(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.in_time(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    // A socket has nothing to flush, so that says nothing about the other side.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
