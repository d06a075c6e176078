//! Serves the routes over a Unix socket, to whoever owns the data folder.

use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use kernel::command::Operator;

use super::access::SOCKET_FILE;
use crate::listen::http::serve_http_connection;
use crate::listen::{CLOSE_WITHIN, Limits};

/// Bytes of a socket's path that every system takes, its final zero left out.
const PATH_BYTES: usize = 103;
/// Connections over the socket at once. They, and what is asked over them, have places of their own, so that a flood over
/// TCP locks no operator out.
const CONNECTIONS: usize = 64;
/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit into a socket's address.
    #[error(
        "the path of the admin socket {path} has {bytes} bytes, a socket's path at most {PATH_BYTES}; use a shorter node.data_dir"
    )]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Something else stands there.
    #[error("{path} is not a socket; move it away")]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Another process serves it.
    #[error("another process serves {path}; stop it, or use another node.data_dir")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("the admin socket {path} cannot be made")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The admin socket of a data folder, mode 0600, ready to be served. One that was left behind is replaced.
///
/// # Errors
/// [`SocketError`], each with its cure.
pub fn bind_socket(data_dir: &Path) -> Result<AdminSocket, SocketError> {
    let path = data_dir.join(SOCKET_FILE);
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > PATH_BYTES {
        return Err(SocketError::TooLong { path, bytes });
    }
    let failed = |source| SocketError::Io { path: path.clone(), source };
    match std::fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::Taken { path }),
        Ok(_) if std::os::unix::net::UnixStream::connect(&path).is_ok() => return Err(SocketError::InUse { path }),
        Ok(_) => std::fs::remove_file(&path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // It comes to its name only when nobody else may open it.
    let fresh = data_dir.join(format!("{SOCKET_FILE}~"));
    let fresh = if fresh.as_os_str().as_bytes().len() > PATH_BYTES { path.clone() } else { fresh };
    if fresh != path && fresh.exists() {
        std::fs::remove_file(&fresh).map_err(failed)?;
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    if fresh != path {
        std::fs::rename(&fresh, &path).map_err(failed)?;
    }
    Ok(AdminSocket { listener, path })
}

/// A socket that is bound.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves the routes to operators until `stop`. The file goes with it.
    pub fn serve(self, router: Router, stop: CancellationToken) -> impl Future<Output = ()> + Send {
        let router = router.layer(Extension(Operator::Socket));
        async move { self.accept(router, stop).await }
    }

    async fn accept(self, router: Router, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_ended) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                        let (router, stop) = (router.clone(), stop.clone());
                        connections.spawn(async move {
                            serve_http_connection(socket, None, router, &Limits::HTTP, stop).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accept on the admin socket");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        let rest = async { while connections.join_next().await.is_some() {} };
        let _cut = tokio::time::timeout(CLOSE_WITHIN, rest).await;
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // One that stays is replaced at the next start.
        let _gone = std::fs::remove_file(&self.path);
    }
}
