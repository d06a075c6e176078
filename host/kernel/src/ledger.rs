//! Points: integers, double entry, and a sum that is always zero.
//!
//! `treasury` issues and takes back and is the only account that may be below zero; `earned:<node>` is what a member has
//! not claimed; `wallet:<key>` is what was claimed (PROTOCOLS 9).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};

use crate::command::{Amount, Claim, Transfer};
use crate::id::{Digest, LogIndex, NodeId};
use crate::limits::{CLAIMS_ROUND, EMPTY_WALLET_MS, SIGNED_EXPIRY_MS};
use crate::members::{ClaimAnswer, Hot, LastClaim, Member};
use crate::outcome::{Claimed, Kind, Line, Notice, Reject, Reply, Transferred, Write};
use crate::state::{Effects, Meta, State};
use crate::units::{BasisPoints, Points};

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Account {
    /// Issues points; below zero by as much as all others hold.
    #[n(0)]
    Treasury,
    /// What a member earned and has not claimed.
    #[n(1)]
    Earned(#[n(0)] NodeId),
    /// What a key holds.
    #[n(2)]
    Wallet(#[n(0)] NodeId),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Treasury => f.write_str("treasury"),
            Self::Earned(node) => write!(f, "earned:{node}"),
            Self::Wallet(key) => write!(f, "wallet:{key}"),
        }
    }
}

/// A wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Wallet {
    /// What it holds, never below zero.
    #[n(0)]
    pub balance: Points,
    /// Since when it is empty; dropped a day later.
    #[n(1)]
    pub empty_since_ms: Option<u64>,
    /// Its last transfer.
    #[n(2)]
    #[cbor(default)]
    pub transfer: Option<LastTransfer>,
}

/// The last transfer of a wallet, and its answer for whoever asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LastTransfer {
    /// Its sequence.
    #[n(0)]
    pub sequence: u64,
    /// Of its payload.
    #[n(1)]
    pub digest: Digest,
    /// What was done.
    #[n(2)]
    pub answer: Transferred,
    /// When it ends, ms since 1970: until then the wallet is kept, so that it cannot be done twice.
    #[n(3)]
    pub expires_ms: u64,
}

impl Wallet {
    /// Takes points that it holds.
    pub(crate) fn take(&mut self, points: Points, now_ms: u64) {
        self.balance = self.balance.minus(points);
        self.empty_since_ms = (self.balance == Points::ZERO).then_some(now_ms);
    }

    fn credit(&mut self, points: Points) {
        self.balance = self.balance.plus(points);
        if self.balance != Points::ZERO {
            self.empty_since_ms = None;
        }
    }
}

impl State {
    /// Moves earned points to a wallet (PROTOCOLS 9.2 to 9.4, 9.8). The same digest again gets the same answer; whatever
    /// else is not a new, live and payable claim costs nothing and uses up no sequence; an over-claim costs its penalty
    /// and uses up its sequence, in one. Between two settlements a key gets so many answers and no more: an over-claim of
    /// a key without points would be free otherwise, and each one is kept for ever.
    pub(crate) fn claim(&mut self, claim: &Claim, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(claim.now_ms);
        if let Some(answer) = self.answer_to_claim(claim) {
            return answer;
        }
        let earned = self.members.get(&claim.node).map_or(Points::ZERO, |member| member.hot.earned);
        match claim.amount {
            Amount::Exactly(amount) if amount > whole(earned) => Err(self.penalise(claim, amount, now_ms, fx)),
            Amount::Exactly(amount) => self.pay_out(claim, points(amount), now_ms, fx),
            Amount::All => self.pay_out(claim, earned, now_ms, fx),
        }
    }

