//! Random calls, and what a model of maps says of them.

use std::collections::{BTreeMap, BTreeSet};

use kernel::id::{Digest, LogIndex};
use kernel::records::order::Contents;
use kernel::records::sealed::SealedBatch;
use proptest::prelude::{ProptestConfig, any};
use proptest::proptest;

use super::{GENESIS, contents, root, world};
use crate::history::room;
use crate::tests::draw::Draw;
use crate::{Disk, Figures, Hold, Holding, Kept, Records, Sequenced};

const KEEP: u64 = 6;
const BATCHES: u64 = 40;

#[derive(Default)]
struct Model {
    signed: BTreeMap<(u64, u32), Digest>,
    bodies: BTreeMap<u64, Contents>,
    sealed: BTreeMap<LogIndex, SealedBatch>,
    spent: BTreeSet<u64>,
    complete: LogIndex,
    pruned: LogIndex,
    newest: u64,
}

fn bytes(batch: &SealedBatch) -> u64 {
    room(8, minicbor::to_vec(batch).unwrap().len()) + batch.records.len() as u64 * room(20, 0)
}

impl Model {
    fn hold(&mut self, batch: u64, attempt: u32, root: Digest, contents: &Contents) -> Hold {
        let signed = self.signed.get(&(batch, attempt)).copied();
        let sealed = self.spent.contains(&batch) || self.sealed.values().any(|sealed| sealed.number() == batch);
        match signed {
            Some(signed) if signed != root => return Hold::Other(signed),
            None if sealed => return Hold::Sealed,
            Some(_) | None => {}
        }
        if !sealed {
            self.signed.insert((batch, attempt), root);
            self.bodies.entry(batch).or_insert_with(|| contents.clone());
        }
        Hold::Sign
    }

    fn over(&mut self, batch: u64) {
        self.bodies.remove(&batch);
        if self.signed.keys().any(|(signed, _)| *signed == batch) {
            self.spent.insert(batch);
        }
    }

    fn seal(&mut self, batches: &[SealedBatch]) -> Vec<Kept> {
        let mut kept = Vec::new();
        let before = (self.bodies.len(), self.spent.len());
        for batch in batches {
            if self.sealed.contains_key(&batch.at) {
                kept.push(Kept::Held);
                continue;
            }
            self.over(batch.number());
            if batch.at <= self.pruned {
                kept.push(Kept::Past);
                continue;
            }
            self.newest = self.newest.max(batch.number());
            self.sealed.insert(batch.at, batch.clone());
            kept.push(Kept::New);
        }
        self.advance();
        if kept.contains(&Kept::New) || before != (self.bodies.len(), self.spent.len()) {
            let below = self.newest.saturating_sub(KEEP);
            let (spent, left): (BTreeSet<u64>, BTreeSet<u64>) = self.spent.iter().partition(|batch| **batch < below);
            self.spent = left;
            self.signed.retain(|(batch, _), _| !spent.contains(batch));
        }
        kept
    }

