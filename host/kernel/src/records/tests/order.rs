//! Who gets a place, and what it costs.

use super::*;

#[test]
fn a_record_gets_one_place_and_keeps_it() {
    let mut world = world(4, Settings::default());
    assert_eq!(bodies(&mut world, &["a", "b"]), [at(1, 1), at(2, 1)]);
    // Again, beside a new one, and twice in one command.
    assert_eq!(bodies(&mut world, &["b", "c", "c", "a"]), [at(2, 1), at(3, 2), at(3, 2), at(1, 1)]);
    // Nothing new is no batch.
    assert_eq!(bodies(&mut world, &["a"]), [at(1, 1)]);
    assert_eq!((world.state.meta.records.batch, world.state.meta.records.sequence), (2, 3));
    assert_eq!(seal(&mut world, 1, &[0, 1], &[1, 2, 3]), Ok(Reply::Done));
    assert_eq!(bodies(&mut world, &["b"]), [at(2, 1)], "a sealed one too");
}

#[test]
fn what_cannot_be_ordered_costs_nothing_and_is_not_remembered() {
    let mut world = world(4, Settings::default());
    let now_ms = world.now_ms;
    let author = key(100);
    let long = "x".repeat(crate::limits::RECORD_BODY + 1);
    let refused = |reject| Ordered::Refused(Box::new(reject));
    let latest_ms = now_ms + 24 * 3_600_000;
    let answers = order(
        &mut world,
        vec![
            arrived(&author, "late", now_ms),
            arrived(&author, "far", latest_ms + 1),
            arrived(&author, "fine", latest_ms),
        ],
    );
    assert_eq!(answers[0], refused(Reject::Expired { now_ms }));
    assert_eq!(answers[1], refused(Reject::ExpiresTooLate { latest_ms }));
    assert_eq!(answers[2], at(1, 1));
    let answers = order(&mut world, vec![arrived(&author, &long, latest_ms), arrived(&author, "late", latest_ms)]);
    assert!(matches!(&answers[0], Ordered::Refused(reject) if matches!(**reject, Reject::Malformed { .. })));
    assert_eq!(answers[1], at(2, 2));
}

#[test]
fn nothing_is_taken_without_a_policy_validators_or_room() {
    let refused = |world: &mut World| match bodies(world, &["a"]).remove(0) {
        Ordered::Refused(reject) => *reject,
        Ordered::At { .. } => panic!("taken"),
    };
    let mut none = World::found(Settings::default(), &[]);
    assert_eq!(refused(&mut none), Reject::NoPolicy);
    assert_eq!(refused(&mut world(0, Settings::default())), Reject::NoValidators);
    let mut full = world(1, Settings { pending_batches: 2, ..Settings::default() });
    assert_eq!((bodies(&mut full, &["b"]), bodies(&mut full, &["c"])), (vec![at(1, 1)], vec![at(2, 2)]));
    assert!(matches!(refused(&mut full), Reject::RecordsFull { .. }));
    assert_eq!(seal(&mut full, 2, &[0], &[1]), Ok(Reply::Done), "in any order");
    assert_eq!(bodies(&mut full, &["a"]), [at(3, 3)]);
    let mut full = world(1, Settings { digests: 2, ..Settings::default() });
    bodies(&mut full, &["b", "c"]);
    assert!(matches!(refused(&mut full), Reject::RecordsFull { .. }));
}

#[test]
fn the_fee_leaves_the_wallet_of_the_author_and_a_short_one_is_refused() {
    let mut world = world(4, Settings::default());
    let author = key(100);
    fund(&mut world, &author, 7);
    let mut meta = world.state.meta.clone();
    (meta.tariff.record_fee, meta.tariff.record_fee_kib) = (2, 3);
    world.restore([Write::Meta(Box::new(meta))]);
    assert_eq!(bodies(&mut world, &["a"]), [at(1, 1)]);
    assert_eq!(world.state.wallets[&id(&author)].balance, Points(2));
    let short = Ordered::Refused(Box::new(Reject::Insufficient { needed: Points(5), balance: Points(2) }));
    // What is empty costs no KiB.
    assert_eq!(bodies(&mut world, &["b", "a", ""]), [short, at(1, 1), at(2, 2)]);
    assert_eq!(world.state.wallets[&id(&author)].balance, Points(0));
}

#[test]
fn a_forward_vouches_for_its_own_nodes_records_only() {
    let (node, author) = (key(50), key(100));
    let raw = |key: &SigningKey| Record { signature: None, ..record(key, "raw") };
    let forward = |cluster: ClusterId, records: &[&Record]| {
        let digests = records.iter().map(|record| record.digest()).collect();
        let payload = minicbor::to_vec(Forwarded { cluster, nonce: [1; 16], expires_ms: 5, digests }).unwrap();
        Forward { ingress: id(&node), signature: sign(&node, FORWARD_TYPE, &payload), payload }
    };
    let (signed, own, foreign) = (record(&author, "a"), raw(&node), raw(&author));
    let both = [&signed, &own];
    let good = forward(cluster(), &both);
    assert_eq!(good.check(&cluster(), &both).map(|told| told.expires_ms), Ok(5));
    assert_eq!(good.check(&ClusterId::default(), &both), Err(Forged::Cluster));
    assert_eq!(good.check(&cluster(), &[&signed]), Err(Forged::Records));
    assert_eq!(good.check(&cluster(), &[&own, &signed]), Err(Forged::Records));
    assert_eq!(forward(cluster(), &[]).check(&cluster(), &[]), Err(Forged::Records));
    assert_eq!(forward(cluster(), &[&foreign]).check(&cluster(), &[&foreign]), Err(Forged::Author));
    let stolen = Forward { ingress: id(&author), ..good.clone() };
    assert_eq!(stolen.check(&cluster(), &both), Err(Forged::Signature));
    let mut changed = signed.clone();
    changed.signature = Some(sign(&node, RECORD_TYPE, &changed.payload));
    assert_eq!(forward(cluster(), &[&changed]).check(&cluster(), &[&changed]), Err(Forged::Author));
    let unread = Forward { payload: vec![1], ..good };
    assert_eq!(unread.check(&cluster(), &both), Err(Forged::Malformed));
}

