//! A small HTTP client for the REST API: over TCP or the admin socket, with a deadline on everything and a bound on
//! every answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kernel::command::Amount;
use kernel::envelope::{CLAIM_TYPE, TRANSFER_TYPE};
use kernel::id::{ClusterId, NodeId};
use kernel::limits::REASON_BYTES;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::keys::NodeKey;

/// Where the API is when nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Long enough for a lost first packet.
const CONNECT: Duration = Duration::from_secs(5);
/// Long enough for a claim that waits for a slow disk.
const ANSWER: Duration = Duration::from_secs(30);
/// Long enough for compiling a component, or for a hundred rounds of a large cluster.
const UPLOADED: Duration = Duration::from_secs(90);
/// A page of 1,000 nodes is below half a MiB.
const ANSWER_BYTES: usize = 16 << 20;
/// Long enough for clocks that differ, short enough that a lost claim is not paid tomorrow.
const CLAIM_MS: u64 = 10 * 60 * 1_000;

/// A node's API.
#[derive(Clone, Debug)]
pub struct Api {
    target: Target,
    token: Option<String>,
    read: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Tcp { host: String, port: u16, prefix: String },
    Unix(PathBuf),
}

impl Api {
    /// Over TCP. `http://` may be left out.
    pub fn url(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("--api {url}: {why}"), format!("write it as {DEFAULT_URL}"));
        let full = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|_| wrong("this is no URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("nodes speak http; put TLS in front of them for others only")),
            Some(_) | None => return Err(wrong("only http:// is spoken")),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("the host is missing"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let prefix = uri.path().trim_end_matches('/').to_string();
        Ok(Self { target: Target::Tcp { host, port: uri.port_u16().unwrap_or(80), prefix }, token: None, read: None })
    }

    /// Over the admin socket.
    pub fn socket(path: &Path) -> Self {
        Self { target: Target::Unix(path.into()), token: None, read: None }
    }

    /// With the admin token.
    pub fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Reads at that level; at the node's own default where none is named.
    pub fn reading(self, read: Option<&'static str>) -> Self {
        Self { read, ..self }
    }

    /// Where it is, for people.
    pub fn shown(&self) -> String {
        match &self.target {
            Target::Tcp { host, port, prefix } if host.contains(':') => format!("http://[{host}]:{port}{prefix}"),
            Target::Tcp { host, port, prefix } => format!("http://{host}:{port}{prefix}"),
            Target::Unix(path) => path.display().to_string(),
        }
    }

    fn place(&self, method: &Method, route: &str) -> String {
        match &self.target {
            Target::Tcp { .. } => format!("{method} {}{route}", self.shown()),
            Target::Unix(path) => format!("{method} {route} over {}", path.display()),
        }
    }

    /// Reads a route.
    pub async fn get(&self, route: &str) -> Result<Value, Failure> {
        let level = self.read.map(|read| format!("{route}{}read={read}", if route.contains('?') { '&' } else { '?' }));
        self.request(Method::GET, level.as_deref().unwrap_or(route), None).await
    }

    /// Sends a body to a route.
    pub async fn send(&self, method: Method, route: &str, body: &Value) -> Result<Value, Failure> {
        self.request(method, route, Some(body)).await
    }

    /// Sends a form of files to a route. `parts` are the name of a part and its bytes.
    pub async fn upload(&self, route: &str, parts: &[(&str, &[u8])]) -> Result<Value, Failure> {
        let sent = form(parts);
        self.exchanged(Method::POST, route, Some(sent), UPLOADED).await
    }

    /// Sends bytes to a route.
    pub async fn send_bytes(&self, route: &str, bytes: Vec<u8>) -> Result<Value, Failure> {
        let sent = Sent { kind: "application/octet-stream".into(), bytes: bytes.into() };
        self.exchanged(Method::POST, route, Some(sent), UPLOADED).await
    }

    async fn request(&self, method: Method, route: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.exchanged(method, route, body.map(Sent::json), ANSWER).await
    }

    async fn exchanged(
        &self,
        method: Method,
        route: &str,
        body: Option<Sent>,
        within: Duration,
    ) -> Result<Value, Failure> {
        let place = self.place(&method, route);
        let asked = async {
            let response = self.open(method, route, body, "application/json").await?;
            let status = response.status();
            let bytes = collect(response).await?;
            answer(status.as_u16(), &bytes)
        };
        match timeout(within, asked).await {
            Ok(answer) => answer.map_err(|failure| failure.at(place)),
            Err(_) => Err(Failure::new(
                format!("no answer within {} s", within.as_secs()),
                "the node is overloaded or stopped: look at its log; what was sent may still be done",
            )
            .at(place)),
        }
    }

    /// Opens a stream of server-sent events. The answer is given when it has begun.
    pub async fn stream(&self, route: &str) -> Result<Incoming, Failure> {
        let place = self.place(&Method::GET, route);
        let opened = timeout(ANSWER, async {
            let response = self.open(Method::GET, route, None, "text/event-stream").await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response.into_body());
            }
            let bytes = collect(response).await?;
            Err(answer(status.as_u16(), &bytes).err().unwrap_or_else(|| Failure::plain(format!("answered {status}"))))
        });
        match opened.await {
            Ok(opened) => opened.map_err(|failure| failure.at(place)),
            Err(_) => Err(Failure::new("no answer", "the node is overloaded or stopped: look at its log").at(place)),
        }
    }

    /// Reads a route whose answer is bytes, which are handed over as they come. Gives how many.
    pub async fn download(
        &self,
        route: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let place = self.place(&Method::GET, route);
        let late = |_| Failure::new("no more bytes came", "the node is overloaded or stopped: look at its log");
        let whole = async {
            let response = timeout(ANSWER, self.open(Method::GET, route, None, "application/octet-stream"));
            let response = response.await.map_err(late)??;
            let status = response.status();
            if !status.is_success() {
                let bytes = timeout(ANSWER, collect(response)).await.map_err(late)??;
                let failure = answer(status.as_u16(), &bytes).err();
                return Err(failure.unwrap_or_else(|| Failure::plain(format!("answered {status}"))));
            }
            let (mut body, mut bytes) = (response.into_body(), 0);
            while let Some(frame) = timeout(ANSWER, body.frame()).await.map_err(late)? {
                let frame = frame.map_err(|error| {
                    Failure::new(format!("the answer broke off: {error}"), "try again; the node's log may say more")
                })?;
                if let Some(piece) = frame.data_ref() {
                    take(piece)?;
                    bytes += piece.len() as u64;
                }
            }
            Ok(bytes)
        };
        whole.await.map_err(|failure: Failure| if failure.place.is_some() { failure } else { failure.at(place) })
    }

    async fn open(
        &self,
        method: Method,
        route: &str,
        body: Option<Sent>,
        accept: &str,
    ) -> Result<Response<Incoming>, Failure> {
        let (host, path) = match &self.target {
            Target::Tcp { prefix, .. } => {
                let shown = self.shown();
                let host = shown.trim_start_matches("http://").trim_end_matches(prefix.as_str());
                (host.to_string(), format!("{prefix}{route}"))
            }
            Target::Unix(_) => ("localhost".into(), route.to_string()),
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host).header(ACCEPT, accept);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, body.kind);
                body.bytes
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes)).map_err(|error| {
            Failure::usage(format!("this cannot be asked: {error}"), "check the name and the token")
        })?;
        let unreachable = |error: &std::io::Error| self.unreachable(error);
        let late =
            |_| std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT.as_secs()));
        match &self.target {
            Target::Tcp { host, port, .. } => {
                let connected = timeout(CONNECT, TcpStream::connect((host.as_str(), *port))).await.map_err(late);
                let stream = connected.and_then(|connected| connected).map_err(|error| unreachable(&error))?;
                // Answers to small requests must not wait for more.
                let _ = stream.set_nodelay(true);
                exchange(stream, request).await
            }
            Target::Unix(path) => {
                let connected = timeout(CONNECT, UnixStream::connect(path)).await.map_err(late);
                let stream = connected.and_then(|connected| connected).map_err(|error| unreachable(&error))?;
                exchange(stream, request).await
            }
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let hint = match &self.target {
            Target::Tcp { .. } => {
                "start a node there (`pingward run --config FILE`, or `pingward demo`), or name another with --api URL"
            }
            Target::Unix(_) => {
                "is the node of this config running, and may you read its data_dir? Over TCP, use --api URL with --token-file FILE"
            }
        };
        Failure::new(format!("cannot reach {}: {error}", self.shown()), hint)
    }
}

