//! History keeps its bound, oldest first and without holes.

use kernel::id::{LogIndex, RoundId};

use super::commit;
use super::player::Player;
use crate::{Disk, Store};

#[test]
fn the_bound_bites_and_the_newest_stay() {
    const BOUND: u64 = 400_000;
    let store = Store::open(&Disk::memory(), BOUND).unwrap();
    let (mut player, steps) = Player::with_members(1, 60);
    commit(&store, &steps).unwrap();
    let mut dropped = 0;
    for _ in 0..400 {
        commit(&store, &[player.step(), player.step(), player.settle()]).unwrap();
        assert!(store.history_bytes().unwrap() <= BOUND);
        let oldest = store.oldest_round().unwrap().unwrap();
        assert!(oldest >= RoundId(dropped), "it never comes back");
        dropped = oldest.0;
    }
    assert!(dropped > 50, "{dropped}");
    let settled = player.state.meta.settled;
    assert!(settled.0 - dropped > 20, "and much is kept: {dropped} of {settled}");
    for round in dropped..=settled.0 {
        let record = store.round(RoundId(round)).unwrap().unwrap();
        assert!(store.settlement(RoundId(round)).unwrap().is_some(), "{round}");
        assert!(store.entry(record.index).unwrap().is_some());
    }
    assert_eq!(store.round(RoundId(dropped - 1)).unwrap(), None);
    assert_eq!(store.settlement(RoundId(dropped - 1)).unwrap(), None);
    assert_eq!(store.entry(LogIndex(1)).unwrap(), None);
    assert_eq!(store.load().unwrap(), player.state);
}

#[test]
fn a_lowered_bound_is_reached_over_several_commits() {
    let disk = Disk::memory();
    let (mut player, steps) = Player::with_members(2, 20);
    {
        let store = Store::open(&disk, 1 << 30).unwrap();
        commit(&store, &steps).unwrap();
        for _ in 0..300 {
            commit(&store, &[player.step(), player.settle()]).unwrap();
        }
    }
    let store = Store::open(&disk, 100_000).unwrap();
    let mut before = store.history_bytes().unwrap();
    assert!(before > 400_000, "{before}");
    let mut commits = 0;
    while before > 100_000 {
        commit(&store, &[player.settle()]).unwrap();
        let now = store.history_bytes().unwrap();
        assert!(now < before);
        before = now;
        commits += 1;
    }
    assert!((2..20).contains(&commits), "{commits}");
}

#[test]
fn the_file_is_not_much_larger_than_the_bound() {
    const BOUND: u64 = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let store = Store::open(&Disk::file(&path), BOUND).unwrap();
    let (mut player, steps) = Player::with_members(3, 200);
    commit(&store, &steps).unwrap();
    let fill: Vec<_> = (0..2_000).map(|_| player.settle()).collect();
    for batch in fill.chunks(20) {
        commit(&store, batch).unwrap();
    }
    assert!(store.oldest_round().unwrap().unwrap() > RoundId(1));
    drop(store);
    let size = std::fs::metadata(path).unwrap().len();
    assert!(size < 2 * BOUND, "{size}");
}
