//! What operators decide: one entry of the log each, with who, when, from what to what, and why in the change log.
//!
//! Invariant: all or nothing. A decision about a member counts at once and beats the judgement that is in flight; a
//! decision about rules counts from a round on (PROTOCOLS 4.4, 6.8, 7, 11, 12).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Compensation, Operate, Operation, Operator, SettingChange};
use crate::decide::Slot;
use crate::id::{Digest, LogIndex, NodeId, RoundId};
use crate::ledger::Account;
use crate::limits::{COMPENSATION_POINTS, COMPENSATIONS, LIFTS, NOTICE_ROUNDS, REASON_BYTES, SETTING_CHANGES};
use crate::members::Member;
use crate::outcome::{Author, Change, Kind, Line, Move, Notice, Reject, Reply, Write};
use crate::policies::{EMERGENCY, Shadowed, SlotRow, name_of, same_schema};
use crate::round::Presence;
use crate::settings::Settings;
use crate::standing::Standing;
use crate::state::{Effects, State};
use crate::units::Points;

/// Who decides, when and why: the same for all that one entry does.
#[derive(Clone, Copy)]
struct Decision<'a> {
    by: Operator,
    reason: &'a str,
    now_ms: u64,
}

impl State {
    pub(crate) fn operate(&mut self, operate: &Operate, fx: &mut Effects) -> Result<Reply, Reject> {
        check_reason(&operate.reason)?;
        let now_ms = self.stamp(operate.now_ms);
        let decision = Decision { by: operate.by, reason: &operate.reason, now_ms };
        match &operate.what {
            Operation::AcceptRound => self.accept_round(decision, fx),
            Operation::AcceptPolicy(slot) => self.accept_policy(*slot, decision, fx),
            Operation::Ban { node, rounds } => self.ban(*node, *rounds, decision, fx),
            Operation::LiftNodes(nodes) => self.lift_nodes(nodes, decision, fx),
            Operation::LiftPolicy { policy, since } => self.lift_policy(*policy, *since, decision, fx),
            Operation::Compensate(lines) => self.compensate(lines, decision, fx),
            Operation::SetClass { node, class } => self.set_class(*node, *class, decision, fx),
            Operation::Set(changes) => self.set(changes, decision, fx),
            Operation::FileSettings(said) => self.file_settings(said, decision, fx),
            Operation::Activate { slot, policy, round } => self.put(*slot, *policy, (*round, false), decision, fx),
            Operation::Emergency { slot, policy, round } => self.put(*slot, *policy, (*round, true), decision, fx),
            Operation::Shadow { slot, policy } => self.shadow(*slot, *policy, decision, fx),
            Operation::Rollback(slot) => {
                let before = self.slot(*slot).row.clone();
                let reply = self.rollback(*slot, decision.by, fx)?;
                let scheduled = self.slot(*slot).row.scheduled.filter(|_| self.slot(*slot).row != before);
                let after = scheduled.map_or(before.active, |s| s.policy);
                Ok(decision.scheduled(*slot, (before.active, after), reply, false, fx))
            }
            Operation::SetBuiltin { slot, policy } => self.set_builtin(*slot, *policy, decision, fx),
            Operation::FileSaid { slot, policy } => self.file_said(*slot, *policy, decision, fx),
            Operation::AddValidator(validator) => self.add_validator(validator, (operate.by, &operate.reason), fx),
            Operation::RemoveValidator(node) => self.remove_validator(*node, (operate.by, &operate.reason), fx),
            Operation::RetryBatch(batch) => self.retry_batch(*batch, (operate.by, &operate.reason), fx),
        }
    }

    /// Activates a policy, with notice or as an emergency.
    fn put(
        &mut self,
        slot: Slot,
        policy: Digest,
        (round, emergency): (Option<RoundId>, bool),
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let before = self.slot(slot).row.active;
        let reply = self.activate(slot, policy, (round, emergency), decision.by, fx)?;
        Ok(decision.scheduled(slot, (before, Some(policy)), reply, emergency, fx))
    }

