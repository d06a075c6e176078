//! A replica that loses power, at a random moment, on both of its disks at once: what was acknowledged is there, and the
//! state is what the log makes of it.

use std::sync::Arc;

use kernel::id::LogIndex;
use kernel::state::State;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt as _;
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder, StorageHelper};
use store::lossy::{Failure, Lossy, Power};
use store::{Disk, Membership, Place, SpoolRoom, Store, Vote};

use super::{Disks, PLENTY, found, identity, join, lead, replica};
use crate::types::{RaftEntry, Types, place, raft_membership, raft_place, raft_vote, vote};
use crate::{Files, Replicated, Runs};

/// Random numbers (SplitMix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What a replica did and what it was told.
struct Driver {
    draw: Draw,
    term: u64,
    /// All entries of the log from 0 on; what was cut off is not there.
    entries: Vec<RaftEntry>,
    /// So many of them, from the first on, were acknowledged.
    flushed: usize,
    /// So many are committed.
    committed: usize,
    /// So many are applied.
    applied: usize,
    vote: Option<Vote>,
    /// A vote that was given and not acknowledged.
    asked: Option<Vote>,
    purged: Option<Place>,
    /// The log as it was before each of the cuts that may have been lost.
    uncut: Vec<Vec<RaftEntry>>,
}

impl Driver {
    fn new(seed: u64) -> Self {
        Self {
            draw: Draw(seed),
            term: 1,
            entries: Vec::new(),
            flushed: 0,
            committed: 0,
            applied: 0,
            vote: None,
            asked: None,
            purged: None,
            uncut: Vec::new(),
        }
    }

    fn entry(&mut self) -> RaftEntry {
        let index = self.entries.len() as u64;
        let payload = match (index, self.draw.below(10)) {
            (0, _) | (_, 0) => {
                let voters = (0..=self.draw.below(3)).collect::<Vec<_>>();
                let replicas = voters.iter().map(|id| (*id, replica(*id))).collect();
                EntryPayload::Membership(raft_membership(Membership { voters: vec![voters], replicas }).unwrap())
            }
            (1, _) => EntryPayload::Normal(found().into()),
            (_, 1) => EntryPayload::Blank,
            (_, 2) => EntryPayload::Normal(lead(index).into()),
            _ => EntryPayload::Normal(join(self.draw.below(500)).into()),
        };
        RaftEntry { log_id: raft_place(Place { term: self.term, index }), payload }
    }

    /// Does things until the power goes, or for so many steps.
    async fn run(&mut self, on: &mut Replicated, steps: u64) -> std::io::Result<()> {
        for _ in 0..steps {
            match self.draw.below(12) {
                0 => {
                    let given = Vote { term: self.term + 1, replica: self.draw.below(3), committed: false };
                    self.asked = Some(given);
                    on.log.save_vote(&raft_vote(given)).await?;
                    (self.vote, self.asked, self.term) = (Some(given), None, given.term);
                }
                1 => self.truncate(on).await?,
                2 => self.purge(on).await?,
                3..7 => self.append(on).await?,
                7 => drop(on.machine.get_snapshot_builder().await.build_snapshot().await?),
                _ => self.apply(on).await?,
            }
        }
        Ok(())
    }

    /// One to three appends before the first of them is waited for.
    async fn append(&mut self, on: &mut Replicated) -> std::io::Result<()> {
        let mut waiting = Vec::new();
        for _ in 0..=self.draw.below(3) {
            let (told, done) = Types::oneshot();
            let mut batch = Vec::new();
            for _ in 0..=self.draw.below(4) {
                let entry = self.entry();
                batch.push(entry.clone());
                self.entries.push(entry);
            }
            let (first, last) = (batch[0].log_id.index, self.entries.len());
            on.log.append(batch.clone(), IOFlushed::signal(told)).await?;
            let read = on.log.get_log_reader().await.try_get_log_entries(first..).await?;
            assert_eq!(read, batch, "entries can be read at once");
            waiting.push((done, last));
        }
        for (done, last) in waiting {
            done.await.unwrap()?;
            self.flushed = last;
            self.uncut.clear();
        }
        Ok(())
    }

