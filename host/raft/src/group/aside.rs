//! A leader that no majority answers in time gives way.
//!
//! openraft's leader counts a sign of life as answered only when the answer comes before the next one is due. On a way that is
//! slower than that it takes no commands, and the others, who hear it well, never elect another one: the group would stand
//! still for as long as the way is slow.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics};
use tokio::time::{Instant, sleep};

use super::{Core, Inner};
use crate::types::Types;

/// A leader waits so many of the longest silences for an answer: a busy machine is not to lose its lead at once.
const SILENCES: u32 = 4;

impl Inner {
    /// Runs until the group stops.
    pub(crate) async fn watch_answers(inner: Arc<Self>) {
        let run = async {
            let Some(core) = inner.running().await else { return };
            let silence = inner.timing.election_max;
            let (mut lead, mut asked) = (None, None);
            loop {
                sleep(silence).await;
                let now = core.raft.metrics().borrow_watched().clone();
                if !now.state.is_leader() {
                    lead = None;
                    continue;
                }
                // Who leads anew was answered when it was elected.
                let (vote, since) = *lead.get_or_insert_with(|| (now.vote, Instant::now()));
                if vote != now.vote {
                    lead = Some((now.vote, Instant::now()));
                    continue;
                }
                let patience = silence * SILENCES;
                let is_answered = now.last_quorum_acked.is_some_and(|acked| acked.elapsed() < patience);
                if is_answered || since.elapsed() < patience {
                    continue;
                }
                asked = heir(core, &now, asked);
                let Some(to) = asked else { continue };
                tracing::warn!(
                    replica = to,
                    "no majority of the supers answers this leader in time: another one is asked to lead; is \
                     cluster.heartbeat_ms shorter than the way between them?"
                );
                if core.raft.trigger().transfer_leader(to).await.is_err() {
                    return;
                }
                lead = None;
                sleep(patience).await;
            }
        };
        inner.until_stopping(run).await;
    }
}

/// The other voter that has most of the log, and is not the one that was asked last where there is a choice.
fn heir(core: &Core, now: &RaftMetrics<Types>, asked: Option<u64>) -> Option<u64> {
    let voters = now.membership_config.membership().voter_ids().filter(|id| *id != core.id);
    voters.max_by_key(|id| {
        let at = now.replication.as_ref().and_then(|all| all.get(id)).copied().flatten();
        (asked != Some(*id), at.map(|at| at.index))
    })
}
