use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rig::{Rig, key};
use crate::rest::access::SOCKET_FILE;
use crate::rest::serve::{AdminSocket, SocketError, bind_socket};

fn serve(rig: &Rig, socket: AdminSocket) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(socket.serve(rig.socket.clone(), stop)))
}

/// One request over the socket: the status line and the body.
async fn ask(path: &Path, request: &str, body: &str) -> (String, Value) {
    let mut socket = UnixStream::connect(path).await.unwrap();
    let length = body.len();
    let text = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().into(), serde_json::from_str(body).unwrap_or_default())
}

fn ban(node: u8) -> String {
    json!({ "node": key(node).id().to_string(), "rounds": 2, "reason": "r" }).to_string()
}

#[tokio::test]
async fn whoever_owns_the_folder_decides_without_a_token() {
    let rig = Rig::new().await.with_followers(1).await;
    let dir = tempfile::tempdir().unwrap();
    let socket = bind_socket(dir.path()).unwrap();
    let path = dir.path().join(SOCKET_FILE);
    assert_eq!(socket.path(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no other name leads to it");
    let (stop, serving) = serve(&rig, socket);
    let (status, banned) = ask(&path, "POST /v1/bans", &ban(1)).await;
    assert_eq!(status, "HTTP/1.1 201 Created", "{banned}");
    let (_, bans) = ask(&path, "GET /v1/bans", "").await;
    assert_eq!(bans["bans"][0]["by"], "socket");
    assert_eq!(rig.post("/v1/bans", ban(1)).await.code(), "no_token", "over TCP the same wants a token");
    stop.cancel();
    serving.await.unwrap();
    assert!(!path.exists(), "it goes with its node");
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced() {
    let rig = Rig::new().await.with_followers(1).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET_FILE);
    // What a kill -9 leaves: both names that there may be, and nobody who answers.
    drop((UnixListener::bind(&path).unwrap(), UnixListener::bind(dir.path().join(format!("{SOCKET_FILE}~"))).unwrap()));
    assert!(path.exists());
    let (_stop, _serving) = serve(&rig, bind_socket(dir.path()).unwrap());
    assert_eq!(ask(&path, "POST /v1/bans", &ban(1)).await.0, "HTTP/1.1 201 Created");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_socket_that_is_served_or_no_socket_stays_as_it_is() {
    let rig = Rig::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET_FILE);
    let (_stop, _serving) = serve(&rig, bind_socket(dir.path()).unwrap());
    let refused = bind_socket(dir.path()).unwrap_err();
    assert!(matches!(&refused, SocketError::InUse { path: named } if *named == path), "{refused}");
    assert_eq!(ask(&path, "GET /livez", "").await.0, "HTTP/1.1 200 OK", "the one that serves goes on");

    let other = tempfile::tempdir().unwrap();
    let file = other.path().join(SOCKET_FILE);
    std::fs::write(&file, "kept").unwrap();
    assert!(matches!(bind_socket(other.path()), Err(SocketError::Taken { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    let deep = other.path().join("d".repeat(100));
    assert!(matches!(bind_socket(&deep), Err(SocketError::TooLong { .. })));
}
