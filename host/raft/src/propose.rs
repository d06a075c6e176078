//! Commands on their way into the log, and reads that must see all that was acknowledged.
//!
//! Whoever leads takes commands; the others hand theirs to it. A leader refuses while no majority answers it, which happens
//! at every start and on a starved machine: that is not an answer, it is tried again until the deadline. What may have
//! entered the log and got no answer is [`GroupError::Unknown`], never a failure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kernel::command::Command;
use kernel::id::LogIndex;
use kernel::outcome::{Reject, Reply};
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use tokio::time::{Instant, sleep_until, timeout_at};
use wire::raft::{Answer, FORWARD_BYTES, FORWARD_COMMANDS, Led, Place};

use crate::convert as ours;
use crate::group::{Core, GroupError, Inner};
use crate::network::CallError;
use crate::types::Types;

/// For an answer. Longer than a change of leader and a slow disk take; people wait no longer.
const WITHIN: Duration = Duration::from_secs(10);
/// Between two attempts while nobody leads; a change of leader ends it.
const AGAIN: Duration = Duration::from_millis(20);

pub(crate) type Answered = Result<Result<Reply, Reject>, GroupError>;

/// What one attempt came to.
enum Attempt<T> {
    Done(T),
    /// Nothing was done: ask this one, or again after a while.
    Elsewhere(Option<u64>),
}

impl Inner {
    pub(crate) async fn propose(inner: &Arc<Self>, command: Arc<Command>) -> Answered {
        let mut answers = Self::propose_all(inner, vec![command]).await;
        answers.pop().unwrap_or(Err(GroupError::Unknown))
    }

    pub(crate) async fn propose_many(inner: &Arc<Self>, commands: Vec<Command>) -> Vec<Answered> {
        Self::propose_all(inner, commands.into_iter().map(Arc::new).collect()).await
    }

