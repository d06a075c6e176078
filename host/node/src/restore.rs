//! Makes a cluster of a backup, in a data folder that holds none (PROTOCOLS 1.5).
//!
//! The file is built under another name and gets its own when all of it is on the disk, so a folder holds the whole cluster
//! or none. What is in the state afterwards came about without a log: the first start gives it one, as a group of this
//! super alone.

use std::fs::File;
use std::path::{Path, PathBuf};

use kernel::command::{Command, Entry, Restore, Super};
use kernel::id::{ClusterId, Genesis, LogIndex, NodeId, RoundId};
use store::{Backup, Disk, Store, StoreError};

use crate::config::{Config, Role, Storage};
use crate::failure::Failure;
use crate::group::{LOG_FILE, STATE_FILE};
use crate::keys::{self, NodeKey};
use crate::rest::problem::Problem;

/// A cluster that was made of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its name and new genesis.
    pub cluster: ClusterId,
    /// The cluster of the backup.
    pub from: ClusterId,
    /// The last settled round: the next one follows it.
    pub round: RoundId,
    /// The super that is its group.
    pub node: NodeId,
}

/// Reads a backup whole.
///
/// # Errors
/// It is none, or not whole.
pub fn opened(file: &Path) -> Result<Backup, Failure> {
    let place = file.display().to_string();
    let opened = File::open(file).map_err(|error| {
        Failure::new(format!("the backup cannot be read: {error}"), "check the path and its permissions").at(&place)
    })?;
    Backup::read(opened).map_err(|error| {
        let failure = if let StoreError::NotASnapshot { what } = error {
            Failure::new(format!("this is no whole backup: {what}"), "take another copy of it, or another backup")
        } else {
            Failure::plain(error.to_string())
        };
        failure.at(place)
    })
}

/// Makes a cluster of a backup, for the super of this config.
///
/// # Errors
/// What is wrong, and how to mend it; the folder then holds no cluster, as before.
pub fn restore(config: &Config, file: &Path, now_ms: u64) -> Result<Restored, Failure> {
    let place = config.file.display().to_string();
    if config.role != Role::Super {
        return Err(Failure::usage("the config is a follower's", "name a super's with --config FILE").at(place));
    }
    if config.storage == Storage::Memory {
        let hint = "set node.storage = \"disk\"";
        return Err(Failure::usage("the config says node.storage = \"memory\": nothing would be kept", hint).at(place));
    }
    let backup = opened(file)?;
    let from = backup.cluster().clone();
    if from.id != config.cluster_id {
        let what = format!("the backup is of {from}, the config says cluster.id = \"{}\"", config.cluster_id);
        return Err(Failure::new(what, format!("set cluster.id = \"{}\"", from.id)).at(place));
    }
    keys::data_dir(&config.data_dir).map_err(|error| Failure::plain(error.to_string()))?;
    let (state, log) = (config.data_dir.join(STATE_FILE), config.data_dir.join(LOG_FILE));
    if let Some(there) = [&state, &log].into_iter().find(|path| path.exists()) {
        return Err(full(there));
    }
    let (key, _) = NodeKey::load_or_create(&config.key_file).map_err(|error| Failure::plain(error.to_string()))?;
    let mut genesis = [0; 16];
    getrandom::fill(&mut genesis)
        .map_err(|error| Failure::plain(format!("the system gives no random bytes: {error}")))?;

    let draft = draft(&state);
    let failed = |error: StoreError| {
        let hint = format!("check the disk; remove {} before you try again", draft.display());
        Failure::new(error.to_string(), hint).at(draft.display().to_string())
    };
    let store = Store::open(&Disk::file(&draft), config.history_max_bytes).map_err(failed)?;
    let mark = store.bring_back(&backup).map_err(failed)?;
    let mut cluster = store.load().map_err(failed)?;
    let index = LogIndex(mark.applied.map_or(0, |applied| applied.index).max(cluster.meta.applied.0) + 1);
    let founder = Super { node: key.id(), name: config.name.clone(), address: config.grpc.to_string() };
    let command = Command::Restore(Box::new(Restore { genesis: Genesis(genesis), founder, now_ms }));
    let outcome = cluster.apply(index, &command);
    if let Err(reject) = outcome.reply {
        drop(store);
        let _not_needed = std::fs::remove_file(&draft);
        let problem = Problem::from(reject).view(None);
        return Err(Failure::new(problem.detail, problem.hint).at(place));
    }
    store.commit(&[Entry { index, command }], &outcome.writes).map_err(failed)?;
    // Its lock goes with it; what it holds is on the disk.
    drop(store);
    keys::put_new(&draft, &state).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return full(&state);
        }
        Failure::new(format!("{} cannot be made: {error}", state.display()), "check the folder and the disk")
    })?;
    Ok(Restored { cluster: cluster.meta.cluster.clone(), from, round: cluster.meta.settled, node: key.id() })
}

fn draft(state: &Path) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    state.with_file_name(name)
}

fn full(path: &Path) -> Failure {
    Failure::new(
        "the data folder holds a cluster already: nothing is restored over it",
        "name another node.data_dir in the config",
    )
    .at(path.display().to_string())
}
