//! The end of a replica: the lead is handed on first, so that nobody has to wait for silence.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use tokio::time::Instant;

use super::{Group, Inner};
use crate::members::ChangeError;

impl Group {
    /// Hands the lead on, if this replica has it and another voter can take it within `within`, then ends. Commands that
    /// wait get [`GroupError::Stopped`](super::GroupError::Stopped).
    pub async fn stop(&self, within: Duration) {
        let inner = &self.inner;
        if let Some(core) = inner.core.get()
            && !inner.stopping.is_cancelled()
        {
            match inner.hand_on(core, None, Instant::now() + within).await {
                Ok(leader) => tracing::info!(%leader, "the lead was handed on"),
                // One that does not lead, or that nobody could follow.
                Err(ChangeError::Refused { code, .. }) if code == "not_leader" || code == "alone" => {}
                Err(error) => tracing::warn!(%error, "nobody took the lead; the others will notice by silence"),
            }
        }
        Inner::end(inner).await;
    }

    /// Ends at once, as if the machine had failed: the others notice by silence.
    pub async fn kill(&self) {
        Inner::end(&self.inner).await;
    }
}

impl Group {
    /// Waits until the group cannot go on, and says why. One that ends because it was told to never gets there.
    pub async fn failed(&self) -> String {
        let inner = &self.inner;
        if let Some(core) = inner.running().await {
            let mut metrics = core.raft.metrics();
            loop {
                let state = metrics.borrow_and_update().running_state.clone();
                if inner.stopping.is_cancelled() {
                    break;
                }
                if let Err(error) = state {
                    return chain(&error);
                }
                if metrics.changed().await.is_err() && !inner.stopping.is_cancelled() {
                    return "the group's core has ended".into();
                }
            }
        }
        std::future::pending().await
    }
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let one = error.to_string();
        if !text.contains(&one) {
            text.push_str(": ");
            text.push_str(&one);
        }
        cause = error.source();
    }
    text
}

impl Inner {
    async fn end(inner: &Arc<Self>) {
        inner.stopping.cancel();
        if let Some(core) = inner.core.get()
            && let Err(error) = core.raft.shutdown().await
        {
            tracing::error!(%error, "the group's core did not end well");
        }
        let end = inner.end.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(end) = end {
            end.wait().await;
        }
        // Who was never invited lets go of its disks here.
        drop(inner.stores.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        inner.stopped.cancel();
    }
}