    /// The answer to a claim that changes nothing: one that was answered before, or that is not new, live, payable and of
    /// a member, or of a key that claims too often. `None`: the log decides. Whoever asks before proposing keeps such claims out of the log.
    #[must_use]
    pub fn answer_to_claim(&self, claim: &Claim) -> Option<Result<Reply, Reject>> {
        let now_ms = self.meta.stamp_ms.max(claim.now_ms);
        let Some(member) = self.members.get(&claim.node) else { return Some(Err(Reject::UnknownNode)) };
        if let Some(last) = &member.profile.claim {
            if last.digest == claim.digest {
                return Some(last.answer.clone().into_reply());
            }
            if claim.sequence <= last.sequence {
                return Some(Err(Reject::StaleSequence { next: last.sequence.saturating_add(1) }));
            }
        }
        if claim.expires_ms <= now_ms {
            return Some(Err(Reject::Expired { now_ms }));
        }
        let latest_ms = now_ms.saturating_add(SIGNED_EXPIRY_MS);
        if claim.expires_ms > latest_ms {
            return Some(Err(Reject::ExpiresTooLate { latest_ms }));
        }
        if claim.amount == Amount::Exactly(0) {
            return Some(Err(Reject::OutOfBounds { what: "amount".into(), min: 1, max: i64::MAX as u64 }));
        }
        let (earned, fee) = (member.hot.earned, self.opening_fee(claim));
        let asked = match claim.amount {
            Amount::Exactly(amount) => points(amount),
            Amount::All => earned,
        };
        if asked <= earned && asked <= fee {
            return Some(Err(Reject::NothingToPay { least: fee.plus(Points(1)), earned }));
        }
        if self.answered_since_round(member) >= CLAIMS_ROUND {
            return Some(Err(Reject::SlowDown));
        }
        None
    }

    /// What it costs that a claim opens a wallet that is not the node's own (PROTOCOLS 9.8).
    fn opening_fee(&self, claim: &Claim) -> Points {
        let opens = claim.to != claim.node && !self.wallets.contains_key(&claim.to);
        if opens { points(self.meta.settings.wallet_fee) } else { Points::ZERO }
    }

    /// Claims of a member that were answered since the last settlement.
    fn answered_since_round(&self, member: &Member) -> u32 {
        let last = member.profile.claim.as_ref().filter(|last| last.round == self.meta.settled);
        last.map_or(0, |last| last.since_round)
    }

    fn penalise(&mut self, claim: &Claim, amount: u64, now_ms: u64, fx: &mut Effects) -> Reject {
        let tariff = self.meta.tariff;
        let policy = self.meta.tariff_by;
        let Some(member) = self.members.get_mut(&claim.node) else { return Reject::UnknownNode };
        let earned = whole(member.hot.earned);
        let share = BasisPoints(tariff.overclaim_bp).of(amount.saturating_sub(earned));
        let penalty = points(share.max(tariff.overclaim_min.into()).min(earned));
        let penalty = self.meta.take(&mut member.hot, penalty);
        member.hot.penalties = member.hot.penalties.plus(penalty);
        let left = member.hot.earned;
        let reject = Reject::Overclaim { penalty, earned: left };
        self.answered(claim, ClaimAnswer::Refused(reject.clone()), fx);
        fx.line(Line {
            policy,
            reason: alloc::format!("claimed {amount} of {earned}"),
            ..self.line(Kind::Penalty, Account::Earned(claim.node), Account::Treasury, penalty, now_ms)
        });
        fx.notices.push(Notice::Claimed { node: claim.node, answer: Err((penalty, left)) });
        reject
    }

    fn pay_out(&mut self, claim: &Claim, amount: Points, now_ms: u64, fx: &mut Effects) -> Result<Reply, Reject> {
        let fee = self.opening_fee(claim);
        let Some(member) = self.members.get_mut(&claim.node) else { return Err(Reject::UnknownNode) };
        let paid = amount.minus(fee);
        member.hot.earned = member.hot.earned.minus(amount);
        member.hot.claimed = member.hot.claimed.plus(amount);
        let earned = member.hot.earned;
        self.meta.treasury = self.meta.treasury.plus(fee);
        let wallet = self.wallets.entry(claim.to).or_default();
        wallet.credit(paid);
        let wallet = *wallet;
        fx.writes.push(Write::Wallet(claim.to, Some(wallet)));
        let claimed = Claimed { amount: claim.amount, paid, earned, wallet: wallet.balance };
        self.answered(claim, ClaimAnswer::Paid(claimed), fx);
        let from = Account::Earned(claim.node);
        fx.line(self.line(Kind::Claim, from, Account::Wallet(claim.to), paid, now_ms));
        fx.line(self.line(Kind::WalletFee, from, Account::Treasury, fee, now_ms));
        fx.notices.push(Notice::Claimed { node: claim.node, answer: Ok(claimed) });
        Ok(Reply::Claimed(claimed))
    }

