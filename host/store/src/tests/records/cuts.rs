//! The power goes, at any operation of the disk: what was acknowledged is there, and no second root is signed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::id::{Digest, LogIndex};
use kernel::records::sealed::SealedBatch;

use super::{GENESIS, contents, root, world};
use crate::lossy::{Failure, Lossy, Power};
use crate::tests::draw::Draw;
use crate::{Disk, Hold, Holding, KEEP_ROWS, Kept, Records, StoreError};

const BATCHES: u64 = 90;
/// Records that are collected before their digests are written: so few that this happens all the time.
const GENERATION: usize = 5;

/// What was acknowledged, and so must be found.
struct Ledger {
    world: Vec<SealedBatch>,
    /// What was signed, ever.
    signed: BTreeMap<(u64, u32), Digest>,
    /// Whether a batch is sealed for sure; one that is there and `false` may be.
    sealed: BTreeMap<LogIndex, bool>,
    complete: LogIndex,
    abstain: Option<u64>,
}

impl Ledger {
    fn of(&self, number: u64) -> &SealedBatch {
        self.world.iter().find(|batch| batch.number() == number).unwrap()
    }

    /// Whether the file has what was acknowledged. Writes nothing.
    fn check(&mut self, records: &Records) -> Result<(), String> {
        let told = |error: StoreError| format!("{error:?}");
        let none = kernel::records::order::Contents::default();
        let strange = |(batch, attempt): &(u64, u32)| Holding {
            batch: *batch,
            attempt: *attempt,
            root: root(0xee),
            contents: &none,
        };
        let figures = records.figures().map_err(told)?;
        let asked: Vec<_> = self.signed.keys().map(strange).collect();
        for (answer, (key, root)) in records.hold_many(&asked).map_err(told)?.into_iter().zip(&self.signed) {
            if answer != Hold::Other(*root) {
                return Err(format!("{key:?} was signed with {root}, and the file says {answer:?}"));
            }
            let batch = self.of(key.0);
            let held = records.contents(key.0).map_err(told)?;
            let pruned = batch.at <= figures.pruned_to;
            let may_be_sealed = self.sealed.contains_key(&batch.at);
            let sealed = records.by_batch(key.0).map_err(told)?;
            if held != Some(contents(batch)) && !(may_be_sealed && (pruned || sealed.as_ref() == Some(batch))) {
                return Err(format!("batch {} was signed, and is not held", key.0));
            }
        }
        if figures.complete_to < self.complete {
            return Err(format!("complete to {}, which was {}", figures.complete_to, self.complete));
        }
        if records.abstain_below().map_err(told)? < self.abstain.unwrap_or(0) {
            return Err("the batch to abstain below is forgotten".into());
        }
        let (mut held, mut bodies) = (0, 0);
        for batch in &self.world {
            let found = records.sealed_at(batch.at).map_err(told)?;
            if found.as_ref().is_some_and(|found| found != batch) {
                return Err(format!("batch {} is another one", batch.number()));
            }
            if found.is_none() && self.sealed.get(&batch.at) == Some(&true) && batch.at > figures.pruned_to {
                return Err(format!("batch {} was sealed, and is gone", batch.number()));
            }
            for (record, place) in found.iter().flat_map(|found| &found.records).zip(0..) {
                let by_digest = records.by_digest(&record.digest()).map_err(told)?;
                if by_digest != Some((batch.clone(), place)) {
                    return Err(format!("a record of batch {} is not found", batch.number()));
                }
            }
            held += u64::from(found.is_some());
            bodies += found.map_or(0, |found| found.records.len() as u64);
        }
        if (figures.batches, figures.records) != (held, bodies) {
            return Err(format!("{figures:?} and not {held} batches of {bodies} records"));
        }
        self.complete = figures.complete_to;
        Ok(())
    }

