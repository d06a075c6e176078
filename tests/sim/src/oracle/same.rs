//! Whether replicas agree: a hash over all of the state, compared at every index.

use kernel::state::State;

use super::Oracle;
use crate::raft::Id;

/// Between two comparisons that follow no settlement.
const EVERY: u64 = 8;

/// A hash over all that replicas must agree on.
fn hash(state: &State) -> u64 {
    let all = state.agreed();
    let (words, rest) = all.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).fold(all.len() as u64, |hash, word| {
        let hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ hash >> 29
    })
}

impl Oracle {
    /// Size of the state.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.state.agreed().len() as u64
    }

    /// The own state is as after this entry.
    pub(super) fn keep_hash(&mut self, index: u64, settles: bool) {
        if settles || index.is_multiple_of(EVERY) {
            self.hashes.insert(index, hash(&self.state));
        }
    }

    /// A replica has applied an entry.
    pub(crate) fn same(&mut self, id: Id, index: u64, state: &State) {
        // Entries of the group change nothing that is hashed.
        if let Some(expected) = self.hashes.get(&index)
            && *expected != hash(state)
        {
            self.wrong(format!("super {id} has another state than the log gives at entry {index}"));
        }
    }
}
