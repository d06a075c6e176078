//! The set of validators: its bounds, its turns, and who is removed from it.

use super::*;

#[test]
fn a_quorum_stays_within_its_bounds() {
    for n in 1..=64 {
        let (quorum, faulty) = (least_quorum(n), (n - 1) / 3);
        assert!(quorum <= n && 3 * quorum > 2 * n, "{n}");
        assert!(n - faulty >= quorum, "the honest ones of {n} are a quorum");
    }
    let mut world = world(4, Settings { quorum: 4, ..Settings::default() });
    assert_eq!(world.state.quorum(), 4);
    world.operate("", Operation::RemoveValidator(id(&key(4)))).reply.unwrap();
    assert_eq!(world.state.quorum(), 3, "a change of the set pulls it back");
    for number in 4..=7 {
        add(&mut world, number).unwrap();
    }
    assert_eq!(world.state.quorum(), 5);
}

#[test]
fn two_roots_of_one_batch_remove_a_validator_and_nothing_else_does() {
    let mut world = world(4, Settings::default());
    let liar = key(2);
    let attestation = |root: &[u8], batch| Attestation {
        cluster: cluster(),
        batch,
        attempt: 0,
        set_version: 4,
        policy: policy("sign"),
        first_sequence: 1,
        count: 1,
        root: Digest::of(root),
    };
    let attested = |attestation: &Attestation| {
        let payload = attestation.payload();
        Attested { signature: sign(&liar, ATTESTATION_TYPE, &payload), payload }
    };
    let evidence = |one: &Attestation, other: &Attestation| {
        let (one, other) = (attested(one), attested(other));
        Evidence { validator: id(&liar), one, other, now_ms: START_MS }
    };
    let (a, b) = (attestation(b"a", 1), attestation(b"b", 1));
    let foreign = |root| Attestation { cluster: ClusterId::default(), ..attestation(root, 1) };
    let mut forged = evidence(&a, &b);
    forged.other.payload = attestation(b"c", 1).payload();
    let mut framed = evidence(&a, &b);
    framed.validator = id(&key(3));
    let again = Attestation { set_version: 5, ..a.clone() };
    for nothing in [
        evidence(&a, &a),
        evidence(&a, &again),
        evidence(&a, &attestation(b"b", 2)),
        evidence(&a, &Attestation { attempt: 1, ..b.clone() }),
        evidence(&foreign(b"a"), &foreign(b"b")),
        forged,
        framed,
    ] {
        let reply = world.apply(Command::Evidence(Box::new(nothing))).reply;
        assert!(matches!(reply, Err(Reject::Unsigned { .. })), "{reply:?}");
    }
    assert_eq!(world.state.validators.set.len(), 4);
    world.apply(Command::Came(Came { validator: id(&liar) })).reply.unwrap();
    let proven = Command::Evidence(Box::new(evidence(&a, &Attestation { set_version: 5, ..b })));
    assert_eq!(world.apply(proven.clone()).reply, Ok(Reply::Changed { count: 1 }));
    assert_eq!(world.apply(proven).reply, Err(Reject::UnknownValidator));
    assert_eq!((world.state.validators.version, world.state.validators.set.len()), (5, 3));
    // It was there once: should it come again, it may have signed what its table does not say.
    add(&mut world, 2).unwrap();
    assert!(world.state.validators.get(&id(&liar)).unwrap().came);
}

