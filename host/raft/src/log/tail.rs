//! What is known of the log without reading the file: its ends, and its latest entries.
//!
//! Invariants: entries from `front` on are here and nowhere else as far as readers are concerned; those before it are on
//! the disk. What is not on the disk yet is never let go.

use std::collections::VecDeque;
use std::io;

use store::{LogHead, Place, Vote};

use crate::types::{RaftEntry, place};

/// Entries that stay in memory, so that followers that are up to date are served without the disk.
const ENTRIES: usize = 4_096;
/// Bytes that they may have.
const BYTES: usize = 32 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<Place>,
    pub(super) purged: Option<Place>,
    pub(super) last: Option<Place>,
    /// Rises when entries go: who reads the file meanwhile reads again.
    pub(super) cuts: u64,
    /// Index of the first entry of all.
    first: u64,
    /// Index of the first entry in memory.
    front: u64,
    /// Entries before this index are on the disk.
    flushed: u64,
    entries: VecDeque<(RaftEntry, usize)>,
    bytes: usize,
    /// Bytes of each entry of all.
    sizes: VecDeque<u32>,
    /// Their sum.
    whole: u64,
}

/// What is in memory of a range, and which part of it is in the file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) cuts: u64,
    /// From, and to before.
    pub(super) in_file: (u64, u64),
    pub(super) in_memory: Vec<RaftEntry>,
}

fn after(place: Option<Place>) -> u64 {
    place.map_or(0, |place| place.index.saturating_add(1))
}

impl Tail {
    pub(super) fn new(head: &LogHead) -> Self {
        let front = after(head.last);
        Self {
            vote: head.vote,
            committed: head.committed,
            purged: head.purged,
            last: head.last,
            cuts: 0,
            first: head.first.unwrap_or(front),
            front,
            flushed: front,
            entries: VecDeque::new(),
            bytes: 0,
            sizes: head.sizes.clone().into(),
            whole: head.sizes.iter().map(|size| u64::from(*size)).sum(),
        }
    }

    /// Bytes of all entries.
    pub(super) const fn whole(&self) -> u64 {
        self.whole
    }

    /// The last entry that has to go for the rest to have at most so many bytes; `None` where none has to.
    pub(super) fn last_beyond(&self, bytes: u64) -> Option<u64> {
        let mut over = self.whole.checked_sub(bytes).filter(|over| *over > 0)?;
        let gone = self.sizes.iter().take_while(|size| {
            let goes = over > 0;
            over = over.saturating_sub(u64::from(**size));
            goes
        });
        (self.first + gone.count() as u64).checked_sub(1)
    }

    /// Takes an entry of so many bytes at the end.
    pub(super) fn push(&mut self, entry: RaftEntry, bytes: usize) -> io::Result<()> {
        let at = place(&entry.log_id);
        if self.last.is_some() && at.index != after(self.last) {
            let what = format!("entry {} would leave a hole in the log, which ends at {:?}", at.index, self.last);
            return Err(io::Error::other(what));
        }
        if self.last.is_none() {
            (self.first, self.front, self.flushed) = (at.index, at.index, at.index);
        }
        self.last = Some(at);
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.sizes.push_back(size);
        self.whole += u64::from(size);
        Ok(())
    }

    /// Entries up to this one are on the disk, where they still count.
    pub(super) fn flushed(&mut self, to: Place) {
        let held = self.entry(to.index).is_some_and(|(entry, _)| place(&entry.log_id) == to);
        if held {
            self.flushed = self.flushed.max(to.index.saturating_add(1));
        }
        while (self.entries.len() > ENTRIES || self.bytes > BYTES) && self.front < self.flushed {
            self.pop();
        }
    }

    fn entry(&self, index: u64) -> Option<&(RaftEntry, usize)> {
        self.entries.get(usize::try_from(index.checked_sub(self.front)?).ok()?)
    }

