use alloc::vec;

use super::*;
use crate::command::Command;
use crate::id::{LogIndex, NodeId};
use crate::members::GONE;
use crate::outcome::Outcome;
use crate::round::{OpenRound, SeatReport, fact};
use crate::scripts::world::{Seen, World, node, policy};
use crate::settings::Settings;

fn cluster() -> World {
    let mut world = World::found(Settings::default(), &["flat", "strikes"]);
    for name in ["A", "B"] {
        let join = world.join(name);
        world.apply(Command::Join(join));
    }
    world.settle(&Seen::default());
    world
}

fn changes(world: &mut World, changed: u64, names: &[&str]) -> Outcome {
    let supers =
        names.iter().map(|name| Super { node: node(name), name: (*name).into(), address: "a:1".into() }).collect();
    let now_ms = world.now_ms;
    world.apply(Command::Supers(Supers { changed: LogIndex(changed), supers, now_ms }))
}

fn seats(world: &World) -> String {
    let row = |row: &SeatRow| format!("{}:{}", row.seat, row.holder.name);
    let rows: Vec<String> = world.state.meta.seats.iter().map(row).collect();
    rows.join(" ")
}

/// Settles a round of which this is said of the seats.
fn settle(world: &mut World, change: impl Fn(&mut SeatReport)) {
    let mut settle = world.settlement(&Seen::default());
    let rows = world.state.meta.seats.iter().chain(&world.state.meta.left);
    let mut seats: Vec<SeatReport> = rows
        .map(|row| SeatReport { seat: row.seat, grace_until: row.grace_until, ..settle.report.seats[0].clone() })
        .collect();
    seats.iter_mut().for_each(change);
    settle.report.seats = seats;
    assert!(world.apply(Command::Settle(Box::new(settle))).reply.is_ok());
}

#[test]
fn a_super_gets_the_lowest_free_seat_and_keeps_it_until_it_is_removed() {
    let mut world = cluster();
    assert!(changes(&mut world, 9, &["c", "b", "super"]).reply.is_ok());
    assert_eq!(seats(&world), "0:super 1:b 2:c", "in order of key, whatever the order in which they are named");
    changes(&mut world, 10, &["super", "c", "d"]);
    assert_eq!(seats(&world), "0:super 2:c 3:d", "the seat of one that was removed is not free at once");
    settle(&mut world, |seat| seat.came = seat.seat != Seat(1));
    changes(&mut world, 11, &["super", "c", "d", "e"]);
    assert_eq!(seats(&world), "0:super 1:e 2:c 3:d", "it is when its grace has passed");
    changes(&mut world, 12, &["d"]);
    assert_eq!(seats(&world), "3:d");
    let row = &world.state.meta.seats[0];
    assert_eq!((row.from, row.came), (RoundId(2), true));
}

#[test]
fn the_same_roster_again_changes_nothing_and_an_earlier_one_is_refused() {
    let mut world = cluster();
    changes(&mut world, 9, &["super", "b"]);
    let before = world.state.meta.clone();
    changes(&mut world, 9, &["b", "super"]);
    assert_eq!((&world.state.meta.seats, &world.state.meta.left), (&before.seats, &before.left));
    let late = changes(&mut world, 8, &["super"]);
    assert_eq!(late.reply, Err(Reject::OutOfBounds { what: "the change of the group".into(), min: 9, max: u64::MAX }));
    assert_eq!(world.state.meta.seats, before.seats);
}

#[test]
fn rosters_that_cannot_be_are_refused() {
    let mut world = cluster();
    let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for (names, reply) in [
        (&[][..], Reject::OutOfBounds { what: "the number of supers".into(), min: 1, max: 8 }),
        (&nine[..], Reject::OutOfBounds { what: "the number of supers".into(), min: 1, max: 8 }),
        (&["super", "b", "b"][..], Reject::Malformed { what: "a super that is named twice".into() }),
        (&["super", "A"][..], Reject::WrongRole),
    ] {
        assert_eq!(changes(&mut world, 9, names).reply, Err(reply), "{names:?}");
    }
    assert_eq!(seats(&world), "0:s0");
}

#[test]
fn a_new_address_is_taken_over_and_what_a_removed_super_acknowledged_ends() {
    let mut world = cluster();
    changes(&mut world, 9, &["super"]);
    assert_eq!(world.state.meta.seats[0].holder.address, "a:1");
    assert_eq!(world.state.policies[&policy("flat")].ready, [Seat(0)]);
    let told = changes(&mut world, 10, &["b"]);
    assert!(world.state.policies.values().all(|row| row.ready.is_empty()));
    let told: Vec<String> = told
        .writes
        .iter()
        .filter_map(|write| if let Write::Change(change) = write { Some(change) } else { None })
        .map(|change| format!("{} {}>{}", change.what, change.from, change.to))
        .collect();
    assert_eq!(told, ["super super removed seat 0>", "super b promoted >seat 1"]);
}

