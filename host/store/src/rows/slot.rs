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
    }
}

/// The slot of a stored number.
pub(crate) fn of_number(number: u64) -> Option<Slot> {
    Slot::ALL.into_iter().find(|slot| self::number(*slot) == number)
}

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, SLOTS, &mut |key, bytes| {
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