    /// One call. `Err` of the store is passed on, `Err` of what was promised is the inner one.
    fn step(&mut self, records: &Records, draw: &mut Draw) -> Result<Result<(), String>, StoreError> {
        // About where the seals are.
        let near = self.sealed.len() as u64;
        let about = |draw: &mut Draw| near.saturating_sub(4).saturating_add(draw.below(9)).min(BATCHES - 1) as usize;
        match draw.below(10) {
            0..5 => {
                let drawn = |draw: &mut Draw| (about(draw), draw.below(40) as u32, root(1 + draw.below(2) as u8));
                let some: Vec<_> = (0..1 + draw.below(3)).map(|_| drawn(draw)).collect();
                let bodies: Vec<_> = some.iter().map(|(batch, ..)| contents(&self.world[*batch])).collect();
                let holdings: Vec<_> = some
                    .iter()
                    .zip(&bodies)
                    .map(|((batch, attempt, root), contents)| Holding {
                        batch: self.world[*batch].number(),
                        attempt: *attempt,
                        root: *root,
                        contents,
                    })
                    .collect();
                let answers = records.hold_many(&holdings)?;
                for (answer, of) in answers.into_iter().zip(&holdings) {
                    let known = self.signed.get(&(of.batch, of.attempt)).copied();
                    match answer {
                        Hold::Sign if known.is_some_and(|known| known != of.root) => {
                            return Ok(Err(format!("two roots for {:?}", (of.batch, of.attempt))));
                        }
                        Hold::Sign => {
                            self.signed.insert((of.batch, of.attempt), of.root);
                        }
                        Hold::Other(other) if known.is_some_and(|known| known != other) => {
                            return Ok(Err(format!("another root than was signed for {:?}", (of.batch, of.attempt))));
                        }
                        Hold::Other(_) => {}
                        Hold::Sealed if known.is_some() => return Ok(Err("a row is gone".into())),
                        Hold::Sealed => {}
                    }
                }
            }
            5..8 => {
                let batches: Vec<_> = (0..1 + draw.below(2)).map(|_| self.world[about(draw)].clone()).collect();
                for batch in &batches {
                    self.sealed.entry(batch.at).or_insert(false);
                }
                for (kept, batch) in records.seal(&batches, KEEP_ROWS)?.into_iter().zip(&batches) {
                    if kept == Kept::Unfit {
                        return Ok(Err(format!("batch {} does not fit", batch.number())));
                    }
                    self.sealed.insert(batch.at, true);
                }
                self.complete = records.complete_to()?;
            }
            8 => {
                records.prune(Some(4_000), None)?;
            }
            _ => {
                let batch = self.abstain.unwrap_or(0) + 1;
                records.set_abstain_below(batch)?;
                self.abstain = Some(batch);
            }
        }
        Ok(Ok(()))
    }
}

/// So many lives of a validator on one disk, each of which ends with a failure. Gives how many roots were signed and how many
/// batches sealed.
fn lives(seed: u64, failure: Failure, lives: u64) -> Result<(usize, usize), String> {
    let draw = &mut Draw(seed);
    let world = world(seed, BATCHES);
    let mut ledger =
        Ledger { world, signed: BTreeMap::new(), sealed: BTreeMap::new(), complete: LogIndex(0), abstain: None };
    let power = Arc::new(Power::default());
    let lossy = Lossy::on(&power);
    let disk = Disk::lossy(&lossy);
    for life in 0..lives {
        power.fail_at(1 + draw.below(70), failure);
        match Records::open_collecting(&disk, GENESIS, GENERATION) {
            Ok(records) => {
                ledger.check(&records).map_err(|what| format!("life {life}: {what}"))?;
                loop {
                    match ledger.step(&records, draw) {
                        Ok(kept) => kept.map_err(|what| format!("life {life}: {what}"))?,
                        Err(StoreError::MustReopen { .. }) => break,
                        Err(error) => return Err(format!("life {life}: {error:?}")),
                    }
                }
            }
            Err(StoreError::MustReopen { .. }) if power.has_failed() => {}
            Err(error) => return Err(format!("life {life}: {error:?}")),
        }
        assert!(power.has_failed());
        power.start_again(&[&lossy], &mut |end| draw.below(end));
    }
    let records = Records::open_collecting(&disk, GENESIS, GENERATION).map_err(|error| format!("{error:?}"))?;
    ledger.check(&records)?;
    Ok((ledger.signed.len(), ledger.sealed.values().filter(|is_sure| **is_sure).count()))
}

#[test]
fn what_was_acknowledged_is_there_after_every_power_cut() {
    let (mut cuts, mut signed, mut sealed) = (0, 0, 0);
    for seed in 0..160 {
        let in_a_row = 12 + u64::from(seed % 2 == 0);
        let found = lives(seed, Failure::PowerCut, in_a_row).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        (cuts, signed, sealed) = (cuts + in_a_row, signed + found.0, sealed + found.1);
    }
    assert!(cuts == 2_000 && signed > 2_000 && sealed > 800, "{cuts} cuts, {signed} signed, {sealed} sealed");
}

#[test]
fn a_disk_that_refuses_loses_nothing() {
    for seed in 0..20 {
        let _found = lives(seed, Failure::Refusal, 5).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

/// The check is one that can fail.
#[test]
fn a_disk_that_lies_is_found_out() {
    let found = (0..20).filter(|seed| lives(*seed, Failure::LyingSync, 5).is_err()).count();
    assert!(found >= 15, "{found} of 20");
}
