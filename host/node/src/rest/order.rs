//! Pages of the queue that belong together.
//!
//! The order of the queue changes with every settled round, and reading it page by page takes longer than a round. So the
//! orders with which readers have begun stay here for a while, and a page goes on in the order of the first one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kernel::id::{NodeId, RoundId};

/// Orders that are kept: a minute of the shortest rounds.
const KEPT: usize = 128;
/// Keys in all of them: readers decide which orders are kept, so they must not decide how much memory that is. 13 MB;
/// twenty orders of 20,000 members, and reading one takes some seconds.
const KEYS: usize = 400_000;

/// The orders with which readers have begun.
#[derive(Debug, Default)]
pub struct Orders {
    begun: Mutex<BTreeMap<RoundId, Arc<[NodeId]>>>,
}

impl Orders {
    /// Keeps an order for the pages that follow.
    pub fn keep(&self, round: RoundId, order: &Arc<[NodeId]>) {
        let mut begun = self.lock();
        begun.insert(round, Arc::clone(order));
        let mut keys: usize = begun.values().map(|order| order.len()).sum();
        // The newest one stays, however long it is: the super holds it anyway.
        while begun.len() > KEPT || (keys > KEYS && begun.len() > 1) {
            keys -= begun.pop_first().map_or(0, |(_, order)| order.len());
        }
    }

    /// The order of a round with which somebody has begun; `None` when that is too long ago.
    pub fn of(&self, round: RoundId) -> Option<Arc<[NodeId]>> {
        self.lock().get(&round).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RoundId, Arc<[NodeId]>>> {
        // It is whole at any time.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(members: usize) -> Arc<[NodeId]> {
        vec![NodeId([0; 32]); members].into()
    }

    #[test]
    fn what_readers_make_us_keep_is_bounded_in_number_and_in_keys() {
        let orders = Orders::default();
        for round in 1..=200 {
            orders.keep(RoundId(round), &order(3));
        }
        assert_eq!(orders.lock().len(), KEPT);
        let large = order(KEYS / 4);
        for round in 201..=300 {
            orders.keep(RoundId(round), &large);
            let keys: usize = orders.lock().values().map(|order| order.len()).sum();
            assert!(keys <= KEYS, "{keys}");
        }
        assert_eq!(orders.lock().len(), 4);
        assert!(orders.of(RoundId(297)).is_some() && orders.of(RoundId(296)).is_none());
        orders.keep(RoundId(301), &order(KEYS + 1));
        assert!(orders.of(RoundId(301)).is_some(), "the newest one can be read to its end");
        assert_eq!(orders.lock().len(), 1);
    }
}