    async fn truncate(&mut self, on: &mut Replicated) -> std::io::Result<()> {
        let kept = self.committed + self.draw.below((self.entries.len() - self.committed) as u64 + 1) as usize;
        if kept < self.entries.len() && kept > 0 {
            self.uncut.push(self.entries.clone());
            self.entries.truncate(kept);
            self.flushed = self.flushed.min(kept);
            self.term += 1;
            let last = self.entries.last().map(|entry| entry.log_id);
            on.log.truncate_after(last).await?;
        }
        Ok(())
    }

    async fn purge(&mut self, on: &mut Replicated) -> std::io::Result<()> {
        let to = self.draw.below(self.applied as u64 + 1) as usize;
        let purged = self.purged.map_or(0, |place| place.index as usize + 1);
        if to > purged {
            let last = self.entries[to - 1].log_id;
            self.purged = Some(place(&last));
            on.log.purge(last).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, on: &mut Replicated) -> std::io::Result<()> {
        self.committed += self.draw.below((self.flushed - self.committed) as u64 + 1) as usize;
        let committed = self.entries[..self.committed].last().map(|entry| entry.log_id);
        on.log.save_committed(committed).await?;
        if self.applied < self.committed {
            let read = on.log.get_log_reader().await;
            let range = self.applied as u64..self.committed as u64;
            let entries = { read }.try_get_log_entries(range).await?;
            assert_eq!(entries, self.entries[self.applied..self.committed]);
            let items = entries.into_iter().map(|entry| Ok((entry, None)));
            on.machine.apply(tokio_stream::iter(items)).await?;
            self.applied = self.committed;
        }
        Ok(())
    }

    /// The state that these entries make.
    fn replay(&self, entries: usize) -> State {
        let mut state = State::default();
        for entry in &self.entries[..entries] {
            if let EntryPayload::Normal(command) = &entry.payload {
                let _ = state.apply(LogIndex(entry.log_id.index), &command.0);
            }
        }
        state
    }

    /// What must hold after a start; what is found is what the driver goes on from.
    async fn check(&mut self, on: &mut Replicated) -> Result<(), String> {
        let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let (applied, _) = on.machine.applied_state().await.map_err(|error| error.to_string())?;
        let applied = applied.map_or(0, |place| place.index as usize + 1);
        ensure(applied >= self.applied, "what was applied and seen is gone")?;
        ensure(applied <= self.committed, "more is applied than was committed")?;
        let read = on.log.get_log_reader().await.try_get_log_entries(0..).await.map_err(|error| error.to_string())?;
        let found = { on.log.get_log_reader().await }.read_vote().await.unwrap().as_ref().map(vote);
        ensure(found == self.vote || found == self.asked, "the vote is another one")?;
        let purged = on.log.get_log_state().await.unwrap().last_purged_log_id.map_or(0, |p| p.index as usize + 1);
        ensure(purged <= applied, "more is purged than applied")?;
        let first = read.first().map_or(purged, |entry| entry.log_id.index as usize);
        ensure(first == purged, "the log begins elsewhere")?;
        let end = purged + read.len();
        ensure(end >= self.flushed, "acknowledged entries are gone")?;
        let is = |entries: &[RaftEntry]| end <= entries.len() && read == entries[purged..end];
        let mut uncut = std::mem::take(&mut self.uncut);
        uncut.push(self.entries.clone());
        let there = uncut.into_iter().rev().find(|entries| is(entries));
        self.entries = there.unwrap_or_default();
        ensure(is(&self.entries), "entries are not those that were appended")?;
        let mut machine = on.machine.clone();
        StorageHelper::new(&mut on.log, &mut machine)
            .with_id(0)
            .get_initial_state()
            .await
            .map_err(|e| e.to_string())?;
        let (applied, _) = machine.applied_state().await.unwrap();
        let applied = applied.map_or(0, |place| place.index as usize + 1);
        ensure(applied <= self.committed, "more is applied than was committed")?;
        ensure(machine.read(|state| *state == self.replay(applied)), "the state is not what the log makes of it")?;
        self.entries.truncate(end);
        (self.flushed, self.applied) = (end, applied);
        (self.vote, self.asked, self.purged) = (found, None, read_purged(on).await);
        self.term = self.term.max(found.map_or(0, |vote| vote.term)) + 1;
        Ok(())
    }
}

async fn read_purged(on: &mut Replicated) -> Option<Place> {
    on.log.get_log_state().await.unwrap().last_purged_log_id.as_ref().map(place)
}

fn open(disks: &Disks, runs: Runs) -> Result<Replicated, String> {
    let store = Store::open(&disks.state, PLENTY).map_err(|error| format!("open: {error:?}"))?;
    let files = Files::open(&disks.log, Arc::new(store)).map_err(|error| format!("open: {error:?}"))?;
    let opened = files.start(identity(0), SpoolRoom::memory(), runs, Arc::new(()));
    opened.map_err(|error| format!("start: {error:?}"))
}

/// Starts, works and loses power some times; gives how often power went, or what did not hold.
async fn lives(seed: u64, runs: Runs, failure: Failure, lives: u64) -> Result<u64, String> {
    let power = Arc::new(Power::default());
    let (log, state) = (Lossy::on(&power), Lossy::on(&power));
    let disks = Disks { log: Disk::lossy(&log), state: Disk::lossy(&state) };
    let mut driver = Driver::new(seed);
    let mut cuts = 0;
    for life in 0..lives {
        if driver.draw.below(3) == 0 {
            // It goes already while the replica starts.
            power.fail_at(1 + driver.draw.below(12), failure);
            if let Ok(mut on) = open(&disks, runs) {
                let _ = StorageHelper::new(&mut on.log, &mut on.machine).with_id(0).get_initial_state().await;
                drop((on.log, on.machine));
                on.end.wait().await;
            }
            let draw = &mut driver.draw;
            power.start_again(&[&log, &state], &mut |end| draw.below(end));
        }
        let mut on = open(&disks, runs)?;
        driver.check(&mut on).await.map_err(|what| format!("seed {seed}, life {life}: {what}"))?;
        power.fail_at(1 + driver.draw.below(90), failure);
        let _ = driver.run(&mut on, 40).await;
        cuts += u64::from(power.has_failed());
        drop((on.log, on.machine));
        on.end.wait().await;
        let draw = &mut driver.draw;
        power.start_again(&[&log, &state], &mut |end| draw.below(end));
    }
    Ok(cuts)
}

#[tokio::test]
async fn acknowledged_entries_survive_power_cuts() {
    let mut cuts = 0;
    for seed in 0..280 {
        cuts += lives(seed, Runs::Inline, Failure::PowerCut, 8).await.unwrap();
    }
    assert!(cuts >= 1_900, "power went {cuts} times only");
}

#[tokio::test]
async fn a_thread_loses_no_more_than_none() {
    let mut cuts = 0;
    for seed in 100..110 {
        cuts += lives(seed, Runs::OnThreads, Failure::PowerCut, 8).await.unwrap();
    }
    assert!(cuts >= 60, "power went {cuts} times only");
}

#[tokio::test]
async fn a_disk_that_refuses_loses_nothing() {
    let mut cuts = 0;
    for seed in 200..215 {
        cuts += lives(seed, Runs::Inline, Failure::Refusal, 8).await.unwrap();
    }
    assert!(cuts >= 90, "it refused {cuts} times only");
}

#[tokio::test]
async fn a_disk_that_lies_is_found_out() {
    let mut found = 0;
    for seed in 300..310 {
        found += u64::from(lives(seed, Runs::Inline, Failure::LyingSync, 8).await.is_err());
    }
    assert!(found >= 9, "the checks found {found} of 10 disks that lie");
}
