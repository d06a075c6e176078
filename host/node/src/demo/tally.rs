//! What happened, in lines and in sums.

use kernel::command::Operator;
use kernel::id::NodeId;
use kernel::outcome::{Author, Move, Notice, RoundRecord};
use kernel::records::order::Batch;
use kernel::standing::Standing;
use kernel::state::State;

use crate::client::printable;

/// Sums over the demo's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    rounds: u64,
    suspect: u64,
    points: i64,
    bans: u64,
    readmissions: u64,
    penalties: u64,
    penalty_points: i64,
    claims: u64,
    records: u64,
}

impl Tally {
    /// Counts a notice and gives the lines that tell it. Each begins with a word that `grep` finds.
    pub fn take(&mut self, notice: &Notice, state: &State) -> Vec<String> {
        match notice {
            Notice::Round(record) => self.round(record),
            Notice::Moved(moved) => self.moved(moved, &name(state, &moved.node)),
            Notice::Claimed { node, answer: Ok(paid) } => {
                self.claims += 1;
                let name = name(state, node);
                vec![format!(
                    "claim       {name} is paid {}: earned {}, wallet {}",
                    paid.paid, paid.earned, paid.wallet
                )]
            }
            Notice::Claimed { node, answer: Err((penalty, earned)) } => {
                self.penalties += 1;
                self.penalty_points += penalty.0;
                vec![format!(
                    "overclaim   {} claimed more than it earned: nothing is paid, penalty {penalty}, earned {earned}",
                    name(state, node)
                )]
            }
            Notice::Policy { slot, what, round, detail, .. } => {
                let detail = if detail.is_empty() { String::new() } else { format!(": {}", printable(detail)) };
                vec![format!("policy      {slot} {what}, round {round}{detail}")]
            }
            Notice::AskOperator { round, rounds } => vec![format!(
                "suspect     {rounds} suspect rounds in a row, up to round {round}: if the nodes are really gone, type `accept rounds`"
            )],
            Notice::Leader { term, leader, .. } => {
                let seat = state.meta.seats.iter().find(|row| row.holder.node == *leader);
                let name = seat.map(|row| row.holder.name.clone()).filter(|name| !name.is_empty());
                vec![format!("leader      {} leads in term {term}", name.unwrap_or_else(|| leader.short()))]
            }
            Notice::Changed(change) => {
                let by = change.by.map_or("cluster", by);
                vec![
                    format!(
                        "change      {} by {by}: {} -> {} {}",
                        change.what,
                        shown(&change.from),
                        shown(&change.to),
                        printable(&change.reason)
                    )
                    .trim_end()
                    .into(),
                ]
            }
            Notice::Validators { version } => vec![format!(
                "validators  set {version}: {} of them, {} signatures seal a batch",
                state.validators.set.len(),
                state.quorum()
            )],
            Notice::Sealed(batch) => self.sealed(batch, state),
            // The standing says why; a record is news when it is sealed.
            Notice::Closed(_) | Notice::Ordered(_) => Vec::new(),
        }
    }

    fn sealed(&mut self, batch: &Batch, state: &State) -> Vec<String> {
        let Some(sealed) = &batch.sealed else { return Vec::new() };
        let refused = sealed.codes.iter().filter(|code| **code != 0).count() as u64;
        self.records += u64::from(batch.count);
        let sequences = match batch.count {
            1 => format!("{}", batch.first_sequence),
            count => format!("{} to {}", batch.first_sequence, batch.first_sequence + u64::from(count) - 1),
        };
        let refused = if refused > 0 { format!(", {refused} of them refused") } else { String::new() };
        let (signers, set) = (sealed.signatures.len(), state.validators.set.len());
        vec![format!("record      {sequences} sealed by {signers} of {set} validators{refused}")]
    }

    fn round(&mut self, record: &RoundRecord) -> Vec<String> {
        let is_suspect = record.marks.is_suspect();
        self.rounds += 1;
        self.suspect += u64::from(is_suspect);
        self.points += record.issued.0;
        let (up, down, unknown) = record.counts;
        let suspect = if is_suspect { ", suspect: nobody is struck" } else { "" };
        let mut lines = vec![format!(
            "round {:<5} up {up}, down {down}, unknown {unknown}, issued {}{suspect}",
            record.round.0, record.issued
        )];
        for part in &record.slots {
            if let Some(fault) = &part.fault {
                lines.push(format!("fault       the {} rule failed, {fault}: the neutral decision stands", part.slot));
            }
        }
        if record.deferred + record.held > 0 {
            lines.push(format!("guardrail   {} bans deferred, {} moves held", record.deferred, record.held));
        }
        lines
    }

