//! A reward rule to start from: `points` for each round in which a member answers, twice as many from its hundredth round
//! in the queue on.
//!
//! Change `pay_one`, and the tests below it. `pingward policy build .` makes the component.

use pingward_sdk::{
    About, Config, Members, Memory, Pay, Policy, Presence, RewardPolicy, Round, Row, Settlement, Tariff, reasons,
};

/// The rule with its config.
pub struct Rule {
    points: i64,
}

/// Rounds after which a member is paid twice.
const LOYAL: u32 = 100;

reasons! {
    /// Why a member got its points.
    enum Why of rule: &Rule {
        Answered: "answered",
        Loyal: format!("answered, and has been here for {LOYAL} rounds"),
    }
}

impl Rule {
    /// What one member gets for one round. The host pays nobody who ends the round suspended or banned.
    fn pay_one(&self, row: &Row) -> Pay {
        match row.presence {
            Presence::Up if row.age >= LOYAL => Pay::points(self.points * 2).because(Why::Loyal),
            Presence::Up => Pay::points(self.points).because(Why::Answered),
            // Nobody had a fair chance to see it, or it did not answer: nothing is paid, nothing is taken.
            Presence::Down | Presence::Unknown => Pay::NOTHING,
        }
    }
}

impl Policy for Rule {
    fn configure(config: &mut Config) -> Result<Self, String> {
        Ok(Self { points: config.integer("points", 10, 0..=1_000)? as i64 })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self))
    }
}

impl RewardPolicy for Rule {
    fn settle(&self, _round: &Round, members: &Members<'_>, _memory: &mut Memory) -> Result<Settlement, String> {
        Ok(Settlement::each(members, |row| self.pay_one(&row)).tariff(Tariff::USUAL))
    }
}

pingward_sdk::export_reward!(Rule);

#[cfg(test)]
mod tests {
    use pingward_sdk::testing::Cluster;

    use super::*;

    #[test]
    fn who_answers_is_paid_and_who_stays_is_paid_twice() {
        let mut cluster = Cluster::new(3);
        cluster.members.age = vec![0, 0, LOYAL];
        assert_eq!(cluster.settle::<Rule>("{}", "+-+").unwrap(), [10, 0, 20]);
    }
}
