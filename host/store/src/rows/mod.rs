//! One file per row type: its key, its encoding, how it is written and read. Each has its round-trip property and the
//! hash of a fixed sample's encoding: a test that fails there says that files written before can no longer be read, so
//! the change needs a new table or a new format, and a commit of its own.

pub(crate) mod about;

pub(crate) mod batch;
pub(crate) mod component;
pub(crate) mod contents;
pub(crate) mod hot;
pub(crate) mod memory;
pub(crate) mod meta;
pub(crate) mod policy;
pub(crate) mod profile;
pub(crate) mod slot;
pub(crate) mod upload;
pub(crate) mod validators;
pub(crate) mod wallet;

pub(crate) mod change;
pub(crate) mod entry;
pub(crate) mod keyframe;
pub(crate) mod line;
pub(crate) mod logged;
pub(crate) mod mark;
pub(crate) mod moved;
pub(crate) mod pack;
pub(crate) mod round;

use kernel::outcome::Write;
use minicbor::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable};

use crate::error::{StoreError, disk};
use crate::tables::{Named, Numbered};

/// Hands over every row of the state, in the order in which it can be taken back.
pub(crate) fn load_all(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    meta::load(reader, take)?;
    profile::load(reader, take)?;
    hot::load(reader, take)?;
    wallet::load(reader, take)?;
    slot::load(reader, take)?;
    policy::load(reader, take)?;
    component::load(reader, take)?;
    upload::load(reader, take)?;
    memory::load(reader, take)?;
    validators::load(reader, take)?;
    batch::load(reader, take)?;
    contents::load(reader, take)
}

/// CBOR of a value.
pub(crate) fn encode<T: Encode<()>>(table: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    minicbor::to_vec(value).map_err(|error| StoreError::damaged(table, "(new)", error))
}

/// The value of all these bytes.
pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(
    table: &'static str,
    key: impl std::fmt::Display,
    bytes: &[u8],
) -> Result<T, StoreError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|error| StoreError::damaged(table, &key, error))?;
    if decoder.position() != bytes.len() {
        return Err(StoreError::damaged(table, key, "bytes after its end"));
    }
    Ok(value)
}

/// Bytes as hex digits, for messages.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The 32 bytes of a key.
pub(crate) fn key32(table: &'static str, key: &[u8]) -> Result<[u8; 32], StoreError> {
    key.try_into().map_err(|_| StoreError::damaged(table, hex(key), "its key has another length"))
}

/// Every row of a table by number.
pub(crate) fn each_numbered(
    reader: &ReadTransaction,
    table: Numbered,
    mut row: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for entry in reader.open_table(table).map_err(disk)?.iter().map_err(disk)? {
        let (key, value) = entry.map_err(disk)?;
        row(key.value(), value.value())?;
    }
    Ok(())
}

/// Every row of a table by bytes.
pub(crate) fn each_named(
    reader: &ReadTransaction,
    table: Named,
    mut row: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for entry in reader.open_table(table).map_err(disk)?.iter().map_err(disk)? {
        let (key, value) = entry.map_err(disk)?;
        row(key.value(), value.value())?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod check {
    use kernel::id::Digest;

    use crate::error::StoreError;
    use crate::tests::draw::Draw;

    /// Any value comes back as it went, and the encoding of a fixed one has this digest. Another digest: files that were
    /// written before cannot be read any more, so the change needs a new table or a new format.
    pub(crate) fn row<T: PartialEq + std::fmt::Debug>(
        make: impl Fn(&mut Draw) -> T,
        encode: impl Fn(&T) -> Result<Vec<u8>, StoreError>,
        decode: impl Fn(&[u8]) -> Result<T, StoreError>,
        fixture: &str,
    ) {
        for seed in 0..200 {
            let value = make(&mut Draw(seed));
            let bytes = encode(&value).unwrap();
            assert_eq!(decode(&bytes).unwrap(), value, "seed {seed}");
            let cut = bytes.len() - 1;
            assert!(decode(&bytes[..cut]).map_or(true, |read| read != value), "seed {seed}: cut short");
        }
        let some: Vec<u8> = (1_000..1_020).flat_map(|seed| encode(&make(&mut Draw(seed))).unwrap()).collect();
        let digest = Digest::of(&some).to_string();
        assert_eq!(digest.trim_start_matches("sha256:").get(..16), Some(fixture), "the encoding is another one");
    }

    /// Keys keep the order of what they are made from, and come back as they went.
    pub(crate) fn keys<K: Ord + std::fmt::Debug>(
        make: impl Fn(&mut Draw) -> K,
        bytes: impl Fn(&K) -> Vec<u8>,
        of_bytes: impl Fn(&[u8]) -> Option<K>,
    ) {
        for seed in 0..1_000 {
            let draw = &mut Draw(seed);
            let (a, b) = (make(draw), make(draw));
            assert_eq!(a.cmp(&b), bytes(&a).cmp(&bytes(&b)), "{a:?} {b:?}");
            assert_eq!(of_bytes(&bytes(&a)).as_ref(), Some(&a));
        }
    }
}
