//! A snapshot carries all that a replica needs, and is there as a whole or not at all. Files of the format before get
//! their mark.

use std::sync::Arc;

use kernel::command::{Command, Entry, Restore, Super};
use kernel::id::{ClusterId, Genesis, LogIndex, NodeId};
use redb::ReadableDatabase as _;

use super::draw::Draw;
use super::player::{Player, Step};
use super::{PLENTY, commit};
use crate::lossy::{Failure, Lossy, Power};
use crate::rows::about::{self, About};
use crate::{Backup, Disk, Mark, Membership, Place, Replica, Spool, SpoolRoom, Store, StoreError};

fn mark(term: u64, index: u64) -> Mark {
    let replica = |n| {
        (u64::from(n), Replica { key: NodeId([n; 32]), address: format!("10.0.0.{n}:1"), name: format!("super-{n}") })
    };
    let at = Some(Place { term, index });
    let membership = Membership { voters: vec![vec![1, 2]], replicas: [1, 2, 3].map(replica).to_vec() };
    Mark { applied: at, membership_at: Some(Place { term: 1, index: 0 }), membership }
}

fn commit_marked(store: &Store, steps: &[Step], mark: &Mark) -> Result<(), StoreError> {
    let commands: Vec<_> = steps.iter().map(|step| (step.entry.index, &step.entry.command)).collect();
    let writes: Vec<_> = steps.iter().flat_map(|step| step.writes.clone()).collect();
    store.commit_marked(&commands, &writes, mark)
}

/// A store with a cluster, some history and a keyframe.
fn played(seed: u64, steps: usize) -> (Store, Player) {
    let store = Store::open(&Disk::memory(), PLENTY).unwrap();
    let (mut player, first) = Player::with_members(seed, 20);
    commit_marked(&store, &first, &mark(1, player.state.meta.applied.0)).unwrap();
    store.keep_keyframe().unwrap();
    for _ in 0..steps {
        let step = player.step();
        commit_marked(&store, &[step], &mark(2, player.state.meta.applied.0)).unwrap();
    }
    (store, player)
}

fn bytes(spool: &Spool) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let piece = spool.read(bytes.len() as u64, 10_000).unwrap();
        if piece.is_empty() {
            return bytes;
        }
        bytes.extend(piece);
    }
}

fn spool(bytes: &[u8]) -> Spool {
    let spool = SpoolRoom::memory().create().unwrap();
    bytes.chunks(7_777).for_each(|piece| spool.append(piece).unwrap());
    spool
}

fn cluster(player: &Player) -> ClusterId {
    player.state.meta.cluster.clone()
}

#[test]
fn a_mark_is_kept_with_what_was_applied() {
    let store = Store::open(&Disk::memory(), PLENTY).unwrap();
    assert_eq!((store.mark().unwrap(), store.is_without_log().unwrap()), (Mark::default(), false));
    store.commit_marked(&[], &[], &mark(1, 0)).unwrap();
    assert_eq!((store.mark().unwrap(), store.is_without_log().unwrap()), (mark(1, 0), false));
    let (player, steps) = Player::with_members(4, 3);
    commit_marked(&store, &steps, &mark(1, player.state.meta.applied.0)).unwrap();
    assert_eq!(store.mark().unwrap(), mark(1, player.state.meta.applied.0));
    assert_eq!(store.load().unwrap(), player.state);
    let again = commit_marked(&store, &steps[1..2], &mark(9, 9));
    assert!(matches!(again, Err(StoreError::AlreadyApplied { .. })), "{again:?}");
    assert_eq!(store.mark().unwrap(), mark(1, player.state.meta.applied.0), "what was refused left nothing");
}

#[test]
fn a_file_of_the_format_before_gets_its_mark() {
    let disk = Disk::memory();
    let (player, steps) = Player::with_members(3, 2);
    {
        let store = Store::open(&disk, PLENTY).unwrap();
        commit(&store, &steps).unwrap();
        let transaction = crate::commit::begin(&store.database).unwrap();
        assert!(transaction.delete_table(crate::tables::MARK).unwrap());
        about::set_format(&transaction, &About { format: 1, release: "0.1.0".into() }).unwrap();
        transaction.commit().unwrap();
    }
    for _ in 0..2 {
        let store = Store::open(&disk, PLENTY).unwrap();
        let mark = store.mark().unwrap();
        let meta = &player.state.meta;
        assert_eq!(mark.applied, Some(Place { term: meta.term.0, index: meta.applied.0 }));
        assert_eq!(mark.membership.voters, [[0]]);
        assert_eq!(mark.membership.replicas[0].1.key, meta.seats[0].holder.node);
        assert!(store.is_without_log().unwrap());
        assert_eq!(store.load().unwrap(), player.state);
        assert!(!about::read(&store.database.begin_read().unwrap()).unwrap().is_old());
    }
    let empty = Disk::memory();
    {
        let store = Store::open(&empty, PLENTY).unwrap();
        let transaction = crate::commit::begin(&store.database).unwrap();
        about::set_format(&transaction, &About { format: 1, release: "0.1.0".into() }).unwrap();
        transaction.commit().unwrap();
    }
    let store = Store::open(&empty, PLENTY).unwrap();
    assert_eq!((store.mark().unwrap(), store.is_without_log().unwrap()), (Mark::default(), false));
}

