//! Which entries are news: those of the term that counts now, from when this replica first heard of its leader.
//!
//! What a replica has to catch up with after a start, and what an earlier leader left, happened before: whoever watches
//! would take it for what happens now.

use store::Place;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// The latest term with a leader that is known since the start; 0 = none.
    term: u64,
    /// Entries before this index were committed when its leader was first heard of.
    from: u64,
}

impl News {
    /// This replica leads: every entry of its term is made from now on.
    pub(super) fn leads(&mut self, term: u64) {
        if term > self.term {
            *self = Self { term, from: 0 };
        }
    }

    /// The leader of a term says how far the log is committed.
    pub(super) fn heard(&mut self, term: u64, committed: Option<Place>) {
        if term > self.term {
            *self = Self { term, from: committed.map_or(0, |place| place.index.saturating_add(1)) };
        }
    }

    /// Whether an entry is one.
    pub(super) fn has(&self, at: Place) -> bool {
        at.term == self.term && at.index >= self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(term: u64, index: u64) -> Place {
        Place { term, index }
    }

    #[test]
    fn entries_of_the_present_leader_are_news() {
        let mut news = News::default();
        assert!(!news.has(at(3, 9)), "nobody leads that is known");
        news.heard(3, Some(at(3, 8)));
        assert!(!news.has(at(3, 8)) && news.has(at(3, 9)), "what was committed before is old");
        news.heard(3, Some(at(3, 20)));
        news.heard(2, None);
        assert!(news.has(at(3, 9)) && !news.has(at(2, 9)), "an older leader says nothing");
        news.heard(4, Some(at(3, 12)));
        assert!(!news.has(at(3, 13)) && news.has(at(4, 14)), "what an earlier one left is old");
        news.leads(5);
        assert!(news.has(at(5, 0)) && !news.has(at(4, 15)));
    }
}
