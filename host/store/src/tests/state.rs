//! The state that comes back is the state that was applied.

use kernel::state::State;
use proptest::prelude::{ProptestConfig, any};
use proptest::{prop_assert_eq, proptest};

use super::player::Player;
use super::{PLENTY, commit};
use crate::{Disk, Store, StoreError};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_reopened_store_holds_what_was_applied(seed in any::<u64>(), batch in 1_usize..8) {
        let disk = Disk::memory();
        let mut player = Player::new(seed);
        let mut accepted = 0;
        for _ in 0..12 {
            let store = Store::open(&disk, PLENTY).unwrap();
            let steps: Vec<_> = (0..batch).map(|_| player.step()).collect();
            accepted += steps.iter().filter(|step| step.accepted).count();
            commit(&store, &steps).unwrap();
            drop(store);
            prop_assert_eq!(&Store::open(&disk, PLENTY).unwrap().load().unwrap(), &player.state);
        }
        assert!(accepted > 0);
    }
}

#[test]
fn a_new_disk_holds_an_empty_state() {
    assert_eq!(Store::open(&Disk::memory(), PLENTY).unwrap().load().unwrap(), State::default());
}

#[test]
fn every_kind_of_row_is_played() {
    let mut player = Player::new(4);
    let steps: Vec<_> = (0..800).map(|_| player.step()).collect();
    let mut kinds = std::collections::BTreeSet::new();
    for write in steps.iter().flat_map(|step| &step.writes) {
        let text = format!("{write:?}");
        kinds.insert(text.split(['(', ' ']).next().unwrap().to_owned());
    }
    let all = [
        "Batch",
        "Change",
        "Component",
        "Contents",
        "Hot",
        "Line",
        "Memory",
        "Meta",
        "Move",
        "Policy",
        "Profile",
        "Round",
        "Slot",
        "Upload",
        "Validators",
        "Wallet",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

#[test]
fn a_log_index_is_stored_once() {
    let store = Store::open(&Disk::memory(), PLENTY).unwrap();
    let (mut player, steps) = Player::with_members(1, 3);
    commit(&store, &steps).unwrap();
    let before = store.load().unwrap();
    let again = commit(&store, &steps[2..3]);
    assert!(matches!(again, Err(StoreError::AlreadyApplied { .. })), "{again:?}");
    let step = player.settle();
    let twice = commit(&store, &[step.clone(), step.clone()]);
    assert!(matches!(twice, Err(StoreError::AlreadyApplied { .. })), "{twice:?}");
    let alone = store.commit(&[], &step.writes);
    assert!(matches!(alone, Err(StoreError::Mismatch { .. })), "{alone:?}");
    assert_eq!(store.load().unwrap(), before, "what was refused left nothing");
    commit(&store, &[step]).unwrap();
    assert_eq!(store.load().unwrap(), player.state);
}