#[test]
fn a_snapshot_carries_everything() {
    let (from, mut player) = played(7, 120);
    let (told, packed) = from.snapshot(&SpoolRoom::memory()).unwrap();
    // The view is of now: what comes later is not in it.
    let (before, digest) = (player.state.clone(), from.state_digest().unwrap());
    let step = player.settle();
    commit_marked(&from, &[step], &mark(2, player.state.meta.applied.0)).unwrap();
    assert_ne!(from.state_digest().unwrap(), digest);

    let disk = Disk::memory();
    let to = Store::open(&disk, PLENTY).unwrap();
    let (other, steps) = Player::with_members(99, 40);
    commit_marked(&to, &steps, &mark(1, 3)).unwrap();
    let installed = to.install(&spool(&bytes(&packed)), &cluster(&other), told.applied).unwrap();
    assert_eq!(installed, told);
    assert_eq!((to.mark().unwrap(), to.state_digest().unwrap()), (told, digest));
    drop(to);
    let to = Store::open(&disk, PLENTY).unwrap();
    assert_eq!(to.load().unwrap(), before);
    assert!(!to.is_without_log().unwrap());
    // History and its count came with it, and the past is told from a keyframe of before.
    let index = LogIndex(before.meta.applied.0 - 30);
    assert!(to.state_at(index).unwrap().is_some());
    assert_eq!(to.state_at(index).unwrap(), from.state_at(index).unwrap());
    assert_eq!(to.entry(index).unwrap(), from.entry(index).unwrap());
    // It goes on as the one that it was taken from.
    let next = player.settle();
    for store in [&from, &to] {
        let missing = LogIndex(before.meta.applied.0 + 1);
        if std::ptr::eq(store, &raw const to) {
            let command = from.entry(missing).unwrap().unwrap();
            let mut state = before.clone();
            let outcome = state.apply(missing, &command);
            store.commit_marked(&[(missing, &command)], &outcome.writes, &mark(2, missing.0)).unwrap();
        }
        commit_marked(store, std::slice::from_ref(&next), &mark(2, player.state.meta.applied.0)).unwrap();
    }
    assert_eq!(to.state_digest().unwrap(), from.state_digest().unwrap());
    assert_eq!(to.history_bytes().unwrap() > 0, from.history_bytes().unwrap() > 0);
}

#[test]
fn a_snapshot_of_nothing_brings_nothing() {
    let from = Store::open(&Disk::memory(), PLENTY).unwrap();
    let (told, packed) = from.snapshot(&SpoolRoom::memory()).unwrap();
    assert_eq!(told, Mark::default());
    let to = Store::open(&Disk::memory(), PLENTY).unwrap();
    assert_eq!(to.install(&packed, &cluster(&Player::with_members(1, 1).0), None).unwrap(), told);
    assert!(!to.load().unwrap().is_founded());
}

#[test]
fn a_snapshot_costs_nothing_until_it_is_read() {
    let (from, _) = played(2, 3);
    let (told, packed) = from.snapshot(&SpoolRoom::folder("/nowhere/at/all")).unwrap();
    assert_eq!((told, packed.len()), (from.mark().unwrap(), 0));
    assert!(packed.append(b"more").is_err(), "it is not written to");
    assert!(packed.read(0, 1).is_err(), "now there is no room for it");
}

#[test]
fn what_is_not_whole_changes_nothing() {
    let (from, player) = played(5, 10);
    let (told, packed) = from.snapshot(&SpoolRoom::memory()).unwrap();
    let whole = bytes(&packed);
    let (to, other) = played(6, 2);
    let before = to.state_digest().unwrap();
    let refused = |bytes: &[u8]| {
        let error = to.install(&spool(bytes), &cluster(&player), told.applied).unwrap_err();
        assert!(matches!(error, StoreError::NotASnapshot { .. }), "{error}");
        assert_eq!(to.state_digest().unwrap(), before);
    };
    let draw = &mut Draw(1);
    for _ in 0..60 {
        let mut bad = whole.clone();
        let at = draw.below(bad.len() as u64) as usize;
        match draw.below(3) {
            0 => bad[at] ^= 1 << draw.below(8),
            1 => bad.truncate(at),
            _ => bad.insert(at, draw.next() as u8),
        }
        refused(&bad);
    }
    refused(&[]);
    refused(&[whole.clone(), whole.clone()].concat());
    let strange = ClusterId { id: "other".into(), ..cluster(&player) };
    let error = to.install(&spool(&whole), &strange, told.applied).unwrap_err();
    assert!(error.to_string().contains("is of the cluster lab#"), "{error}");
    let error = to.install(&spool(&whole), &cluster(&other), mark(1, 1).applied).unwrap_err();
    assert!(error.to_string().contains("was said to be of"), "{error}");
    assert!(to.check_snapshot(&spool(&whole), &cluster(&other), told.applied).is_ok());
    to.commit_marked(&[], &[], &mark(9, 9_000)).unwrap();
    let error = to.install(&spool(&whole), &cluster(&other), told.applied).unwrap_err();
    assert!(error.to_string().contains("older than what is here"), "{error}");
}

