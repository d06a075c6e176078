//! Stored and replicated values have these bytes, whatever changes around them. A hash that differs means that data of the
//! release before would be read as something else: give new fields new numbers, and change a hash here only as a decision
//! of its own.

use minicbor::Encode;

use super::world::{START_MS, Seen, World, node, policy};
use crate::command::{
    Amount, Claim, Command, Compensation, Lead, Leave, Operate, OperateIf, Operation, Operator, Outdated, Ready,
    Restore, SettingChange, Super, Supers, Unready,
};
use crate::decide::{Fault, FaultKind, Slot};
use crate::id::{Digest, Genesis, LogIndex, MemberNumber, ProtocolVersion, RoundId, Seat, Term};
use crate::ledger::{Account, Wallet};
use crate::members::{ClaimAnswer, Hot, LastClaim, Place};
use crate::outcome::{Author, Change, Kind, Line, Move, Reject, Write};
use crate::policies::{Scheduled, Shadowed, SlotRow};
use crate::round::{Presence, SeatRow};
use crate::settings::Settings;
use crate::standing::Standing;
use crate::state::Meta;
use crate::units::Points;

/// The first 8 hex digits of the hash of a value's bytes.
fn hash<T: Encode<()>>(value: &T) -> String {
    Digest::of(&minicbor::to_vec(value).unwrap()).to_string()[7..15].into()
}

fn check(cases: &[(&str, String, &str)]) {
    let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
    assert!(wrong.is_empty(), "name, found, expected: {wrong:#?}");
}

fn hot() -> Hot {
    Hot {
        place: Place::Leaving,
        standing: Standing::Suspended,
        strikes: 3,
        until: RoundId(4),
        probation_left: 5,
        age: 6,
        earned: Points(7),
        claimed: Points(8),
        penalties: Points(9),
        presence: Presence::Up,
        trusted_up: true,
        last_up: RoundId(10),
        asked_seats: 11,
        moved_out: RoundId(12),
        left: RoundId(13),
        by_hand: true,
        rtt_us: 14,
        data: 15,
        held_by: Some(policy("tyrant")),
        held_at: RoundId(16),
        away: 17,
    }
}

#[test]
fn rows_have_these_bytes() {
    let slot = SlotRow {
        active: Some(policy("a")),
        previous: Some(policy("b")),
        builtin: Some(policy("c")),
        scheduled: Some(Scheduled { policy: None, round: RoundId(1), returned: true, emergency: true }),
        faults: vec![RoundId(2)],
        deadline_faults: 3,
        held: true,
        file_said: Some(policy("d")),
        faults_total: 4,
        moves_accepted: RoundId(5),
        shadow: Some(Shadowed { policy: policy("e"), since: LogIndex(6), round: RoundId(7) }),
    };
    let moved = Move {
        index: LogIndex(1),
        node: node("A"),
        round: RoundId(2),
        now_ms: 3,
        from: Standing::Good,
        to: Standing::Banned,
        strikes: 4,
        until: Some(RoundId(5)),
        reason: "why".into(),
        by: Author::Operator(Operator::Console),
    };
    let line = Line {
        index: LogIndex(1),
        part: 2,
        round: RoundId(3),
        kind: Kind::WalletFee,
        from: Account::Earned(node("A")),
        to: Account::Wallet(node("B")),
        points: Points(-4),
        policy: Some(policy("a")),
        reason: "why".into(),
        now_ms: 5,
    };
    let change = Change {
        index: LogIndex(1),
        part: 2,
        now_ms: 3,
        by: Some(Operator::Token),
        what: "what".into(),
        from: "from".into(),
        to: "to".into(),
        reason: "why".into(),
    };
    let claim = LastClaim {
        sequence: 1,
        digest: policy("a"),
        answer: ClaimAnswer::Refused(Reject::Overclaim { penalty: Points(1), earned: Points(2) }),
        round: RoundId(2),
        since_round: 3,
        expires_ms: 4,
    };
    check(&[
        ("hot", hash(&vec![(MemberNumber(1), hot())]), "8dc4c73a"),
        ("wallet", hash(&Wallet { balance: Points(1), empty_since_ms: Some(2), transfer: None }), "94f3e3eb"),
        ("slot", hash(&slot), "b359f959"),
        ("move", hash(&moved), "96000736"),
        ("line", hash(&line), "f8460598"),
        ("change", hash(&change), "02c82896"),
        ("last claim", hash(&claim), "14a1c577"),
        ("settings", hash(&Settings::default()), "b9710308"),
    ]);
}

#[test]
fn a_last_claim_of_before_its_round_was_kept_can_be_read() {
    let claim = LastClaim {
        sequence: 1,
        digest: policy("a"),
        answer: ClaimAnswer::Refused(Reject::Overclaim { penalty: Points(1), earned: Points(2) }),
        round: RoundId(0),
        since_round: 0,
        expires_ms: 0,
    };
    let mut bytes = minicbor::to_vec(&claim).unwrap();
    // A list of six fields becomes one of three.
    assert_eq!((bytes[0], bytes.pop(), bytes.pop(), bytes.pop()), (0x86, Some(0), Some(0), Some(0)));
    bytes[0] = 0x83;
    assert_eq!(minicbor::decode::<LastClaim>(&bytes).unwrap(), claim);
}

/// The bytes of a value without its last fields, which are so short.
fn without<T: Encode<()>>(value: &T, head: (&[u8], &[u8]), tail: &[u8]) -> Vec<u8> {
    let bytes = minicbor::to_vec(value).unwrap();
    let (now, before) = head;
    let rest = bytes.strip_prefix(now).and_then(|rest| rest.strip_suffix(tail)).unwrap();
    [before, rest].concat()
}

