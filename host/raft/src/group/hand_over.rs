//! The lead goes to another super because this one wants it so.
//!
//! openraft's leader takes nothing and sends no sign of life once it has asked another one, whatever becomes of it. So who
//! stays the leader leads again, in a new term.

use std::time::Duration;

use kernel::id::NodeId;
use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::{Instant, timeout_at};

use super::{Core, Group, GroupError, Inner};
use crate::members::{ChangeError, LAG, refused};
use crate::status;
use crate::types::Types;

/// For another super to take the lead, while this one runs on.
pub(crate) const HAND_OVER: Duration = Duration::from_secs(5);

impl Group {
    /// Has another voter lead: the one with this key, or whichever answers and has most of the log. Gives who leads then. Where
    /// nobody takes it within five seconds this super leads on, in a new term where somebody was asked.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] with the word `not_leader`, `unknown_member`, `alone`, `unreachable` or `busy`;
    /// [`ChangeError::Group`]: nobody leads that is known here.
    pub async fn hand_over(&self, to: Option<NodeId>) -> Result<NodeId, ChangeError> {
        let core = self.inner.core()?;
        let Ok(_one) = self.inner.changing.try_lock() else {
            return refused("busy", "a change of the group is under way; ask again when it is done".into());
        };
        self.inner.hand_on(core, to, Instant::now() + HAND_OVER).await
    }
}

impl Inner {
    /// See [`Group::hand_over`].
    pub(crate) async fn hand_on(&self, core: &Core, to: Option<NodeId>, until: Instant) -> Result<NodeId, ChangeError> {
        let mut metrics = core.raft.metrics();
        let led = {
            let now = metrics.borrow_watched();
            if !now.state.is_leader() {
                let leader = now.current_leader.and_then(|id| core.replica(id));
                let leader = leader.map_or_else(|| "nobody".to_owned(), |leader| leader.key.to_string());
                return refused("not_leader", format!("this super does not lead, {leader} does"));
            }
            now.vote
        };
        let mut asked = None;
        // Who leads anew has heard nobody yet; who hears nobody for longer has nobody to wait for.
        let patience = (Instant::now() + self.timing.election_max).min(until);
        let handed = async {
            loop {
                let now = metrics.borrow_and_update().clone();
                let is_heard = asked.is_some() || is_heard(self, core, &now);
                if now.vote != led || !now.state.is_leader() {
                    let leader = now.current_leader.filter(|id| now.vote.committed && *id != core.id);
                    if let Some(leader) = leader.and_then(|id| core.replica(id)) {
                        return Ok(leader.key);
                    }
                } else if asked.is_none()
                    && let Some(id) = self.heir(core, &now, to)?
                {
                    asked = Some(id);
                    core.raft.trigger().transfer_leader(id).await.map_err(|_| GroupError::Stopped)?;
                }
                match timeout_at(if is_heard { until } else { patience }, metrics.changed()).await {
                    Ok(changed) => changed.map_err(|_| GroupError::Stopped)?,
                    Err(_) if is_heard => {}
                    Err(_) => {
                        let detail = "none of the other voters answers; bring one back first";
                        return refused("unreachable", detail.into());
                    }
                }
            }
        };
        match timeout_at(until, handed).await {
            Ok(handed) => handed,
            Err(_) => {
                let now = metrics.borrow_watched().clone();
                if now.vote != led || !now.state.is_leader() {
                    return Err(GroupError::NoLeader.into());
                }
                let Some(asked) = asked else {
                    let others = now.membership_config.membership().voter_ids().filter(|id| *id != core.id).count();
                    let detail = format!("none of {others} other voters answers and has the log; bring one back first");
                    return refused("unreachable", detail);
                };
                core.raft.trigger().elect(false).await.map_err(|_| GroupError::Stopped)?;
                refused("unreachable", format!("replica {asked} was asked to lead and did not; this super leads on"))
            }
        }
    }

    /// The voter that is to lead; `None` as long as none can.
    fn heir(&self, core: &Core, now: &RaftMetrics<Types>, to: Option<NodeId>) -> Result<Option<u64>, ChangeError> {
        let members = status::members(self, core, now);
        let voters = members.iter().filter(|member| member.voter && member.replica != core.id);
        let voters: Vec<_> = voters.filter(|member| to.is_none_or(|to| member.key == to)).collect();
        if voters.is_empty() {
            return match to {
                Some(to) => refused("unknown_member", format!("{to} is no other voter of the group")),
                None => refused("alone", "this super is the only voter of its group: add another one first".into()),
            };
        }
        // It would refuse to lead without an entry that it lacks, and is given time for the last few.
        let able = voters.iter().filter(|member| member.reachable == Some(true));
        let able = able.filter_map(|member| member.lag.filter(|lag| *lag <= LAG).map(|lag| (lag, member.replica)));
        Ok(able.min().map(|(_, replica)| replica))
    }
}

/// Whether any other voter has answered of late.
fn is_heard(inner: &Inner, core: &Core, now: &RaftMetrics<Types>) -> bool {
    let members = status::members(inner, core, now);
    members.iter().any(|member| member.voter && member.replica != core.id && member.reachable == Some(true))
}
