//! A settled round, in two rows: what is said of the round itself, which lists show, and one entry a member, deflated,
//! which only a look at that round or an account needs.

use kernel::id::{LogIndex, MemberNumber, RoundId};
use kernel::outcome::RoundRecord;
use minicbor::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::history::{put_numbered, room};
use crate::rows::pack::{self, Packer};
use crate::rows::{decode, encode};
use crate::tables::{COLUMNS, ROUNDS};

const TABLE: &str = "rounds";

/// The columns of a record. Members are numbers and the steps between them: a full queue is then all ones, which deflate
/// to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Columns {
    #[n(0)]
    pub(crate) steps: Vec<MemberNumber>,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) presence: Vec<u8>,
    #[n(2)]
    pub(crate) points: Vec<i64>,
    #[n(3)]
    pub(crate) reasons: Vec<u16>,
}

/// A record without its columns.
pub(crate) fn head(record: &RoundRecord) -> RoundRecord {
    RoundRecord {
        members: Vec::new(),
        presence: Vec::new(),
        points: Vec::new(),
        reasons: Vec::new(),
        slots: record.slots.clone(),
        ..*record
    }
}

pub(crate) fn columns(record: &RoundRecord) -> Columns {
    let mut before = 0;
    let mut step =
        |number: &MemberNumber| MemberNumber(number.0.wrapping_sub(std::mem::replace(&mut before, number.0)));
    Columns {
        steps: record.members.iter().map(&mut step).collect(),
        presence: record.presence.clone(),
        points: record.points.clone(),
        reasons: record.reasons.clone(),
    }
}

pub(crate) fn put_back(record: &mut RoundRecord, columns: Columns) {
    let mut number = 0_u32;
    record.members = columns.steps;
    for member in &mut record.members {
        number = number.wrapping_add(member.0);
        *member = MemberNumber(number);
    }
    record.presence = columns.presence;
    record.points = columns.points;
    record.reasons = columns.reasons;
}

/// Keeps a round; returns the room that it takes.
pub(crate) fn write(
    transaction: &WriteTransaction,
    packer: &mut Packer,
    record: &RoundRecord,
) -> Result<u64, StoreError> {
    let (key, columns) = (record.round.0, packer.pack(&encode(TABLE, &columns(record))?));
    Ok(put_numbered(transaction, ROUNDS, key, &encode(TABLE, &head(record))?)?
        + put_numbered(transaction, COLUMNS, key, &columns)?)
}

pub(crate) fn decode_head(key: u64, row: &[u8]) -> Result<RoundRecord, StoreError> {
    decode(TABLE, key, row)
}

pub(crate) fn decode_columns(key: u64, row: &[u8]) -> Result<Columns, StoreError> {
    decode(TABLE, key, &pack::unpack(TABLE, key, row)?)
}

/// A whole round, where it is still kept.
pub(crate) fn read(reader: &ReadTransaction, round: RoundId) -> Result<Option<RoundRecord>, StoreError> {
    let rounds = reader.open_table(ROUNDS).map_err(disk)?;
    let Some(row) = rounds.get(round.0).map_err(disk)? else { return Ok(None) };
    let mut record = decode_head(round.0, row.value())?;
    let all = reader.open_table(COLUMNS).map_err(disk)?;
    let row = all.get(round.0).map_err(disk)?;
    let row = row.ok_or_else(|| StoreError::damaged(TABLE, round, "its columns are missing"))?;
    put_back(&mut record, decode_columns(round.0, row.value())?);
    Ok(Some(record))
}

/// Drops the rounds that were settled up to a log index; returns the room that they took.
pub(crate) fn drop_up_to(transaction: &WriteTransaction, index: LogIndex) -> Result<u64, StoreError> {
    let mut rounds = transaction.open_table(ROUNDS).map_err(disk)?;
    let mut all = transaction.open_table(COLUMNS).map_err(disk)?;
    let mut freed = 0;
    loop {
        let Some((key, took)) = oldest_up_to(&rounds, index)? else { return Ok(freed) };
        freed += took;
        rounds.remove(key).map_err(disk)?;
        if let Some(columns) = all.remove(key).map_err(disk)? {
            freed += room(8, columns.value().len());
        }
    }
}

fn oldest_up_to(
    rounds: &impl ReadableTable<u64, &'static [u8]>,
    index: LogIndex,
) -> Result<Option<(u64, u64)>, StoreError> {
    let Some((key, row)) = rounds.first().map_err(disk)? else { return Ok(None) };
    let is_old = decode_head(key.value(), row.value())?.index <= index;
    Ok(is_old.then(|| (key.value(), room(8, row.value().len()))))
}

#[cfg(test)]
mod tests {
    use kernel::decide::{Fault, FaultKind, Slot};
    use kernel::id::Term;
    use kernel::outcome::SlotRecord;
    use kernel::round::Marks;
    use kernel::units::Points;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    pub(crate) fn any(draw: &mut Draw) -> RoundRecord {
        let mut number = 0;
        let members: Vec<MemberNumber> = draw.some(|draw| {
            number += 1 + draw.below(3) as u32;
            MemberNumber(number)
        });
        let slot = |draw: &mut Draw| SlotRecord {
            slot: draw.one_of(&[Slot::Reward, Slot::Ban]),
            policy: draw.maybe(Draw::digest),
            input: draw.maybe(Draw::digest),
            fault: draw.maybe(|draw| Fault::new(FaultKind::Trap, &draw.text())),
            called: draw.coin(),
            fuel: draw.number(),
        };
        RoundRecord {
            round: RoundId(draw.number()),
            term: Term(draw.number()),
            now_ms: draw.number(),
            index: LogIndex(draw.number()),
            digest: draw.digest(),
            marks: Marks { causes: draw.below(16) as u8, missing: draw.number() as u32, ..Marks::default() },
            counts: (draw.number() as u32, draw.number() as u32, draw.number() as u32),
            slots: draw.some(slot),
            settings_version: draw.number(),
            issued: Points(draw.number() as i64),
            moves: draw.number() as u32,
            deferred: draw.number() as u32,
            held: draw.number() as u32,
            clamped: draw.number() as u32,
            presence: members.iter().map(|_| draw.below(3) as u8).collect(),
            points: members.iter().map(|_| draw.number() as i64).collect(),
            reasons: members.iter().map(|_| draw.number() as u16).collect(),
            members,
        }
    }

    #[test]
    fn a_round_comes_back() {
        check::row(
            |draw| head(&any(draw)),
            |row| encode(TABLE, row),
            |bytes| decode_head(0, bytes),
            "9c1a826bcebea0e7",
        );
        let of = |draw: &mut Draw| columns(&any(draw));
        check::row(of, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "29ce09d913f8980a");
        for seed in 0..100 {
            let record = any(&mut Draw(seed));
            let mut back = head(&record);
            put_back(&mut back, columns(&record));
            assert_eq!(back, record);
        }
    }
}
