//! What is written when: the state after its log, what is committed after what is there, many entries in one transaction.

use std::sync::{Arc, Mutex};

use kernel::command::{Answer, Command, Decided, Settle};
use kernel::id::{LogIndex, RoundId, Term};
use kernel::outcome::Notice;
use kernel::round::{Bits, Marks, Report};
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{EntryPayload, RaftLogReader};
use store::lossy::{Failure, Lossy, Power};
use store::{Disk, LogFile, Place, SpoolRoom};

use super::{Disks, found, identity, join};
use crate::types::{RaftEntry, raft_place};
use crate::{Batch, Replicated, Runs, Watcher};

fn entry(index: u64) -> RaftEntry {
    let command = if index == 1 { found() } else { join(index) };
    let payload = if index == 0 { EntryPayload::Blank } else { EntryPayload::Normal(command.into()) };
    RaftEntry { log_id: raft_place(Place { term: 1, index }), payload }
}

async fn append(on: &mut Replicated, indexes: std::ops::Range<u64>) {
    on.log.append(indexes.map(entry), IOFlushed::noop()).await.unwrap();
}

async fn commit(on: &mut Replicated, index: u64) {
    on.log.save_committed(Some(entry(index).log_id)).await.unwrap();
}

async fn apply(on: &mut Replicated, indexes: std::ops::Range<u64>) -> std::io::Result<()> {
    on.machine.apply(tokio_stream::iter(indexes.map(|index| Ok((entry(index), None))))).await
}

#[derive(Default)]
struct Seen(Mutex<Vec<Batch>>);

impl Watcher for Seen {
    fn applied(&self, what: &Batch) {
        self.0.lock().unwrap().push(what.clone());
    }

    fn told(&self, _: Vec<Notice>) {}
}

fn index(on: &Replicated) -> Option<u64> {
    on.machine.mark().applied.map(|place| place.index)
}

#[tokio::test]
async fn what_is_committed_is_applied_with_what_is_asked_for() {
    let (disks, seen) = (Disks::memory(), Arc::new(Seen::default()));
    let files = disks.files();
    let mut on = files.start(identity(0), SpoolRoom::memory(), Runs::Inline, Arc::clone(&seen) as _).unwrap();
    append(&mut on, 0..30).await;
    commit(&mut on, 19).await;
    apply(&mut on, 0..2).await.unwrap();
    assert_eq!(index(&on), Some(19), "and no further: the rest may still go");
    let state = on.machine.read(Clone::clone);
    apply(&mut on, 2..10).await.unwrap();
    apply(&mut on, 10..20).await.unwrap();
    assert_eq!(on.machine.read(Clone::clone), state);
    assert_eq!(seen.0.lock().unwrap().len(), 1, "one transaction for all of it");
    commit(&mut on, 25).await;
    apply(&mut on, 20..22).await.unwrap();
    commit(&mut on, 29).await;
    // The first four are answered from before, the last four are news.
    apply(&mut on, 22..30).await.unwrap();
    assert_eq!((index(&on), seen.0.lock().unwrap().len()), (Some(29), 3));
    assert!(apply(&mut on, 28..30).await.is_err(), "nothing is applied or answered twice");
}

