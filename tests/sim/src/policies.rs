//! The rules of the simulated cluster, natively: strikes for misses, ten points for whoever is up.

use kernel::decide::{Call, Description, Judgement, Policy, Reward, Run, Tariff, presence};

/// Points of a round.
pub const POINTS: i64 = 10;
/// Misses after which a member is warned, suspended and banned.
pub const STRIKES: [u16; 3] = [2, 3, 5];
/// Rounds of a ban.
const BAN_ROUNDS: u32 = 8;

/// A native policy of either slot.
#[derive(Clone, Debug)]
pub enum Native {
    /// Down adds a strike, up takes all away, unknown changes nothing. It remembers how often each member was down.
    Strikes(Description),
    /// Points for whoever is up.
    Flat(Description),
}

impl Native {
    /// The policy of a component's bytes, which are its name and a number that tells versions apart.
    #[must_use]
    pub fn of(component: &[u8]) -> Option<Self> {
        let name = core::str::from_utf8(component).ok()?;
        let description = |memory_bytes| Description {
            name: name.into(),
            memory_bytes,
            memory_schema: "downs".into(),
            reasons: vec!["missed".into()],
            ..Description::default()
        };
        match name.split(' ').next() {
            Some("strikes") => Some(Self::Strikes(description(4))),
            Some("flat") => Some(Self::Flat(description(0))),
            _ => None,
        }
    }
}

impl Policy for Native {
    fn description(&self) -> &Description {
        match self {
            Self::Strikes(description) | Self::Flat(description) => description,
        }
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        let points = call.members.presence.iter().map(|p| if *p == presence::UP { POINTS } else { 0 }).collect();
        let (reasons, memory) = (vec![0; call.members.len()], call.memory.to_vec());
        Run::native(Ok(Reward { points, reasons, memory, tariff: Tariff::default() }))
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        let [warn, suspend, ban] = STRIKES;
        let mut judged = Judgement { memory: call.memory.to_vec(), ..Judgement::default() };
        let (rows, _) = judged.memory.as_chunks_mut::<4>();
        let members = call.members;
        let seen = members.presence.iter().zip(&members.strikes).zip(&members.standing);
        for (((presence, strikes), before), row) in seen.zip(rows) {
            let strikes = match *presence {
                presence::DOWN => {
                    *row = (u32::from_le_bytes(*row) + 1).to_le_bytes();
                    strikes.saturating_add(1)
                }
                presence::UP => 0,
                _ => *strikes,
            };
            let standing = match strikes {
                // Nobody is moved by what was not seen, not even by strikes of before that a guardrail deferred.
                _ if *presence == presence::UNKNOWN && *before <= 3 => *before,
                _ if *presence == presence::UNKNOWN => 0,
                strikes if strikes >= ban => 3,
                strikes if strikes >= suspend => 2,
                strikes if strikes >= warn => 1,
                _ => 0,
            };
            judged.strikes.push(strikes);
            judged.standing.push(standing);
            judged.until.push(if standing == 3 { BAN_ROUNDS } else { 0 });
            judged.reasons.push(u16::from(strikes > 0));
        }
        Run::native(Ok(judged))
    }
}
