//! The cluster that a case is played in: the kernel, and nothing but time and letters around it.

use kernel::columns::Deciding;
use kernel::command::{Chunk, Command, Found, Ip, Join, Lead, Operate, Operation, Operator, Ready, Stage, Super};
use kernel::decide::{Fault, Policy, Slot};
use kernel::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, ProtocolVersion, RoundId, Seat, Term};
use kernel::limits::CHUNK_BYTES;
use kernel::members::Place;
use kernel::outcome::{Notice, Reject, RoundRecord};
use kernel::round::{Bits, Marks, Presence, Report, SeatReport, cause, fact, rtt_code};
use kernel::settings::Settings;
use kernel::state::State;
use kernel::units::Points;

use super::file::{Each, Start};
use crate::admit::Admitted;
use crate::failing::Failing;
use crate::sandbox::engine_name;

/// When the first round of a case is settled: 2026-01-01, ms since 1970.
pub(super) const START_MS: u64 = 1_767_225_600_000;
const FOUNDER: NodeId = NodeId([0xff; 32]);
/// Lines of a rule's log that are kept.
pub(super) const LOG_LINES: usize = 20;

/// Keys are in ascending order, so that members stand in the order of the letters.
pub(super) fn node(at: usize) -> NodeId {
    let mut key = [0; 32];
    key[24..].copy_from_slice(&(at as u64 + 1).to_be_bytes());
    NodeId(key)
}