/// Claims a node's earned points, signed with its key. The default sequence is the time in ms, which rises by itself.
pub async fn claim(
    api: &Api,
    key: &NodeKey,
    amount: Amount,
    to: Option<NodeId>,
    sequence: Option<u64>,
) -> Result<Value, Failure> {
    let status = api.get("/v1/status").await?;
    let cluster = status.get("cluster").and_then(Value::as_str).and_then(|cluster| cluster.parse::<ClusterId>().ok());
    let cluster = cluster.ok_or_else(|| {
        Failure::new(
            "the node does not know its cluster yet",
            "wait until it is connected, or ask a super with --api URL",
        )
    })?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let payload = claim_payload(&cluster, sequence.unwrap_or(now_ms), now_ms.saturating_add(CLAIM_MS), amount, to);
    let envelope = key.envelope(CLAIM_TYPE, payload.as_bytes());
    let body = serde_json::to_value(&envelope).map_err(|error| Failure::plain(error.to_string()))?;
    api.send(Method::POST, "/v1/claims", &body).await
}

/// Moves points between wallets, signed with the key of the one that pays. The default sequence is the time in ms.
pub async fn transfer(
    api: &Api,
    key: &NodeKey,
    amount: u64,
    to: NodeId,
    sequence: Option<u64>,
) -> Result<Value, Failure> {
    let status = api.get("/v1/status").await?;
    let Some(cluster) = status.get("cluster").and_then(Value::as_str) else {
        return Err(Failure::new("the node does not know its cluster yet", "ask a super with --api URL"));
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let payload = json!({
        "cluster": cluster, "sequence": sequence.unwrap_or(now_ms), "expires_ms": now_ms.saturating_add(CLAIM_MS),
        "to": to.to_string(), "amount": amount,
    });
    let envelope = key.envelope(TRANSFER_TYPE, payload.to_string().as_bytes());
    let body = serde_json::to_value(&envelope).map_err(|error| Failure::plain(error.to_string()))?;
    api.send(Method::POST, "/v1/transfers", &body).await
}

fn claim_payload(cluster: &ClusterId, sequence: u64, expires_ms: u64, amount: Amount, to: Option<NodeId>) -> String {
    let amount = match amount {
        Amount::All => Value::from("all"),
        Amount::Exactly(points) => points.into(),
    };
    let mut payload = json!({
        "cluster": cluster.to_string(), "sequence": sequence, "expires_ms": expires_ms, "amount": amount,
    });
    if let (Some(to), Some(payload)) = (to, payload.as_object_mut()) {
        payload.insert("to".into(), to.to_string().into());
    }
    payload.to_string()
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| {
        Failure::new(
            format!("this is not the API of a node: {error}"),
            "check the address: the API is the node's `listen.rest`",
        )
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer's last byte or with this process.
    drop(tokio::spawn(connection));
    sender.send_request(request).await.map_err(broken)
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let collected = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::new(format!("the answer is longer than {ANSWER_BYTES} bytes"), "ask for less with --limit N")
        } else {
            Failure::new(format!("the answer broke off: {error}"), "try again; the node's log may say more")
        }
    })
}

