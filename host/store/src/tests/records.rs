//! A file of records, against a simple model and through power cuts.

mod cuts;
mod model;

use kernel::id::{ClusterId, Digest, Genesis, LogIndex};
use kernel::records::certificate::{Attestation, Certificate, Verdict};
use kernel::records::order::{Arrived, Contents};
use kernel::records::sealed::SealedBatch;
use redb::{ReadableDatabase as _, ReadableTable as _};

use super::draw::Draw;
use crate::rows::about::{self, About};
use crate::tables::{DIGESTS, RECORDS_META, SEALED, SEALED_OF, SEQUENCES, SIGNED, UNINDEXED};
use crate::{Disk, Figures, Hold, Holding, KEEP_ROWS, Kept, Records, Sequenced, Store, StoreError};

const GENESIS: Genesis = Genesis([3; 16]);

/// Numbers of a sealed batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sketch {
    pub(crate) at: u64,
    pub(crate) previous: u64,
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    pub(crate) ordered_ms: u64,
}

/// A sealed batch of so many records. Nothing here looks at signatures.
pub(crate) fn made(sketch: &Sketch, records: usize, draw: &mut Draw) -> SealedBatch {
    let attestation = Attestation {
        cluster: ClusterId { id: "lab".into(), genesis: GENESIS },
        batch: sketch.number,
        attempt: 0,
        set_version: 1,
        policy: draw.digest(),
        first_sequence: sketch.first_sequence,
        count: records as u32,
        root: draw.digest(),
    };
    let verdict = |draw: &mut Draw| if draw.coin() { Verdict::Signed } else { Verdict::Refused(draw.text()) };
    SealedBatch {
        at: LogIndex(sketch.at),
        previous: LogIndex(sketch.previous),
        ordered_ms: sketch.ordered_ms,
        certificate: Certificate { attestation, signatures: vec![(draw.node(), draw.signature())] },
        verdicts: (0..records).map(|_| verdict(draw)).collect(),
        records: (0..records).map(|_| draw.record()).collect(),
    }
}

/// Batches as a log seals them: in order of seal, which is not quite that of their numbers.
fn world(seed: u64, batches: u64) -> Vec<SealedBatch> {
    let draw = &mut Draw(seed);
    let counts: Vec<u64> = (0..batches).map(|_| 1 + draw.below(3)).collect();
    let mut numbers: Vec<u64> = (1..=batches).collect();
    for at in 1..numbers.len() {
        if draw.coin() {
            numbers.swap(at - 1, at);
        }
    }
    let mut previous = 0;
    let sealed = numbers.into_iter().map(|number| {
        let at = previous + 1 + draw.below(5);
        let first_sequence = 1 + counts[..number as usize - 1].iter().sum::<u64>();
        let sketch = Sketch { at, previous, number, first_sequence, ordered_ms: 1_000 * number };
        previous = at;
        made(&sketch, counts[number as usize - 1] as usize, draw)
    });
    sealed.collect()
}

/// What a batch consisted of before it was sealed.
fn contents(batch: &SealedBatch) -> Contents {
    let arrived = |record: &_| Arrived { record: Clone::clone(record), forward: 0, expires_ms: 5 };
    Contents { records: batch.records.iter().map(arrived).collect(), forwards: Vec::new() }
}

fn open(disk: &Disk) -> Records {
    Records::open(disk, GENESIS).unwrap()
}

fn root(number: u8) -> Digest {
    Digest([number; 32])
}

#[test]
fn a_file_is_of_one_life_of_one_cluster() {
    let disk = Disk::memory();
    drop(open(&disk));
    drop(open(&disk));
    let error = Records::open(&disk, Genesis([0xab; 16])).unwrap_err();
    assert!(matches!(error, StoreError::OtherCluster { found: GENESIS, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&"03".repeat(16)) && text.contains(&"ab".repeat(16)), "{text}");
    drop(open(&disk));
}

#[test]
fn a_file_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let first = open(&Disk::file(&path));
    let error = Records::open(&Disk::file(&path), GENESIS).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { path: named } if *named == path), "{error}");
    drop(first);
    open(&Disk::file(&path));
}

