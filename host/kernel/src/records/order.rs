//! How records come into order: batches with numbers, records with sequence numbers, fees, and digests that are known until
//! they expire (PROTOCOLS 10.4 to 10.6).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::record::{Forward, Record};
use super::seal::Sealed;
use super::validators::Validators;
use crate::decide::{Slot, Tariff};
use crate::envelope::{FORWARD_TYPE, verify};
use crate::id::{ClusterId, Digest, LogIndex, NodeId, RoundId};
use crate::ledger::Account;
use crate::limits::{BATCHES_DROPPED, SIGNED_EXPIRY_MS};
use crate::outcome::{Kind, Line, Notice, Reject, Reply, Write};
use crate::state::{Effects, State};
use crate::units::Points;

/// Orders records: [`Command::Order`](crate::command::Command::Order). Every signature was checked before it was proposed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Order {
    /// Stamp.
    #[n(0)]
    pub now_ms: u64,
    /// By whom they were handed on.
    #[n(1)]
    pub forwards: Vec<Forward>,
    /// The records, in order.
    #[n(2)]
    pub records: Vec<Arrived>,
}

/// A record that wants to be ordered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Arrived {
    /// It.
    #[n(0)]
    pub record: Record,
    /// Place of its forward among those of the command.
    #[n(1)]
    pub forward: u16,
    /// When its wish to be ordered ends, ms since 1970: as in its line of JSON, for a record that its author signed; the
    /// forward's, for one that the node wrote itself.
    #[n(2)]
    pub expires_ms: u64,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Ordered {
    /// It has its place, now or since earlier.
    #[n(0)]
    At {
        /// Its sequence number.
        #[n(0)]
        sequence: u64,
        /// Its batch.
        #[n(1)]
        batch: u64,
    },
    /// It was not taken, and costs nothing.
    #[n(1)]
    Refused(#[n(0)] Box<Reject>),
}

/// A batch, as long as it or one of its records must be known.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Batch {
    /// Its number, from 1.
    #[n(0)]
    pub number: u64,
    /// Place in the log of its order.
    #[n(1)]
    pub at: LogIndex,
    /// Stamp of its order.
    #[n(2)]
    pub ordered_ms: u64,
    /// The round that was settled last then.
    #[n(3)]
    pub round: RoundId,
    /// Validators of the set then.
    #[n(4)]
    pub set_size: u32,
    /// The signing policy that was in force then, or when an operator asked for another attempt.
    #[n(5)]
    pub policy: Digest,
    /// Attempts before this one.
    #[n(6)]
    pub attempt: u32,
    /// Sequence number of its first record.
    #[n(7)]
    pub first_sequence: u64,
    /// How many records it has.
    #[n(8)]
    pub count: u32,
    /// Bytes of all payloads.
    #[n(9)]
    pub bytes: u64,
    /// When the last of its records expires, ms since 1970.
    #[n(10)]
    pub expires_ms: u64,
    /// Its records in order; empty once all have expired and it is sealed.
    #[n(11)]
    pub records: Vec<Entered>,
    /// Set once a quorum has signed it.
    #[n(12)]
    pub sealed: Option<Box<Sealed>>,
}

/// A record as its batch knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entered {
    /// What names it.
    #[n(0)]
    pub digest: Digest,
    /// Whose it is.
    #[n(1)]
    pub author: NodeId,
    /// What it cost.
    #[n(2)]
    pub fee: Points,
}

/// What a batch that is not sealed consists of.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Contents {
    /// The records, in order.
    #[n(0)]
    pub records: Vec<Arrived>,
    /// Those of the forwards that one of the records needs.
    #[n(1)]
    pub forwards: Vec<Forward>,
}

impl Contents {
    /// Whether the records are those of a batch, in its order.
    #[must_use]
    pub fn is_of(&self, digests: impl ExactSizeIterator<Item = Digest>) -> bool {
        digests.len() == self.records.len()
            && digests.zip(&self.records).all(|(digest, arrived)| arrived.record.digest() == digest)
    }

