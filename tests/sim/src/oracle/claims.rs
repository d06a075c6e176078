//! The books as the oracle keeps them: what was issued, paid and acknowledged.

use std::collections::BTreeMap;

use kernel::command::Claim;
use kernel::id::NodeId;
use kernel::outcome::{Reject, Reply};
use kernel::units::Points;

use super::Oracle;

/// See the head of the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    earned: BTreeMap<NodeId, i64>,
    wallets: BTreeMap<NodeId, i64>,
    /// Claims that moved points, by key and sequence, with what they were answered.
    answers: BTreeMap<(NodeId, u64), Result<Reply, Reject>>,
}

impl Ledger {
    pub(super) fn earn(&mut self, node: NodeId, points: i64) {
        *self.earned.entry(node).or_default() += points;
    }
}

impl Oracle {
    /// A claim was committed: what it moved, and that it moves it once.
    pub(super) fn claimed(&mut self, claim: &Claim, reply: &Result<Reply, Reject>) {
        let key = (claim.node, claim.sequence);
        let member = self.state.members.get(&claim.node).map_or(0, |member| member.hot.earned.0);
        let wallet = self.state.wallets.get(&claim.to).map_or(0, |wallet| wallet.balance.0);
        let earned = self.ledger.earned.entry(claim.node).or_default();
        let held = self.ledger.wallets.entry(claim.to).or_default();
        let (lost, won) = (*earned - member, wallet - *held);
        (*earned, *held) = (member, wallet);
        let moved = lost != 0 || won != 0;
        let expected = match reply {
            Ok(Reply::Claimed(claimed)) => (claimed.paid.0, claimed.paid.0),
            Err(Reject::Overclaim { penalty, .. }) => (penalty.0, 0),
            _ => (0, 0),
        };
        if moved && (lost, won) != expected {
            self.wrong(format!("claim {} of {} moved {lost} and {won}: {reply:?}", claim.sequence, claim.node.short()));
        }
        if moved && self.ledger.answers.contains_key(&key) {
            self.wrong(format!("claim {} of {} was paid twice", claim.sequence, claim.node.short()));
        }
        let is_answer = matches!(reply, Ok(Reply::Claimed(_)) | Err(Reject::Overclaim { .. }));
        if is_answer {
            let first = self.ledger.answers.entry(key).or_insert_with(|| reply.clone());
            if first != reply {
                let what =
                    format!("claim {} of {} was answered {first:?} and {reply:?}", claim.sequence, claim.node.short());
                self.wrong(what);
            }
        }
    }

    /// A follower got this answer.
    pub(crate) fn acknowledged(&mut self, claim: &Claim, answer: &Result<Reply, Reject>) {
        let is_answer = matches!(answer, Ok(Reply::Claimed(_)) | Err(Reject::Overclaim { .. }));
        if is_answer && self.ledger.answers.get(&(claim.node, claim.sequence)) != Some(answer) {
            self.wrong(format!("claim {} of {} was acknowledged and is lost", claim.sequence, claim.node.short()));
        }
    }

    /// The books close, and are what was seen to be paid.
    pub(super) fn check_books(&mut self) {
        if self.state.sum() != 0 {
            self.wrong(format!("the sum of all accounts is {}", self.state.sum()));
        }
        for (node, member) in &self.state.members {
            let expected = self.ledger.earned.get(node).copied().unwrap_or_default();
            if member.hot.earned != Points(expected) {
                let what = format!("{} has earned {}, and was paid {expected}", node.short(), member.hot.earned);
                self.wrong.get_or_insert(what);
            }
        }
    }
}
