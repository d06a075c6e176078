//! A snapshot: all that a replica needs of a store, as one stream of bytes.
//!
//! A head says what it is; then come the rows of all tables, one after the other; then the digest of everything before
//! it. All tables travel, history and keyframes among them, but what a file says of itself: its format is its own, and how
//! far the log is applied stands in the head.
//!
//! Invariant: installing one is a single transaction, begun only when all bytes are there and have their digest. Whatever
//! happens, the store holds the old state or the new one.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};

use kernel::id::ClusterId;
use minicbor::{Decode, Encode};
use redb::{ReadTransaction, ReadableDatabase};
use sha2::{Digest as _, Sha256};

use crate::Store;
use crate::error::{StoreError, disk};
use crate::rows::about::{self, HistoryBytes};
use crate::rows::mark::{self, Mark, Place};
use crate::rows::{decode, each_named, each_numbered, encode, meta};
use crate::spool::{Reading, Spool, SpoolRoom};
use crate::tables::{
    BATCHES, CHANGES, COLUMNS, COMPONENTS, CONTENTS, ENTRIES, HOT, KEYFRAMES, LINES, LINES_OF, MARK, MEMORY, META,
    MOVES, MOVES_OF, Named, Numbered, POLICIES, PROFILES, ROUNDS, SLOTS, UPLOADS, VALIDATORS, WALLETS,
};

const TABLE: &str = "snapshot";
/// What the bytes begin with.
const MAGIC: &[u8] = b"pingward snapshot\n";
/// Raised when a release that does not know the change would misread the bytes.
const FORMAT: u16 = 1;
/// A head is smaller.
const HEAD_MAX: usize = 64 << 10;
/// A key is smaller.
const KEY_MAX: usize = 256;
/// A row is smaller: the largest is a keyframe, or a settlement's columns.
const ROW_MAX: usize = 256 << 20;
/// Where a table's number would be, the end.
const END: u8 = 0xff;
/// Bytes that are gathered before they are handed on.
const PIECE_BYTES: usize = 256 << 10;

/// The tables of a snapshot; the place in this list is what stands before each of their rows. New ones come at the end: a
/// release that does not know them refuses the snapshot, and never takes one table for another.
const TABLES: [Table; 21] = [
    Table::Numbered(META),
    Table::Numbered(HOT),
    Table::Numbered(SLOTS),
    Table::Numbered(MEMORY),
    Table::Numbered(ENTRIES),
    Table::Numbered(ROUNDS),
    Table::Numbered(COLUMNS),
    Table::Numbered(KEYFRAMES),
    Table::Named(PROFILES),
    Table::Named(WALLETS),
    Table::Named(POLICIES),
    Table::Named(COMPONENTS),
    Table::Named(UPLOADS),
    Table::Named(MOVES),
    Table::Named(MOVES_OF),
    Table::Named(LINES),
    Table::Named(LINES_OF),
    Table::Named(CHANGES),
    Table::Numbered(VALIDATORS),
    Table::Numbered(BATCHES),
    Table::Numbered(CONTENTS),
];

#[derive(Clone, Copy)]
enum Table {
    Numbered(Numbered),
    Named(Named),
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Head {
    #[n(0)]
    format: u16,
    /// The release that made it.
    #[n(1)]
    release: String,
    /// The cluster; empty before the founding.
    #[n(2)]
    cluster: ClusterId,
    #[n(3)]
    mark: Mark,
    #[n(4)]
    history: HistoryBytes,
}

/// What a store holds at one moment. As long as there is one, the file does not get the room of older pages back.
#[derive(Debug)]
pub(crate) struct View {
    reader: ReadTransaction,
    mark: Mark,
}

impl Store {
    /// A snapshot of what is on the disk now, and how far the log is applied in it. Costs nothing until it is read.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn snapshot(&self, room: &SpoolRoom) -> Result<(Mark, Spool), StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let row = mark::read(&reader.open_table(MARK).map_err(disk)?)?;
        let mark = row.map(|row| row.mark).unwrap_or_default();
        Ok((mark.clone(), room.of(View { reader, mark })))
    }

    /// Whether a snapshot is whole, of that cluster, and of that entry of the log. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError::NotASnapshot`].
    pub fn check_snapshot(&self, spool: &Spool, cluster: &ClusterId, last: Option<Place>) -> Result<(), StoreError> {
        check_for(spool, cluster, last).map(|_| ())
    }

    /// Replaces all that this store holds by a snapshot of that cluster and that entry of the log, and keeps a keyframe of
    /// it. When it returns, it is on the disk; when it fails, nothing has changed. Takes seconds for a large one.
    ///
    /// # Errors
    /// [`StoreError::NotASnapshot`] leaves the store open; after [`StoreError::MustReopen`] it is shut.
    pub fn install(&self, spool: &Spool, cluster: &ClusterId, last: Option<Place>) -> Result<Mark, StoreError> {
        let head = check_for(spool, cluster, last)?;
        self.replace(spool, head)
    }