    /// Those records whose author's word is missing: neither signed by the author nor named by a forward of the author that
    /// verifies. A validator does not sign a batch with such a one in it: the leader that ordered it lied.
    pub fn unproven(&self, cluster: &ClusterId) -> impl Iterator<Item = &Record> {
        let named: Vec<Option<Vec<Digest>>> = self
            .forwards
            .iter()
            .map(|forward| {
                let told = forward.forwarded().ok().filter(|told| told.cluster == *cluster)?;
                let valid = verify(&forward.ingress, FORWARD_TYPE, &forward.payload, &forward.signature);
                valid.then_some(told.digests)
            })
            .collect();
        self.records.iter().map(|arrived| (&arrived.record, usize::from(arrived.forward))).filter_map(
            move |(record, at)| {
                let proven = if record.signature.is_some() {
                    record.is_signed()
                } else {
                    let by = self.forwards.get(at).is_some_and(|forward| forward.ingress == record.author);
                    let digests = named.get(at).and_then(Option::as_ref);
                    by && digests.is_some_and(|digests| digests.contains(&record.digest()))
                };
                (!proven || !record.is_well_formed()).then_some(record)
            },
        )
    }
}

/// The numbers of records, in the single row of small things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Counters {
    /// Sequence number of the last record that was ordered; 0 = none.
    #[n(0)]
    pub sequence: u64,
    /// Number of the last batch; 0 = none.
    #[n(1)]
    pub batch: u64,
    /// Batches that were sealed.
    #[n(2)]
    pub sealed: u64,
    /// Place in the log of the last seal.
    #[n(3)]
    pub sealed_at: LogIndex,
    /// Records that were signed.
    #[n(4)]
    pub signed: u64,
    /// Records that were refused by a quorum.
    #[n(5)]
    pub refused: u64,
}

/// What follows from the batches, kept beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Where the record of a digest is: its batch, and its place there.
    pub digests: BTreeMap<Digest, (u64, u32)>,
    /// Sealed batches whose digests are still known, by when they expire.
    pub(crate) expiring: BTreeSet<(u64, u64)>,
    /// Sealed batches whose digests are forgotten.
    pub(crate) spent: BTreeSet<u64>,
    /// Sealed batches by the place of their seal in the log.
    pub seals: BTreeMap<LogIndex, u64>,
    /// Batches that are not sealed.
    pub pending: BTreeSet<u64>,
    /// Bytes of their payloads.
    pub pending_bytes: u64,
}

impl Known {
    pub(crate) fn add(&mut self, batch: &Batch) {
        for (at, entered) in (0..).zip(&batch.records) {
            self.digests.insert(entered.digest, (batch.number, at));
        }
        if let Some(sealed) = &batch.sealed {
            self.seals.insert(sealed.at, batch.number);
        }
        if batch.sealed.is_none() {
            self.pending.insert(batch.number);
            self.pending_bytes += batch.bytes;
        } else if batch.records.is_empty() {
            self.spent.insert(batch.number);
        } else {
            self.expiring.insert((batch.expires_ms, batch.number));
        }
    }

    pub(crate) fn seal(&mut self, batch: &Batch) {
        if self.pending.remove(&batch.number) {
            self.pending_bytes = self.pending_bytes.saturating_sub(batch.bytes);
        }
        self.expiring.insert((batch.expires_ms, batch.number));
        if let Some(sealed) = &batch.sealed {
            self.seals.insert(sealed.at, batch.number);
        }
    }
}

/// What a record of so many bytes of body costs.
#[must_use]
pub fn fee(tariff: &Tariff, body: usize) -> Points {
    let kib = body.div_ceil(1_024) as u64;
    let fee = u64::from(tariff.record_fee).saturating_add(u64::from(tariff.record_fee_kib).saturating_mul(kib));
    Points(i64::try_from(fee).unwrap_or(i64::MAX))
}

