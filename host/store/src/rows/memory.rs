//! What a policy remembers of 256 members: the bytes as they are.

use kernel::decide::Slot;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{each_numbered, slot};
use crate::tables::MEMORY;

const TABLE: &str = "memory";

/// Whose memory a row is: block in the lower half, then one bit for `saved`, then the slot.
fn key(slot: Slot, saved: bool, block: u32) -> u64 {
    slot::number(slot) << 33 | u64::from(saved) << 32 | u64::from(block)
}

fn of_key(key: u64) -> Option<(Slot, bool, u32)> {
    let slot = slot::of_number(key >> 33)?;
    Some((slot, key & 1 << 32 != 0, u32::try_from(key & u64::from(u32::MAX)).ok()?))
}

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_numbered(reader, MEMORY, |key, bytes| {
        let (slot, saved, block) = of_key(key).ok_or_else(|| StoreError::damaged(TABLE, key, "no such slot"))?;
        take(Write::Memory { slot, saved, block, bytes: Some(bytes.to_vec()) });
        Ok(())
    })
}

pub(crate) fn write(
    transaction: &WriteTransaction,
    slot: Slot,
    saved: bool,
    block: u32,
    bytes: Option<&[u8]>,
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(MEMORY).map_err(disk)?;
    match bytes {
        Some(bytes) => table.insert(key(slot, saved, block), bytes).map_err(disk)?,
        None => table.remove(key(slot, saved, block)).map_err(disk)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    #[test]
    fn memory_is_found_by_slot_and_block() {
        let any = |draw: &mut Draw| (draw.one_of(&Slot::ALL), draw.coin(), draw.number() as u32);
        let bytes = |(slot, saved, block): &(Slot, bool, u32)| key(*slot, *saved, *block).to_be_bytes().to_vec();
        let of_bytes = |bytes: &[u8]| of_key(u64::from_be_bytes(bytes.try_into().ok()?));
        check::keys(any, bytes, of_bytes);
        assert_eq!(of_key(3 << 33), None, "no such slot");
    }
}
