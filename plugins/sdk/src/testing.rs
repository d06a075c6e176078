//! Runs a rule natively: no WebAssembly, no host, an answer in microseconds.
//!
//! [`Cluster`] plays rounds: it carries standing, strikes and memory from round to round as the host does, without the
//! host's guardrails. [`Batch`] has records reviewed.
//!
//! ```
//! # use pingward_sdk::{About, BanPolicy, Config, Judgement, Members, Memory, Policy, Round, Verdict};
//! # struct Rule;
//! # impl Policy for Rule {
//! #     fn configure(_: &mut Config) -> Result<Self, String> { Ok(Self) }
//! #     fn about(&self) -> About { About::new("rule", "1") }
//! # }
//! # impl BanPolicy for Rule {
//! #     fn judge(&self, _: &Round, members: &Members<'_>, _: &mut Memory) -> Result<Judgement, String> {
//! #         Ok(Judgement::each(members, |row| Verdict::stay(&row)))
//! #     }
//! # }
//! use pingward_sdk::{Standing, testing::Cluster};
//! let mut cluster = Cluster::new(2);
//! cluster.judge::<Rule>("{}", "+-").unwrap(); // the first answers, the second does not
//! assert_eq!(cluster.standing(1), Standing::Good);
//! ```

use std::cell::RefCell;

use crate::{BanPolicy, Policy, Presence, Reason, RewardPolicy, SigningPolicy, Standing, export, flag, types};

thread_local! {
    pub(crate) static LOGGED: RefCell<Vec<(u8, String)>> = const { RefCell::new(Vec::new()) };
}

/// Takes the lines that rules logged on this thread: level and text.
#[must_use]
pub fn logged() -> Vec<(u8, String)> {
    LOGGED.take()
}

/// What the rule says of itself for a config.
///
/// # Errors
/// It refuses the config.
pub fn describe<P: Policy>(config: &str) -> Result<types::Description, String> {
    export::describe::<P>(config)
}

/// Some members that live from round to round. Columns may be changed between rounds.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The next round.
    pub round: types::Round,
    /// The columns of the next round.
    pub members: types::Members,
    /// What the rule remembers; empty before the first round.
    pub memory: Vec<u8>,
    /// Reasons of the last round.
    pub reasons: Vec<Reason>,
    /// Rounds until the earliest return, as last returned.
    pub until: Vec<u32>,
}

impl Cluster {
    /// So many new members in good standing.
    #[must_use]
    pub fn new(population: u32) -> Self {
        let n = population as usize;
        Self {
            round: types::Round {
                number: 1,
                now_ms: 1_767_225_600_000,
                elapsed_ms: 10_000,
                interval_ms: 10_000,
                population,
                suspect: false,
                seed: vec![7; 32],
            },
            members: types::Members {
                presence: vec![Presence::Up.code(); n],
                facts: vec![0; n],
                rtt_us: vec![0; n],
                observers: vec![0; n],
                age: vec![0; n],
                standing: vec![0; n],
                strikes: vec![0; n],
                earned: vec![0; n],
                data: vec![0; n],
                class: vec![0; n],
                group: vec![0; n],
                flags: vec![0; n],
                extra: Vec::new(),
            },
            memory: Vec::new(),
            reasons: vec![Reason::NONE; n],
            until: vec![0; n],
        }
    }

    /// A member's standing.
    ///
    /// # Panics
    /// There is no such member.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "a test names members that exist")]
    pub fn standing(&self, member: usize) -> Standing {
        Standing::from_code(self.members.standing[member])
    }

    /// Plays one round: a letter for each member, `+` up, `-` down, `?` unknown, `m` down under declared maintenance.
    /// Who came back from a ban (the test sets its standing to probation) stays on probation while it is let.
    ///
    /// # Errors
    /// The rule's own.
    pub fn judge<P: BanPolicy>(&mut self, config: &str, seen: &str) -> Result<(), String> {
        self.observe::<P>(config, seen)?;
        let judged = export::judge::<P>(config, &self.round, &self.members, self.memory.clone())?;
        for (now, wanted) in self.members.standing.iter_mut().zip(judged.standing) {
            let stays = *now == Standing::Probation.code() && wanted <= Standing::Warned.code();
            *now = if stays { *now } else { wanted };
        }
        self.members.strikes = judged.strikes;
        self.memory = judged.memory;
        self.reasons = judged.reasons.into_iter().map(Reason::from_code).collect();
        self.until = judged.until;
        self.next_round();
        Ok(())
    }