impl State {
    /// Gives the records their places. A digest that is known gets its earlier place again; what has expired, expires too
    /// late or cannot be paid is refused, and costs nothing and is not remembered. The rest is one batch.
    pub(crate) fn order(&mut self, order: &Order, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(order.now_ms);
        self.drop_batches(now_ms, fx);
        let settings = &self.meta.settings;
        if order.records.is_empty() || order.records.len() as u64 > settings.batch_records {
            return Err(Reject::OutOfBounds { what: "records".into(), min: 1, max: settings.batch_records });
        }
        let number = self.meta.records.batch + 1;
        let first_sequence = self.meta.records.sequence + 1;
        let mut entered: Vec<Entered> = Vec::new();
        let mut contents = Contents::default();
        let mut answers = Vec::with_capacity(order.records.len());
        let mut expires_ms = 0;
        // Forwards that are needed, by their place in the command.
        let mut places: Vec<Option<u16>> = alloc::vec![None; order.forwards.len()];
        for arrived in &order.records {
            let digest = arrived.record.digest();
            if let Some((sequence, batch)) = self.place_of(&digest, &entered, number, first_sequence) {
                answers.push(Ordered::At { sequence, batch });
                continue;
            }
            match self.admit(arrived, now_ms, fx) {
                Ok(cost) => {
                    answers.push(Ordered::At { sequence: first_sequence + entered.len() as u64, batch: number });
                    entered.push(Entered { digest, author: arrived.record.author, fee: cost });
                    expires_ms = expires_ms.max(arrived.expires_ms);
                    let forward = usize::from(arrived.forward);
                    let place = places.get_mut(forward).map_or(0, |place| {
                        *place.get_or_insert_with(|| {
                            contents.forwards.extend(order.forwards.get(forward).cloned());
                            contents.forwards.len().saturating_sub(1) as u16
                        })
                    });
                    contents.records.push(Arrived { forward: place, ..arrived.clone() });
                }
                Err(reject) => answers.push(Ordered::Refused(Box::new(reject))),
            }
        }
        let (Some(policy), false) = (self.slot(Slot::Signing).row.active, entered.is_empty()) else {
            return Ok(Reply::Ordered(answers));
        };
        let batch = Batch {
            number,
            at: fx.index,
            ordered_ms: now_ms,
            round: self.meta.settled,
            set_size: self.validators.set.len() as u32,
            policy,
            attempt: 0,
            first_sequence,
            count: entered.len() as u32,
            bytes: contents.records.iter().map(|arrived| arrived.record.payload.len() as u64).sum(),
            expires_ms,
            records: entered,
            sealed: None,
        };
        self.meta.records.batch = number;
        self.meta.records.sequence += u64::from(batch.count);
        self.known.add(&batch);
        let (batch, contents) = (Arc::new(batch), Arc::new(contents));
        fx.writes.push(Write::Batch(number, Some(batch.clone())));
        fx.writes.push(Write::Contents(number, Some(contents.clone())));
        fx.notices.push(Notice::Ordered(batch.clone()));
        self.batches.insert(number, batch);
        self.contents.insert(number, contents);
        Ok(Reply::Ordered(answers))
    }

    /// Where a record is; in this command too.
    fn place_of(&self, digest: &Digest, entered: &[Entered], number: u64, first: u64) -> Option<(u64, u64)> {
        if let Some(at) = entered.iter().position(|entered| entered.digest == *digest) {
            return Some((first + at as u64, number));
        }
        let (batch, at) = self.known.digests.get(digest)?;
        Some((self.batches.get(batch)?.first_sequence + u64::from(*at), *batch))
    }

    /// Takes a new record in, for its fee.
    fn admit(&mut self, arrived: &Arrived, now_ms: u64, fx: &mut Effects) -> Result<Points, Reject> {
        self.may_be_ordered(arrived, now_ms)?;
        self.records_open()?;
        let cost = fee(&self.meta.tariff, arrived.record.body().len());
        self.pay_fee(arrived.record.author, cost, now_ms, fx)?;
        Ok(cost)
    }

    fn may_be_ordered(&self, arrived: &Arrived, now_ms: u64) -> Result<(), Reject> {
        if !arrived.record.is_well_formed() {
            return Err(Reject::Malformed { what: "the record: a line of JSON, a newline and at most 64 KiB".into() });
        }
        if arrived.expires_ms <= now_ms {
            return Err(Reject::Expired { now_ms });
        }
        let latest_ms = now_ms.saturating_add(SIGNED_EXPIRY_MS);
        if arrived.expires_ms > latest_ms {
            return Err(Reject::ExpiresTooLate { latest_ms });
        }
        Ok(())
    }

