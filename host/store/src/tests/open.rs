//! Opening: new, in use, foreign, newer.

use kernel::id::LogIndex;

use super::player::Player;
use super::{PLENTY, commit};
use crate::rows::about::{self, About};
use crate::{Disk, Store, StoreError};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_file_is_made_and_found_again() {
    let directory = directory();
    let disk = Disk::file(directory.path().join("state.redb"));
    let (player, steps) = Player::with_members(2, 5);
    commit(&Store::open(&disk, PLENTY).unwrap(), &steps).unwrap();
    assert_eq!(Store::open(&disk, PLENTY).unwrap().load().unwrap(), player.state);
}

#[cfg(unix)]
#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let path = directory.path().join("state.redb");
    Store::open(&Disk::file(&path), PLENTY).unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_in_use_is_named() {
    let directory = directory();
    let path = directory.path().join("state.redb");
    let _first = Store::open(&Disk::file(&path), PLENTY).unwrap();
    let error = Store::open(&Disk::file(&path), PLENTY).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { path: named } if *named == path), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let error = Store::open(&Disk::file("/nowhere/at/all/state.redb"), PLENTY).unwrap_err();
    assert!(matches!(error, StoreError::CannotOpen { .. }), "{error}");
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("state.redb");
    std::fs::write(&path, b"[node]\nrole = \"super\"\n".repeat(400)).unwrap();
    let error = Store::open(&Disk::file(&path), PLENTY).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    assert!(std::fs::read(&path).unwrap().starts_with(b"[node]"));
}

#[test]
fn a_newer_format_names_the_release_that_reads_it() {
    let disk = Disk::memory();
    let (player, steps) = Player::with_members(3, 2);
    {
        let store = Store::open(&disk, PLENTY).unwrap();
        commit(&store, &steps).unwrap();
        let transaction = crate::commit::begin(&store.database).unwrap();
        about::write(&transaction, &About { format: 3, release: "9.1.0".into() }).unwrap();
        transaction.commit().unwrap();
    }
    let error = Store::open(&disk, PLENTY).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 3, newest: 2, .. }), "{error}");
    assert!(error.to_string().contains("upgrade to 9.1.0 or later"), "{error}");
    assert_eq!(player.state.meta.applied, LogIndex(steps.len() as u64));
}

#[test]
fn a_second_store_takes_a_memory_over_as_after_a_kill() {
    let disk = Disk::memory();
    let (mut player, steps) = Player::with_members(5, 4);
    let first = Store::open(&disk, PLENTY).unwrap();
    commit(&first, &steps).unwrap();
    let applied = player.state.clone();
    let second = Store::open(&disk, PLENTY).unwrap();
    let error = commit(&first, &[player.settle()]).unwrap_err();
    assert!(matches!(error, StoreError::MustReopen { .. }), "{error}");
    assert_eq!(second.load().unwrap(), applied);
    drop(first);
    drop(second);
    assert_eq!(Store::open(&disk, PLENTY).unwrap().load().unwrap(), applied, "the dead one closed and wrote nothing");
}
