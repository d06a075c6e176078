//! The past comes back as it was, or not at all.

use std::collections::BTreeMap;

use kernel::id::LogIndex;
use kernel::state::State;

use super::player::Player;
use super::{PLENTY, commit};
use crate::{Disk, Store};

/// As a state of the past comes back: it knows its components and has none of their bytes.
fn without_bytes(state: &State) -> State {
    let mut state = state.clone();
    for bytes in state.components.values_mut() {
        *bytes = [].into();
    }
    state
}

fn same(store: &Store, index: LogIndex, was: &State) {
    let found = store.state_at(index).unwrap().unwrap_or_else(|| panic!("nothing of {index}"));
    assert_eq!(without_bytes(&found), without_bytes(was), "{index}");
}

#[test]
fn every_state_of_the_past_comes_back_from_the_keyframe_before_it() {
    let store = Store::open(&Disk::memory(), PLENTY).unwrap();
    let mut player = Player::new(11);
    let mut past = BTreeMap::from([(LogIndex(0), player.state.clone())]);
    for at in 1..=400 {
        let step = player.step();
        commit(&store, &[step]).unwrap();
        past.insert(player.state.meta.applied, player.state.clone());
        if at % 90 == 0 {
            let kept = store.keep_keyframe().unwrap();
            assert_eq!(kept, Some(player.state.meta.applied));
            assert_eq!(store.keep_keyframe().unwrap(), kept, "once is enough");
        }
    }
    for (index, was) in past.iter().filter(|(index, _)| index.0 % 7 == 0 || index.0 % 90 < 2) {
        same(&store, *index, was);
    }
    assert_eq!(store.state_at(LogIndex(player.state.meta.applied.0 + 1)).unwrap(), None, "the future is unknown");
}

#[test]
fn what_history_does_not_reach_back_to_is_nothing() {
    const BOUND: u64 = 600_000;
    let store = Store::open(&Disk::memory(), BOUND).unwrap();
    let (mut player, steps) = Player::with_members(1, 40);
    commit(&store, &steps).unwrap();
    let mut last = player.state.clone();
    for at in 1..=600 {
        commit(&store, &[player.step(), player.settle()]).unwrap();
        if at % 60 == 0 {
            store.keep_keyframe().unwrap();
            last = player.state.clone();
        }
        assert!(store.history_bytes().unwrap() <= BOUND);
    }
    assert_eq!(store.entry(LogIndex(1)).unwrap(), None, "the bound has bitten");
    assert_eq!(store.state_at(LogIndex(1)).unwrap(), None);
    same(&store, last.meta.applied, &last);
    same(&store, player.state.meta.applied, &player.state);
    // What is told goes on from the oldest keyframe that is left, and nothing before it is.
    let oldest = (1..).find(|at| store.entry(LogIndex(*at)).unwrap().is_some()).unwrap();
    let is_told = |at: u64| store.state_at(LogIndex(at)).unwrap().is_some();
    let told = (oldest..=player.state.meta.applied.0).find(|at| is_told(*at)).unwrap();
    assert!(told > oldest, "the entries before a keyframe outlive the one before: {told} {oldest}");
    assert!((1..oldest - 1).chain(oldest..told).step_by(7).all(|at| !is_told(at)), "{told} {oldest}");
    assert!((told..=player.state.meta.applied.0).step_by(40).all(is_told), "{told} {oldest}");
}

#[test]
fn too_many_rounds_back_are_not_settled_again() {
    let store = Store::open(&Disk::memory(), PLENTY).unwrap();
    let (mut player, steps) = Player::with_members(2, 1);
    commit(&store, &steps).unwrap();
    let steps: Vec<_> = (0..600).map(|_| player.settle()).collect();
    commit(&store, &steps).unwrap();
    assert_eq!(store.state_at(player.state.meta.applied).unwrap(), None);
    assert!(store.state_at(LogIndex(500)).unwrap().is_some());
    store.keep_keyframe().unwrap();
    same(&store, player.state.meta.applied, &player.state);
}

#[test]
fn a_file_that_was_made_without_a_table_gets_it() {
    use crate::tables::{BATCHES, CONTENTS, KEYFRAMES, VALIDATORS};
    for missing in [&[KEYFRAMES][..], &[VALIDATORS, BATCHES, CONTENTS], &[KEYFRAMES, VALIDATORS, BATCHES, CONTENTS]] {
        let disk = Disk::memory();
        let (player, steps) = Player::with_members(3, 2);
        {
            let store = Store::open(&disk, PLENTY).unwrap();
            commit(&store, &steps).unwrap();
            let transaction = crate::commit::begin(&store.database).unwrap();
            for table in missing {
                assert!(transaction.delete_table(*table).unwrap());
            }
            transaction.commit().unwrap();
        }
        let store = Store::open(&disk, PLENTY).unwrap();
        same(&store, player.state.meta.applied, &player.state);
        assert!(store.keep_keyframe().unwrap().is_some());
        assert_eq!(store.load().unwrap(), player.state);
    }
}
