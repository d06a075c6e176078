//! Nodes: members of the queue and supers.

use serde::Serialize;
use utoipa::ToSchema;

use kernel::id::NodeId;
use kernel::members::{Member, Place};
use kernel::round::{Presence, SeatRow};
use kernel::standing::Standing;
use kernel::state::State;

use super::{ip, round, text};

/// What this super sees of a node right now, besides state.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// It has a stream here.
    pub connected: bool,
    /// Seats of the other supers, one bit each.
    pub others: u8,
    /// When its last pong came, ms since 1970.
    pub last_pong_ms: Option<u64>,
    /// Round trip of its last pong, µs.
    pub rtt_us: Option<u32>,
    /// `host:port` of its gRPC or the source of its stream is shown.
    pub addresses: bool,
}

/// A member's place in the queue as of the last settled round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueEntry {
    /// From 1, in the order in which the leader asked in the last settled round. The order of the round that runs is secret.
    pub position: u64,
    /// Who.
    pub node: String,
    /// Its display name.
    pub name: Option<String>,
    /// The address that its pongs tell; null for readers that may not see it.
    pub address: Option<String>,
    /// Its standing.
    pub standing: &'static str,
}

impl QueueEntry {
    /// From state.
    #[must_use]
    pub fn of(position: u64, node: &NodeId, member: &Member, addresses: bool) -> Self {
        Self {
            position,
            node: node.to_string(),
            name: text(&member.profile.name),
            address: member.profile.address.clone().filter(|_| addresses),
            standing: member.hot.standing.name(),
        }
    }
}

/// A node in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeView {
    /// Its key.
    pub node: String,
    /// Its display name; not unique, never identity.
    pub name: Option<String>,
    /// `super` or `follower`.
    pub role: &'static str,
    /// Where it last attached from; null for readers that may not see it.
    pub ip: Option<String>,
    /// The port that it declared; null for readers that may not see it.
    pub port: Option<u16>,
    /// Its own REST address, as it tells it; null for readers that may not see it.
    pub rest: Option<String>,
    /// The address that its pongs tell; null for readers that may not see it.
    pub address: Option<String>,
    /// The protocol version that it speaks.
    pub version: Option<String>,
    /// Its software version.
    pub software: Option<String>,
    /// `good`, `warned`, `suspended`, `banned`, `probation`; null for a super, which nobody judges.
    pub standing: Option<&'static str>,
    /// It has a stream to this super, or answered another one in the last settled round.
    pub connected: bool,
    /// It is in the queue.
    pub queued: bool,
    /// `up` or `down` in the last settled round; null when nobody had a fair chance to see it.
    pub presence: Option<&'static str>,
    /// The round that was settled last when it first joined; null when none was, and for a super.
    pub joined_round: Option<u64>,
    /// When its last pong came to this super, ms since 1970.
    pub last_pong_ms: Option<u64>,
    /// Its round trip, µs.
    pub rtt_us: Option<u32>,
}

impl NodeView {
    /// A member.
    #[must_use]
    pub fn of(node: &NodeId, member: &Member, seen: &Seen) -> Self {
        let (profile, hot) = (&member.profile, &member.hot);
        let is_up = hot.place.is_queued() && hot.presence == Presence::Up;
        let settled_rtt = (hot.rtt_us != 0).then_some(hot.rtt_us);
        Self {
            node: node.to_string(),
            name: text(&profile.name),
            role: "follower",
            ip: seen.addresses.then(|| ip(&profile.ip)),
            port: seen.addresses.then_some(profile.port),
            rest: profile.rest.clone().filter(|_| seen.addresses),
            address: profile.address.clone().filter(|_| seen.addresses),
            version: Some(profile.version.to_string()),
            software: text(&profile.software),
            standing: Some(hot.standing.name()),
            connected: seen.connected || is_up && hot.asked_seats & seen.others != 0,
            queued: hot.place.is_queued(),
            presence: if hot.place.is_queued() { hot.presence.name() } else { None },
            joined_round: round(profile.joined),
            last_pong_ms: seen.last_pong_ms,
            rtt_us: seen.rtt_us.or(settled_rtt),
        }
    }
}

