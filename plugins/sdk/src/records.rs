//! What a signing rule sees: the records of one batch.

use crate::types;
use crate::wellformed;

/// A record, as its author handed it in. Its signature was verified, and its fee is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in the order of all records.
    pub sequence: u64,
    /// Its author's key.
    pub author: &'a [u8; 32],
    /// What names it: SHA-256 of author and payload. The same body may come again under another one.
    pub digest: &'a [u8; 32],
    /// When its author wished it to be ordered at the latest, ms since 1970. It was: a record does not expire here.
    pub expires_ms: u64,
    /// What is to be signed: any bytes, at most 65,536 of them.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The body as text, where it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        core::str::from_utf8(self.body).ok()
    }

    /// Whether the body is one JSON value, and nothing but white space around it. Lists and objects may lie 128 deep in one
    /// another; that a key comes twice is not noticed.
    #[must_use]
    pub fn is_json(&self) -> bool {
        wellformed::is_json(self.body)
    }
}

/// The records of one batch, in their order: 1 to 512 of them, with at most 1 MiB of bodies.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    all: &'a [types::Record],
}

impl<'a> Records<'a> {
    pub(crate) fn new(all: &'a [types::Record]) -> Result<Self, String> {
        match all.iter().find(|record| record.author.len() != 32 || record.digest.len() != 32) {
            None => Ok(Self { all }),
            Some(record) => Err(format!("record {}: author and digest have 32 bytes", record.sequence)),
        }
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Record<'a>> {
        // Their lengths were checked: none is left out.
        self.all.iter().filter_map(|record| {
            Some(Record {
                sequence: record.sequence,
                author: record.author.as_slice().try_into().ok()?,
                digest: record.digest.as_slice().try_into().ok()?,
                expires_ms: record.expires_ms,
                body: &record.body,
            })
        })
    }
}
