//! The single row of small things, with the log index that was applied last.

use kernel::id::LogIndex;
use kernel::outcome::Write;
use kernel::state::Meta;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::META;

const TABLE: &str = "meta";
const KEY: u64 = 0;

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, META, |key, bytes| {
        take(Write::Meta(Box::new(decode(TABLE, key, bytes)?)));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, meta: &Meta) -> Result<(), StoreError> {
    let bytes = encode(TABLE, meta)?;
    transaction.open_table(META).map_err(disk)?.insert(KEY, bytes.as_slice()).map_err(disk)?;
    Ok(())
}

/// The log index that was applied last; 0 on a new disk.
pub(crate) fn applied(transaction: &WriteTransaction) -> Result<LogIndex, StoreError> {
    let table = transaction.open_table(META).map_err(disk)?;
    let row = table.get(KEY).map_err(disk)?;
    row.map_or(Ok(LogIndex(0)), |row| decode::<Meta>(TABLE, KEY, row.value()).map(|meta| meta.applied))
}

/// The row; `None` on a new disk.
pub(crate) fn now(reader: &ReadTransaction) -> Result<Option<Meta>, StoreError> {
    let table = reader.open_table(META).map_err(disk)?;
    table.get(KEY).map_err(disk)?.map(|row| decode(TABLE, KEY, row.value())).transpose()
}

/// The log index that was applied last, for a reader.
pub(crate) fn applied_now(reader: &ReadTransaction) -> Result<LogIndex, StoreError> {
    Ok(now(reader)?.map_or(LogIndex(0), |meta| meta.applied))
}

#[cfg(test)]
mod tests {
    use kernel::command::Super;
    use kernel::decide::Tariff;
    use kernel::id::{ClusterId, Genesis, MemberNumber, RoundId, Seat, Term};
    use kernel::round::SeatRow;
    use kernel::settings::Settings;
    use kernel::units::Points;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn settings(draw: &mut Draw) -> Settings {
        Settings { interval_ms: draw.number(), return_faults: draw.number(), ..Settings::default() }
    }

    fn seat(draw: &mut Draw) -> SeatRow {
        SeatRow {
            seat: Seat(draw.below(8) as u8),
            holder: Super { node: draw.node(), name: draw.text(), address: draw.text() },
            came: draw.coin(),
            open_since_ms: draw.number(),
            grace_until: RoundId(draw.number()),
            load_rounds: draw.number() as u32,
            from: RoundId(draw.number()),
        }
    }

    fn any(draw: &mut Draw) -> Meta {
        Meta {
            applied: LogIndex(draw.number()),
            cluster: ClusterId { id: draw.text(), genesis: Genesis([draw.below(256) as u8; 16]) },
            term: Term(draw.number()),
            leader: draw.maybe(Draw::node),
            stamp_ms: draw.number(),
            settled: RoundId(draw.number()),
            settled_ms: draw.number(),
            settled_term: Term(draw.number()),
            settled_digest: draw.digest(),
            suspect: draw.coin(),
            suspect_rounds: draw.number() as u32,
            trusted: RoundId(draw.number()),
            seats: draw.some(seat),
            settings: settings(draw),
            settings_version: draw.number(),
            settings_next: draw.maybe(|draw| (RoundId(draw.number()), settings(draw))),
            tariff: Tariff {
                overclaim_bp: draw.number() as u32,
                overclaim_min: draw.number() as u32,
                record_fee: draw.number() as u32,
                record_fee_kib: draw.number() as u32,
            },
            treasury: Points(-(draw.number() as i64 >> 1)),
            issued: Points(draw.number() as i64),
            next_number: MemberNumber(draw.number() as u32),
            joins: draw.number() as u32,
            group_joins: draw.some(|draw| (draw.number() as u32, draw.number() as u32)),
            file_settings: draw.some(|draw| (draw.text(), draw.text())),
            tariff_by: draw.maybe(Draw::digest),
            loose: draw.some(|draw| (draw.digest(), RoundId(draw.number()))),
            left: draw.some(seat),
            supers_changed: LogIndex(draw.number()),
            records: Default::default(),
        }
    }

    #[test]
    fn small_things_come_back() {
        check::row(any, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "e20c921141a71b48");
    }
}