#[test]
fn rows_of_before_supers_came_and_went_can_be_read() {
    let hot = Hot { away: 0, ..hot() };
    let bytes = without(&hot, (&[0x95], &[0x94]), &[0]);
    assert_eq!(minicbor::decode::<Hot>(&bytes).unwrap(), hot);

    let founded = World::found(Settings::default(), &[]).state.meta;
    let bytes = without(&founded.seats[0], (&[0x87], &[0x86]), &[0]);
    assert_eq!(minicbor::decode::<SeatRow>(&bytes).unwrap(), founded.seats[0]);
    let meta = Meta { seats: Vec::new(), ..founded };
    let bytes = without(&meta, (&[0x98, 28], &[0x98, 25]), &[0x80, 0, 0x86, 0, 0, 0, 0, 0, 0]);
    assert_eq!(minicbor::decode::<Meta>(&bytes).unwrap(), meta);
}

#[test]
fn what_a_first_round_leaves_has_these_bytes() {
    let mut world = World::found(Settings::default(), &["count", "strikes"]);
    let join = world.join("A");
    let joined = world.apply(Command::Join(join.clone()));
    world.settle(&Seen::default());
    let settle = world.settlement(&Seen { down: [node("A")].into(), ..Seen::default() });
    let settled = world.apply(Command::Settle(Box::new(settle.clone())));
    let mut rows = Vec::new();
    for write in joined.writes.iter().chain(&settled.writes) {
        match write {
            Write::Meta(row) => rows.push(hash(&**row)),
            Write::Profile(_, row) => rows.push(hash(row)),
            Write::Round(row) => rows.push(hash(&**row)),
            Write::Hot(..)
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
            | Write::Line(_)
            | Write::Change(_) => {}
        }
    }
    let staged = world.state.active(Slot::Ban).map(|(_, row)| row.clone());
    check(&[
        ("profile, meta, profile, round, meta", rows.join(" "), "47cd1fa0 67948a43 1ca27929 6515ae31 0f944226"),
        ("policy", hash(&staged), "f0c8bec5"),
        ("join", hash(&Command::Join(join)), "7f544263"),
        ("settle", hash(&Command::Settle(Box::new(settle))), "00b91e87"),
    ]);
}

#[test]
fn commands_have_these_bytes() {
    let node = node("A");
    let now_ms = START_MS;
    let claim =
        Claim { node, sequence: 1, expires_ms: 2, amount: Amount::Exactly(3), to: node, digest: policy("a"), now_ms };
    let line = Compensation { node, points: Points(1), round: RoundId(2), reason: "why".into() };
    let change = SettingChange { key: "key".into(), value: "value".into() };
    let operations = [
        Operation::AcceptRound,
        Operation::AcceptPolicy(Slot::Ban),
        Operation::Ban { node, rounds: 1 },
        Operation::LiftNodes(vec![node]),
        Operation::LiftPolicy { policy: policy("a"), since: RoundId(1) },
        Operation::Compensate(vec![line]),
        Operation::SetClass { node, class: 1 },
        Operation::Set(vec![change.clone()]),
        Operation::Activate { slot: Slot::Reward, policy: policy("a"), round: Some(RoundId(1)) },
        Operation::Rollback(Slot::Reward),
        Operation::SetBuiltin { slot: Slot::Reward, policy: policy("a") },
        Operation::FileSaid { slot: Slot::Reward, policy: policy("a") },
        Operation::FileSettings(vec![change]),
        Operation::Emergency { slot: Slot::Reward, policy: policy("a"), round: None },
        Operation::Shadow { slot: Slot::Reward, policy: Some(policy("a")) },
    ];
    let operations: Vec<Command> = operations
        .into_iter()
        .map(|what| Command::Operate(Operate { by: Operator::Socket, reason: "why".into(), now_ms, what }))
        .collect();
    let outdated = Outdated { node, version: ProtocolVersion { major: 1, minor: 2 }, now_ms };
    let lead = Lead { term: Term(1), leader: node, now_ms };
    let ready = Ready { seat: Seat(1), policy: policy("a") };
    let unready = Unready { seat: Seat(1), policy: policy("a"), why: "why".into() };
    let sits = Super { node, name: "name".into(), address: "a:1".into() };
    let restore = Restore { genesis: Genesis([5; 16]), founder: sits.clone(), now_ms };
    let supers = Supers { changed: LogIndex(1), supers: vec![sits], now_ms };
    let accept = Operate { by: Operator::Socket, reason: "why".into(), now_ms, what: Operation::AcceptRound };
    let only = OperateIf { tag: policy("a"), operate: accept };
    check(&[
        ("operations", hash(&operations), "0e6125c8"),
        ("claim", hash(&Command::Claim(claim)), "24c97f37"),
        ("leave", hash(&Command::Leave(Leave { node, now_ms })), "a58e369c"),
        ("outdated", hash(&Command::Outdated(outdated)), "8f011fe7"),
        ("lead", hash(&Command::Lead(lead)), "81f19908"),
        ("ready", hash(&Command::Ready(ready)), "9d7c0844"),
        ("unready", hash(&Command::Unready(unready)), "02e6c85c"),
        ("supers", hash(&Command::Supers(supers)), "9f867843"),
        ("operate_if", hash(&Command::OperateIf(only)), "0c912461"),
        ("restore", hash(&Command::Restore(restore.into())), "0d08f991"),
        ("fault", hash(&Fault::new(FaultKind::Points, "why")), "10969fc0"),
    ]);
}
