//! What a node remembers of others between starts: the keys that it saw behind addresses without a key, and which life
//! of its cluster it belongs to. Kept in `data_dir/known.json`.
//!
//! Invariant: what is remembered is never replaced by what comes in; a change is refused and the operator told how to
//! accept it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kernel::id::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

use crate::keys;

/// Name of the file in the data folder.
pub const FILE: &str = "known.json";

/// The memory of one node. Clones are the same.
#[derive(Clone, Debug)]
pub struct Known {
    path: Option<PathBuf>,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    /// `id#genesis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// `host:port` to key.
    #[serde(default)]
    keys: BTreeMap<String, String>,
}

/// Why something is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// Another key than before answers at an address.
    #[error(
        "{address} shows the key {shown}, but {remembered} was seen there before; if that super really has a new key, remove its line from {file} and start again"
    )]
    OtherKey {
        /// Where.
        address: String,
        /// What it shows.
        shown: NodeId,
        /// What is remembered.
        remembered: NodeId,
        /// Where it is remembered.
        file: String,
    },
    /// Another cluster, or another life of the same one.
    #[error(
        "this node belongs to cluster {remembered}, but the super belongs to {shown}; if the cluster was founded anew on purpose, remove `cluster` from {file} and start again"
    )]
    OtherCluster {
        /// What the super says.
        shown: ClusterId,
        /// What is remembered.
        remembered: ClusterId,
        /// Where it is remembered.
        file: String,
    },
    /// The file cannot be read.
    #[error("{path} is not what this release writes: {why}; mend or remove it (then keys are learned anew)")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The disk refuses.
    #[error("cannot keep {path}")]
    Disk {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Known {
    /// Remembers in memory only.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { path: None, rows: Arc::new(Mutex::new(Rows { cluster: None, keys: BTreeMap::new() })) }
    }

    /// Remembers in a data folder.
    ///
    /// # Errors
    /// [`KnownError`]: nothing is learned over a file that cannot be read.
    pub fn open(data_dir: &Path) -> Result<Self, KnownError> {
        let path = data_dir.join(FILE);
        let shown = path.display().to_string();
        let rows: Rows = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| KnownError::Unreadable { path: shown.clone(), why: error.to_string() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Rows::default(),
            Err(source) => return Err(KnownError::Disk { path: shown, source }),
        };
        let unreadable = |why: String| KnownError::Unreadable { path: shown.clone(), why };
        for (address, key) in &rows.keys {
            NodeId::parse(key).map_err(|error| unreadable(format!("the key of {address}: {error}")))?;
        }
        if let Some(cluster) = &rows.cluster {
            cluster.parse::<ClusterId>().map_err(|error| unreadable(format!("cluster: {error}")))?;
        }
        Ok(Self { path: Some(path), rows: Arc::new(Mutex::new(rows)) })
    }

    /// The key that was seen at an address.
    #[must_use]
    pub fn key(&self, address: &str) -> Option<NodeId> {
        self.rows(|rows| rows.keys.get(address).and_then(|key| NodeId::parse(key).ok()))
    }

    /// The cluster that this node belongs to, once it was welcome anywhere.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.rows(|rows| rows.cluster.as_ref().and_then(|cluster| cluster.parse().ok()))
    }

    /// Takes the key that an address showed: the first one is kept.
    ///
    /// # Errors
    /// [`KnownError::OtherKey`] when it is another one than before.
    pub fn learn_key(&self, address: &str, shown: NodeId) -> Result<(), KnownError> {
        match self.key(address) {
            Some(remembered) if remembered == shown => Ok(()),
            Some(remembered) => {
                Err(KnownError::OtherKey { address: address.to_owned(), shown, remembered, file: self.file() })
            }
            None => self.change(|rows| {
                rows.keys.insert(address.to_owned(), shown.to_string());
            }),
        }
    }

    /// Takes the cluster that a super named: the first one is kept.
    ///
    /// # Errors
    /// [`KnownError::OtherCluster`] when it is another one than before.
    pub fn learn_cluster(&self, shown: &ClusterId) -> Result<(), KnownError> {
        match self.cluster() {
            Some(remembered) if remembered == *shown => Ok(()),
            Some(remembered) => Err(KnownError::OtherCluster { shown: shown.clone(), remembered, file: self.file() }),
            None => self.change(|rows| rows.cluster = Some(shown.to_string())),
        }
    }

    /// Where it is kept, for messages.
    #[must_use]
    pub fn file(&self) -> String {
        self.path.as_ref().map_or_else(|| "memory".to_owned(), |path| path.display().to_string())
    }

    fn rows<T>(&self, read: impl FnOnce(&Rows) -> T) -> T {
        read(&self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Rows)) -> Result<(), KnownError> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = rows.clone();
        change(&mut next);
        if let Some(path) = &self.path {
            let disk = |source| KnownError::Disk { path: path.display().to_string(), source };
            let text = serde_json::to_vec_pretty(&next).map_err(|error| disk(io::Error::other(error)))?;
            keys::replace(path, &text).map_err(disk)?;
        }
        *rows = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kernel::id::Genesis;

    use super::*;
    use crate::keys::NodeKey;

    fn id(seed: u8) -> NodeId {
        NodeKey::from_seed(&[seed; 32]).id()
    }

    #[test]
    fn the_first_key_and_cluster_are_kept_across_starts() {
        let dir = tempfile::tempdir().unwrap();
        let lab = ClusterId { id: "lab".into(), genesis: Genesis([1; 16]) };
        let other = ClusterId { genesis: Genesis([2; 16]), ..lab.clone() };
        let known = Known::open(dir.path()).unwrap();
        known.learn_key("a:1", id(1)).unwrap();
        known.learn_cluster(&lab).unwrap();

        let known = Known::open(dir.path()).unwrap();
        known.learn_key("a:1", id(1)).unwrap();
        let error = known.learn_key("a:1", id(2)).unwrap_err().to_string();
        assert!(error.contains("remove its line from") && error.contains("known.json"), "{error}");
        let error = known.learn_cluster(&other).unwrap_err().to_string();
        assert!(error.contains(&lab.to_string()) && error.contains(&other.to_string()), "{error}");
        assert_eq!((known.key("a:1"), known.cluster()), (Some(id(1)), Some(lab)));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["{", r#"{"keys":{"a:1":"00"}}"#, r#"{"cluster":"lab"}"#, r#"{"more":1}"#] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(matches!(Known::open(dir.path()), Err(KnownError::Unreadable { .. })), "{text}");
        }
    }
}
