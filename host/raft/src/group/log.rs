//! Keeps the log within its bytes. By entries openraft does it alone, but a few thousand large ones would fill a disk.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver as _;

use super::Inner;

impl Inner {
    /// Has the older half of the log purged when it has more than so many bytes. Only what is in a snapshot goes, and a
    /// snapshot costs nothing: it is a view. Runs until the group stops.
    pub(crate) async fn watch_log(inner: Arc<Self>, most: u64) {
        let run = async {
            let Some(core) = inner.running().await else { return };
            let mut metrics = core.raft.data_metrics();
            // What was asked of openraft last, which it does when it can.
            let (mut taken, mut purged) = (None, None);
            loop {
                let (applied, snapshot) = {
                    let now = metrics.borrow_and_update();
                    (now.last_applied.as_ref().map(|at| at.index), now.snapshot.as_ref().map(|at| at.index))
                };
                let log = core.machine.log();
                if log.bytes() > most {
                    let last = log.last_beyond(most / 2).min(applied);
                    let asked = match last {
                        Some(_) if snapshot < last && taken != applied => {
                            taken = applied;
                            core.raft.trigger().snapshot().await
                        }
                        Some(index) if snapshot >= last && purged < last => {
                            purged = last;
                            core.raft.trigger().purge_log(index).await
                        }
                        Some(_) | None => Ok(()),
                    };
                    if asked.is_err() {
                        return;
                    }
                }
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        inner.until_stopping(run).await;
    }
}
