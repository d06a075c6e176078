//! The commands of scripts.
//!
//! `cluster [RULE..] [setting=value..]` founds one; every script begins with it. `members A B` puts some in the queue and
//! settles the round in which they came, `join A B [ip=..] [version=..]`, `leave A`, `outdated A version=..`,
//! `round [down=A,B] [unknown=..] [suspect=CAUSE] [ban=FAULT] [reward=FAULT]`, `rounds N ..` (says only what happened
//! besides), `stale WHAT` (a settlement that does not fit), `claim A AMOUNT|all seq=N [to=B] [expires=MS]`, `earn A N`,
//! `wait MS`. By an operator: `ban A N`, `lift A..`, `lift policy=RULE since=N`, `accept round|SLOT`,
//! `compensate A N [round=N]`, `class A N`, `set K=V..`, `file K=V..`, `stage RULE [unready]`, `activate RULE [round=N]`,
//! `emergency RULE [round=N]`, `rollback SLOT`, `builtin RULE`, `shadow RULE|SLOT`; a super says `unready RULE WHY`. What there is: `show A..`, `queue`, `books`, `settings K..`, `trusted`.

use std::collections::{BTreeMap, BTreeSet};

use super::print;
use super::rules::Rule;
use super::world::{START_MS, Seen, World, name, node, policy};
use crate::command::{Amount, Claim, Command, Compensation, Ip, Leave, Operation, Outdated, SettingChange, Unready};
use crate::decide::{FaultKind, Slot};
use crate::id::{Digest, NodeId, RoundId, Seat};
use crate::outcome::Outcome;
use crate::round::cause;
use crate::settings::Settings;
use crate::units::Points;

/// A script in progress.
#[derive(Default)]
pub(crate) struct Run {
    world: World,
}

/// A command's words: those without and those with `=`.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn plain(&self, at: usize) -> Result<&'a str, String> {
        self.plain.get(at).copied().ok_or_else(|| format!("word {} is missing", at + 1))
    }

    fn number(&self, at: usize) -> Result<u64, String> {
        self.plain(at)?.parse().map_err(|_| "expected a number".to_string())
    }

    fn named<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        self.named.get(key).map(|text| text.parse().map_err(|_| format!("cannot read {key}"))).transpose()
    }

    fn nodes(&self, key: &str) -> BTreeSet<NodeId> {
        self.named.get(key).map(|text| text.split(',').flat_map(span).map(|n| node(&n)).collect()).unwrap_or_default()
    }

    fn all_nodes(&self) -> Vec<NodeId> {
        self.plain.iter().flat_map(|text| span(text)).map(|n| node(&n)).collect()
    }
}

/// `A` or `N01..N20`.
fn span(text: &str) -> Vec<String> {
    let Some((from, to)) = text.split_once("..") else { return vec![text.into()] };
    let digits = |text: &str| text.trim_start_matches(|c: char| !c.is_ascii_digit()).len();
    let (prefix, first) = from.split_at(from.len() - digits(from));
    let last: u32 = to[to.len() - digits(to)..].parse().unwrap();
    let width = first.len();
    (first.parse().unwrap()..=last).map(|n| format!("{prefix}{n:0width$}")).collect()
}