    /// Lets a staged policy run beside the active one, or none any more.
    fn shadow(
        &mut self,
        slot: Slot,
        policy: Option<Digest>,
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        if slot == Slot::Signing {
            let what = "the slot: what a signing policy says is signed, and nothing runs beside it; try it with `pingward policy test`";
            return Err(Reject::Malformed { what: what.into() });
        }
        if policy.is_some_and(|policy| self.policies.get(&policy).is_none_or(|row| row.slot != slot)) {
            return Err(Reject::UnknownPolicy);
        }
        let (since, settled) = (fx.index, self.meta.settled);
        let memory_empty = policy.map_or(0, |policy| self.memory_empty(slot, policy));
        let row = &mut self.slot_mut(slot).row;
        if policy.is_some() && policy == row.active {
            let what = "digest: this policy decides already; name one that is staged";
            return Err(Reject::Malformed { what: what.into() });
        }
        let reply = Reply::From { round: settled.next(), memory_empty };
        let before = row.shadow.map(|shadow| shadow.policy);
        // Asked again: it goes on.
        if before == policy {
            return Ok(reply);
        }
        let old = SlotRow { shadow: row.shadow, ..SlotRow::default() };
        row.shadow = policy.map(|policy| Shadowed { policy, since, round: settled });
        fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
        self.note_unused(slot, &old, fx);
        let shown = |policy: Option<Digest>| policy.map_or_else(String::new, |policy| policy.to_string());
        decision.change(format!("policy {slot} shadow"), shown(before), shown(policy), fx);
        fx.notices.push(Notice::Policy {
            slot,
            policy: policy.or(before),
            what: if policy.is_some() { "shadow" } else { "shadow_ended" },
            round: settled.next(),
            detail: String::new(),
        });
        Ok(reply)
    }

    /// Those up in the last settled round become the trusted presence, and the count of suspect rounds begins anew.
    fn accept_round(&mut self, decision: Decision<'_>, fx: &mut Effects) -> Result<Reply, Reject> {
        if self.meta.settled == RoundId(0) {
            return Err(Reject::NothingSettled);
        }
        let mut up = 0;
        for (_, member) in self.members.iter_mut().filter(|(_, member)| member.hot.place.is_queued()) {
            let is_up = member.hot.presence == Presence::Up;
            up += u64::from(is_up);
            if member.hot.trusted_up != is_up {
                member.hot.trusted_up = is_up;
                fx.hot(member.profile.number);
            }
        }
        let from = format!("round {}", self.meta.trusted);
        self.meta.trusted = self.meta.settled;
        self.meta.suspect_rounds = 0;
        let to = format!("round {}: {up} of {} up", self.meta.settled, self.queue.len());
        decision.change("trusted presence".into(), from, to, fx);
        Ok(Reply::Changed { count: up })
    }

    /// Moves of a slot up to here do not count towards its cap over time.
    fn accept_policy(&mut self, slot: Slot, decision: Decision<'_>, fx: &mut Effects) -> Result<Reply, Reject> {
        if slot != Slot::Ban {
            let what = format!("the slot: the {slot} policy moves nobody, nothing of it is held back; use ban");
            return Err(Reject::Malformed { what });
        }
        let settled = self.meta.settled;
        let row = &mut self.slot_mut(slot).row;
        let from = if row.held { "held".into() } else { String::new() };
        row.moves_accepted = settled;
        row.held = false;
        fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
        decision.change(format!("policy {slot} accepted"), from, format!("moves up to round {settled}"), fx);
        Ok(Reply::Done)
    }

    fn ban(&mut self, node: NodeId, rounds: u64, decision: Decision<'_>, fx: &mut Effects) -> Result<Reply, Reject> {
        let longest = self.meta.settings.longest_ban_rounds();
        if !(1..=longest).contains(&rounds) {
            return Err(Reject::OutOfBounds { what: "rounds".into(), min: 1, max: longest });
        }
        let until = self.meta.settled.plus(rounds);
        let member = self.members.get(&node).ok_or_else(|| self.no_member(&node))?;
        let (from, strikes) = (member.hot.standing, member.hot.strikes);
        self.place_by_hand(node, Standing::Banned, strikes, until, decision, fx);
        decision.change(format!("member {node}"), from.to_string(), format!("banned through round {until}"), fx);
        fx.notices.push(Notice::Closed(Vec::from([node])));
        Ok(Reply::Changed { count: 1 })
    }

