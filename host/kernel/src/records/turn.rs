//! Whose turn it is to gather the signatures of a batch (PROTOCOLS 10.6, 10.13, 10.23). It is the leader's memory and no part
//! of the state: a new leader begins again, and the signatures that were given still count.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::id::NodeId;
use crate::state::State;

/// What is to be done about a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This validator is to gather its signatures now.
    Lead {
        /// The batch.
        batch: u64,
        /// Who.
        validator: NodeId,
    },
    /// The whole set had its turn so often without a quorum; said once an attempt and set.
    Stuck {
        /// The batch.
        batch: u64,
        /// Full turns.
        turns: u64,
    },
}

#[derive(Clone, Debug)]
struct Turn {
    attempt: u32,
    set_version: u64,
    timeouts: u64,
    lead: Option<NodeId>,
    since_us: u64,
    stuck: bool,
}

/// Who let a turn pass is asked again after so many turns' time: it may have been stopped for a while only, or had no quorum to
/// gather from. One that stays mute costs one turn in each of these times.
const SILENT_TURNS: u64 = 60;

/// The turns of all batches that are handed out.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    open: BTreeMap<u64, Turn>,
    /// Who let a turn pass, and when.
    silent: BTreeMap<NodeId, u64>,
}

impl Turns {
    /// What is to be done now. `attached`: the validators that have a stream here. Called often: whenever a batch was ordered
    /// or sealed, and some times in the length of a turn.
    pub fn tick(&mut self, now_us: u64, state: &State, attached: &BTreeSet<NodeId>) -> Vec<Step> {
        let settings = &state.meta.settings;
        let window: BTreeSet<u64> =
            state.known.pending.iter().copied().take(usize::try_from(settings.handed_out).unwrap_or(1)).collect();
        let turn_us = settings.turn_ms.saturating_mul(1_000);
        let silence_us = turn_us.saturating_mul(SILENT_TURNS);
        self.silent.retain(|node, since_us| attached.contains(node) && now_us.saturating_sub(*since_us) < silence_us);
        let silent = &mut self.silent;
        self.open.retain(|batch, turn| {
            let open = window.contains(batch);
            if let Some(lead) = turn.lead.filter(|_| !open) {
                // It was sealed in its turn.
                silent.remove(&lead);
            }
            open
        });
        let mut steps = Vec::new();
        for number in window {
            let Some(batch) = state.batches.get(&number) else { continue };
            let (attempt, set_version) = (batch.attempt, state.validators.version);
            let fresh = Turn { attempt, set_version, timeouts: 0, lead: None, since_us: now_us, stuck: false };
            let turn = self.open.entry(number).or_insert_with(|| fresh.clone());
            if (turn.attempt, turn.set_version) != (attempt, set_version) {
                *turn = fresh;
            }
            // A lead whose stream broke gives its turn back at once.
            if turn.lead.is_some_and(|lead| !attached.contains(&lead)) {
                turn.lead = None;
                turn.timeouts += 1;
            }
            let waited_us = now_us.saturating_sub(turn.since_us);
            if let Some(lead) = turn.lead.filter(|_| waited_us >= turn_us) {
                self.silent.insert(lead, now_us);
                turn.lead = None;
                turn.timeouts += 1;
            }
            let n = state.validators.set.len() as u64;
            if n > 0 && turn.timeouts / n >= settings.stuck_turns && !turn.stuck {
                turn.stuck = true;
                steps.push(Step::Stuck { batch: number, turns: turn.timeouts / n });
            }
            if turn.lead.is_none()
                && let Some(validator) = lead(state, number, turn.timeouts, |node| {
                    attached.contains(node) && !self.silent.contains_key(node)
                })
                .or_else(|| lead(state, number, turn.timeouts, |node| attached.contains(node)))
            {
                turn.lead = Some(validator);
                turn.since_us = now_us;
                steps.push(Step::Lead { batch: number, validator });
            }
        }
        steps
    }

    /// The batches that are stuck.
    pub fn stuck(&self) -> impl Iterator<Item = u64> {
        self.open.iter().filter(|(_, turn)| turn.stuck).map(|(batch, _)| *batch)
    }
}

/// The member of the set whose turn it is: the one at the place that follows from batch and timeouts, or the next one after
/// it that can be asked.
fn lead(state: &State, batch: u64, timeouts: u64, can: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
    let set = &state.validators.set;
    let first = batch.wrapping_add(timeouts).checked_rem(set.len() as u64)? as usize;
    let turn = set.iter().cycle().skip(first).take(set.len());
    turn.map(|validator| validator.node).find(|node| can(node))
}
