//! What a script sees of an outcome and of the state, in words.

use super::world::{World, name};
use crate::decide::Slot;
use crate::id::{Digest, NodeId, RoundId};
use crate::outcome::{Author, Notice, Outcome, Reject, Reply, RoundRecord};
use crate::records::order::Ordered;
use crate::round::cause;
use crate::state::State;

/// The lines of an outcome; in short ones a settled round is silent where nothing else happened.
pub(crate) fn outcome(world: &World, outcome: &Outcome, short: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut moves: Vec<(Vec<NodeId>, String)> = Vec::new();
    for notice in &outcome.notices {
        if let Notice::Moved(moved) = notice {
            let by = match moved.by {
                Author::Policy(digest) => rule(world, digest),
                Author::Host => "host".into(),
                Author::Operator(_) => "operator".into(),
            };
            let until = moved.until.map_or_else(String::new, |until| format!(" until {until}"));
            let text =
                format!("{} -> {}{until}, strikes {}, by {by} ({})", moved.from, moved.to, moved.strikes, moved.reason);
            match moves.iter_mut().find(|(_, other)| *other == text) {
                Some((nodes, _)) => nodes.push(moved.node),
                None => moves.push((vec![moved.node], text)),
            }
        } else if let Some(line) = notice_line(world, notice, short) {
            lines.push(line);
        }
    }
    lines.extend(moves.into_iter().map(|(nodes, text)| format!("{} {text}", names(&nodes))));
    match &outcome.reply {
        Ok(Reply::Settled { .. }) => {
            let round = format!("{}: ", world.state.meta.settled);
            lines.into_iter().map(|line| format!("{round}{line}")).collect()
        }
        reply => {
            lines.insert(0, reply_line(world, reply));
            lines
        }
    }
}

fn notice_line(world: &World, notice: &Notice, short: bool) -> Option<String> {
    Some(match notice {
        Notice::Round(record) if !short => round(record),
        Notice::Round(_) | Notice::Moved(_) | Notice::Claimed { .. } | Notice::Leader { .. } => return None,
        Notice::Policy { slot, policy, what, round, detail } => {
            let policy = policy.map_or_else(|| "none".into(), |digest| rule(world, digest));
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            format!("{slot} {policy} {what}, round {round}{detail}")
        }
        Notice::AskOperator { rounds, .. } => format!("ask the operator: {rounds} suspect rounds in a row"),
        Notice::Ordered(batch) => format!("batch {} ordered: {} records", batch.number, batch.count),
        Notice::Sealed(batch) => format!("batch {} sealed", batch.number),
        Notice::Validators { version } => format!("validators, version {version}"),
        Notice::Closed(nodes) => format!("closed {}", names(nodes)),
        Notice::Changed(change) => {
            let (from, to) = (digests(world, &change.from), digests(world, &change.to));
            let reason =
                if change.reason.is_empty() { String::new() } else { format!(" ({})", digests(world, &change.reason)) };
            format!("log: {}: {from} -> {to}{reason}", digests(world, &change.what))
        }
    })
}

fn round(record: &RoundRecord) -> String {
    let (up, down, unknown) = record.counts;
    let mut text = format!("{up} up, {down} down, {unknown} unknown, issued {}", record.issued);
    for (count, word) in [(record.deferred, "deferred"), (record.held, "held"), (record.clamped, "clamped")] {
        if count > 0 {
            text += &format!(", {count} {word}");
        }
    }
    for (bit, name) in cause::NAMES.iter().enumerate() {
        if record.marks.causes & (1 << bit) != 0 {
            text += &format!(", suspect: {name}");
        }
    }
    text
}

fn reply_line(world: &World, reply: &Result<Reply, Reject>) -> String {
    match reply {
        Ok(Reply::Done) => "ok".into(),
        Ok(Reply::Joined { new: true }) => "joined".into(),
        Ok(Reply::Joined { new: false }) => "known".into(),
        Ok(Reply::Settled { round }) => format!("settled {round}"),
        Ok(Reply::Claimed(claimed)) => {
            format!("paid {}, earned {}, wallet {}", claimed.paid, claimed.earned, claimed.wallet)
        }
        Ok(Reply::From { round, memory_empty: 0 }) => format!("from round {round}"),
        Ok(Reply::From { round, memory_empty }) => format!("from round {round}, memory of {memory_empty} starts empty"),
        Ok(Reply::Changed { count }) => format!("changed {count}"),
        Ok(Reply::Received { bytes }) => format!("received {bytes}"),
        Ok(Reply::Staged { memory_empty, .. }) => format!("staged, memory of {memory_empty} would start empty"),
        Ok(Reply::Ordered(answers)) => {
            let told = |answer: &Ordered| match answer {
                Ordered::At { sequence, batch } => format!("{sequence} in batch {batch}"),
                Ordered::Refused(reject) => reply_line(world, &Err((**reject).clone())),
            };
            answers.iter().map(told).collect::<Vec<_>>().join(", ")
        }
        Ok(Reply::Transferred(done)) => {
            format!("transferred {}, credited {}, wallet {}", done.amount, done.credited, done.wallet)
        }
        Err(Reject::Overclaim { penalty, earned }) => format!("refused overclaim: penalty {penalty}, earned {earned}"),
        Err(Reject::StaleSettlement { settled, why }) => {
            format!("refused after round {settled}: {}", digests(world, why))
        }
        Err(Reject::Expired { now_ms }) => format!("refused expired: it is {}", ago(world, *now_ms)),
        Err(Reject::ExpiresTooLate { latest_ms }) => {
            format!("refused: the latest expiry is {}", ago(world, *latest_ms))
        }
        Err(reject) => format!("refused {reject:?}"),
    }
}

fn ago(world: &World, at_ms: u64) -> String {
    format!("now {:+} ms", at_ms as i64 - world.now_ms as i64)
}

/// A member in one line.
pub(crate) fn member(state: &State, node: &NodeId) -> String {
    let Some(member) = state.members.get(node) else { return format!("{} unknown", name(*node)) };
    let hot = &member.hot;
    let mut text = format!("{} {}, strikes {}", name(*node), hot.standing, hot.strikes);
    if hot.until > RoundId(0) {
        text += &format!(", until {}", hot.until);
    }
    if hot.probation_left > 0 {
        text += &format!(", probation {}", hot.probation_left);
    }
    let wallet = state.wallets.get(node).map_or(0, |wallet| wallet.balance.0);
    text += &format!(", age {}, earned {}, wallet {wallet}, {:?}, {}", hot.age, hot.earned, hot.place, hot.presence);
    let mut memory = Vec::new();
    for slot in Slot::ALL {
        state.slot(slot).memory.read(member.profile.number, &mut memory);
    }
    if !memory.is_empty() {
        text += &format!(", memory {memory:?}");
    }
    if !member.profile.reason.is_empty() {
        text += &format!(" ({})", member.profile.reason);
    }
    text
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(|node| name(*node)).collect::<Vec<_>>().join(" ")
}

fn rule(world: &World, digest: Digest) -> String {
    world.rules.get(&digest).cloned().unwrap_or_else(|| digest.to_string())
}

/// A text with rules for digests and names for keys.
fn digests(world: &World, text: &str) -> String {
    let words = text.split(' ').map(|word| match (word.parse(), word.len()) {
        (Ok(digest), _) => rule(world, digest),
        (Err(_), 64) => named(word),
        (Err(_), _) => word.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn named(hex: &str) -> String {
    let bytes =
        hex.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok());
    bytes.take_while(|byte| *byte != 0).map(char::from).collect()
}
