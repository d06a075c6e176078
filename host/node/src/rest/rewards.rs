//! What members earned.

use std::ops::Bound;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use kernel::id::NodeId;

use super::App;
use super::access::Caller;
use super::answer::Read;
use super::input::{Cursor as _, ListQuery, PAGE, Params};
use super::problem::Problem;
use super::view::RewardView;

/// A page of members' points, in ascending order of key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rewards {
    /// Every member, in the queue or not.
    pub rewards: Vec<RewardView>,
    /// All points that were ever issued.
    pub total_issued: i64,
    /// There is more: ask again with `after` = this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What members earned, claimed and lost.
#[utoipa::path(get, path = "/v1/rewards", tag = "read", params(ListQuery), responses((status = 200, body = Rewards)))]
pub async fn rewards(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<ListQuery>,
) -> Result<Read<Rewards>, Problem> {
    let (limit, after) = (query.limit(PAGE)?, query.after::<NodeId>()?);
    let addresses = app.shows_addresses(caller);
    let fresh = app.fresh(query.level()).await?;
    app.read_in_turn(fresh, &app.places.lists, move |state| {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut members: Vec<_> = state.members.range((from, Bound::Unbounded)).take(limit + 1).collect();
        let more = members.len() > limit;
        members.truncate(limit);
        Rewards {
            next: members.last().filter(|_| more).map(|(node, _)| node.write()),
            rewards: members.into_iter().map(|(node, member)| RewardView::of(node, member, addresses)).collect(),
            total_issued: state.meta.issued.0,
        }
    })
    .await
}