    /// Uses up the claim's sequence and keeps its answer for whoever asks again.
    fn answered(&mut self, claim: &Claim, answer: ClaimAnswer, fx: &mut Effects) {
        let round = self.meta.settled;
        let before = self.members.get(&claim.node).map_or(0, |member| self.answered_since_round(member));
        let Some(member) = self.members.get_mut(&claim.node) else { return };
        let Claim { sequence, digest, expires_ms, .. } = *claim;
        let since_round = before.saturating_add(1);
        member.profile.claim = Some(LastClaim { sequence, digest, answer, round, since_round, expires_ms });
        fx.hot(member.profile.number);
        fx.profile(claim.node, member);
    }

    /// Moves points between wallets (PROTOCOLS 9.7). What is not a new, live and payable transfer costs nothing and uses up
    /// no sequence; the same digest again gets the same answer.
    pub(crate) fn transfer(&mut self, transfer: &Transfer, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(transfer.now_ms);
        if let Some(answer) = self.answer_to_transfer(transfer) {
            return answer;
        }
        let Transfer { from, sequence, expires_ms, to, digest, .. } = *transfer;
        let (amount, fee) = (points(transfer.amount), self.wallet_opening(to));
        let Some(payer) = self.wallets.get_mut(&from) else { return Err(Reject::UnknownNode) };
        payer.take(amount, now_ms);
        let credited = amount.minus(fee);
        let wallet = if from == to { payer.balance.plus(credited) } else { payer.balance };
        let answer = Transferred { amount, credited, wallet };
        payer.transfer = Some(LastTransfer { sequence, digest, answer, expires_ms });
        self.wallets.entry(to).or_default().credit(credited);
        self.meta.treasury = self.meta.treasury.plus(fee);
        for key in if from == to { alloc::vec![from] } else { alloc::vec![from, to] } {
            fx.writes.push(Write::Wallet(key, self.wallets.get(&key).copied()));
        }
        let from = Account::Wallet(from);
        fx.line(self.line(Kind::Transfer, from, Account::Wallet(to), credited, now_ms));
        fx.line(self.line(Kind::WalletFee, from, Account::Treasury, fee, now_ms));
        Ok(Reply::Transferred(answer))
    }

    /// The answer to a transfer that changes nothing. `None`: the log decides.
    #[must_use]
    pub fn answer_to_transfer(&self, transfer: &Transfer) -> Option<Result<Reply, Reject>> {
        let now_ms = self.meta.stamp_ms.max(transfer.now_ms);
        let wallet = self.wallets.get(&transfer.from).copied().unwrap_or_default();
        if let Some(last) = wallet.transfer {
            if last.digest == transfer.digest {
                return Some(Ok(Reply::Transferred(last.answer)));
            }
            if transfer.sequence <= last.sequence {
                return Some(Err(Reject::StaleSequence { next: last.sequence.saturating_add(1) }));
            }
        }
        if transfer.expires_ms <= now_ms {
            return Some(Err(Reject::Expired { now_ms }));
        }
        let latest_ms = now_ms.saturating_add(SIGNED_EXPIRY_MS);
        if transfer.expires_ms > latest_ms {
            return Some(Err(Reject::ExpiresTooLate { latest_ms }));
        }
        let least = whole(self.wallet_opening(transfer.to)) + 1;
        if transfer.amount < least || transfer.amount > i64::MAX as u64 {
            return Some(Err(Reject::OutOfBounds { what: "amount".into(), min: least, max: i64::MAX as u64 }));
        }
        let needed = points(transfer.amount);
        if wallet.balance < needed {
            return Some(Err(Reject::Insufficient { needed, balance: wallet.balance }));
        }
        None
    }