#[test]
fn turns_go_in_sequence_and_who_is_silent_is_asked_last() {
    let mut world = world(4, Settings { turn_ms: 1_000, handed_out: 2, stuck_turns: 2, ..Settings::default() });
    for body in ["a", "b", "c"] {
        bodies(&mut world, &[body]);
    }
    let set: Vec<NodeId> = world.state.validators.set.iter().map(|row| row.node).collect();
    let mut turns = Turns::default();
    let mut attached: BTreeSet<NodeId> = set.iter().copied().collect();
    let lead = |batch, place: usize| Step::Lead { batch, validator: set[place] };
    let mut tick =
        |world: &World, now_ms: u64, attached: &BTreeSet<NodeId>| turns.tick(now_ms * 1_000, &world.state, attached);
    // Two at a time, each with the one whose turn it is.
    assert_eq!(tick(&world, 0, &attached), [lead(1, 1), lead(2, 2)]);
    assert_eq!(tick(&world, 999, &attached), []);
    // A lead whose stream breaks loses its turn at once; one that is silent, after a while.
    attached.remove(&set[2]);
    assert_eq!(tick(&world, 999, &attached), [lead(2, 3)]);
    assert_eq!(tick(&world, 1_000, &attached), [lead(1, 3)]);
    seal(&mut world, 2, &[0], &[1, 2, 3]).unwrap();
    assert_eq!(tick(&world, 1_001, &attached), [lead(3, 3)]);
    // The silent one (1) and the absent one (2) are passed over.
    bodies(&mut world, &["d"]);
    seal(&mut world, 3, &[0], &[1, 2, 3]).unwrap();
    assert_eq!(tick(&world, 1_002, &attached), [lead(4, 0)]);
    // Nobody signs: after two full turns it is said, once.
    let mut stuck = Vec::new();
    for second in 2..20 {
        stuck.extend(
            tick(&world, second * 1_000 + 10, &attached).into_iter().filter(|step| matches!(step, Step::Stuck { .. })),
        );
    }
    assert_eq!(stuck, [Step::Stuck { batch: 1, turns: 2 }, Step::Stuck { batch: 4, turns: 2 }]);
    // Another set begins anew.
    world.operate("", Operation::RemoveValidator(set[3])).reply.unwrap();
    attached.remove(&set[3]);
    let again = tick(&world, 20_000, &attached);
    assert_eq!(again.len(), 2, "{again:?}");
    assert!(tick(&world, 20_001, &BTreeSet::new()).is_empty(), "nobody is there");
}

#[test]
fn who_let_a_turn_pass_is_asked_again_after_a_while_or_once_it_sealed() {
    let mut world = world(4, Settings { turn_ms: 1_000, handed_out: 1, ..Settings::default() });
    let set: Vec<NodeId> = world.state.validators.set.iter().map(|row| row.node).collect();
    let attached: BTreeSet<NodeId> = set.iter().copied().collect();
    let lead = |batch, place: usize| Step::Lead { batch, validator: set[place] };
    for body in 1..=12 {
        bodies(&mut world, &[&body.to_string()]);
    }
    let mut turns = Turns::default();
    let mut tick = |world: &World, now_ms: u64| turns.tick(now_ms * 1_000, &world.state, &attached);
    let next = |world: &mut World, batch: u64| seal(world, batch, &[0], &[1, 2, 3]).unwrap();
    // Validator 1 is silent in its turn: 2 seals the batch, and the turn of batch 5 is 2's as well.
    assert_eq!(tick(&world, 0), [lead(1, 1)]);
    assert_eq!(tick(&world, 1_000), [lead(1, 2)]);
    for (batch, place) in [(2, 2), (3, 3), (4, 0), (5, 2)] {
        next(&mut world, batch - 1);
        assert_eq!(tick(&world, 1_000), [lead(batch, place)]);
    }
    // All are silent, so each is asked in its turn: 1 seals this time, and is as the others are not yet.
    for (now_ms, place) in [(2_000, 3), (3_000, 0), (4_000, 0), (5_000, 1)] {
        assert_eq!(tick(&world, now_ms), [lead(5, place)]);
    }
    next(&mut world, 5);
    assert_eq!(tick(&world, 5_000), [lead(6, 1)]);
    // Sixty turns after 2 and 3 let theirs pass, they have their places again.
    for (batch, now_ms, place) in [(7, 62_500, 1), (8, 62_500, 1), (9, 62_500, 1), (10, 62_500, 2), (11, 63_500, 3)] {
        next(&mut world, batch - 1);
        assert_eq!(tick(&world, now_ms), [lead(batch, place)]);
    }
}

#[test]
fn a_key_has_one_role() {
    let mut world = world(1, Settings::default());
    let member = world.join("A");
    world.apply(Command::Join(member.clone())).reply.unwrap();
    let validator = |node| Validator { node, name: String::new(), address: "a:1".into(), came: false };
    let refused = world.operate("", Operation::AddValidator(validator(member.node))).reply;
    assert_eq!(refused, Err(Reject::WrongRole));
    let refused = world.operate("", Operation::AddValidator(validator(crate::scripts::world::node("super")))).reply;
    assert_eq!(refused, Err(Reject::WrongRole));
    let mut join = member;
    join.node = id(&key(1));
    assert_eq!(world.apply(Command::Join(join)).reply, Err(Reject::WrongRole));
}
