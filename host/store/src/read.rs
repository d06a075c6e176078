//! History, page by page. Every list works the same way: without `after` it is the newest page, oldest first in it;
//! with `after` it goes on from there, and `next` says where when there is more.

use std::ops::Bound;

use kernel::command::{Command, Settle};
use kernel::id::{LogIndex, MemberNumber, NodeId, RoundId};
use kernel::ledger::Account;
use kernel::outcome::{Change, Line, Move, RoundRecord};
use kernel::standing::Standing;
use redb::{AccessGuard, ReadOnlyTable, ReadableDatabase, ReadableTable};

use crate::Store;
use crate::account::{AccountLine, Rewards};
use crate::error::{StoreError, disk};
use crate::rows::{change, entry, line, moved, round};
use crate::tables::{CHANGES, LINES, LINES_OF, MOVES, MOVES_OF, ROUNDS};

/// Most items of a page, whatever was asked.
const PAGE: usize = 1_000;
/// Rows read for one page of a list that shows few of them: some 100 ms.
const ROWS_READ: usize = 100_000;

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// Oldest first.
    pub items: Vec<T>,
    /// There is more: ask again with `after` = this.
    pub next: Option<K>,
}

/// Names a move, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoveKey {
    /// The round that was settled last.
    pub round: RoundId,
    /// Place in the log.
    pub index: LogIndex,
    /// Who moved.
    pub node: NodeId,
}

impl MoveKey {
    /// The name of a move.
    #[must_use]
    pub const fn of(row: &Move) -> Self {
        Self { round: row.round, index: row.index, node: row.node }
    }
}

/// Names a line of the ledger or of the change log, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    /// Place in the log.
    pub index: LogIndex,
    /// Place among the lines of that entry.
    pub part: u32,
}

impl LineKey {
    /// The name of a line of the ledger.
    #[must_use]
    pub const fn of_line(row: &Line) -> Self {
        Self { index: row.index, part: row.part }
    }

    /// The name of a line of the change log.
    #[must_use]
    pub const fn of_change(row: &Change) -> Self {
        Self { index: row.index, part: row.part }
    }
}