    fn advance(&mut self) {
        for (at, batch) in &self.sealed {
            if *at > self.complete && batch.previous <= self.complete {
                self.complete = *at;
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.sealed.values().map(bytes).sum()
    }

    fn prune(&mut self, keep_bytes: Option<u64>, older_than_ms: Option<u64>) {
        while self.sealed.len() > 1 {
            let (at, oldest) = self.sealed.first_key_value().unwrap();
            let at = *at;
            let large = keep_bytes.is_some_and(|keep| self.bytes() > keep);
            if !large && older_than_ms.is_none_or(|than| oldest.ordered_ms >= than) {
                break;
            }
            self.sealed.remove(&at);
            self.pruned = at;
        }
        self.complete = self.complete.max(self.pruned);
        self.advance();
    }

    fn sequenced(&self) -> Vec<Sequenced> {
        let of = |batch: &SealedBatch| {
            let (first, at) = (batch.first_sequence(), batch.at);
            let places = 0..batch.records.len() as u32;
            places.map(move |place| Sequenced { sequence: first + u64::from(place), at, place })
        };
        let mut all: Vec<_> = self.sealed.values().flat_map(of).collect();
        all.sort_by_key(|found| found.sequence);
        all
    }

    fn same(&self, records: &Records, world: &[SealedBatch], draw: &mut Draw) {
        assert_eq!(records.pending().unwrap(), self.bodies.keys().copied().collect::<Vec<_>>());
        let all = self.sequenced();
        let figures = Figures {
            records: all.len() as u64,
            batches: self.sealed.len() as u64,
            bytes: self.bytes(),
            first_sequence: all.first().map(|found| found.sequence),
            last_sequence: all.last().map(|found| found.sequence),
            pruned_to: self.pruned,
            complete_to: self.complete,
        };
        assert_eq!(records.figures().unwrap(), figures);
        assert_eq!(records.complete_to().unwrap(), self.complete);
        let any = &world[draw.below(BATCHES) as usize];
        assert_eq!(records.contents(any.number()).unwrap().as_ref(), self.bodies.get(&any.number()));
        let held = self.sealed.get(&any.at);
        assert_eq!(records.sealed_at(any.at).unwrap().as_ref(), held);
        assert_eq!(records.by_batch(any.number()).unwrap().as_ref(), held);
        let place = draw.below(any.records.len() as u64) as usize;
        let found = records.by_digest(&any.records[place].digest()).unwrap();
        assert_eq!(found, held.map(|batch| (batch.clone(), place as u32)));
        let (after, limit) = (draw.below(90), 1 + draw.below(9) as usize);
        let expected: Vec<_> = all.into_iter().filter(|found| found.sequence > after).take(limit).collect();
        assert_eq!(records.by_sequence(after, limit).unwrap(), expected);
        let (after, max_bytes) = (LogIndex(draw.below(any.at.0 + 2)), draw.below(4_000) as usize);
        let mut expected = Vec::new();
        let mut took = 0;
        for (_, batch) in self.sealed.range(LogIndex(after.0 + 1)..).filter(|(at, _)| **at <= self.complete) {
            took += minicbor::to_vec(batch).unwrap().len();
            if expected.len() == limit || took > max_bytes && !expected.is_empty() {
                break;
            }
            expected.push(batch.clone());
        }
        assert_eq!(records.after(after, max_bytes, limit).unwrap(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_file_of_records_is_as_its_model(seed in any::<u64>(), generation in 1..60_usize) {
        let (world, draw) = (world(seed, BATCHES), &mut Draw(seed));
        let (disk, mut model) = (Disk::memory(), Model::default());
        let open = || Records::open_collecting(&disk, GENESIS, generation).unwrap();
        let mut records = open();
        for step in 0..120 {
            // What happens is mostly about batches of about the same time.
            let about = |draw: &mut Draw| ((step / 4 + draw.below(12)).min(BATCHES - 1)) as usize;
            match draw.below(16) {
                0..6 => {
                    let batches: Vec<_> = (0..1 + draw.below(3)).map(|_| &world[about(draw)]).collect();
                    let bodies: Vec<_> = batches.iter().map(|batch| contents(batch)).collect();
                    let mut holdings = Vec::new();
                    for (batch, contents) in batches.iter().zip(&bodies) {
                        let attempt = draw.below(2) as u32;
                        let root = if draw.below(5) == 0 { root(9) } else { root(1 + attempt as u8) };
                        holdings.push(Holding { batch: batch.number(), attempt, root, contents });
                    }
                    let expected: Vec<_> =
                        holdings.iter().map(|of| model.hold(of.batch, of.attempt, of.root, of.contents)).collect();
                    assert_eq!(records.hold_many(&holdings).unwrap(), expected);
                }
                6..12 => {
                    let batches: Vec<_> = (0..draw.below(5)).map(|_| world[about(draw)].clone()).collect();
                    assert_eq!(records.seal(&batches, KEEP).unwrap(), model.seal(&batches));
                }
                12 => {
                    let keep_bytes = draw.maybe(|draw| draw.below(6_000));
                    let older_than_ms = draw.maybe(|draw| draw.below(step * 200 + 1));
                    assert!(!records.prune(keep_bytes, older_than_ms).unwrap());
                    model.prune(keep_bytes, older_than_ms);
                }
                13 => {
                    let at = LogIndex(draw.below(step + 1));
                    records.skip_to(at).unwrap();
                    model.complete = model.complete.max(at);
                    model.advance();
                }
                14 => {
                    let batch = world[draw.below(BATCHES) as usize].number();
                    records.let_go(&[batch]).unwrap();
                    model.over(batch);
                }
                _ => {
                    drop(records);
                    records = open();
                }
            }
            model.same(&records, &world, draw);
        }
        assert!(!model.sealed.is_empty() && model.pruned > LogIndex(0) || model.sealed.len() > 10);
    }
}
