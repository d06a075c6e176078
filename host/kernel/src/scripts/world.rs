//! A cluster that scripts and properties act on: its state, a twin that applies the same log, the rows that a store would
//! hold, and the invariants that are checked after every command.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Row, Rule};
use super::shelf::{Shelf, check_encoding, same};
use crate::command::{
    Answer, Chunk, Command, Decided, Found, Ip, Join, Lead, Operate, Operation, Operator, Ready, Settle,
};
use crate::command::{Stage, Super};
use crate::decide::{Fault, FaultKind, Slot};
use crate::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, ProtocolVersion, Seat, Term};
use crate::ledger::Account;
use crate::limits::SEATS;
use crate::members::Place;
use crate::outcome::{Outcome, Write};
use crate::round::{Bits, Marks, Presence, Report, SeatReport};
use crate::settings::Settings;
use crate::standing::Standing;
use crate::state::State;
use crate::units::Points;

/// Where time begins.
pub(crate) const START_MS: u64 = 1_000_000_000_000;

/// The cluster.
#[derive(Default)]
pub(crate) struct World {
    pub state: State,
    pub shelf: Shelf,
    pub rules: BTreeMap<Digest, String>,
    twin: State,
    index: LogIndex,
    pub now_ms: u64,
    pub term: Term,
    sequences: BTreeMap<NodeId, (u32, u64)>,
    books: BTreeMap<Account, i64>,
}

/// What a round saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub down: BTreeSet<NodeId>,
    pub unknown: BTreeSet<NodeId>,
    pub causes: u8,
    pub ban_fault: Option<FaultKind>,
    pub reward_fault: Option<FaultKind>,
}

/// The node of a short name: its bytes are the name, so that order of name is order of key.
pub(crate) fn node(name: &str) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    NodeId(bytes)
}