/// A body that is sent.
struct Sent {
    kind: String,
    bytes: Bytes,
}

impl Sent {
    fn json(body: &Value) -> Self {
        Self { kind: "application/json".into(), bytes: Bytes::from(body.to_string()) }
    }
}

/// A form of files (RFC 7578). The line between the parts must be in none of them.
fn form(parts: &[(&str, &[u8])]) -> Sent {
    let mut line = String::from("pingward-part");
    while parts.iter().any(|(_, bytes)| bytes.windows(line.len()).any(|window| window == line.as_bytes())) {
        line.push('-');
    }
    let mut bytes = Vec::new();
    for (name, part) in parts {
        let head = format!(
            "--{line}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{line}--\r\n").as_bytes());
    Sent { kind: format!("multipart/form-data; boundary={line}"), bytes: bytes.into() }
}

/// A success's body, or the failure that an RFC 9457 problem tells.
fn answer(status: u16, bytes: &[u8]) -> Result<Value, Failure> {
    let success = (200..300).contains(&status);
    let body: Result<Value, _> = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(bytes) };
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(printable);
    match body {
        Ok(body) if success => Ok(body),
        Ok(body) => Err(Failure {
            what: text(&body, "detail")
                .or_else(|| text(&body, "title"))
                .unwrap_or_else(|| format!("refused with status {status}")),
            place: None,
            hint: text(&body, "hint"),
            code: Some(text(&body, "code").unwrap_or_else(|| status.to_string())),
            usage: false,
            unread: false,
        }),
        Err(_) => Err(Failure::new(
            format!("answered {status}, and not in JSON"),
            "check the address: the API is the node's `listen.rest`",
        )),
    }
}

/// Text of others, made safe for a terminal and bounded.
pub fn printable(text: &str) -> String {
    let bound = 8 * REASON_BYTES;
    text.chars().take(bound).map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
