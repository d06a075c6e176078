//! What can go wrong, by what is to be done about it.

use std::path::PathBuf;

use kernel::id::{Genesis, LogIndex};

/// Why the store did not do what was asked. Each variant is a different thing to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another store of this one, has the file. Stop it, or give this node its own `data_dir`.
    #[error("{} is in use by another process: stop it, or give this node its own data_dir", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or made. Mend its directory or rights.
    #[error("{} cannot be opened: check that the directory exists and that this user may write to it", path.display())]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is something else. Move it away, or name another `data_dir`.
    #[error("{} is no pingward store: move it away, or name another data_dir", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer release. Upgrade this node; do not delete the file.
    #[error(
        "the store has format {found}, written by pingward {release}; this release reads up to format {newest}: upgrade \
         to {release} or later, and keep the file"
    )]
    TooNew {
        /// Its format.
        found: u16,
        /// The newest one that this release reads.
        newest: u16,
        /// The release that wrote it.
        release: String,
    },
    /// The file is of another cluster, or of another life of this one. Move it away, or name another `data_dir`.
    #[error("the records are of the cluster with genesis {found}, this node is of {expected}: move the file away")]
    OtherCluster {
        /// Whose records they are.
        found: Genesis,
        /// The node's.
        expected: Genesis,
    },
    /// The disk failed. Nothing acknowledged is lost, but the store stays shut until it is opened again.
    #[error("the disk refused an operation: nothing acknowledged is lost, the store must be opened again")]
    MustReopen {
        /// What the engine says.
        source: Box<redb::Error>,
    },
    /// A row is not what was written. Restore the file from a copy.
    #[error("row {key} of table `{table}` cannot be read ({what}): restore the file from a copy")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The row.
        key: String,
        /// What does not fit.
        what: String,
    },
    /// The log index is stored already. Do not apply its command again.
    #[error("log index {index} is stored already, the last one is {applied}")]
    AlreadyApplied {
        /// What was to be stored.
        index: LogIndex,
        /// The last one that is.
        applied: LogIndex,
    },
    /// What came as a snapshot is none, or none for this store. Nothing was changed; ask for another one.
    #[error("this is no snapshot for this store ({what}): nothing was changed, ask for another one")]
    NotASnapshot {
        /// What does not fit.
        what: String,
    },
    /// Entries and rows do not belong together: a bug of the caller. Nothing was written.
    #[error("entries end at log index {entries}, their rows at {rows}: nothing was written")]
    Mismatch {
        /// The last entry.
        entries: LogIndex,
        /// What the rows say was applied.
        rows: LogIndex,
    },
}

impl StoreError {
    /// A row that is not what was written.
    pub(crate) fn damaged(table: &'static str, key: impl std::fmt::Display, what: impl std::fmt::Display) -> Self {
        Self::Damaged { table, key: key.to_string(), what: what.to_string() }
    }
}

/// An error of the engine while the store is open.
pub(crate) fn disk(error: impl Into<redb::Error>) -> StoreError {
    let error = error.into();
    if let redb::Error::Corrupted(what) = &error {
        return StoreError::damaged("(pages)", "-", what);
    }
    StoreError::MustReopen { source: Box::new(error) }
}
