//! 100,000 random commands, plausible and hostile ones mixed: nothing panics, the books close, no invariant breaks, two
//! replicas agree, and the rows give the state. The seed is fixed; another one is a number away.

use std::collections::BTreeMap;

use super::rules::Rule;
use super::shelf::{check_encoding, same};
use super::world::{Seen, World, node, policy};
use crate::command::{
    Amount, Answer, Chunk, Claim, Command, Compensation, Found, Ip, Lead, Leave, Operate, OperateIf, Operation,
    Operator, Outdated, Ready, SettingChange, Settle, Stage, Super, Supers, Unready,
};
use crate::decide::{Fault, FaultKind, Slot, Tariff};
use crate::id::{ClusterId, Digest, LogIndex, NodeId, ProtocolVersion, RoundId, Seat, Term};
use crate::limits::{COMPENSATION_POINTS, COMPENSATIONS, LIFTS};
use crate::outcome::{Notice, Outcome, Reject, Reply, Write};
use crate::round::{At, Bits};
use crate::settings::Settings;
use crate::standing::Standing;
use crate::units::Points;

const COMMANDS: u32 = 100_000;
const SEED: u64 = 0x9e37_79b9;
const RULES: [&str; 10] = [
    "flat",
    "all:-7",
    "count",
    "tariff:5000,3",
    "broken",
    "strikes:1,2,3,4",
    "strikes:2,3,5,60",
    "lenient",
    "tyrant:2",
    "broken-ban",
];

#[test]
fn the_books_close_and_no_invariant_breaks_over_100_000_random_commands() {
    let mut settings = Settings::default();
    for (key, value) in [
        ("round.interval_ms", "3600000"),
        ("guardrails.forget_days", "1"),
        ("guardrails.probation_rounds", "3"),
        ("guardrails.members", "30"),
        ("guardrails.rows_factor", "2"),
        ("guardrails.group_members", "12"),
        ("guardrails.joins_round", "3"),
        ("guardrails.joins_group_round", "2"),
        ("guardrails.moves_rounds", "20"),
    ] {
        settings.put(key, value).unwrap();
    }
    let mut chance = Chance(SEED);
    let mut world = World::found(settings, &["flat", "strikes:1,2,3,4"]);
    let mut seen: BTreeMap<&'static str, u32> = BTreeMap::new();
    for step in 0..COMMANDS {
        let command = chance.command(&mut world);
        if step % 20 == 0 {
            same(&command);
        }
        let outcome = world.apply_quickly(command);
        if step % 20 == 0 {
            check_encoding(&outcome.writes);
        }
        for what in notable(&outcome) {
            *seen.entry(what).or_default() += 1;
        }
        if step % 400 == 0 {
            world.check_whole();
        }
    }
    world.check_whole();
    world.now_ms = u64::MAX;
    for _ in 0..1_000 {
        let command = chance.command(&mut world);
        world.apply_quickly(command);
    }
    world.check_whole();
    // A run that never gets anywhere would prove nothing.
    for what in [
        "settled",
        "stale",
        "joined",
        "full",
        "slow down",
        "outdated",
        "banned",
        "put out",
        "readmitted",
        "claimed",
        "overclaim",
        "stale sequence",
        "expired",
        "fault",
        "returned",
        "held",
        "deferred",
        "active",
        "ask",
        "closed",
        "lifted",
        "forgotten",
    ] {
        assert!(seen.get(what).is_some_and(|count| *count >= 5), "{what}: {seen:?}");
    }
}

/// What happened, in words that the end of the run counts.
fn notable(outcome: &Outcome) -> Vec<&'static str> {
    let mut all = Vec::new();
    all.extend(outcome.writes.iter().any(|write| matches!(write, Write::Profile(_, None))).then_some("forgotten"));
    all.extend(match &outcome.reply {
        Ok(Reply::Settled { .. }) => Some("settled"),
        Ok(Reply::Joined { .. }) => Some("joined"),
        Ok(_) => None,
        Err(Reject::StaleSettlement { .. }) => Some("stale"),
        Err(Reject::Full { .. }) => Some("full"),
        Err(Reject::SlowDown) => Some("slow down"),
        Err(Reject::OutdatedVersion { .. }) => Some("outdated"),
        Err(Reject::Banned { .. }) => Some("banned"),
        Err(Reject::StaleSequence { .. }) => Some("stale sequence"),
        Err(Reject::Expired { .. }) => Some("expired"),
        Err(Reject::Overclaim { .. }) => Some("overclaim"),
        Err(_) => None,
    });
    for notice in &outcome.notices {
        all.extend(match notice {
            Notice::Moved(moved) if moved.to == Standing::Probation => Some("readmitted"),
            Notice::Moved(moved) if moved.to.is_out() => Some("put out"),
            Notice::Moved(moved) if moved.from == Standing::Banned => Some("lifted"),
            Notice::Claimed { answer: Ok(_), .. } => Some("claimed"),
            Notice::Policy { what, .. } => Some(*what),
            Notice::AskOperator { .. } => Some("ask"),
            Notice::Closed(_) => Some("closed"),
            Notice::Round(record) if record.deferred > 0 => Some("deferred"),
            Notice::Round(_)
            | Notice::Moved(_)
            | Notice::Claimed { .. }
            | Notice::Leader { .. }
            | Notice::Validators { .. }
            | Notice::Changed(_) => None,
            Notice::Ordered(_) => Some("ordered"),
            Notice::Sealed(_) => Some("sealed"),
        });
    }
    all
}

