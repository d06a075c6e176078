//! Who may come in, and how members come, go and come back (PROTOCOLS 2, 6.5).
//!
//! A hello is checked on the super that it reaches, by [`State::admits`]; what is new in it comes through the log as a
//! [`Join`], is checked again and takes effect at the next settlement. Keys are free, so that everything that a key can
//! fill is bounded: joins of a round, of a network group, of the queue, and rows in all.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Ip, Join, Leave, Outdated};
use crate::id::{MemberNumber, NodeId, ProtocolVersion, RoundId, is_name};
use crate::limits::{
    FULL_RETRY_ROUNDS, GOODBYE_WINDOW_MS, GOODBYES, HELLOS_ROUND, PONG_ADDRESS_CHARS, REFUSED_WAIT_MS,
};
use crate::members::{Hello, Member, Place, Profile, Refusal, is_printable, network};
use crate::outcome::{Author, Move, Reject, Reply};
use crate::standing::Standing;
use crate::state::{Effects, Group, Meta, State};

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
            Ok(()) => Ok(known.is_none_or(|member| member.is_told_by(join))),
            Err(Reject::WrongRole) => Err(Refusal::WrongRole),
            Err(Reject::SlowDown) => Err(Refusal::SlowDown { retry_ms: meta.settings.interval_ms }),
            Err(Reject::Full { what }) => {
                let rounds_ms = meta.settings.interval_ms.saturating_mul(FULL_RETRY_ROUNDS);
                Err(Refusal::Full { what, retry_ms: rounds_ms.min(REFUSED_WAIT_MS) })
            }
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
        if self.meta.seats.iter().any(|row| row.holder.node == join.node) || self.validators.get(&join.node).is_some() {
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
        let (enters, moves) = (enters(known), moves(known, &join.ip));
        if enters {
            self.has_room(known.is_none())?;
        }
        if enters || moves {
            self.has_room_in_group(&join.ip, moves)?;
        }
        if known.is_some_and(|member| member.is_told_by(join) && self.has_said_enough(member)) {
            return Err(Reject::SlowDown);
        }
        Ok(())
    }

    /// Whether as many hellos of a member went through the log since the last settlement as may.
    const fn has_said_enough(&self, member: &Member) -> bool {
        let (since, hellos) = member.profile.hellos;
        since.0 == self.meta.settled.0 && hellos >= HELLOS_ROUND
    }

    /// Whether a version that is not accepted is to be told to the log: it is a member's, and news.
    #[must_use]
    pub fn is_outdated_by(&self, node: &NodeId, version: ProtocolVersion) -> bool {
        self.members.get(node).is_some_and(|member| {
            let went = matches!(member.hot.place, Place::Outdated | Place::OutOutdated);
            (!went || member.profile.version != version) && !self.has_said_enough(member)
        })
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

    /// Whether one more may come from the network group of an address. A key that `moves` there counts like a new one; one
    /// that returns is a member of it already and uses up a join only.
    fn has_room_in_group(&self, ip: &Ip, moves: bool) -> Result<(), Reject> {
        let settings = &self.meta.settings;
        let Some(group) = self.groups.get(&network(ip)).filter(|_| !is_loopback(ip)) else { return Ok(()) };
        if moves && u64::from(group.members) >= settings.group_members {
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
        let known = self.members.get(&join.node);
        let counts = enters(known) || moves(known, &join.ip);
        let group = self.regroup(join);
        if counts {
            self.count_in_group(group);
        }
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
                hellos: (settled, 0),
            };
            self.members.insert(join.node, Member::new(profile));
        }
        let Some(member) = self.members.get_mut(&join.node) else { return Err(Reject::UnknownNode) };
        let number = member.profile.number;
        let was_out = member.hot.place.is_out();
        member.hear(join, group);
        member.profile.count_hello(settled);
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
        group.index
    }

    fn count_in_group(&mut self, index: u32) {
        match self.meta.group_joins.iter_mut().find(|(group, _)| *group == index) {
            Some((_, joins)) => *joins = joins.saturating_add(1),
            None => self.meta.group_joins.push((index, 1)),
        }
    }

    pub(crate) fn ungroup(&mut self, network: Ip) {
        if let Some(group) = self.groups.get_mut(&network) {
            group.members -= 1;
            if group.members == 0 {
                self.groups.remove(&network);
            }
        }
    }

    /// Whether a goodbye of this key would change anything: a member that is leaving or out has left already.
    #[must_use]
    pub fn can_leave(&self, node: &NodeId) -> bool {
        let place = self.members.get(node).map(|member| member.hot.place);
        matches!(place, Some(Place::Queued | Place::Entering))
    }

    pub(crate) fn leave(&mut self, leave: &Leave, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(leave.now_ms);
        let member = self.members.get_mut(&leave.node).ok_or(Reject::UnknownNode)?;
        match member.hot.place {
            Place::Queued | Place::Entering => {}
            // It is on its way out or out already. Who goes because of its version stays unpaid.
            Place::Leaving | Place::Outdated | Place::Out | Place::OutOutdated => return Ok(Reply::Done),
        }
        member.profile.say_goodbye(now_ms)?;
        if member.hot.place == Place::Entering {
            member.hot.place = Place::Out;
            member.hot.left = self.meta.settled;
            self.meta.uncount_join(member.profile.group);
        } else {
            member.hot.place = Place::Leaving;
        }
        fx.profile(leave.node, member);
        fx.hot(member.profile.number);
        Ok(Reply::Done)
    }

    pub(crate) fn outdated(&mut self, outdated: &Outdated, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(outdated.now_ms);
        let (node, version) = (outdated.node, outdated.version);
        let accept = &self.meta.settings.accept_versions;
        if accept.accepts(version) {
            return Ok(Reply::Done);
        }
        if self.members.contains_key(&node) && !self.is_outdated_by(&node, version) {
            return Err(Reject::SlowDown);
        }
        let member = self.members.get_mut(&node).ok_or(Reject::UnknownNode)?;
        // Where the version that it had would still do, it is the member that went, and that is a goodbye.
        let by_itself = accept.accepts(member.profile.version);
        if by_itself && matches!(member.hot.place, Place::Queued | Place::Entering) {
            member.profile.say_goodbye(now_ms)?;
        }
        member.profile.version = version;
        member.profile.count_hello(self.meta.settled);
        if member.hot.place == Place::Entering {
            member.hot.left = self.meta.settled;
            self.meta.uncount_join(member.profile.group);
        }
        member.hot.place = match member.hot.place {
            Place::Queued | Place::Leaving | Place::Outdated => Place::Outdated,
            Place::Entering | Place::Out | Place::OutOutdated => Place::OutOutdated,
        };
        fx.profile(node, member);
        fx.hot(member.profile.number);
        Ok(Reply::Done)
    }
}

