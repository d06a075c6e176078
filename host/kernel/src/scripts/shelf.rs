//! What a store would hold: the latest row of each key, every one of them through its encoding and back.

use std::collections::BTreeMap;
use std::fmt::Debug;

use minicbor::{Decode, Encode};

use crate::decide::Slot;
use crate::id::{Digest, MemberNumber, NodeId};
use crate::ledger::Wallet;
use crate::members::{Hot, Profile};
use crate::outcome::Write;
use crate::policies::{PolicyRow, SlotRow};
use crate::records::order::{Batch, Contents};
use crate::records::validators::Validators;
use crate::state::{Meta, State};

/// The latest rows.
#[derive(Default)]
pub(crate) struct Shelf {
    meta: Option<Box<Meta>>,
    profiles: BTreeMap<NodeId, Box<Profile>>,
    hot: BTreeMap<u32, Vec<(MemberNumber, Hot)>>,
    wallets: BTreeMap<NodeId, Wallet>,
    slots: BTreeMap<Slot, Box<SlotRow>>,
    policies: BTreeMap<Digest, Box<PolicyRow>>,
    components: BTreeMap<Digest, std::sync::Arc<[u8]>>,
    uploads: BTreeMap<Digest, (u32, Vec<u8>)>,
    memory: BTreeMap<(Slot, bool, u32), Vec<u8>>,
    validators: Option<Box<Validators>>,
    batches: BTreeMap<u64, std::sync::Arc<Batch>>,
    contents: BTreeMap<u64, std::sync::Arc<Contents>>,
}

impl Shelf {
    /// Takes the rows of one outcome.
    pub(crate) fn take(&mut self, writes: &[Write]) {
        for write in writes {
            match write.clone() {
                Write::Meta(meta) => self.meta = Some(meta),
                Write::Profile(node, row) => put(&mut self.profiles, node, row),
                Write::Hot(block, rows) => put(&mut self.hot, block, Some(rows).filter(|rows| !rows.is_empty())),
                Write::Wallet(key, row) => put(&mut self.wallets, key, row),
                Write::Slot(slot, row) => put(&mut self.slots, slot, Some(row)),
                Write::Policy(digest, row) => put(&mut self.policies, digest, row),
                Write::Component(digest, bytes) => put(&mut self.components, digest, bytes),
                Write::Upload(digest, upload) => put(&mut self.uploads, digest, upload),
                Write::Memory { slot, saved, block, bytes } => put(&mut self.memory, (slot, saved, block), bytes),
                Write::Validators(row) => self.validators = Some(row),
                Write::Batch(number, row) => put(&mut self.batches, number, row),
                Write::Contents(number, row) => put(&mut self.contents, number, row),
                Write::Round(_) | Write::Move(_) | Write::Line(_) | Write::Change(_) => {}
            }
        }
    }

    /// The state that a start would find.
    pub(crate) fn load(&self) -> State {
        let mut state = State::default();
        for (node, row) in &self.profiles {
            state.load(Write::Profile(*node, Some(row.clone())));
        }
        for (block, rows) in &self.hot {
            state.load(Write::Hot(*block, rows.clone()));
        }
        for (key, row) in &self.wallets {
            state.load(Write::Wallet(*key, Some(*row)));
        }
        for (slot, row) in &self.slots {
            state.load(Write::Slot(*slot, row.clone()));
        }
        for (digest, row) in &self.policies {
            state.load(Write::Policy(*digest, Some(row.clone())));
        }
        for (digest, bytes) in &self.components {
            state.load(Write::Component(*digest, Some(bytes.clone())));
        }
        for (digest, upload) in &self.uploads {
            state.load(Write::Upload(*digest, Some(upload.clone())));
        }
        for ((slot, saved, block), bytes) in &self.memory {
            state.load(Write::Memory { slot: *slot, saved: *saved, block: *block, bytes: Some(bytes.clone()) });
        }
        if let Some(row) = &self.validators {
            state.load(Write::Validators(row.clone()));
        }
        for (number, row) in &self.batches {
            state.load(Write::Batch(*number, Some(row.clone())));
        }
        for (number, row) in &self.contents {
            state.load(Write::Contents(*number, Some(row.clone())));
        }
        if let Some(meta) = &self.meta {
            state.load(Write::Meta(meta.clone()));
        }
        state.loaded();
        state
    }
}

/// Checks that every row of an outcome is read as it is written.
pub(crate) fn check_encoding(writes: &[Write]) {
    for write in writes {
        match write {
            Write::Meta(row) => same(&**row),
            Write::Profile(_, row) => same(row),
            Write::Hot(_, rows) => same(rows),
            Write::Wallet(_, row) => same(row),
            Write::Slot(_, row) => same(&**row),
            Write::Policy(_, row) => same(row),
            Write::Round(row) => same(&**row),
            Write::Move(row) => same(&**row),
            Write::Line(row) => same(row),
            Write::Change(row) => same(row),
            Write::Validators(row) => same(&**row),
            Write::Batch(_, row) => same(&row.as_deref().cloned()),
            Write::Contents(_, row) => same(&row.as_deref().cloned()),
            Write::Component(..) | Write::Upload(..) | Write::Memory { .. } => {}
        }
    }
}

/// Checks that a value is read as it is written.
pub(crate) fn same<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug>(value: &T) {
    let bytes = minicbor::to_vec(value).unwrap();
    let back: T = minicbor::decode(&bytes).unwrap();
    assert_eq!(&back, value);
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, row: Option<V>) {
    match row {
        Some(row) => map.insert(key, row),
        None => map.remove(&key),
    };
}
