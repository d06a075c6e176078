//! Whether replicas agree: a hash over all of the state, compared at every index.

use kernel::state::State;
use minicbor::encode::Write;

use super::Oracle;
use crate::raft::Id;
use crate::random::mix;

/// Hashes what is written to it.
struct Hash(u64);

impl Write for Hash {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0 ^ u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 ^= self.0 >> 29;
        }
        Ok(())
    }
}

/// A hash over everything that replicas must agree on.
fn hash(state: &State) -> u64 {
    fn add<T: minicbor::Encode<()>>(hash: &mut Hash, value: &T) {
        let Ok(()) = minicbor::encode(value, hash) else { unreachable!("hashing does not fail") };
    }
    let mut hash = Hash(1);
    add(&mut hash, &state.meta);
    for (node, member) in &state.members {
        add(&mut hash, node);
        add(&mut hash, &member.profile);
        add(&mut hash, &member.hot);
    }
    state.wallets.iter().for_each(|(node, wallet)| add(&mut hash, &(*node, *wallet)));
    for slot in &state.slots {
        add(&mut hash, &slot.row);
        for memory in [&slot.memory, &slot.saved] {
            memory.blocks.iter().for_each(|(block, bytes)| add(&mut hash, &(*block, bytes)));
        }
    }
    state.policies.iter().for_each(|(digest, row)| {
        add(&mut hash, digest);
        add(&mut hash, row);
    });
    mix(hash.0)
}

impl Oracle {
    /// The own state is as after this entry.
    pub(super) fn keep_hash(&mut self, index: u64) {
        self.hashes.insert(index, hash(&self.state));
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
