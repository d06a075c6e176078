//! What a follower knows of the rules: those in force, and those that are to come.
//!
//! Each of its supers tells them with a welcome, and again when they become other ones. What is later in the log counts, so a
//! super that is behind takes nothing back, and what two supers tell is told on once.
//!
//! Invariant: it is empty until a super has told it. A rule that is in force is then never guessed from one that was announced.

use std::collections::BTreeMap;

use kernel::decide::Slot;
use kernel::id::{Digest, LogIndex, RoundId};
use wire::message::{Policies, PolicyName, ScheduledKind, ScheduledPolicy, SlotPolicies};

/// The rules as far as a follower was told.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KnownPolicies {
    as_of: LogIndex,
    slots: BTreeMap<Slot, KnownSlot>,
}

/// What it knows of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSlot {
    /// Decides the next round; `None` = the slot is neutral.
    pub active: Option<PolicyName>,
    /// What is to come.
    pub announced: Option<Announced>,
}

/// A change that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// As the super told it.
    pub scheduled: ScheduledPolicy,
    /// How long before it was told here first.
    pub notice: Notice,
}

/// From the last settled round, when a change was told, to the round in which it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// In rounds.
    pub rounds: u64,
    /// About how long they take.
    pub ms: u64,
}

/// Something about the rules is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyNews {
    /// The slot.
    pub slot: Slot,
    /// Which policy it is about; `None` = none, the slot is neutral.
    pub policy: Option<PolicyName>,
    /// From which round on; `None` = nobody told.
    pub round: Option<RoundId>,
    /// What.
    pub what: What,
}

/// See [`PolicyNews`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is to come.
    Announced(Option<ScheduledKind>, Notice),
    /// It was to come, and does not.
    Cancelled,
    /// It counts.
    InForce,
}

impl PolicyNews {
    /// The word of the API: that of the same event on a super, where there is one.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (self.what, &self.policy) {
            (What::Announced(None, _), _) => ScheduledKind::Scheduled.name(),
            (What::Announced(Some(kind), _), _) => kind.name(),
            (What::Cancelled, _) => "cancelled",
            (What::InForce, Some(_)) => "active",
            (What::InForce, None) => "neutral",
        }
    }

    /// How long before it is told; `None` for what is no announcement.
    #[must_use]
    pub const fn notice(&self) -> Option<Notice> {
        match self.what {
            What::Announced(_, notice) => Some(notice),
            What::Cancelled | What::InForce => None,
        }
    }
}

impl KnownPolicies {
    /// A slot; `None` = it was not told.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> Option<&KnownSlot> {
        self.slots.get(&slot)
    }

    /// Takes what a super says, with its rounds of `interval_ms`, and gives what of it is new.
    pub fn learn(&mut self, told: Policies, interval_ms: u64) -> Vec<PolicyNews> {
        let mut news = Vec::new();
        if told.as_of < self.as_of {
            return news;
        }
        self.as_of = told.as_of;
        let mut before = std::mem::take(&mut self.slots);
        for SlotPolicies { slot, active, scheduled } in told.slots {
            let before = before.remove(&slot);
            let announced = scheduled.map(|scheduled| {
                let known = before.as_ref().and_then(|slot| slot.announced.as_ref());
                // It was told before, with all of its notice.
                let known = known.filter(|known| is_same(&known.scheduled, &scheduled)).map(|known| known.notice);
                let rounds = scheduled.round.since(told.settled);
                let notice = known.unwrap_or(Notice { rounds, ms: rounds.saturating_mul(interval_ms) });
                Announced { scheduled, notice }
            });
            let now = KnownSlot { active, announced };
            news.extend(changes(slot, before.as_ref(), &now, told.settled.next()));
            self.slots.insert(slot, now);
        }
        news
    }
}

/// What became of a slot; `next` is the round that what is in force now decides.
fn changes(slot: Slot, before: Option<&KnownSlot>, now: &KnownSlot, next: RoundId) -> Vec<PolicyNews> {
    let mut news = Vec::new();
    let was = before.and_then(|before| before.announced.as_ref()).map(|announced| &announced.scheduled);
    let is = now.announced.as_ref();
    let gone = was.filter(|was| is.is_none_or(|is| !is_same(was, &is.scheduled)));
    let active = digest(now.active.as_ref());
    let came = gone.filter(|gone| gone.round <= next && digest(gone.policy.as_ref()) == active);
    let is_other = before.is_some_and(|before| digest(before.active.as_ref()) != active);
    if came.is_some() || is_other {
        let round = came.map(|came| came.round);
        news.push(PolicyNews { slot, policy: now.active.clone(), round, what: What::InForce });
    }
    // One of an earlier round may have come and gone while nobody told this node.
    if let Some(gone) = gone.filter(|gone| came.is_none() && gone.round >= next) {
        let round = Some(gone.round);
        news.push(PolicyNews { slot, policy: gone.policy.clone(), round, what: What::Cancelled });
    }
    if let Some(Announced { scheduled, notice }) = is.filter(|is| was.is_none_or(|was| !is_same(was, &is.scheduled))) {
        let (policy, round) = (scheduled.policy.clone(), Some(scheduled.round));
        news.push(PolicyNews { slot, policy, round, what: What::Announced(scheduled.kind, *notice) });
    }
    news
}

/// Names are not compared: two releases may cut a long one at different places.
fn is_same(a: &ScheduledPolicy, b: &ScheduledPolicy) -> bool {
    (digest(a.policy.as_ref()), a.round, a.kind) == (digest(b.policy.as_ref()), b.round, b.kind)
}

