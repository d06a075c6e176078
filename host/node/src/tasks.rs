//! Everything that runs for one node, so that it can be drained, or end at once as after `kill -9`.
//!
//! A process may run many nodes (the demo, tests), so "end the process" is not the way to stop one. Whatever runs for a
//! node is spawned here: killing it drops all its futures, sockets with them, and nothing is flushed.
//!
//! Invariant: a background task that panics or ends with an error stops its node, with a message. A connection that
//! panics ends alone.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// All tasks of one node.
#[derive(Clone, Debug)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tracker: TaskTracker,
    /// What the others rest on: it does not drain with them.
    below: TaskTracker,
    draining: CancellationToken,
    drained: CancellationToken,
    killed: CancellationToken,
    failure: watch::Sender<Option<String>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// Nothing runs yet.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            tracker: TaskTracker::new(),
            below: TaskTracker::new(),
            draining: CancellationToken::new(),
            drained: CancellationToken::new(),
            killed: CancellationToken::new(),
            failure: watch::Sender::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Runs a task that lives as long as the node. If it panics or fails, the node stops and says why.
    pub fn spawn<E: std::fmt::Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn_in(&self.inner.tracker, name, task);
    }

    /// The same for what the other tasks rest on: a node drains without waiting for it, and it ends by itself after them.
    pub fn spawn_below<E: std::fmt::Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn_in(&self.inner.below, name, task);
    }

    fn spawn_in<E: std::fmt::Display>(
        &self,
        tracker: &TaskTracker,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let tasks = self.clone();
        let killed = self.inner.killed.clone();
        tracker.spawn(async move {
            let ended = tokio::select! {
                biased;
                () = killed.cancelled() => return,
                ended = caught(task) => ended,
            };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tasks.fail(format!("{name}: {error}")),
                Err(panic) => tasks.fail(format!("{name} panicked: {panic}")),
            }
        });
    }

    /// Runs something for one peer, request or stream. If it panics, it ends alone; the log says so.
    pub fn spawn_connection(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let killed = self.inner.killed.clone();
        self.inner.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = killed.cancelled() => {}
                ended = caught(task) => if let Err(panic) = ended {
                    tracing::error!(task = name, panic, "a connection's task panicked");
                },
            }
        });
    }

    /// Fires when the node is to drain: no new work, finish what is under way.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Fires when all tasks of a draining node have ended: what they rest on may end too.
    #[must_use]
    pub fn drained(&self) -> CancellationToken {
        self.inner.drained.clone()
    }

    /// Fires when the node is killed. For what is no task: threads.
    #[must_use]
    pub fn killed(&self) -> CancellationToken {
        self.inner.killed.clone()
    }

    /// The node cannot go on; the first reason stays.
    pub fn fail(&self, why: String) {
        tracing::error!(why, "the node stops");
        self.inner.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(why);
            first
        });
    }

    /// Why the node cannot go on, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.inner.failure.borrow().clone()
    }

    /// Waits for a failure and gives its reason.
    pub async fn failed(&self) -> String {
        let mut failure = self.inner.failure.subscribe();
        let why = failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_default()
    }

    /// Asks everything to finish and waits for it, at most so long. Gives whether all of it has ended.
    pub async fn drain(&self, within: Duration) -> bool {
        self.inner.draining.cancel();
        self.inner.tracker.close();
        let ended = tokio::time::timeout(within, self.inner.tracker.wait()).await.is_ok();
        self.inner.drained.cancel();
        ended
    }

    /// Ends everything at once, as `kill -9` would.
    pub fn kill(&self) {
        self.inner.killed.cancel();
        self.inner.tracker.close();
        self.inner.below.close();
    }

    /// Waits until everything has ended, after a kill.
    pub async fn ended(&self) {
        self.inner.tracker.wait().await;
        self.inner.below.wait().await;
    }
}

/// Runs a future to its end or its panic.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic_text(&*panic))),
    })
    .await
}

/// The text of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_background_task_that_panics_or_fails_stops_the_node() {
        let tasks = Tasks::new();
        tasks.spawn("clock", async {
            let nothing: Option<u8> = None;
            nothing.map(|_| ()).ok_or("no time")
        });
        assert_eq!(tasks.failed().await, "clock: no time");
        let tasks = Tasks::new();
        tasks.spawn::<String>("walk", async { panic!("out of turns") });
        assert_eq!(tasks.failed().await, "walk panicked: out of turns");
    }

    #[tokio::test]
    async fn a_connection_that_panics_ends_alone() {
        let tasks = Tasks::new();
        tasks.spawn_connection("peer", async { panic!("peer") });
        assert!(tasks.drain(Duration::from_secs(60)).await);
        assert!(tasks.inner.failure.borrow().is_none());
    }

    #[tokio::test]
    async fn a_kill_drops_every_future_at_once() {
        let tasks = Tasks::new();
        let (held, dropped) = oneshot::channel::<()>();
        tasks.spawn("forever", async move {
            let _held = held;
            std::future::pending::<Result<(), String>>().await
        });
        tasks.kill();
        assert!(dropped.await.is_err(), "the future and what it held are gone");
        tasks.ended().await;
    }

    #[tokio::test]
    async fn draining_asks_first() {
        let tasks = Tasks::new();
        let draining = tasks.draining();
        tasks.spawn("polite", async move {
            draining.cancelled().await;
            Ok::<(), String>(())
        });
        assert!(tasks.drain(Duration::from_secs(60)).await);
    }
}
