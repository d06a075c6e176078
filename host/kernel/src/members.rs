//! Who is in the queue, who may come in, and what is kept of each member.
//!
//! A member's row survives disconnecting, rejoining and bans; it is forgotten when it has been out for long with nothing
//! earned (PROTOCOLS 2, 6).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::command::{Ip, Join, Leave, Outdated};
use crate::decide::Slot;
use crate::id::{Digest, MemberNumber, NodeId, ProtocolVersion, RoundId, is_name};
use crate::limits::{BLOCK_MEMBERS, GOODBYE_WINDOW_MS, GOODBYES, PONG_ADDRESS_CHARS};
use crate::outcome::{Author, Claimed, Move, Notice, Reject, Reply, Told, Write};
use crate::round::Presence;
use crate::standing::Standing;
use crate::state::{Effects, Group, State};
use crate::units::Points;

/// Where a member is, and where it will be after the next settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Place {
    /// Out of the queue. Why: its standing, or it left.
    #[default]
    #[n(0)]
    Out,
    /// In the queue from the next settlement.
    #[n(1)]
    Entering,
    /// In the queue.
    #[n(2)]
    Queued,
    /// Said goodbye: out at the next settlement.
    #[n(3)]
    Leaving,
    /// Speaks a version that is not accepted: out at the next settlement.
    #[n(4)]
    Outdated,
    /// Out of the queue since its version is not accepted.
    #[n(5)]
    OutOutdated,
}

impl Place {
    /// Whether policies and pings reach it: it is in the queue as after the last settlement.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        matches!(self, Self::Queued | Self::Leaving | Self::Outdated)
    }

    /// Whether it is neither in the queue nor on the way in.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::OutOutdated)
    }
}

/// The slowly changing part of a member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Profile {
    /// Given at its first join.
    #[n(0)]
    pub number: MemberNumber,
    /// Display name; may be empty.
    #[n(1)]
    pub name: String,
    /// Protocol version of its last hello.
    #[n(2)]
    pub version: ProtocolVersion,
    /// Software version of its last hello.
    #[n(3)]
    pub software: String,
    /// Source address of its last hello.
    #[n(4)]
    pub ip: Ip,
    /// Declared port of its last hello.
    #[n(5)]
    pub port: u16,
    /// The `address` of its last pong.
    #[n(6)]
    pub address: Option<String>,
    /// Its own REST address, as it tells it.
    #[n(7)]
    pub rest: Option<String>,
    /// The round that was settled last when it first joined.
    #[n(8)]
    pub joined: RoundId,
    /// When it first joined.
    #[n(9)]
    pub joined_ms: u64,
    /// Set by the operator.
    #[n(10)]
    pub class: u32,
    /// Index of its network group.
    #[n(11)]
    pub group: u32,
    /// Stamps of its goodbyes within 24 h.
    #[n(12)]
    pub goodbyes: Vec<u64>,
    /// Why it has the standing that it has; empty = none.
    #[n(13)]
    pub reason: String,
    /// The policy behind its standing.
    #[n(14)]
    pub decided_by: Option<Digest>,
    /// Its last claim.
    #[n(15)]
    pub claim: Option<LastClaim>,
}

/// The last claim of a node: what a retry is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LastClaim {
    /// Its sequence.
    #[n(0)]
    pub sequence: u64,
    /// Its digest.
    #[n(1)]
    pub digest: Digest,
    /// What it was answered.
    #[n(2)]
    pub answer: ClaimAnswer,
}

/// See [`LastClaim::answer`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ClaimAnswer {
    /// Paid.
    #[n(0)]
    Paid(#[n(0)] Claimed),
    /// Over-claimed.
    #[n(1)]
    Refused(#[n(0)] Reject),
}

/// The part of a member that changes each round.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Hot {
    /// In the queue or out of it.
    #[n(0)]
    pub place: Place,
    /// Its grade.
    #[n(1)]
    pub standing: Standing,
    /// Strikes.
    #[n(2)]
    pub strikes: u16,
    /// Last round of a ban; earliest return of a suspension; 0 = none.
    #[n(3)]
    pub until: RoundId,
    /// Rounds of probation left.
    #[n(4)]
    pub probation_left: u32,
    /// Rounds in the queue.
    #[n(5)]
    pub age: u32,
    /// Balance of its `earned` account.
    #[n(6)]
    pub earned: Points,
    /// All that it ever claimed.
    #[n(7)]
    pub claimed: Points,
    /// All penalties that it ever paid.
    #[n(8)]
    pub penalties: Points,
    /// In the last settled round.
    #[n(9)]
    pub presence: Presence,
    /// It was up in the last trusted round in which it could be seen.
    #[n(10)]
    pub trusted_up: bool,
    /// The last round in which it was up; 0 = none.
    #[n(11)]
    pub last_up: RoundId,
    /// Seats that asked it last, one bit each.
    #[n(12)]
    pub asked_seats: u8,
    /// The round in which it was last moved to suspended or banned by a policy; 0 = never, or not counted any more.
    #[n(13)]
    pub moved_out: RoundId,
    /// The round that was settled last when it left the queue.
    #[n(14)]
    pub left: RoundId,
    /// An operator decided about it since the last settlement: the judgement in flight does not count.
    #[n(15)]
    pub by_hand: bool,
    /// Its lowest round trip in the last settled round, µs; 0 = none.
    #[n(16)]
    pub rtt_us: u32,
    /// The `data` of its last pong.
    #[n(17)]
    pub data: u64,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Changes when it attaches, claims or moves.
    pub profile: Profile,
    /// Changes each round.
    pub hot: Hot,
}

