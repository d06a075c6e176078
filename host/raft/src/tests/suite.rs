//! openraft's suite for stores, on a disk and in memory, with a thread and without.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use store::Disk;
use tempfile::TempDir;

use super::Disks;
use crate::types::Types;
use crate::{Log, Machine, Runs};

struct Builder {
    on_disk: bool,
    runs: Runs,
}

impl StoreBuilder<Types, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let disks = if self.on_disk {
            let file = |name| Disk::file(folder.path().join(name));
            Disks { log: file("raft.redb"), state: file("state.redb") }
        } else {
            Disks::memory()
        };
        let replicated = disks.start(self.runs);
        Ok((folder, replicated.log, replicated.machine))
    }
}

#[tokio::test]
async fn stores_on_a_disk_are_what_openraft_asks_for() {
    Suite::test_all(Builder { on_disk: true, runs: Runs::OnThreads }).await.unwrap();
}

#[tokio::test]
async fn stores_in_memory_are_what_openraft_asks_for() {
    Suite::test_all(Builder { on_disk: false, runs: Runs::OnThreads }).await.unwrap();
}

#[tokio::test]
async fn stores_without_threads_are_what_openraft_asks_for() {
    Suite::test_all(Builder { on_disk: false, runs: Runs::Inline }).await.unwrap();
}
