//! A line of the ledger that is not a round's pay, with a row for each key whose accounts it touches.

use kernel::id::{LogIndex, NodeId};
use kernel::ledger::Account;
use kernel::outcome::Line;
use redb::{ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::history::{put_named, room};
use crate::read::LineKey;
use crate::rows::{decode, encode, hex};
use crate::tables::{LINES, LINES_OF};

const TABLE: &str = "lines";

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 12;

impl LineKey {
    pub(crate) fn bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        for (to, from) in bytes.iter_mut().zip(self.index.0.to_be_bytes().into_iter().chain(self.part.to_be_bytes())) {
            *to = from;
        }
        bytes
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (index, part) = bytes.split_first_chunk()?;
        Some(Self { index: LogIndex(u64::from_be_bytes(*index)), part: u32::from_be_bytes(part.try_into().ok()?) })
    }
}

/// The keys whose accounts a line touches, each once.
fn holders(line: &Line) -> impl Iterator<Item = NodeId> {
    let holder = |account: Account| match account {
        Account::Treasury => None,
        Account::Earned(key) | Account::Wallet(key) => Some(key),
    };
    let (from, to) = (holder(line.from), holder(line.to));
    from.into_iter().chain(to.filter(|to| Some(*to) != from))
}

fn of_holder(holder: &NodeId, key: &[u8]) -> Vec<u8> {
    [holder.0.as_slice(), key].concat()
}

/// Keeps a line; returns the room that it takes.
pub(crate) fn write(transaction: &WriteTransaction, line: &Line) -> Result<u64, StoreError> {
    let key = LineKey::of_line(line).bytes();
    let mut took = put_named(transaction, LINES, &key, &encode(TABLE, line)?)?;
    for holder in holders(line) {
        took += put_named(transaction, LINES_OF, &of_holder(&holder, &key), &[])?;
    }
    Ok(took)
}

pub(crate) fn decode_row(key: &[u8], row: &[u8]) -> Result<Line, StoreError> {
    decode(TABLE, hex(key), row)
}

/// Drops the lines up to a log index; returns the room that they took.
pub(crate) fn drop_up_to(transaction: &WriteTransaction, index: LogIndex) -> Result<u64, StoreError> {
    let last = LineKey { index, part: u32::MAX }.bytes();
    let mut lines = transaction.open_table(LINES).map_err(disk)?;
    let mut of = transaction.open_table(LINES_OF).map_err(disk)?;
    let mut freed = 0;
    loop {
        let Some((key, row)) = oldest_up_to(&lines, &last)? else { return Ok(freed) };
        lines.remove(key.as_slice()).map_err(disk)?;
        freed += room(key.len(), row.len());
        for holder in holders(&decode_row(&key, &row)?) {
            of.remove(of_holder(&holder, &key).as_slice()).map_err(disk)?;
            freed += room(32 + key.len(), 0);
        }
    }
}

type Row = (Vec<u8>, Vec<u8>);

fn oldest_up_to(
    lines: &impl ReadableTable<&'static [u8], &'static [u8]>,
    last: &[u8],
) -> Result<Option<Row>, StoreError> {
    let first = lines.first().map_err(disk)?;
    Ok(first.filter(|(key, _)| key.value() <= last).map(|(key, row)| (key.value().to_vec(), row.value().to_vec())))
}

#[cfg(test)]
mod tests {
    use kernel::id::RoundId;
    use kernel::outcome::Kind;
    use kernel::units::Points;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn any(draw: &mut Draw) -> Line {
        let account = |draw: &mut Draw| match draw.below(3) {
            0 => Account::Treasury,
            1 => Account::Earned(draw.node()),
            _ => Account::Wallet(draw.node()),
        };
        let kinds = [Kind::Reward, Kind::Deduction, Kind::Claim, Kind::Penalty, Kind::Compensation, Kind::WalletFee];
        Line {
            index: LogIndex(draw.number()),
            part: draw.number() as u32,
            round: RoundId(draw.number()),
            kind: draw.one_of(&kinds),
            from: account(draw),
            to: account(draw),
            points: Points(draw.number() as i64),
            policy: draw.maybe(Draw::digest),
            reason: draw.text(),
            now_ms: draw.number(),
        }
    }

    #[test]
    fn a_line_comes_back() {
        check::row(any, |row| encode(TABLE, row), |bytes| decode_row(&[], bytes), "eb9271ea7fd5480c");
    }

    #[test]
    fn lines_are_in_order_of_time() {
        check::keys(|draw| LineKey::of_line(&any(draw)), |key| key.bytes().to_vec(), LineKey::of_bytes);
    }

    #[test]
    fn a_line_between_accounts_of_one_key_is_found_once() {
        let key = NodeId([1; 32]);
        let mut line = Line { from: Account::Earned(key), to: Account::Wallet(key), ..any(&mut Draw(2)) };
        assert_eq!(holders(&line).collect::<Vec<_>>(), [key]);
        line.to = Account::Wallet(NodeId([2; 32]));
        assert_eq!(holders(&line).count(), 2);
        line.to = Account::Treasury;
        assert_eq!(holders(&line).collect::<Vec<_>>(), [key]);
    }
}
