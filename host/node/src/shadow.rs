//! Shadows: policies that run beside the active ones, without effect (PROTOCOLS 11.11).
//!
//! Which policy is shadowed stands in the state. What it would do is worked out by each super for itself, from the history
//! that it keeps anyway: the commands since the shadow began, applied a second time by [`kernel::shadow`]. That is behind the
//! settlement, so it costs the round nothing, and there is no way from here to what is decided.
//!
//! Every super has the same shadow, so any of them answers and none is lost with its leader. One whose history does not reach
//! back to the beginning begins where it is, and says so.
//!
//! A dry run is a shadow of rounds that are past, for a component that nobody has staged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::columns::Deciding;
use kernel::command::{Command, Settle};
use kernel::decide::{LimitSettings, Policy, Slot};
use kernel::id::{Digest, LogIndex, RoundId};
use kernel::policies::{PolicyRow, Shadowed};
use kernel::shadow::{Round, Shadow, Tally};
use kernel::state::State;
use policy::Prepared;
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::group::{Applied, Group, GroupError};
use crate::metrics::Metrics;
use crate::prepare::Policies;

/// Rounds whose differences are kept one by one.
pub const RECENT: usize = 100;
/// Rounds of a dry run (PROTOCOLS 11.2).
pub const DRY_ROUNDS: u64 = 100;
/// A dry run of a large cluster ends here, with fewer rounds: whoever asked is still there.
const DRY_TIME: Duration = Duration::from_secs(15);
/// Work in one go, so that a node that stops does not wait for a shadow that is far behind.
const TURN: Duration = Duration::from_millis(200);
/// Rounds that a shadow may be behind and still tell of each.
const LIVE_ROUNDS: u64 = 2;

/// What is to be seen of the shadows of this super.
#[derive(Clone, Default)]
pub struct Shadows {
    seen: Arc<Mutex<BTreeMap<Slot, Seen>>>,
}

/// What is to be seen of one.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which policy.
    pub policy: Digest,
    /// The round that it followed last.
    pub settled: RoundId,
    /// It did not see all rounds since it was asked for: this super came later, and its history does not reach back.
    pub late: bool,
    /// It waits for a policy that is not prepared here.
    pub waits: bool,
    /// In what it differed.
    pub tally: Arc<Tally>,
    /// Names of the members in `tally`, where they have one.
    pub names: Arc<BTreeMap<kernel::id::NodeId, String>>,
    /// The last rounds, the latest last.
    pub recent: VecDeque<Round>,
}

