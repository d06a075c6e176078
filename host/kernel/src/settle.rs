//! Settling a round: what was observed and decided takes effect, in one step (PROTOCOLS 8).
//!
//! A settlement is refused when it is not for the next round, was decided by other policies or settings than those in
//! force for it, or does not fit the queue: a reply and no change, which makes a swap atomic and a retry harmless.
//! Whatever else may be wrong is a policy's, and a policy's failure never stops a round: its slot is neutral then.
//!
//! Invariant: whatever was decoded, there is an outcome. Who ends the round suspended or banned is not paid; who left,
//! or was decided about by hand since the settlement before, is not judged.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Answer, Decided, Settle};
use crate::decide::{Description, Fault, Slot};
use crate::guardrails;
use crate::id::{Digest, LogIndex, NodeId, RoundId};
use crate::limits::{BLOCK_MEMBERS, PONG_ADDRESS_CHARS};
use crate::members::{GONE, Member, Place, is_printable};
use crate::outcome::{Notice, Reject, Reply, RoundRecord, SlotRecord, Write};
use crate::policies::{Memory, PolicyRow, SlotState};
use crate::round::{Presence, Report, fact};
use crate::settings::Settings;
use crate::state::{Effects, Meta, State};
use crate::units::Points;

impl State {
    pub(crate) fn settle(&mut self, settle: &Settle, fx: &mut Effects) -> Result<Reply, Reject> {
        self.fits(settle)?;
        let round = settle.round;
        let now_ms = self.stamp(settle.now_ms);
        let mut record = self.record(settle, now_ms, fx.index);

        let mut settlement = self.settlement(settle, &mut record);
        settlement.observe(fx);
        settlement.judge(fx);
        settlement.pay(fx);

        self.note_seats(&settle.report, round, fx);
        self.note_guard(&record, fx);
        self.note_settled(&record);
        self.turn_queue(round, fx);
        self.drop_empty_wallets(now_ms, fx);
        for part in record.slots.iter().filter(|part| part.called) {
            self.count_fault(part.slot, round, part.fault.as_ref(), fx);
        }
        self.drop_stale_policies(round, fx);
        for slot in Slot::ALL {
            self.switch(slot, round.next(), fx);
        }
        self.switch_settings(round.next(), fx);

        sort_by_number(&mut record);
        fx.notices.push(Notice::Round(Box::new(record.clone())));
        fx.writes.push(Write::Round(Box::new(record)));
        Ok(Reply::Settled { round })
    }

    /// Whether it is for the next round, made under what is in force for it, and of the queue's size.
    fn fits(&self, settle: &Settle) -> Result<(), Reject> {
        let stale = |why: String| Err(Reject::StaleSettlement { settled: self.meta.settled, why });
        let (next, report) = (self.meta.settled.next(), &settle.report);
        if settle.round != next {
            return stale(format!("round {} is not the next one, {next}", settle.round));
        }
        if (report.round, report.term) != (settle.round, settle.term) {
            return stale(format!("its report is of round {} in term {}", report.round, report.term));
        }
        if settle.settings_version != self.meta.settings_version {
            return stale(format!("settings version {} is in force", self.meta.settings_version));
        }
        for (slot, policy) in [(Slot::Reward, settle.reward.policy), (Slot::Ban, settle.ban.policy)] {
            let active = self.slot(slot).row.active;
            if policy != active {
                let active = active.map_or_else(|| "none".to_string(), |digest| digest.to_string());
                return stale(format!("the {slot} policy in force is {active}"));
            }
        }
        if !report.is_well_formed(self.queue.len()) {
            return stale(format!("its columns do not fit a queue of {} members", self.queue.len()));
        }
        Ok(())
    }

