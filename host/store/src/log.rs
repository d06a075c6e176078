//! The file of a replica's log: entries, whom the replica supports, how far the log is committed and purged, and whose it
//! is.
//!
//! Commits have one phase: after a power cut the engine takes the last one that is whole. Each entry has a checksum of our
//! own on top, read with it and at every start. An entry that does not have its checksum is refused, and with it the
//! file: this replica may have said to a leader that it holds the entry, and dropping it would take the word back.
//!
//! Invariants: entries are without holes, and what [`LogFile::write`] was given is there as a whole or not at all.

use kernel::id::{ClusterId, Digest, NodeId};
use minicbor::{Decode, Encode};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableHandle as _, WriteTransaction,
};

use crate::Disk;
use crate::error::{StoreError, disk};
use crate::rows::about::{About, set_format};
use crate::rows::logged::{Logged, Payload};
use crate::rows::mark::{Membership, Place, Vote};
use crate::rows::{about, decode, encode};
use crate::tables::{ABOUT, LOG, LOG_META};

/// Memory for pages: what is read often is in memory at the log's owner.
const CACHE_BYTES: usize = 8 << 20;
const TABLE: &str = "log";
const META_TABLE: &str = "log meta";

/// Rows of the table of small things.
const VOTE: u64 = 0;
const COMMITTED: u64 = 1;
const PURGED: u64 = 2;
const IDENTITY: u64 = 3;
const LAST: u64 = 4;

/// Bytes of the checksum before each row: against what a disk or a torn write does to it, not against a forger.
const SUM_BYTES: usize = 8;

/// How a log that lost something is mended.
const JOIN: &str = "this replica has to join the group again, under a new id";

/// Whose log a file holds. It never changes: an id that is used twice can be a majority twice.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// The cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// The replica's id in the group.
    #[n(1)]
    pub replica: u64,
    /// Its key.
    #[n(2)]
    pub key: NodeId,
}

/// What the file says besides entries.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogHead {
    /// Whose it is; `None` on a new disk.
    pub identity: Option<Identity>,
    /// Whom the replica supports.
    pub vote: Option<Vote>,
    /// How far the log was known to be committed; at least.
    pub committed: Option<Place>,
    /// The last entry that was purged.
    pub purged: Option<Place>,
    /// Index of the first entry.
    pub first: Option<u64>,
    /// The last entry; the last purged one where there is none.
    pub last: Option<Place>,
    /// Bytes of each entry, from the first one on.
    pub sizes: Vec<u32>,
}

/// A change of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogChange {
    /// Entries at its end: index and [`Logged::to_bytes`].
    Append(Vec<(u64, Vec<u8>)>),
    /// Whom the replica supports.
    Vote(Vote),
    /// Entries after this index go; `None` = all.
    Truncate(Option<u64>),
    /// Entries up to this one go.
    Purge(Place),
}

/// An open log. One owner writes; reads may run beside it.
#[derive(Debug)]
pub struct LogFile {
    database: Database,
}

impl LogFile {
    /// Opens the log on a disk, or makes a new one there, and reads every entry once.
    ///
    /// # Errors
    /// [`StoreError`]: each variant says what to do.
    pub fn open(on: &Disk) -> Result<(Self, LogHead), StoreError> {
        let log = Self { database: on.open(CACHE_BYTES)? };
        let reader = log.database.begin_read().map_err(disk)?;
        if reader.list_tables().map_err(disk)?.next().is_none() {
            log.initialise()?;
            return Ok((log, LogHead::default()));
        }
        if !reader.list_tables().map_err(disk)?.any(|table| table.name() == LOG.name()) {
            return Err(StoreError::damaged(TABLE, "-", "this file holds no log"));
        }
        about::read(&reader)?.check_log()?;
        let head = head(&reader)?;
        Ok((log, head))
    }

