//! What the store promises, tried: a player sends random commands through the kernel, and what was applied is compared
//! with what the disk gives back, also after it lost power in the middle of a write.

mod crash;
pub(crate) mod draw;
mod history;
mod install;
mod open;
pub(crate) mod player;
mod reads;
pub(crate) mod records;
mod replay;
mod state;

use kernel::command::Entry;
use kernel::outcome::Write;

use crate::{Store, StoreError};
use player::Step;

/// More than any test writes.
const PLENTY: u64 = 1 << 30;

/// Commits a batch of steps.
fn commit(store: &Store, steps: &[Step]) -> Result<(), StoreError> {
    let entries: Vec<Entry> = steps.iter().map(|step| step.entry.clone()).collect();
    let writes: Vec<Write> = steps.iter().flat_map(|step| step.writes.clone()).collect();
    store.commit(&entries, &writes)
}
