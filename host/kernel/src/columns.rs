//! What policies see of a round, and what becomes of their answers: one pass over state makes the columns, two calls
//! make the decisions, one command carries them.
//!
//! [`Deciding::gather`] copies everything under the lock of state; [`Deciding::run`] needs nothing but the policies and may
//! take its time on another thread. Ban is called before reward and neither reads the other's result (PROTOCOLS 5).
//!
//! Invariant: a fault of a policy, or a policy that is not prepared here, costs its slot the round and nobody else.

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{Answer, BanColumns, Decided, RewardColumns, Settle};
use crate::decide::{
    Call, Column, Description, Fault, FaultKind, Judgement, LogLine, Members, Policy, Reward, RoundInput, Run, Slot,
    flag, presence,
};
use crate::id::{Digest, LogIndex, ProtocolVersion};
use crate::round::{Presence, Report, SignedPartial, rtt_us};
use crate::settings::Settings;
use crate::state::State;

mod inputs;

pub use inputs::Inputs;

/// Extra columns that a policy may ask for, with what they hold. `N` is a seat, 0 to 7. A policy that asks for another
/// one is refused at admission.
pub const EXTRA: [(&str, &str); 2] = [
    ("observer.N.presence", "what the super on seat N saw: 0 down, 1 up, 2 nothing"),
    ("observer.N.rtt-us", "round trip that it measured, µs; 0 = none"),
];

/// An extra column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extra {
    Presence(u8),
    RttUs(u8),
}

impl Extra {
    fn parse(name: &str) -> Option<Self> {
        let (seat, what) = name.strip_prefix("observer.")?.split_once('.')?;
        let seat = match seat.as_bytes() {
            [digit @ b'0'..=b'7'] => digit - b'0',
            _ => return None,
        };
        match what {
            "presence" => Some(Self::Presence(seat)),
            "rtt-us" => Some(Self::RttUs(seat)),
            _ => None,
        }
    }
}

/// Whether there is an extra column of that name.
#[must_use]
pub fn is_extra(name: &str) -> bool {
    Extra::parse(name).is_some()
}

/// A slot's policy and what it remembers, copied.
#[derive(Clone, Debug)]
struct Seated {
    config: String,
    description: Description,
    memory: Vec<u8>,
    extra: Vec<Column>,
}

/// All that two policies need to decide one round.
#[derive(Clone, Debug)]
pub struct Deciding {
    round: RoundInput,
    settings_version: u64,
    columns: LogIndex,
    settings: Settings,
    report: Report,
    partials: Vec<SignedPartial>,
    members: Members,
    ban_policy: Option<Digest>,
    /// `None` where it is not called.
    ban: Option<Seated>,
    reward_policy: Option<Digest>,
    reward: Option<Seated>,
}

impl Deciding {
    /// Copies what the policies see of the round after the last settled one. `now_ms`: the stamp of the settlement.
    #[must_use]
    pub fn gather(state: &State, report: Report, partials: Vec<SignedPartial>, now_ms: u64) -> Self {
        let (meta, settings) = (&state.meta, &state.meta.settings);
        let population = report.len();
        let suspect = report.marks.is_suspect();
        let seated = |slot, called: bool| {
            let active = state.active(slot);
            let digest = active.map(|(digest, _)| digest);
            let row = active.filter(|_| called).map(|(_, row)| row);
            (digest, row.map(|row| Seated::of(state, slot, &row.config, &row.description, &report)))
        };
        // The observation is doubted: nobody is judged.
        let (ban_policy, ban) = seated(Slot::Ban, !suspect);
        let (reward_policy, reward) = seated(Slot::Reward, true);
        Self {
            round: RoundInput {
                number: report.round.0,
                now_ms,
                elapsed_ms: now_ms.saturating_sub(meta.settled_ms),
                interval_ms: settings.interval_ms,
                population: population as u32,
                suspect,
                seed: meta.settled_digest,
            },
            settings_version: meta.settings_version,
            columns: meta.applied,
            settings: settings.clone(),
            members: columns(state, &report),
            ban_policy,
            ban,
            reward_policy,
            reward,
            report,
            partials,
        }
    }

    /// The report.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The policy of a slot that is called; `None`: the slot has none, or the round is suspect and it is not called.
    #[must_use]
    pub fn policy(&self, slot: Slot) -> Option<Digest> {
        match slot {
            Slot::Ban => self.ban_policy.filter(|_| self.ban.is_some()),
            Slot::Reward => self.reward_policy.filter(|_| self.reward.is_some()),
            Slot::Signing => None,
        }
    }

    /// The policies of the ban and the reward slot that are to be handed to [`Deciding::run`].
    #[must_use]
    pub fn policies(&self) -> (Option<Digest>, Option<Digest>) {
        (self.policy(Slot::Ban), self.policy(Slot::Reward))
    }

