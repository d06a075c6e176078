//! A ban rule that passes admission and misbehaves afterwards, so that tests can see what a node makes of it.
//!
//! Config: `act` = `nothing` (default), `ban` (everybody, for ever), `panic`, `index`, `loop`, `grow`, `recurse`, `refuse`, `log`, `length`
//! (memory of another length), `huge` (far more memory than there is), `slow` (half of the fuel that a small cluster has: tens of milliseconds).
//! It acts in rounds below 100 only: the host's self-test runs at round 100 and above, and must find nothing. With
//! `always = true` it acts there too. `memory` (0) is its memory-bytes, `schema` ("a") names them; it counts rounds there.

use std::hint::black_box;

use pingward_sdk::{
    About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Standing, Verdict, log, reasons,
};

/// Turns that are slow and within the fuel.
const SLOW_TURNS: u64 = 2_000_000;

/// The rule with its config.
pub struct Misbehave {
    act: String,
    always: bool,
    memory: u32,
    schema: String,
}

reasons! {
    enum Why of rule: &Misbehave {
        Because: "because it can",
    }
}

impl Policy for Misbehave {
    fn configure(config: &mut Config) -> Result<Self, String> {
        let act = config.string("act", "nothing")?;
        let known =
            ["nothing", "ban", "panic", "index", "loop", "grow", "recurse", "refuse", "log", "length", "huge", "slow"];
        if !known.contains(&act.as_str()) {
            return Err(format!("`act` is `{act}`; it may be one of {}", known.join(", ")));
        }
        let always = config.boolean("always", false)?;
        let memory = config.integer("memory", 0, 0..=64)? as u32;
        Ok(Self { act, always, memory, schema: config.string("schema", "a")? })
    }

    fn about(&self) -> About {
        let about = About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self));
        if self.memory == 0 { about } else { about.memory(self.memory, &self.schema) }
    }
}

impl BanPolicy for Misbehave {
    fn judge(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Judgement, String> {
        if round.number < 100 || self.always {
            match self.act.as_str() {
                "panic" => fall(black_box(3)),
                "index" => log::debug(&index(&[], black_box(members.len())).to_string()),
                "loop" => spin(),
                "slow" => log::debug(&divide().to_string()),
                "grow" => grow(),
                "recurse" => {
                    log::debug(&format!("{}", recurse(black_box(1))));
                }
                "refuse" => return Err("it does not want to".into()),
                "log" => (0..100_000).for_each(|line| log::info(&format!("line {line} of far too many"))),
                "length" => *memory = Memory::new(vec![1; members.len() + 1], members.len() + 1, 1)?,
                "huge" => *memory = Memory::new(vec![1; 8 << 20], 8 << 20, 1)?,
                _ => {}
            }
        }
        let bans = self.act == "ban" && (round.number < 100 || self.always);
        for block in memory.blocks() {
            if let Some(first) = block.first_mut() {
                *first = first.wrapping_add(1);
            }
        }
        Ok(Judgement::each(members, |row| match row.presence {
            _ if bans => Verdict::new(Standing::Banned).strikes(99).until(1_000).because(Why::Because),
            Presence::Unknown | Presence::Down => Verdict::stay(&row),
            Presence::Up => Verdict::new(Standing::Good),
        }))
    }
}

#[allow(clippy::panic, reason = "panicking is what it is for")]
fn fall(at: usize) {
    panic!("the rule fell over member {at}")
}

#[allow(clippy::indexing_slicing, reason = "running past the end is what it is for")]
fn index(of: &[u8], at: usize) -> u8 {
    of[at]
}

fn spin() {
    let mut turns = 0_u64;
    while black_box(true) {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// A division costs as much fuel as an addition and ten times its time.
fn divide() -> u64 {
    let mut rest = u64::MAX;
    for turn in 0..SLOW_TURNS {
        for divisor in [3, 5, 7, 11] {
            rest = (u64::MAX - rest) % black_box(turn + divisor);
        }
    }
    rest
}

fn grow() {
    let mut hoard = Vec::new();
    while black_box(true) {
        hoard.push(vec![1_u8; 1 << 20]);
    }
}

#[allow(unconditional_recursion, reason = "overrunning the stack is what it is for")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1)) + 1)
}

pingward_sdk::export_ban!(Misbehave);
