//! A command of the log as history keeps it: deflated CBOR.
//!
//! In a settlement a super's round trips stand twice, in the report and in the partial report that it signed. Noise does
//! not deflate, so they are kept once, and put back when the entry is read.

use kernel::command::{Command, Settle};
use kernel::id::{LogIndex, Seat};
use kernel::round::Partial;
use minicbor::{Decode, Encode};
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::history::{put_numbered, room};
use crate::rows::pack::{self, Packer};
use crate::rows::{decode, encode};
use crate::tables::ENTRIES;

const TABLE: &str = "entries";

/// Seats of a report beyond this many keep their round trips as they are.
const SEATS: usize = 64;

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
struct Kept {
    /// One bit for each of the report's seats whose round trips stand in its partial report alone.
    #[n(0)]
    once: u64,
    #[n(1)]
    command: Command,
}

/// The row of an entry.
fn pack(packer: &mut Packer, command: &Command) -> Result<Vec<u8>, StoreError> {
    let mut kept = Kept { once: 0, command: command.clone() };
    if let Command::Settle(settle) = &mut kept.command {
        kept.once = drop_twins(settle);
    }
    encode(TABLE, &kept).map(|bytes| packer.pack(&bytes))
}

/// The command of a row.
fn unpack(key: u64, row: &[u8]) -> Result<Command, StoreError> {
    let mut kept: Kept = decode(TABLE, key, &pack::unpack(TABLE, key, row)?)?;
    if let Command::Settle(settle) = &mut kept.command {
        restore_twins(settle, kept.once);
    }
    Ok(kept.command)
}

fn drop_twins(settle: &mut Settle) -> u64 {
    let mut once = 0;
    for at in 0..settle.report.seats.len().min(SEATS) {
        let Some(seat) = settle.report.seats.get(at).filter(|seat| !seat.rtt.is_empty()) else { continue };
        if round_trips(settle, seat.seat).is_some_and(|twin| twin == seat.rtt) {
            once |= 1 << at;
            if let Some(seat) = settle.report.seats.get_mut(at) {
                seat.rtt.clear();
            }
        }
    }
    once
}

fn restore_twins(settle: &mut Settle, once: u64) {
    for at in (0..SEATS).filter(|at| once & 1 << at != 0) {
        let twin = settle.report.seats.get(at).and_then(|seat| round_trips(settle, seat.seat));
        if let (Some(seat), Some(twin)) = (settle.report.seats.get_mut(at), twin) {
            seat.rtt = twin;
        }
    }
}

/// The round trips in the first partial report of a seat.
fn round_trips(settle: &Settle, seat: Seat) -> Option<Vec<u16>> {
    let partials = settle.partials.iter().filter_map(|signed| minicbor::decode::<Partial>(&signed.payload).ok());
    partials.filter(|partial| partial.seat == seat).map(|partial| partial.rtt).next()
}

/// Keeps an entry; returns the room that it takes.
pub(crate) fn write(
    transaction: &WriteTransaction,
    packer: &mut Packer,
    index: LogIndex,
    command: &Command,
) -> Result<u64, StoreError> {
    put_numbered(transaction, ENTRIES, index.0, &pack(packer, command)?)
}

/// An entry, where it is still kept.
pub(crate) fn read(reader: &ReadTransaction, index: LogIndex) -> Result<Option<Command>, StoreError> {
    let table = reader.open_table(ENTRIES).map_err(disk)?;
    table.get(index.0).map_err(disk)?.map(|row| unpack(index.0, row.value())).transpose()
}

/// Whether an entry is still kept.
pub(crate) fn is_kept(reader: &ReadTransaction, index: LogIndex) -> Result<bool, StoreError> {
    let table = reader.open_table(ENTRIES).map_err(disk)?;
    Ok(table.get(index.0).map_err(disk)?.is_some())
}

/// Hands over the entries after one and up to another, oldest first, until there is none or whoever takes them has enough; gives whether all
/// were taken.
pub(crate) fn each(
    reader: &ReadTransaction,
    after: LogIndex,
    last: LogIndex,
    mut take: impl FnMut(LogIndex, Command) -> bool,
) -> Result<bool, StoreError> {
    let table = reader.open_table(ENTRIES).map_err(disk)?;
    if after >= last {
        return Ok(true);
    }
    for row in table.range(after.0.saturating_add(1)..=last.0).map_err(disk)? {
        let (key, row) = row.map_err(disk)?;
        if !take(LogIndex(key.value()), unpack(key.value(), row.value())?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Drops the oldest entry; returns its index and the room that it took.
pub(crate) fn drop_oldest(transaction: &WriteTransaction) -> Result<Option<(LogIndex, u64)>, StoreError> {
    let mut table = transaction.open_table(ENTRIES).map_err(disk)?;
    let oldest = table.pop_first().map_err(disk)?;
    Ok(oldest.map(|(key, row)| (LogIndex(key.value()), room(8, row.value().len()))))
}

#[cfg(test)]
mod tests {
    use crate::tests::player::Player;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    /// A settlement with the same round trips in its report and its partial report.
    fn settlement() -> Box<Settle> {
        let draw = &mut Draw(3);
        let mut settle = Box::new(Player::new(1).settlement());
        let mut partial: Partial = minicbor::decode(&settle.partials[0].payload).unwrap();
        partial.rtt = (0..20_000).map(|_| draw.next() as u16).collect();
        settle.report.seats[0].rtt = partial.rtt.clone();
        settle.partials[0].payload = minicbor::to_vec(&partial).unwrap();
        settle
    }

    #[test]
    fn an_entry_comes_back() {
        // A player that has not begun: what it draws follows from no rule of the kernel.
        let any = |draw: &mut Draw| Kept { once: draw.number(), command: Player::new(draw.next()).command() };
        check::row(any, |row| encode(TABLE, row), |row| decode(TABLE, 0, row), "dd40a09060e89e24");
    }

    #[test]
    fn what_was_played_comes_back() {
        let mut player = Player::new(8);
        for _ in 0..200 {
            let command = player.step().entry.command;
            assert_eq!(unpack(0, &pack(&mut Packer::new(), &command).unwrap()).unwrap(), command);
        }
    }

    #[test]
    fn round_trips_that_stand_twice_are_kept_once() {
        let mut settle = settlement();
        let command = Command::Settle(settle.clone());
        let row = pack(&mut Packer::new(), &command).unwrap();
        assert!(row.len() < 50_000, "two bytes of noise a member, and not four: {}", row.len());
        assert_eq!(unpack(0, &row).unwrap(), command);
        assert_eq!(drop_twins(&mut settle), 1);
        assert!(settle.report.seats[0].rtt.is_empty());
    }

    #[test]
    fn round_trips_that_differ_are_kept_both() {
        let mut settle = settlement();
        settle.report.seats[0].rtt[0] ^= 1;
        let command = Command::Settle(settle);
        assert_eq!(unpack(0, &pack(&mut Packer::new(), &command).unwrap()).unwrap(), command);
    }
}