    /// What the first credit to a key costs.
    fn wallet_opening(&self, to: NodeId) -> Points {
        if self.wallets.contains_key(&to) { Points::ZERO } else { points(self.meta.settings.wallet_fee) }
    }

    /// Drops wallets that have been empty for a day.
    pub(crate) fn drop_empty_wallets(&mut self, now_ms: u64, fx: &mut Effects) {
        let gone = |wallet: &Wallet| {
            let live = wallet.transfer.is_some_and(|last| last.expires_ms > now_ms);
            !live && wallet.empty_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= EMPTY_WALLET_MS)
        };
        let keys: Vec<NodeId> = self.wallets.iter().filter(|(_, wallet)| gone(wallet)).map(|(key, _)| *key).collect();
        for key in keys {
            self.wallets.remove(&key);
            fx.writes.push(Write::Wallet(key, None));
        }
    }

    /// A line of the ledger at the last settled round.
    pub(crate) fn line(&self, kind: Kind, from: Account, to: Account, points: Points, now_ms: u64) -> Line {
        Line {
            index: LogIndex(0),
            part: 0,
            round: self.meta.settled,
            kind,
            from,
            to,
            points,
            policy: None,
            reason: String::new(),
            now_ms,
        }
    }
}

impl Meta {
    /// Pays a member from the treasury; gives what was paid. It is less than asked only where the books would run over
    /// the range of a number: the treasury is below zero by what all others hold, so its room bounds every account.
    pub(crate) fn issue(&mut self, hot: &mut Hot, points: Points) -> Points {
        let paid = Points(points.0.clamp(0, i64::MAX.saturating_add(self.treasury.0).max(0)));
        hot.earned = hot.earned.plus(paid);
        self.treasury = self.treasury.minus(paid);
        self.issued = self.issued.plus(paid);
        paid
    }

    /// Takes earned points back into the treasury, down to zero; gives what was taken.
    pub(crate) fn take(&mut self, hot: &mut Hot, points: Points) -> Points {
        let taken = Points(points.0.clamp(0, hot.earned.0));
        hot.earned = hot.earned.minus(taken);
        self.treasury = self.treasury.plus(taken);
        taken
    }
}

impl ClaimAnswer {
    fn into_reply(self) -> Result<Reply, Reject> {
        match self {
            Self::Paid(claimed) => Ok(Reply::Claimed(claimed)),
            Self::Refused(reject) => Err(reject),
        }
    }
}

/// A number of points that is not below zero, as it stands in settings and claims.
fn points(number: u64) -> Points {
    Points(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The points of an account that is never below zero.
fn whole(points: Points) -> u64 {
    u64::try_from(points.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::world::{START_MS, Seen, World, node};
    use crate::settings::Settings;

    #[test]
    fn an_empty_wallet_is_dropped_a_day_later() {
        let mut world = World::found(Settings::default(), &[]);
        let wallet =
            |balance, empty_since_ms| Some(Wallet { balance: Points(balance), empty_since_ms, transfer: None });
        let rows =
            [("A", wallet(0, Some(START_MS))), ("B", wallet(0, Some(START_MS + 10_000))), ("C", wallet(0, None))];
        world.restore(rows.map(|(name, row)| Write::Wallet(node(name), row)));
        world.now_ms = START_MS + EMPTY_WALLET_MS - 10_000;
        world.settle(&Seen::default());
        let left: Vec<_> = world.state.wallets.keys().copied().collect();
        assert_eq!(left, [node("B"), node("C")]);
    }

    #[test]
    fn the_books_close_at_the_end_of_the_range_too() {
        let mut meta = Meta { treasury: Points(3 - i64::MAX), ..Meta::default() };
        let mut hot = Hot::default();
        assert_eq!(meta.issue(&mut hot, Points(10)), Points(3));
        assert_eq!(meta.issue(&mut hot, Points(10)), Points::ZERO);
        assert_eq!((meta.treasury, hot.earned), (Points(-i64::MAX), Points(3)));
        assert_eq!(meta.take(&mut hot, Points(i64::MAX)), Points(3));
        assert_eq!(meta.take(&mut hot, Points(-1)), Points::ZERO);
    }
}
