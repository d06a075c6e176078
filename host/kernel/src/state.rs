//! The state of a cluster and `apply`, the only way to change it.
//!
//! `apply` is total: it never fails, waits, logs or reads a clock. A refusal is a reply. It reads only the state and the
//! command: a setting that it needs is in the state, and time is a field that the leader stamps.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::{Command, Found, Ip, Lead};
use crate::decide::{Slot, Tariff};
use crate::id::{ClusterId, Digest, LogIndex, MemberNumber, NodeId, RoundId, Seat, Term, is_name};
use crate::ledger::Wallet;
use crate::limits::BLOCK_MEMBERS;
use crate::members::{Hot, Member, network};
use crate::outcome::{Change, Line, Move, Notice, Outcome, Reject, Reply, Write};
use crate::policies::{PolicyRow, SlotState};
use crate::records::order::{Batch, Contents, Counters, Known};
use crate::records::validators::Validators;
use crate::round::SeatRow;
use crate::settings::Settings;
use crate::units::Points;

/// The single row of small things.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Meta {
    /// The log index of the last command that was applied.
    #[n(0)]
    pub applied: LogIndex,
    /// Name and genesis; empty before the founding.
    #[n(1)]
    pub cluster: ClusterId,
    /// The term of the last leader.
    #[n(2)]
    pub term: Term,
    /// Who leads.
    #[n(3)]
    pub leader: Option<NodeId>,
    /// The latest stamp; it never falls.
    #[n(4)]
    pub stamp_ms: u64,
    /// The last settled round; 0 = none.
    #[n(5)]
    pub settled: RoundId,
    /// Its stamp.
    #[n(6)]
    pub settled_ms: u64,
    /// The term in which it was observed.
    #[n(7)]
    pub settled_term: Term,
    /// SHA-256 of its settlement; zero before the first.
    #[n(8)]
    pub settled_digest: Digest,
    /// It was suspect.
    #[n(9)]
    pub suspect: bool,
    /// Suspect rounds in a row up to it.
    #[n(10)]
    pub suspect_rounds: u32,
    /// The last trusted round; 0 = none yet.
    #[n(11)]
    pub trusted: RoundId,
    /// Seats that are taken.
    #[n(12)]
    pub seats: Vec<SeatRow>,
    /// In force.
    #[n(13)]
    pub settings: Settings,
    /// Version of the settings in force.
    #[n(14)]
    pub settings_version: u64,
    /// Settings that will be in force from a round on.
    #[n(15)]
    pub settings_next: Option<(RoundId, Settings)>,
    /// Penalty and fees.
    #[n(16)]
    pub tariff: Tariff,
    /// Balance of the treasury.
    #[n(17)]
    pub treasury: Points,
    /// All points that were ever issued.
    #[n(18)]
    pub issued: Points,
    /// The number that the next new member gets.
    #[n(19)]
    pub next_number: MemberNumber,
    /// Joins since the last settlement.
    #[n(20)]
    pub joins: u32,
    /// The same, by index of network group.
    #[n(21)]
    pub group_joins: Vec<(u32, u32)>,
    /// Settings as the founder's file last said them, so that only a change of the file counts.
    #[n(22)]
    pub file_settings: Vec<(String, String)>,
    /// The reward policy that set the tariff; `None` = the default one.
    #[n(23)]
    pub tariff_by: Option<Digest>,
    /// Components that no policy uses yet, complete or not: the latest first, each with the round that was settled last when
    /// something of it came.
    #[n(24)]
    #[cbor(default)]
    pub loose: Vec<(Digest, RoundId)>,
    /// Seats of supers that were removed, while those whom they asked last may still be on their way to another.
    #[n(25)]
    #[cbor(default)]
    pub left: Vec<SeatRow>,
    /// Place in the log of the change of the group that the seats follow.
    #[n(26)]
    #[cbor(default)]
    pub supers_changed: LogIndex,
    /// Numbers of records.
    #[n(27)]
    #[cbor(default)]
    pub records: Counters,
}

/// A network group: a /24 or /64 from which members come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its index, stable while it has members.
    pub index: u32,
    /// Its members, in the queue or not.
    pub members: u32,
}

