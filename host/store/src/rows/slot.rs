//! A slot: which policy decides, and what is to come.

use kernel::decide::Slot;
use kernel::outcome::Write;
use kernel::policies::SlotRow;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_numbered, encode};
use crate::tables::SLOTS;

const TABLE: &str = "slots";

/// The stored number of a slot; it is that of its encoding.
pub(crate) const fn number(slot: Slot) -> u64 {
    match slot {
        Slot::Reward => 0,
        Slot::Ban => 1,
        Slot::Signing => 2,
    }
}

/// The slot of a stored number.
pub(crate) fn of_number(number: u64) -> Option<Slot> {
    Slot::ALL.into_iter().find(|slot| self::number(*slot) == number)
}

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, SLOTS, |key, bytes| {
        let slot = of_number(key).ok_or_else(|| StoreError::damaged(TABLE, key, "no such slot"))?;
        take(Write::Slot(slot, Box::new(decode(TABLE, key, bytes)?)));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, slot: Slot, row: &SlotRow) -> Result<(), StoreError> {
    let bytes = encode(TABLE, row)?;
    transaction.open_table(SLOTS).map_err(disk)?.insert(number(slot), bytes.as_slice()).map_err(disk)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::id::{LogIndex, RoundId};
    use kernel::policies::{Scheduled, Shadowed};

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn any(draw: &mut Draw) -> SlotRow {
        SlotRow {
            active: draw.maybe(Draw::digest),
            previous: draw.maybe(Draw::digest),
            builtin: draw.maybe(Draw::digest),
            scheduled: draw.maybe(|draw| Scheduled {
                policy: draw.maybe(Draw::digest),
                round: RoundId(draw.number()),
                returned: draw.coin(),
                emergency: draw.coin(),
            }),
            faults: draw.some(|draw| RoundId(draw.number())),
            deadline_faults: draw.number() as u32,
            held: draw.coin(),
            file_said: draw.maybe(Draw::digest),
            faults_total: draw.number(),
            moves_accepted: RoundId(draw.number()),
            shadow: draw.maybe(|draw| Shadowed {
                policy: draw.digest(),
                since: LogIndex(draw.number()),
                round: RoundId(draw.number()),
            }),
        }
    }

    #[test]
    fn a_slot_comes_back() {
        check::row(any, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "d715f3ea17461be8");
    }

    #[test]
    fn the_number_of_a_slot_is_that_of_its_encoding() {
        for slot in Slot::ALL {
            assert_eq!(of_number(number(slot)), Some(slot));
            assert_eq!(minicbor::to_vec(slot).unwrap(), [number(slot) as u8]);
        }
    }
}
