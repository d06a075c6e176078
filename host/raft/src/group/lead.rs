//! Watches who leads, and begins each lead of this replica with a command of its own term.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use kernel::command::{Command, Found, Lead, Super, Supers};
use kernel::id::{LogIndex, NodeId, Term};
use kernel::state::State;
use openraft::async_runtime::WatchReceiver as _;

use super::{Core, GroupError, Inner, Leadership};

impl Inner {
    /// Runs until the group stops.
    pub(crate) async fn watch_lead(inner: Arc<Self>) {
        let run = async {
            let Some(core) = inner.running().await else { return };
            let mut metrics = core.raft.server_metrics();
            loop {
                let (leads, term, leader) = {
                    let now = metrics.borrow_and_update();
                    let leader = now.current_leader.filter(|_| now.vote.committed);
                    let leader = leader.and_then(|id| now.membership_config.membership().get_node(&id).map(|r| r.key));
                    (now.state.is_leader() && now.vote.committed, Term(now.vote.leader_id.term), leader)
                };
                inner.tell(Leadership { term, leader, ready: leads && inner.leadership.borrow().is_ready_in(term) });
                if leads && !inner.leadership.borrow().ready {
                    let mut begin = pin!(inner.begin(core, term));
                    let begun = loop {
                        tokio::select! {
                            biased;
                            begun = &mut begin => break Some(begun),
                            changed = metrics.changed() => {
                                if changed.is_err() {
                                    return;
                                }
                                let now = metrics.borrow_and_update();
                                if !now.state.is_leader() || Term(now.vote.leader_id.term) != term {
                                    break None;
                                }
                            }
                        }
                    };
                    match begun {
                        Some(Ok(())) => inner.tell(Leadership { term, leader: Some(inner.key), ready: true }),
                        Some(Err(error)) => {
                            tracing::debug!(%error, term = term.0, "the lead did not begin; again");
                            tokio::time::sleep(inner.timing.heartbeat).await;
                        }
                        None => {}
                    }
                    // Much may have changed meanwhile.
                    continue;
                }
                if leads && let Err(error) = inner.tell_supers(core, false).await {
                    tracing::debug!(%error, "the state does not know the supers yet");
                }
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        inner.until_stopping(run).await;
        let now = *inner.leadership.borrow();
        inner.tell(Leadership { ready: false, leader: None, ..now });
    }

    /// Has connections go to where the replicas are now. Runs until the group stops.
    pub(crate) async fn watch_members(inner: Arc<Self>) {
        let run = async {
            let Some(core) = inner.running().await else { return };
            let mut metrics = core.raft.server_metrics();
            loop {
                let members = Arc::clone(&metrics.borrow_and_update().membership_config);
                core.network.moved(members.membership().nodes().map(|(id, replica)| (*id, replica.clone())).collect());
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        inner.until_stopping(run).await;
    }

    fn tell(&self, now: Leadership) {
        self.leadership.send_if_modified(|before| std::mem::replace(before, now) != now);
    }

    /// Founds the cluster where there is none and this super may, then takes the lead.
    async fn begin(&self, core: &Core, term: Term) -> Result<(), GroupError> {
        if let Some(found) = &self.found
            && !self.read(State::is_founded)
        {
            let found = Found { now_ms: self.time.stamp().now_ms, ..found.clone() };
            self.own(core, Command::Found(Box::new(found))).await?;
        }
        let now_ms = self.time.stamp().now_ms;
        self.own(core, Command::Lead(Lead { term, leader: self.key, now_ms })).await?;
        self.tell_supers(core, true).await
    }

    /// Puts who votes into the state, where a change that a majority has is not there yet; once in each term in any case.
    pub(crate) async fn tell_supers(&self, core: &Core, in_any_case: bool) -> Result<(), GroupError> {
        let members = Arc::clone(&core.raft.server_metrics().borrow_watched().committed_membership_config);
        let (Some(at), [voters]) = (members.log_id(), members.get_joint_config().as_slice()) else { return Ok(()) };
        let changed = LogIndex(at.index);
        if !in_any_case && self.read(|state| state.meta.supers_changed) >= changed {
            return Ok(());
        }
        let names: BTreeMap<NodeId, String> =
            self.read(|state| state.meta.seats.iter().map(|row| (row.holder.node, row.holder.name.clone())).collect());
        // One that lost its disk is there twice until its older replica is removed.
        let supers: BTreeMap<NodeId, Super> = voters
            .iter()
            .filter_map(|id| members.get_node(id))
            .map(|replica| {
                let known = Some(replica.name.clone()).filter(|name| !name.is_empty());
                let name = known.or_else(|| names.get(&replica.key).cloned()).unwrap_or_default();
                (replica.key, Super { node: replica.key, name, address: replica.address.clone() })
            })
            .collect();
        let now_ms = self.time.stamp().now_ms;
        let supers = Supers { changed, supers: supers.into_values().collect(), now_ms };
        self.own(core, Command::Supers(supers)).await
    }

    fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        self.view.read(f)
    }

    /// Proposes what only the leader may, while it leads.
    async fn own(&self, core: &Core, command: Command) -> Result<(), GroupError> {
        let command = Arc::new(command);
        loop {
            match self.propose_here(core, &command).await {
                Some(Ok(Ok(_))) => return Ok(()),
                Some(Ok(Err(reject))) => {
                    tracing::warn!(?reject, command = command.kind(), "the leader's own command was refused");
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                // One that left the group, or that another one follows.
                None if !core.raft.server_metrics().borrow_watched().state.is_leader() => {
                    return Err(GroupError::NoLeader);
                }
                // A leader that no majority has answered yet.
                None => tokio::time::sleep(self.timing.heartbeat / 4).await,
            }
        }
    }
}

impl Leadership {
    fn is_ready_in(&self, term: Term) -> bool {
        self.ready && self.term == term
    }
}
