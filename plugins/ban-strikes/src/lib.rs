//! The default ban rule: misses in a row are strikes. So many of them warn, suspend and ban; a success sets them to zero.
//!
//! Config: `warn` (2), `suspend` (3), `ban` (5): strikes from which a member stands so; `ban_rounds` (60): length of a ban.
//!
//! - No news moves nothing: an unknown presence, a suspect round, a miss under declared maintenance.
//! - Who comes back from a ban starts anew: it is on probation, and the host watches it.

use pingward_sdk::{
    About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Row, Standing, Verdict, reasons,
};

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct Strikes {
    warn: u16,
    suspend: u16,
    ban: u16,
    ban_rounds: u32,
}

reasons! {
    /// Why a member stands where it stands.
    enum Why of rule: &Strikes {
        Missed: "missed a round",
        Warned: format!("warned after {} misses in a row", rule.warn),
        Suspended: format!("suspended after {} misses in a row; the next answer ends it", rule.suspend),
        Banned: format!("banned for {} rounds after {} misses in a row", rule.ban_rounds, rule.ban),
        Unknown: "was not observed: nothing moves",
        Maintenance: "missed under declared maintenance: nothing moves",
        Answered: "answered again: strikes are zero",
    }
}

impl Strikes {
    /// What becomes of one member after one round.
    #[inline]
    fn judge_one(&self, suspect: bool, row: &Row) -> Verdict {
        let before = self.strikes_before(row);
        match row.presence {
            Presence::Unknown => self.unmoved(row, before, Why::Unknown),
            Presence::Down if suspect => self.unmoved(row, before, Why::Unknown),
            Presence::Down if row.in_maintenance() => self.unmoved(row, before, Why::Maintenance),
            Presence::Down => self.missed(before.saturating_add(1)),
            Presence::Up => {
                let reason = (before > 0).then_some(Why::Answered);
                Verdict::new(Standing::Good).because(reason)
            }
        }
    }

    /// On probation a count of `suspend` or more can only be from before the ban, because it takes effect at once: it is
    /// over with the ban.
    #[inline]
    const fn strikes_before(&self, row: &Row) -> u16 {
        match row.standing {
            Standing::Probation if row.strikes >= self.suspend => 0,
            Standing::Good | Standing::Warned | Standing::Suspended | Standing::Banned | Standing::Probation => {
                row.strikes
            }
        }
    }

    #[inline]
    fn unmoved(&self, row: &Row, strikes: u16, why: Why) -> Verdict {
        let until = match row.standing {
            Standing::Suspended => 1,
            Standing::Banned => self.ban_rounds,
            Standing::Good | Standing::Warned | Standing::Probation => 0,
        };
        Verdict::new(row.standing).strikes(strikes).until(until).because(why)
    }

    #[inline]
    fn missed(&self, strikes: u16) -> Verdict {
        let (standing, until, why) = if strikes >= self.ban {
            (Standing::Banned, self.ban_rounds, Why::Banned)
        } else if strikes >= self.suspend {
            // The next answer ends it.
            (Standing::Suspended, 1, Why::Suspended)
        } else if strikes >= self.warn {
            (Standing::Warned, 0, Why::Warned)
        } else {
            (Standing::Good, 0, Why::Missed)
        };
        Verdict::new(standing).strikes(strikes).until(until).because(why)
    }
}

impl Policy for Strikes {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let mut strikes = |key, default| config.integer(key, default, 1..=10_000).map(|value| value as u16);
        let (warn, suspend, ban) = (strikes("warn", 2)?, strikes("suspend", 3)?, strikes("ban", 5)?);
        let ban_rounds = config.integer("ban_rounds", 60, 1..=100_000_000)? as u32;
        if warn > suspend {
            return Err(format!("`warn` ({warn}) is above `suspend` ({suspend}); nobody would be warned in time"));
        }
        if suspend > ban {
            return Err(format!("`suspend` ({suspend}) is above `ban` ({ban}); a ban would come first"));
        }
        Ok(Self { warn, suspend, ban, ban_rounds })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self))
    }
}

impl BanPolicy for Strikes {
    fn judge(&self, round: &Round, members: &Members<'_>, _memory: &mut Memory) -> Result<Judgement, String> {
        Ok(Judgement::each(members, |row| self.judge_one(round.suspect, &row)))
    }
}

