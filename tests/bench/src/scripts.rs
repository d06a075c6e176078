//! The same rule in script languages that are embedded where pingward embeds WebAssembly.
//!
//! Neither is limited in time or memory here; both are compiled once, and get the columns that the rule reads.

use anyhow::Result;
use kernel::decide::{Members, RoundInput};

/// What a script decides.
pub(crate) struct Decided {
    /// Points of each member.
    pub(crate) points: Vec<i64>,
    /// Reason codes.
    pub(crate) reasons: Vec<u16>,
    /// Memory for the next round.
    pub(crate) memory: Vec<u8>,
}

/// A rule in a script language.
pub(crate) trait Script {
    /// Of the engine.
    fn name(&self) -> &'static str;

    /// WebAssembly is to be so many times as fast.
    fn target(&self) -> f64;

    /// Decides one round.
    fn settle(&mut self, round: &RoundInput, members: &Members, memory: &[u8]) -> Result<Decided>;
}

/// The engines that this binary was built with.
pub(crate) fn all() -> Result<Vec<Box<dyn Script>>> {
    #[cfg(feature = "scripts")]
    let all: Vec<Box<dyn Script>> = vec![Box::new(engines::Lua::new()?), Box::new(engines::Rhai::new()?)];
    #[cfg(not(feature = "scripts"))]
    let all = Vec::new();
    Ok(all)
}

#[cfg(feature = "scripts")]
mod engines {
    use anyhow::{Context as _, Result, anyhow};
    use kernel::decide::{Members, RoundInput};

    use super::{Decided, Script};

    const LUA: &str = r"
        return function(interval, suspect, presence, standing, class, memory)
            local points, reasons, left = {}, {}, {}
            for i = 1, #presence do
                local seen, stand, owed = presence[i], standing[i], memory[i]
                local paid, why = 0, 0
                if seen == 2 or (seen == 0 and suspect) then
                    why = 4
                elseif stand == 2 or stand == 3 then
                    why = 5
                else
                    why = 3
                    if seen == 1 then
                        owed = math.min(owed + interval, 4294967295)
                        why = 2
                    end
                    local per_minute = 15
                    if class[i] == 1 then per_minute = 150 end
                    local point = 60000 // per_minute
                    paid = owed // point
                    owed = owed - paid * point
                    if paid > 0 then why = 1 end
                end
                points[i], reasons[i], left[i] = paid, why, owed
            end
            return points, reasons, left
        end
    ";

    const RHAI: &str = r"
        fn settle(interval, suspect, presence, standing, class, memory) {
            let points = []; let reasons = []; let left = [];
            for i in 0..presence.len {
                let seen = presence[i]; let stand = standing[i]; let owed = memory[i];
                let paid = 0; let why = 0;
                if seen == 2 || (seen == 0 && suspect) {
                    why = 4;
                } else if stand == 2 || stand == 3 {
                    why = 5;
                } else {
                    why = 3;
                    if seen == 1 {
                        owed = min(owed + interval, 4294967295);
                        why = 2;
                    }
                    let point = 60000 / if class[i] == 1 { 150 } else { 15 };
                    paid = owed / point;
                    owed -= paid * point;
                    if paid > 0 { why = 1; }
                }
                points.push(paid); reasons.push(why); left.push(owed);
            }
            [points, reasons, left]
        }
    ";

    /// Memory as numbers: four bytes a member.
    fn numbers(memory: &[u8]) -> impl Iterator<Item = u32> + '_ {
        memory.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn bytes(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
        numbers.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// Lua 5.4.
    pub(super) struct Lua {
        lua: mlua::Lua,
        rule: mlua::Function,
    }

    impl Lua {
        pub(super) fn new() -> Result<Self> {
            let lua = mlua::Lua::new();
            let rule = lua.load(LUA).eval().map_err(|error| anyhow!("{error}"))?;
            Ok(Self { lua, rule })
        }

        fn call(&self, round: &RoundInput, members: &Members, memory: &[u8]) -> mlua::Result<Decided> {
            let lua = &self.lua;
            let (points, reasons, left): (Vec<i64>, Vec<u16>, Vec<u32>) = self.rule.call((
                round.interval_ms,
                round.suspect,
                lua.create_sequence_from(members.presence.iter().copied())?,
                lua.create_sequence_from(members.standing.iter().copied())?,
                lua.create_sequence_from(members.class.iter().copied())?,
                lua.create_sequence_from(numbers(memory))?,
            ))?;
            Ok(Decided { points, reasons, memory: bytes(left) })
        }
    }

    impl Script for Lua {
        fn name(&self) -> &'static str {
            "Lua 5.4"
        }

        fn target(&self) -> f64 {
            15.0
        }

        fn settle(&mut self, round: &RoundInput, members: &Members, memory: &[u8]) -> Result<Decided> {
            self.call(round, members, memory).map_err(|error| anyhow!("{error}"))
        }
    }

    /// Rhai.
    pub(super) struct Rhai {
        engine: rhai::Engine,
        rule: rhai::AST,
    }

    impl Rhai {
        pub(super) fn new() -> Result<Self> {
            let engine = rhai::Engine::new();
            let rule = engine.compile(RHAI).map_err(|error| anyhow!("{error}"))?;
            Ok(Self { engine, rule })
        }
    }

    impl Script for Rhai {
        fn name(&self) -> &'static str {
            "Rhai"
        }

        fn target(&self) -> f64 {
            150.0
        }

        fn settle(&mut self, round: &RoundInput, members: &Members, memory: &[u8]) -> Result<Decided> {
            let array =
                |values: &mut dyn Iterator<Item = i64>| values.map(rhai::Dynamic::from_int).collect::<rhai::Array>();
            let arguments = (
                round.interval_ms as i64,
                round.suspect,
                array(&mut members.presence.iter().map(|value| i64::from(*value))),
                array(&mut members.standing.iter().map(|value| i64::from(*value))),
                array(&mut members.class.iter().map(|value| i64::from(*value))),
                array(&mut numbers(memory).map(i64::from)),
            );
            let mut scope = rhai::Scope::new();
            let columns: rhai::Array =
                self.engine.call_fn(&mut scope, &self.rule, "settle", arguments).map_err(|error| anyhow!("{error}"))?;
            let mut columns = columns.into_iter().map(|column| {
                let column = column.into_array().map_err(|found| anyhow!("it returned {found}"))?;
                let values =
                    column.into_iter().map(|value| value.as_int().map_err(|found| anyhow!("it returned {found}")));
                values.collect::<Result<Vec<i64>>>()
            });
            let mut next = || columns.next().context("it returned too few columns")?;
            let (points, reasons, left) = (next()?, next()?, next()?);
            Ok(Decided {
                points,
                reasons: reasons.into_iter().map(|value| value as u16).collect(),
                memory: bytes(left.into_iter().map(|value| value as u32)),
            })
        }
    }
}
