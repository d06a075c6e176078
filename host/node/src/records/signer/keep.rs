//! What a validator writes: batches before it signs them, and once they are sealed. One writer, because what waits for the
//! disk together costs it once.

use std::sync::Arc;

use kernel::id::Digest;
use kernel::records::order::{Batch, Contents};
use kernel::records::sealed::SealedBatch;
use kernel::records::validators::least_quorum;
use store::{Hold, Holding, KEEP_ROWS, Kept, Records};
use tokio::sync::{mpsc, oneshot};

use super::Signer;

/// Batches that are held or kept in one durable transaction at most.
const WRITTEN_AT_ONCE: usize = 16;

/// A batch that is to be written.
pub(super) enum Waiting {
    /// Before it is signed.
    Hold {
        batch: u64,
        attempt: u32,
        root: Digest,
        contents: Arc<Contents>,
        held: oneshot::Sender<Result<Hold, String>>,
    },
    /// Once it is sealed.
    Seal { batch: Box<SealedBatch>, kept: oneshot::Sender<Result<Kept, String>> },
}

impl Signer {
    /// Keeps a batch that was sealed, with its records. `false`: the records are not here, and are to be had from another
    /// validator.
    pub async fn seal(&self, batch: Batch) -> bool {
        let number = batch.number;
        let work = self.now().works.remove(&number);
        let contents = work.as_ref().map(|work| Arc::clone(&work.contents));
        drop(work);
        self.news();
        let certificate = batch.certificate(&self.inner.cluster);
        let (Some(sealed), Some(certificate)) = (batch.sealed, certificate) else { return true };
        let store = Arc::clone(&self.inner.store);
        let set = self.now().validators.of_version(sealed.set_version);
        let whole = tokio::task::spawn_blocking(move || {
            let contents = match contents {
                Some(contents) => contents,
                None => match store.contents(number)? {
                    Some(contents) => Arc::new(contents),
                    None => return Ok(None),
                },
            };
            let whole = SealedBatch {
                at: sealed.at,
                previous: sealed.previous,
                ordered_ms: batch.ordered_ms,
                certificate,
                verdicts: sealed.verdicts(),
                records: contents.records.iter().map(|arrived| arrived.record.clone()).collect(),
            };
            if let Some(set) = set
                && let Err(why) = whole.check(&set, least_quorum(set.len()))
            {
                tracing::error!(batch = number, %why, "what was sealed does not verify: it is not kept");
                return Ok(None);
            }
            Ok::<_, store::StoreError>(Some(whole))
        });
        let batch = match whole.await {
            Ok(Ok(Some(whole))) => Box::new(whole),
            Ok(Ok(None)) | Err(_) => return false,
            Ok(Err(error)) => {
                tracing::error!(batch = number, %error, "a sealed batch could not be read");
                return false;
            }
        };
        let (kept, answer) = oneshot::channel();
        if self.inner.writes.send(Waiting::Seal { batch, kept }).await.is_err() {
            return false;
        }
        match answer.await {
            Ok(Ok(kept)) => {
                if kept == Kept::Unfit {
                    tracing::error!(
                        batch = number,
                        "its place in the log contradicts what another validator sent: it is not kept"
                    );
                }
                self.held();
                true
            }
            // Said where it happened.
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Says that more is held than before.
    pub fn held(&self) {
        if let Ok(at) = self.inner.store.complete_to() {
            self.inner.sealed.send_replace(at);
        }
    }
}

/// Writes batches, as many in one durable transaction as there are.
pub(super) async fn write_all(store: Arc<Records>, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        let mut all = vec![first];
        while all.len() < WRITTEN_AT_ONCE {
            match waiting.try_recv() {
                Ok(next) => all.push(next),
                Err(_) => break,
            }
        }
        let store = Arc::clone(&store);
        let done = tokio::task::spawn_blocking(move || write(&store, all));
        let _panicked = done.await;
    }
}

fn write(store: &Records, all: Vec<Waiting>) {
    let (mut held, mut sealed, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for one in all {
        match one {
            Waiting::Hold { batch, attempt, root, contents, held: answer } => {
                held.push((batch, attempt, root, contents, answer));
            }
            Waiting::Seal { batch, kept } => {
                batches.push(*batch);
                sealed.push(kept);
            }
        }
    }
    let wanted: Vec<_> = held
        .iter()
        .map(|(batch, attempt, root, contents, _)| Holding { batch: *batch, attempt: *attempt, root: *root, contents })
        .collect();
    let (holds, kept) = match store.hold_and_seal(&wanted, &batches, KEEP_ROWS) {
        Ok((holds, kept)) => (holds.into_iter().map(Ok).collect(), kept.into_iter().map(Ok).collect()),
        Err(error) => {
            tracing::error!(%error, "batches cannot be written: nothing of them is signed or kept");
            let why = error.to_string();
            (vec![Err(why.clone()); held.len()], vec![Err(why); sealed.len()])
        }
    };
    for ((.., answer), hold) in held.into_iter().zip(holds) {
        let _gone = answer.send(hold);
    }
    for (answer, kept) in sealed.into_iter().zip(kept) {
        let _gone = answer.send(kept);
    }
}
