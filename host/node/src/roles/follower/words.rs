//! What a follower says to people: in its log and its status.

use jiff::Timestamp;
use kernel::members::Refusal;
use kernel::standing::Standing;
use wire::message::{Own, PolicyName, ScheduledKind};
use wire::version::OURS;

use super::policies::{Notice, PolicyNews, What};
use crate::text::{rounds, span};

/// A refusal in two sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// What a refusal means and how to mend it. `known`: the file in which the node remembers its cluster.
#[must_use]
pub fn refusal(refusal: &Refusal, known: &str) -> Words {
    let (what, cure) = match refusal {
        Refusal::WrongCluster { ours } => (
            format!("the super belongs to the cluster {ours}, which is not this node's"),
            format!("set cluster.id and cluster.supers; if that cluster was founded anew on purpose, remove `cluster` from {known} and start again"),
        ),
        Refusal::Outdated { accept } => (
            format!("this release speaks protocol {OURS}, the cluster accepts {accept}"),
            "install a release that speaks one of those versions; nothing is lost meanwhile, no strike is given".into(),
        ),
        Refusal::Banned { until, until_ms, reason } => (
            format!("banned through round {until}, about until {}: {}", time(*until_ms), or_none(reason)),
            "nothing to do but wait: it comes back by itself, on probation".into(),
        ),
        Refusal::PortMismatch { declared, seen } => (
            format!("this node declared port {declared}, but the super sees port {seen}"),
            "something on the way rewrites ports: let it keep source ports, or have the operator set round.require_declared_port = false".into(),
        ),
        Refusal::PortTaken => (
            "another node is connected from this address and port".into(),
            "give each node behind one address its own follower.connect_port".into(),
        ),
        Refusal::Busy { .. } => ("the super has too much to do".into(), "nothing to do: it tries again by itself".into()),
        Refusal::Full { what, .. } => (
            format!("there is no room: {what}"),
            "ask the operator for room (guardrails.members and the bounds beside it); it tries again by itself".into(),
        ),
        Refusal::SlowDown { .. } => {
            ("too many nodes join in this round".into(), "nothing to do: it tries again by itself".into())
        }
        Refusal::WrongRole => (
            "this node's key belongs to a super".into(),
            "a key holds one role: name another file in node.key_file, it is made at the next start".into(),
        ),
        Refusal::Malformed { what } => {
            (format!("the super cannot take what this node says of itself: {what}"), "mend it in the config".into())
        }
    };
    Words { what, cure }
}

/// A change of standing, as one line.
#[must_use]
pub fn standing(own: &Own) -> String {
    let why = &own.told.reason;
    let back = match (own.told.until, own.until_ms) {
        (Some(round), Some(ms)) => format!("; earliest return after round {round}, about {}", time(ms)),
        (Some(round), None) => format!("; earliest return after round {round}"),
        (None, _) => String::new(),
    };
    match own.told.standing {
        Standing::Good => "in good standing".into(),
        Standing::Warned => format!("warned, nothing is taken away yet: {}", or_none(why)),
        Standing::Suspended => format!("suspended, pinged and not paid: {}{back}", or_none(why)),
        Standing::Banned => format!("banned: {}{back}", or_none(why)),
        Standing::Probation => "back on probation: paid, and watched more strictly".into(),
    }
}

/// What is new of the rules, as one line.
#[must_use]
pub fn policy(news: &PolicyNews) -> String {
    let PolicyNews { slot, policy, round, what } = news;
    let rule = policy.as_ref().map_or_else(|| "none, the slot is neutral".into(), named);
    let from = round.map_or_else(String::new, |round| format!(" from round {round} on"));
    match what {
        What::Announced(kind, Notice { rounds: in_rounds, ms }) => {
            let how = match kind {
                None | Some(ScheduledKind::Scheduled) => "changes",
                Some(ScheduledKind::Returned) => "failed too often and changes by itself",
                Some(ScheduledKind::Emergency) => "changes in an emergency",
            };
            format!("the {slot} rule {how}{from} (in {}, about {}): {rule}", rounds(*in_rounds), span(*ms))
        }
        What::Cancelled => format!("the change of the {slot} rule{from} is cancelled: {rule}"),
        What::InForce if round.is_some() => format!("the {slot} rule is in force{from}: {rule}"),
        What::InForce => format!("the {slot} rule has changed meanwhile, in force is: {rule}"),
    }
}

