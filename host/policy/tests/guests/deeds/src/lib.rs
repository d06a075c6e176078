//! Misbehaves as its config says: `deed` names how, and with `live_only` (the default) not in the self-test of admission,
//! which has populations of 0 and 15.

use pingward_sdk::{About, BanPolicy, Config, Judgement, Members, Memory, Policy, Round, Standing, Verdict, log};

/// Names of all deeds.
const DEEDS: [&str; 9] = ["none", "panic", "index", "refuse", "loop", "allocate", "recurse", "flood", "ban_all"];

struct Deeds {
    deed: String,
    live_only: bool,
}

impl Policy for Deeds {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let deed = config.string("deed", "none")?;
        let live_only = config.boolean("live_only", true)?;
        if !DEEDS.contains(&deed.as_str()) {
            return Err(format!("`deed` is `{deed}`; it may be one of {}", DEEDS.join(", ")));
        }
        Ok(Self { deed, live_only })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .memory(1, "rounds")
            .reason("it had to be somebody")
    }
}

impl BanPolicy for Deeds {
    fn judge(&self, _round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Judgement, String> {
        let is_self_test = members.is_empty() || members.len() == 15;
        let deed = if self.live_only && is_self_test { "none" } else { self.deed.as_str() };
        match deed {
            "panic" => panic!("the policy of the tests panics, as it was told"),
            "index" => {
                let nobody: Vec<u8> = Vec::with_capacity(members.len());
                std::hint::black_box(nobody[members.len()]);
            }
            "refuse" => return Err("no such luck".into()),
            "loop" => loop {
                std::hint::black_box(0);
            },
            "allocate" => {
                let mut all = Vec::new();
                loop {
                    all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            "recurse" => {
                std::hint::black_box(deeper(members.len() as u64));
            }
            "flood" => loop {
                log::info("and another line, and another");
            },
            _ => {}
        }
        Ok(Judgement::each_with(members, memory, |row, rounds| {
            rounds.iter_mut().for_each(|count| *count = count.wrapping_add(1));
            match deed {
                "ban_all" => Verdict { standing: Standing::Banned, strikes: 9, until: 1_000, reason: 1 },
                _ => Verdict::stay(&row),
            }
        }))
    }
}

#[allow(unconditional_recursion, reason = "that is the deed")]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    deeper(depth + 1) + frame.iter().sum::<u64>()
}

pingward_sdk::export_ban!(Deeds);
