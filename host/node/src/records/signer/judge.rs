//! What a validator finds of a batch: whose the records are, what the policy says of them, and the root that follows.

use std::sync::Arc;
use std::time::Duration;

use kernel::decide::Policy as _;
use kernel::id::Digest;
use kernel::records::certificate::leaves;
use kernel::records::order::{Batch, Contents};
use kernel::records::review::{Context, Review, Reviewed, judge, verdicts};
use kernel::records::tree;
use store::Hold;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::keep::Waiting;
use super::{Found, Preparation, Ready, Signer, WORKS, Work};
use crate::records::header;

/// Before what could not be judged is tried again.
const AGAIN: Duration = Duration::from_millis(500);

impl Signer {
    /// Takes a batch that is to be judged. Again: nothing happens, unless it is another attempt.
    pub fn judge(&self, batch: Batch, contents: Contents) {
        let number = batch.number;
        let mut now = self.now();
        let known = now.works.get(&number).is_some_and(|work| work.batch.attempt == batch.attempt);
        if known || now.works.len() >= WORKS && !now.works.contains_key(&number) {
            return;
        }
        let (batch, contents) = (Arc::new(batch), Arc::new(contents));
        let (told, found) = watch::channel(Found::Judging);
        let (signer, of, records) = (self.clone(), Arc::clone(&batch), Arc::clone(&contents));
        let abstains = number <= now.abstains_to;
        let task = tokio::spawn(async move {
            let outcome = if abstains {
                Found::Abstains("it was ordered before this validator's table of signatures was made anew".into())
            } else {
                signer.work(of, records).await
            };
            if let Found::Abstains(why) = &outcome
                && !signer.is_sealed(number)
            {
                tracing::warn!(batch = number, why, "this validator abstains");
            }
            told.send_replace(outcome);
            // Whoever waits reads it from the channel, which is to stay open.
            std::future::pending::<()>().await;
        });
        now.works.insert(number, Work { batch, contents, found, task: task.abort_handle() });
        drop(now);
        self.news();
    }

    /// Whether a batch needs nobody's signature any more.
    fn is_sealed(&self, batch: u64) -> bool {
        matches!(self.inner.store.by_batch(batch), Ok(Some(_)))
    }

    async fn work(&self, batch: Arc<Batch>, contents: Arc<Contents>) -> Found {
        match self.proven(&batch, &contents).await {
            Ok(()) => {}
            Err(why) => return Found::Abstains(why),
        }
        let (codes, reasons) = self.ask_policy(&batch, &contents).await;
        let Some(verdicts) = verdicts(&codes, &reasons) else {
            return Found::Abstains("the policy gave a code that it never named".into());
        };
        let digests = batch.records.iter().map(|entered| entered.digest);
        let root = tree::root(leaves(batch.first_sequence, digests.zip(&verdicts)));
        let (held, answer) = oneshot::channel();
        let holding = Waiting::Hold { batch: batch.number, attempt: batch.attempt, root, contents, held };
        if self.inner.writes.send(holding).await.is_err() {
            return Found::Abstains("this validator is stopping".into());
        }
        match answer.await {
            Ok(Ok(Hold::Sign)) => Found::Held { codes: Arc::new(codes), root },
            Ok(Ok(Hold::Sealed)) => Found::Abstains("it is sealed already".into()),
            Ok(Ok(Hold::Other(signed))) => {
                tracing::error!(
                    batch = batch.number, attempt = batch.attempt, %signed, %root,
                    "this validator signed another root for this batch: it refuses. A validator's data folder was copied, or \
                     the log of this cluster was forked"
                );
                Found::Abstains(format!("it signed the root {signed} for this batch before"))
            }
            Ok(Err(why)) => Found::Abstains(format!("the records cannot be held: {why}")),
            Err(_) => Found::Abstains("this validator is stopping".into()),
        }
    }

    /// Whether the records are those of the batch, and each is its author's.
    async fn proven(&self, batch: &Arc<Batch>, contents: &Arc<Contents>) -> Result<(), String> {
        let (batch, contents, cluster) = (Arc::clone(batch), Arc::clone(contents), self.inner.cluster.clone());
        let _place = self.inner.judging.acquire().await;
        let checked = tokio::task::spawn_blocking(move || {
            let digests: Vec<Digest> = batch.records.iter().map(|entered| entered.digest).collect();
            if !contents.is_of(digests.into_iter()) {
                return Err("its records are not those that were ordered".to_owned());
            }
            if let Some(record) = contents.unproven(&cluster).next() {
                return Err(format!("the record {} is not its author's", record.digest()));
            }
            for arrived in &contents.records {
                header::read(&arrived.record, &cluster)
                    .map_err(|why| format!("the record {}: {why}", arrived.record.digest()))?;
            }
            Ok(())
        });
        checked.await.unwrap_or_else(|_| Err("checking it failed".into()))
    }

    /// The policy's codes, however long it takes until it can run here, and the texts of its reasons.
    async fn ask_policy(&self, batch: &Batch, contents: &Arc<Contents>) -> (Vec<u16>, Vec<String>) {
        let mut said = false;
        loop {
            let Ready { policy, config } = self.prepared(&batch.policy).await;
            let (limits, contents) = (self.now().limits, Arc::clone(contents));
            let context = Context {
                batch: batch.number,
                round: batch.round.0,
                ordered_ms: batch.ordered_ms,
                set_size: batch.set_size,
            };
            let first = batch.first_sequence;
            let reasons = policy.description().reasons.clone();
            let place = self.inner.judging.acquire().await;
            let judged = tokio::task::spawn_blocking(move || {
                let records: Vec<Reviewed<'_>> = (first..)
                    .zip(&contents.records)
                    .map(|(sequence, arrived)| Reviewed {
                        sequence,
                        author: arrived.record.author,
                        digest: arrived.record.digest(),
                        expires_ms: arrived.expires_ms,
                        body: arrived.record.body(),
                    })
                    .collect();
                let policy = policy.with_limits(limits);
                judge(&policy, &Review { config: &config, context, records: &records })
            });
            let judged = judged.await;
            // Not kept while it waits: the others are to be judged meanwhile.
            drop(place);
            match judged {
                Ok((Ok(codes), ..)) => return (codes, reasons),
                Ok((Err(fault), ..)) if !said => {
                    tracing::warn!(batch = batch.number, %fault, "a batch could not be judged; it is tried again");
                    said = true;
                }
                Ok(_) => {}
                Err(_) => tracing::error!(batch = batch.number, "judging a batch failed; it is tried again"),
            }
            sleep(AGAIN).await;
        }
    }

    /// Waits until a policy can run here.
    async fn prepared(&self, digest: &Digest) -> Ready {
        let mut policies = self.inner.policies.subscribe();
        loop {
            let ready = match policies.borrow_and_update().get(digest) {
                Some(Preparation::Ready(ready)) => Some(Ready::clone(ready)),
                Some(Preparation::Failed | Preparation::UnderWay) | None => None,
            };
            if let Some(ready) = ready {
                return ready;
            }
            if policies.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