impl Member {
    /// A new member, out of the queue.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self { profile, hot: Hot::default() }
    }
}

/// The network group of an address: its /24 or /64.
#[must_use]
pub fn network(ip: &Ip) -> Ip {
    match ip {
        Ip::V4([a, b, c, _]) => Ip::V4([*a, *b, *c, 0]),
        Ip::V6(bytes) => {
            let mut net = [0; 16];
            for (to, from) in net.iter_mut().zip(bytes.iter().take(8)) {
                *to = *from;
            }
            Ip::V6(net)
        }
    }
}

fn is_loopback(ip: &Ip) -> bool {
    match ip {
        Ip::V4([first, ..]) => *first == 127,
        Ip::V6(bytes) => *bytes == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    }
}

/// A hello and what the super knows of the stream that it came on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The join that it asks for.
    pub join: Join,
    /// The cluster that the node names, `id#genesis`, or the bare id on its first contact.
    pub cluster: String,
    /// The source port that the super sees.
    pub source_port: u16,
    /// Another connected key holds the same address and port.
    pub port_taken: bool,
    /// The super sheds load: come back after so many ms.
    pub busy_ms: Option<u64>,
}

/// Why a node is turned away, in the order in which it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It means another cluster, or another life of this one.
    WrongCluster {
        /// What this cluster is called.
        ours: String,
    },
    /// Its protocol version is not accepted.
    Outdated {
        /// What is.
        accept: String,
    },
    /// It is banned.
    Banned {
        /// Last round of the ban.
        until: RoundId,
        /// About when that is, ms since 1970.
        until_ms: u64,
        /// Why.
        reason: String,
    },
    /// It does not connect from the port that it declares.
    PortMismatch {
        /// Declared.
        declared: u16,
        /// Seen.
        seen: u16,
    },
    /// Another connected node has that address and port.
    PortTaken,
    /// The super sheds load.
    Busy {
        /// Come back after, ms.
        retry_ms: u64,
    },
    /// No room in the queue, the table of members or the network group.
    Full {
        /// Which, with its bound.
        what: String,
    },
    /// Too many joins in this round.
    SlowDown {
        /// Come back after, ms.
        retry_ms: u64,
    },
    /// The key belongs to a super.
    WrongRole,
    /// The hello has a text that is not allowed.
    Malformed {
        /// Which and how to mend it.
        what: String,
    },
}

impl Refusal {
    /// The word in messages, metrics and the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongCluster { .. } => "wrong_cluster",
            Self::Outdated { .. } => "outdated",
            Self::Banned { .. } => "banned",
            Self::PortMismatch { .. } => "port_mismatch",
            Self::PortTaken => "port_taken",
            Self::Busy { .. } => "busy",
            Self::Full { .. } => "full",
            Self::SlowDown { .. } => "slow_down",
            Self::WrongRole => "wrong_role",
            Self::Malformed { .. } => "malformed",
        }
    }
}

