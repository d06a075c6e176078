//! The part of a member that changes each round, 256 members a row: one settlement rewrites a few dozen rows in place of
//! ten thousand.

use kernel::id::MemberNumber;
use kernel::members::Hot;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::HOT;

const TABLE: &str = "hot";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, HOT, |key, bytes| {
        let block = u32::try_from(key).map_err(|error| StoreError::damaged(TABLE, key, error))?;
        take(Write::Hot(block, decode(TABLE, key, bytes)?));
        Ok(())
    })
}

pub(crate) fn write(
    transaction: &WriteTransaction,
    block: u32,
    rows: &[(MemberNumber, Hot)],
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(HOT).map_err(disk)?;
    if rows.is_empty() {
        table.remove(u64::from(block)).map_err(disk)?;
    } else {
        table.insert(u64::from(block), encode(TABLE, &rows)?.as_slice()).map_err(disk)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::id::RoundId;
    use kernel::members::Place;
    use kernel::round::Presence;
    use kernel::standing::Standing;
    use kernel::units::Points;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn hot(draw: &mut Draw) -> Hot {
        use Place::{Entering, Leaving, Out, OutOutdated, Outdated, Queued};
        use Standing::{Banned, Good, Probation, Suspended, Warned};
        Hot {
            place: draw.one_of(&[Out, Entering, Queued, Leaving, Outdated, OutOutdated]),
            standing: draw.one_of(&[Good, Warned, Suspended, Banned, Probation]),
            strikes: draw.number() as u16,
            until: RoundId(draw.number()),
            probation_left: draw.number() as u32,
            age: draw.number() as u32,
            earned: Points(draw.number() as i64),
            claimed: Points(draw.number() as i64),
            penalties: Points(draw.number() as i64),
            presence: draw.one_of(&[Presence::Down, Presence::Up, Presence::Unknown]),
            trusted_up: draw.coin(),
            last_up: RoundId(draw.number()),
            asked_seats: draw.next() as u8,
            moved_out: RoundId(draw.number()),
            left: RoundId(draw.number()),
            by_hand: draw.coin(),
            rtt_us: draw.number() as u32,
            data: draw.number(),
            held_at: RoundId(draw.number()),
            held_by: draw.maybe(Draw::digest),
            away: draw.number() as u16,
        }
    }

    #[test]
    fn a_block_comes_back() {
        let any = |draw: &mut Draw| -> Vec<(MemberNumber, Hot)> {
            (0..1 + draw.below(5)).map(|at| (MemberNumber(at as u32 * 3), hot(draw))).collect()
        };
        check::row(any, |rows| encode(TABLE, rows), |bytes| decode(TABLE, 0, bytes), "a5177385fd09cd95");
    }
}