    /// Why a key is nobody to decide about: a super's is never in the queue.
    fn no_member(&self, node: &NodeId) -> Reject {
        let is_super = self.meta.seats.iter().any(|row| row.holder.node == *node);
        if is_super { Reject::WrongRole } else { Reject::UnknownNode }
    }

    /// Makes members good again, with no strikes and nothing remembered.
    fn lift_nodes(&mut self, nodes: &[NodeId], decision: Decision<'_>, fx: &mut Effects) -> Result<Reply, Reject> {
        // Whoever is named twice is lifted once.
        let nodes: BTreeSet<NodeId> = nodes.iter().copied().collect();
        if nodes.is_empty() || nodes.len() > LIFTS {
            return Err(Reject::OutOfBounds { what: "nodes".into(), min: 1, max: LIFTS as u64 });
        }
        if let Some(node) = nodes.iter().find(|node| !self.members.contains_key(*node)) {
            return Err(self.no_member(node));
        }
        for node in &nodes {
            self.place_by_hand(*node, Standing::Good, 0, RoundId(0), decision, fx);
            let Some(number) = self.members.get(node).map(|member| member.profile.number) else { continue };
            for saved in [false, true] {
                self.clear_memory(Slot::Ban, saved, number, fx);
            }
        }
        let to = match (nodes.first(), nodes.len()) {
            (Some(node), 1) => format!("{node} is good"),
            (_, count) => format!("{count} members are good"),
        };
        decision.change("bans lifted".into(), String::new(), to, fx);
        Ok(Reply::Changed { count: nodes.len() as u64 })
    }

    /// Undoes what a policy did since a round: who was put out by it, or by another one after its own wish was held back,
    /// is good again, also when it is back on probation; whose move was held back has no strikes any more.
    fn lift_policy(
        &mut self,
        policy: Digest,
        since: RoundId,
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let held = |member: &Member| member.hot.held_by == Some(policy) && member.hot.held_at >= since;
        let put_out = |member: &Member| {
            let hot = &member.hot;
            let suffers = hot.standing.is_out() || hot.standing == Standing::Probation;
            suffers && hot.moved_out >= since && (member.profile.decided_by == Some(policy) || held(member))
        };
        let touched: Vec<(NodeId, bool)> = self
            .members
            .iter()
            .filter(|(_, member)| put_out(member) || held(member))
            .map(|(node, member)| (*node, put_out(member)))
            .collect();
        for (node, put_out) in &touched {
            let Some(member) = self.members.get(node) else { continue };
            let hot = &member.hot;
            let (to, until) = if *put_out { (Standing::Good, RoundId(0)) } else { (hot.standing, hot.until) };
            self.place_by_hand(*node, to, 0, until, decision, fx);
            self.clear_memory_of(policy, *node, fx);
        }
        let (all, out) = (touched.len(), touched.iter().filter(|(_, put_out)| *put_out).count());
        let from = format!("by {policy} since round {since}");
        decision.change("bans lifted".into(), from, format!("{out} members are good, {} were held", all - out), fx);
        Ok(Reply::Changed { count: all as u64 })
    }

    /// Sets what a ban policy remembers of a member to zero: only its own memory, where that is known to be another than
    /// that of the policy before.
    fn clear_memory_of(&mut self, policy: Digest, node: NodeId, fx: &mut Effects) {
        let Some(number) = self.members.get(&node).map(|member| member.profile.number) else { return };
        let row = &self.slot(Slot::Ban).row;
        let (active, previous) = (row.active == Some(policy), row.previous == Some(policy));
        let describe = |digest: Option<Digest>| digest.and_then(|d| self.policies.get(&d)).map(|row| &row.description);
        let apart = match (describe(row.active), describe(row.previous)) {
            (Some(active), Some(previous)) => !same_schema(active, previous),
            _ => !self.slot(Slot::Ban).saved.blocks.is_empty(),
        };
        if active || !(previous && apart) {
            self.clear_memory(Slot::Ban, false, number, fx);
        }
        if previous || !(active && apart) {
            self.clear_memory(Slot::Ban, true, number, fx);
        }
    }