/// The cluster of a case: one super, and rounds that are settled as soon as they are seen.
pub(super) struct World {
    pub(super) state: State,
    now_ms: u64,
    /// The last lines that the rule logged.
    pub(super) log: Vec<String>,
    /// Its faults, each with the round of the case.
    pub(super) faults: Vec<(u64, Fault)>,
    /// The first call with members in which it failed.
    pub(super) failing: Option<Box<Failing>>,
    last: Option<RoundRecord>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            state: State::default(),
            now_ms: START_MS,
            log: Vec::new(),
            faults: Vec::new(),
            failing: None,
            last: None,
        }
    }

    fn apply(&mut self, command: &Command) -> Result<(), String> {
        let outcome = self.state.apply(LogIndex(self.state.meta.applied.0 + 1), command);
        for notice in outcome.notices {
            if let Notice::Round(record) = notice {
                let round = record.round.0.saturating_sub(1);
                let faults = record.slots.iter().filter_map(|slot| slot.fault.clone());
                self.faults.extend(faults.map(|fault| (round, fault)));
                self.last = Some(*record);
            }
        }
        match outcome.reply {
            Ok(_) | Err(Reject::Banned { .. }) => Ok(()),
            Err(reject) => Err(format!("the cluster of the case refused a command: {reject:?}")),
        }
    }

    pub(super) fn found(&mut self, settings: Settings) -> Result<(), String> {
        let founder = Super { node: FOUNDER, name: "super-1".into(), address: "127.0.0.1:1".into() };
        let cluster = ClusterId { id: "case".into(), genesis: Genesis([1; 16]) };
        self.apply(&Command::Found(Box::new(Found { cluster, founder, settings, now_ms: self.now_ms })))?;
        self.apply(&Command::Lead(Lead { term: Term(1), leader: FOUNDER, now_ms: self.now_ms }))
    }

    pub(super) fn install(
        &mut self,
        slot: Slot,
        bytes: &[u8],
        config: &str,
        admitted: &Admitted,
    ) -> Result<(), String> {
        let component = Digest::of(bytes);
        let (size, now_ms, by) = (bytes.len() as u32, self.now_ms, Operator::File);
        for (at, piece) in bytes.chunks(CHUNK_BYTES).enumerate() {
            let offset = (at * CHUNK_BYTES) as u32;
            self.apply(&Command::Chunk(Chunk { component, size, offset, bytes: piece.to_vec() }))?;
        }
        let description = admitted.description.clone();
        self.apply(&Command::Stage(Stage { slot, component, config: config.into(), description, by, now_ms }))?;
        self.apply(&Command::Ready(Ready { seat: Seat(0), policy: admitted.digest }))?;
        let what = Operation::Activate { slot, policy: admitted.digest, round: None };
        self.apply(&Command::Operate(Operate { by, reason: String::new(), now_ms, what }))
    }

    pub(super) fn join(&mut self, at: usize) -> Result<(), String> {
        self.apply(&Command::Join(Join {
            node: node(at),
            name: String::new(),
            version: ProtocolVersion::OURS,
            software: "case".into(),
            ip: Ip::V4([127, 0, 0, 1]),
            port: 1,
            rest: None,
            now_ms: self.now_ms,
        }))
    }

    pub(super) fn earned(&self, at: usize) -> Points {
        self.state.members.get(&node(at)).map_or(Points::ZERO, |member| member.hot.earned)
    }

    pub(super) fn reward_reason(&self, at: usize, reasons: &[String]) -> String {
        let number = self.state.members.get(&node(at)).map(|member| member.profile.number);
        let code = self.last.as_ref().and_then(|record| {
            let row = record.members.iter().position(|member| Some(*member) == number)?;
            record.reasons.get(row).copied()
        });
        let text = code.and_then(|code| reasons.get(usize::from(code).checked_sub(1)?));
        text.cloned().unwrap_or_default()
    }

    pub(super) fn round(
        &mut self,
        suspect: bool,
        seen: &str,
        start: &Start,
        policy: &dyn Policy,
        slot: Slot,
    ) -> Result<(), String> {
        let seen: Vec<char> = seen.chars().collect();
        for (at, _) in seen.iter().enumerate().filter(|(_, letter)| **letter == '+') {
            // Who is there and not in the queue attaches, and is refused while it is banned.
            let place = self.state.members.get(&node(at)).map(|member| member.hot.place);
            if place.is_none_or(Place::is_out) {
                self.join(at)?;
            }
        }
        let report = self.report(suspect, &seen, start);
        self.now_ms = self.now_ms.saturating_add(self.state.meta.settings.interval_ms);
        let deciding = Deciding::gather(&self.state, report, Vec::new(), self.now_ms);
        let (ban, reward) = match slot {
            Slot::Ban => (Some(policy), None),
            Slot::Reward => (None, Some(policy)),
            Slot::Signing => (None, None),
        };
        // A call with nobody in it says least.
        let said_more = self.failing.as_ref().is_some_and(|failing| !failing.inputs.members.is_empty());
        let inputs = deciding.inputs(slot).filter(|_| !said_more);
        let (settle, log) = deciding.run(ban, reward, engine_name());
        let fault = match slot {
            Slot::Ban => settle.ban.answer.fault(),
            Slot::Reward => settle.reward.answer.fault(),
            Slot::Signing => None,
        };
        if let (Some(inputs), Some(fault)) = (inputs, fault) {
            let at = |node: &NodeId| node.0[24..].iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
            let names = self.state.queue.iter().map(|node| format!("member-{}", at(node))).collect();
            if self.failing.is_none() || !inputs.members.is_empty() {
                self.failing = Some(Box::new(Failing { inputs, names, fault: fault.clone() }));
            }
        }
        self.log.extend(log.into_iter().map(|(_, line)| line.message));
        let old = self.log.len().saturating_sub(LOG_LINES);
        self.log.drain(..old);
        self.apply(&Command::Settle(Box::new(settle)))
    }

    fn report(&self, suspect: bool, seen: &[char], start: &Start) -> Report {
        let queue = &self.state.queue;
        let at_of = |member: &NodeId| member.0[24..].iter().fold(0_usize, |n, b| n << 8 | usize::from(*b)) - 1;
        let letters: Vec<(usize, char)> =
            queue.iter().map(at_of).map(|at| (at, seen.get(at).copied().unwrap_or('?'))).collect();
        let column = |of: Option<&Each<u32>>, at: usize| Each::of(of, at).unwrap_or_default();
        let up = |letter: char| letter == '+';
        let members = letters.len();
        Report {
            round: self.state.meta.settled.next(),
            term: self.state.meta.term,
            presence: letters
                .iter()
                .map(|(_, letter)| match letter {
                    '+' => Presence::Up.code(),
                    '-' => Presence::Down.code(),
                    _ => Presence::Unknown.code(),
                })
                .collect(),
            facts: letters.iter().map(|(_, letter)| if *letter == '-' { fact::ABSENT } else { 0 }).collect(),
            asked: letters.iter().map(|(_, letter)| u8::from(*letter != '?')).collect(),
            seen: letters.iter().map(|(_, letter)| u8::from(up(*letter))).collect(),
            data: letters
                .iter()
                .map(|(at, letter)| if up(*letter) { column(start.data.as_ref(), *at).into() } else { 0 })
                .collect(),
            addresses: Vec::new(),
            returns: Bits::zeros(members),
            seats: vec![SeatReport {
                seat: Seat(0),
                came: true,
                lag_ms: 0,
                open_since_ms: 1,
                refused: 0,
                grace_until: RoundId(0),
                load_rounds: 0,
                rtt: letters
                    .iter()
                    .map(|(at, letter)| if up(*letter) { rtt_code(column(start.rtt_us.as_ref(), *at)) } else { 0 })
                    .collect(),
            }],
            marks: Marks { causes: if suspect { cause::MISSING } else { 0 }, partials: 1, ..Marks::default() },
        }
    }
}
