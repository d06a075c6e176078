//! Nodes: the list, one, and how one's standing changed.

use std::ops::Bound;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use kernel::id::NodeId;
use kernel::members::Member;
use kernel::round::SeatRow;
use kernel::state::State as Cluster;
use store::MoveKey;

use super::App;
use super::access::Caller;
use super::answer::Read;
use super::input::{Cursor as _, HISTORY_PAGE, ListQuery, PAGE, Params, Part, ReadLevel, ReadQuery, after, limit};
use super::problem::{Code, Problem};
use super::tag::Tagged;
use super::view::{MoveView, NodeDetail, NodeView, Seen, super_view};
use crate::streams::Streams;

/// A page of nodes, in ascending order of key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Nodes {
    /// Supers and members, in the queue or not.
    pub nodes: Vec<NodeView>,
    /// There is more: ask again with `after` = this. With a filter a page may have fewer items than asked and still a `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Parameters of the list of nodes.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodesQuery {
    /// Items of a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
    /// Go on after this key.
    pub after: Option<String>,
    /// Only nodes of this display name.
    pub name: Option<String>,
    /// Only nodes of this standing.
    pub standing: Option<String>,
    /// Only nodes of this role.
    pub role: Option<String>,
    /// How fresh, `linearizable` where nothing is said; the header `Pingward-Read` of the answer says which it was, and the
    /// applied index.
    pub read: Option<ReadLevel>,
}