    async fn propose_all(inner: &Arc<Self>, commands: Vec<Arc<Command>>) -> Vec<Answered> {
        let core = match inner.core() {
            Ok(core) => core,
            Err(error) => return commands.iter().map(|_| Err(error)).collect(),
        };
        let deadline = Instant::now() + WITHIN;
        let mut answers: Vec<Option<Answered>> =
            commands.iter().map(|command| (!ours::fits(command)).then_some(Err(GroupError::TooLong))).collect();
        let mut metrics = core.raft.server_metrics();
        let mut to = None;
        loop {
            let open: Vec<usize> =
                answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(at, _)| at).collect();
            if open.is_empty() {
                break;
            }
            let batch: Vec<_> = open.iter().filter_map(|at| commands.get(*at).cloned()).collect();
            let attempt = match to.take() {
                Some(leader) if leader != core.id => inner.hand_in(core, leader, &batch, deadline).await,
                _ => here(core, &batch, deadline).await,
            };
            let mut next = None;
            let mut moved = false;
            for (at, attempt) in open.into_iter().zip(attempt) {
                match attempt {
                    Attempt::Done(answer) => {
                        moved = true;
                        if let Some(slot) = answers.get_mut(at) {
                            *slot = Some(answer);
                        }
                    }
                    Attempt::Elsewhere(leader) => next = next.or(leader),
                }
            }
            if answers.iter().all(Option::is_some) {
                break;
            }
            to = next.filter(|leader| *leader != core.id);
            // Who was named is asked at once; else something has to happen first.
            let again = Instant::now() + AGAIN;
            if to.is_none() && !moved {
                tokio::select! {
                    biased;
                    () = sleep_until(again.min(deadline)) => {}
                    _ = metrics.changed() => {}
                    () = inner.stopping.cancelled() => {}
                }
            }
            let over = if inner.stopping.is_cancelled() { Some(GroupError::Stopped) } else { None };
            let over = over.or((Instant::now() >= deadline).then_some(GroupError::NoLeader));
            if let Some(error) = over {
                answers.iter_mut().filter(|answer| answer.is_none()).for_each(|answer| *answer = Some(Err(error)));
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(GroupError::Unknown))).collect()
    }

    /// Gives commands to who is said to lead, in calls of a bounded size.
    async fn hand_in(
        &self,
        core: &Core,
        leader: u64,
        commands: &[Arc<Command>],
        until: Instant,
    ) -> Vec<Attempt<Answered>> {
        let Some(replica) = core.replica(leader) else {
            return commands.iter().map(|_| Attempt::Elsewhere(None)).collect();
        };
        let mut attempts = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let mut bytes = Vec::new();
            let mut sum = 0;
            for command in rest.iter().take(FORWARD_COMMANDS) {
                let Ok(one) = ours::command(command) else { break };
                sum += one.len();
                bytes.push(one);
                if sum > FORWARD_BYTES {
                    break;
                }
            }
            let count = bytes.len().max(1);
            let called = self.calls.forward(core.route(leader), &replica, bytes, until).await;
            match called {
                Ok(Led::Answer(answers)) => attempts.extend(answers.iter().map(|answer| Attempt::Done(read(answer)))),
                Ok(Led::NotLeader(leader)) => attempts.extend((0..count).map(|_| Attempt::Elsewhere(leader))),
                Err(error @ CallError::Lost { .. }) => {
                    tracing::debug!(%error, "commands were handed to the leader and got no answer");
                    attempts.extend((0..count).map(|_| Attempt::Done(Err(GroupError::Unknown))));
                }
                Err(error @ (CallError::NotSent { .. } | CallError::Refused { .. })) => {
                    tracing::debug!(%error, "the leader does not take commands");
                    attempts.extend((0..count).map(|_| Attempt::Elsewhere(None)));
                }
            }
            rest = rest.get(count..).unwrap_or_default();
        }
        attempts
    }

    /// What another replica handed in: the leader's stamp counts, and it is handed on to nobody.
    pub(crate) async fn propose_forwarded(&self, core: &Core, commands: Vec<Command>) -> Led<Vec<Answer>> {
        let now_ms = self.time.stamp().now_ms;
        let stamped = commands.into_iter().map(|mut command| {
            command.stamp(now_ms);
            Arc::new(command)
        });
        let attempts = here(core, &stamped.collect::<Vec<_>>(), Instant::now() + WITHIN).await;
        let mut answers = Vec::with_capacity(attempts.len());
        let mut elsewhere = BTreeSet::new();
        let mut refused = 0;
        for attempt in attempts {
            match attempt {
                Attempt::Done(Ok(answer)) => answers.push(ours::answer(&answer)),
                Attempt::Done(Err(_)) => answers.push(Answer::Unknown),
                Attempt::Elsewhere(leader) => {
                    refused += 1;
                    elsewhere.extend(leader);
                    answers.push(Answer::Unknown);
                }
            }
        }
        // All or none is handed on: what counts here already must not be sent again.
        if refused == answers.len() { Led::NotLeader(elsewhere.pop_last()) } else { Led::Answer(answers) }
    }

    pub(crate) async fn linearizable(&self) -> Result<LogIndex, GroupError> {
        let core = self.core()?;
        let deadline = Instant::now() + WITHIN;
        let mut metrics = core.raft.server_metrics();
        let mut to = None;
        loop {
            let until = match to.take() {
                Some(leader) if leader != core.id => match core.replica(leader) {
                    Some(replica) => {
                        let called = self.calls.read_index(core.route(leader), &replica, deadline).await;
                        called.unwrap_or_else(|error| {
                            tracing::debug!(%error, "the leader does not say how far a read must see");
                            Led::NotLeader(None)
                        })
                    }
                    None => Led::NotLeader(None),
                },
                _ => self.read_index_here(core).await.map_err(|_| GroupError::Stopped)?,
            };
            match until {
                Led::Answer(None) => return Ok(LogIndex(0)),
                Led::Answer(Some(place)) => return self.applied(core, place, deadline).await,
                Led::NotLeader(leader) => to = leader.filter(|leader| *leader != core.id),
            }
            if to.is_none() {
                tokio::select! {
                    biased;
                    () = sleep_until((Instant::now() + AGAIN).min(deadline)) => {}
                    _ = metrics.changed() => {}
                    () = self.stopping.cancelled() => return Err(GroupError::Stopped),
                }
            }
            if Instant::now() >= deadline {
                return Err(GroupError::NoLeader);
            }
        }
    }

    /// Up to where a read must see, if this replica leads: a majority confirms that it still does. Never by the clock.
    pub(crate) async fn read_index_here(&self, core: &Core) -> Result<Led<Option<Place>>, Fatal<Types>> {
        match core.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((until, _)) => Ok(Led::Answer(Some(ours::place(until.log_id())))),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Ok(Led::NotLeader(forward.leader_id))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Ok(Led::NotLeader(None)),
            Err(RaftError::Fatal(fatal)) => Err(fatal),
        }
    }

    /// Proposes here; `None` where this replica does not lead, or no majority answers it yet.
    pub(crate) async fn propose_here(&self, core: &Core, command: &Arc<Command>) -> Option<Answered> {
        let attempts = here(core, std::slice::from_ref(command), Instant::now() + WITHIN).await;
        match attempts.into_iter().next()? {
            Attempt::Done(answer) => Some(answer),
            Attempt::Elsewhere(_) => None,
        }
    }

    async fn applied(&self, core: &Core, until: Place, deadline: Instant) -> Result<LogIndex, GroupError> {
        let mut metrics = core.raft.data_metrics();
        let reached = async {
            loop {
                let applied = metrics.borrow_and_update().last_applied;
                if applied.is_some_and(|applied| applied.index >= until.index) {
                    return Ok(LogIndex(until.index));
                }
                metrics.changed().await.map_err(|_| GroupError::Stopped)?;
            }
        };
        timeout_at(deadline, reached).await.unwrap_or(Err(GroupError::NoLeader))
    }
}

/// Proposes here, as far as this replica leads.
async fn here(core: &Core, commands: &[Arc<Command>], deadline: Instant) -> Vec<Attempt<Answered>> {
    let unknown = || Attempt::Done(Err(GroupError::Unknown));
    let written = core.raft.client_write_many(commands.iter().map(ours::proposed)).await;
    let mut written = match written {
        // A core that ends gives an error, and then nothing for the rest.
        Ok(written) => written.fuse(),
        Err(_stopped) => return commands.iter().map(|_| Attempt::Done(Err(GroupError::Stopped))).collect(),
    };
    let mut attempts = Vec::with_capacity(commands.len());
    while attempts.len() < commands.len() {
        attempts.push(match timeout_at(deadline, written.next()).await {
            Ok(Some(Ok(Ok(answer)))) => Attempt::Done(Ok(answer.response)),
            Ok(Some(Ok(Err(ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id, .. }))))) => {
                Attempt::Elsewhere(leader_id)
            }
            // It was in the log when the leader changed: the next one may have it or not.
            Ok(Some(Ok(Err(error)))) => {
                tracing::debug!(%error, "a command got no answer");
                unknown()
            }
            Ok(Some(Err(_fatal))) => Attempt::Done(Err(GroupError::Stopped)),
            Ok(None) | Err(_) => unknown(),
        });
    }
    attempts
}

fn read(answer: &Answer) -> Answered {
    match ours::read_answer(answer) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(GroupError::Unknown),
        Err(error) => {
            tracing::warn!(%error, "the leader's answer cannot be read");
            Err(GroupError::Unknown)
        }
    }
}
