//! The follower queue.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use kernel::id::{NodeId, RoundId};
use kernel::state::State as Cluster;

use super::App;
use super::access::Caller;
use super::answer::Read;
use super::input::{Cursor, ListQuery, PAGE, Params};
use super::problem::{Code, Problem};
use super::view::QueueEntry;

/// The queue as after the last settled round.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Queue {
    /// The last settled round, 0 before the first.
    pub round: u64,
    /// In the order in which the leader asked in it; whoever has come since stands at the end.
    pub queue: Vec<QueueEntry>,
    /// There is more: ask again with `after` = this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A place in the queue: pages go on in the order of the round with which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    round: RoundId,
    node: NodeId,
}

impl Cursor for Place {
    fn read(text: &str) -> Option<Self> {
        let (round, node) = text.split_once('-')?;
        Some(Self { round: RoundId::read(round)?, node: NodeId::read(node)? })
    }
    fn write(&self) -> String {
        format!("{}-{}", self.round, self.node)
    }
}

/// The follower queue, in the order of the last settled round.
#[utoipa::path(get, path = "/v1/followers/queue", tag = "read", params(ListQuery), responses((status = 200, body = Queue)))]
pub async fn queue(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<ListQuery>,
) -> Result<Read<Queue>, Problem> {
    let (limit, after) = (query.limit(PAGE)?, query.after::<Place>()?);
    let addresses = app.shows_addresses(caller);
    let fresh = app.fresh(query.level()).await?;
    let orders = &app.inner.orders;
    let (round, order) = match after {
        Some(place) => (place.round, orders.of(place.round).ok_or_else(too_late)?),
        None => {
            let newest = app.part()?.order.borrow().clone();
            orders.keep(newest.round, &newest.nodes);
            (newest.round, newest.nodes)
        }
    };
    app.read_in_turn(fresh, &app.places.lists, move |state| page(state, round, &order, after, limit, addresses)).await
}

fn too_late() -> Problem {
    Problem::new(Code::BadQuery, "after: the order in which this reading began is not kept any more")
        .hint("begin again without `after`, and ask for larger pages")
}

fn page(
    state: &Cluster,
    round: RoundId,
    order: &[NodeId],
    after: Option<Place>,
    limit: usize,
    addresses: bool,
) -> Queue {
    let queued = |node: &NodeId| state.members.get(node).is_some_and(|member| member.hot.place.is_queued());
    let asked: std::collections::BTreeSet<&NodeId> = order.iter().collect();
    let come_since = state.queue.iter().filter(|node| !asked.contains(node));
    // The place from which to go on: in the order, or, among those who have come since, by key.
    let from = after.and_then(|place| order.iter().position(|node| *node == place.node)).map(|at| at + 1);
    let (skip, newer_than) = match (after, from) {
        (None, _) => (0, None),
        (Some(_), Some(at)) => (at, None),
        (Some(place), None) => (order.len(), Some(place.node)),
    };
    let before = order.iter().take(skip).filter(|node| queued(node)).count()
        + newer_than.map_or(0, |last| come_since.clone().filter(|node| **node <= last).count());
    let rest = order.iter().skip(skip).filter(|node| queued(node));
    let rest = rest.chain(come_since.filter(|node| newer_than.is_none_or(|last| **node > last)));
    let mut nodes: Vec<&NodeId> = rest.take(limit + 1).collect();
    let more = nodes.len() > limit;
    nodes.truncate(limit);
    let next = nodes.last().filter(|_| more).map(|node| Place { round, node: **node }.write());
    let entry = |(at, node): (usize, &NodeId)| {
        let position = u64::try_from(before + at + 1).unwrap_or(u64::MAX);
        state.members.get(node).map(|member| QueueEntry::of(position, node, member, addresses))
    };
    Queue { round: state.meta.settled.0, queue: nodes.into_iter().enumerate().filter_map(entry).collect(), next }
}