impl Meta {
    /// A member that was to enter the queue does not. Without this, one key that comes and goes would use up the joins of
    /// everybody.
    fn uncount_join(&mut self, group: u32) {
        self.joins = self.joins.saturating_sub(1);
        if let Some((_, joins)) = self.group_joins.iter_mut().find(|(index, _)| *index == group) {
            *joins = joins.saturating_sub(1);
        }
    }
}

impl Profile {
    fn count_hello(&mut self, settled: RoundId) {
        let (since, hellos) = self.hellos;
        self.hellos = (settled, if since == settled { hellos.saturating_add(1) } else { 1 });
    }

    /// Counts a goodbye, while it takes effect.
    fn say_goodbye(&mut self, now_ms: u64) -> Result<(), Reject> {
        let lately = |at: &u64| now_ms.saturating_sub(*at) < GOODBYE_WINDOW_MS;
        if self.goodbyes.iter().filter(|at| lately(at)).count() >= GOODBYES {
            return Err(Reject::SlowDown);
        }
        self.goodbyes.retain(lately);
        self.goodbyes.push(now_ms);
        Ok(())
    }
}

/// Whether a join makes its node enter the queue: it uses up one of the round's.
fn enters(known: Option<&Member>) -> bool {
    known.is_none_or(|member| member.hot.place.is_out())
}

/// Whether a join brings its node into another network group.
fn moves(known: Option<&Member>, to: &Ip) -> bool {
    known.is_none_or(|member| network(&member.profile.ip) != network(to))
}

impl Member {
    /// Whether a hello has news of it, which go through the log.
    fn is_told_by(&self, join: &Join) -> bool {
        let p = &self.profile;
        !matches!(self.hot.place, Place::Queued | Place::Entering)
            || (&p.name, p.version, &p.software, p.ip, p.port, &p.rest)
                != (&join.name, join.version, &join.software, join.ip, join.port, &join.rest)
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

fn is_loopback(ip: &Ip) -> bool {
    match ip {
        Ip::V4([first, ..]) => *first == 127,
        Ip::V6(bytes) => *bytes == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    }
}

#[cfg(test)]
mod tests;
