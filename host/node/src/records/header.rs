//! The line of JSON that begins a record's payload (PROTOCOLS 10.1).

use std::fmt;

use kernel::id::{ClusterId, NodeId};
use kernel::limits::{RECORD_BODY, RECORD_HEADER};
use kernel::records::record::Record;
use serde::{Deserialize, Serialize};

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// `id#genesis`: a record counts in one life of one cluster.
    pub cluster: String,
    /// Makes two records of the same body two. At most 64 characters.
    pub nonce: String,
    /// When the wish to be ordered ends, ms since 1970.
    pub expires_ms: u64,
}

/// Longest nonce.
const NONCE_CHARS: usize = 64;

/// Why a payload is none of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// No newline ends the first line in time.
    NoLine,
    /// The line is not the JSON that it should be.
    Line(String),
    /// It is meant for another cluster.
    Cluster(String),
    /// The body is too long.
    Body(usize),
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLine => write!(f, "no newline ends the line of JSON within {RECORD_HEADER} bytes"),
            Self::Line(what) => write!(f, "the first line: {what}"),
            Self::Cluster(named) => write!(f, "it is meant for `{named}`"),
            Self::Body(bytes) => write!(f, "the body has {bytes} bytes, at most {RECORD_BODY} are taken"),
        }
    }
}

impl Header {
    /// A payload: the line, a newline, the body.
    #[must_use]
    pub fn payload(&self, body: &[u8]) -> Vec<u8> {
        // Text and numbers are always JSON.
        let mut payload = serde_json::to_vec(self).unwrap_or_default();
        payload.push(b'\n');
        payload.extend_from_slice(body);
        payload
    }
}

/// Reads a record's line, and checks that it is one of this cluster within its bounds.
///
/// # Errors
/// [`BadRecord`].
pub fn read(record: &Record, cluster: &ClusterId) -> Result<Header, BadRecord> {
    let header = parse(record.header().ok_or(BadRecord::NoLine)?)?;
    if header.cluster != cluster.to_string() {
        return Err(BadRecord::Cluster(header.cluster));
    }
    let bytes = record.body().len();
    if bytes > RECORD_BODY {
        return Err(BadRecord::Body(bytes));
    }
    Ok(header)
}

fn parse(line: &[u8]) -> Result<Header, BadRecord> {
    // A list of the values in their order would be taken, too.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(BadRecord::Line("expected a JSON object".into()));
    }
    let header: Header = serde_json::from_slice(line).map_err(|error| BadRecord::Line(error.to_string()))?;
    if header.nonce.chars().count() > NONCE_CHARS {
        return Err(BadRecord::Line(format!("nonce: at most {NONCE_CHARS} characters")));
    }
    Ok(header)
}

/// A record of a node's own, which its forward vouches for.
///
/// # Errors
/// The system has no randomness.
pub fn own(
    author: NodeId,
    cluster: &ClusterId,
    nonce: Option<String>,
    expires_ms: u64,
    body: &[u8],
) -> Result<Record, getrandom::Error> {
    let nonce = match nonce {
        Some(nonce) => nonce,
        None => draw()?,
    };
    let header = Header { cluster: cluster.to_string(), nonce, expires_ms };
    Ok(Record { author, payload: header.payload(body), signature: None })
}

/// 32 hex digits that nobody drew before.
///
/// # Errors
/// The system has no randomness.
pub fn draw() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use kernel::id::Genesis;

    use super::*;

    fn cluster() -> ClusterId {
        ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) }
    }

    fn of(payload: &[u8]) -> Result<Header, BadRecord> {
        read(&Record { author: NodeId([1; 32]), payload: payload.into(), signature: None }, &cluster())
    }

    #[test]
    fn a_record_is_a_line_of_json_and_a_body() {
        let record = own(NodeId([1; 32]), &cluster(), None, 5, b"hello\nworld").unwrap();
        assert_eq!(record.body(), b"hello\nworld");
        let header = read(&record, &cluster()).unwrap();
        assert_eq!((header.expires_ms, header.nonce.len()), (5, 32));
        let other = own(NodeId([1; 32]), &cluster(), None, 5, b"hello\nworld").unwrap();
        assert_ne!(record.digest(), other.digest());
    }

    #[test]
    fn what_is_none_is_said_in_words() {
        let good = format!("{{\"cluster\":\"{}\",\"nonce\":\"a\",\"expires_ms\":1}}", cluster());
        assert!(of(format!("{good}\n").as_bytes()).is_ok());
        assert_eq!(of(good.as_bytes()), Err(BadRecord::NoLine));
        assert_eq!(of(&[b' '; 600]), Err(BadRecord::NoLine));
        let named = good.replace("lab", "other");
        assert!(matches!(of(format!("{named}\n").as_bytes()), Err(BadRecord::Cluster(_))));
        let long = [format!("{good}\n").into_bytes(), vec![0; RECORD_BODY + 1]].concat();
        assert_eq!(of(&long), Err(BadRecord::Body(RECORD_BODY + 1)));
        let long_nonce = good.replace("\"a\"", &format!("\"{}\"", "a".repeat(65)));
        for line in ["[\"a\",\"b\",1]", "{}", "", &good.replace("nonce", "once"), &long_nonce] {
            assert!(matches!(of(format!("{line}\n").as_bytes()), Err(BadRecord::Line(_))), "{line}");
        }
    }
}
