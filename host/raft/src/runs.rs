//! Where blocking work runs.

use std::io;

/// Where blocking work runs: the one place that decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Runs {
    /// On threads of its own.
    #[default]
    OnThreads,
    /// Where it is asked for: nothing depends on which thread is the faster one, so a simulation plays the same way twice.
    Inline,
}

impl Runs {
    /// Runs something that blocks on the disk.
    ///
    /// # Errors
    /// What it gives; that it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Inline => work(),
            Self::OnThreads => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}