    /// Puts what a backup holds into this store, which must be empty. It is then the state of the cluster of the backup and
    /// has no log: an entry that makes it another cluster's comes next, with [`Store::commit`].
    ///
    /// # Errors
    /// As [`Store::install`].
    pub fn bring_back(&self, backup: &Backup) -> Result<Mark, StoreError> {
        if self.mark()? != Mark::default() || !self.cluster()?.id.is_empty() {
            return Err(not("the store that it is to be put into is not empty"));
        }
        self.replace(&backup.spool, backup.head.clone())
    }

    fn replace(&self, spool: &Spool, head: Head) -> Result<Mark, StoreError> {
        let transaction = crate::commit::begin(&self.database)?;
        let here = mark::read(&transaction.open_table(MARK).map_err(disk)?)?.and_then(|row| row.mark.applied);
        if head.mark.applied < here {
            return Err(not("it is older than what is here"));
        }
        for table in TABLES {
            match table {
                Table::Numbered(table) => transaction.delete_table(table),
                Table::Named(table) => transaction.delete_table(table),
            }
            .map_err(disk)?;
        }
        crate::tables::create_all(&transaction)?;
        rows(spool, &mut |table, key, value| {
            match TABLES.get(table).ok_or_else(unknown)? {
                Table::Numbered(table) => {
                    let key = u64::from_be_bytes(key.try_into().map_err(|_| not("a key has another length"))?);
                    transaction.open_table(*table).map_err(disk)?.insert(key, value).map_err(disk)?;
                }
                Table::Named(table) => {
                    transaction.open_table(*table).map_err(disk)?.insert(key, value).map_err(disk)?;
                }
            }
            Ok(())
        })?;
        mark::write(&transaction, head.mark.clone(), false)?;
        about::set_history(&transaction, head.history)?;
        transaction.commit().map_err(disk)?;
        self.keep_keyframe()?;
        Ok(head.mark)
    }

    /// A digest of the state's rows: two replicas that have applied the same entries have the same.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn state_digest(&self) -> Result<kernel::id::Digest, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let mut digest = Sha256::new();
        for table in [META, HOT, SLOTS, MEMORY] {
            digest.update([0]);
            each_numbered(&reader, table, |key, value| add(&mut digest, &key.to_be_bytes(), value))?;
        }
        for table in [PROFILES, WALLETS, POLICIES, COMPONENTS, UPLOADS] {
            digest.update([0]);
            each_named(&reader, table, |key, value| add(&mut digest, key, value))?;
        }
        for table in [VALIDATORS, BATCHES, CONTENTS] {
            digest.update([0]);
            each_numbered(&reader, table, |key, value| add(&mut digest, &key.to_be_bytes(), value))?;
        }
        Ok(kernel::id::Digest(digest.finalize().into()))
    }
}

/// A snapshot in a file, which was read whole and has its digest.
#[derive(Debug)]
pub struct Backup {
    spool: Spool,
    head: Head,
}

impl Backup {
    /// Reads all of a file.
    ///
    /// # Errors
    /// [`StoreError::NotASnapshot`]: it is none, not whole, or of a later release.
    pub fn read(file: File) -> Result<Self, StoreError> {
        let spool = Spool::of_file(file).map_err(not)?;
        let head = check(&spool)?;
        if head.cluster.id.is_empty() {
            return Err(not("it is of a super that belongs to no cluster"));
        }
        // What a row may not be is told before anything is written.
        rows(&spool, &mut |table, _, _| {
            if table < TABLES.len() { Ok(()) } else { Err(unknown()) }
        })?;
        Ok(Self { spool, head })
    }

    /// The cluster that it is of.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterId {
        &self.head.cluster
    }

    /// The release that made it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.head.release
    }

    /// The last entry of the log that it holds.
    #[must_use]
    pub const fn applied(&self) -> Option<Place> {
        self.head.mark.applied
    }

    /// Its bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.spool.len()
    }

    /// Never: it has a head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spool.is_empty()
    }
}

fn add(digest: &mut Sha256, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    digest.update([1]);
    for part in [key, value] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    Ok(())
}

fn not(what: impl Display) -> StoreError {
    StoreError::NotASnapshot { what: what.to_string() }
}

fn unknown() -> StoreError {
    not("a table is not known")
}

impl View {
    /// The bytes, in pieces.
    pub(crate) fn pack(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let cluster = meta::now(&self.reader).map_err(io::Error::other)?.map(|meta| meta.cluster).unwrap_or_default();
        let history = about::history_now(&self.reader).map_err(io::Error::other)?;
        let release = env!("CARGO_PKG_VERSION").to_owned();
        let head = Head { format: FORMAT, release, cluster, mark: self.mark.clone(), history };
        let head = encode(TABLE, &head).map_err(io::Error::other)?;
        let mut pieces = Pieces { out, digest: Sha256::new(), piece: Vec::with_capacity(PIECE_BYTES) };
        pieces.put(MAGIC)?;
        pieces.put(&(head.len() as u32).to_be_bytes())?;
        pieces.put(&head)?;
        let failed = |error: io::Error| disk(redb::Error::Io(error));
        for (table, number) in TABLES.into_iter().zip(0_u8..) {
            match table {
                Table::Numbered(table) => each_numbered(&self.reader, table, |key, value| {
                    pieces.row(number, &key.to_be_bytes(), value).map_err(failed)
                }),
                Table::Named(table) => {
                    each_named(&self.reader, table, |key, value| pieces.row(number, key, value).map_err(failed))
                }
            }
            .map_err(io::Error::other)?;
        }
        pieces.put(&[END])?;
        pieces.finish()
    }
}