/// Everything that replicas agree on. Fields are read freely; only [`State::apply`] changes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Small things.
    pub meta: Meta,
    /// All known members, by key.
    pub members: BTreeMap<NodeId, Member>,
    /// Members by number.
    pub numbers: BTreeMap<MemberNumber, NodeId>,
    /// The queue as after the last settlement, in ascending order of key.
    pub queue: Arc<[NodeId]>,
    /// Wallets.
    pub wallets: BTreeMap<NodeId, Wallet>,
    /// Slots, by number.
    pub slots: [SlotState; Slot::ALL.len()],
    /// Policies that are staged or in use.
    pub policies: BTreeMap<Digest, PolicyRow>,
    /// Their components.
    pub components: BTreeMap<Digest, Arc<[u8]>>,
    /// Components of which pieces are missing: size, and what is there.
    pub uploads: BTreeMap<Digest, (u32, Vec<u8>)>,
    /// Network groups, derived from the members.
    pub groups: BTreeMap<Ip, Group>,
    /// Who may sign records.
    pub validators: Validators,
    /// Batches of records of which something must be known.
    pub batches: BTreeMap<u64, Arc<Batch>>,
    /// The records of those that are not sealed.
    pub contents: BTreeMap<u64, Arc<Contents>>,
    /// What follows from the batches.
    pub known: Known,
}

/// What one command does besides changing the state, while it is being applied.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) index: LogIndex,
    pub(crate) writes: Vec<Write>,
    pub(crate) notices: Vec<Notice>,
    blocks: BTreeSet<u32>,
    lines: u32,
    changes: u32,
}

impl Effects {
    /// The part of this member that changes each round is to be stored.
    pub(crate) fn hot(&mut self, number: MemberNumber) {
        self.blocks.insert(number.0 / BLOCK_MEMBERS);
    }

    /// The slowly changing part of this member is to be stored.
    pub(crate) fn profile(&mut self, node: NodeId, member: &Member) {
        self.writes.push(Write::Profile(node, Some(Box::new(member.profile.clone()))));
    }

    /// A line of the ledger; one that moves nothing is none.
    pub(crate) fn line(&mut self, mut line: Line) {
        if line.points == Points::ZERO {
            return;
        }
        line.index = self.index;
        line.part = self.lines;
        self.lines += 1;
        self.writes.push(Write::Line(line));
    }

    /// A line of the change log.
    pub(crate) fn change(&mut self, mut change: Change) {
        change.index = self.index;
        change.part = self.changes;
        self.changes += 1;
        self.notices.push(Notice::Changed(change.clone()));
        self.writes.push(Write::Change(change));
    }

    /// A change of standing.
    pub(crate) fn moved(&mut self, mut moved: Move) {
        moved.index = self.index;
        self.notices.push(Notice::Moved(Box::new(moved.clone())));
        self.writes.push(Write::Move(Box::new(moved)));
    }
}

impl State {
    /// Applies one command of the log. Total: whatever comes, there is an outcome.
    pub fn apply(&mut self, index: LogIndex, command: &Command) -> Outcome {
        let mut fx = Effects { index, ..Effects::default() };
        let founded = self.is_founded();
        let reply = match command {
            Command::Found(found) if !founded => self.found(found),
            Command::Found(_) => Err(Reject::AlreadyFounded),
            _ if !founded => Err(Reject::NotFounded),
            Command::Lead(lead) => self.lead(lead, &mut fx),
            Command::Join(join) => self.join(join, &mut fx),
            Command::Leave(leave) => self.leave(leave, &mut fx),
            Command::Outdated(outdated) => self.outdated(outdated, &mut fx),
            Command::Settle(settle) => self.settle(settle, &mut fx),
            Command::Claim(claim) => self.claim(claim, &mut fx),
            Command::Operate(operate) => self.operate(operate, &mut fx),
            Command::Chunk(chunk) => self.chunk(chunk, &mut fx),
            Command::Stage(stage) => self.stage(stage, &mut fx),
            Command::Ready(ready) => self.ready(*ready, &mut fx),
            Command::Unready(unready) => self.unready(unready, &mut fx),
            Command::Supers(supers) => self.supers(supers, &mut fx),
            Command::OperateIf(only) => self.operate_if(only, &mut fx),
            Command::Restore(restore) => self.restore(restore, &mut fx),
            Command::Order(order) => self.order(order, &mut fx),
            Command::Seal(seal) => self.seal(seal, &mut fx),
            Command::Transfer(transfer) => self.transfer(transfer, &mut fx),
            Command::Evidence(evidence) => self.evidence(evidence, &mut fx),
            Command::Came(came) => self.came(*came, &mut fx),
            Command::Able(able) => self.able(able, &mut fx),
        };
        self.meta.applied = index;
        fx.writes.extend(self.blocks(&fx.blocks).into_iter().map(|(block, rows)| Write::Hot(block, rows)));
        fx.writes.push(Write::Meta(Box::new(self.meta.clone())));
        Outcome { reply, writes: fx.writes, notices: fx.notices }
    }