/// A row of the state that may be shown.
#[derive(Clone, Copy, Debug)]
enum Row<'a> {
    Member(&'a Member),
    Super(&'a SeatRow),
}

impl NodesQuery {
    /// Whether a row is asked for; before a view of it is made, because most may not be.
    fn wants(&self, row: Row<'_>) -> bool {
        let (name, standing, role) = match row {
            Row::Member(member) => (&member.profile.name, Some(member.hot.standing.name()), "follower"),
            Row::Super(seat) => (&seat.holder.name, None, "super"),
        };
        self.name.as_ref().is_none_or(|asked| asked == name && !name.is_empty())
            && self.standing.as_deref().is_none_or(|asked| standing == Some(asked))
            && self.role.as_deref().is_none_or(|asked| asked == role)
    }

    fn check(&self) -> Result<(), Problem> {
        let unknown = |what: &str, word: &str, words: &str| {
            Problem::new(Code::BadQuery, format!("{what}: `{word}` is not one of {words}"))
        };
        match (self.standing.as_deref(), self.role.as_deref()) {
            (_, Some(role)) if !["super", "follower"].contains(&role) => Err(unknown("role", role, "super, follower")),
            (Some(standing), _) if !STANDINGS.contains(&standing) => {
                Err(unknown("standing", standing, &STANDINGS.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

const STANDINGS: [&str; 5] = ["good", "warned", "suspended", "banned", "probation"];

/// Rows looked at for one page of a list that shows few of them: a few ms, in which commands wait.
const ROWS_READ: usize = 20_000;

/// What this super sees right now, beside the state.
#[derive(Clone, Debug)]
pub struct Eyes {
    /// Its own key.
    pub ours: NodeId,
    /// Who is connected to it.
    pub streams: Streams,
    /// Addresses are shown.
    pub addresses: bool,
}

impl Eyes {
    fn on(&self, node: &NodeId, state: &Cluster) -> Seen {
        let stream = self.streams.get(node);
        let others = state.meta.seats.iter().filter(|row| row.holder.node != self.ours);
        let others = others.fold(0, |bits, row| bits | 1_u8.checked_shl(row.seat.0.into()).unwrap_or(0));
        Seen {
            connected: stream.is_some() || *node == self.ours,
            others,
            last_pong_ms: stream.as_ref().and_then(|stream| stream.last_pong_ms),
            rtt_us: stream.as_ref().and_then(|stream| stream.rtt_us),
            addresses: self.addresses,
        }
    }
}

fn eyes(app: &App, caller: Caller) -> Result<Eyes, Problem> {
    let part = app.part()?;
    let (ours, streams) = (app.context().node, part.streams.clone());
    Ok(Eyes { ours, streams, addresses: app.shows_addresses(caller) })
}

/// All nodes that the cluster knows.
#[utoipa::path(get, path = "/v1/nodes", tag = "read", params(NodesQuery), responses((status = 200, body = Nodes)))]
pub async fn nodes(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<NodesQuery>,
) -> Result<Read<Nodes>, Problem> {
    query.check()?;
    let (limit, after) = (limit(query.limit, PAGE)?, after::<NodeId>(query.after.as_deref())?);
    let eyes = eyes(&app, caller)?;
    let fresh = app.fresh(query.read.unwrap_or_default()).await?;
    app.read_in_turn(fresh, &app.places.lists, move |state| page(state, &query, &eyes, after, limit, ROWS_READ)).await
}

/// A page, after at most so many rows of members.
pub fn page(
    state: &Cluster,
    query: &NodesQuery,
    eyes: &Eyes,
    after: Option<NodeId>,
    limit: usize,
    rows: usize,
) -> Nodes {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut found, mut read, mut stopped) = (Vec::new(), None, None);
    for (at, (node, member)) in state.members.range((from, Bound::Unbounded)).enumerate() {
        if at == rows {
            stopped = read;
            break;
        }
        read = Some(*node);
        found.extend(Some((*node, Row::Member(member))).filter(|(_, row)| query.wants(*row)));
        if found.len() > limit {
            break;
        }
    }
    let supers = state.meta.seats.iter().map(|seat| (seat.holder.node, Row::Super(seat)));
    // Supers behind the row at which reading stopped belong to a later page.
    let here = |node: &NodeId| after.is_none_or(|after| *node > after) && stopped.is_none_or(|last| *node <= last);
    found.extend(supers.filter(|(node, row)| here(node) && query.wants(*row)));
    found.sort_by_key(|(node, _)| *node);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(|(node, _)| *node) } else { stopped };
    let view = |(node, row): &(NodeId, Row<'_>)| match row {
        Row::Member(member) => NodeView::of(node, member, &eyes.on(node, state)),
        Row::Super(seat) => super_view(seat, &eyes.on(node, state)),
    };
    Nodes { nodes: found.iter().map(view).collect(), next: next.map(|node| node.write()) }
}

/// All about one node. The tag is that of its class, which people set; its other numbers are in no tag.
#[utoipa::path(get, path = "/v1/nodes/{node}", tag = "read", params(("node" = String, Path, description = "Its key, 64 hex digits"), ReadQuery),
    responses((status = 200, body = NodeDetail)))]
pub async fn node(
    State(app): State<App>,
    caller: Caller,
    Part(node): Part<NodeId>,
    Params(query): Params<ReadQuery>,
) -> Result<Tagged<NodeDetail>, Problem> {
    let eyes = eyes(&app, caller)?;
    let found = app.read(app.fresh(query.level()).await?, move |state| {
        let seen = eyes.on(&node, state);
        let seat = || state.meta.seats.iter().find(|row| row.holder.node == node);
        match state.members.get(&node) {
            Some(member) => Ok((state.class_tag(&node), NodeDetail::of(&node, member, &seen, None, state))),
            None => seat().map(|row| (None, NodeDetail::of_super(row, &seen, state))).ok_or_else(|| unknown(&node)),
        }
    });
    Ok(Tagged::live(found.await?.transpose()?))
}

/// A problem for a key that the cluster does not know.
pub fn unknown(node: &NodeId) -> Problem {
    Problem::new(Code::UnknownNode, format!("{node} is no member and no super"))
}

/// A page of changes of standing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Moves {
    /// Oldest first.
    pub moves: Vec<MoveView>,
    /// There is more: ask again with `after` = this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How a node's standing changed: the newest page, oldest first in it; `after` goes on.
#[utoipa::path(get, path = "/v1/nodes/{node}/moves", tag = "read", params(("node" = String, Path, description = "Its key, 64 hex digits"), ListQuery),
    responses((status = 200, body = Moves)))]
pub async fn moves(
    State(app): State<App>,
    Part(node): Part<NodeId>,
    Params(query): Params<ListQuery>,
) -> Result<Read<Moves>, Problem> {
    let (limit, after) = (query.limit(HISTORY_PAGE)?, query.after::<MoveKey>()?);
    app.history(
        app.fresh(query.level()).await?,
        move |store| store.moves(Some(node), None, after, limit),
        |page, state| Moves {
            moves: page.items.iter().map(|moved| MoveView::of(moved, state)).collect(),
            next: page.next.map(|key| key.write()),
        },
    )
    .await
}
