//! The default reward rule: the same points for everybody who answered and is paid.
//!
//! Config: `points_per_round` (10) and `min_age_rounds` (0: raise it where keys cost nothing).

use pingward_sdk::{
    About, Config, Members, Memory, Pay, Policy, Presence, RewardPolicy, Round, Row, Settlement, Tariff, reasons,
};

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct Flat {
    points_per_round: i64,
    min_age_rounds: u32,
}

reasons! {
    /// Why a member got its points.
    enum Why of rule: &Flat {
        Answered: "answered",
        Down: "did not answer",
        Unknown: "was not observed",
        NotPaid: "is suspended",
        TooYoung: format!("has been here for less than {} rounds", rule.min_age_rounds),
    }
}

impl Flat {
    /// What one member gets for one round.
    #[inline]
    fn pay(&self, row: &Row) -> Pay {
        let (points, reason) = match row.presence {
            Presence::Down => (0, Why::Down),
            Presence::Unknown => (0, Why::Unknown),
            Presence::Up if !row.standing.is_paid() => (0, Why::NotPaid),
            Presence::Up if row.age < self.min_age_rounds => (0, Why::TooYoung),
            Presence::Up => (self.points_per_round, Why::Answered),
        };
        Pay::points(points).because(reason)
    }
}

impl Policy for Flat {
    fn configure(config: &mut Config) -> Result<Self, String> {
        Ok(Self {
            points_per_round: config.integer("points_per_round", 10, 0..=1_000_000_000)? as i64,
            min_age_rounds: config.integer("min_age_rounds", 0, 0..=4_294_967_295)? as u32,
        })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self))
    }
}

impl RewardPolicy for Flat {
    fn settle(&self, _round: &Round, members: &Members<'_>, _memory: &mut Memory) -> Result<Settlement, String> {
        let tariff = Tariff::USUAL.overclaim(1_000, 1).records(0, 0);
        Ok(Settlement::each(members, |row| self.pay(&row)).tariff(tariff))
    }
}

pingward_sdk::export_reward!(Flat);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]
mod tests {
    use pingward_sdk::Standing;
    use pingward_sdk::testing::{Cluster, describe};

    use super::*;

    #[test]
    fn who_answers_is_paid_and_nobody_else() {
        let mut cluster = Cluster::new(4);
        assert_eq!(cluster.settle::<Flat>("{}", "+-?m").unwrap(), [10, 0, 0, 0]);
        assert_eq!(cluster.reasons, [Why::Answered, Why::Down, Why::Unknown, Why::Down]);
    }

    #[test]
    fn warned_and_probation_are_paid_and_suspended_is_not() {
        let mut cluster = Cluster::new(5);
        let standings = [Standing::Good, Standing::Warned, Standing::Suspended, Standing::Banned, Standing::Probation];
        cluster.members.standing = standings.map(Standing::code).to_vec();
        assert_eq!(cluster.settle::<Flat>("{}", "+++++").unwrap(), [10, 10, 0, 0, 10]);
        assert_eq!(cluster.reasons[2], Why::NotPaid);
    }

    #[test]
    fn a_member_must_have_the_age_of_the_config() {
        let mut cluster = Cluster::new(1);
        let config = r#"{"min_age_rounds":2,"points_per_round":7}"#;
        let paid: Vec<i64> = (0..4).flat_map(|_| cluster.settle::<Flat>(config, "+").unwrap()).collect();
        assert_eq!(paid, [0, 0, 7, 7]);
        assert_eq!(cluster.members.earned, [14]);
    }

    #[test]
    fn a_bad_config_is_refused_with_the_reason() {
        let refused = |config| describe::<Flat>(config).unwrap_err();
        assert_eq!(refused(r#"{"points":1}"#), "unknown key `points`; it knows `points_per_round`, `min_age_rounds`");
        assert_eq!(
            refused(r#"{"points_per_round":-1}"#),
            "`points_per_round` is a number below zero; it must be a whole number from 0 to 1000000000"
        );
    }
}
