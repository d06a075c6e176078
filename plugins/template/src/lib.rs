//! A ban rule to start from: who misses `limit` rounds in a row is suspended until it answers again; nobody is banned.
//!
//! Change `judge_one`, and the tests below it. `pingward policy build .` makes the component.

use pingward_sdk::{
    About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Row, Standing, Verdict, reasons,
};

/// The rule with its config.
pub struct Rule {
    limit: u16,
}

reasons! {
    /// Why a member stands where it stands.
    enum Why of rule: &Rule {
        Missed: format!("missed {} rounds in a row", rule.limit),
    }
}

impl Rule {
    /// What becomes of one member after one round.
    fn judge_one(&self, row: &Row) -> Verdict {
        match row.presence {
            // Nobody had a fair chance to see it: no news moves nothing.
            Presence::Unknown => Verdict::stay(row),
            Presence::Down if row.in_maintenance() => Verdict::stay(row),
            Presence::Up => Verdict::new(Standing::Good),
            Presence::Down => {
                let strikes = row.strikes.saturating_add(1);
                if strikes < self.limit {
                    Verdict::stay(row).strikes(strikes)
                } else {
                    Verdict::new(Standing::Suspended).strikes(strikes).until(1).because(Why::Missed)
                }
            }
        }
    }
}

impl Policy for Rule {
    fn configure(config: &mut Config) -> Result<Self, String> {
        Ok(Self { limit: config.integer("limit", 3, 1..=1_000)? as u16 })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self))
    }
}

impl BanPolicy for Rule {
    fn judge(&self, _round: &Round, members: &Members<'_>, _memory: &mut Memory) -> Result<Judgement, String> {
        Ok(Judgement::each(members, |row| self.judge_one(&row)))
    }
}

pingward_sdk::export_ban!(Rule);

#[cfg(test)]
mod tests {
    use pingward_sdk::testing::Cluster;

    use super::*;

    #[test]
    fn three_misses_in_a_row_suspend_and_an_answer_forgives() {
        let mut cluster = Cluster::new(2);
        for seen in ["+-", "+-", "+-"] {
            cluster.judge::<Rule>("{}", seen).unwrap();
        }
        assert_eq!(cluster.standing(0), Standing::Good);
        assert_eq!(cluster.standing(1), Standing::Suspended);
        cluster.judge::<Rule>("{}", "++").unwrap();
        assert_eq!(cluster.standing(1), Standing::Good);
    }
}