    /// Takes a stored row back. The latest rows that `apply` wrote, loaded into an empty state with profiles before the
    /// rest and followed by [`State::loaded`], give the same state. Rows of history change nothing.
    pub fn load(&mut self, row: Write) {
        match row {
            Write::Meta(meta) => self.meta = *meta,
            Write::Profile(node, Some(profile)) => {
                let number = profile.number;
                self.numbers.insert(number, node);
                let member = self.members.entry(node).or_insert_with(|| Member::new((*profile).clone()));
                member.profile = *profile;
            }
            Write::Profile(node, None) => {
                if let Some(member) = self.members.remove(&node) {
                    self.numbers.remove(&member.profile.number);
                }
            }
            Write::Hot(_, rows) => {
                for (number, hot) in rows {
                    if let Some(member) = self.numbers.get(&number).and_then(|node| self.members.get_mut(node)) {
                        member.hot = hot;
                    }
                }
            }
            Write::Wallet(key, wallet) => set(&mut self.wallets, key, wallet),
            Write::Slot(slot, row) => self.slot_mut(slot).row = *row,
            Write::Policy(digest, row) => set(&mut self.policies, digest, row.map(|row| *row)),
            Write::Component(digest, bytes) => set(&mut self.components, digest, bytes),
            Write::Upload(digest, upload) => set(&mut self.uploads, digest, upload),
            Write::Memory { slot, saved, block, bytes } => {
                let slot = self.slot_mut(slot);
                let memory = if saved { &mut slot.saved } else { &mut slot.memory };
                if let Some(bytes) = &bytes {
                    memory.row_bytes = bytes.len() / BLOCK_MEMBERS as usize;
                }
                set(&mut memory.blocks, block, bytes);
            }
            Write::Validators(validators) => self.validators = *validators,
            Write::Batch(number, batch) => set(&mut self.batches, number, batch),
            Write::Contents(number, contents) => set(&mut self.contents, number, contents),
            Write::Round(_) | Write::Move(_) | Write::Line(_) | Write::Change(_) => {}
        }
    }

    /// Completes a state after its last [`State::load`]: what follows from the rows is derived.
    pub fn loaded(&mut self) {
        self.meta.settings.complete();
        if let Some((_, next)) = &mut self.meta.settings_next {
            next.complete();
        }
        self.known = Known::default();
        for batch in self.batches.values() {
            self.known.add(batch);
        }
        self.groups.clear();
        for member in self.members.values() {
            let group = self
                .groups
                .entry(network(&member.profile.ip))
                .or_insert(Group { index: member.profile.group, members: 0 });
            group.members += 1;
        }
        self.queue = self.members.iter().filter(|(_, m)| m.hot.place.is_queued()).map(|(node, _)| *node).collect();
        for slot in Slot::ALL {
            let bytes = |digest: Option<Digest>| {
                digest.and_then(|d| self.policies.get(&d)).map_or(0, |row| row.description.memory_bytes as usize)
            };
            let (active, previous) = (bytes(self.slot(slot).row.active), bytes(self.slot(slot).row.previous));
            let state = self.slot_mut(slot);
            state.memory.row_bytes = active;
            state.saved.row_bytes = if state.saved.blocks.is_empty() { 0 } else { previous };
        }
    }

