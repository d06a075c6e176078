//! What one policy saw of one round, as a value of its own: to be written down, cut to some of its members, and decided
//! again.
//!
//! Invariant: what is decided here is checked as a settlement checks it ([`judged`], [`paid`] are the same code), so a
//! call that is made again has the fault that it had in its round.

use alloc::string::String;
use alloc::vec::Vec;

use super::keep_who_is_not_up;
use crate::decide::{
    Call, Column, Description, Fault, Judgement, Members, Policy, Reward, RoundInput, Run, Slot, check_judgement,
    check_reward,
};
use crate::guardrails::{check_delta, check_points};
use crate::id::Digest;
use crate::policies::delta;
use crate::settings::Settings;

/// All that one policy is called with, and the settings that its answer is checked under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Which rule.
    pub slot: Slot,
    /// Config: JSON, keys sorted, no spaces.
    pub config: String,
    /// The round.
    pub round: RoundInput,
    /// The columns, extra ones included.
    pub members: Members,
    /// `population` x `memory-bytes`.
    pub memory: Vec<u8>,
    /// The cluster's settings.
    pub settings: Settings,
}

impl Inputs {
    /// The call that they are.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        Call { config: &self.config, round: &self.round, members: &self.members, memory: &self.memory }
    }

    /// SHA-256 of what the policy sees: what a settlement carries.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.call().digest(self.slot)
    }

    /// Calls a ban policy and checks its answer.
    #[must_use]
    pub fn judge(&self, policy: &dyn Policy) -> Run<Judgement> {
        let run = policy.judge(&self.call());
        let result = run.result.and_then(|judgement| {
            judged(&judgement, &self.members, &self.memory, policy.description(), &self.settings)?;
            Ok(judgement)
        });
        Run { result, fuel: run.fuel, log: run.log }
    }

    /// Calls a reward policy and checks its answer. In a suspect round it comes back as it counts: rows that are not up
    /// get nothing and keep their memory.
    #[must_use]
    pub fn reward(&self, policy: &dyn Policy) -> Run<Reward> {
        let run = policy.reward(&self.call());
        let result = run.result.and_then(|mut reward| {
            let (round, members) = (&self.round, &self.members);
            paid(&mut reward, round, members, &self.memory, policy.description(), &self.settings)?;
            Ok(reward)
        });
        Run { result, fuel: run.fuel, log: run.log }
    }

    /// Calls the policy of the slot; only whether it fails is of interest.
    ///
    /// # Errors
    /// Its fault.
    pub fn fails(&self, policy: &dyn Policy) -> Result<(), Fault> {
        match self.slot {
            Slot::Ban => self.judge(policy).result.map(|_| ()),
            Slot::Reward => self.reward(policy).result.map(|_| ()),
            // There are no inputs of it: it decides no round.
            Slot::Signing => Ok(()),
        }
    }

    /// The same with these members only, in the order given; places that there are not are left out.
    #[must_use]
    pub fn only(&self, rows: &[usize]) -> Self {
        fn some<T: Copy>(column: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().filter_map(|at| column.get(*at).copied()).collect()
        }
        let (m, row_bytes) = (&self.members, self.memory.len().checked_div(self.members.len()).unwrap_or_default());
        let memory = rows.iter().filter_map(|at| self.memory.get(at * row_bytes..(at + 1) * row_bytes));
        let presence = some(&m.presence, rows);
        Self {
            slot: self.slot,
            config: self.config.clone(),
            round: RoundInput { population: presence.len() as u32, ..self.round.clone() },
            members: Members {
                presence,
                facts: some(&m.facts, rows),
                rtt_us: some(&m.rtt_us, rows),
                observers: some(&m.observers, rows),
                age: some(&m.age, rows),
                standing: some(&m.standing, rows),
                strikes: some(&m.strikes, rows),
                earned: some(&m.earned, rows),
                data: some(&m.data, rows),
                class: some(&m.class, rows),
                group: some(&m.group, rows),
                flags: some(&m.flags, rows),
                extra: m
                    .extra
                    .iter()
                    .map(|column| Column { name: column.name.clone(), values: some(&column.values, rows) })
                    .collect(),
            },
            memory: memory.flatten().copied().collect(),
            settings: self.settings.clone(),
        }
    }
}

/// Checks a ban policy's answer; gives the change of memory as it travels.
pub(super) fn judged(
    judgement: &Judgement,
    members: &Members,
    memory: &[u8],
    description: &Description,
    settings: &Settings,
) -> Result<Vec<u8>, Fault> {
    check_judgement(judgement, members.len(), description)?;
    changed(memory, &judgement.memory, members.len(), settings)
}

/// Checks a reward policy's answer and leaves of it what counts; gives the change of memory as it travels.
pub(super) fn paid(
    reward: &mut Reward,
    round: &RoundInput,
    members: &Members,
    memory: &[u8],
    description: &Description,
    settings: &Settings,
) -> Result<Vec<u8>, Fault> {
    check_reward(reward, members.len(), description)?;
    check_points(&reward.points, settings)?;
    if round.suspect {
        keep_who_is_not_up(reward, &members.presence, memory);
    }
    changed(memory, &reward.memory, members.len(), settings)
}

fn changed(before: &[u8], after: &[u8], population: usize, settings: &Settings) -> Result<Vec<u8>, Fault> {
    let delta = delta(before, after);
    check_delta(&delta, population, settings)?;
    Ok(delta)
}
