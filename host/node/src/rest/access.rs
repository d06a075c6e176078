//! Who may decide: whoever has the admin token, or came over the admin socket.
//!
//! The token is 32 random bytes in hex, made at the first start in `data_dir/admin.token`, mode 0600. In memory there is
//! only its SHA-256, and a token that is presented is compared by its hash, which tells nothing by its timing.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use kernel::command::Operator;
use kernel::id::Digest;

use super::App;
use super::problem::{Code, Problem};
use crate::keys::write_new;

/// The token's file in the data folder.
pub const TOKEN_FILE: &str = "admin.token";
/// The socket in the data folder.
pub const SOCKET_FILE: &str = "admin.sock";

/// What a token is compared with.
#[derive(Clone, Debug)]
pub struct Admin {
    token: Option<Digest>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("the admin token {path} cannot be read or written")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("the admin token {path} may be read by others (mode {mode:o}); run `chmod 600 {path}`")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no token.
    #[error("the admin token {path} is not 64 hex digits; remove the file, a new one is made at the next start")]
    Malformed {
        /// Which.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random,
}

impl Admin {
    /// Nobody may decide over TCP; the socket works all the same.
    #[must_use]
    pub const fn none() -> Self {
        Self { token: None }
    }

    /// Whoever has this token may decide.
    #[must_use]
    pub fn with_token(token: &str) -> Self {
        Self { token: Some(Digest::of(token.as_bytes())) }
    }

    /// The token of a data folder; it is made at the first start.
    ///
    /// # Errors
    /// [`TokenError`], each with its cure.
    pub fn in_dir(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join(TOKEN_FILE);
        let failed = |source| TokenError::File { path: path.clone(), source };
        match File::open(&path) {
            Ok(file) => {
                let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(TokenError::Open { path, mode });
                }
                let mut text = String::new();
                file.take(1_024).read_to_string(&mut text).map_err(failed)?;
                let token = text.trim();
                if token.len() != 64 || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(TokenError::Malformed { path });
                }
                Ok(Self::with_token(token))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = fresh()?;
                write_new(&path, format!("{token}\n").as_bytes()).map_err(failed)?;
                Ok(Self::with_token(&token))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn check(&self, headers: &HeaderMap) -> Result<Option<Operator>, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else {
            return Err(Problem::new(Code::BadToken, "the Authorization header is not `Bearer` and a token"));
        };
        let known = self.token.is_some_and(|known| known == Digest::of(token.trim().as_bytes()));
        if known { Ok(Some(Operator::Token)) } else { Err(Problem::of(Code::BadToken)) }
    }
}

fn fresh() -> Result<String, TokenError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| TokenError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whoever asks. A token that is presented must be right, also where none is needed.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// How it proved that it may decide; `None` = it did not.
    pub operator: Option<Operator>,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if let Some(operator) = parts.extensions.get::<Operator>() {
            return Ok(Self { operator: Some(*operator) });
        }
        Ok(Self { operator: app.admin().check(&parts.headers)? })
    }
}

/// Whoever asks is an operator; else the request is refused.
#[derive(Clone, Copy, Debug)]
pub struct By(pub Operator);

impl FromRequestParts<App> for By {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.operator.map(By).ok_or_else(|| Problem::of(Code::NoToken))
    }
}

/// Refuses changes that a browser sends for a page of another origin. Browsers say so in `Sec-Fetch-Site`, older ones in
/// `Origin`; whatever is no browser says neither.
pub async fn same_site(request: Request, next: Next) -> Response {
    if is_cross_site(request.method(), request.headers()) {
        return Problem::of(Code::CrossSite).into_response();
    }
    next.run(request).await
}

fn is_cross_site(method: &Method, headers: &HeaderMap) -> bool {
    if method.is_safe() {
        return false;
    }
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match (text(header::HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => site != "same-origin" && site != "none",
        (None, Some(origin)) => {
            let host = text(header::HOST).unwrap_or_default();
            origin.split_once("://").is_none_or(|(_, authority)| authority != host)
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_token_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = Admin::in_dir(dir.path()).unwrap();
        let path = dir.path().join(TOKEN_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(&path).unwrap();
        assert_eq!(token.trim().len(), 64);
        let again = Admin::in_dir(dir.path()).unwrap();
        assert_eq!(first.token, again.token);
        let bearer = format!("Bearer {}", token.trim());
        assert_eq!(again.check(&headers(&[("authorization", &bearer)])).unwrap(), Some(Operator::Token));
        assert_eq!(again.check(&headers(&[])).unwrap(), None);
        for wrong in ["Bearer 00", "Basic abc", token.trim(), "Bearer "] {
            assert_eq!(again.check(&headers(&[("authorization", wrong)])).unwrap_err().code, Code::BadToken, "{wrong}");
        }
        assert!(Admin::none().check(&headers(&[("authorization", &bearer)])).is_err());
    }

    #[test]
    fn the_token_is_never_seen_half_written() {
        // Whoever looks while it is made sees what a node that was killed then would find at its next start.
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(TOKEN_FILE);
            let (ready, looks) = std::sync::mpsc::sync_channel(0);
            let looking = std::thread::spawn(move || {
                ready.send(()).unwrap();
                loop {
                    if let Ok(file) = std::fs::metadata(&path) {
                        return file.len();
                    }
                }
            });
            looks.recv().unwrap();
            Admin::in_dir(dir.path()).unwrap();
            assert_eq!(looking.join().unwrap(), 65);
            let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
            assert_eq!(left, [TOKEN_FILE], "no draft stays");
        }
    }

    #[test]
    fn a_token_that_others_may_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        std::fs::write(&path, "short").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Admin::in_dir(dir.path()).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Admin::in_dir(dir.path()), Err(TokenError::Malformed { .. })));
    }

    #[test]
    fn only_changes_from_other_sites_are_cross_site() {
        for (method, pairs, cross) in [
            (Method::POST, vec![], false),
            (Method::GET, vec![("sec-fetch-site", "cross-site")], false),
            (Method::POST, vec![("sec-fetch-site", "cross-site")], true),
            (Method::PUT, vec![("sec-fetch-site", "same-site")], true),
            (Method::POST, vec![("sec-fetch-site", "same-origin"), ("origin", "http://evil")], false),
            (Method::POST, vec![("sec-fetch-site", "none")], false),
            (Method::POST, vec![("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")], false),
            (Method::POST, vec![("origin", "http://evil"), ("host", "127.0.0.1:8080")], true),
            (Method::POST, vec![("origin", "null"), ("host", "127.0.0.1:8080")], true),
        ] {
            assert_eq!(is_cross_site(&method, &headers(&pairs)), cross, "{method} {pairs:?}");
        }
    }
}
