//! A change of the group that its leader began and did not finish is finished by the next one.
//!
//! A change of who votes has two steps, and between them both the voters of before and those of after must have a majority.
//! Left there, a group of three that was two could not lose one of the two, though it looks as if it could.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::sleep;

use super::Inner;

impl Inner {
    /// Runs until the group stops.
    pub(crate) async fn watch_joint(inner: Arc<Self>) {
        let run = async {
            let Some(core) = inner.running().await else { return };
            let mut metrics = core.raft.server_metrics();
            loop {
                let is_between = {
                    let now = metrics.borrow_and_update();
                    let leads = now.state.is_leader() && now.vote.committed;
                    leads && now.membership_config.membership().get_joint_config().len() > 1
                };
                // Whoever holds it is between the steps of a change of its own.
                if is_between && let Ok(_one) = inner.changing.try_lock() {
                    tracing::info!("a change of the group that was begun before is finished");
                    let rest = ChangeMembers::AddVoterIds(BTreeSet::new());
                    if let Err(error) = core.raft.change_membership(rest, false).await {
                        tracing::debug!(%error, "the change is not finished; again");
                    }
                }
                tokio::select! {
                    biased;
                    changed = metrics.changed() => if changed.is_err() {
                        return;
                    },
                    // A change that was given up leaves the lock and tells nobody.
                    () = sleep(inner.timing.election_max), if is_between => {}
                }
            }
        };
        inner.until_stopping(run).await;
    }
}
