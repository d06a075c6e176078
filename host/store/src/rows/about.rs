//! What a file says of itself: its format, the release that made it, and how many bytes of history it holds.

use minicbor::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, encode};
use crate::tables::ABOUT;

const TABLE: &str = "about";
const FORMAT_KEY: u64 = 0;
const HISTORY_KEY: u64 = 1;

/// The newest format, and the one that is written.
const NEWEST: u16 = 2;
/// The oldest one that is read: it had no mark, because there was no log.
const OLDEST: u16 = 1;
/// The newest format of a log.
const LOG_NEWEST: u16 = 1;
/// The newest format of a file of records.
const RECORDS_NEWEST: u16 = 1;

/// Its format.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct About {
    /// Raised when a release that does not know the change would misread the file.
    #[n(0)]
    pub(crate) format: u16,
    /// The release that wrote this row: whoever finds the format too new needs it or a later one.
    #[n(1)]
    pub(crate) release: String,
}

/// How much history there is, so that nothing need be scanned to keep its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct HistoryBytes {
    /// Of the span: entries, rounds, lines.
    #[n(0)]
    pub(crate) span: u64,
    /// Of what outlives it: moves and changes.
    #[n(1)]
    pub(crate) marks: u64,
}

impl About {
    /// Of a new file.
    pub(crate) fn new() -> Self {
        Self { format: NEWEST, release: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Of a new file of a log.
    pub(crate) fn new_log() -> Self {
        Self { format: LOG_NEWEST, ..Self::new() }
    }

    /// Of a new file of records.
    pub(crate) fn new_records() -> Self {
        Self { format: RECORDS_NEWEST, ..Self::new() }
    }

    /// Whether this release may read the log.
    pub(crate) fn check_log(&self) -> Result<(), StoreError> {
        self.check_between(LOG_NEWEST, LOG_NEWEST)
    }

    /// Whether this release may read the file of records.
    pub(crate) fn check_records(&self) -> Result<(), StoreError> {
        self.check_between(RECORDS_NEWEST, RECORDS_NEWEST)
    }

    /// Whether the file is to be brought to the newest format.
    pub(crate) const fn is_old(&self) -> bool {
        self.format < NEWEST
    }

    /// Whether this release may read the file.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.check_between(OLDEST, NEWEST)
    }

    fn check_between(&self, oldest: u16, newest: u16) -> Result<(), StoreError> {
        if self.format > newest {
            return Err(StoreError::TooNew { found: self.format, newest, release: self.release.clone() });
        }
        if self.format < oldest {
            return Err(StoreError::damaged(TABLE, FORMAT_KEY, format!("there never was a format {}", self.format)));
        }
        Ok(())
    }
}

/// What the file says.
pub(crate) fn read(reader: &ReadTransaction) -> Result<About, StoreError> {
    let table = reader.open_table(ABOUT).map_err(|error| StoreError::damaged(TABLE, FORMAT_KEY, error))?;
    let row = table.get(FORMAT_KEY).map_err(disk)?.ok_or_else(|| missing(FORMAT_KEY))?;
    // Only what every format has is read: later fields of a later one are not an error here.
    minicbor::decode(row.value()).map_err(|error| StoreError::damaged(TABLE, FORMAT_KEY, error))
}

/// Of a new file.
pub(crate) fn write(transaction: &WriteTransaction, about: &About) -> Result<(), StoreError> {
    set_format(transaction, about)?;
    set_history(transaction, HistoryBytes::default())
}

/// What the file is from now on.
pub(crate) fn set_format(transaction: &WriteTransaction, about: &About) -> Result<(), StoreError> {
    let mut table = transaction.open_table(ABOUT).map_err(disk)?;
    table.insert(FORMAT_KEY, encode(TABLE, about)?.as_slice()).map_err(disk)?;
    Ok(())
}

/// How much history there is, for a reader.
pub(crate) fn history_now(reader: &ReadTransaction) -> Result<HistoryBytes, StoreError> {
    let table = reader.open_table(ABOUT).map_err(disk)?;
    let row = table.get(HISTORY_KEY).map_err(disk)?.ok_or_else(|| missing(HISTORY_KEY))?;
    decode(TABLE, HISTORY_KEY, row.value())
}

/// How much history there is.
pub(crate) fn history(transaction: &WriteTransaction) -> Result<HistoryBytes, StoreError> {
    let table = transaction.open_table(ABOUT).map_err(disk)?;
    let row = table.get(HISTORY_KEY).map_err(disk)?.ok_or_else(|| missing(HISTORY_KEY))?;
    decode(TABLE, HISTORY_KEY, row.value())
}

/// Sets how much history there is.
pub(crate) fn set_history(transaction: &WriteTransaction, bytes: HistoryBytes) -> Result<(), StoreError> {
    let mut table = transaction.open_table(ABOUT).map_err(disk)?;
    table.insert(HISTORY_KEY, encode(TABLE, &bytes)?.as_slice()).map_err(disk)?;
    Ok(())
}

fn missing(key: u64) -> StoreError {
    StoreError::damaged(TABLE, key, "it is missing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    #[test]
    fn what_a_file_says_comes_back() {
        let make = |draw: &mut Draw| About { format: draw.number() as u16, release: draw.text() };
        check::row(make, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "0364d9816510b8d1");
        let make = |draw: &mut Draw| HistoryBytes { span: draw.number(), marks: draw.number() };
        check::row(make, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "08c2a974acaf0490");
    }

    #[test]
    fn fields_of_a_later_format_are_no_error() {
        let later = minicbor::to_vec((7_u16, "3.0.0", "more", 5_u8)).unwrap();
        let about: About = minicbor::decode(&later).unwrap();
        assert!(matches!(about.check(), Err(StoreError::TooNew { found: 7, .. })));
    }
}