impl Shadows {
    /// The shadow of a slot; `None` where none runs here.
    #[must_use]
    pub fn seen(&self, slot: Slot) -> Option<Seen> {
        self.lock().get(&slot).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Slot, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What following needs.
#[derive(Clone)]
pub struct Parts {
    /// The cluster.
    pub group: Group,
    /// History.
    pub store: Arc<Store>,
    /// What is prepared here.
    pub policies: Policies,
    /// Where differences are told.
    pub events: Events,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// Where they are shown.
    pub shadows: Shadows,
}

/// A shadow that runs.
struct Running {
    wish: Shadowed,
    shadow: Box<Shadow>,
    late: bool,
    waits: bool,
    recent: VecDeque<Round>,
}

/// Follows the log with a shadow for each slot that has one, until the node drains.
///
/// # Errors
/// [`GroupError`] when the group has ended.
pub async fn keep_up(parts: Box<Parts>, draining: CancellationToken) -> Result<(), GroupError> {
    let mut applied = parts.group.applied();
    let mut running: BTreeMap<Slot, Running> = BTreeMap::new();
    let (mut looked, mut behind) = (None, false);
    loop {
        let Applied { index: now, settled } = *applied.borrow_and_update();
        let wishes = parts.group.read(|state| Slot::OF_ROUNDS.map(|slot| (slot, state.slot(slot).row.shadow)));
        // What comes between two settlements is followed with the second one.
        let is_due = looked.replace((settled, wishes)) != Some((settled, wishes)) || behind;
        behind = false;
        for (slot, wish) in wishes.into_iter().filter(|_| is_due) {
            if running.get(&slot).map(|one| one.wish) != wish && running.remove(&slot).is_some() {
                parts.shadows.lock().remove(&slot);
            }
            let Some(wish) = wish else { continue };
            let (work, one) = (parts.clone(), running.remove(&slot));
            let step = move || {
                let begun = match one {
                    Some(one) => Some(one),
                    None => work.begin(slot, wish)?,
                };
                // Its policy was dropped a moment ago: the next look finds no wish.
                let Some(mut one) = begun else { return Ok(None) };
                let more = work.follow(&mut one, now)?;
                work.show(slot, &one);
                Ok::<_, StoreError>(Some((one, more)))
            };
            match tokio::task::spawn_blocking(step).await {
                Ok(Ok(Some((one, more)))) => {
                    running.insert(slot, one);
                    behind |= more;
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::error!(slot = slot.name(), %error, "history cannot be read: the shadow begins anew");
                }
                Err(_) => tracing::error!(slot = slot.name(), "the shadow's step panicked; it begins anew"),
            }
        }
        if behind {
            applied.mark_changed();
        }
        tokio::select! {
            () = draining.cancelled() => return Ok(()),
            changed = applied.changed() => changed.map_err(|_| GroupError::Stopped)?,
        }
    }
}

impl Parts {
    /// A shadow from its beginning, or from now where history does not reach back to it; `None` where the policy is gone.
    fn begin(&self, slot: Slot, wish: Shadowed) -> Result<Option<Running>, StoreError> {
        let now = self.group.read(|state| (state.meta.settled == wish.round).then(|| state.clone()));
        // Nothing was settled since: the state of now is as good as that of then, and costs no replay.
        let (state, late) = match now {
            Some(state) => (state, false),
            None => match self.store.state_at(wish.since)? {
                Some(state) => (state, false),
                None => (self.group.read(State::clone), true),
            },
        };
        let Some(row) = state.policies.get(&wish.policy).cloned() else { return Ok(None) };
        let shadow = Box::new(Shadow::begin(state, slot, wish.policy, &row));
        let (policy, since) = (wish.policy, shadow.settled());
        if late {
            tracing::warn!(slot = slot.name(), %policy, since = since.0, "a shadow begins later than it was asked for: history does not reach back");
        } else {
            tracing::info!(slot = slot.name(), %policy, since = since.0, "a shadow runs beside the active policy");
        }
        Ok(Some(Running { wish, shadow, late, waits: false, recent: VecDeque::new() }))
    }

    /// Follows the log for a while; gives whether there is more of it.
    fn follow(&self, one: &mut Running, last: LogIndex) -> Result<bool, StoreError> {
        // It follows nothing any more, and need not be shown what it does not follow.
        if one.shadow.tally().returned.is_some() {
            return Ok(false);
        }
        let limits = self.group.read(|state| state.meta.settings.policy_limits());
        let (until, slot) = (Instant::now() + TURN, one.shadow.slot());
        let find = |policy: Digest| self.policies.prepared(&policy).map(|prepared| prepared.with_limits(limits));
        let Running { shadow, recent, waits, .. } = one;
        let mut more = false;
        let whole = self.store.follow(shadow.applied(), last, |index, command| {
            *waits = matches!(command, Command::Settle(_)) && !shadow.policies().all(|policy| find(policy).is_some());
            if *waits {
                return false;
            }
            if let Some(round) = shadow.follow(index, &command, &mut |deciding| decide(deciding, &find)) {
                self.tell(slot, shadow.policy(), &round);
                recent.push_back(round);
                recent.drain(..recent.len().saturating_sub(RECENT));
            }
            more = Instant::now() >= until;
            !more
        })?;
        // It slept for longer than history lasts.
        if !whole && let Some(begun) = self.begin(slot, one.wish)? {
            *one = Running { late: true, ..begun };
        }
        Ok(more)
    }

    fn tell(&self, slot: Slot, policy: Digest, round: &Round) {
        self.metrics.shadow(slot, round.paid_otherwise, round.placed_otherwise, round.fault.is_some());
        // What it catches up with is no news.
        if round.round.plus(LIVE_ROUNDS) >= self.group.read(|state| state.meta.settled) {
            self.events.shadow(slot, policy, round, self.group.now_ms());
        }
    }

    fn show(&self, slot: Slot, one: &Running) {
        let tally = one.shadow.tally();
        let named = tally.members.keys().map(|node| (*node, one.shadow.name(node).to_string()));
        let seen = Seen {
            policy: one.wish.policy,
            settled: one.shadow.settled(),
            late: one.late,
            waits: one.waits,
            names: Arc::new(named.filter(|(_, name)| !name.is_empty()).collect()),
            tally: Arc::new(tally.clone()),
            recent: one.recent.clone(),
        };
        self.shadows.lock().insert(slot, seen);
    }
}

/// Runs what would have decided.
fn decide(deciding: Deciding, find: &dyn Fn(Digest) -> Option<Prepared>) -> Settle {
    let (ban, reward) = deciding.policies();
    let (ban, reward) = (ban.and_then(find), reward.and_then(find));
    let ban = ban.as_ref().map(|policy| policy as &dyn Policy);
    let reward = reward.as_ref().map(|policy| policy as &dyn Policy);
    // What the policies say to `log` was said when the round was decided for real, or is of no round at all.
    deciding.run(ban, reward, policy::engine_name()).0
}

/// Runs the last rounds through a component that was admitted. `None`: history does not reach back to any round.
///
/// # Errors
/// [`StoreError`] where history cannot be read.
pub fn dry_run(
    store: &Store,
    policies: &Policies,
    slot: Slot,
    admitted: &policy::Admitted,
    (config, limits): (&str, LimitSettings),
    (settled, last): (RoundId, LogIndex),
) -> Result<Option<Shadow>, StoreError> {
    let oldest = store.oldest_round()?.unwrap_or(settled);
    let mut from = RoundId(settled.0.saturating_sub(DRY_ROUNDS)).max(oldest);
    let state = loop {
        if from >= settled {
            return Ok(None);
        }
        let index = store.round(from)?.map(|record| record.index);
        match index.map(|index| store.state_at(index)).transpose()?.flatten() {
            Some(state) => break state,
            // A keyframe may be missing for some rounds: the later ones can be told.
            None => from = RoundId(from.0 + DRY_ROUNDS / 10),
        }
    };
    // As it would stand in the state, had it been staged.
    let row = PolicyRow {
        slot,
        component: admitted.component,
        config: config.to_string(),
        config_digest: admitted.config_digest,
        description: admitted.description.clone(),
        ready: Vec::new(),
        staged: settled,
        unused_since: settled,
        unready: Vec::new(),
        able: Vec::new(),
        unable: Vec::new(),
    };
    let mut shadow = Shadow::begin(state, slot, admitted.digest, &row);
    let find = |policy: Digest| {
        let prepared =
            if policy == admitted.digest { Some(admitted.policy.clone()) } else { policies.prepared(&policy) };
        prepared.map(|prepared| prepared.with_limits(limits))
    };
    let until = Instant::now() + DRY_TIME;
    let _whole = store.follow(shadow.applied(), last, |index, command| {
        shadow.follow(index, &command, &mut |deciding| decide(deciding, &find));
        Instant::now() < until
    })?;
    Ok(Some(shadow))
}