    fn pop(&mut self) {
        if let Some((_, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
            self.front += 1;
        }
    }

    /// Whether an entry is on the disk, or is none of those that are still on their way there.
    pub(super) fn is_flushed(&self, at: Place) -> bool {
        at.index < self.flushed || self.entry(at.index).is_none_or(|(entry, _)| place(&entry.log_id) != at)
    }

    /// The entries after an index that are in memory and committed, at most so many and of not many more bytes than
    /// `max_bytes`.
    pub(super) fn committed_after(&self, index: u64, max: usize, max_bytes: usize) -> Vec<RaftEntry> {
        let first = index.saturating_add(1);
        let end = after(self.committed).min(first.saturating_add(max as u64));
        if first < self.front {
            return Vec::new();
        }
        self.find(first, end, max_bytes).in_memory
    }

    /// Entries after this one go.
    pub(super) fn truncate(&mut self, last: Option<Place>) {
        let end = after(last);
        if end >= after(self.last) {
            return;
        }
        while self.entries.len() as u64 > end.saturating_sub(self.front) {
            if let Some((_, bytes)) = self.entries.pop_back() {
                self.bytes -= bytes;
            }
        }
        while self.sizes.len() as u64 > end.saturating_sub(self.first) {
            self.whole -= u64::from(self.sizes.pop_back().unwrap_or(0));
        }
        self.front = self.front.min(end);
        self.flushed = self.flushed.min(end);
        self.last = last.or(self.purged);
        self.cuts += 1;
    }

    /// Entries up to this one go.
    pub(super) fn purge(&mut self, to: Place) {
        let end = to.index.saturating_add(1);
        while self.front < end && !self.entries.is_empty() {
            self.pop();
        }
        while self.first < end {
            let Some(size) = self.sizes.pop_front() else { break };
            self.whole -= u64::from(size);
            self.first += 1;
        }
        self.front = self.front.max(end);
        self.flushed = self.flushed.max(end);
        self.first = end;
        self.purged = Some(to);
        if self.last.is_none_or(|last| last.index <= to.index) {
            self.last = Some(to);
        }
        self.cuts += 1;
    }

    /// Looks for entries from one index to before another, of not many more bytes than `max_bytes`.
    pub(super) fn find(&self, first: u64, end: u64, max_bytes: usize) -> Found {
        let end = end.min(after(self.last));
        let first = first.max(self.first).min(end);
        let middle = self.front.clamp(first, end);
        let mut bytes = 0;
        let skip = usize::try_from(middle.saturating_sub(self.front)).unwrap_or(usize::MAX);
        let wanted = usize::try_from(end.saturating_sub(middle)).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip).take(wanted);
        let in_memory = entries.take_while(|(_, size)| {
            let room = bytes < max_bytes;
            bytes += size;
            room
        });
        let in_memory = in_memory.map(|(entry, _)| entry.clone()).collect();
        Found { cuts: self.cuts, in_file: (first, middle), in_memory }
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::types::raft_place;

    const fn at(index: u64) -> Place {
        Place { term: 1, index }
    }

    fn entry(index: u64) -> RaftEntry {
        RaftEntry { log_id: raft_place(at(index)), payload: EntryPayload::Blank }
    }

    fn tail(first: u64, sizes: &[u32]) -> Tail {
        let last = (first + sizes.len() as u64).checked_sub(1).map(at);
        let purged = first.checked_sub(1).map(at);
        Tail::new(&LogHead { purged, last, first: Some(first), sizes: sizes.to_vec(), ..LogHead::default() })
    }

    #[test]
    fn its_bytes_are_those_of_the_entries_that_are_there() {
        let mut tail = tail(5, &[10, 20, 30]);
        assert_eq!(tail.whole(), 60);
        for (bytes, last) in [(60, None), (59, Some(5)), (50, Some(5)), (49, Some(6)), (30, Some(6)), (0, Some(7))] {
            assert_eq!(tail.last_beyond(bytes), last, "{bytes}");
        }
        tail.push(entry(8), 40).unwrap();
        assert_eq!(tail.whole(), 100);
        tail.purge(at(5));
        assert_eq!((tail.whole(), tail.last_beyond(70)), (90, Some(6)));
        tail.truncate(Some(at(6)));
        assert_eq!((tail.whole(), tail.last_beyond(0)), (20, Some(6)));
        // As a snapshot that came does it.
        tail.purge(at(90));
        assert_eq!((tail.whole(), tail.last_beyond(0)), (0, None));
        tail.push(entry(91), 7).unwrap();
        assert_eq!((tail.whole(), tail.last_beyond(0)), (7, Some(91)));
        tail.truncate(None);
        assert_eq!(tail.whole(), 0);
    }
}
