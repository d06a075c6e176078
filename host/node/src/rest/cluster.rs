//! The group of supers: who belongs to it, and changes of that. Any super takes them; whoever leads decides.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kernel::id::NodeId;
use raft::{ChangeError, GroupError};
use wire::raft::Change;

use super::App;
use super::access::By;
use super::answer::{Done, Read};
use super::input::{Json, Params, Part, ReadQuery, id};
use super::problem::{Code, Problem};
use super::tag::{Decider, Tag, Tagged};
use super::view::{MemberView, round};
use crate::config::{self, PeerAddress};

/// The group of supers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Members {
    /// In order of their replicas' numbers.
    pub members: Vec<MemberView>,
}

/// The supers of the group: who votes, who leads, and how each keeps up. What a super that does not lead cannot know is
/// null.
#[utoipa::path(get, path = "/v1/cluster/members", tag = "cluster", params(ReadQuery),
    responses((status = 200, body = Members)), security(("token" = [])))]
pub async fn members(
    _: By,
    State(app): State<App>,
    Params(query): Params<ReadQuery>,
) -> Result<Tagged<Members>, Problem> {
    let group = app.part()?.group.clone();
    let read = app.read(app.fresh(query.level()).await?, move |state| {
        let (at, members) = group.members_at()?;
        Ok::<_, Problem>((Some(at), Members { members: MemberView::all(&members, state) }))
    });
    Ok(Tagged::live(read.await?.transpose()?))
}

/// A super that is to belong to the group.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddBody {
    /// Its key, 64 hex digits.
    pub node: String,
    /// `host:port` of its gRPC, as the other supers reach it.
    pub address: String,
}

/// A change of the group that is done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MemberChanged {
    /// Whose.
    pub node: String,
    /// The number of its replica.
    pub replica: u64,
}

/// Adds a super as a learner. It must run, be empty, and name supers of the group in its config.
#[utoipa::path(post, path = "/v1/cluster/members", tag = "cluster", request_body = AddBody,
    params(("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 201, body = MemberChanged),
        (status = 409, description = "already_member, group_full, group_busy, unreachable, invitation")),
    security(("token" = [])))]
pub async fn add(
    by: Decider,
    State(app): State<App>,
    Json(body): Json<AddBody>,
) -> Result<Done<MemberChanged>, Problem> {
    let node: NodeId = id("node", &body.node)?;
    let wrong = |why: &str| Problem::new(Code::BadJson, format!("address: {why}"));
    let address = config::address(&body.address).map_err(|why| wrong(&why))?;
    if address.key.is_some_and(|key| key != node) {
        return Err(wrong("it names another key than `node`"));
    }
    let address = PeerAddress { key: None, ..address }.to_string();
    changed(&app, by, StatusCode::CREATED, node, Change::Add { key: node, address }).await
}

/// Makes a learner a voter, once it has caught up and stayed so. It gets the lowest free seat.
#[utoipa::path(post, path = "/v1/cluster/members/{node}/promote", tag = "cluster",
    params(("node" = String, Path, description = "Its key, 64 hex digits"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 200, body = MemberChanged), (status = 404, description = "unknown_member"),
        (status = 409, description = "already_member, not_caught_up, unreachable, quorum, group_full, group_busy")),
    security(("token" = [])))]
pub async fn promote(
    by: Decider,
    State(app): State<App>,
    Part(node): Part<NodeId>,
) -> Result<Done<MemberChanged>, Problem> {
    changed(&app, by, StatusCode::OK, node, Change::Promote(node)).await
}

/// Removes a super; of two replicas of one key the older one.
#[utoipa::path(delete, path = "/v1/cluster/members/{node}", tag = "cluster",
    params(("node" = String, Path, description = "Its key, 64 hex digits"),
        ("If-Match" = Option<String>, Header, description = "The tag of the read that this is decided on; another one is 412 `changed`")),
    responses((status = 200, body = MemberChanged), (status = 404, description = "unknown_member"),
        (status = 409, description = "quorum: the rest would have no majority that answers; group_busy")),
    security(("token" = [])))]
pub async fn remove(
    by: Decider,
    State(app): State<App>,
    Part(node): Part<NodeId>,
) -> Result<Done<MemberChanged>, Problem> {
    changed(&app, by, StatusCode::OK, node, Change::Remove(node)).await
}

/// All that the supers agree on, in a few bytes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Agreed {
    /// The last entry of the log that this super has applied.
    pub applied: u64,
    /// The last settled round; null before the first.
    pub round: Option<u64>,
    /// SHA-256 over the state after that entry: two supers that have applied the same entry and show different ones do not
    /// agree, and one of them is broken.
    pub digest: String,
}

/// What this super has of all that the supers agree on, to be compared with another's at the same entry of the log.
#[utoipa::path(get, path = "/v1/cluster/state", tag = "cluster", params(ReadQuery),
    responses((status = 200, body = Agreed)), security(("token" = [])))]
pub async fn state(_: By, State(app): State<App>, Params(query): Params<ReadQuery>) -> Result<Read<Agreed>, Problem> {
    let look = |state: &kernel::state::State| Agreed {
        applied: state.meta.applied.0,
        round: round(state.meta.settled),
        digest: state.digest().to_string(),
    };
    app.read_in_turn(app.fresh(query.level()).await?, &app.places.counts, look).await
}

async fn changed(
    app: &App,
    by: Decider,
    status: StatusCode,
    node: NodeId,
    change: Change,
) -> Result<Done<MemberChanged>, Problem> {
    let group = &app.part()?.group;
    match group.change(change, by.only.place()).await {
        Ok(replica) => Ok(Done(status, MemberChanged { node: node.to_string(), replica })),
        Err(ChangeError::Refused { code, .. }) if code == "changed" => {
            app.current().await?;
            Err(Tag::from(group.members_at()?.0).changed("the group"))
        }
        Err(error) => Err(refused(error)),
    }
}

/// Why a change was refused, with the numbers that the group gave.
fn refused(error: ChangeError) -> Problem {
    match error {
        ChangeError::Group(GroupError::Unknown) => Problem::from(GroupError::Unknown)
            .hint("read GET /v1/cluster/members before you ask again: the change may be done"),
        ChangeError::Group(error) => error.into(),
        ChangeError::Refused { code, detail } => {
            let code = match code.as_str() {
                "already_member" => Code::AlreadyMember,
                "unknown_member" => Code::UnknownMember,
                "full" => Code::GroupFull,
                "busy" => Code::GroupBusy,
                "unreachable" => Code::Unreachable,
                "not_caught_up" => Code::NotCaughtUp,
                "quorum" => Code::Quorum,
                "invitation" => Code::Invitation,
                _ => Code::ChangeRefused,
            };
            Problem::new(code, detail)
        }
    }
}