    /// Plays one round of a reward rule and returns each member's points. Letters as in [`Cluster::judge`].
    ///
    /// # Errors
    /// The rule's own.
    pub fn settle<P: RewardPolicy>(&mut self, config: &str, seen: &str) -> Result<Vec<i64>, String> {
        self.observe::<P>(config, seen)?;
        let settled = export::settle::<P>(config, &self.round, &self.members, self.memory.clone())?;
        for (earned, points) in self.members.earned.iter_mut().zip(&settled.points) {
            *earned = earned.saturating_add_signed(*points);
        }
        self.memory = settled.memory;
        self.reasons = settled.reasons.into_iter().map(Reason::from_code).collect();
        self.next_round();
        Ok(settled.points)
    }

    fn observe<P: Policy>(&mut self, config: &str, seen: &str) -> Result<(), String> {
        let population = self.round.population as usize;
        if seen.chars().count() != population {
            return Err(format!("`{seen}` does not have a letter for each of {population} members"));
        }
        let columns = self.members.presence.iter_mut().zip(&mut self.members.flags);
        for ((presence, flags), letter) in columns.zip(seen.chars()) {
            *flags &= !flag::MAINTENANCE;
            *presence = match letter {
                '+' => Presence::Up,
                '-' => Presence::Down,
                '?' => Presence::Unknown,
                'm' => {
                    *flags |= flag::MAINTENANCE;
                    Presence::Down
                }
                other => return Err(format!("`{other}` is none of + - ? m")),
            }
            .code();
        }
        let bytes = export::configured::<P>(config)?.about().memory_bytes() as usize;
        if self.memory.is_empty() {
            self.memory = vec![0; population * bytes];
        }
        Ok(())
    }

    fn next_round(&mut self) {
        self.round.number += 1;
        self.round.now_ms += self.round.interval_ms;
        for age in &mut self.members.age {
            *age += 1;
        }
    }
}

/// Some records of one batch. Everything may be changed before they are reviewed.
///
/// ```
/// # use pingward_sdk::{About, Config, Context, Policy, Records, Review, SigningPolicy, reasons};
/// # struct Rule;
/// # reasons! { enum Why of rule: &Rule { Empty: "the body is empty" } }
/// # impl Policy for Rule {
/// #     fn configure(_: &mut Config) -> Result<Self, String> { Ok(Self) }
/// #     fn about(&self) -> About { About::new("rule", "1").reasons(Why::texts(self)) }
/// # }
/// # impl SigningPolicy for Rule {
/// #     fn review(&self, _: &Context, records: &Records<'_>) -> Result<Review, String> {
/// #         Ok(Review::each(records, |record| if record.body.is_empty() { Err(Why::Empty) } else { Ok(()) }))
/// #     }
/// # }
/// use pingward_sdk::testing::Batch;
/// let reviewed = Batch::of(["hello", ""]).review::<Rule>("{}").unwrap();
/// assert_eq!(reviewed, ["", "the body is empty"]); // the first is signed
/// ```
#[derive(Clone, Debug)]
pub struct Batch {
    /// What is known besides.
    pub context: types::Context,
    /// The records.
    pub records: Vec<types::Record>,
}

impl Batch {
    /// Records with these bodies, all of one author.
    #[must_use]
    pub fn of<B: AsRef<[u8]>>(bodies: impl IntoIterator<Item = B>) -> Self {
        let context = types::Context { batch: 1, round: 1, ordered_ms: 1_767_225_600_000, set_size: 4 };
        let record = |(sequence, body): (u64, B)| {
            let mut digest = vec![0; 24];
            digest.extend(sequence.to_be_bytes());
            types::Record {
                sequence,
                author: vec![1; 32],
                digest,
                expires_ms: context.ordered_ms + 60_000,
                body: body.as_ref().to_vec(),
            }
        };
        Self { context, records: (1..).zip(bodies).map(record).collect() }
    }

    /// Has them reviewed: for each one the reason why it is refused, empty where it is signed.
    ///
    /// # Errors
    /// The rule's own, or a code that has no text.
    pub fn review<P: SigningPolicy>(&self, config: &str) -> Result<Vec<String>, String> {
        let reasons = describe::<P>(config)?.reasons;
        let text = |code: u16| match usize::from(code).checked_sub(1) {
            None => Ok(String::new()),
            Some(at) => {
                reasons.get(at).cloned().ok_or_else(|| format!("code {code}: there are {} texts", reasons.len()))
            }
        };
        export::review::<P>(config, &self.records, &self.context)?.into_iter().map(text).collect()
    }
}