impl Run {
    /// Runs a command; what it prints.
    pub(crate) fn run(&mut self, line: &str) -> Result<Vec<String>, String> {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let (named, plain): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('='));
        let words = Words { plain, named: named.iter().filter_map(|word| word.split_once('=')).collect() };
        match command {
            "cluster" => self.cluster(&words),
            "join" => self.join(&words),
            "members" => {
                self.join(&words)?;
                self.world.settle(&Seen::default());
                Ok(Vec::new())
            }
            "leave" => {
                self.each(&words, |world, node| world.apply(Command::Leave(Leave { node, now_ms: world.now_ms })))
            }
            "outdated" => {
                let version = words.named("version")?.ok_or("which version")?;
                self.each(&words, |world, node| {
                    world.apply(Command::Outdated(Outdated { node, version, now_ms: world.now_ms }))
                })
            }
            "round" => self.rounds(1, &words, false),
            "rounds" => self.rounds(words.number(0)?, &words, true),
            "stale" => self.stale(&words),
            "unready" => {
                let (policy, why) = (policy(words.plain(0)?), words.plain(1)?.to_string());
                let outcome = self.world.apply(Command::Unready(Unready { seat: Seat(0), policy, why }));
                Ok(self.print(&outcome, false))
            }
            "claim" => self.claim(&words),
            "wait" => {
                self.world.now_ms += words.number(0)?;
                Ok(Vec::new())
            }
            "earn" => {
                let (node, points) = (node(words.plain(0)?), Points(words.number(1)? as i64));
                let line = Compensation { node, points, round: RoundId(0), reason: String::new() };
                self.world.operate("", Operation::Compensate(vec![line]));
                Ok(Vec::new())
            }
            "show" => Ok(words.all_nodes().iter().map(|node| print::member(&self.world.state, node)).collect()),
            "queue" => Ok(vec![self.world.state.queue.iter().map(|node| name(*node)).collect::<Vec<_>>().join(" ")]),
            "books" => {
                let meta = &self.world.state.meta;
                let t = meta.tariff;
                Ok(vec![format!(
                    "treasury {}, issued {}, wallets {}, tariff {} bp at least {}",
                    meta.treasury,
                    meta.issued,
                    self.world.state.wallets.len(),
                    t.overclaim_bp,
                    t.overclaim_min
                )])
            }
            "settings" => {
                let meta = &self.world.state.meta;
                let value = |key: &&str| format!("{key} {}", meta.settings.value(key).unwrap_or_default());
                let values: Vec<String> = words.plain.iter().map(value).collect();
                Ok(vec![format!("version {}: {}", meta.settings_version, values.join(", "))])
            }
            "trusted" => {
                let state = &self.world.state;
                let up = state.queue.iter().filter(|node| state.members[*node].hot.trusted_up).map(|node| name(*node));
                Ok(vec![format!("round {}: {}", state.meta.trusted, up.collect::<Vec<_>>().join(" "))])
            }
            _ => self.decide(command, &words),
        }
    }

    fn decide(&mut self, command: &str, words: &Words<'_>) -> Result<Vec<String>, String> {
        let slot = |at| words.plain(at).and_then(|text| text.parse::<Slot>().map_err(|why| why.to_string()));
        let what = match command {
            "ban" => Operation::Ban { node: node(words.plain(0)?), rounds: words.number(1)? },
            "lift" => match (words.named.get("policy"), words.named("since")?) {
                (Some(rule), Some(since)) => Operation::LiftPolicy { policy: policy(rule), since: RoundId(since) },
                _ => Operation::LiftNodes(words.all_nodes()),
            },
            "accept" if words.plain(0)? == "round" => Operation::AcceptRound,
            "accept" => Operation::AcceptPolicy(slot(0)?),
            "compensate" => Operation::Compensate(vec![Compensation {
                node: node(words.plain(0)?),
                points: Points(words.plain(1)?.parse().map_err(|_| "expected points")?),
                round: RoundId(words.named("round")?.unwrap_or(0)),
                reason: "made good".into(),
            }]),
            "class" => Operation::SetClass { node: node(words.plain(0)?), class: words.number(1)? as u32 },
            "set" => Operation::Set(changes(words)),
            "file" => Operation::FileSettings(changes(words)),
            "stage" => {
                let ready = words.plain.get(1) != Some(&"unready");
                let outcome = self.world.stage(words.plain(0)?, ready);
                return Ok(self.print(&outcome, false));
            }
            "activate" => {
                let rule = words.plain(0)?;
                let round = words.named("round")?.map(RoundId);
                Operation::Activate { slot: Rule::parse(rule).slot(), policy: policy(rule), round }
            }
            "emergency" => {
                let rule = words.plain(0)?;
                let round = words.named("round")?.map(RoundId);
                Operation::Emergency { slot: Rule::parse(rule).slot(), policy: policy(rule), round }
            }
            "shadow" => match words.plain(0)?.parse::<Slot>() {
                Ok(slot) => Operation::Shadow { slot, policy: None },
                Err(_) => {
                    let rule = words.plain(0)?;
                    Operation::Shadow { slot: Rule::parse(rule).slot(), policy: Some(policy(rule)) }
                }
            },
            "rollback" => Operation::Rollback(slot(0)?),
            "builtin" => {
                let rule = words.plain(0)?;
                Operation::SetBuiltin { slot: Rule::parse(rule).slot(), policy: policy(rule) }
            }
            _ => return Err("there is no such command".into()),
        };
        let outcome = self.world.operate("", what);
        Ok(self.print(&outcome, false))
    }

    fn cluster(&mut self, words: &Words<'_>) -> Result<Vec<String>, String> {
        let mut settings = Settings::default();
        for (key, value) in &words.named {
            settings.put(key, value).map_err(|why| format!("{key}: {why}"))?;
        }
        self.world = World::found(settings, &words.plain);
        Ok(Vec::new())
    }

    fn join(&mut self, words: &Words<'_>) -> Result<Vec<String>, String> {
        let ip = words.named::<std::net::Ipv4Addr>("ip")?.map(|ip| Ip::V4(ip.octets()));
        let version = words.named("version")?;
        self.each(words, |world, node| {
            let mut join = world.join(&name(node));
            join.ip = ip.unwrap_or(join.ip);
            join.version = version.unwrap_or(join.version);
            world.apply(Command::Join(join))
        })
    }

    /// Applies a command to each node; equal answers in one line.
    fn each(
        &mut self,
        words: &Words<'_>,
        mut apply: impl FnMut(&mut World, NodeId) -> Outcome,
    ) -> Result<Vec<String>, String> {
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        for node in words.all_nodes() {
            let outcome = apply(&mut self.world, node);
            let text = self.print(&outcome, false).join("; ");
            match lines.last_mut() {
                Some((last, names)) if *last == text => names.push(name(node)),
                _ => lines.push((text, vec![name(node)])),
            }
        }
        let names = |names: Vec<String>| match names.as_slice() {
            [first, .., last] if names.len() > 4 => format!("{first}..{last}"),
            _ => names.join(" "),
        };
        Ok(lines.into_iter().map(|(text, nodes)| format!("{}: {text}", names(nodes))).collect())
    }

    fn seen(words: &Words<'_>) -> Result<Seen, String> {
        let fault = |key: &str| -> Result<Option<FaultKind>, String> {
            Ok(match words.named.get(key).copied() {
                None => None,
                Some("trap") => Some(FaultKind::Trap),
                Some("deadline") => Some(FaultKind::Deadline),
                Some(other) => return Err(format!("no fault {other}")),
            })
        };
        let causes = words.named.get("suspect").map_or(Ok(0), |text| {
            let bit = cause::NAMES.iter().position(|name| name == text).ok_or("no such cause")?;
            Ok::<u8, String>(1 << bit)
        })?;
        Ok(Seen {
            down: words.nodes("down"),
            unknown: words.nodes("unknown"),
            causes,
            ban_fault: fault("ban")?,
            reward_fault: fault("reward")?,
        })
    }

    fn rounds(&mut self, count: u64, words: &Words<'_>, short: bool) -> Result<Vec<String>, String> {
        let seen = Self::seen(words)?;
        let mut lines = Vec::new();
        for _ in 0..count {
            let outcome = self.world.settle(&seen);
            lines.extend(self.print(&outcome, short));
        }
        Ok(lines)
    }

    /// A settlement with one thing wrong: `stale round|term|settings|ban|reward|report`.
    fn stale(&mut self, words: &Words<'_>) -> Result<Vec<String>, String> {
        let mut settle = self.world.settlement(&Seen::default());
        match words.plain(0)? {
            "round" => (settle.round, settle.report.round) = (settle.round.next(), settle.round.next()),
            "again" => {
                settle.round = self.world.state.meta.settled;
                settle.report.round = settle.round;
            }
            "report-round" => settle.report.round = settle.round.next(),
            "settings" => settle.settings_version += 1,
            "ban" => settle.ban.policy = Some(Digest::of(b"other")),
            "reward" => settle.reward.policy = None,
            "report" => settle.report.facts.push(0),
            other => return Err(format!("nothing is called {other}")),
        }
        let before = self.world.state.clone();
        let outcome = self.world.apply(Command::Settle(Box::new(settle)));
        let mut after = self.world.state.clone();
        after.meta.applied = before.meta.applied;
        assert!(before == after, "a refused settlement changes nothing");
        Ok(self.print(&outcome, false))
    }

    fn claim(&mut self, words: &Words<'_>) -> Result<Vec<String>, String> {
        let signer = node(words.plain(0)?);
        let amount = match words.plain(1)? {
            "all" => Amount::All,
            _ => Amount::Exactly(words.number(1)?),
        };
        let sequence = words.named("seq")?.ok_or("which sequence")?;
        let to = words.named.get("to").map_or(signer, |to| node(to));
        let expires_ms = START_MS + words.named::<u64>("expires")?.unwrap_or(3_600_000);
        let digest = Digest::of(format!("{signer:?} {amount:?} {sequence} {to:?} {expires_ms}").as_bytes());
        let now_ms = self.world.now_ms;
        let claim = Claim { node: signer, sequence, expires_ms, amount, to, digest, now_ms };
        let outcome = self.world.apply(Command::Claim(claim));
        Ok(self.print(&outcome, false))
    }

    fn print(&self, outcome: &Outcome, short: bool) -> Vec<String> {
        print::outcome(&self.world, outcome, short)
    }
}

fn changes(words: &Words<'_>) -> Vec<SettingChange> {
    let change = |(key, value): (&&str, &&str)| SettingChange { key: (*key).to_string(), value: (*value).to_string() };
    words.named.iter().map(change).collect()
}
