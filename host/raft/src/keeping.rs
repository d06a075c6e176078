//! Keyframes: the state every so many rounds, kept beside the batches, on every replica. One that fails is missing and
//! nothing else: rounds after it are told from the one before, and a disk that fails shows at the next batch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kernel::id::RoundId;
use store::Store;

use crate::log::LogView;
use crate::runs::Runs;

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeping {
    /// The last settled round when a keyframe was last asked for.
    kept: Mutex<RoundId>,
    /// One is being made.
    busy: Arc<AtomicBool>,
}

impl Keeping {
    pub(crate) fn new(settled: RoundId) -> Self {
        Self { kept: Mutex::new(settled), busy: Arc::default() }
    }

    /// Has a keyframe made where one is due. The log stays open until it is there, so that whoever waits for the log's end
    /// finds nobody at the store.
    pub(crate) fn settled(&self, settled: RoundId, store: &Arc<Store>, log: &LogView, runs: Runs) {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if !store::keyframe_is_due(settled, *kept) || self.busy.swap(true, Ordering::AcqRel) {
                return;
            }
            *kept = settled;
        }
        let (store, busy, open) = (Arc::clone(store), Arc::clone(&self.busy), log.hold());
        let keep = move || {
            match store.keep_keyframe() {
                Ok(index) => tracing::debug!(round = settled.0, index = index.map(|index| index.0), "keyframe"),
                Err(error) => tracing::warn!(%error, round = settled.0, "no keyframe of the state was kept"),
            }
            drop(store);
            busy.store(false, Ordering::Release);
            drop(open);
        };
        match runs {
            Runs::Inline => keep(),
            Runs::OnThreads => {
                if let Err(error) = std::thread::Builder::new().name("keyframe".into()).spawn(keep) {
                    tracing::warn!(%error, "no thread for a keyframe");
                    self.busy.store(false, Ordering::Release);
                }
            }
        }
    }
}