    /// The round's record as far as it is known before anything takes effect.
    fn record(&self, settle: &Settle, now_ms: u64, index: LogIndex) -> RoundRecord {
        let members = self.queue.len();
        let judged = !settle.report.marks.is_suspect();
        RoundRecord {
            round: settle.round,
            term: settle.term,
            now_ms,
            index,
            digest: settle.digest(),
            marks: settle.report.marks,
            counts: (0, 0, 0),
            slots: Vec::from([part(Slot::Reward, &settle.reward, true), part(Slot::Ban, &settle.ban, judged)]),
            settings_version: settle.settings_version,
            issued: Points::ZERO,
            moves: 0,
            deferred: 0,
            held: 0,
            clamped: 0,
            members: Vec::with_capacity(members),
            presence: Vec::with_capacity(members),
            points: Vec::with_capacity(members),
            reasons: Vec::new(),
        }
    }

    fn settlement<'a>(&'a mut self, settle: &'a Settle, record: &'a mut RoundRecord) -> Settlement<'a> {
        let [reward, ban, _] = &mut self.slots;
        let (span, accepted) = (self.meta.settings.moves_rounds, ban.row.moves_accepted);
        let round = settle.round;
        let counts = |member: &Member| {
            let at = member.hot.moved_out;
            at > accepted && round.since(at) < span
        };
        let put_out = self.members.values().filter(|member| counts(member)).count();
        let rows = self.members.iter_mut().filter(|(_, member)| member.hot.place.is_queued()).collect();
        Settlement { settle, record, rows, put_out, meta: &mut self.meta, reward, ban, policies: &self.policies }
    }

    /// Keeps what the round said of the supers. A removed one is forgotten when its grace has passed.
    fn note_seats(&mut self, report: &Report, round: RoundId, fx: &mut Effects) {
        for row in self.meta.seats.iter_mut().chain(&mut self.meta.left) {
            if let Some(seat) = report.seats.iter().find(|seat| seat.seat == row.seat) {
                row.came = seat.came;
                row.open_since_ms = seat.open_since_ms;
                row.grace_until = seat.grace_until;
                row.load_rounds = seat.load_rounds;
            }
        }
        self.forget_seats(|row| !row.came && row.grace_until <= round, fx);
    }

    /// Keeps whether the round is trusted; asks the operator after a row of suspect ones.
    fn note_guard(&mut self, record: &RoundRecord, fx: &mut Effects) {
        self.meta.suspect = record.marks.is_suspect();
        if !self.meta.suspect {
            self.meta.suspect_rounds = 0;
            self.meta.trusted = record.round;
            return;
        }
        self.meta.suspect_rounds = self.meta.suspect_rounds.saturating_add(1);
        let rounds = self.meta.suspect_rounds;
        if u64::from(rounds).is_multiple_of(self.meta.settings.suspect_rounds) {
            fx.notices.push(Notice::AskOperator { round: record.round, rounds });
        }
    }

    fn note_settled(&mut self, record: &RoundRecord) {
        self.meta.settled = record.round;
        self.meta.settled_ms = record.now_ms;
        self.meta.settled_term = record.term;
        self.meta.settled_digest = record.digest;
        self.meta.joins = 0;
        self.meta.group_joins.clear();
    }

    /// Puts settings that wait for the next round in force. No ban and no earliest return is further away than the longest
    /// ban under them: what is counted in rounds of half a second must not last for centuries of rounds of an hour.
    fn switch_settings(&mut self, next: RoundId, fx: &mut Effects) {
        let Some((_, settings)) = self.meta.settings_next.take_if(|(from, _)| *from <= next) else { return };
        self.meta.settings = settings;
        self.meta.settings_version = self.meta.settings_version.saturating_add(1);
        let latest = self.meta.settled.plus(self.meta.settings.longest_ban_rounds());
        for member in self.members.values_mut().filter(|member| member.hot.until > latest) {
            member.hot.until = latest;
            fx.hot(member.profile.number);
        }
    }
}

impl Settle {
    /// SHA-256 of the settlement: the seed of the next round.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // Encoding into memory does not fail.
        Digest::of(&minicbor::to_vec(self).unwrap_or_default())
    }
}