impl State {
    /// Whether a hello is welcome. `Ok(true)`: it must join through the log first; `Ok(false)`: it is in the queue, or on
    /// its way in, and nothing that it says is new.
    ///
    /// # Errors
    /// The first check that fails, in the order of PROTOCOLS 2.3.
    pub fn admits(&self, hello: &Hello) -> Result<bool, Refusal> {
        let (meta, join) = (&self.meta, &hello.join);
        let ours = meta.cluster.to_string();
        if hello.cluster != ours && hello.cluster != meta.cluster.id {
            return Err(Refusal::WrongCluster { ours });
        }
        let known = self.members.get(&join.node);
        if !meta.settings.accept_versions.accepts(join.version) {
            return Err(Refusal::Outdated { accept: meta.settings.accept_versions.to_string() });
        }
        if let Some(member) = known.filter(|m| m.hot.standing == Standing::Banned && meta.settled < m.hot.until) {
            let (until, reason) = (member.hot.until, member.profile.reason.clone());
            return Err(Refusal::Banned { until, until_ms: self.until_ms(until), reason });
        }
        if meta.settings.port_rule() {
            if join.port != hello.source_port {
                return Err(Refusal::PortMismatch { declared: join.port, seen: hello.source_port });
            }
            if hello.port_taken {
                return Err(Refusal::PortTaken);
            }
        }
        if let Some(retry_ms) = hello.busy_ms {
            return Err(Refusal::Busy { retry_ms });
        }
        match self.may_join(join) {
            Ok(()) => {
                Ok(known
                    .is_none_or(|m| m.hot.place != Place::Queued && m.hot.place != Place::Entering || !m.says(join)))
            }
            Err(Reject::WrongRole) => Err(Refusal::WrongRole),
            Err(Reject::SlowDown) => Err(Refusal::SlowDown { retry_ms: meta.settings.interval_ms }),
            Err(Reject::Full { what }) => Err(Refusal::Full { what }),
            Err(Reject::Malformed { what }) => Err(Refusal::Malformed { what }),
            // The checks above have covered what else a join may be refused for.
            Err(_) => Err(Refusal::Busy { retry_ms: meta.settings.interval_ms }),
        }
    }

    /// About when a round ends, ms since 1970: an estimate, because rounds can be late.
    #[must_use]
    pub fn until_ms(&self, until: RoundId) -> u64 {
        let rounds = until.since(self.meta.settled);
        self.meta.settled_ms.saturating_add(rounds.saturating_mul(self.meta.settings.interval_ms))
    }

    fn may_join(&self, join: &Join) -> Result<(), Reject> {
        let settings = &self.meta.settings;
        if self.meta.seats.iter().any(|row| row.holder.node == join.node) {
            return Err(Reject::WrongRole);
        }
        if !join.name.is_empty() && !is_name(&join.name) {
            return Err(Reject::Malformed { what: "the name: use at most 32 characters of a-z, 0-9 and -".into() });
        }
        if !is_printable(&join.software, 32) {
            return Err(Reject::Malformed { what: "the software version: use at most 32 printable characters".into() });
        }
        if !join.rest.as_ref().is_none_or(|rest| is_printable(rest, PONG_ADDRESS_CHARS)) {
            return Err(Reject::Malformed { what: "the REST address: use at most 64 printable characters".into() });
        }
        if !settings.accept_versions.accepts(join.version) {
            return Err(Reject::OutdatedVersion { accept: settings.accept_versions.to_string() });
        }
        let known = self.members.get(&join.node);
        if let Some(member) = known
            && member.hot.standing == Standing::Banned
            && self.meta.settled < member.hot.until
        {
            return Err(Reject::Banned { until: member.hot.until, reason: member.profile.reason.clone() });
        }
        if known.is_none_or(|member| member.hot.place.is_out()) {
            self.has_room(known.is_none())?;
        }
        if known.is_none_or(|member| network(&member.profile.ip) != network(&join.ip)) {
            self.has_room_in_group(&join.ip)?;
        }
        Ok(())
    }

    /// Whether one more may enter the queue.
    fn has_room(&self, new: bool) -> Result<(), Reject> {
        let settings = &self.meta.settings;
        if (self.queue.len() as u64).saturating_add(u64::from(self.meta.joins)) >= settings.members {
            return Err(Reject::Full { what: alloc::format!("the queue: {} members", settings.members) });
        }
        if u64::from(self.meta.joins) >= settings.joins_round {
            return Err(Reject::SlowDown);
        }
        let rows = settings.members.saturating_mul(settings.rows_factor);
        if new && self.members.len() as u64 >= rows {
            return Err(Reject::Full { what: alloc::format!("the table of members: {rows} rows") });
        }
        Ok(())
    }

    /// Whether one more may come from the network group of an address; a key that moves there counts like a new one.
    fn has_room_in_group(&self, ip: &Ip) -> Result<(), Reject> {
        let settings = &self.meta.settings;
        let Some(group) = self.groups.get(&network(ip)).filter(|_| !is_loopback(ip)) else { return Ok(()) };
        if u64::from(group.members) >= settings.group_members {
            return Err(Reject::Full { what: alloc::format!("the network group: {} members", settings.group_members) });
        }
        let joined = self.meta.group_joins.iter().find(|(index, _)| *index == group.index).map_or(0, |(_, n)| *n);
        if u64::from(joined) >= settings.joins_group_round {
            return Err(Reject::SlowDown);
        }
        Ok(())
    }