    fn initialise(&self) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        for table in [ABOUT, LOG, LOG_META] {
            transaction.open_table(table).map_err(disk)?;
        }
        set_format(&transaction, &About::new_log())?;
        transaction.commit().map_err(disk)
    }

    /// On the disk when it is committed, in one phase and without the allocator's state: a log is short, so finding out
    /// after a crash which pages are free takes little, and every commit is dearer with it.
    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut transaction = self.database.begin_write().map_err(disk)?;
        transaction.set_durability(Durability::Immediate).map_err(disk)?;
        Ok(transaction)
    }

    /// Says whose log it is, once and for all. With a vote where the log goes on after a state that came about without
    /// one.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn bind(&self, identity: &Identity, vote: Option<Vote>) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        put(&transaction, IDENTITY, identity)?;
        if let Some(vote) = vote {
            put(&transaction, VOTE, &vote)?;
        }
        transaction.commit().map_err(disk)
    }

    /// Does all changes, in order, in one transaction, and notes how far the log is committed, and which entry is the last
    /// one after them. When it returns, all of it is on the disk; when it fails, none of it counts.
    ///
    /// # Errors
    /// [`StoreError::MustReopen`]: the log is shut.
    pub fn write(
        &self,
        changes: &[LogChange],
        committed: Option<Place>,
        last: Option<Place>,
    ) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        {
            let mut log = transaction.open_table(LOG).map_err(disk)?;
            for change in changes {
                match change {
                    LogChange::Append(entries) => {
                        for (index, bytes) in entries {
                            log.insert(index, row(*index, bytes).as_slice()).map_err(disk)?;
                        }
                    }
                    LogChange::Vote(vote) => put(&transaction, VOTE, vote)?,
                    LogChange::Truncate(after) => {
                        let first = after.map_or(0, |after| after.saturating_add(1));
                        log.retain_in(first.., |_, _| false).map_err(disk)?;
                    }
                    LogChange::Purge(place) => {
                        log.retain_in(..=place.index, |_, _| false).map_err(disk)?;
                        put(&transaction, PURGED, place)?;
                    }
                }
            }
            if let Some(committed) = committed {
                put(&transaction, COMMITTED, &committed)?;
            }
            put(&transaction, LAST, &last)?;
        }
        transaction.commit().map_err(disk)
    }

    /// The members as the last entry after an index says; `None` where no entry after it changes them. Reads those entries.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn members_after(&self, applied: Option<u64>) -> Result<Option<Membership>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let table = reader.open_table(LOG).map_err(disk)?;
        let first = applied.map_or(0, |applied| applied.saturating_add(1));
        for row in table.range(first..).map_err(disk)?.rev() {
            let (key, row) = row.map_err(disk)?;
            if let Payload::Membership(members) = of_row(key.value(), row.value())?.payload {
                return Ok(Some(members));
            }
        }
        Ok(None)
    }

    /// Entries from one index to before another, as far as they are there, and not many more bytes than `max_bytes`; at
    /// least one where there is one.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn read(&self, first: u64, end: u64, max_bytes: usize) -> Result<Vec<Logged>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let table = reader.open_table(LOG).map_err(disk)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        if first >= end {
            return Ok(entries);
        }
        for row in table.range(first..end).map_err(disk)? {
            let (key, row) = row.map_err(disk)?;
            let row = row.value();
            entries.push(of_row(key.value(), row)?);
            bytes += row.len();
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(entries)
    }
}