/// Puts a record's columns, made in the order of the queue, in the order of member numbers.
fn sort_by_number(record: &mut RoundRecord) {
    fn sorted<T: Copy>(column: &[T], order: &[usize]) -> Vec<T> {
        order.iter().filter_map(|at| column.get(*at).copied()).collect()
    }
    let mut order: Vec<usize> = (0..record.members.len()).collect();
    order.sort_unstable_by_key(|at| record.members.get(*at).copied());
    record.members = sorted(&record.members, &order);
    record.presence = sorted(&record.presence, &order);
    record.points = sorted(&record.points, &order);
    record.reasons = sorted(&record.reasons, &order);
}

fn part<T>(slot: Slot, decided: &Decided<T>, counts: bool) -> SlotRecord {
    let called = counts && decided.policy.is_some() && !matches!(decided.answer, Answer::NotCalled);
    SlotRecord {
        slot,
        policy: decided.policy,
        input: decided.input.filter(|_| called),
        fault: None,
        called,
        fuel: if called { decided.fuel } else { 0 },
    }
}

/// What a settlement reads and changes while the queue stands still. Rows, report and columns have the same order.
pub(crate) struct Settlement<'a> {
    pub settle: &'a Settle,
    pub record: &'a mut RoundRecord,
    pub rows: Vec<(&'a NodeId, &'a mut Member)>,
    /// Distinct members that the ban policy put out within the span of the cap over time.
    pub put_out: usize,
    pub meta: &'a mut Meta,
    pub reward: &'a mut SlotState,
    pub ban: &'a mut SlotState,
    pub policies: &'a BTreeMap<Digest, PolicyRow>,
}

/// An answer of the right shape.
pub(crate) struct Heard<'a, T> {
    pub policy: Digest,
    pub description: &'a Description,
    pub columns: &'a T,
    /// Change of memory, one row a member.
    pub change: Vec<u8>,
}

pub(crate) type Check<T> = fn(&T, usize, &Description, &Settings) -> Result<Vec<u8>, Fault>;

impl<'a> Settlement<'a> {
    /// Takes over what was seen of each member.
    fn observe(&mut self, fx: &mut Effects) {
        let (round, report) = (self.settle.round, &self.settle.report);
        let trusted = !report.marks.is_suspect();
        let (mut up, mut down, mut unknown) = (0, 0, 0);
        for (at, (_, member)) in self.rows.iter_mut().enumerate() {
            let hot = &mut member.hot;
            hot.presence = report.presence(at);
            hot.rtt_us = report.rtt_us(at);
            hot.age = hot.age.saturating_add(1);
            let facts = report.facts.get(at).copied().unwrap_or_default();
            if let Some(seats) = report.asked.get(at).filter(|seats| **seats != 0) {
                hot.asked_seats = *seats;
                hot.away = 0;
            } else if trusted && facts & fact::ABSENT != 0 {
                hot.away = match hot.presence {
                    Presence::Down => GONE,
                    Presence::Unknown => hot.away.saturating_add(1),
                    Presence::Up => hot.away,
                };
            }
            match hot.presence {
                Presence::Up => {
                    up += 1;
                    hot.last_up = round;
                    hot.data = report.data.get(at).copied().unwrap_or_default();
                    hot.trusted_up |= trusted;
                }
                Presence::Down => {
                    down += 1;
                    hot.trusted_up &= !trusted;
                }
                Presence::Unknown => unknown += 1,
            }
            self.record.members.push(member.profile.number);
            self.record.presence.push(hot.presence.code());
            fx.hot(member.profile.number);
        }
        self.record.counts = (up, down, unknown);
        for said in &report.addresses {
            let Some((node, member)) = self.rows.get_mut(said.at as usize) else { continue };
            let address = Some(said.value.clone()).filter(|address| !address.is_empty());
            if is_printable(&said.value, PONG_ADDRESS_CHARS) && member.profile.address != address {
                member.profile.address = address;
                fx.profile(**node, member);
            }
        }
    }