/// SplitMix64: small, and good enough to choose commands.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A number from all over its range, its ends included.
    fn wild(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => u64::MAX,
            2 => i64::MAX as u64,
            3 => self.below(100),
            _ => self.next() >> self.below(64),
        }
    }

    fn node(&mut self) -> NodeId {
        node(&format!("N{:02}", self.below(70)))
    }

    fn bytes(&mut self, longest: u64) -> Vec<u8> {
        let len = self.below(longest);
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn command(&mut self, world: &mut World) -> Command {
        world.now_ms = match self.below(40) {
            0 => world.now_ms.saturating_add(self.below(100_000_000)),
            1 => world.now_ms.saturating_sub(self.below(10_000_000)),
            _ => world.now_ms.saturating_add(self.below(60_000)),
        };
        let now_ms = world.now_ms;
        match self.below(100) {
            0..30 => Command::Settle(Box::new(self.settle(world))),
            30..42 => {
                let mut settle = self.settle(world);
                for _ in 0..=self.below(2) {
                    self.spoil(&mut settle);
                }
                Command::Settle(Box::new(settle))
            }
            42..60 => {
                let mut join = world.join(&format!("N{:02}", self.below(70)));
                join.ip = self.of(&[
                    Ip::V4([127, 0, 0, 1]),
                    Ip::V4([10, 0, 0, 9]),
                    Ip::V4([10, 0, 0, 77]),
                    Ip::V4([10, 0, 1, 1]),
                    Ip::V6([0x20; 16]),
                ]);
                if self.one_in(20) {
                    join.version = ProtocolVersion { major: 0, minor: self.next() as u16 };
                }
                if self.one_in(50) {
                    join.name = String::from_utf8_lossy(&self.bytes(60)).into_owned();
                }
                Command::Join(join)
            }
            60..65 => Command::Leave(Leave { node: self.node(), now_ms }),
            65..67 => {
                let version = ProtocolVersion { major: 0, minor: self.below(3) as u16 };
                Command::Outdated(Outdated { node: self.node(), version, now_ms })
            }
            67..82 => Command::Claim(self.claim(world)),
            82..95 => {
                let what = self.operation(world);
                let reason = if self.one_in(50) { "x".repeat(self.below(400) as usize) } else { "by chance".into() };
                let operate = Operate { by: Operator::Token, reason, now_ms, what };
                match self.below(20) {
                    0 => Command::OperateIf(OperateIf { tag: world.state.settings_tag(), operate }),
                    1 => Command::OperateIf(OperateIf { tag: world.state.policies_tag(), operate }),
                    _ => Command::Operate(operate),
                }
            }
            95..99 => self.policy_command(now_ms),
            _ if self.one_in(3) => Command::Supers(Supers {
                changed: LogIndex((world.state.meta.supers_changed.0 + self.below(4)).saturating_sub(1)),
                supers: (0..self.of(&[0, 1, 1, 1, 1, 1, 2, 2, 3, 8, 9])).map(|_| self.super_of()).collect(),
                now_ms,
            }),
            _ if self.one_in(2) => Command::Lead(Lead { term: Term(self.below(50)), leader: self.node(), now_ms }),
            _ => Command::Found(Box::new(Found {
                cluster: ClusterId::default(),
                founder: Super { node: self.node(), name: String::new(), address: String::new() },
                settings: Settings::default(),
                now_ms,
            })),
        }
    }

    fn super_of(&mut self) -> Super {
        let name = self.of(&["super", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"]);
        let key = if self.one_in(30) { self.node() } else { node(name) };
        Super { node: key, name: name.into(), address: "a:1".into() }
    }

    fn settle(&mut self, world: &World) -> Settle {
        let mostly_up = self.of(&[3, 10, 50]);
        let mut seen = Seen::default();
        for node in world.state.queue.iter() {
            if self.one_in(mostly_up) {
                let missing = if self.one_in(5) { &mut seen.unknown } else { &mut seen.down };
                missing.insert(*node);
            }
        }
        seen.causes = if self.one_in(4) { self.below(16) as u8 } else { 0 };
        let kinds = [FaultKind::Trap, FaultKind::Deadline, FaultKind::NotPrepared, FaultKind::Fuel];
        seen.ban_fault = self.one_in(30).then(|| self.of(&kinds));
        seen.reward_fault = self.one_in(30).then(|| self.of(&kinds));
        world.settlement(&seen)
    }

    /// Changes something that an honest leader would not, as a decoded command may have it.
    fn spoil(&mut self, settle: &mut Settle) {
        let report = &mut settle.report;
        match self.below(20) {
            0 => settle.round = RoundId(self.wild()),
            1 => settle.settings_version = self.wild(),
            2 => settle.reward.policy = None,
            3 => settle.ban.policy = Some(policy(self.of(&RULES))),
            4 => report.presence = self.bytes(60),
            5 => report.presence.iter_mut().for_each(|code| *code = self.next() as u8),
            6 => report.returns = Bits::zeros(self.below(90) as usize),
            7 => report.addresses.push(At { at: self.wild() as u32, value: "x".repeat(self.below(90) as usize) }),
            8 => report.seats.iter_mut().for_each(|seat| {
                seat.seat = Seat(self.next() as u8);
                seat.grace_until = RoundId(self.wild());
                seat.rtt = self.bytes(60).into_iter().map(u16::from).collect();
            }),
            9 => report.asked.iter_mut().for_each(|seats| *seats = self.next() as u8),
            10 => report.marks.causes = self.next() as u8,
            11 => settle.now_ms = self.of(&[0, settle.now_ms.saturating_add(100_000_000)]),
            12 => settle.reward.answer = Answer::Fault(Fault { kind: FaultKind::Log, message: "m".repeat(2_000) }),
            _ => self.spoil_columns(settle),
        }
    }

    fn spoil_columns(&mut self, settle: &mut Settle) {
        if let Answer::Columns(columns) = &mut settle.ban.answer {
            match self.below(9) {
                0 => columns.strikes.truncate(self.below(40) as usize),
                1 => columns.standing.push(self.next() as u8),
                2 => columns.standing.iter_mut().for_each(|code| *code = self.below(4) as u8),
                3 => columns.standing.iter_mut().for_each(|code| *code = self.below(6) as u8),
                4 => columns.until.iter_mut().for_each(|until| *until = self.wild() as u32),
                5 => columns.reasons.iter_mut().for_each(|code| *code = self.below(4) as u16),
                6 => columns.strikes.iter_mut().for_each(|strikes| *strikes = self.next() as u16),
                7 => columns.delta = self.bytes(200),
                _ => columns.standing.fill(3),
            }
        }
        if let Answer::Columns(columns) = &mut settle.reward.answer {
            match self.below(6) {
                0 => columns.points.push(1),
                1 => columns.points.iter_mut().for_each(|points| *points = self.wild() as i64),
                2 => columns.points.iter_mut().for_each(|points| *points = 900 - self.below(2_000) as i64),
                3 => columns.reasons.iter_mut().for_each(|code| *code = self.below(3) as u16),
                4 => columns.delta = self.bytes(200),
                _ => {
                    let (bp, min) = (self.wild() as u32, self.below(1_200) as u32);
                    columns.tariff = Tariff { overclaim_bp: bp, overclaim_min: min, record_fee: 0, record_fee_kib: 0 };
                }
            }
        }
    }

    fn claim(&mut self, world: &World) -> Claim {
        let node = self.node();
        let last = world.state.members.get(&node).and_then(|member| member.profile.claim.as_ref());
        let next = last.map_or(1, |last| last.sequence.saturating_add(1));
        let sequence = match self.below(10) {
            0 => self.below(50),
            1 => next.saturating_sub(1),
            _ => next.saturating_add(self.below(3)),
        };
        let digest = match last {
            Some(last) if self.one_in(5) => last.digest,
            _ => Digest::of(&self.next().to_le_bytes()),
        };
        let amount = match self.below(6) {
            0 => Amount::All,
            1 => Amount::Exactly(self.wild()),
            _ => Amount::Exactly(1 + self.below(60)),
        };
        let ahead = if self.one_in(10) { self.below(200_000_000) } else { 600_000 };
        let to = if self.one_in(3) { self.node() } else { node };
        let expires_ms = world.state.meta.stamp_ms.saturating_add(ahead).saturating_sub(self.of(&[0, 0, 900_000]));
        Claim { node, sequence, expires_ms, amount, to, digest, now_ms: world.now_ms }
    }

    fn operation(&mut self, world: &World) -> Operation {
        let slot = self.of(&Slot::ALL);
        let rule = self.of(&RULES);
        let settled = world.state.meta.settled;
        match self.below(14) {
            0 => Operation::AcceptRound,
            1 => Operation::AcceptPolicy(slot),
            2 => Operation::Ban { node: self.node(), rounds: if self.one_in(5) { self.wild() } else { self.below(9) } },
            3 => Operation::LiftNodes((0..self.below(4)).map(|_| self.node()).collect()),
            4 => {
                let since = RoundId(settled.0.saturating_sub(self.below(10)));
                Operation::LiftPolicy { policy: policy(rule), since }
            }
            5 => Operation::Compensate(
                (0..self.below(3))
                    .map(|_| Compensation {
                        node: self.node(),
                        points: Points(self.of(&[1, 50, 0, -1, COMPENSATION_POINTS, i64::MAX])),
                        round: RoundId(self.below(settled.0 + 2)),
                        reason: String::new(),
                    })
                    .collect(),
            ),
            6 => Operation::SetClass { node: self.node(), class: self.next() as u32 },
            7 => Operation::Set(self.changes()),
            8 => Operation::FileSettings(self.changes()),
            9 => {
                let round = self.one_in(2).then(|| RoundId((settled.0 + 5).saturating_sub(self.below(6))));
                Operation::Activate { slot: Rule::parse(rule).slot(), policy: policy(rule), round }
            }
            10 if self.one_in(3) => {
                Operation::Emergency { slot: Rule::parse(rule).slot(), policy: policy(rule), round: None }
            }
            10 => Operation::Rollback(slot),
            11 => Operation::SetBuiltin { slot, policy: policy(rule) },
            12 if self.one_in(2) => {
                let policy = self.one_in(2).then(|| policy(rule));
                Operation::Shadow { slot: Rule::parse(rule).slot(), policy }
            }
            12 => Operation::FileSaid { slot, policy: policy(rule) },
            _ if self.one_in(100) => Operation::LiftNodes(vec![self.node(); LIFTS + 1]),
            _ if self.one_in(100) => {
                let line = Compensation { node: self.node(), points: Points(1), round: settled, reason: String::new() };
                Operation::Compensate(vec![line; COMPENSATIONS + 1])
            }
            _ => Operation::Activate { slot, policy: Digest::of(&self.bytes(4)), round: None },
        }
    }

    /// Settings that keep the run lively, and some that are no settings.
    fn changes(&mut self) -> Vec<SettingChange> {
        let keys = [
            ("guardrails.probation_rounds", 5),
            ("guardrails.moves_rounds", 30),
            ("guardrails.wallet_fee", 3),
            ("guardrails.bans_round_min", 4),
            ("guardrails.tariff_max", 1_200),
            ("guard.suspect_rounds", 4),
            ("guardrails.notice_rounds", 6),
            ("guardrails.notice_always", 3),
            ("round.ping_timeout_ms", 9_000),
            ("no.such_key", 2),
        ];
        let count = self.below(3);
        let change = |chance: &mut Self| {
            let (key, below) = chance.of(&keys);
            SettingChange { key: key.into(), value: chance.below(below).to_string() }
        };
        (0..count).map(|_| change(self)).collect()
    }

    fn policy_command(&mut self, now_ms: u64) -> Command {
        let rule = self.of(&RULES);
        let parsed = Rule::parse(rule);
        let component = Digest::of(rule.as_bytes());
        match self.below(5) {
            0 => Command::Ready(Ready { seat: Seat(self.below(2) as u8), policy: policy(rule) }),
            1 => {
                let mut description = parsed.description();
                description.memory_bytes =
                    if self.one_in(2) { self.below(400) as u32 } else { description.memory_bytes };
                let config = self.of(&["{}", "{\"a\":1}"]);
                let by = Operator::File;
                Command::Stage(Stage { slot: parsed.slot(), component, config: config.into(), description, by, now_ms })
            }
            2 => {
                let size = rule.len() as u32;
                Command::Chunk(Chunk { component, size, offset: 0, bytes: rule.as_bytes().to_vec() })
            }
            3 => {
                let component = Digest::of(&[self.below(6) as u8]);
                let (size, offset) = (self.below(9) as u32, self.below(9) as u32);
                Command::Chunk(Chunk { component, size, offset, bytes: self.bytes(9) })
            }
            _ if self.one_in(4) => {
                let (seat, why) = (Seat(self.below(2) as u8), "é".repeat(self.below(150) as usize));
                Command::Unready(Unready { seat, policy: policy(rule), why })
            }
            _ => Command::Ready(Ready { seat: Seat(0), policy: policy(rule) }),
        }
    }
}
