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
    each_named(reader, COMPONENTS, &mut |key, bytes| {
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
