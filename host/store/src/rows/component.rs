//! A complete component: its bytes as they were uploaded, nothing around them.

use std::sync::Arc;

use kernel::id::Digest;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{each_named, hex, key32};
use crate::tables::COMPONENTS;

const TABLE: &str = "components";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_named(reader, COMPONENTS, |key, bytes| {
        let digest = Digest(key32(TABLE, key)?);
        if Digest::of(bytes) != digest {
            return Err(StoreError::damaged(TABLE, hex(key), "its bytes have another digest"));
        }
        take(Write::Component(digest, Some(bytes.into())));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, key: &Digest, bytes: Option<&Arc<[u8]>>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(COMPONENTS).map_err(disk)?;
    match bytes {
        Some(bytes) => table.insert(key.0.as_slice(), bytes.as_ref()).map_err(disk)?,
        None => table.remove(key.0.as_slice()).map_err(disk)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_its_bytes() {
        let store = crate::Store::open(&crate::Disk::memory(), 1 << 20).unwrap();
        let bytes: Arc<[u8]> = b"\0asm".as_slice().into();
        let put = |digest: Digest| {
            let transaction = crate::commit::begin(&store.database).unwrap();
            write(&transaction, &digest, Some(&bytes)).unwrap();
            transaction.commit().unwrap();
        };
        put(Digest::of(&bytes));
        assert_eq!(store.load().unwrap().components.get(&Digest::of(&bytes)), Some(&bytes));
        put(Digest::of(b"of other bytes"));
        assert!(matches!(store.load(), Err(StoreError::Damaged { table: "components", .. })));
    }
}