/// Gathers bytes and digests them.
struct Pieces<'a> {
    out: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    digest: Sha256,
    piece: Vec<u8>,
}

impl Pieces<'_> {
    fn row(&mut self, table: u8, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.put(&[table])?;
        self.put(&(key.len() as u32).to_be_bytes())?;
        self.put(&(value.len() as u32).to_be_bytes())?;
        self.put(key)?;
        self.put(value)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.digest.update(&self.piece);
        (self.out)(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.hand_on()?;
        let digest: [u8; 32] = self.digest.finalize().into();
        (self.out)(&digest)
    }
}

/// The head of a snapshot that is whole and the one that is expected.
fn check_for(spool: &Spool, cluster: &ClusterId, last: Option<Place>) -> Result<Head, StoreError> {
    let head = check(spool)?;
    // Before its founding a cluster has no name yet.
    if head.cluster != *cluster && head.cluster != ClusterId::default() {
        return Err(not(format!("it is of the cluster {}, this store is of {cluster}", head.cluster)));
    }
    if head.mark.applied != last {
        return Err(not(format!("it is of entry {:?}, and was said to be of {last:?}", head.mark.applied)));
    }
    Ok(head)
}

/// Reads all bytes and gives the head, where they have their digest.
fn check(spool: &Spool) -> Result<Head, StoreError> {
    let read = |error: io::Error| not(error);
    let mut digest = Sha256::new();
    let first = spool.read(0, 1).map_err(read)?;
    let end = spool.len().checked_sub(32).filter(|_| !first.is_empty()).ok_or_else(|| not("it is too short"))?;
    let mut at = 0;
    while at < end {
        let piece = spool.read(at, PIECE_BYTES.min(usize::try_from(end - at).unwrap_or(PIECE_BYTES))).map_err(read)?;
        if piece.is_empty() {
            return Err(not("it ends too early"));
        }
        at += piece.len() as u64;
        digest.update(&piece);
    }
    let digest: [u8; 32] = digest.finalize().into();
    if spool.read(end, 32).map_err(read)? != digest {
        return Err(not("it does not have its digest"));
    }
    head(&mut Reading::new(spool))
}

fn head(from: &mut Reading<'_>) -> Result<Head, StoreError> {
    if take(from, MAGIC.len(), MAGIC.len())? != MAGIC {
        return Err(not("it begins with something else"));
    }
    let len = number(from)?;
    let bytes = take(from, len, HEAD_MAX)?;
    // Only what every format has is read first: later fields of a later one are not an error here.
    let mut decoder = minicbor::Decoder::new(&bytes);
    let format = decoder.array().and_then(|_| decoder.u16()).map_err(not)?;
    if format != FORMAT {
        let release = decoder.str().unwrap_or("a later release");
        return Err(not(format!("it has format {format}, made by {release}; this release reads {FORMAT}: upgrade")));
    }
    decode(TABLE, "head", &bytes)
}

/// Takes a row: place of the table, key, value.
type TakeRow<'a> = dyn FnMut(usize, &[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// Hands over every row.
fn rows(spool: &Spool, take_row: &mut TakeRow<'_>) -> Result<(), StoreError> {
    let from = &mut Reading::new(spool);
    head(from)?;
    loop {
        let table = take(from, 1, 1)?.first().copied().unwrap_or(END);
        if table == END {
            return Ok(());
        }
        let (key, value) = (number(from)?, number(from)?);
        let (key, value) = (take(from, key, KEY_MAX)?, take(from, value, ROW_MAX)?);
        take_row(usize::from(table), &key, &value)?;
    }
}

fn number(from: &mut Reading<'_>) -> Result<usize, StoreError> {
    let bytes = take(from, 4, 4)?;
    Ok(bytes.try_into().map_or(0, u32::from_be_bytes) as usize)
}

fn take(from: &mut Reading<'_>, len: usize, max: usize) -> Result<Vec<u8>, StoreError> {
    if len > max {
        return Err(not(format!("a part has {len} bytes, more than {max}")));
    }
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes).map_err(not)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use redb::TableHandle as _;

    use super::*;

    #[test]
    fn a_table_keeps_its_place_for_ever() {
        let name = |table: &Table| match table {
            Table::Numbered(table) => table.name().to_owned(),
            Table::Named(table) => table.name().to_owned(),
        };
        let names: Vec<_> = TABLES.iter().map(|table| name(table)[..2].to_owned()).collect();
        let first = "02 04 06 10 20 21 22 28 03 05 07 08 09 23 24 25 26 27 12 13 14";
        assert_eq!(names.join(" "), first);
    }
}