#[test]
fn a_power_cut_in_the_middle_leaves_the_old_or_the_new_one() {
    let (from, player) = played(8, 40);
    let (_, packed) = from.snapshot(&SpoolRoom::memory()).unwrap();
    let new = (from.mark().unwrap(), from.load().unwrap());
    let (other, steps) = Player::with_members(9, 5);
    let old = (mark(1, 3), other.state.clone());
    let run = |power: &Arc<Power>| {
        let lossy = Lossy::on(power);
        let store = Store::open(&Disk::lossy(&lossy), PLENTY).unwrap();
        commit_marked(&store, &steps, &old.0).unwrap();
        (lossy, store)
    };
    let power = Arc::new(Power::default());
    let (_lossy, store) = run(&power);
    let began = power.operations();
    store.install(&packed, &cluster(&player), new.0.applied).unwrap();
    let operations = power.operations() - began;
    let (mut draw, mut seen) = (Draw(3), [0, 0]);
    for at in 1..=operations {
        let power = Arc::new(Power::default());
        let (lossy, store) = run(&power);
        power.fail_at(at, Failure::PowerCut);
        let installed = store.install(&packed, &cluster(&player), new.0.applied);
        drop(store);
        power.start_again(&[&lossy], &mut |end| draw.below(end));
        let store = Store::open(&Disk::lossy(&lossy), PLENTY).unwrap();
        let found = (store.mark().unwrap(), store.load().unwrap());
        let is_new = found == new;
        assert!(is_new || found == old, "a mix after operation {at} of {operations}");
        assert!(is_new || installed.is_err(), "operation {at}: what was installed is gone");
        seen[usize::from(is_new)] += 1;
    }
    assert!(seen[0] > 3 && seen[1] > 0, "{seen:?} of {operations}");
}

#[test]
fn a_backup_becomes_the_state_of_another_cluster_without_a_log() {
    let (store, player) = played(6, 20);
    let (mark, spool) = store.snapshot(&SpoolRoom::memory()).unwrap();
    let bytes = bytes(&spool);
    let file = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        file
    };
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for wrong in [&b""[..], b"something else", &bytes[..bytes.len() - 1], &damaged] {
        assert!(matches!(Backup::read(file(wrong)), Err(StoreError::NotASnapshot { .. })), "{} bytes", wrong.len());
    }
    let backup = Backup::read(file(&bytes)).unwrap();
    assert_eq!((backup.cluster(), backup.applied()), (&cluster(&player), mark.applied));

    let other = Store::open(&Disk::memory(), PLENTY).unwrap();
    other.bring_back(&backup).unwrap();
    let mut state = other.load().unwrap();
    assert_eq!(state, player.state);
    let index = LogIndex(mark.applied.unwrap().index + 1);
    let founder = Super { node: NodeId([9; 32]), name: "new".into(), address: "b:1".into() };
    let restore = Restore { genesis: Genesis([99; 16]), founder: founder.clone(), now_ms: 0 };
    let command = Command::Restore(Box::new(restore));
    let outcome = state.apply(index, &command);
    assert!(outcome.reply.is_ok());
    other.commit(&[Entry { index, command }], &outcome.writes).unwrap();
    assert!(other.is_without_log().unwrap());
    assert_eq!(other.load().unwrap(), state);
    let mark = other.mark().unwrap();
    assert_eq!(mark.applied, Some(Place { term: state.meta.term.0, index: index.0 }));
    assert_eq!(
        mark.membership.replicas,
        [(0, Replica { key: founder.node, address: "b:1".into(), name: "new".into() })]
    );
    assert_eq!(other.cluster().unwrap().genesis, Genesis([99; 16]));
    let again = other.bring_back(&backup);
    assert!(matches!(again, Err(StoreError::NotASnapshot { .. })), "{again:?}");
    assert_eq!(other.load().unwrap(), state, "what is there is never overwritten");
}
