//! Pages of the queue that belong together.
//!
//! The order of the queue changes with every settled round, and reading it page by page takes longer than a round. So the
//! orders with which readers have begun stay here for a while, and a page goes on in the order of the first one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kernel::id::{NodeId, RoundId};

/// Orders that are kept: a minute of the shortest rounds.
const KEPT: usize = 128;

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
        while begun.len() > KEPT {
            begun.pop_first();
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