    fn moved(&mut self, moved: &Move, name: &str) -> Vec<String> {
        let word = match (moved.from, moved.to) {
            (_, Standing::Banned) => {
                self.bans += 1;
                "ban"
            }
            (Standing::Banned, Standing::Probation) => {
                self.readmissions += 1;
                "return"
            }
            (
                Standing::Good | Standing::Warned | Standing::Suspended | Standing::Banned | Standing::Probation,
                Standing::Good | Standing::Warned | Standing::Suspended | Standing::Probation,
            ) => "standing",
        };
        let until = moved.until.map(|until| format!(", until round {until}")).unwrap_or_default();
        let why = if moved.reason.is_empty() { String::new() } else { format!(" ({})", printable(&moved.reason)) };
        let by = match moved.by {
            Author::Policy(_) | Author::Host => String::new(),
            Author::Operator(operator) => format!(", by {}", by(operator)),
        };
        vec![format!(
            "{word:<11} {name} {} -> {}, strikes {}{until}{by}{why}",
            moved.from.name(),
            moved.to.name(),
            moved.strikes
        )]
    }

    /// The last lines.
    pub fn summary(&self) -> String {
        format!(
            "summary     rounds settled {}, suspect {}; points issued {}; bans {}; readmissions {}; over-claims penalised {} ({} points); claims paid {}; records sealed {}",
            self.rounds,
            self.suspect,
            self.points,
            self.bans,
            self.readmissions,
            self.penalties,
            self.penalty_points,
            self.claims,
            self.records
        )
    }
}

fn shown(text: &str) -> String {
    if text.is_empty() { "none".into() } else { printable(text) }
}

fn by(operator: Operator) -> &'static str {
    match operator {
        Operator::Token => "token",
        Operator::Socket => "socket",
        Operator::File => "file",
        Operator::Console => "console",
    }
}

/// The display name of a member, or its short key.
pub fn name(state: &State, node: &NodeId) -> String {
    let member = state.members.get(node).map(|member| member.profile.name.clone());
    member.filter(|name| !name.is_empty()).unwrap_or_else(|| node.short())
}

#[cfg(test)]
mod tests {
    use kernel::command::Amount;
    use kernel::id::{LogIndex, RoundId};
    use kernel::outcome::Claimed;
    use kernel::units::Points;

    use super::*;

    fn moved(from: Standing, to: Standing, until: Option<u64>) -> Notice {
        Notice::Moved(Box::new(Move {
            index: LogIndex(1),
            node: NodeId([7; 32]),
            round: RoundId(6),
            now_ms: 0,
            from,
            to,
            strikes: 4,
            until: until.map(RoundId),
            reason: "4 misses".into(),
            by: Author::Host,
        }))
    }

    #[test]
    fn bans_returns_and_penalties_are_counted_and_begin_with_their_word() {
        let state = State::default();
        let mut tally = Tally::default();
        let mut lines = Vec::new();
        let paid = Claimed { amount: Amount::All, paid: Points(5), earned: Points(0), wallet: Points(5) };
        for notice in [
            moved(Standing::Good, Standing::Warned, None),
            moved(Standing::Suspended, Standing::Banned, Some(11)),
            moved(Standing::Banned, Standing::Probation, None),
            Notice::Claimed { node: NodeId([7; 32]), answer: Err((Points(5), Points(15))) },
            Notice::Claimed { node: NodeId([7; 32]), answer: Ok(paid) },
            Notice::Closed(vec![NodeId([7; 32])]),
        ] {
            lines.extend(tally.take(&notice, &state));
        }
        assert_eq!(
            lines,
            [
                "standing    07070707 good -> warned, strikes 4 (4 misses)",
                "ban         07070707 suspended -> banned, strikes 4, until round 11 (4 misses)",
                "return      07070707 banned -> probation, strikes 4 (4 misses)",
                "overclaim   07070707 claimed more than it earned: nothing is paid, penalty 5, earned 15",
                "claim       07070707 is paid 5: earned 0, wallet 5",
            ]
        );
        assert_eq!(
            tally.summary(),
            "summary     rounds settled 0, suspect 0; points issued 0; bans 1; readmissions 1; over-claims penalised 1 (5 points); claims paid 1; records sealed 0"
        );
    }
}