    pub(crate) fn join(&mut self, join: &Join, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(join.now_ms);
        self.may_join(join)?;
        let probation = u32::try_from(self.meta.settings.probation_rounds).unwrap_or(u32::MAX);
        let index = fx.index;
        let settled = self.meta.settled;
        let group = self.regroup(join);
        let new = !self.members.contains_key(&join.node);
        if new {
            let number = self.meta.next_number;
            self.meta.next_number = MemberNumber(number.0.saturating_add(1));
            self.numbers.insert(number, join.node);
            let profile = Profile {
                number,
                name: join.name.clone(),
                version: join.version,
                software: join.software.clone(),
                ip: join.ip,
                port: join.port,
                address: None,
                rest: join.rest.clone(),
                joined: settled,
                joined_ms: now_ms,
                class: 0,
                group,
                goodbyes: Vec::new(),
                reason: String::new(),
                decided_by: None,
                claim: None,
            };
            self.members.insert(join.node, Member::new(profile));
        }
        let Some(member) = self.members.get_mut(&join.node) else { return Err(Reject::UnknownNode) };
        let number = member.profile.number;
        let was_out = member.hot.place.is_out();
        member.hear(join, group);
        match member.hot.place {
            Place::Queued | Place::Entering => {}
            // A goodbye or an old version that has not taken effect is taken back.
            Place::Leaving | Place::Outdated => member.hot.place = Place::Queued,
            Place::Out | Place::OutOutdated => member.hot.place = Place::Entering,
        }
        let mut moved = None;
        if was_out && member.hot.standing == Standing::Banned {
            member.hot.standing = Standing::Probation;
            member.hot.probation_left = probation;
            member.hot.until = RoundId(0);
            member.profile.reason = "the ban is over".into();
            member.profile.decided_by = None;
            moved = Some(Move {
                index,
                node: join.node,
                round: settled,
                now_ms,
                from: Standing::Banned,
                to: Standing::Probation,
                strikes: member.hot.strikes,
                until: None,
                reason: member.profile.reason.clone(),
                by: Author::Host,
            });
        }
        fx.profile(join.node, member);
        fx.hot(number);
        if was_out {
            self.meta.joins = self.meta.joins.saturating_add(1);
        }
        if let Some(moved) = moved {
            fx.moved(moved);
        }
        Ok(Reply::Joined { new })
    }

    /// Counts the member in the group of its address and out of the one before; gives the group's index.
    fn regroup(&mut self, join: &Join) -> u32 {
        let to = network(&join.ip);
        if let Some(member) = self.members.get(&join.node) {
            let from = network(&member.profile.ip);
            if from == to {
                return member.profile.group;
            }
            self.ungroup(from);
        }
        let unused = self.groups.values().map(|group| group.index.saturating_add(1)).max().unwrap_or(0);
        let group = self.groups.entry(to).or_insert(Group { index: unused, members: 0 });
        group.members += 1;
        let index = group.index;
        match self.meta.group_joins.iter_mut().find(|(group, _)| *group == index) {
            Some((_, joins)) => *joins = joins.saturating_add(1),
            None => self.meta.group_joins.push((index, 1)),
        }
        index
    }

    fn ungroup(&mut self, network: Ip) {
        if let Some(group) = self.groups.get_mut(&network) {
            group.members -= 1;
            if group.members == 0 {
                self.groups.remove(&network);
            }
        }
    }

    pub(crate) fn leave(&mut self, leave: &Leave, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(leave.now_ms);
        let member = self.members.get_mut(&leave.node).ok_or(Reject::UnknownNode)?;
        if member.hot.place.is_out() || member.hot.place == Place::Leaving {
            return Ok(Reply::Done);
        }
        let lately = |at: &u64| now_ms.saturating_sub(*at) < GOODBYE_WINDOW_MS;
        if member.profile.goodbyes.iter().filter(|at| lately(at)).count() >= GOODBYES {
            return Err(Reject::SlowDown);
        }
        member.profile.goodbyes.retain(lately);
        member.profile.goodbyes.push(now_ms);
        if member.hot.place == Place::Entering {
            member.hot.place = Place::Out;
            member.hot.left = self.meta.settled;
        } else {
            member.hot.place = Place::Leaving;
        }
        fx.profile(leave.node, member);
        fx.hot(member.profile.number);
        Ok(Reply::Done)
    }