    /// What the policy of a slot is to be called with; `None` where it is not called.
    #[must_use]
    pub fn inputs(&self, slot: Slot) -> Option<Inputs> {
        let seated = match slot {
            Slot::Ban => self.ban.as_ref(),
            Slot::Reward => self.reward.as_ref(),
            Slot::Signing => None,
        }?;
        Some(Inputs {
            slot,
            config: seated.config.clone(),
            round: self.round.clone(),
            members: Members { extra: seated.extra.clone(), ..self.members.clone() },
            memory: seated.memory.clone(),
            settings: self.settings.clone(),
        })
    }

    /// Calls the policies, ban first, and makes the settlement. Each is the prepared policy of the digest that
    /// [`Deciding::policy`] names; `None` where it is not prepared here. `engine`: name and version of what runs them.
    #[must_use]
    pub fn run(
        mut self,
        ban: Option<&dyn Policy>,
        reward: Option<&dyn Policy>,
        engine: &str,
    ) -> (Settle, Vec<(Slot, LogLine)>) {
        let mut log = Vec::new();
        let ban = Decided { policy: self.ban_policy, ..self.ban(ban, &mut log) };
        let reward = Decided { policy: self.reward_policy, ..self.reward(reward, &mut log) };
        let settle = Settle {
            round: self.report.round,
            term: self.report.term,
            now_ms: self.round.now_ms,
            settings_version: self.settings_version,
            report: self.report,
            partials: self.partials,
            ban,
            reward,
            engine: engine.into(),
            columns: self.columns,
        };
        (settle, log)
    }

    fn ban(&mut self, policy: Option<&dyn Policy>, log: &mut Vec<(Slot, LogLine)>) -> Decided<BanColumns> {
        let Some(slot) = self.ban.take() else { return not_called() };
        self.call(
            Slot::Ban,
            slot,
            policy,
            log,
            |policy, call| policy.judge(call),
            |this, slot, judged: Judgement| {
                let delta = inputs::judged(&judged, &this.members, &slot.memory, &slot.description, &this.settings)?;
                let Judgement { strikes, standing, until, reasons, memory: _ } = judged;
                Ok(BanColumns { strikes, standing, until, reasons, delta })
            },
        )
    }

    fn reward(&mut self, policy: Option<&dyn Policy>, log: &mut Vec<(Slot, LogLine)>) -> Decided<RewardColumns> {
        let Some(slot) = self.reward.take() else { return not_called() };
        self.call(
            Slot::Reward,
            slot,
            policy,
            log,
            |policy, call| policy.reward(call),
            |this, slot, mut reward: Reward| {
                let (round, members) = (&this.round, &this.members);
                let delta = inputs::paid(&mut reward, round, members, &slot.memory, &slot.description, &this.settings)?;
                Ok(RewardColumns { points: reward.points, reasons: reward.reasons, delta, tariff: reward.tariff })
            },
        )
    }

