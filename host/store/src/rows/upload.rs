//! A component of which pieces are missing: its size, four bytes, then what is there.

use kernel::id::Digest;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{each_named, hex, key32};
use crate::tables::UPLOADS;

const TABLE: &str = "uploads";

fn encode(size: u32, bytes: &[u8]) -> Vec<u8> {
    let mut row = size.to_be_bytes().to_vec();
    row.extend_from_slice(bytes);
    row
}

fn decode(key: &[u8], row: &[u8]) -> Result<(u32, Vec<u8>), StoreError> {
    let (size, bytes) =
        row.split_first_chunk().ok_or_else(|| StoreError::damaged(TABLE, hex(key), "its size is missing"))?;
    Ok((u32::from_be_bytes(*size), bytes.to_vec()))
}

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_named(reader, UPLOADS, |key, row| {
        take(Write::Upload(Digest(key32(TABLE, key)?), Some(decode(key, row)?)));
        Ok(())
    })
}

pub(crate) fn write(
    transaction: &WriteTransaction,
    key: &Digest,
    upload: Option<&(u32, Vec<u8>)>,
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(UPLOADS).map_err(disk)?;
    match upload {
        Some((size, bytes)) => table.insert(key.0.as_slice(), encode(*size, bytes).as_slice()).map_err(disk)?,
        None => table.remove(key.0.as_slice()).map_err(disk)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    #[test]
    fn an_upload_comes_back() {
        let any = |draw: &mut Draw| (draw.number() as u32, draw.some(|draw| draw.next() as u8));
        check::row(any, |(size, bytes)| Ok(encode(*size, bytes)), |row| decode(b"key", row), "9e60aa3318c3a1e3");
    }
}
