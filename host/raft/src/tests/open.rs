//! A log and a state that do not belong together are refused; a state of before there was a log goes on.

use std::sync::Arc;

use kernel::command::Entry;
use kernel::id::{Genesis, LogIndex};
use kernel::state::State;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{RaftLogReader, StorageHelper};
use store::{Disk, Identity, SpoolRoom, Store};

use super::{Disks, PLENTY, cluster, found, identity, join, lead};
use crate::types::{place, vote};
use crate::{Files, OpenError, Replicated, Runs};

/// A state that a release without a log left: founded, in its third term.
fn lone(disk: &Disk) -> State {
    let mut state = State::default();
    let store = Store::open(disk, PLENTY).unwrap();
    let commands = [found(), lead(1), join(4), lead(2), lead(3), join(5)];
    for (command, index) in commands.into_iter().zip(1..) {
        let outcome = state.apply(LogIndex(index), &command);
        store.commit(&[Entry { index: LogIndex(index), command }], &outcome.writes).unwrap();
    }
    state
}

fn start(disks: &Disks, identity: Identity) -> Result<Replicated, OpenError> {
    let store = Arc::new(Store::open(&disks.state, PLENTY).unwrap());
    Files::open(&disks.log, store)?.start(identity, SpoolRoom::memory(), Runs::Inline, Arc::new(()))
}

fn end(on: Replicated) {
    drop(on);
}

#[tokio::test]
async fn a_state_without_a_log_goes_on() {
    let disks = Disks::memory();
    let state = lone(&disks.state);
    assert!(disks.files().is_without_log());
    for life in 0..2 {
        let mut on = start(&disks, identity(0)).unwrap();
        assert!(!on.machine.store().is_without_log().unwrap());
        assert_eq!(on.machine.read(Clone::clone), state);
        let initial = StorageHelper::new(&mut on.log, &mut on.machine).with_id(0).get_initial_state().await.unwrap();
        assert!(initial.membership_state.effective().voter_ids().eq([0]), "life {life}");
        let (applied, _) = on.machine.applied_state().await.unwrap();
        assert_eq!(applied.as_ref().map(place).map(|place| (place.term, place.index)), Some((3, 6)));
        let voted = { on.log.get_log_reader().await }.read_vote().await.unwrap().as_ref().map(vote);
        assert_eq!(voted.map(|vote| (vote.term, vote.committed)), Some((3, false)), "the next leader's term is 4");
        assert_eq!(on.log.get_log_state().await.unwrap().last_log_id, applied, "the log goes on after the state");
        end(on);
    }
}

#[test]
fn being_stopped_between_log_and_state_is_no_harm() {
    let disks = Disks::memory();
    lone(&disks.state);
    // The log was bound, and the state does not know it yet.
    let (log, _) = store::LogFile::open(&disks.log).unwrap();
    log.bind(&identity(0), None).unwrap();
    drop(log);
    end(start(&disks, identity(0)).unwrap());
    end(start(&disks, identity(0)).unwrap());
}

#[test]
fn a_log_of_another_cluster_or_replica_is_refused() {
    let disks = Disks::memory();
    end(start(&disks, identity(0)).unwrap());
    assert_eq!(disks.files().identity(), Some(&identity(0)));
    let strange = cluster_of(9);
    let error = start(&disks, Identity { cluster: strange, ..identity(0) }).unwrap_err();
    assert!(matches!(error, OpenError::OtherLog { .. }), "{error}");
    let error = start(&disks, identity(1)).unwrap_err();
    assert!(error.to_string().contains("the log is that of replica 0 of the cluster lab#"), "{error}");
    end(start(&disks, identity(0)).unwrap());
}

fn cluster_of(genesis: u8) -> kernel::id::ClusterId {
    kernel::id::ClusterId { genesis: Genesis([genesis; 16]), ..cluster() }
}

#[test]
fn a_state_of_another_cluster_is_refused() {
    let disks = Disks::memory();
    lone(&disks.state);
    let error = start(&disks, Identity { cluster: cluster_of(9), ..identity(0) }).unwrap_err();
    assert!(matches!(error, OpenError::OtherState { .. }), "{error}");
    let error = start(&disks, Identity { key: super::key(7), ..identity(0) }).unwrap_err();
    assert!(matches!(error, OpenError::OtherKey { .. }), "{error}");
}

#[tokio::test]
async fn a_state_whose_log_is_gone_is_refused() {
    let disks = Disks::memory();
    lone(&disks.state);
    end(start(&disks, identity(0)).unwrap());
    let error = start(&Disks { log: Disk::memory(), state: disks.state.clone() }, identity(0)).unwrap_err();
    assert!(matches!(error, OpenError::LogLost), "{error}");
    // And the other way round: the state goes on alone, beside a log that has entries.
    let mut on = start(&disks, identity(0)).unwrap();
    let initial = StorageHelper::new(&mut on.log, &mut on.machine).with_id(0).get_initial_state().await;
    initial.unwrap();
    end(on);
    let store = Store::open(&disks.state, PLENTY).unwrap();
    let mut state = store.load().unwrap();
    let outcome = state.apply(LogIndex(7), &join(8));
    store.commit(&[Entry { index: LogIndex(7), command: join(8) }], &outcome.writes).unwrap();
    drop(store);
    let error = start(&disks, identity(0)).unwrap_err();
    assert!(matches!(error, OpenError::LogBehind), "{error}");
}

#[tokio::test]
async fn a_log_whose_state_is_gone_is_refused() {
    let disks = Disks::memory();
    lone(&disks.state);
    let mut on = start(&disks, identity(0)).unwrap();
    // The log is purged up to the state.
    StorageHelper::new(&mut on.log, &mut on.machine).with_id(0).get_initial_state().await.unwrap();
    end(on);
    let error = start(&Disks { log: disks.log.clone(), state: Disk::memory() }, identity(0)).unwrap_err();
    assert!(matches!(error, OpenError::StateLost), "{error}");
    end(start(&disks, identity(0)).unwrap());
}

#[tokio::test]
async fn an_empty_replica_is_who_it_was_last_invited_to_be() {
    let disks = Disks::memory();
    for replica in [7, 9] {
        disks.files().invite(identity(replica)).unwrap();
        assert_eq!(disks.files().identity(), Some(&identity(replica)));
    }
    let mut on = start(&disks, identity(9)).unwrap();
    on.log.save_vote(&crate::types::raft_vote(store::Vote { term: 1, replica: 9, committed: false })).await.unwrap();
    end(on);
    assert!(matches!(disks.files().invite(identity(11)), Err(OpenError::NotEmpty)));
    let old = Disks::memory();
    lone(&old.state);
    assert!(matches!(old.files().invite(identity(11)), Err(OpenError::NotEmpty)));
}

#[test]
fn the_state_is_read_once() {
    let disks = Disks::memory();
    let before = lone(&disks.state);
    let store = Arc::new(Store::open(&disks.state, PLENTY).unwrap());
    let files = Files::open(&disks.log, Arc::clone(&store)).unwrap();
    assert_eq!(*files.state(), before);
    // What a second reading would find.
    let mut after = before.clone();
    let command = join(6);
    let writes = after.apply(LogIndex(7), &command).writes;
    store.commit(&[Entry { index: LogIndex(7), command }], &writes).unwrap();
    let on = files.start(identity(0), SpoolRoom::memory(), Runs::Inline, Arc::new(())).unwrap();
    assert!(store.load().unwrap() == after && after != before);
    assert!(on.machine.read(|state| *state == before));
}
