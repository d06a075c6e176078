//! The demo's cluster in words: its greeting, and the table.

use kernel::decide::Slot;
use kernel::id::{Digest, NodeId};
use kernel::standing::Standing;
use kernel::state::State;

use super::{Cluster, FOUNDER, Member};
use crate::context::SuperPart;
use crate::demo::screen::Row;

impl Cluster {
    /// What the demo is, in a line or two.
    pub fn greeting(&self) -> String {
        let id = self.read(|state| state.meta.cluster.to_string()).unwrap_or_default();
        let flaky = self.flaky();
        let flaky = if flaky.is_empty() { "none of them flaky".into() } else { format!("flaky: {}", flaky.join(", ")) };
        let supers = match self.supers.len() {
            1 => "1 super".to_owned(),
            count => format!("{count} supers"),
        };
        let validators = match self.validators.len() {
            0 => String::new(),
            count => format!(" {count} validators,"),
        };
        format!(
            "cluster {id}: {supers},{validators} {} followers ({flaky}), rounds of {} ms",
            self.followers.len(),
            self.round_ms
        )
    }

    /// What the table shows above its rows: the cluster, and each super where there are several.
    pub fn headline(&self) -> Vec<String> {
        let url = self.rest_url();
        let state = self.read(|state| {
            let suspect = if state.meta.suspect_rounds > 0 { ", suspect: nobody is struck" } else { "" };
            (state.meta.settled, state.meta.treasury.0, suspect)
        });
        let up = self.followers.iter().filter(|member| member.node.is_some()).count();
        let teller = self.best().map_or(FOUNDER, Member::name);
        let mut lines = vec![match state {
            Some((settled, treasury, suspect)) => format!(
                "{teller} {url}   round {settled} settled{suspect}   {up} of {} followers running   {} points issued",
                self.followers.len(),
                0_i64.saturating_sub(treasury)
            ),
            None => {
                format!("no super runs: `restart {FOUNDER}`   {up} of {} followers running", self.followers.len())
            }
        }];
        if self.supers.len() > 1 {
            let members = self.group().and_then(|group| group.members().ok()).unwrap_or_default();
            let leader = self.best().map(|best| best.key.id());
            lines.extend(self.supers.iter().map(|member| super_line(member, &members, leader)));
        }
        lines.extend(self.records_line());
        if let Some(part) = self.part() {
            lines.extend(Slot::ALL.into_iter().flat_map(|slot| rule_lines(part, slot)));
        }
        lines
    }

    /// How users' records are doing; `None` without validators.
    fn records_line(&self) -> Option<String> {
        if self.validators.is_empty() {
            return None;
        }
        let up = self.validators.iter().filter(|member| member.node.is_some()).count();
        self.read(|state| {
            let counters = &state.meta.records;
            let (quorum, waiting) = (state.quorum(), state.known.pending.len());
            let refused = if counters.refused > 0 { format!(", {} refused", counters.refused) } else { String::new() };
            let waiting = if waiting > 0 { format!(", {waiting} batches wait") } else { String::new() };
            format!(
                "records: {} signed{refused}{waiting}   {up} of {} validators running, {quorum} signatures seal a batch",
                counters.signed,
                self.validators.len()
            )
        })
    }

    /// A row for each follower.
    pub fn rows(&self) -> Vec<Row> {
        let all = self.read(|state| self.followers.iter().map(|member| row(member, Some(state))).collect());
        all.unwrap_or_else(|| self.followers.iter().map(|member| row(member, None)).collect())
    }
}

/// What is to come for a slot, and what runs beside its rule.
fn rule_lines(part: &SuperPart, slot: Slot) -> Vec<String> {
    let name = |state: &State, policy: Option<Digest>| {
        let row = policy.and_then(|policy| state.policies.get(&policy));
        row.map_or_else(|| "none".into(), |row| format!("{} {}", row.description.name, row.description.version))
    };
    let (scheduled, shadow) = part.group.read(|state| {
        let row = &state.slot(slot).row;
        let scheduled = row.scheduled.map(|next| (name(state, next.policy), next.round));
        (scheduled, row.shadow.map(|shadow| name(state, Some(shadow.policy))))
    });
    let mut lines = Vec::new();
    if let Some((next, round)) = scheduled {
        lines.push(format!("the {slot} rule changes with round {round}: {next}"));
    }
    if let (Some(shadow), Some(seen)) = (shadow, part.shadows.seen(slot)) {
        lines.push(format!(
            "beside the {slot} rule: {shadow}, {} rounds, {} members otherwise",
            seen.tally.rounds, seen.tally.members_otherwise
        ));
    }
    lines
}

/// A super in one line: what it is in the group, how far behind, and who is attached to it.
fn super_line(member: &Member, members: &[raft::Member], leader: Option<NodeId>) -> String {
    let name = member.name();
    let Some(part) = member.part() else { return format!("{name:<12} killed: `restart {name}`") };
    let id = member.key.id();
    let row = members.iter().rfind(|row| row.key == id);
    let leads = member.leadership().is_some_and(|now| now.ready);
    let role = match row {
        _ if leads && leader == Some(id) => "leader",
        // It does not know better: it is cut off.
        _ if leads => "deposed",
        Some(row) if row.voter => "voter",
        Some(_) => "learner",
        None => "no member",
    };
    let settled = part.group.read(|state| state.meta.settled);
    let lag = row.and_then(|row| row.lag).map_or_else(String::new, |lag| format!("   lag {lag}"));
    let silent = if row.is_some_and(|row| row.reachable == Some(false)) { "   out of reach" } else { "" };
    format!("{name:<12} {role:<8} round {settled}   {} attached{lag}{silent}", part.streams.count())
}

fn row(follower: &Member, state: Option<&State>) -> Row {
    let id = follower.key.id();
    let member = state.and_then(|state| state.members.get(&id));
    let wallet = state.and_then(|state| state.wallets.get(&id)).map_or(0, |wallet| wallet.balance.0);
    let mut notes = Vec::new();
    if follower.node.is_none() {
        notes.push("killed".into());
    } else if follower.faults.now().offline {
        notes.push("silent".into());
    }
    if let Some(member) = member {
        if member.hot.standing == Standing::Banned {
            notes.push(format!("until round {}", member.hot.until));
        } else if !member.hot.place.is_queued() {
            notes.push("not in the queue".into());
        }
    }
    Row {
        name: follower.name().into(),
        key: id.short(),
        presence: member.and_then(|member| member.hot.presence.name()).unwrap_or(crate::text::NONE),
        standing: member.map_or("", |member| member.hot.standing.name()),
        strikes: member.map_or(0, |member| member.hot.strikes),
        earned: member.map_or(0, |member| member.hot.earned.0),
        wallet,
        penalties: member.map_or(0, |member| member.hot.penalties.0),
        rtt_us: member.map_or(0, |member| member.hot.rtt_us),
        note: notes.join(", "),
    }
}