fn digest(policy: Option<&PolicyName>) -> Option<Digest> {
    policy.map(|policy| policy.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(seed: u8) -> PolicyName {
        PolicyName { digest: Digest([seed; 32]), name: format!("rule-{seed}"), version: "1".into() }
    }

    /// The ban slot as of a place in the log: the active policy, and one that comes in a round.
    fn told(as_of: u64, settled: u64, active: u8, coming: Option<(u8, u64)>) -> Policies {
        let scheduled = coming.map(|(seed, round)| ScheduledPolicy {
            policy: Some(policy(seed)),
            round: RoundId(round),
            kind: Some(ScheduledKind::Scheduled),
        });
        let slots = vec![SlotPolicies { slot: Slot::Ban, active: Some(policy(active)), scheduled }];
        Policies { as_of: LogIndex(as_of), settled: RoundId(settled), slots }
    }

    /// What each of them brings, one line each.
    #[track_caller]
    fn check(all: &[(Policies, &[&str])]) -> KnownPolicies {
        let mut known = KnownPolicies::default();
        for (told, expected) in all {
            let news: Vec<String> = known.learn(told.clone(), 1_000).iter().map(line).collect();
            assert_eq!(news, *expected, "{told:?}");
        }
        known
    }

    fn line(news: &PolicyNews) -> String {
        let name = news.policy.as_ref().map_or("none", |policy| &policy.name);
        let round = news.round.map_or("?".into(), |round| round.to_string());
        let notice = news.notice().map(|notice| format!(", notice {} rounds {} ms", notice.rounds, notice.ms));
        format!("{} {name} {round}{}", news.word(), notice.unwrap_or_default())
    }

    #[test]
    fn what_two_supers_tell_is_news_once_and_keeps_its_notice() {
        let known = check(&[
            (told(1, 10, 1, None), &[]),
            (told(2, 10, 1, Some((2, 22))), &["scheduled rule-2 22, notice 12 rounds 12000 ms"]),
            (told(2, 10, 1, Some((2, 22))), &[]),
            // The other one says it again later, because something else of its welcome is new.
            (told(9, 15, 1, Some((2, 22))), &[]),
        ]);
        let announced = known.slot(Slot::Ban).unwrap().announced.as_ref().unwrap();
        assert_eq!(announced.notice, Notice { rounds: 12, ms: 12_000 });
        assert_eq!(known.slot(Slot::Reward), None, "a slot that nobody told is not neutral");
    }

    #[test]
    fn a_super_that_is_behind_takes_nothing_back() {
        let known = check(&[
            (told(5, 10, 1, Some((2, 22))), &["scheduled rule-2 22, notice 12 rounds 12000 ms"]),
            (told(7, 10, 1, None), &["cancelled rule-2 22"]),
            // In the same round, but from before.
            (told(6, 10, 1, Some((2, 22))), &[]),
            (told(3, 9, 3, None), &[]),
        ]);
        assert_eq!(known.slot(Slot::Ban).unwrap().announced, None);
    }

    #[test]
    fn a_change_comes_into_force_in_its_round_and_no_earlier() {
        check(&[
            (told(1, 10, 1, Some((2, 12))), &["scheduled rule-2 12, notice 2 rounds 2000 ms"]),
            (told(2, 11, 2, None), &["active rule-2 12"]),
            // The rule that is in force, activated again.
            (told(3, 11, 2, Some((2, 13))), &["scheduled rule-2 13, notice 2 rounds 2000 ms"]),
            (told(4, 11, 2, None), &["cancelled rule-2 13"]),
            (told(5, 11, 2, Some((2, 13))), &["scheduled rule-2 13, notice 2 rounds 2000 ms"]),
            (told(6, 12, 2, None), &["active rule-2 13"]),
        ]);
    }

    #[test]
    fn another_change_in_its_place_cancels_the_one_before() {
        check(&[
            (told(1, 10, 1, Some((2, 22))), &["scheduled rule-2 22, notice 12 rounds 12000 ms"]),
            (told(2, 11, 1, Some((3, 13))), &["cancelled rule-2 22", "scheduled rule-3 13, notice 2 rounds 2000 ms"]),
            (told(3, 12, 3, None), &["active rule-3 13"]),
            (told(4, 12, 3, Some((4, 14))), &["scheduled rule-4 14, notice 2 rounds 2000 ms"]),
            // Taken back just before the round in which it was to count.
            (told(5, 13, 3, None), &["cancelled rule-4 14"]),
        ]);
    }

    #[test]
    fn what_happened_while_it_was_away_is_not_guessed() {
        check(&[
            (told(1, 10, 1, Some((2, 12))), &["scheduled rule-2 12, notice 2 rounds 2000 ms"]),
            (told(9, 40, 3, None), &["active rule-3 ?"]),
            (told(10, 41, 3, Some((4, 43))), &["scheduled rule-4 43, notice 2 rounds 2000 ms"]),
            // It may have come and gone.
            (told(20, 90, 3, None), &[]),
        ]);
    }

    #[test]
    fn the_kind_is_said_where_it_is_known_and_neutral_is_a_rule_too() {
        let mut back = told(1, 10, 1, Some((2, 12)));
        let scheduled = back.slots[0].scheduled.as_mut().unwrap();
        (scheduled.policy, scheduled.kind) = (None, Some(ScheduledKind::Returned));
        let mut neutral = told(2, 11, 1, None);
        neutral.slots[0].active = None;
        check(&[(back, &["returned none 12, notice 2 rounds 2000 ms"]), (neutral, &["neutral none 12"])]);
        let mut odd = told(1, u64::MAX, 1, Some((2, u64::MAX)));
        odd.slots[0].scheduled.as_mut().unwrap().kind = None;
        check(&[(odd, &["scheduled rule-2 18446744073709551615, notice 0 rounds 0 ms"])]);
    }
}