/// The name of a node.
pub(crate) fn name(node: NodeId) -> String {
    node.0.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

/// The policy of a rule's name.
pub(crate) fn policy(rule: &str) -> Digest {
    Digest::of_policy(Digest::of(rule.as_bytes()), Digest::of(b"{}"))
}

impl World {
    /// A cluster of one super, with these settings and rules.
    pub(crate) fn found(settings: Settings, rules: &[&str]) -> Self {
        let mut world = Self { now_ms: START_MS, term: Term(1), ..Self::default() };
        world.apply(Command::Found(Box::new(Found {
            cluster: ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) },
            founder: Super { node: node("super"), name: "s0".into(), address: "localhost:1".into() },
            settings,
            now_ms: START_MS,
        })));
        world.apply(Command::Lead(Lead { term: Term(1), leader: node("super"), now_ms: START_MS }));
        for rule in rules {
            world.stage(rule, true);
            let slot = Rule::parse(rule).slot();
            world.operate("", Operation::Activate { slot, policy: policy(rule), round: None });
        }
        world
    }

    /// Puts rows into the state as if they had been found in a store.
    pub(crate) fn restore<const N: usize>(&mut self, rows: [Write; N]) {
        self.shelf.take(&rows);
        self.state = self.shelf.load();
        self.twin = self.state.clone();
    }

    /// Applies a command and checks what must always hold.
    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        same(&command);
        let outcome = self.apply_quickly(command);
        check_encoding(&outcome.writes);
        self.check_whole();
        outcome
    }

    /// The same without the checks that look at everything.
    pub(crate) fn apply_quickly(&mut self, command: Command) -> Outcome {
        self.index = LogIndex(self.index.0 + 1);
        let settles = matches!(command, Command::Settle(_));
        let outcome = self.state.apply(self.index, &command);
        assert!(outcome == self.twin.apply(self.index, &command), "two replicas answer differently");
        self.shelf.take(&outcome.writes);
        self.check(&outcome, settles);
        outcome
    }

    /// Checks that the twin and a start from the stored rows have the same state.
    pub(crate) fn check_whole(&self) {
        assert!(self.twin == self.state, "two replicas differ");
        assert!(self.shelf.load() == self.state, "the rows do not give the state");
        self.check_books();
    }

    fn check(&mut self, outcome: &Outcome, settles: bool) {
        let state = &self.state;
        assert_eq!(state.sum(), 0, "the books do not close");
        assert!(state.meta.treasury <= Points::ZERO);
        assert!(state.wallets.values().all(|wallet| wallet.balance >= Points::ZERO));
        assert!(state.queue.is_sorted());
        let memories = state.slots.iter().flat_map(|slot| [&slot.memory, &slot.saved]);
        let mut blocks = memories.flat_map(|memory| memory.blocks.values());
        assert!(blocks.all(|bytes| bytes.iter().any(|byte| *byte != 0)), "a block of memory is all zero");
        let entering = state.members.values().filter(|member| member.hot.place == Place::Entering).count();
        assert_eq!(state.meta.joins as usize, entering, "joins of the round");
        let seats: BTreeSet<u8> = state.meta.seats.iter().chain(&state.meta.left).map(|row| row.seat.0).collect();
        let supers: BTreeSet<NodeId> = state.meta.seats.iter().map(|row| row.holder.node).collect();
        assert_eq!(seats.len(), state.meta.seats.len() + state.meta.left.len(), "two supers on one seat");
        assert_eq!(supers.len(), state.meta.seats.len(), "a super on two seats");
        assert!(!supers.is_empty() && seats.iter().all(|seat| *seat < SEATS));
        for (node, member) in &state.members {
            let hot = &member.hot;
            assert!(!supers.contains(node) || hot.place.is_out(), "{} has two roles", name(*node));
            assert!(hot.earned >= Points::ZERO, "{}", name(*node));
            assert_eq!(hot.place.is_queued(), state.queue.binary_search(node).is_ok(), "{}", name(*node));
            assert!(
                hot.standing != Standing::Banned || !hot.place.is_queued() || hot.by_hand,
                "{} is banned and in the queue",
                name(*node)
            );
            if let Some(claim) = &member.profile.claim {
                let life = member.profile.number.0;
                let last = self.sequences.insert(*node, (life, claim.sequence));
                assert!(last.is_none_or(|(old, last)| old != life || claim.sequence >= last), "a sequence fell");
            }
        }
        for write in &outcome.writes {
            match write {
                Write::Round(record) => {
                    assert!(settles && record.points.len() == record.members.len());
                    for (number, points) in record.members.iter().zip(&record.points) {
                        let node = state.numbers[number];
                        assert!(
                            *points <= 0 || state.members[&node].hot.standing.is_paid(),
                            "paid a member that is out"
                        );
                        post(&mut self.books, Account::Treasury, Account::Earned(node), *points);
                    }
                }
                Write::Line(line) => {
                    assert!(line.points > Points::ZERO);
                    post(&mut self.books, line.from, line.to, line.points.0);
                }
                Write::Meta(_)
                | Write::Profile(..)
                | Write::Hot(..)
                | Write::Wallet(..)
                | Write::Slot(..)
                | Write::Policy(..)
                | Write::Component(..)
                | Write::Upload(..)
                | Write::Memory { .. }
                | Write::Validators(_)
                | Write::Batch(..)
                | Write::Contents(..)
                | Write::Move(_)
                | Write::Change(_) => {}
            }
        }
    }

    /// Checks that every balance is the sum of the movements that were written down.
    fn check_books(&self) {
        let state = &self.state;
        let earned = state.members.iter().map(|(node, member)| (Account::Earned(*node), member.hot.earned.0));
        let wallets = state.wallets.iter().map(|(key, wallet)| (Account::Wallet(*key), wallet.balance.0));
        let all = [(Account::Treasury, state.meta.treasury.0)].into_iter().chain(earned).chain(wallets);
        let balances: BTreeMap<Account, i64> = all.filter(|(_, balance)| *balance != 0).collect();
        assert!(balances == self.books, "a balance is not what the lines say");
    }

    /// Brings a rule's component in, stages it and acknowledges it.
    pub(crate) fn stage(&mut self, rule: &str, ready: bool) -> Outcome {
        let component = Digest::of(rule.as_bytes());
        self.rules.insert(policy(rule), rule.into());
        let chunk = Chunk { component, size: rule.len() as u32, offset: 0, bytes: rule.as_bytes().to_vec() };
        self.apply(Command::Chunk(chunk));
        let parsed = Rule::parse(rule);
        let staged = self.apply(Command::Stage(Stage {
            slot: parsed.slot(),
            component,
            config: "{}".into(),
            description: parsed.description(),
            by: Operator::Socket,
            now_ms: self.now_ms,
        }));
        if ready {
            self.apply(Command::Ready(Ready { seat: Seat(0), policy: policy(rule) }));
        }
        staged
    }

    /// An operator's decision.
    pub(crate) fn operate(&mut self, reason: &str, what: Operation) -> Outcome {
        let operate = Operate { by: Operator::Socket, reason: reason.into(), now_ms: self.now_ms, what };
        self.apply(Command::Operate(operate))
    }

    /// A join with nothing special about it.
    pub(crate) fn join(&self, name: &str) -> Join {
        Join {
            node: node(name),
            name: name.to_lowercase(),
            version: ProtocolVersion::OURS,
            software: "0.1.0".into(),
            ip: Ip::V4([127, 0, 0, 1]),
            port: 7_000,
            rest: None,
            now_ms: self.now_ms,
        }
    }

    /// The settlement that an honest leader would propose.
    pub(crate) fn settlement(&self, seen: &Seen) -> Settle {
        let state = &self.state;
        let suspect = seen.causes != 0;
        let presence = |node: &NodeId| match (seen.down.contains(node), seen.unknown.contains(node)) {
            (true, _) => Presence::Down,
            (false, true) => Presence::Unknown,
            (false, false) => Presence::Up,
        };
        let len = state.queue.len();
        let up = state.queue.iter().map(|node| u8::from(presence(node) == Presence::Up));
        let report = Report {
            round: state.meta.settled.next(),
            term: self.term,
            presence: state.queue.iter().map(|node| presence(node).code()).collect(),
            facts: vec![0; len],
            asked: vec![1; len],
            seen: up.clone().collect(),
            data: up.map(|up| 7 * u64::from(up)).collect(),
            addresses: Vec::new(),
            returns: Bits::zeros(len),
            seats: Vec::from([SeatReport {
                seat: Seat(0),
                came: true,
                lag_ms: 0,
                open_since_ms: START_MS,
                refused: 0,
                grace_until: state.meta.seats[0].grace_until,
                load_rounds: 0,
                rtt: vec![900; len],
            }]),
            marks: Marks { causes: seen.causes, ..Marks::default() },
        };
        let rows = |slot: Slot, doubt: bool| -> Vec<(Presence, Vec<u8>)> {
            let row = |node: &NodeId| {
                let mut row = Vec::new();
                state.slot(slot).memory.read(state.members[node].profile.number, &mut row);
                row
            };
            let seen = |node: &NodeId| {
                if doubt && presence(node) == Presence::Down { Presence::Unknown } else { presence(node) }
            };
            state.queue.iter().map(|node| (seen(node), row(node))).collect()
        };
        let rule = |slot| {
            state
                .active(slot)
                .map(|(_, row)| Rule::parse(core::str::from_utf8(&state.components[&row.component]).unwrap()))
        };
        let fault = |kind| Fault::new(kind, "by the script");
        let (ban_rows, reward_rows) = (rows(Slot::Ban, false), rows(Slot::Reward, suspect));
        let ban = match (rule(Slot::Ban), seen.ban_fault) {
            (None, _) => Answer::NotCalled,
            (Some(_), _) if suspect => Answer::NotCalled,
            (Some(_), Some(kind)) => Answer::Fault(fault(kind)),
            (Some(rule), None) => rule.judge(&self.rows(&ban_rows)),
        };
        let reward = match (rule(Slot::Reward), seen.reward_fault) {
            (None, _) => Answer::NotCalled,
            (Some(_), Some(kind)) => Answer::Fault(fault(kind)),
            (Some(rule), None) => rule.reward(&self.rows(&reward_rows)),
        };
        let decided = |slot: Slot| state.slot(slot).row.active;
        Settle {
            round: report.round,
            term: report.term,
            now_ms: self.now_ms,
            settings_version: state.meta.settings_version,
            report,
            partials: Vec::new(),
            ban: Decided { policy: decided(Slot::Ban), input: Some(Digest::of(b"ban")), answer: ban, fuel: 1 },
            reward: Decided {
                policy: decided(Slot::Reward),
                input: Some(Digest::of(b"reward")),
                answer: reward,
                fuel: 1,
            },
            engine: "native".into(),
            columns: state.meta.applied,
        }
    }

    fn rows<'a>(&'a self, seen: &'a [(Presence, Vec<u8>)]) -> Vec<Row<'a>> {
        let members = self.state.queue.iter().map(|node| &self.state.members[node]);
        members.zip(seen).map(|(member, (presence, memory))| Row { member, presence: *presence, memory }).collect()
    }

    /// Settles the next round, an interval later.
    pub(crate) fn settle(&mut self, seen: &Seen) -> Outcome {
        self.now_ms += self.state.meta.settings.interval_ms;
        let settle = self.settlement(seen);
        self.apply(Command::Settle(Box::new(settle)))
    }
}

fn post(books: &mut BTreeMap<Account, i64>, from: Account, to: Account, points: i64) {
    for (account, change) in [(from, -points), (to, points)] {
        let balance = books.remove(&account).unwrap_or_default() + change;
        if balance != 0 {
            books.insert(account, balance);
        }
    }
}