    /// Pays the reward policy's points and takes its tariff. In a suspect round only those that are up count.
    fn pay(&mut self, fx: &mut Effects) {
        let suspect = self.settle.report.marks.is_suspect();
        let counts = move |member: &Member| {
            member.hot.place != Place::Outdated && (!suspect || member.hot.presence == Presence::Up)
        };
        let heard = match self.heard(self.reward.row.active, &self.settle.reward.answer, guardrails::check_reward) {
            Ok(Some(heard)) => heard,
            Ok(None) => return self.record.points.resize(self.rows.len(), 0),
            Err(fault) => {
                self.record.points.resize(self.rows.len(), 0);
                return self.fault(Slot::Reward, fault);
            }
        };
        let columns = heard.columns;
        for ((_, member), (asked, reason)) in self.rows.iter_mut().zip(columns.points.iter().zip(&columns.reasons)) {
            let taken = counts(member);
            let asked = Points(if taken { *asked } else { 0 });
            let moved = match asked {
                Points(0) => Points::ZERO,
                Points(1..) if !member.hot.standing.is_paid() => Points::ZERO,
                Points(1..) => self.meta.issue(&mut member.hot, asked),
                Points(..0) => Points::ZERO.minus(self.meta.take(&mut member.hot, Points::ZERO.minus(asked))),
            };
            self.record.clamped += u32::from(moved != asked);
            self.record.issued = self.record.issued.plus(moved.max(Points::ZERO));
            self.record.points.push(moved.0);
            self.record.reasons.push(if taken { *reason } else { 0 });
        }
        if guardrails::tariff_fits(&columns.tariff, &self.meta.settings) {
            self.meta.tariff = columns.tariff;
            self.meta.tariff_by = Some(heard.policy);
        } else {
            self.record.clamped += 1;
        }
        let Self { rows, reward, .. } = self;
        remember(Slot::Reward, &mut reward.memory, &heard.change, rows, counts, fx);
    }

    /// The slot's answer where it was called: of the right shape, or the fault that stands in its place.
    pub(crate) fn heard<T>(
        &self,
        policy: Option<Digest>,
        answer: &'a Answer<T>,
        check: Check<T>,
    ) -> Result<Option<Heard<'a, T>>, Fault> {
        let policies = self.policies;
        let Some((policy, row)) = policy.and_then(|digest| policies.get(&digest).map(|row| (digest, row))) else {
            return Ok(None);
        };
        let columns = match answer {
            Answer::Columns(columns) => columns,
            Answer::Fault(fault) => return Err(Fault::new(fault.kind, &fault.message)),
            Answer::NotCalled => return Ok(None),
        };
        let description = &row.description;
        let change = check(columns, self.rows.len(), description, &self.meta.settings)?;
        Ok(Some(Heard { policy, description, columns, change }))
    }

    pub(crate) fn fault(&mut self, slot: Slot, fault: Fault) {
        if let Some(part) = self.record.slots.iter_mut().find(|part| part.slot == slot) {
            part.fault = Some(fault);
        }
    }
}

/// Takes over the change of memory of the rows that count.
pub(crate) fn remember(
    slot: Slot,
    memory: &mut Memory,
    change: &[u8],
    rows: &[(&NodeId, &mut Member)],
    counts: impl Fn(&Member) -> bool,
    fx: &mut Effects,
) {
    if memory.row_bytes == 0 {
        return;
    }
    let mut touched = BTreeSet::new();
    for (xor, (_, member)) in change.chunks_exact(memory.row_bytes).zip(rows) {
        if xor.iter().all(|byte| *byte == 0) || !counts(member) {
            continue;
        }
        let number = member.profile.number;
        for (byte, xor) in memory.row_mut(number).into_iter().flatten().zip(xor) {
            *byte ^= xor;
        }
        touched.insert(number.0 / BLOCK_MEMBERS);
    }
    fx.writes.extend(touched.into_iter().map(|block| Write::Memory {
        slot,
        saved: false,
        block,
        bytes: memory.stored(block),
    }));
}

#[cfg(test)]
mod tests;
