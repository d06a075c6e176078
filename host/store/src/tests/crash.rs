//! The disk fails at every place where it can: nothing acknowledged is lost, nothing is half there.

use std::sync::Arc;

use kernel::state::State;

use super::draw::Draw;
use super::player::{Player, Step};
use super::{PLENTY, commit};
use crate::lossy::{Failure, Lossy, Power};
use crate::{Disk, Store, StoreError};

/// Batches, and the state before the first and after each.
fn play(seed: u64) -> (Vec<Vec<Step>>, Vec<State>) {
    let (mut player, steps) = Player::with_members(seed, 30);
    let mut states = vec![State::default(), player.state.clone()];
    let mut batches = vec![steps];
    for _ in 0..6 {
        let size = 1 + player.draw.below(4);
        batches.push((0..size).map(|_| player.step()).collect());
        states.push(player.state.clone());
    }
    (batches, states)
}

/// Commits until the disk fails; returns how many batches were acknowledged.
fn write_all(disk: &Disk, batches: &[Vec<Step>]) -> usize {
    let Ok(store) = Store::open(disk, PLENTY) else { return 0 };
    for (done, batch) in batches.iter().enumerate() {
        if let Err(error) = commit(&store, batch) {
            assert!(matches!(error, StoreError::MustReopen { .. }), "{error}");
            let again = commit(&store, batch).unwrap_err();
            assert!(matches!(again, StoreError::MustReopen { .. }), "it stays shut: {again}");
            return done;
        }
    }
    batches.len()
}

fn fails_everywhere(failure: Failure, seed: u64) {
    let (batches, states) = play(seed);
    let power = Arc::new(Power::default());
    assert_eq!(write_all(&Disk::lossy(&Lossy::on(&power)), &batches), batches.len());
    let operations = power.operations();
    let mut draw = Draw(seed);
    for at in 1..=operations {
        let power = Arc::new(Power::default());
        let lossy = Lossy::on(&power);
        let disk = Disk::lossy(&lossy);
        power.fail_at(at, failure);
        let acknowledged = write_all(&disk, &batches);
        assert!(power.has_failed(), "operation {at} of {operations}");
        power.start_again(&[&lossy], &mut |end| draw.below(end));
        let store = Store::open(&disk, PLENTY).unwrap_or_else(|error| panic!("after operation {at}: {error:?}"));
        let found = store.load().unwrap();
        let kept = states.iter().position(|state| *state == found);
        let kept = kept.unwrap_or_else(|| panic!("after operation {at}: no committed prefix"));
        assert!(kept == acknowledged || kept == acknowledged + 1, "after operation {at}: {kept} of {acknowledged}");
        for batch in &batches[kept..] {
            commit(&store, batch).unwrap();
        }
        assert_eq!(&store.load().unwrap(), states.last().unwrap(), "it goes on after operation {at}");
    }
}

#[test]
fn a_power_cut_leaves_a_committed_prefix() {
    for seed in 0..3 {
        fails_everywhere(Failure::PowerCut, seed);
    }
}

#[test]
fn a_disk_that_refuses_leaves_a_committed_prefix() {
    fails_everywhere(Failure::Refusal, 7);
}
