//! All that replicas agree on, as bytes: to compare two replicas that have applied the same entries.

use alloc::vec::Vec;

use minicbor::Encode;

use crate::id::Digest;
use crate::state::State;

impl State {
    /// All that replicas agree on, in an order of its own: some hundred bytes a member. Components are in it by their
    /// digests, batches of records by their numbers and roots, and what is derived from the rest is left out.
    #[must_use]
    pub fn agreed(&self) -> Vec<u8> {
        fn add<T: Encode<()>>(bytes: &mut Vec<u8>, value: &T) {
            // Encoding into memory does not fail.
            let _is_done = minicbor::encode(value, bytes).is_ok();
        }
        let mut all = Vec::with_capacity(1 << 14);
        add(&mut all, &self.meta);
        for (node, member) in &self.members {
            add(&mut all, node);
            add(&mut all, &member.profile);
            add(&mut all, &member.hot);
        }
        self.wallets.iter().for_each(|(node, wallet)| add(&mut all, &(*node, *wallet)));
        for slot in &self.slots {
            add(&mut all, &slot.row);
            for memory in [&slot.memory, &slot.saved] {
                memory.blocks.iter().for_each(|(block, bytes)| add(&mut all, &(*block, bytes)));
            }
        }
        self.policies.iter().for_each(|(digest, row)| {
            add(&mut all, digest);
            add(&mut all, row);
        });
        add(&mut all, &self.validators);
        for batch in self.batches.values() {
            let sealed = batch.sealed.as_ref().map(|sealed| (sealed.at, sealed.set_version, sealed.root));
            add(
                &mut all,
                &(batch.number, batch.at, batch.attempt, batch.policy, batch.first_sequence, batch.count, sealed),
            );
        }
        all
    }

    /// SHA-256 over [`State::agreed`]: the same on every replica after the same entry.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.agreed())
    }
}

#[cfg(test)]
mod tests {
    use crate::ledger::Wallet;
    use crate::outcome::Write;
    use crate::scripts::world::{Seen, World, node};
    use crate::settings::Settings;
    use crate::units::Points;

    #[test]
    fn what_every_command_changes_is_in_it_and_the_same_commands_give_the_same() {
        let (mut one, mut two) = (World::found(Settings::default(), &[]), World::found(Settings::default(), &[]));
        let mut seen = alloc::vec![one.state.digest()];
        for world in [&mut one, &mut two] {
            world.settle(&Seen::default());
        }
        assert_eq!(one.state.digest(), two.state.digest());
        seen.push(one.state.digest());
        let wallet = Wallet { balance: Points(3), ..Wallet::default() };
        one.restore([Write::Wallet(node("A"), Some(wallet))]);
        seen.push(one.state.digest());
        let distinct: alloc::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), 3);
    }
}