    /// Sets a member's standing. The queue itself changes with the next settlement only.
    fn place_by_hand(
        &mut self,
        node: NodeId,
        to: Standing,
        strikes: u16,
        until: RoundId,
        decision: Decision<'_>,
        fx: &mut Effects,
    ) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let hot = &mut member.hot;
        let (from, same) = (hot.standing, (hot.standing, hot.until) == (to, until));
        hot.standing = to;
        hot.strikes = strikes;
        hot.until = until;
        if to != Standing::Probation {
            hot.probation_left = 0;
        }
        hot.by_hand = true;
        hot.held_by = None;
        hot.held_at = RoundId(0);
        if !to.is_out() {
            hot.moved_out = RoundId(0);
        }
        fx.hot(member.profile.number);
        if !same {
            member.profile.reason = if to.is_out() { decision.reason.to_string() } else { String::new() };
            member.profile.decided_by = None;
            fx.profile(node, member);
            fx.moved(Move {
                index: LogIndex(0),
                node,
                round: self.meta.settled,
                now_ms: decision.now_ms,
                from,
                to,
                strikes,
                until: Some(until).filter(|until| *until > RoundId(0)),
                reason: decision.reason.to_string(),
                by: Author::Operator(decision.by),
            });
        }
    }

    fn compensate(
        &mut self,
        lines: &[Compensation],
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        if lines.is_empty() || lines.len() > COMPENSATIONS {
            return Err(Reject::OutOfBounds { what: "lines".into(), min: 1, max: COMPENSATIONS as u64 });
        }
        let mut sum = Points::ZERO;
        for line in lines {
            check_reason(&line.reason)?;
            if !(1..=COMPENSATION_POINTS).contains(&line.points.0) {
                return Err(Reject::OutOfBounds { what: "points".into(), min: 1, max: COMPENSATION_POINTS as u64 });
            }
            if line.round > self.meta.settled {
                return Err(Reject::OutOfBounds { what: "round".into(), min: 0, max: self.meta.settled.0 });
            }
            if !self.members.contains_key(&line.node) {
                return Err(self.no_member(&line.node));
            }
            sum = sum.plus(line.points);
        }
        for line in lines {
            let Some(member) = self.members.get_mut(&line.node) else { continue };
            let paid = self.meta.issue(&mut member.hot, line.points);
            fx.hot(member.profile.number);
            fx.line(Line {
                round: line.round,
                reason: line.reason.clone(),
                ..self.line(Kind::Compensation, Account::Treasury, Account::Earned(line.node), paid, decision.now_ms)
            });
        }
        let to = format!("{sum} points in {} lines", lines.len());
        decision.change("compensation".into(), String::new(), to, fx);
        Ok(Reply::Changed { count: lines.len() as u64 })
    }

    fn set_class(
        &mut self,
        node: NodeId,
        class: u32,
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let no_member = self.no_member(&node);
        let member = self.members.get_mut(&node).ok_or(no_member)?;
        let from = member.profile.class;
        member.profile.class = class;
        fx.profile(node, member);
        decision.change(format!("class of {node}"), from.to_string(), class.to_string(), fx);
        Ok(Reply::Changed { count: u64::from(from != class) })
    }

    /// Changes settings from last settled + 2 on, the accepted versions at once.
    fn set(&mut self, changes: &[SettingChange], decision: Decision<'_>, fx: &mut Effects) -> Result<Reply, Reject> {
        if changes.is_empty() || changes.len() > SETTING_CHANGES {
            return Err(Reject::OutOfBounds { what: "settings".into(), min: 1, max: SETTING_CHANGES as u64 });
        }
        let before = self.meta.settings_next.as_ref().map_or(&self.meta.settings, |(_, next)| next).clone();
        let mut next = before.clone();
        let refused = |key: &str, error| Reject::Setting { key: key.to_string(), error };
        for change in changes {
            next.put(&change.key, &change.value).map_err(|error| refused(&change.key, error))?;
        }
        next.check().map_err(|error| refused(changes.last().map_or("", |change| &change.key), error))?;
        let (old, new) = (before.entries(), next.entries());
        for ((key, from), (_, to)) in old.into_iter().zip(new).filter(|((_, from), (_, to))| from != to) {
            decision.change(format!("setting {key}"), from, to, fx);
        }
        let round = self.meta.settled.plus(NOTICE_ROUNDS);
        if next == before {
            return Ok(Reply::From { round: self.meta.settled.next(), memory_empty: 0 });
        }
        self.meta.settings.accept_versions = next.accept_versions.clone();
        self.meta.settings_next = Some((round, next));
        Ok(Reply::From { round, memory_empty: 0 })
    }

    /// Changes what the config file says otherwise than the last time it was read.
    fn file_settings(
        &mut self,
        said: &[SettingChange],
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        if said.len() > SETTING_CHANGES {
            return Err(Reject::OutOfBounds { what: "settings".into(), min: 0, max: SETTING_CHANGES as u64 });
        }
        let mut now: Vec<(String, String)> = said.iter().map(plain).collect();
        now.sort();
        now.dedup_by(|a, b| a.0 == b.0);
        let last = &self.meta.file_settings;
        let change = |(key, value): &(String, String)| SettingChange { key: key.clone(), value: value.clone() };
        let mut changes: Vec<SettingChange> = now.iter().filter(|one| !last.contains(one)).map(change).collect();
        let defaults = Settings::default();
        for (key, _) in last.iter().filter(|(key, _)| now.iter().all(|(other, _)| other != key)) {
            let value = defaults.value(key).unwrap_or_default();
            changes.push(SettingChange { key: key.clone(), value });
        }
        if changes.is_empty() {
            return Ok(Reply::Changed { count: 0 });
        }
        let reply = self.set(&changes, decision, fx)?;
        self.meta.file_settings = now;
        Ok(reply)
    }

    fn set_builtin(
        &mut self,
        slot: Slot,
        policy: Digest,
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        if self.policies.get(&policy).is_none_or(|row| row.slot != slot) {
            return Err(Reject::UnknownPolicy);
        }
        let row = &mut self.slot_mut(slot).row;
        let from = row.builtin.replace(policy);
        fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
        self.note_unused(slot, &SlotRow { builtin: from, ..SlotRow::default() }, fx);
        if from != Some(policy) {
            let from = from.map_or_else(String::new, |digest| digest.to_string());
            decision.change(format!("policy {slot} builtin"), from, policy.to_string(), fx);
        }
        Ok(Reply::Done)
    }

    fn file_said(
        &mut self,
        slot: Slot,
        policy: Digest,
        decision: Decision<'_>,
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let row = &mut self.slot_mut(slot).row;
        let from = row.file_said.replace(policy);
        fx.writes.push(Write::Slot(slot, Box::new(row.clone())));
        if from != Some(policy) {
            let from = from.map_or_else(String::new, |digest| digest.to_string());
            decision.change(format!("policy {slot} in the file"), from, policy.to_string(), fx);
        }
        Ok(Reply::Done)
    }
}