impl Store {
    /// Settled rounds, without their columns (`members`, `presence`, `points`, `reasons` are empty).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn rounds(&self, after: Option<RoundId>, limit: usize) -> Result<Page<RoundRecord, RoundId>, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let table = self.database.begin_read().map_err(disk)?.open_table(ROUNDS).map_err(disk)?;
        let mut items = Vec::new();
        let Some(after) = after else {
            for row in table.iter().map_err(disk)?.rev().take(limit) {
                let (key, row) = row.map_err(disk)?;
                items.push(round::decode_head(key.value(), row.value())?);
            }
            items.reverse();
            return Ok(Page { items, next: None });
        };
        for row in table.range(after.next().0..).map_err(disk)?.take(limit + 1) {
            let (key, row) = row.map_err(disk)?;
            items.push(round::decode_head(key.value(), row.value())?);
        }
        Ok(page(items, limit, |record| record.round))
    }

    /// One settled round, whole; `None` when it is not settled yet or not kept any more.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn round(&self, round: RoundId) -> Result<Option<RoundRecord>, StoreError> {
        round::read(&self.database.begin_read().map_err(disk)?, round)
    }

    /// The oldest round that is kept.
    ///
    /// # Errors
    /// [`StoreError::MustReopen`].
    pub fn oldest_round(&self) -> Result<Option<RoundId>, StoreError> {
        let table = self.database.begin_read().map_err(disk)?.open_table(ROUNDS).map_err(disk)?;
        Ok(table.first().map_err(disk)?.map(|(key, _)| RoundId(key.value())))
    }

    /// The command that settled a round, with all that was observed and decided; `None` when it is not kept.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn settlement(&self, round: RoundId) -> Result<Option<Settle>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let Some(row) = reader.open_table(ROUNDS).map_err(disk)?.get(round.0).map_err(disk)? else { return Ok(None) };
        let index = round::decode_head(round.0, row.value())?.index;
        Ok(match entry::read(&reader, index)? {
            Some(Command::Settle(settle)) => Some(*settle),
            Some(_) | None => None,
        })
    }

    /// A command of the log; `None` when it is not kept.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn entry(&self, index: LogIndex) -> Result<Option<Command>, StoreError> {
        entry::read(&self.database.begin_read().map_err(disk)?, index)
    }

    /// Changes of standing: of one node or of all, from a round on where one is given.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn moves(
        &self,
        of: Option<NodeId>,
        since: Option<RoundId>,
        after: Option<MoveKey>,
        limit: usize,
    ) -> Result<Page<Move, MoveKey>, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let reader = self.database.begin_read().map_err(disk)?;
        let moves = reader.open_table(MOVES).map_err(disk)?;
        let order = |key: &MoveKey| if of.is_some() { key.bytes_of_node() } else { key.bytes() };
        let since =
            since.map(|round| order(&MoveKey { round, index: LogIndex(0), node: of.unwrap_or(NodeId([0; 32])) }));
        let after = after.map(|key| order(&MoveKey { node: of.unwrap_or(key.node), ..key }));
        let from = From::of(after.as_ref().map(<[u8; 48]>::as_slice), since.as_ref().map(<[u8; 48]>::as_slice));
        let Some(node) = of else {
            let rows = scan(&moves, &[], from, limit)?;
            let items = rows.iter().map(|(key, row)| moved::decode_row(key, row)).collect::<Result<_, _>>()?;
            return Ok(page(items, limit, MoveKey::of));
        };
        let keys = scan(&reader.open_table(MOVES_OF).map_err(disk)?, &node.0, from, limit)?;
        let mut items = Vec::new();
        for (key, _) in keys {
            let Some(key) = MoveKey::of_bytes_of_node(&key).map(|key| key.bytes()) else { continue };
            if let Some(row) = moves.get(key.as_slice()).map_err(disk)? {
                items.push(moved::decode_row(&key, row.value())?);
            }
        }
        Ok(page(items, limit, MoveKey::of))
    }

    /// Changes to one standing, of all nodes. As most moves may be to others, the work of a page is bounded by moves read:
    /// it may have fewer items than asked and still a `next`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn moves_to(
        &self,
        to: Standing,
        after: Option<MoveKey>,
        limit: usize,
    ) -> Result<Page<Move, MoveKey>, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let moves = self.database.begin_read().map_err(disk)?.open_table(MOVES).map_err(disk)?;
        let after = after.map(|after| after.bytes());
        let after = after.as_ref().map(<[u8; 48]>::as_slice);
        sift(&moves, after, limit, moved::decode_row, |row| row.to == to, MoveKey::of)
    }

    /// Lines of the change log.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn changes(&self, after: Option<LineKey>, limit: usize) -> Result<Page<Change, LineKey>, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let table = self.database.begin_read().map_err(disk)?.open_table(CHANGES).map_err(disk)?;
        let after = after.map(LineKey::bytes);
        let rows = scan(&table, &[], From::of(after.as_ref().map(<[u8; 12]>::as_slice), None), limit)?;
        let items = rows.iter().map(|(key, row)| change::decode_row(key, row)).collect::<Result<_, _>>()?;
        Ok(page(items, limit, LineKey::of_change))
    }

    /// Lines of a key's accounts, `earned` and `wallet`, inside the kept history. With the number of the member that the
    /// key is, what it got and lost in each round is among them, taken from the rounds' columns; as that reads a round at
    /// a time, a page may have fewer items than asked and still a `next`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn lines(
        &self,
        of: NodeId,
        member: Option<MemberNumber>,
        after: Option<LineKey>,
        limit: usize,
    ) -> Result<Page<AccountLine, LineKey>, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let reader = self.database.begin_read().map_err(disk)?;
        let start = after.map(|key| [of.0.as_slice(), &key.bytes()].concat());
        let keys = scan(&reader.open_table(LINES_OF).map_err(disk)?, &of.0, From::of(start.as_deref(), None), limit)?;
        let lines = reader.open_table(LINES).map_err(disk)?;
        let mut items = Vec::new();
        for (key, _) in keys {
            let Some(key) = key.get(32..) else { continue };
            if let Some(row) = lines.get(key).map_err(disk)? {
                items.push(AccountLine { line: line::decode_row(key, row.value())?, code: 0 });
            }
        }
        match member {
            Some(member) => Rewards { node: of, member, limit }.merge(&reader, after, items),
            None => Ok(page(items, limit, |item| LineKey::of_line(&item.line))),
        }
    }

    /// Lines that move points from or to the treasury, of all keys; a round's pay is in the round's record. As most lines
    /// may be others, the work of a page is bounded by lines read: it may have fewer items than asked and still a `next`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn lines_of_treasury(&self, after: Option<LineKey>, limit: usize) -> Result<Page<Line, LineKey>, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let lines = self.database.begin_read().map_err(disk)?.open_table(LINES).map_err(disk)?;
        let ours = |line: &Line| line.from == Account::Treasury || line.to == Account::Treasury;
        let after = after.map(LineKey::bytes);
        sift(&lines, after.as_ref().map(<[u8; 12]>::as_slice), limit, line::decode_row, ours, LineKey::of_line)
    }

    /// The room that history takes in the file, bytes.
    ///
    /// # Errors
    /// [`StoreError::MustReopen`].
    pub fn history_bytes(&self) -> Result<u64, StoreError> {
        let bytes = crate::rows::about::history_now(&self.database.begin_read().map_err(disk)?)?;
        Ok(bytes.span + bytes.marks)
    }
}