#[test]
fn a_validator_sees_records_that_a_leader_made_up() {
    let mut world = world(1, Settings::default());
    let node = key(50);
    let own = Record { signature: None, ..record(&node, "own") };
    let other = Record { signature: None, ..record(&node, "made up") };
    let payload =
        minicbor::to_vec(Forwarded { cluster: cluster(), nonce: [1; 16], expires_ms: 5, digests: vec![own.digest()] });
    let payload = payload.unwrap();
    let forward = Forward { ingress: id(&node), signature: sign(&node, FORWARD_TYPE, &payload), payload };
    let expires_ms = world.now_ms + 1_000;
    let arrived = |record: Record, forward| Arrived { record, forward, expires_ms };
    let unsigned = Record { signature: Some(Signature([0; 64])), ..record(&key(100), "a") };
    let records = vec![
        arrived(own.clone(), 1),
        arrived(record(&key(100), "b"), 0),
        arrived(other.clone(), 1),
        arrived(unsigned.clone(), 1),
    ];
    let unused = Forward { payload: vec![9], ..forward.clone() };
    let order = Order { now_ms: world.now_ms, forwards: vec![unused, forward], records };
    world.apply(Command::Order(Box::new(order))).reply.unwrap();
    let contents = world.state.contents[&1].clone();
    let unproven: Vec<_> = contents.unproven(&cluster()).cloned().collect();
    assert_eq!(unproven, [other, unsigned]);
    assert_eq!(contents.unproven(&ClusterId::default()).count(), 3, "a forward for another cluster proves nothing");
    let digests = world.state.batches[&1].records.iter().map(|entered| entered.digest);
    assert!(contents.is_of(digests.clone()));
    assert!(!contents.is_of(digests.take(3).collect::<Vec<_>>().into_iter()));
}

#[test]
fn a_transfer_moves_points_once() {
    let mut world = World::found(Settings::default(), &[]);
    let (a, b) = (id(&key(1)), id(&key(2)));
    fund(&mut world, &key(1), 10);
    let now_ms = world.now_ms;
    let transfer = |from, sequence, to, amount: u64| Transfer {
        from,
        sequence,
        expires_ms: now_ms + 1_000,
        to,
        amount,
        digest: Digest::of(format!("{sequence} {amount}").as_bytes()),
        now_ms,
    };
    let mut send = |transfer: Transfer| world.apply(Command::Transfer(transfer)).reply;
    let done = |amount, credited, wallet| {
        Ok(Reply::Transferred(Transferred {
            amount: Points(amount),
            credited: Points(credited),
            wallet: Points(wallet),
        }))
    };
    assert_eq!(
        send(transfer(a, 1, b, 1)),
        Err(Reject::OutOfBounds { what: "amount".into(), min: 2, max: i64::MAX as u64 })
    );
    assert_eq!(send(transfer(a, 1, b, 11)), Err(Reject::Insufficient { needed: Points(11), balance: Points(10) }));
    // The first credit to a new wallet costs a point; a refusal has used up no sequence.
    assert_eq!(send(transfer(a, 1, b, 4)), done(4, 3, 6));
    assert_eq!(send(transfer(a, 1, b, 4)), done(4, 3, 6), "the same again is the same answer");
    assert_eq!(send(transfer(a, 1, b, 5)), Err(Reject::StaleSequence { next: 2 }));
    assert_eq!(send(transfer(b, 1, a, 4)), Err(Reject::Insufficient { needed: Points(4), balance: Points(3) }));
    assert_eq!(send(transfer(a, 7, b, 6)), done(6, 6, 0));
    assert_eq!(send(transfer(b, 1, b, 9)), done(9, 9, 9), "to itself");
    assert_eq!(
        send(transfer(id(&key(9)), 1, b, 1)),
        Err(Reject::Insufficient { needed: Points(1), balance: Points(0) })
    );
    let late = Transfer { expires_ms: now_ms, ..transfer(b, 2, a, 1) };
    assert_eq!(send(late), Err(Reject::Expired { now_ms }));
    let latest_ms = now_ms + 24 * 3_600_000;
    let far = Transfer { expires_ms: latest_ms + 1, ..transfer(b, 2, a, 1) };
    assert_eq!(send(far), Err(Reject::ExpiresTooLate { latest_ms }));
    assert_eq!(world.state.meta.treasury, Points(-9));
}
