//! The one owner of the log's file: takes all that waits, writes it in one transaction, then says so to everybody.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::storage::IOFlushed;
use store::{LogChange, Place, StoreError, Vote};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::types::Types;

/// Changes in one transaction, and those that may wait; past it whoever has one more waits.
pub(super) const WAITING: usize = 4_096;

/// A change that waits to be written.
pub(super) enum Job {
    /// Entries, the place of the last one, and who is told.
    Append(Vec<(u64, Vec<u8>)>, Place, IOFlushed<Types>),
    /// Whom this replica supports, and who waits for it.
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    /// Entries go, and this is the last one then. Nobody waits: the file changes in order, so what comes later is not there
    /// without it.
    Cut(LogChange, Option<Place>),
}

/// Who is told.
enum Told {
    Appended(Place, IOFlushed<Types>),
    Voted(Vote, oneshot::Sender<io::Result<()>>),
}

/// See the module.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    /// How far the file knows the log to be committed.
    committed: Option<Place>,
    /// The last entry in the file.
    last: Option<Place>,
    /// Why nothing can be written any more.
    failed: Option<String>,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (committed, last) = {
            let tail = shared.tail();
            (tail.committed, tail.last)
        };
        Self { shared, committed, last, failed: None }
    }

    /// Runs until nobody can bring a change any more.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        while let Some(job) = jobs.blocking_recv() {
            batch.push(job);
            while batch.len() < WAITING
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            self.write(batch.drain(..));
        }
    }

    /// Writes changes, in order, in one transaction, and tells whoever waits.
    pub(super) fn write(&mut self, jobs: impl IntoIterator<Item = Job>) {
        let (mut changes, mut told, mut count) = (Vec::new(), Vec::new(), 0);
        for job in jobs {
            count += 1;
            match job {
                Job::Append(entries, last, who) => {
                    changes.push(LogChange::Append(entries));
                    self.last = Some(last);
                    told.push(Told::Appended(last, who));
                }
                Job::Vote(vote, who) => {
                    changes.push(LogChange::Vote(vote));
                    told.push(Told::Voted(vote, who));
                }
                Job::Cut(change, last) => {
                    changes.push(change);
                    self.last = last;
                }
            }
        }
        // What is committed may still be on its way here: a file that named an entry that it does not hold could not be
        // started from. One that ends with an entry of the same term, or of a later one, holds it.
        let committed = self.shared.tail().committed.filter(|committed| Some(*committed) <= self.last);
        let news = committed.filter(|_| committed > self.committed);
        let done = match &self.failed {
            Some(why) => Err(why.clone()),
            None => self.shared.file.write(&changes, news, self.last).map_err(|error| chain(&error)),
        };
        match done {
            Ok(()) => {
                self.committed = committed.max(self.committed);
                let mut tail = self.shared.tail();
                for told in &told {
                    match told {
                        Told::Appended(last, _) => tail.flushed(*last),
                        Told::Voted(vote, _) => tail.vote = Some(*vote),
                    }
                }
            }
            Err(ref why) => {
                if self.failed.is_none() {
                    tracing::error!(error = why, "the log cannot be written; this node must start again");
                }
                self.failed = Some(why.clone());
                self.shared.failed.store(true, Ordering::Release);
            }
        }
        self.shared.flushes.send_modify(|flushes| *flushes += count);
        for told in told {
            let done = done.clone().map_err(io::Error::other);
            match told {
                Told::Appended(_, who) => who.io_completed(done),
                // Whoever waited may have gone.
                Told::Voted(_, who) => drop(who.send(done)),
            }
        }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
