//! What comes one by one goes on in lots: records under one forward, pieces in one batch. One alone goes at once; under load
//! a lot is as full as the way on is slow, so that the costs of a lot are shared by the more the busier it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

/// How big a lot is at most, and how long it waits while others are under way, though there is a way for it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records.
    pub records: usize,
    /// Bytes. A single thing that has more goes alone.
    pub bytes: usize,
    /// Wait.
    pub wait: Duration,
}

/// Puts things into lots.
#[derive(Debug)]
pub struct Lots<T> {
    from: mpsc::Receiver<T>,
    /// Records of a thing, and their bytes.
    size: fn(&T) -> (usize, usize),
    /// What did not fit into the last lot.
    carried: Option<T>,
    ways: Arc<Semaphore>,
    in_flight: usize,
}

impl<T> Lots<T> {
    /// Lots of what comes `from` there, of which so many are under way at once.
    pub fn new(from: mpsc::Receiver<T>, in_flight: usize, size: fn(&T) -> (usize, usize)) -> Self {
        Self { from, size, carried: None, ways: Arc::new(Semaphore::new(in_flight)), in_flight }
    }

    /// The next lot, which is under way until its permit is dropped. `None`: nobody sends any more.
    pub async fn next(&mut self, bounds: impl FnOnce() -> Bounds) -> Option<(Vec<T>, OwnedSemaphorePermit)> {
        let first = match self.carried.take() {
            Some(first) => first,
            None => self.from.recv().await?,
        };
        let most = bounds();
        let mut waits_to = Some(Instant::now() + most.wait);
        let (mut records, mut bytes) = (self.size)(&first);
        let (mut lot, mut way, mut ended) = (vec![first], None, false);
        loop {
            let full = ended || self.carried.is_some() || records >= most.records || bytes >= most.bytes;
            if let Some(way) = way.take_if(|_| full) {
                return Some((lot, way));
            }
            tokio::select! {
                // What is there already comes along.
                biased;
                next = self.from.recv(), if !full => match next {
                    None => ended = true,
                    Some(next) => {
                        let (more, more_bytes) = (self.size)(&next);
                        if records + more > most.records || bytes + more_bytes > most.bytes {
                            self.carried = Some(next);
                        } else {
                            records += more;
                            bytes += more_bytes;
                            lot.push(next);
                        }
                    }
                },
                free = Arc::clone(&self.ways).acquire_owned(), if way.is_none() => {
                    way = Some(free.ok()?);
                    if self.ways.available_permits() + 1 == self.in_flight {
                        waits_to = None;
                    }
                }
                () = reached(waits_to), if way.is_some() => return way.map(|way| (lot, way)),
            }
        }
    }
}

async fn reached(time: Option<Instant>) {
    if let Some(time) = time {
        sleep_until(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(5);

    fn bounds() -> Bounds {
        Bounds { records: 4, bytes: 100, wait: WAIT }
    }

    type Size = (usize, usize);

    fn lots(in_flight: usize) -> (mpsc::Sender<Size>, Lots<Size>) {
        let (to, from) = mpsc::channel(64);
        (to, Lots::new(from, in_flight, |size| *size))
    }

    #[tokio::test(start_paused = true)]
    async fn one_alone_goes_at_once_and_a_second_one_after_a_wait() {
        let (to, mut lots) = lots(2);
        let began = Instant::now();
        to.send((1, 1)).await.unwrap();
        let (lot, _way) = lots.next(bounds).await.unwrap();
        assert_eq!((lot.len(), began.elapsed()), (1, Duration::ZERO));
        to.send((1, 1)).await.unwrap();
        let (lot, _other) = lots.next(bounds).await.unwrap();
        assert_eq!((lot.len(), began.elapsed().as_millis()), (1, WAIT.as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lot_becomes_fuller_until_there_is_a_way() {
        let (to, mut lots) = lots(1);
        to.send((1, 1)).await.unwrap();
        let (_, way) = lots.next(bounds).await.unwrap();
        let began = Instant::now();
        let (got, ()) = tokio::join!(lots.next(bounds), async {
            for _ in 0..3 {
                to.send((1, 1)).await.unwrap();
                tokio::time::sleep(2 * WAIT).await;
            }
            drop(way);
        });
        assert_eq!((got.unwrap().0.len(), began.elapsed()), (3, 6 * WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_begins_the_next_lot_and_the_last_ones_go_too() {
        let (to, mut lots) = lots(8);
        for size in [(2, 10), (3, 10), (1, 500), (1, 60), (1, 60), (1, 1)] {
            to.send(size).await.unwrap();
        }
        drop(to);
        let mut seen = Vec::new();
        while let Some((lot, _way)) = lots.next(bounds).await {
            seen.push(lot.len());
        }
        assert_eq!(seen, [1, 1, 1, 1, 2]);
    }
}
