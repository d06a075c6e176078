//! What a member got and lost, round by round, among the other lines of its accounts.
//!
//! A round's pay is not stored as lines: it stands in the round's columns, one entry a member. So a member's lines are
//! found by reading rounds, and the work of one page is bounded by members read, not by lines found.

use kernel::decide::Slot;
use kernel::id::{LogIndex, MemberNumber, NodeId, RoundId};
use kernel::ledger::Account;
use kernel::outcome::{Kind, Line, RoundRecord};
use kernel::units::Points;
use redb::{ReadTransaction, ReadableTable};

use crate::error::{StoreError, disk};
use crate::read::{LineKey, Page, page};
use crate::rows::round;
use crate::tables::{COLUMNS, ROUNDS};

/// Entries of columns read for one page: some fifty rounds of a large cluster, a thousand of a small one.
const ENTRIES: usize = 500_000;
/// Rounds read for one page.
const ROUNDS_READ: usize = 1_000;

/// A line of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLine {
    /// The line. A round's pay comes after all other lines of its log entry.
    pub line: Line,
    /// Reason code of the reward policy that the line names; 0 = none. Its text is in the policy's description.
    pub code: u16,
}

/// Whose rewards, and how many lines of a page there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rewards {
    pub(crate) node: NodeId,
    pub(crate) member: MemberNumber,
    pub(crate) limit: usize,
}

/// How far rounds were read.
struct Found {
    lines: Vec<AccountLine>,
    /// The last round that was read, when there are more.
    stopped: Option<LogIndex>,
}

impl Rewards {
    /// Puts the member's rewards among `others`, which may have one more than the limit.
    pub(crate) fn merge(
        self,
        reader: &ReadTransaction,
        after: Option<LineKey>,
        others: Vec<AccountLine>,
    ) -> Result<Page<AccountLine, LineKey>, StoreError> {
        let key = |item: &AccountLine| LineKey::of_line(&item.line);
        let Some(after) = after else {
            let found = self.newest(reader)?;
            let mut items = [others, found.lines].concat();
            items.sort_by_key(key);
            if let Some(stopped) = found.stopped {
                // Lines before the last round that was read would stand beside rewards that are missing.
                items.retain(|item| item.line.index >= stopped);
            }
            let items = items.split_off(items.len().saturating_sub(self.limit));
            return Ok(Page { items, next: None });
        };
        let found = self.after(reader, after)?;
        let mut items = [others, found.lines].concat();
        items.sort_by_key(key);
        let Some(stopped) = found.stopped else { return Ok(page(items, self.limit, key)) };
        items.retain(|item| item.line.index <= stopped);
        let mut page = page(items, self.limit, key);
        page.next = page.next.or(Some(LineKey { index: stopped, part: u32::MAX }));
        Ok(page)
    }

    fn newest(self, reader: &ReadTransaction) -> Result<Found, StoreError> {
        let table = reader.open_table(ROUNDS).map_err(disk)?;
        let mut heads = table.iter().map_err(disk)?.rev();
        self.read(reader, &mut || heads.next())
    }

    fn after(self, reader: &ReadTransaction, after: LineKey) -> Result<Found, StoreError> {
        let table = reader.open_table(ROUNDS).map_err(disk)?;
        let first = first_from(&table, after)?;
        let mut heads = table.range(first.0..).map_err(disk)?;
        self.read(reader, &mut || heads.next())
    }

    fn read<'a>(
        self,
        reader: &ReadTransaction,
        next: &mut dyn FnMut() -> Option<HeadRow<'a>>,
    ) -> Result<Found, StoreError> {
        let all = reader.open_table(COLUMNS).map_err(disk)?;
        let mut found = Found { lines: Vec::new(), stopped: None };
        let (mut rounds, mut entries, mut last) = (0, 0, None);
        while let Some(row) = next() {
            if rounds >= ROUNDS_READ || entries >= ENTRIES || found.lines.len() > self.limit {
                found.stopped = last;
                break;
            }
            let (key, row) = row.map_err(disk)?;
            let mut record = round::decode_head(key.value(), row.value())?;
            if let Some(columns) = all.get(key.value()).map_err(disk)? {
                round::put_back(&mut record, round::decode_columns(key.value(), columns.value())?);
            }
            rounds += 1;
            entries += record.members.len();
            last = Some(record.index);
            found.lines.extend(self.line(&record));
        }
        Ok(found)
    }

    /// What the member got or lost in a round.
    fn line(self, record: &RoundRecord) -> Option<AccountLine> {
        let at = record.members.binary_search(&self.member).ok()?;
        let points = record.points.get(at).copied().filter(|points| *points != 0)?;
        let earned = Account::Earned(self.node);
        let (kind, from, to) = if points > 0 {
            (Kind::Reward, Account::Treasury, earned)
        } else {
            (Kind::Deduction, earned, Account::Treasury)
        };
        let slot = record.slots.iter().find(|part| part.slot == Slot::Reward);
        let line = Line {
            index: record.index,
            part: u32::MAX,
            round: record.round,
            kind,
            from,
            to,
            points: Points(points.saturating_abs()),
            policy: slot.and_then(|part| part.policy),
            reason: String::new(),
            now_ms: record.now_ms,
        };
        Some(AccountLine { line, code: record.reasons.get(at).copied().unwrap_or(0) })
    }
}

type HeadRow<'a> = Result<(redb::AccessGuard<'a, u64>, redb::AccessGuard<'a, &'static [u8]>), redb::StorageError>;

/// The first round whose pay comes after a line. Log indexes rise with rounds, so halving finds it.
fn first_from(table: &impl ReadableTable<u64, &'static [u8]>, after: LineKey) -> Result<RoundId, StoreError> {
    let (Some((first, _)), Some((last, _))) = (table.first().map_err(disk)?, table.last().map_err(disk)?) else {
        return Ok(RoundId(0));
    };
    let (mut low, mut high) = (first.value(), last.value() + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = table.get(middle).map_err(disk)?;
        let index = row.map(|row| round::decode_head(middle, row.value())).transpose()?.map(|record| record.index);
        if index.is_some_and(|index| LineKey { index, part: u32::MAX } > after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(RoundId(low))
}