    pub(crate) fn outdated(&mut self, outdated: &Outdated, fx: &mut Effects) -> Result<Reply, Reject> {
        self.stamp(outdated.now_ms);
        if self.meta.settings.accept_versions.accepts(outdated.version) {
            return Ok(Reply::Done);
        }
        let member = self.members.get_mut(&outdated.node).ok_or(Reject::UnknownNode)?;
        member.profile.version = outdated.version;
        if member.hot.place == Place::Entering {
            member.hot.left = self.meta.settled;
        }
        member.hot.place = match member.hot.place {
            Place::Queued | Place::Leaving | Place::Outdated => Place::Outdated,
            Place::Entering | Place::Out | Place::OutOutdated => Place::OutOutdated,
        };
        fx.profile(outdated.node, member);
        fx.hot(member.profile.number);
        Ok(Reply::Done)
    }

    /// Moves members in and out of the queue and forgets those that are long gone. The queue changes here and nowhere else.
    pub(crate) fn turn_queue(&mut self, round: RoundId, fx: &mut Effects) {
        let keep_rounds = self.meta.settings.rounds_in_days(self.meta.settings.forget_days);
        let mut queue = Vec::with_capacity(self.queue.len() + self.meta.joins as usize);
        let mut closed = Vec::new();
        let mut forgotten = Vec::new();
        for (node, member) in &mut self.members {
            let hot = &mut member.hot;
            let before = hot.place;
            hot.place = match before {
                Place::Out | Place::OutOutdated => before,
                _ if hot.standing == Standing::Banned => Place::Out,
                Place::Entering | Place::Queued => Place::Queued,
                Place::Leaving => Place::Out,
                Place::Outdated => Place::OutOutdated,
            };
            if hot.place == Place::Queued {
                queue.push(*node);
            } else if !before.is_out() {
                hot.left = round;
                hot.presence = Presence::Unknown;
                hot.trusted_up = false;
                hot.rtt_us = 0;
                closed.push(*node);
            } else if hot.earned == Points::ZERO && round.since(hot.left.max(hot.until)) > keep_rounds {
                forgotten.push(*node);
                continue;
            }
            if hot.place != before || hot.by_hand {
                hot.by_hand = false;
                fx.hot(member.profile.number);
            }
        }
        for node in forgotten {
            self.forget(node, fx);
        }
        self.queue = queue.into();
        if !closed.is_empty() {
            fx.notices.push(Notice::Closed(closed));
        }
    }

    fn forget(&mut self, node: NodeId, fx: &mut Effects) {
        let Some(member) = self.members.remove(&node) else { return };
        let number = member.profile.number;
        self.numbers.remove(&number);
        self.ungroup(network(&member.profile.ip));
        fx.writes.push(Write::Profile(node, None));
        fx.hot(number);
        for slot in Slot::ALL {
            self.clear_memory(slot, number, fx);
        }
    }

    /// Sets what the slot's policy remembers of a member to zero, kept memory included.
    pub(crate) fn clear_memory(&mut self, slot: Slot, number: MemberNumber, fx: &mut Effects) {
        let block = number.0 / BLOCK_MEMBERS;
        let state = self.slot_mut(slot);
        for (saved, memory) in [(false, &mut state.memory), (true, &mut state.saved)] {
            if memory.clear(number) {
                let bytes = memory.blocks.get(&block).cloned();
                fx.writes.push(Write::Memory { slot, saved, block, bytes });
            }
        }
    }

    /// What a member is told after a settlement.
    #[must_use]
    pub fn told(&self, node: &NodeId) -> Option<Told> {
        let member = self.members.get(node)?;
        Some(Told {
            node: *node,
            round: self.meta.settled,
            presence: member.hot.presence,
            standing: member.hot.standing,
            reason: member.profile.reason.clone(),
            earned: member.hot.earned,
            wallet: self.wallets.get(node).map_or(Points::ZERO, |wallet| wallet.balance),
            until: Some(member.hot.until).filter(|until| *until > RoundId(0)),
        })
    }
}

impl Member {
    /// Whether a hello says nothing new.
    fn says(&self, join: &Join) -> bool {
        let p = &self.profile;
        (&p.name, p.version, &p.software, p.ip, p.port, &p.rest)
            == (&join.name, join.version, &join.software, join.ip, join.port, &join.rest)
    }

    fn hear(&mut self, join: &Join, group: u32) {
        let p = &mut self.profile;
        p.name.clone_from(&join.name);
        p.version = join.version;
        p.software.clone_from(&join.software);
        p.ip = join.ip;
        p.port = join.port;
        p.rest.clone_from(&join.rest);
        p.group = group;
    }
}

/// Whether a text is short and printable ASCII.
#[must_use]
pub fn is_printable(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}