/// What the file says, all entries read once.
fn head(reader: &ReadTransaction) -> Result<LogHead, StoreError> {
    let meta = reader.open_table(LOG_META).map_err(disk)?;
    let purged: Option<Place> = get(&meta, PURGED)?;
    let mut head = LogHead {
        identity: get(&meta, IDENTITY)?,
        vote: get(&meta, VOTE)?,
        committed: get(&meta, COMMITTED)?,
        purged,
        first: None,
        last: purged,
        sizes: Vec::new(),
    };
    let mut before: Option<u64> = None;
    for row in reader.open_table(LOG).map_err(disk)?.iter().map_err(disk)? {
        let (key, row) = row.map_err(disk)?;
        let key = key.value();
        if before.is_some_and(|before| before.checked_add(1) != Some(key)) {
            return Err(StoreError::damaged(TABLE, key, "the entry before it is missing"));
        }
        (head.first, before) = (head.first.or(Some(key)), Some(key));
        let bytes = checked(key, row.value())?;
        head.sizes.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    if let Some((key, row)) = reader.open_table(LOG).map_err(disk)?.last().map_err(disk)? {
        head.last = Some(of_row(key.value(), row.value())?.place);
    }
    let last: Option<Option<Place>> = get(&meta, LAST)?;
    if last.is_some_and(|last| last != head.last) {
        return Err(StoreError::damaged(TABLE, "(last)", format!("it should be {last:?}, {:?} is; {JOIN}", head.last)));
    }
    Ok(head)
}

/// An entry as it is stored: its checksum, then its bytes.
fn row(index: u64, bytes: &[u8]) -> Vec<u8> {
    [&sum(index, bytes)[..], bytes].concat()
}

fn sum(index: u64, bytes: &[u8]) -> [u8; SUM_BYTES] {
    let Digest(digest) = Digest::of_parts(&[&index.to_be_bytes(), bytes]);
    digest.first_chunk().copied().unwrap_or_default()
}

/// The bytes of an entry that has its checksum.
fn checked(index: u64, row: &[u8]) -> Result<&[u8], StoreError> {
    let parts = row.split_first_chunk::<SUM_BYTES>().filter(|(kept, bytes)| **kept == sum(index, bytes));
    let wrong = || StoreError::damaged(TABLE, index, format!("it is not as it was written; {JOIN}"));
    parts.map(|(_, bytes)| bytes).ok_or_else(wrong)
}

fn of_row(index: u64, row: &[u8]) -> Result<Logged, StoreError> {
    let entry: Logged = decode(TABLE, index, checked(index, row)?)?;
    if entry.place.index == index {
        Ok(entry)
    } else {
        Err(StoreError::damaged(TABLE, index, format!("it is entry {}", entry.place.index)))
    }
}

fn put(transaction: &WriteTransaction, key: u64, value: &impl Encode<()>) -> Result<(), StoreError> {
    let bytes = encode(META_TABLE, value)?;
    transaction.open_table(LOG_META).map_err(disk)?.insert(key, row(key, &bytes).as_slice()).map_err(disk)?;
    Ok(())
}

fn get<T: for<'b> Decode<'b, ()>>(
    table: &impl ReadableTable<u64, &'static [u8]>,
    key: u64,
) -> Result<Option<T>, StoreError> {
    table.get(key).map_err(disk)?.map(|row| decode(META_TABLE, key, checked(key, row.value())?)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn entry(term: u64, index: u64) -> Logged {
        Logged { place: Place { term, index }, payload: Payload::Blank }
    }

    fn append(entries: &[Logged]) -> LogChange {
        LogChange::Append(entries.iter().map(|entry| (entry.place.index, entry.to_bytes().unwrap())).collect())
    }

    fn blanks(term: u64, indexes: std::ops::Range<u64>) -> LogChange {
        append(&indexes.map(|at| entry(term, at)).collect::<Vec<_>>())
    }

    fn identity(draw: &mut Draw) -> Identity {
        let cluster = ClusterId { id: draw.text(), genesis: kernel::id::Genesis([draw.below(256) as u8; 16]) };
        Identity { cluster, replica: draw.number(), key: draw.node() }
    }

    #[test]
    fn an_identity_comes_back() {
        check::row(identity, |row| encode(META_TABLE, row), |bytes| decode(META_TABLE, 0, bytes), "224cd9730a792329");
    }

    #[test]
    fn what_was_written_is_there_after_opening_again() {
        let on = Disk::memory();
        let (vote, place) = (Vote { term: 2, replica: 1, committed: true }, |term, index| Place { term, index });
        let who = identity(&mut Draw(1));
        {
            let (log, head) = LogFile::open(&on).unwrap();
            assert_eq!(head, LogHead::default());
            log.bind(&who, None).unwrap();
            log.write(&[blanks(1, 0..10), LogChange::Vote(vote)], None, Some(place(1, 9))).unwrap();
            let more = blanks(2, 7..9);
            let changes = [LogChange::Purge(place(1, 3)), LogChange::Truncate(Some(6)), more];
            log.write(&changes, Some(place(2, 7)), Some(place(2, 8))).unwrap();
        }
        let (log, head) = LogFile::open(&on).unwrap();
        let committed = Some(place(2, 7));
        let purged = Some(place(1, 3));
        let (first, last) = (Some(4), Some(place(2, 8)));
        let expected = [entry(1, 4), entry(1, 5), entry(1, 6), entry(2, 7), entry(2, 8)];
        let sizes = expected.iter().map(|entry| entry.to_bytes().unwrap().len() as u32).collect();
        assert_eq!(head, LogHead { identity: Some(who), vote: Some(vote), committed, purged, first, last, sizes });
        assert_eq!(log.read(0, u64::MAX, 1 << 20).unwrap(), expected);
        assert_eq!(log.read(5, 7, 1 << 20).unwrap(), expected[1..3]);
        assert_eq!(log.read(5, 9, 1).unwrap(), expected[1..2], "one at least");
        assert_eq!(log.read(9, 5, 1).unwrap(), []);
        log.write(&[LogChange::Truncate(None)], None, Some(place(1, 3))).unwrap();
        assert_eq!(log.read(0, u64::MAX, 1).unwrap(), []);
    }

    #[test]
    fn the_last_members_of_those_after_an_index_are_found() {
        let (log, _) = LogFile::open(&Disk::memory()).unwrap();
        let of = |id| Membership { voters: vec![vec![id]], replicas: Vec::new() };
        let members = |index, id| Logged { place: Place { term: 1, index }, payload: Payload::Membership(of(id)) };
        let entries = [members(0, 7), entry(1, 1), members(2, 8), entry(1, 3)];
        log.write(&[append(&entries)], None, Some(Place { term: 1, index: 3 })).unwrap();
        assert_eq!(log.members_after(None).unwrap(), Some(of(8)));
        assert_eq!(log.members_after(Some(1)).unwrap(), Some(of(8)));
        assert_eq!(log.members_after(Some(2)).unwrap(), None);
        assert_eq!(log.members_after(Some(9)).unwrap(), None);
    }

    #[test]
    fn an_entry_that_is_not_as_it_was_written_is_refused() {
        let on = Disk::memory();
        for change in 0..3 {
            {
                let (log, _) = LogFile::open(&on).unwrap();
                log.write(&[blanks(1, 0..4)], None, Some(Place { term: 1, index: 3 })).unwrap();
                let transaction = log.begin().unwrap();
                {
                    let mut table = transaction.open_table(LOG).unwrap();
                    let mut bytes = row(2, &entry(1, 2).to_bytes().unwrap());
                    match change {
                        0 => *bytes.last_mut().unwrap() ^= 1,
                        1 => bytes[0] ^= 0x80,
                        _ => bytes = row(2, &entry(1, 1).to_bytes().unwrap()),
                    }
                    table.insert(2, bytes.as_slice()).unwrap();
                }
                transaction.commit().unwrap();
                assert!(matches!(log.read(0, 4, 1 << 20), Err(StoreError::Damaged { table: "log", .. })));
            }
            // Another entry's bytes with a checksum of their own are nothing that a disk does; reading finds them.
            if change < 2 {
                let error = LogFile::open(&on).unwrap_err();
                assert!(error.to_string().contains("join the group again"), "{error}");
            }
            repair(&on);
        }
    }

    fn repair(on: &Disk) {
        let log = LogFile { database: on.open(CACHE_BYTES).unwrap() };
        log.write(&[LogChange::Truncate(None)], None, None).unwrap();
    }

    #[test]
    fn a_hole_is_refused() {
        let on = Disk::memory();
        LogFile::open(&on).unwrap().0.write(&[append(&[entry(1, 1), entry(1, 3)])], None, None).unwrap();
        assert!(matches!(LogFile::open(&on), Err(StoreError::Damaged { table: "log", .. })));
    }

    #[test]
    fn a_log_without_its_end_is_refused() {
        let on = Disk::memory();
        LogFile::open(&on).unwrap().0.write(&[blanks(1, 0..4)], None, Some(Place { term: 1, index: 4 })).unwrap();
        let error = LogFile::open(&on).unwrap_err();
        assert!(error.to_string().contains("join the group again"), "{error}");
    }

    #[test]
    fn no_bit_of_the_file_can_change_what_the_log_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raft.redb");
        let on = Disk::file(&path);
        let last = Some(Place { term: 3, index: 39 });
        {
            let (log, _) = LogFile::open(&on).unwrap();
            log.bind(&identity(&mut Draw(1)), Some(Vote { term: 3, replica: 2, committed: true })).unwrap();
            log.write(&[blanks(3, 0..40)], Some(Place { term: 3, index: 30 }), last).unwrap();
        }
        let (log, head) = LogFile::open(&on).unwrap();
        let entries = log.read(0, 100, 1 << 20).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        let (mut draw, mut refused) = (Draw(9), 0);
        for _ in 0..400 {
            let mut flipped = whole.clone();
            flipped[used[draw.below(used.len() as u64) as usize]] ^= 1 << draw.below(8);
            std::fs::write(&path, &flipped).unwrap();
            let read = || {
                let (log, head) = LogFile::open(&on)?;
                Ok::<_, StoreError>((head, log.read(0, 100, 1 << 20)?))
            };
            // The engine may panic over a page that makes no sense: that ends a node as well.
            match std::panic::catch_unwind(read) {
                Ok(Ok(found)) => assert_eq!(found, (head.clone(), entries.clone())),
                Ok(Err(_)) | Err(_) => refused += 1,
            }
        }
        assert!(refused > 4, "{refused} of 400: the flips met nothing");
    }

    #[test]
    fn another_file_is_no_log() {
        let on = Disk::memory();
        drop(crate::Store::open(&on, 1 << 20).unwrap());
        assert!(matches!(LogFile::open(&on), Err(StoreError::Damaged { .. })));
    }
}