    /// Whether there is a cluster.
    #[must_use]
    pub const fn is_founded(&self) -> bool {
        !self.meta.cluster.id.is_empty()
    }

    /// A slot.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> &SlotState {
        let [reward, ban, signing] = &self.slots;
        match slot {
            Slot::Reward => reward,
            Slot::Ban => ban,
            Slot::Signing => signing,
        }
    }

    pub(crate) fn slot_mut(&mut self, slot: Slot) -> &mut SlotState {
        let [reward, ban, signing] = &mut self.slots;
        match slot {
            Slot::Reward => reward,
            Slot::Ban => ban,
            Slot::Signing => signing,
        }
    }

    /// The queue as after the last settlement, with the members' rows, in ascending order of key.
    pub fn queued(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter().filter(|(_, member)| member.hot.place.is_queued())
    }

    /// The sum of all accounts: zero, always.
    #[must_use]
    pub fn sum(&self) -> i128 {
        let earned: i128 = self.members.values().map(|m| i128::from(m.hot.earned.0)).sum();
        let wallets: i128 = self.wallets.values().map(|w| i128::from(w.balance.0)).sum();
        i128::from(self.meta.treasury.0) + earned + wallets
    }

    /// The cluster's time of a command: stamps never fall.
    pub(crate) fn stamp(&mut self, now_ms: u64) -> u64 {
        self.meta.stamp_ms = self.meta.stamp_ms.max(now_ms);
        self.meta.stamp_ms
    }

    /// The rows of these blocks, in order of number.
    fn blocks(&self, wanted: &BTreeSet<u32>) -> BTreeMap<u32, Vec<(MemberNumber, Hot)>> {
        // Members lie in the order of their keys: where most are wanted, one pass over them is much faster than looking
        // each of them up.
        if wanted.len() * BLOCK_MEMBERS as usize >= self.members.len() {
            let mut blocks: BTreeMap<_, Vec<_>> = wanted.iter().map(|block| (*block, Vec::new())).collect();
            for member in self.members.values() {
                let number = member.profile.number;
                if let Some(rows) = blocks.get_mut(&(number.0 / BLOCK_MEMBERS)) {
                    rows.push((number, member.hot.clone()));
                }
            }
            blocks.values_mut().for_each(|rows| rows.sort_unstable_by_key(|(number, _)| *number));
            return blocks;
        }
        wanted.iter().map(|block| (*block, self.block(*block))).collect()
    }

    fn block(&self, block: u32) -> Vec<(MemberNumber, Hot)> {
        let first = block.saturating_mul(BLOCK_MEMBERS);
        let range = MemberNumber(first)..MemberNumber(first.saturating_add(BLOCK_MEMBERS));
        let nodes = self.numbers.range(range);
        nodes.filter_map(|(number, node)| self.members.get(node).map(|m| (*number, m.hot.clone()))).collect()
    }

    fn found(&mut self, found: &Found) -> Result<Reply, Reject> {
        if !is_name(&found.cluster.id) || found.settings.check().is_err() {
            return Err(Reject::Malformed { what: "the cluster's id or settings".into() });
        }
        self.stamp(found.now_ms);
        self.meta.cluster = found.cluster.clone();
        self.meta.settings = found.settings.clone();
        self.meta.settings_version = 1;
        self.meta.seats = alloc::vec![SeatRow {
            seat: Seat(0),
            holder: found.founder.clone(),
            came: true,
            open_since_ms: 0,
            grace_until: RoundId(0),
            load_rounds: 0,
            from: RoundId(0),
        }];
        self.meta.settled_ms = self.meta.stamp_ms;
        Ok(Reply::Done)
    }

    fn lead(&mut self, lead: &Lead, fx: &mut Effects) -> Result<Reply, Reject> {
        if lead.term <= self.meta.term {
            return Err(Reject::StaleTerm { term: self.meta.term });
        }
        self.stamp(lead.now_ms);
        self.meta.term = lead.term;
        self.meta.leader = Some(lead.leader);
        fx.notices.push(Notice::Leader { term: lead.term, leader: lead.leader });
        Ok(Reply::Done)
    }
}

/// Sets or removes an entry.
fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