#[test]
fn a_new_seat_takes_part_from_the_next_base_on() {
    let mut world = cluster();
    changes(&mut world, 9, &["super", "b"]);
    let [old, new] = &world.state.meta.seats[..] else { panic!("two seats") };
    let of = |base| OpenRound { round: RoundId(base + 1), term: world.term, base: RoundId(base) };
    assert_eq!((old.takes_part(&of(1)), new.takes_part(&of(1)), new.takes_part(&of(2))), (true, false, true));
}

#[test]
fn bits_of_a_removed_seat_end_with_its_grace_or_when_the_seat_is_needed() {
    let mut world = cluster();
    changes(&mut world, 9, &["super", "b", "c", "d", "e", "f", "g", "h"]);
    let asked = |world: &World| world.state.members.values().map(|m| m.hot.asked_seats).collect::<Vec<_>>();
    let mut last = world.settlement(&Seen::default());
    last.report.asked = vec![0b0000_0011, 0b0000_0110];
    world.apply(Command::Settle(Box::new(last)));
    changes(&mut world, 10, &["super", "d", "e", "f", "g", "h"]);
    assert_eq!(asked(&world), [0b011, 0b110], "whom it asked last is on the way");
    changes(&mut world, 11, &["super", "d", "e", "f", "g", "h", "i", "j"]);
    assert_eq!(asked(&world), [0b001, 0], "two more than free seats: the removed ones give way");
    assert!(world.state.meta.left.is_empty());
    assert_eq!(seats(&world), "0:super 1:i 2:j 3:d 4:e 5:f 6:g 7:h");
}

#[test]
fn a_way_begins_with_an_absence_that_is_excused_and_ends_when_a_super_asks() {
    let mut world = cluster();
    let away = |world: &World| world.state.members.values().map(|m| m.hot.away).collect::<Vec<_>>();
    let round = |world: &mut World, seen: Seen, asked: [u8; 2], facts: [u16; 2]| {
        let mut settle = world.settlement(&seen);
        (settle.report.asked, settle.report.facts) = (asked.to_vec(), facts.to_vec());
        world.apply(Command::Settle(Box::new(settle)));
        away(world)
    };
    let both = || [node("A"), node("B")].into();
    let absent = [fact::ABSENT; 2];
    assert_eq!(round(&mut world, Seen { unknown: both(), ..Seen::default() }, [0, 0], absent), [1, 1]);
    assert_eq!(round(&mut world, Seen { unknown: both(), causes: 2, ..Seen::default() }, [0, 0], absent), [1, 1]);
    assert_eq!(round(&mut world, Seen { unknown: both(), ..Seen::default() }, [0, 0], [0, fact::ABSENT]), [1, 2]);
    assert_eq!(round(&mut world, Seen { down: [node("B")].into(), ..Seen::default() }, [1, 0], absent), [0, GONE]);
    assert_eq!(round(&mut world, Seen { unknown: both(), ..Seen::default() }, [0, 0], absent), [1, GONE]);
    assert_eq!(round(&mut world, Seen { down: both(), ..Seen::default() }, [1, 1], [fact::MISSED; 2]), [0, 0]);
}

#[test]
fn who_comes_back_into_the_queue_was_asked_by_nobody() {
    let mut world = cluster();
    world.settle(&Seen::default());
    let now_ms = world.now_ms;
    assert_ne!(world.state.members[&node("A")].hot.asked_seats, 0);
    world.apply(Command::Leave(crate::command::Leave { node: node("A"), now_ms }));
    world.settle(&Seen::default());
    let join = world.join("A");
    world.apply(Command::Join(join));
    world.settle(&Seen::default());
    assert_eq!(world.state.members[&node("A")].hot.asked_seats, 0);
}

#[test]
fn nodes_of_supers_are_those_of_the_latest_roster() {
    let mut world = cluster();
    changes(&mut world, 9, &["b"]);
    let join = world.join("b");
    let refused = world.apply(Command::Join(join)).reply;
    assert_eq!(refused, Err(Reject::WrongRole));
    let node: NodeId = node("super");
    assert!(world.state.meta.left.iter().any(|row| row.holder.node == node));
}