    /// Whether records are taken at all now.
    ///
    /// # Errors
    /// What is full, or what is missing.
    pub fn records_open(&self) -> Result<(), Reject> {
        if self.slot(Slot::Signing).row.active.is_none() {
            return Err(Reject::NoPolicy);
        }
        if self.validators.set.is_empty() {
            return Err(Reject::NoValidators);
        }
        let (settings, known) = (&self.meta.settings, &self.known);
        let full = |what: String| Err(Reject::RecordsFull { what });
        if known.pending.len() as u64 >= settings.pending_batches {
            return full(format!("{} batches wait for signatures", known.pending.len()));
        }
        if known.pending_bytes >= settings.pending_bytes {
            return full(format!("{} bytes of records wait for signatures", known.pending_bytes));
        }
        if known.digests.len() as u64 >= settings.digests {
            return full(format!("{} records have not expired yet", known.digests.len()));
        }
        Ok(())
    }

    fn pay_fee(&mut self, author: NodeId, fee: Points, now_ms: u64, fx: &mut Effects) -> Result<(), Reject> {
        if fee == Points::ZERO {
            return Ok(());
        }
        let balance = self.wallets.get(&author).map_or(Points::ZERO, |wallet| wallet.balance);
        let Some(wallet) = self.wallets.get_mut(&author).filter(|_| balance >= fee) else {
            return Err(Reject::Insufficient { needed: fee, balance });
        };
        wallet.take(fee, now_ms);
        let wallet = *wallet;
        self.meta.treasury = self.meta.treasury.plus(fee);
        fx.writes.push(Write::Wallet(author, Some(wallet)));
        let policy = self.meta.tariff_by;
        let line = self.line(Kind::RecordFee, Account::Wallet(author), Account::Treasury, fee, now_ms);
        fx.line(Line { policy, ..line });
        Ok(())
    }

    /// Forgets the digests of sealed batches that have expired, and batches of which nothing must be known any more.
    fn drop_batches(&mut self, now_ms: u64, fx: &mut Effects) {
        for _ in 0..BATCHES_DROPPED {
            let Some((expires_ms, number)) = self.known.expiring.first().copied() else { break };
            if expires_ms > now_ms {
                break;
            }
            self.known.expiring.remove(&(expires_ms, number));
            let Some(batch) = self.batches.get_mut(&number) else { continue };
            let batch = Arc::make_mut(batch);
            for entered in core::mem::take(&mut batch.records) {
                self.known.digests.remove(&entered.digest);
            }
            self.known.spent.insert(number);
            fx.writes.push(Write::Batch(number, Some(Arc::new(batch.clone()))));
        }
        for _ in 0..BATCHES_DROPPED {
            let Some(number) = self.known.spent.first().copied() else { break };
            if self.meta.records.batch.saturating_sub(number) < self.meta.settings.certificates {
                break;
            }
            self.known.spent.remove(&number);
            if let Some(sealed) = self.batches.remove(&number).and_then(|batch| batch.sealed.clone()) {
                self.known.seals.remove(&sealed.at);
            }
            fx.writes.push(Write::Batch(number, None));
        }
    }

    /// Forgets all records and who may sign them: for a cluster that begins anew with another genesis.
    pub(crate) fn forget_records(&mut self, fx: &mut Effects) {
        for (number, _) in core::mem::take(&mut self.batches) {
            fx.writes.push(Write::Batch(number, None));
        }
        for (number, _) in core::mem::take(&mut self.contents) {
            fx.writes.push(Write::Contents(number, None));
        }
        self.known = Known::default();
        self.meta.records = Counters::default();
        if self.validators != Validators::default() {
            self.validators = Validators::default();
            fx.writes.push(Write::Validators(Box::default()));
        }
    }

    /// The batch of a record that is known, and its place there.
    #[must_use]
    pub fn batch_of(&self, digest: &Digest) -> Option<(&Arc<Batch>, u32)> {
        let (batch, at) = self.known.digests.get(digest)?;
        Some((self.batches.get(batch)?, *at))
    }
}

impl Batch {
    /// Sequence number of the record at a place.
    #[must_use]
    pub const fn sequence(&self, at: u32) -> u64 {
        self.first_sequence.saturating_add(at as u64)
    }
}