/// A super.
#[must_use]
pub fn super_view(row: &SeatRow, seen: &Seen) -> NodeView {
    let (host, port) = row.holder.address.rsplit_once(':').unwrap_or((row.holder.address.as_str(), ""));
    NodeView {
        node: row.holder.node.to_string(),
        name: text(&row.holder.name),
        role: "super",
        ip: seen.addresses.then(|| host.trim_matches(['[', ']']).to_string()).filter(|host| !host.is_empty()),
        port: port.parse().ok().filter(|_| seen.addresses),
        rest: None,
        address: text(&row.holder.address).filter(|_| seen.addresses),
        version: None,
        software: None,
        standing: None,
        connected: seen.connected,
        queued: false,
        presence: None,
        joined_round: None,
        last_pong_ms: None,
        rtt_us: None,
    }
}

/// A ban. It lasts through its last round; the member stands banned, out of the queue, until it attaches after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BanNow {
    /// Its last round.
    pub until_round: u64,
    /// About when that is, ms since 1970: rounds can be late.
    pub until_ms: u64,
    /// Why.
    pub reason: Option<String>,
    /// Its last round is settled: the member may come back, on probation, and has not.
    pub over: bool,
}

/// All about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeDetail {
    /// As in the list.
    #[serde(flatten)]
    pub node: NodeView,
    /// Strikes; null for a super.
    pub strikes: Option<u16>,
    /// The ban under which it stands, its time over or not; null when it does not stand banned.
    pub ban: Option<BanNow>,
    /// Why it stands as it does.
    pub reason: Option<String>,
    /// The policy behind its standing.
    pub decided_by: Option<String>,
    /// Earliest return of a suspension or ban, ms since 1970, an estimate.
    pub earliest_return: Option<u64>,
    /// Rounds of probation left; null when it is on none.
    pub probation_left: Option<u32>,
    /// Earned and not claimed; null for a super.
    pub earned: Option<i64>,
    /// Its own wallet's balance.
    pub wallet: i64,
    /// What it would take to lose its standing; null when it is not near that.
    pub warning: Option<String>,
    /// The last round in which it was up; null when there was none.
    pub last_up_round: Option<u64>,
    /// Rounds in the queue; null for a super.
    pub age_rounds: Option<u32>,
    /// When it first joined, ms since 1970.
    pub joined_ms: Option<u64>,
    /// Set by the operator; policies see it.
    pub class: Option<u32>,
    /// Index of its network group.
    pub group: Option<u32>,
    /// Where it is: `out`, `entering`, `queued`, `leaving`, `outdated`; null for a super.
    pub place: Option<&'static str>,
}

impl NodeDetail {
    /// A member.
    #[must_use]
    pub fn of(node: &NodeId, member: &Member, seen: &Seen, warning: Option<String>, state: &State) -> Self {
        let (profile, hot) = (&member.profile, &member.hot);
        let until = round(hot.until).filter(|_| hot.standing.is_out());
        let until_ms = until.map(|_| state.until_ms(hot.until));
        let ban = (hot.standing == Standing::Banned).then(|| BanNow {
            until_round: hot.until.0,
            until_ms: state.until_ms(hot.until),
            reason: text(&profile.reason),
            over: state.meta.settled >= hot.until,
        });
        Self {
            node: NodeView::of(node, member, seen),
            strikes: Some(hot.strikes),
            ban,
            reason: text(&profile.reason),
            decided_by: profile.decided_by.map(|digest| digest.to_string()),
            earliest_return: until_ms,
            probation_left: (hot.standing == Standing::Probation).then_some(hot.probation_left),
            earned: Some(hot.earned.0),
            wallet: state.wallets.get(node).map_or(0, |wallet| wallet.balance.0),
            warning,
            last_up_round: round(hot.last_up),
            age_rounds: Some(hot.age),
            joined_ms: Some(profile.joined_ms),
            class: Some(profile.class),
            group: Some(profile.group),
            place: Some(place(hot.place)),
        }
    }

    /// A super.
    #[must_use]
    pub fn of_super(row: &SeatRow, seen: &Seen, state: &State) -> Self {
        Self {
            node: super_view(row, seen),
            strikes: None,
            ban: None,
            reason: None,
            decided_by: None,
            earliest_return: None,
            probation_left: None,
            earned: None,
            wallet: state.wallets.get(&row.holder.node).map_or(0, |wallet| wallet.balance.0),
            warning: None,
            last_up_round: None,
            age_rounds: None,
            joined_ms: None,
            class: None,
            group: None,
            place: None,
        }
    }
}

const fn place(place: Place) -> &'static str {
    match place {
        Place::Out => "out",
        Place::Entering => "entering",
        Place::Queued => "queued",
        Place::Leaving => "leaving",
        Place::Outdated | Place::OutOutdated => "outdated",
    }
}