fn named(policy: &PolicyName) -> String {
    let digest = policy.digest.to_string();
    let words = [&policy.name, &policy.version, &digest].map(String::as_str);
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn or_none(reason: &str) -> &str {
    if reason.is_empty() { "no reason given" } else { reason }
}

fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "the end of time".into(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use kernel::decide::Slot;
    use kernel::id::{Digest, NodeId, RoundId};
    use kernel::outcome::Told;
    use kernel::round::Presence;
    use kernel::units::Points;

    use super::*;

    #[test]
    fn every_refusal_says_what_to_do() {
        let all = [
            Refusal::WrongCluster { ours: "lab#00".into() },
            Refusal::Outdated { accept: ">=0.2".into() },
            Refusal::Banned { until: RoundId(7), until_ms: 1_000, reason: String::new() },
            Refusal::PortMismatch { declared: 1, seen: 2 },
            Refusal::PortTaken,
            Refusal::Busy { retry_ms: 1 },
            Refusal::Full { what: "the queue: 20000 members".into(), retry_ms: 1 },
            Refusal::SlowDown { retry_ms: 1 },
            Refusal::WrongRole,
            Refusal::Malformed { what: "the name".into() },
        ];
        for why in all {
            let words = refusal(&why, "data/known.json");
            assert!(!words.what.is_empty() && !words.cure.is_empty(), "{}", why.code());
        }
        let banned = Refusal::Banned { until: RoundId(7), until_ms: 1_000, reason: "missed 4 in a row".into() };
        assert_eq!(
            refusal(&banned, "").what,
            "banned through round 7, about until 1970-01-01T00:00:01Z: missed 4 in a row"
        );
    }

    #[test]
    fn a_suspension_names_its_reason_and_its_end() {
        let told = Told {
            node: NodeId([0; 32]),
            round: RoundId(3),
            presence: Presence::Down,
            standing: Standing::Suspended,
            reason: "missed 3 in a row".into(),
            earned: Points(0),
            wallet: Points(0),
            until: Some(RoundId(9)),
        };
        let own = Own { told, until_ms: Some(0), warning: None };
        assert_eq!(
            standing(&own),
            "suspended, pinged and not paid: missed 3 in a row; earliest return after round 9, about 1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn news_of_a_rule_are_one_line_each() {
        let policy_2 = PolicyName { digest: Digest([2; 32]), name: "ban-strikes".into(), version: "0.2.0".into() };
        let rule = format!("ban-strikes 0.2.0 sha256:{}", "02".repeat(32));
        let news =
            |policy, round: Option<u64>, what| PolicyNews { slot: Slot::Ban, policy, round: round.map(RoundId), what };
        let announced = |kind, rounds| What::Announced(kind, Notice { rounds, ms: rounds * 10_000 });
        let some = Some(policy_2);
        for (news, line) in [
            (
                news(some.clone(), Some(40), announced(Some(ScheduledKind::Scheduled), 12)),
                format!("the ban rule changes from round 40 on (in 12 rounds, about 2 min 0 s): {rule}"),
            ),
            (
                news(some.clone(), Some(40), announced(Some(ScheduledKind::Emergency), 1)),
                format!("the ban rule changes in an emergency from round 40 on (in 1 round, about 10.0 s): {rule}"),
            ),
            (
                news(None, Some(40), announced(Some(ScheduledKind::Returned), 2)),
                "the ban rule failed too often and changes by itself from round 40 on (in 2 rounds, about 20.0 s): none, the slot is neutral".into(),
            ),
            (
                news(some.clone(), Some(40), What::Cancelled),
                format!("the change of the ban rule from round 40 on is cancelled: {rule}"),
            ),
            (
                news(some.clone(), Some(40), What::InForce),
                format!("the ban rule is in force from round 40 on: {rule}"),
            ),
            (news(some, None, What::InForce), format!("the ban rule has changed meanwhile, in force is: {rule}")),
        ] {
            assert_eq!(policy(&news), line);
        }
    }
}