#[tokio::test]
async fn what_is_committed_is_named_when_the_log_holds_it() {
    let disks = Disks::memory();
    let mut on = disks.start(Runs::Inline);
    commit(&mut on, 5).await;
    append(&mut on, 0..4).await;
    drop(on);
    assert_eq!(
        LogFile::open(&disks.log).unwrap().1.committed,
        None,
        "a start would look for entries that are not there"
    );
    let mut on = disks.start(Runs::Inline);
    commit(&mut on, 5).await;
    append(&mut on, 4..8).await;
    drop(on);
    assert_eq!(LogFile::open(&disks.log).unwrap().1.committed, Some(Place { term: 1, index: 5 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_never_ahead_of_its_own_log() {
    let power = Arc::new(Power::default());
    let disks = Disks { log: Disk::lossy(&Lossy::on(&power)), state: Disk::lossy(&Lossy::on(&power)) };
    let mut on = disks.start(Runs::OnThreads);
    append(&mut on, 0..4).await;
    commit(&mut on, 3).await;
    apply(&mut on, 0..4).await.unwrap();
    power.fail_at(1, Failure::PowerCut);
    // The majority has it; this replica's own disk does not.
    append(&mut on, 4..8).await;
    commit(&mut on, 7).await;
    assert!(apply(&mut on, 4..8).await.is_err());
    assert_eq!(index(&on), Some(3));
    assert_eq!({ on.log.get_log_reader().await }.try_get_log_entries(4..8).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_waits_for_the_log_to_make_room() {
    let mut from = Disks::memory().start(Runs::Inline);
    append(&mut from, 0..20).await;
    commit(&mut from, 19).await;
    apply(&mut from, 0..20).await.unwrap();
    let power = Arc::new(Power::default());
    let disks = Disks { log: Disk::lossy(&Lossy::on(&power)), state: Disk::lossy(&Lossy::on(&power)) };
    for fails in [false, true] {
        let mut on = disks.start(Runs::OnThreads);
        let taken = from.machine.get_current_snapshot().await.unwrap().unwrap();
        if fails {
            append(&mut from, 20..30).await;
            commit(&mut from, 29).await;
            apply(&mut from, 20..30).await.unwrap();
            power.fail_at(1, Failure::PowerCut);
        } else {
            append(&mut on, 0..4).await;
        }
        on.log.truncate_after(Some(entry(1).log_id)).await.unwrap();
        let before = index(&on);
        let installed = on.machine.install_snapshot(&taken.meta, taken.snapshot).await;
        assert_eq!(installed.is_err(), fails);
        assert_eq!(index(&on), if fails { before } else { Some(19) });
        drop((on.log, on.machine));
        on.end.wait().await;
    }
}

/// A round of a cluster without members.
fn settle(round: u64) -> Command {
    fn nothing<T>() -> Decided<T> {
        Decided { policy: None, input: None, answer: Answer::NotCalled, fuel: 0 }
    }
    let (round, term) = (RoundId(round), Term(0));
    let report = Report {
        round,
        term,
        presence: Vec::new(),
        facts: Vec::new(),
        asked: Vec::new(),
        seen: Vec::new(),
        data: Vec::new(),
        addresses: Vec::new(),
        returns: Bits::zeros(0),
        seats: Vec::new(),
        marks: Marks::default(),
    };
    Command::Settle(Box::new(Settle {
        round,
        term,
        now_ms: 1_700_000_000_000 + round.0,
        settings_version: 1,
        report,
        partials: Vec::new(),
        ban: nothing(),
        reward: nothing(),
        engine: "none".into(),
        columns: LogIndex(1),
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyframe_is_kept_every_256_rounds() {
    let disks = Disks::memory();
    for (runs, rounds) in [(Runs::OnThreads, 1..900), (Runs::Inline, 900..1_300)] {
        let mut on = disks.start(runs);
        let store = Arc::clone(on.machine.store());
        let mut commands = vec![(0, None), (1, Some(found()))];
        commands.retain(|_| rounds.start == 1);
        commands.extend(rounds.map(|round| (round + 1, Some(settle(round)))));
        let entries = commands.into_iter().map(|(index, command)| {
            let payload = command.map_or(EntryPayload::Blank, |command| EntryPayload::Normal(command.into()));
            RaftEntry { log_id: raft_place(Place { term: 1, index }), payload }
        });
        for entry in entries {
            on.machine.apply(tokio_stream::iter([Ok((entry, None))])).await.unwrap();
        }
        assert_eq!(on.machine.read(|state| state.meta.settled.0) + 1, on.machine.read(|state| state.meta.applied.0));
        drop((on.log, on.machine));
        on.end.wait().await;
        assert_eq!(Arc::strong_count(&store), 1, "nobody is at the store any more");
        // So far from the founding it is told from a keyframe, or not at all.
        let last = store.mark().unwrap().applied.map_or(0, |place| place.index);
        assert!(store.state_at(LogIndex(last)).unwrap().is_some(), "{last}");
    }
}

#[tokio::test]
async fn the_last_entry_is_known_after_every_cut() {
    let disks = Disks::memory();
    let last = |index| Some(Place { term: 1, index });
    let at = |index| entry(index).log_id;
    let mut on = disks.start(Runs::Inline);
    append(&mut on, 0..10).await;
    on.log.truncate_after(Some(at(20))).await.unwrap();
    drop(on);
    assert_eq!(LogFile::open(&disks.log).unwrap().1.last, last(9), "nothing is there to be cut");
    let mut on = disks.start(Runs::Inline);
    apply(&mut on, 0..10).await.unwrap();
    on.log.purge(at(5)).await.unwrap();
    on.log.truncate_after(Some(at(7))).await.unwrap();
    drop(on);
    assert_eq!(LogFile::open(&disks.log).unwrap().1.last, last(7));
    let mut on = disks.start(Runs::Inline);
    on.log.truncate_after(Some(at(5))).await.unwrap();
    drop(on);
    assert_eq!(LogFile::open(&disks.log).unwrap().1.last, last(5), "what was purged last");
    let mut on = disks.start(Runs::Inline);
    on.log.truncate_after(None).await.unwrap();
    on.log.purge(at(9)).await.unwrap();
    drop(on);
    assert_eq!(LogFile::open(&disks.log).unwrap().1.last, last(9), "a hole is filled by purging");
}
