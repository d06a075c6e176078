//! Whether replicas agree: a hash over all of the state, compared at every index.

use kernel::state::State;

use super::Oracle;
use crate::raft::Id;

/// Between two comparisons that follow no settlement.
const EVERY: u64 = 8;

/// Everything that replicas must agree on.
fn bytes(state: &State) -> Vec<u8> {
    fn add<T: minicbor::Encode<()>>(bytes: &mut Vec<u8>, value: &T) {
        minicbor::encode(value, bytes).expect("memory can be written to");
    }
    let mut all = Vec::with_capacity(1 << 14);
    add(&mut all, &state.meta);
    for (node, member) in &state.members {
        add(&mut all, node);
        add(&mut all, &member.profile);
        add(&mut all, &member.hot);
    }
    state.wallets.iter().for_each(|(node, wallet)| add(&mut all, &(*node, *wallet)));
    for slot in &state.slots {
        add(&mut all, &slot.row);
        for memory in [&slot.memory, &slot.saved] {
            memory.blocks.iter().for_each(|(block, bytes)| add(&mut all, &(*block, bytes)));
        }
    }
    state.policies.iter().for_each(|(digest, row)| {
        add(&mut all, digest);
        add(&mut all, row);
    });
    all
}

/// A hash over it.
fn hash(state: &State) -> u64 {
    let all = bytes(state);
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
        bytes(&self.state).len() as u64
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