    /// Calls one policy and makes of its answer what travels.
    fn call<A, C>(
        &mut self,
        slot: Slot,
        mut seated: Seated,
        policy: Option<&dyn Policy>,
        log: &mut Vec<(Slot, LogLine)>,
        decide: impl Fn(&dyn Policy, &Call<'_>) -> Run<A>,
        take: impl Fn(&Self, &Seated, A) -> Result<C, Fault>,
    ) -> Decided<C> {
        let described = seated.description.memory_bytes;
        let Some(policy) = policy.filter(|policy| policy.description().memory_bytes == described) else {
            let fault = Fault::new(FaultKind::NotPrepared, "the policy in force is not prepared on the leader");
            return Decided { policy: None, input: None, answer: Answer::Fault(fault), fuel: 0 };
        };
        self.members.extra = core::mem::take(&mut seated.extra);
        let call = Call { config: &seated.config, round: &self.round, members: &self.members, memory: &seated.memory };
        let input = Some(call.digest(slot));
        let run = decide(policy, &call);
        log.extend(run.log.into_iter().map(|line| (slot, line)));
        let answer = match run.result.and_then(|answer| take(self, &seated, answer)) {
            Ok(columns) => Answer::Columns(columns),
            Err(fault) => Answer::Fault(fault),
        };
        Decided { policy: None, input, answer, fuel: run.fuel }
    }
}

const fn not_called<C>() -> Decided<C> {
    Decided { policy: None, input: None, answer: Answer::NotCalled, fuel: 0 }
}

/// In a suspect round points and memory are taken from rows that are up; other rows keep theirs.
fn keep_who_is_not_up(reward: &mut Reward, presence: &[u8], before: &[u8]) {
    let row_bytes = before.len().checked_div(presence.len()).unwrap_or_default();
    let not_up = |(_, presence): &(usize, &u8)| **presence != presence::UP;
    for (at, _) in presence.iter().enumerate().filter(not_up) {
        if let (Some(points), Some(reason)) = (reward.points.get_mut(at), reward.reasons.get_mut(at)) {
            (*points, *reason) = (0, 0);
        }
        let range = at * row_bytes..(at + 1) * row_bytes;
        if let (Some(after), Some(before)) = (reward.memory.get_mut(range.clone()), before.get(range)) {
            after.copy_from_slice(before);
        }
    }
}

/// The columns that every policy gets. In a suspect round whoever is not up is shown as if nobody had had a chance to
/// see it.
fn columns(state: &State, report: &Report) -> Members {
    let len = report.len();
    let mut m = Members {
        presence: Vec::with_capacity(len),
        facts: Vec::with_capacity(len),
        rtt_us: Vec::with_capacity(len),
        observers: Vec::with_capacity(len),
        age: Vec::with_capacity(len),
        standing: Vec::with_capacity(len),
        strikes: Vec::with_capacity(len),
        earned: Vec::with_capacity(len),
        data: Vec::with_capacity(len),
        class: Vec::with_capacity(len),
        group: Vec::with_capacity(len),
        flags: Vec::with_capacity(len),
        extra: Vec::new(),
    };
    let suspect = report.marks.is_suspect();
    let seen = report.presence.iter().zip(&report.facts).zip(report.asked.iter().zip(&report.seen)).zip(&report.data);
    for (at, ((_, member), (((presence, facts), (asked, seen)), data))) in state.queued().zip(seen).enumerate() {
        let (profile, hot) = (&member.profile, &member.hot);
        if suspect && *presence != presence::UP {
            m.presence.push(presence::UNKNOWN);
            m.facts.push(0);
            m.rtt_us.push(0);
            m.observers.push(0);
            m.data.push(0);
        } else {
            m.presence.push(*presence);
            m.facts.push(*facts);
            m.rtt_us.push(report.rtt_us(at));
            m.observers.push(u16::from(*asked) << 8 | u16::from(*seen));
            m.data.push(*data);
        }
        m.age.push(hot.age);
        m.standing.push(hot.standing.code());
        m.strikes.push(hot.strikes);
        m.earned.push(u64::try_from(hot.earned.0).unwrap_or_default());
        m.class.push(profile.class);
        m.group.push(profile.group);
        let newer = if profile.version > ProtocolVersion::OURS { flag::NEWER_VERSION } else { 0 };
        let returns = if report.returns.get(at) { flag::ASKED_TO_RETURN } else { 0 };
        m.flags.push(newer | returns);
    }
    m
}

impl Seated {
    fn of(state: &State, slot: Slot, config: &str, description: &Description, report: &Report) -> Self {
        let row_bytes = description.memory_bytes as usize;
        let mut memory = Vec::with_capacity(row_bytes * report.len());
        if row_bytes > 0 {
            let numbers = state.queued().map(|(_, member)| member.profile.number);
            numbers.for_each(|number| state.slot(slot).memory.read(number, &mut memory));
        }
        memory.resize(row_bytes * report.len(), 0);
        let extra = description.extra.iter();
        Self {
            config: config.into(),
            description: description.clone(),
            memory,
            extra: extra.map(|name| Column { name: name.clone(), values: extra_column(name, report) }).collect(),
        }
    }
}

fn extra_column(name: &str, report: &Report) -> Vec<i64> {
    let suspect = report.marks.is_suspect();
    let shown = |at: usize| !suspect || report.presence(at) == Presence::Up;
    let value = |at: usize, extra: Extra| match extra {
        _ if !shown(at) => None,
        Extra::Presence(seat) => {
            let has = |column: &[u8]| column.get(at).is_some_and(|bits| bits & (1 << seat) != 0);
            has(&report.asked).then(|| if has(&report.seen) { presence::UP } else { presence::DOWN }.into())
        }
        Extra::RttUs(seat) => {
            let seat = report.seats.iter().find(|row| row.seat.0 == seat)?;
            seat.rtt.get(at).map(|code| rtt_us(*code).into())
        }
    };
    let none = |extra: Extra| match extra {
        Extra::Presence(_) => presence::UNKNOWN.into(),
        Extra::RttUs(_) => 0,
    };
    match Extra::parse(name) {
        Some(extra) => (0..report.len()).map(|at| value(at, extra).unwrap_or_else(|| none(extra))).collect(),
        // Admission lets no other name through.
        None => alloc::vec![0; report.len()],
    }
}

#[cfg(test)]
mod tests;
