//! The group of supers as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use kernel::state::State;
use raft::Member;

use super::name_of;

/// A super of the group. What only the leader knows is null where another super answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MemberView {
    /// Its key.
    pub node: String,
    /// Its display name; null for a learner, which the state does not know yet.
    pub name: Option<String>,
    /// `host:port` of its gRPC.
    pub address: String,
    /// The number of its replica: a super that lost its disk comes back under another one.
    pub replica: u64,
    /// Its seat, 0 to 7; null for a learner.
    pub seat: Option<u8>,
    /// `voter` or `learner`.
    pub state: &'static str,
    /// It leads; null where no leader is known.
    pub leader: Option<bool>,
    /// Entries of the log that it lacks.
    pub lag: Option<u64>,
    /// It answered the leader of late.
    pub reachable: Option<bool>,
}

impl MemberView {
    /// All members, in order of their replicas' numbers.
    pub fn all(members: &[Member], state: &State) -> Vec<Self> {
        let known = members.iter().any(|member| member.leader);
        let view = |member: &Member| Self {
            node: member.key.to_string(),
            name: name_of(state, &member.key),
            address: member.address.clone(),
            replica: member.replica,
            seat: member.seat.map(|seat| seat.0),
            state: if member.voter { "voter" } else { "learner" },
            leader: known.then_some(member.leader),
            lag: member.lag,
            reachable: member.reachable,
        };
        members.iter().map(view).collect()
    }
}
