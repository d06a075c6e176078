//! How much of what was sealed a node keeps (PROTOCOLS 10.18): the newest, within so many bytes and days. Time goes on where
//! nothing is sealed, so days are looked at by the clock too.

use std::sync::Arc;
use std::time::Duration;

use kernel::id::LogIndex;
use store::{Records, StoreError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ingress::now_ms;
use crate::config::RecordsConfig;

/// At most this often while batches are sealed.
const BREATH: Duration = Duration::from_secs(1);
/// At least this often.
const HOUR: Duration = Duration::from_secs(3_600);
const DAY_MS: u64 = 24 * 3_600_000;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Bytes; `None` = no bound.
    bytes: Option<u64>,
    /// Days from the order; `None` = no bound.
    days: Option<u64>,
}

impl Keep {
    /// As a config says.
    #[must_use]
    pub const fn of(config: &RecordsConfig) -> Self {
        Self { bytes: bound(config.keep_bytes), days: bound(config.keep_days) }
    }

    /// Drops what is beyond the bounds at a time, ms since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prune(self, store: &Records, now_ms: u64) -> Result<(), StoreError> {
        let older_than = self.days.map(|days| now_ms.saturating_sub(days.saturating_mul(DAY_MS)));
        while store.prune(self.bytes, older_than)? {}
        Ok(())
    }

    /// Does so while batches are sealed, and by the clock, until `stop`.
    pub async fn run(self, store: Arc<Records>, mut sealed: watch::Receiver<LogIndex>, stop: CancellationToken) {
        if self == (Self { bytes: None, days: None }) {
            return stop.cancelled().await;
        }
        let pruning = async {
            loop {
                let store = Arc::clone(&store);
                let pruned = tokio::task::spawn_blocking(move || self.prune(&store, now_ms())).await;
                if let Ok(Err(error)) = pruned {
                    tracing::error!(%error, "sealed records beyond the bounds cannot be dropped");
                }
                sleep(BREATH).await;
                if let Ok(Err(_)) = timeout(HOUR, sealed.changed()).await {
                    return;
                }
            }
        };
        stop.run_until_cancelled(pruning).await;
        // What is sealed no more needs no bound.
        stop.cancelled().await;
    }
}

const fn bound(number: u64) -> Option<u64> {
    if number == 0 { None } else { Some(number) }
}

#[cfg(test)]
mod tests {
    use kernel::id::{ClusterId, Digest, Genesis, NodeId};
    use kernel::records::certificate::{Attestation, Certificate, Verdict};
    use kernel::records::record::Record;
    use kernel::records::sealed::SealedBatch;

    use super::*;

    const GENESIS: Genesis = Genesis([1; 16]);

    fn open() -> Records {
        Records::open(&store::Disk::memory(), GENESIS).unwrap()
    }

    /// Batches of one record each, ordered at these times, one sealed after the other. Nobody looks at their signatures.
    fn sealed_batches(times: impl Iterator<Item = u64>) -> Vec<SealedBatch> {
        let batch = |(number, ordered_ms): (u64, u64)| {
            let attestation = Attestation {
                cluster: ClusterId { id: "lab".into(), genesis: GENESIS },
                batch: number,
                attempt: 0,
                set_version: 1,
                policy: Digest([2; 32]),
                first_sequence: number,
                count: 1,
                root: Digest([3; 32]),
            };
            let record = Record { author: NodeId([4; 32]), signature: None, payload: number.to_be_bytes().into() };
            SealedBatch {
                at: LogIndex(number),
                previous: LogIndex(number - 1),
                ordered_ms,
                certificate: Certificate { attestation, signatures: Vec::new() },
                verdicts: vec![Verdict::Signed],
                records: vec![record],
            }
        };
        (1..).zip(times).map(batch).collect()
    }

    fn keeps(keep_days: u64, keep_bytes: u64) -> Keep {
        Keep::of(&RecordsConfig { keep_days, keep_bytes, ..RecordsConfig::default() })
    }

    #[test]
    fn days_count_by_the_clock_although_nothing_new_is_sealed() {
        let store = open();
        let times = [10, 10 + DAY_MS, 10 + 5 * DAY_MS];
        store.seal(&sealed_batches(times.into_iter()), store::KEEP_ROWS).unwrap();
        for (days, left) in [(2, 2), (3, 1), (100, 1)] {
            keeps(2, 0).prune(&store, 11 + days * DAY_MS).unwrap();
            assert_eq!(store.figures().unwrap().batches, left, "after {days} days; the newest always stays");
        }
    }

    #[test]
    fn bytes_bound_what_is_kept_and_without_a_bound_all_of_it_stays() {
        let store = open();
        store.seal(&sealed_batches(0..200), store::KEEP_ROWS).unwrap();
        let whole = store.figures().unwrap();
        keeps(0, 0).prune(&store, u64::MAX).unwrap();
        assert_eq!(store.figures().unwrap(), whole);
        keeps(0, whole.bytes / 2).prune(&store, 1).unwrap();
        let now = store.figures().unwrap();
        assert!(now.bytes <= whole.bytes / 2 && now.batches >= 90, "{now:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sealed_while_it_runs_is_bounded_too() {
        let (store, (to, sealed), stop) = (Arc::new(open()), watch::channel(LogIndex(0)), CancellationToken::new());
        let batches = sealed_batches(0..100);
        store.seal(&batches[..1], store::KEEP_ROWS).unwrap();
        let bytes = store.figures().unwrap().bytes * 10;
        let running = tokio::spawn(keeps(0, bytes).run(Arc::clone(&store), sealed, stop.clone()));
        store.seal(&batches[1..], store::KEEP_ROWS).unwrap();
        to.send_replace(LogIndex(100));
        while store.figures().unwrap().bytes > bytes {
            sleep(BREATH).await;
        }
        // A number takes more bytes the larger it is.
        let left = store.figures().unwrap().batches;
        assert!((8..=10).contains(&left), "{left}");
        stop.cancel();
        running.await.unwrap();
    }
}
