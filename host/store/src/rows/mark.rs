//! Where a replica stands: the last entry of the log that its state holds, and the members of the group as of then. These
//! types are what stands on disk and travels between replicas; they are ours, so that no library changes bytes that were
//! stored before.

use kernel::id::NodeId;
use kernel::state::Meta;
use minicbor::{Decode, Encode};
use redb::{ReadableTable, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, encode};
use crate::tables::MARK;

/// An entry's place in the log. Two entries at one place are the same entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Place {
    /// The term in which a leader put it there.
    #[n(0)]
    pub term: u64,
    /// Its index; the first entry of a log has 0.
    #[n(1)]
    pub index: u64,
}

/// Whom a replica supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Vote {
    /// The term.
    #[n(0)]
    pub term: u64,
    /// The candidate, or the leader.
    #[n(1)]
    pub replica: u64,
    /// A majority supports it: it leads.
    #[n(2)]
    pub committed: bool,
}

/// A member of the group as the log names it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Replica {
    /// Its key.
    #[n(0)]
    pub key: NodeId,
    /// `host:port` of its gRPC.
    #[n(1)]
    pub address: String,
    // 2 was a seat: seats follow the members, in the state.
    /// What it calls itself; empty where nobody has asked it.
    #[n(3)]
    #[cbor(default)]
    pub name: String,
}

impl Default for Replica {
    /// Nobody: no key is all zero.
    fn default() -> Self {
        Self { key: NodeId([0; 32]), address: String::new(), name: String::new() }
    }
}

/// The members of the group.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Membership {
    /// Voters, ascending: one set, or two while a change is under way and majorities of both are needed.
    #[n(0)]
    pub voters: Vec<Vec<u64>>,
    /// All replicas, ascending; those that are no voters are learners.
    #[n(1)]
    pub replicas: Vec<(u64, Replica)>,
}

/// How far a state is applied.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Mark {
    /// The last entry that is in the state; `None` = none yet.
    #[n(0)]
    pub applied: Option<Place>,
    /// The entry that brought the membership.
    #[n(1)]
    pub membership_at: Option<Place>,
    /// The members as of the last entry that is in the state.
    #[n(2)]
    pub membership: Membership,
}

/// The row: how far, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Row {
    #[n(0)]
    pub(crate) mark: Mark,
    /// Written without a log: by a release that had none.
    #[n(1)]
    pub(crate) lone: bool,
}

const TABLE: &str = "mark";
const KEY: u64 = 0;

impl Mark {
    /// Of a state that came about without a log: its cluster is a group of its founder alone, and the log goes on where
    /// the state is. `None` before the founding.
    pub(crate) fn lone(meta: &Meta) -> Option<Self> {
        let founder = &meta.seats.first()?.holder;
        let replica = Replica { key: founder.node, address: founder.address.clone(), name: founder.name.clone() };
        let place = Place { term: meta.term.0, index: meta.applied.0 };
        Some(Self {
            applied: Some(place),
            membership_at: Some(place),
            membership: Membership { voters: vec![vec![0]], replicas: vec![(0, replica)] },
        })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// Never, in practice: every mark has an encoding.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        encode(TABLE, self)
    }

    /// The mark of all these bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: they are no mark.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        decode(TABLE, "(bytes)", bytes)
    }
}

pub(crate) fn write(transaction: &WriteTransaction, mark: Mark, lone: bool) -> Result<(), StoreError> {
    let bytes = encode(TABLE, &Row { mark, lone })?;
    transaction.open_table(MARK).map_err(disk)?.insert(KEY, bytes.as_slice()).map_err(disk)?;
    Ok(())
}

/// How far; `None` where nothing was applied yet.
pub(crate) fn read(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Option<Row>, StoreError> {
    table.get(KEY).map_err(disk)?.map(|row| decode(TABLE, KEY, row.value())).transpose()
}

#[cfg(test)]
mod tests {
    use kernel::id::Seat;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn place(draw: &mut Draw) -> Place {
        Place { term: draw.number(), index: draw.number() }
    }

    fn replica(draw: &mut Draw) -> Replica {
        Replica { key: draw.node(), address: draw.text(), name: draw.text() }
    }

    /// As it was stored while it had a seat.
    #[derive(Encode)]
    struct Seated {
        #[n(0)]
        key: NodeId,
        #[n(1)]
        address: String,
        #[n(2)]
        seat: Option<Seat>,
    }

    #[test]
    fn a_replica_that_was_stored_with_a_seat_is_read() {
        for seed in 0..50 {
            let draw = &mut Draw(seed);
            let (key, address) = (draw.node(), draw.text());
            let seat = draw.maybe(|draw| Seat(draw.below(8) as u8));
            let bytes = encode(TABLE, &Seated { key, address: address.clone(), seat }).unwrap();
            let name = String::new();
            assert_eq!(decode::<Replica>(TABLE, KEY, &bytes).unwrap(), Replica { key, address, name });
        }
    }

    fn any(draw: &mut Draw) -> Row {
        let mark = Mark {
            applied: draw.maybe(place),
            membership_at: draw.maybe(place),
            membership: Membership {
                voters: draw.some(|draw| draw.some(Draw::number)),
                replicas: draw.some(|draw| (draw.number(), replica(draw))),
            },
        };
        Row { mark, lone: draw.coin() }
    }

    #[test]
    fn a_mark_comes_back() {
        for seed in 0..50 {
            let mark = any(&mut Draw(seed)).mark;
            assert_eq!(Mark::of_bytes(&mark.to_bytes().unwrap()).unwrap(), mark);
        }
        check::row(any, |row| encode(TABLE, row), |bytes| decode(TABLE, KEY, bytes), "a9a7816bd1944dbe");
        let vote = |draw: &mut Draw| Vote { term: draw.number(), replica: draw.number(), committed: draw.coin() };
        check::row(vote, |row| encode(TABLE, row), |bytes| decode(TABLE, KEY, bytes), "6d90cdf0e39759f0");
    }
}
