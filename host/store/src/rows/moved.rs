//! A change of standing. It outlives the span of its round: why a member was banned must stay to be read (PROTOCOLS 13.2).

use kernel::id::{LogIndex, NodeId, RoundId};
use kernel::outcome::Move;
use redb::{ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::history::{put_named, room};
use crate::read::MoveKey;
use crate::rows::{decode, encode, hex};
use crate::tables::{MOVES, MOVES_OF};

const TABLE: &str = "moves";

/// Bytes of a key, and of one by node.
pub(crate) const KEY_BYTES: usize = 48;

impl MoveKey {
    /// In order of time.
    pub(crate) fn bytes(&self) -> [u8; KEY_BYTES] {
        join(&[&self.round.0.to_be_bytes(), &self.index.0.to_be_bytes(), &self.node.0])
    }

    /// By node, then in order of time.
    pub(crate) fn bytes_of_node(&self) -> [u8; KEY_BYTES] {
        join(&[&self.node.0, &self.round.0.to_be_bytes(), &self.index.0.to_be_bytes()])
    }

    /// Of the bytes in order of time.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (round, rest) = bytes.split_first_chunk()?;
        let (index, node) = rest.split_first_chunk()?;
        Some(Self {
            round: RoundId(u64::from_be_bytes(*round)),
            index: LogIndex(u64::from_be_bytes(*index)),
            node: NodeId(node.try_into().ok()?),
        })
    }

    /// Of the bytes by node.
    pub(crate) fn of_bytes_of_node(bytes: &[u8]) -> Option<Self> {
        let (node, rest) = bytes.split_first_chunk::<32>()?;
        Self::of_bytes(&[rest, node].concat())
    }
}

/// The parts one after the other.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut whole = [0; N];
    for (to, from) in whole.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    whole
}

/// Keeps a move; returns the room that it takes.
pub(crate) fn write(transaction: &WriteTransaction, row: &Move) -> Result<u64, StoreError> {
    let key = MoveKey::of(row);
    Ok(put_named(transaction, MOVES, &key.bytes(), &encode(TABLE, row)?)?
        + put_named(transaction, MOVES_OF, &key.bytes_of_node(), &[])?)
}

pub(crate) fn decode_row(key: &[u8], row: &[u8]) -> Result<Move, StoreError> {
    decode(TABLE, hex(key), row)
}

/// The log index of the oldest move.
pub(crate) fn oldest(transaction: &WriteTransaction) -> Result<Option<LogIndex>, StoreError> {
    let table = transaction.open_table(MOVES).map_err(disk)?;
    let first = table.first().map_err(disk)?;
    first.map(|(key, _)| parse(key.value()).map(|key| key.index)).transpose()
}

/// Drops the oldest move; returns the room that it took.
pub(crate) fn drop_oldest(transaction: &WriteTransaction) -> Result<u64, StoreError> {
    let mut table = transaction.open_table(MOVES).map_err(disk)?;
    let Some((key, row)) = table.pop_first().map_err(disk)? else { return Ok(0) };
    let of_node = parse(key.value())?.bytes_of_node();
    transaction.open_table(MOVES_OF).map_err(disk)?.remove(of_node.as_slice()).map_err(disk)?;
    Ok(room(KEY_BYTES, row.value().len()) + room(KEY_BYTES, 0))
}

fn parse(key: &[u8]) -> Result<MoveKey, StoreError> {
    MoveKey::of_bytes(key).ok_or_else(|| StoreError::damaged(TABLE, hex(key), "its key has another length"))
}

#[cfg(test)]
mod tests {
    use kernel::command::Operator;
    use kernel::outcome::Author;
    use kernel::standing::Standing;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn any(draw: &mut Draw) -> Move {
        use Standing::{Banned, Good, Probation, Suspended, Warned};
        let standings = [Good, Warned, Suspended, Banned, Probation];
        Move {
            index: LogIndex(draw.number()),
            node: draw.node(),
            round: RoundId(draw.number()),
            now_ms: draw.number(),
            from: draw.one_of(&standings),
            to: draw.one_of(&standings),
            strikes: draw.number() as u16,
            until: draw.maybe(|draw| RoundId(draw.number())),
            reason: draw.text(),
            by: match draw.below(3) {
                0 => Author::Policy(draw.digest()),
                1 => Author::Host,
                _ => Author::Operator(Operator::Token),
            },
        }
    }

    #[test]
    fn a_move_comes_back() {
        check::row(any, |row| encode(TABLE, row), |bytes| decode_row(&[], bytes), "974b874fd0b20840");
    }

    #[test]
    fn moves_are_in_order_of_time() {
        check::keys(|draw| MoveKey::of(&any(draw)), |key| key.bytes().to_vec(), MoveKey::of_bytes);
        let key = MoveKey::of(&any(&mut Draw(1)));
        assert_eq!(MoveKey::of_bytes_of_node(&key.bytes_of_node()), Some(key));
        assert_eq!(MoveKey::of_bytes(&[0; 47]), None);
    }
}
