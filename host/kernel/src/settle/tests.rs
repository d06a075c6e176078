use super::*;
use crate::command::{BanColumns, Command, RewardColumns};
use crate::decide::Tariff;
use crate::id::Seat;
use crate::policies::delta;
use crate::round::{At, cause};
use crate::scripts::world::{Seen, World, node};
use crate::settings::Settings;
use crate::standing::Standing;

fn cluster() -> World {
    let mut world = World::found(Settings::default(), &["flat", "strikes"]);
    for name in ["A", "B"] {
        let join = world.join(name);
        world.apply(Command::Join(join));
    }
    world.settle(&Seen::default());
    world
}

#[test]
fn what_was_seen_is_kept_until_something_else_is_seen() {
    let mut world = cluster();
    let mut settle = world.settlement(&Seen::default());
    settle.report.asked = vec![0b11, 0b10];
    settle.report.data = vec![5, 6];
    settle.report.seats[0].rtt = vec![900, 0];
    world.apply(Command::Settle(Box::new(settle)));
    let mut settle = world.settlement(&Seen { unknown: [node("B")].into(), ..Seen::default() });
    settle.report.asked = vec![0b01, 0];
    settle.report.data = vec![7, 0];
    settle.report.seats[0].rtt = vec![800, 0];
    world.apply(Command::Settle(Box::new(settle)));
    let hot = |name| {
        let hot = &world.state.members[&node(name)].hot;
        (hot.asked_seats, hot.data, hot.rtt_us, hot.last_up, hot.presence, hot.trusted_up)
    };
    assert_eq!(hot("A"), (0b01, 7, 800, RoundId(3), Presence::Up, true));
    assert_eq!(hot("B"), (0b10, 6, 0, RoundId(2), Presence::Unknown, true));
}

#[test]
fn addresses_are_kept_where_they_are_printable_and_of_the_queue() {
    let mut world = cluster();
    let mut settle = world.settlement(&Seen::default());
    let said = |at, value: &str| At { at, value: value.into() };
    settle.report.addresses =
        vec![said(0, "udp://a:1"), said(1, "tab\t"), said(1, &"x".repeat(65)), said(2, "b"), said(u32::MAX, "c")];
    world.apply(Command::Settle(Box::new(settle)));
    assert_eq!(world.state.members[&node("A")].profile.address.as_deref(), Some("udp://a:1"));
    assert_eq!(world.state.members[&node("B")].profile.address, None);
    let mut settle = world.settlement(&Seen::default());
    settle.report.addresses = vec![said(0, "")];
    world.apply(Command::Settle(Box::new(settle)));
    assert_eq!(world.state.members[&node("A")].profile.address, None);
}

#[test]
fn a_seat_is_kept_as_the_report_says_and_no_other_comes_into_being() {
    let mut world = cluster();
    let mut settle = world.settlement(&Seen::default());
    let seat = &mut settle.report.seats[0];
    (seat.came, seat.grace_until, seat.load_rounds, seat.open_since_ms) = (false, RoundId(9), 2, 77);
    let mut other = seat.clone();
    other.seat = Seat(3);
    settle.report.seats.push(other);
    world.apply(Command::Settle(Box::new(settle)));
    let rows = &world.state.meta.seats;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.came, row.grace_until, row.load_rounds, row.open_since_ms), (false, RoundId(9), 2, 77));
}

/// A settlement need not come from an honest leader: what a suspect round forbids is forbidden here.
#[test]
fn of_a_suspect_round_only_the_rows_that_are_up_are_paid_and_nobody_is_judged() {
    let mut world = World::found(Settings::default(), &["count", "strikes"]);
    for name in ["A", "B", "C"] {
        let join = world.join(name);
        world.apply(Command::Join(join));
    }
    world.settle(&Seen::default());
    let seen = Seen { down: [node("B")].into(), unknown: [node("C")].into(), ..Seen::default() };
    let mut settle = world.settlement(&seen);
    settle.report.marks.causes = cause::LAG;
    settle.ban.answer = Answer::Columns(BanColumns {
        strikes: vec![9; 3],
        standing: vec![Standing::Banned.code(); 3],
        until: vec![5; 3],
        reasons: vec![1; 3],
        delta: delta(&[0; 3], &[7; 3]),
    });
    settle.reward.answer = Answer::Columns(RewardColumns {
        points: vec![10, 20, -5],
        reasons: vec![1; 3],
        tariff: Tariff::default(),
        delta: delta(&[0; 12], &[8; 12]),
    });
    let before = world.state.members.clone();
    let outcome = world.apply(Command::Settle(Box::new(settle)));
    for (name, paid, remembered) in [("A", 10, [8; 4]), ("B", 0, [0; 4]), ("C", 0, [0; 4])] {
        let (then, hot) = (&before[&node(name)].hot, &world.state.members[&node(name)].hot);
        assert_eq!(hot.earned.0, then.earned.0 + paid, "{name}");
        assert_eq!((hot.standing, hot.strikes), (Standing::Good, 0), "{name}");
        let number = world.state.members[&node(name)].profile.number;
        let (mut reward, mut ban) = (Vec::new(), Vec::new());
        world.state.slot(Slot::Reward).memory.read(number, &mut reward);
        world.state.slot(Slot::Ban).memory.read(number, &mut ban);
        assert_eq!((reward, ban), (remembered.to_vec(), vec![0]), "{name}");
    }
    let record =
        outcome.writes.iter().find_map(|write| if let Write::Round(record) = write { Some(record) } else { None });
    let called: Vec<bool> = record.unwrap().slots.iter().map(|slot| slot.called).collect();
    assert_eq!(called, [true, false]);
}

#[test]
fn the_seed_of_a_round_is_the_digest_of_the_settlement_before() {
    let mut world = cluster();
    let settle = world.settlement(&Seen::default());
    let digest = settle.digest();
    world.apply(Command::Settle(Box::new(settle.clone())));
    assert_eq!(world.state.meta.settled_digest, digest);
    assert_ne!(Settle { now_ms: settle.now_ms + 1, ..settle }.digest(), digest);
}