#[test]
fn a_newer_format_names_the_release_that_reads_it() {
    let disk = Disk::memory();
    {
        let records = open(&disk);
        let transaction = crate::commit::begin(&records.database).unwrap();
        about::set_format(&transaction, &About { format: 2, release: "9.1.0".into() }).unwrap();
        transaction.commit().unwrap();
    }
    let error = Records::open(&disk, GENESIS).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 2, newest: 1, .. }), "{error}");
    assert!(error.to_string().contains("upgrade to 9.1.0 or later"), "{error}");
}

#[test]
fn another_file_holds_no_records() {
    let disk = Disk::memory();
    drop(Store::open(&disk, 1 << 20).unwrap());
    assert!(matches!(Records::open(&disk, GENESIS), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_new_file_is_fresh_until_somebody_says_what_that_means() {
    let disk = Disk::memory();
    for _ in 0..2 {
        let records = open(&disk);
        assert_eq!((records.is_fresh().unwrap(), records.abstain_below().unwrap()), (true, 0));
    }
    open(&disk).set_abstain_below(41).unwrap();
    let records = open(&disk);
    assert_eq!((records.is_fresh().unwrap(), records.abstain_below().unwrap()), (false, 41));
    records.set_abstain_below(7).unwrap();
    assert_eq!(records.abstain_below().unwrap(), 41, "it never falls");
}

#[test]
fn one_root_is_signed_for_a_batch_and_attempt() {
    let disk = Disk::memory();
    let world = world(1, 3);
    let (one, two) = (contents(&world[0]), contents(&world[1]));
    {
        let records = open(&disk);
        assert_eq!(records.hold(7, 0, root(1), &one).unwrap(), Hold::Sign);
        assert_eq!(records.hold(7, 0, root(1), &one).unwrap(), Hold::Sign, "again, freely");
        assert_eq!(records.hold(7, 0, root(2), &two).unwrap(), Hold::Other(root(1)));
    }
    let records = open(&disk);
    assert_eq!(records.hold(7, 0, root(2), &two).unwrap(), Hold::Other(root(1)));
    assert_eq!(records.hold(7, 1, root(2), &two).unwrap(), Hold::Sign, "another attempt has another policy");
    assert_eq!(records.contents(7).unwrap(), Some(one.clone()), "and the same content");
    let holding = |batch, root, contents| Holding { batch, attempt: 0, root, contents };
    let many =
        [holding(3, root(5), &two), holding(3, root(6), &two), holding(3, root(5), &one), holding(9, root(1), &one)];
    let answers = records.hold_many(&many).unwrap();
    assert_eq!(answers, [Hold::Sign, Hold::Other(root(5)), Hold::Sign, Hold::Sign]);
    assert_eq!((records.pending().unwrap(), records.contents(3).unwrap()), (vec![3, 7, 9], Some(two)));
    assert_eq!(records.hold_many(&[]).unwrap(), []);
}

#[test]
fn what_was_signed_is_known_for_a_while_after_the_seal() {
    let records = open(&Disk::memory());
    let sealed = |number: u64| {
        let sketch =
            Sketch { at: number * 2, previous: number * 2 - 2, number, first_sequence: number, ordered_ms: number };
        made(&sketch, 1, &mut Draw(number))
    };
    let (stuck, done) = (contents(&sealed(1)), contents(&sealed(2)));
    records.hold(1, 0, root(1), &stuck).unwrap();
    records.hold(2, 0, root(2), &done).unwrap();
    records.hold(2, 1, root(3), &done).unwrap();
    assert_eq!(records.seal(&[sealed(2)], 5).unwrap(), [Kept::New]);
    assert_eq!((records.pending().unwrap(), records.contents(2).unwrap()), (vec![1], None));
    let hold = |batch, attempt, root| records.hold(batch, attempt, root, &done).unwrap();
    assert_eq!((hold(2, 1, root(3)), hold(2, 1, root(4))), (Hold::Sign, Hold::Other(root(3))));
    assert_eq!(hold(2, 2, root(3)), Hold::Sealed);
    for number in 3..=7 {
        records.seal(&[sealed(number)], 5).unwrap();
    }
    assert_eq!(hold(2, 0, root(9)), Hold::Other(root(2)), "five batches later");
    records.seal(&[sealed(8)], 5).unwrap();
    assert_eq!(hold(2, 0, root(9)), Hold::Sealed, "the row is gone, the seal is not");
    assert_eq!(hold(1, 0, root(9)), Hold::Other(root(1)), "what is not sealed keeps its row");
    assert_eq!(records.pending().unwrap(), [1], "nothing was written for those that are sealed");
    records.let_go(&[1]).unwrap();
    assert_eq!((records.pending().unwrap(), hold(1, 0, root(9))), (vec![], Hold::Other(root(1))));
    records.seal(&[sealed(9)], 5).unwrap();
    let reader = records.database.begin_read().unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&reader.open_table(SIGNED).unwrap()).unwrap(), 0);
}

#[test]
fn seals_may_come_in_any_order_and_are_streamed_in_theirs() {
    let disk = Disk::memory();
    let world = world(2, 12);
    let at = |index: usize| world[index].at;
    let records = open(&disk);
    assert_eq!(records.seal(&world[2..5], KEEP_ROWS).unwrap(), [Kept::New; 3]);
    assert_eq!(
        (records.complete_to().unwrap(), records.after(LogIndex(0), 1 << 20, 9).unwrap()),
        (LogIndex(0), vec![])
    );
    assert_eq!(records.seal(&world[..1], KEEP_ROWS).unwrap(), [Kept::New]);
    assert_eq!(records.complete_to().unwrap(), at(0));
    assert_eq!(records.seal(&world[..3], KEEP_ROWS).unwrap(), [Kept::Held, Kept::New, Kept::Held]);
    assert_eq!(records.complete_to().unwrap(), at(4));
    drop(records);
    let records = open(&disk);
    assert_eq!(records.complete_to().unwrap(), at(4));
    assert_eq!(records.after(LogIndex(0), 1 << 20, 100).unwrap(), world[..5]);
    assert_eq!(records.after(at(1), 1 << 20, 2).unwrap(), world[2..4]);
    assert_eq!(records.after(at(1), 1, 100).unwrap(), world[2..3], "one, however large");
    assert_eq!(records.after(at(4), 1 << 20, 100).unwrap(), []);
    assert_eq!(records.after(LogIndex(u64::MAX), 1 << 20, 100).unwrap(), []);
    // A start in the middle: what came before is not waited for, and is kept if it comes.
    records.seal(&world[7..9], KEEP_ROWS).unwrap();
    records.skip_to(world[7].previous).unwrap();
    assert_eq!(records.complete_to().unwrap(), at(8));
    records.skip_to(at(2)).unwrap();
    assert_eq!(records.complete_to().unwrap(), at(8), "it never falls");
    assert_eq!(records.seal(&world[6..7], KEEP_ROWS).unwrap(), [Kept::New]);
    assert_eq!(records.after(at(3), 1 << 20, 100).unwrap(), [&world[4..5], &world[6..9]].concat());
}

#[test]
fn what_contradicts_is_left_out() {
    let records = open(&Disk::memory());
    let sketch = |at, previous, number, first_sequence| Sketch { at, previous, number, first_sequence, ordered_ms: 1 };
    let make = |sketch: Sketch| made(&sketch, 2, &mut Draw(sketch.at));
    records.seal(&[make(sketch(10, 5, 2, 3)), make(sketch(20, 10, 4, 7))], KEEP_ROWS).unwrap();
    let figures = records.figures().unwrap();
    let wrong = [
        ("a place that is taken", sketch(10, 5, 3, 5)),
        ("another place of a batch", sketch(4, 0, 2, 3)),
        ("between a seal and the one before it", sketch(15, 10, 3, 5)),
        ("the same, from the other side", sketch(8, 0, 3, 5)),
        ("around another one", sketch(30, 15, 3, 5)),
        ("sequence numbers that are taken", sketch(30, 20, 3, 4)),
        ("the same, from below", sketch(30, 20, 3, 2)),
        ("before the seal before it", sketch(30, 30, 3, 5)),
    ];
    for (what, sketch) in wrong {
        assert_eq!(records.seal(&[make(sketch)], KEEP_ROWS).unwrap(), [Kept::Unfit], "{what}");
    }
    let fine = make(sketch(5, 0, 1, 1));
    let mut short = fine.clone();
    short.records.pop();
    let mut unsaid = fine.clone();
    unsaid.verdicts.pop();
    let empty = made(&sketch(5, 0, 1, 1), 0, &mut Draw(1));
    assert_eq!(records.seal(&[short, unsaid, empty], KEEP_ROWS).unwrap(), [Kept::Unfit; 3]);
    assert_eq!(records.figures().unwrap(), figures, "nothing was written");
    assert_eq!(records.seal(&[fine, make(sketch(30, 20, 3, 5))], KEEP_ROWS).unwrap(), [Kept::New; 2]);
    assert_eq!(records.complete_to().unwrap(), LogIndex(30));
}

#[test]
fn a_record_is_found_by_its_digest_and_by_its_number() {
    let records = open(&Disk::memory());
    let mut world = world(3, 9);
    // A digest that was forgotten is ordered again: the later one is the one that is found, whatever comes first.
    let twice = world[1].records[0].clone();
    world[6].records[0] = twice.clone();
    records.seal(&world[6..7], KEEP_ROWS).unwrap();
    records.seal(&world[..4], KEEP_ROWS).unwrap();
    assert_eq!(records.by_digest(&twice.digest()).unwrap(), Some((world[6].clone(), 0)));
    for batch in [&world[0], &world[3]] {
        for (record, place) in batch.records.iter().zip(0..) {
            assert_eq!(records.by_digest(&record.digest()).unwrap(), Some((batch.clone(), place)));
        }
        assert_eq!(records.by_batch(batch.number()).unwrap().as_ref(), Some(batch));
        assert_eq!(records.sealed_at(batch.at).unwrap().as_ref(), Some(batch));
    }
    assert_eq!(records.by_digest(&root(1)).unwrap(), None);
    assert_eq!((records.by_batch(99).unwrap(), records.sealed_at(LogIndex(0)).unwrap()), (None, None));
    let mut all: Vec<Sequenced> = Vec::new();
    for batch in world[..4].iter().chain(&world[6..7]) {
        let places = 0..batch.records.len() as u32;
        all.extend(places.map(|place| Sequenced {
            sequence: batch.first_sequence() + u64::from(place),
            at: batch.at,
            place,
        }));
    }
    all.sort_by_key(|found| found.sequence);
    assert_eq!(records.by_sequence(0, 1_000).unwrap(), all);
    for page in 1..4 {
        let (mut after, mut paged) = (0, Vec::new());
        loop {
            let found = records.by_sequence(after, page).unwrap();
            assert!(found.len() <= page);
            let Some(last) = found.last() else { break };
            after = last.sequence;
            paged.extend(found);
        }
        assert_eq!(paged, all, "pages of {page}");
    }
    assert_eq!(records.by_sequence(u64::MAX, 5).unwrap(), []);
}

/// Batches of one record each, of which everything is its number.
fn row_of_batches(numbers: std::ops::RangeInclusive<u64>) -> Vec<SealedBatch> {
    let sketch =
        |number| Sketch { at: number, previous: number - 1, number, first_sequence: number, ordered_ms: number };
    numbers.map(|number| made(&sketch(number), 1, &mut Draw(number))).collect()
}

#[test]
fn digests_are_written_while_others_come_and_those_of_what_was_pruned_go() {
    let disk = Disk::memory();
    let open = || Records::open_collecting(&disk, GENESIS, 20).unwrap();
    let sealed = row_of_batches(1..=200);
    let rows = |records: &Records| -> Vec<u64> {
        let table = records.database.begin_read().unwrap().open_table(DIGESTS).unwrap();
        table.iter().unwrap().map(|row| row.unwrap().0.value().1).collect()
    };
    let found = |records: &Records, batches: &[SealedBatch]| {
        for batch in batches {
            assert_eq!(records.by_digest(&batch.records[0].digest()).unwrap(), Some((batch.clone(), 0)));
        }
    };
    let records = open();
    for (batch, count) in sealed[..100].iter().zip(1..) {
        records.seal(std::slice::from_ref(batch), KEEP_ROWS).unwrap();
        let written = rows(&records).len();
        assert!(written < count && written + 2 * 20 > count, "{written} of {count}");
    }
    found(&records, &sealed[..100]);
    // A digest that begins alike is another one.
    let digest = sealed[50].records[0].digest();
    let alike = (crate::records::start(&digest), 90, 0);
    let transaction = crate::commit::begin(&records.database).unwrap();
    transaction.open_table(DIGESTS).unwrap().insert(alike, ()).unwrap();
    transaction.commit().unwrap();
    found(&records, &sealed[50..51]);
    drop(records);
    let records = open();
    found(&records, &sealed[..100]);
    while records.prune(None, Some(91)).unwrap() {}
    for batch in &sealed[100..] {
        records.seal(std::slice::from_ref(batch), KEEP_ROWS).unwrap();
    }
    found(&records, &sealed[90..]);
    let left = rows(&records);
    assert!(left.len() > 70 && left.iter().all(|at| *at > 90), "{left:?}");
    assert_eq!(records.by_digest(&sealed[50].records[0].digest()).unwrap(), None);
}

/// Lives that end before what is collected is written: the next one goes on, so that no more is collected than once.
#[test]
fn lives_that_are_short_write_what_they_collect() {
    let disk = Disk::memory();
    let sealed = row_of_batches(1..=300);
    let mut most = 0;
    for some in sealed.chunks(5) {
        let records = Records::open_collecting(&disk, GENESIS, 20).unwrap();
        for batch in some {
            records.seal(std::slice::from_ref(batch), KEEP_ROWS).unwrap();
        }
        let table = records.database.begin_read().unwrap().open_table(UNINDEXED).unwrap();
        most = most.max(table.iter().unwrap().count());
    }
    assert!((20..60).contains(&most), "{most} batches at most are not indexed");
    let records = Records::open_collecting(&disk, GENESIS, 20).unwrap();
    for batch in &sealed {
        assert_eq!(records.by_digest(&batch.records[0].digest()).unwrap(), Some((batch.clone(), 0)));
    }
}

#[test]
fn the_oldest_are_pruned_and_not_asked_for_again() {
    let disk = Disk::memory();
    let records = open(&disk);
    let sealed = row_of_batches(1..=200);
    records.seal(&sealed, KEEP_ROWS).unwrap();
    let whole = records.figures().unwrap();
    assert_eq!(
        (whole.records, whole.batches, whole.first_sequence, whole.last_sequence),
        (200, 200, Some(1), Some(200))
    );
    assert!(!records.prune(None, None).unwrap());
    assert!(!records.prune(Some(whole.bytes), Some(1)).unwrap());
    assert_eq!(records.figures().unwrap(), whole);
    // By time, over several calls.
    let mut calls = 1;
    while records.prune(None, Some(151)).unwrap() {
        calls += 1;
    }
    let figures = records.figures().unwrap();
    assert_eq!((calls, figures.batches, figures.first_sequence, figures.pruned_to), (3, 50, Some(151), LogIndex(150)));
    assert_eq!(figures.complete_to, LogIndex(200));
    assert_eq!(records.by_digest(&sealed[149].records[0].digest()).unwrap(), None);
    assert_eq!(records.after(LogIndex(0), 1 << 30, 1_000).unwrap(), sealed[150..]);
    assert_eq!(records.seal(&sealed[100..152], KEEP_ROWS).unwrap()[49..], [Kept::Past, Kept::Held, Kept::Held]);
    assert_eq!(records.figures().unwrap(), figures);
    // By room; the newest stays.
    assert!(!records.prune(Some(figures.bytes / 2), None).unwrap());
    let half = records.figures().unwrap();
    assert!(half.bytes <= figures.bytes / 2 && half.bytes > figures.bytes / 3, "{half:?}");
    assert!(!records.prune(Some(0), Some(u64::MAX)).unwrap());
    drop(records);
    let records = open(&disk);
    let figures = records.figures().unwrap();
    assert_eq!((figures.batches, figures.first_sequence, figures.last_sequence), (1, Some(200), Some(200)));
    assert_eq!(records.complete_to().unwrap(), LogIndex(200));
    // A gap that is older than what was pruned is not waited for.
    let later = [row_of_batches(210..=211), row_of_batches(220..=220)].concat();
    records.seal(&later, KEEP_ROWS).unwrap();
    assert_eq!(records.complete_to().unwrap(), LogIndex(200));
    records.prune(Some(0), None).unwrap();
    assert_eq!(records.complete_to().unwrap(), LogIndex(211));
    assert_eq!(records.figures().unwrap().batches, 1);
}

#[test]
fn nothing_is_held_at_first() {
    let records = open(&Disk::memory());
    assert_eq!(records.figures().unwrap(), Figures::default());
    assert!(!records.prune(Some(0), Some(u64::MAX)).unwrap());
    assert_eq!(records.pending().unwrap(), []);
}

#[test]
fn a_damaged_row_is_an_error() {
    let records = open(&Disk::memory());
    let world = world(5, 2);
    records.seal(&world, KEEP_ROWS).unwrap();
    records.hold(9, 0, root(1), &contents(&world[0])).unwrap();
    let (at, number, first) = (world[0].at, world[0].number(), world[0].first_sequence());
    let digest = world[0].records[0].digest();
    let transaction = crate::commit::begin(&records.database).unwrap();
    transaction.open_table(SEALED).unwrap().insert(at.0, [1_u8, 2].as_slice()).unwrap();
    transaction.open_table(SEALED_OF).unwrap().insert(number, [1_u8].as_slice()).unwrap();
    transaction.open_table(SEQUENCES).unwrap().insert(first, [1_u8].as_slice()).unwrap();
    transaction
        .open_table(SIGNED)
        .unwrap()
        .insert([&9_u64.to_be_bytes()[..], &[0; 4]].concat().as_slice(), [1_u8; 40].as_slice())
        .unwrap();
    let other = world[1].records[0].digest();
    let wrong = (crate::records::start(&other), world[1].at.0 + 1, 0);
    transaction.open_table(DIGESTS).unwrap().insert(wrong, ()).unwrap();
    let wrong = (crate::records::start(&other), world[1].at.0, 99);
    transaction.open_table(DIGESTS).unwrap().insert(wrong, ()).unwrap();
    transaction.open_table(crate::tables::BODIES).unwrap().insert(9, [0xff_u8].as_slice()).unwrap();
    transaction.commit().unwrap();
    let damaged = |error: Option<StoreError>| assert!(matches!(error, Some(StoreError::Damaged { .. })), "{error:?}");
    damaged(records.sealed_at(at).err());
    damaged(records.by_digest(&digest).err());
    damaged(records.by_digest(&other).err());
    damaged(records.by_batch(number).err());
    damaged(records.by_sequence(0, 9).err());
    damaged(records.after(LogIndex(0), 1 << 20, 9).err());
    damaged(records.contents(9).err());
    damaged(records.hold(9, 0, root(1), &contents(&world[0])).err());
    damaged(records.seal(&world, KEEP_ROWS).err());
    let transaction = crate::commit::begin(&records.database).unwrap();
    transaction.open_table(RECORDS_META).unwrap().insert(1, [0xff_u8].as_slice()).unwrap();
    transaction.commit().unwrap();
    damaged(records.complete_to().err());
    damaged(records.figures().err());
}