/// A page of those rows that are wanted, of at most [`ROWS_READ`] that are looked at: it may have fewer items than asked and
/// still a `next`. Without `after`, the newest.
fn sift<T, K>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    after: Option<&[u8]>,
    limit: usize,
    decode: impl Fn(&[u8], &[u8]) -> Result<T, StoreError>,
    wanted: impl Fn(&T) -> bool,
    key_of: impl Fn(&T) -> K,
) -> Result<Page<T, K>, StoreError> {
    let mut items = Vec::new();
    let Some(after) = after else {
        for row in table.iter().map_err(disk)?.rev().take(ROWS_READ) {
            let (key, row) = row.map_err(disk)?;
            items.extend(Some(decode(key.value(), row.value())?).filter(&wanted));
            if items.len() == limit {
                break;
            }
        }
        items.reverse();
        return Ok(Page { items, next: None });
    };
    let mut last = None;
    let range = (Bound::Excluded(after), Bound::Unbounded);
    for (read, row) in table.range::<&[u8]>(range).map_err(disk)?.enumerate() {
        if read == ROWS_READ {
            return Ok(Page { items, next: last });
        }
        let (key, row) = row.map_err(disk)?;
        let row = decode(key.value(), row.value())?;
        last = Some(key_of(&row));
        items.extend(Some(row).filter(&wanted));
        if items.len() > limit {
            break;
        }
    }
    Ok(page(items, limit, key_of))
}

/// Where a list begins.
#[derive(Clone, Copy, Debug)]
enum From<'a> {
    Newest,
    After(&'a [u8]),
    At(&'a [u8]),
}

impl<'a> From<'a> {
    fn of(after: Option<&'a [u8]>, at: Option<&'a [u8]>) -> Self {
        match (after, at) {
            (Some(after), Some(at)) if at > after => Self::At(at),
            (Some(after), _) => Self::After(after),
            (None, Some(at)) => Self::At(at),
            (None, None) => Self::Newest,
        }
    }
}

type Row = (Vec<u8>, Vec<u8>);

/// The rows of a list whose keys begin with `prefix`: one more than the limit, so that one knows whether there is more,
/// but only the limit of the newest.
fn scan(
    table: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    from: From<'_>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    // Longer than any key after its prefix, so that it is above all of them.
    let end = [prefix, [0xff; 64].as_slice()].concat();
    let (low, take) = match from {
        From::Newest => (Bound::Included(prefix), limit),
        From::After(key) => (Bound::Excluded(key), limit + 1),
        From::At(key) => (Bound::Included(key), limit + 1),
    };
    let range = table.range::<&[u8]>((low, Bound::Excluded(end.as_slice()))).map_err(disk)?;
    if matches!(from, From::Newest) {
        let mut rows = own(range.rev().take(take))?;
        rows.reverse();
        return Ok(rows);
    }
    own(range.take(take))
}

/// Key and value of a row as the engine hands them out.
type Guards<'a> = (AccessGuard<'a, &'static [u8]>, AccessGuard<'a, &'static [u8]>);

fn own<'a>(rows: impl Iterator<Item = Result<Guards<'a>, redb::StorageError>>) -> Result<Vec<Row>, StoreError> {
    rows.map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(disk)).collect()
}

/// Cuts a list that may have one item more than its limit.
pub(crate) fn page<T, K>(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> K) -> Page<T, K> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(key);
    Page { items, next }
}