pingward_sdk::export_ban!(Strikes);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]
mod tests {
    use pingward_sdk::testing::{Cluster, describe};

    use super::*;

    const GOOD: Standing = Standing::Good;
    const WARNED: Standing = Standing::Warned;
    const SUSPENDED: Standing = Standing::Suspended;
    const BANNED: Standing = Standing::Banned;
    const PROBATION: Standing = Standing::Probation;

    /// Plays one member's rounds and compares its standing after each.
    fn check(from: Standing, strikes: u16, seen: &str, expected: &[Standing]) -> Cluster {
        let mut cluster = Cluster::new(1);
        cluster.members.standing = vec![from.code()];
        cluster.members.strikes = vec![strikes];
        let standings: Vec<Standing> = seen
            .chars()
            .map(|letter| {
                cluster.judge::<Strikes>("{}", &letter.to_string()).unwrap();
                cluster.standing(0)
            })
            .collect();
        assert_eq!(standings, expected, "{from:?} {strikes} {seen}");
        cluster
    }

    #[test]
    fn misses_in_a_row_warn_suspend_and_ban() {
        let cluster = check(GOOD, 0, "-----", &[GOOD, WARNED, SUSPENDED, SUSPENDED, BANNED]);
        assert_eq!((cluster.members.strikes[0], cluster.until[0], cluster.reasons[0]), (5, 60, Why::Banned.into()));
    }

    #[test]
    fn an_answer_sets_strikes_to_zero() {
        check(GOOD, 0, "--+--+---+-", &[GOOD, WARNED, GOOD, GOOD, WARNED, GOOD, GOOD, WARNED, SUSPENDED, GOOD, GOOD]);
    }

    #[test]
    fn no_news_and_maintenance_move_nothing() {
        let cluster =
            check(GOOD, 0, "--?m?-?m", &[GOOD, WARNED, WARNED, WARNED, WARNED, SUSPENDED, SUSPENDED, SUSPENDED]);
        assert_eq!((cluster.members.strikes[0], cluster.reasons[0]), (3, Why::Maintenance.into()));
    }

    #[test]
    fn a_suspect_round_strikes_nobody() {
        let mut cluster = Cluster::new(1);
        cluster.round.suspect = true;
        for _ in 0..9 {
            cluster.judge::<Strikes>("{}", "-").unwrap();
        }
        assert_eq!((cluster.standing(0), cluster.members.strikes[0]), (GOOD, 0));
    }

    #[test]
    fn strikes_start_anew_after_a_ban() {
        let cluster = check(PROBATION, 5, "?--", &[PROBATION; 3]);
        assert_eq!(cluster.members.strikes[0], 2);
        check(PROBATION, 5, "---", &[PROBATION, PROBATION, SUSPENDED]);
        check(PROBATION, 5, "-----", &[PROBATION, PROBATION, SUSPENDED, SUSPENDED, BANNED]);
    }

    #[test]
    fn a_deferred_ban_is_asked_for_again() {
        check(SUSPENDED, 5, "-", &[BANNED]);
        check(SUSPENDED, 5, "?+", &[SUSPENDED, GOOD]);
    }

    #[test]
    fn a_bad_config_is_refused_with_the_reason() {
        let refused = |config| describe::<Strikes>(config).unwrap_err();
        assert_eq!(refused(r#"{"wran":1}"#), "unknown key `wran`; did you mean `warn`?");
        assert_eq!(refused(r#"{"warn":0}"#), "`warn` is 0; it may be 1 to 10000");
        assert_eq!(refused(r#"{"ban":"5"}"#), "`ban` is a text; it must be a whole number from 1 to 10000");
        assert_eq!(refused(r#"{"warn":4}"#), "`warn` (4) is above `suspend` (3); nobody would be warned in time");
        assert_eq!(refused(r#"{"suspend":6}"#), "`suspend` (6) is above `ban` (5); a ban would come first");
        let demo = r#"{"ban":4,"ban_rounds":5,"suspend":2,"warn":1}"#;
        assert_eq!(describe::<Strikes>(demo).unwrap().reasons[3], "banned for 5 rounds after 4 misses in a row");
    }
}