impl Decision<'_> {
    /// A line of the change log.
    fn change(self, what: String, from: String, to: String, fx: &mut Effects) {
        fx.change(Change {
            index: LogIndex(0),
            part: 0,
            now_ms: self.now_ms,
            by: Some(self.by),
            what,
            from,
            to,
            reason: self.reason.to_string(),
        });
    }

    /// The line of a change of rules; gives the reply that it follows from.
    fn scheduled(
        self,
        slot: Slot,
        (from, to): (Option<Digest>, Option<Digest>),
        reply: Reply,
        emergency: bool,
        fx: &mut Effects,
    ) -> Reply {
        if let Reply::From { round, .. } = &reply
            && from != to
        {
            let how = if emergency { format!("; {EMERGENCY}") } else { String::new() };
            self.change(format!("policy {slot} from round {round}{how}"), name_of(from), name_of(to), fx);
        }
        reply
    }
}

/// A setting with its full name and its value as the settings write it: `10_000` is no other value than `10000`. One that
/// they do not take stays as it is, to be refused.
fn plain(said: &SettingChange) -> (String, String) {
    let mut settings = Settings::default();
    let value = settings.put(&said.key, &said.value).ok().and_then(|()| settings.value(&said.key));
    (Settings::full_name(&said.key).to_string(), value.unwrap_or_else(|| said.value.clone()))
}

fn check_reason(reason: &str) -> Result<(), Reject> {
    if reason.len() <= REASON_BYTES {
        return Ok(());
    }
    Err(Reject::Malformed { what: format!("the reason: use at most {REASON_BYTES} bytes") })
}
