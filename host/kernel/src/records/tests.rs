use alloc::collections::BTreeSet;

use ed25519_dalek::{Signer as _, SigningKey};

use super::certificate::{Attestation, Certificate, Unproven, Verdict};
use super::order::{Arrived, Order, Ordered};
use super::record::{Forged, Forward, Forwarded, Record};
use super::review::POLICY_FAULT;
use super::seal::Seal;
use super::turn::{Step, Turns};
use super::validators::{Able, Attested, Came, Evidence, Validator, least_quorum};
use crate::command::{Amount, Claim, Command, Compensation, Join, Operation, SettingChange, Transfer};
use crate::decide::Slot;
use crate::envelope::{ATTESTATION_TYPE, FORWARD_TYPE, RECORD_TYPE, pae};
use crate::id::{ClusterId, Digest, Genesis, NodeId, RoundId, Signature};
use crate::outcome::{Reject, Reply, Transferred, Write};
use crate::scripts::world::{START_MS, Seen, World, policy};
use crate::settings::Settings;
use crate::units::Points;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn id(key: &SigningKey) -> NodeId {
    NodeId(key.verifying_key().to_bytes())
}

fn sign(key: &SigningKey, payload_type: &str, payload: &[u8]) -> Signature {
    Signature(key.sign(&pae(payload_type, payload)).to_bytes())
}

fn record(author: &SigningKey, body: &str) -> Record {
    let payload = format!("{{}}\n{body}").into_bytes();
    Record { author: id(author), signature: Some(sign(author, RECORD_TYPE, &payload)), payload }
}

fn arrived(author: &SigningKey, body: &str, expires_ms: u64) -> Arrived {
    Arrived { record: record(author, body), forward: 0, expires_ms }
}

fn cluster() -> ClusterId {
    ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) }
}

/// A cluster with validators of the keys 1 to n and a policy for records.
fn world(n: u8, settings: Settings) -> World {
    let mut world = World::found(settings, &["sign"]);
    for number in 1..=n {
        assert_eq!(add(&mut world, number), Ok(Reply::Changed { count: 1 }));
    }
    world
}

fn add(world: &mut World, number: u8) -> Result<Reply, Reject> {
    let validator = Validator { node: id(&key(number)), name: String::new(), address: "a:1".into(), came: false };
    world.operate("", Operation::AddValidator(validator)).reply
}

fn order(world: &mut World, records: Vec<Arrived>) -> Vec<Ordered> {
    let order = Order { now_ms: world.now_ms, forwards: Vec::new(), records };
    match world.apply(Command::Order(Box::new(order))).reply {
        Ok(Reply::Ordered(answers)) => answers,
        other => panic!("{other:?}"),
    }
}

fn bodies(world: &mut World, bodies: &[&str]) -> Vec<Ordered> {
    let expires_ms = world.now_ms + 600_000;
    order(world, bodies.iter().map(|body| arrived(&key(100), body, expires_ms)).collect())
}

const fn at(sequence: u64, batch: u64) -> Ordered {
    Ordered::At { sequence, batch }
}

/// Gives a wallet points: its key is a member that earned them.
fn fund(world: &mut World, key: &SigningKey, points: i64) {
    let (node, now_ms) = (id(key), world.now_ms);
    world.apply(Command::Join(Join { node, ..world.join("A") })).reply.unwrap();
    world.settle(&Seen::default());
    let line = Compensation { node, points: Points(points), round: RoundId(1), reason: String::new() };
    world.operate("", Operation::Compensate(vec![line])).reply.unwrap();
    let (expires_ms, amount, digest) = (now_ms + 600_000, Amount::All, Digest::of(&node.0));
    let claim = Claim { node, sequence: 1, expires_ms, amount, to: node, digest, now_ms };
    world.apply(Command::Claim(claim)).reply.unwrap();
}

/// The seal of a batch by the validators of these keys.
fn sealed_by(world: &World, batch: u64, codes: &[u16], signers: &[u8]) -> Seal {
    let batch = &world.state.batches[&batch];
    let attestation = world.state.attestation(batch, codes).unwrap();
    let payload = attestation.payload();
    let signed = |number: &u8| (id(&key(*number)), sign(&key(*number), ATTESTATION_TYPE, &payload));
    Seal {
        batch: batch.number,
        attempt: batch.attempt,
        set_version: world.state.validators.version,
        codes: codes.to_vec(),
        signatures: signers.iter().map(signed).collect(),
    }
}

fn seal(world: &mut World, batch: u64, codes: &[u16], signers: &[u8]) -> Result<Reply, Reject> {
    let seal = sealed_by(world, batch, codes, signers);
    world.apply(Command::Seal(Box::new(seal))).reply
}

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
fn only_a_quorum_of_distinct_members_seals() {
    let mut world = world(4, Settings::default());
    bodies(&mut world, &["a", "b"]);
    let unsigned = |reply| matches!(reply, Err(Reject::Unsigned { .. }));
    for signers in [&[][..], &[1, 2], &[1, 1, 2], &[1, 2, 9]] {
        assert!(unsigned(seal(&mut world, 1, &[0, 0], signers)), "{signers:?}");
    }
    // Signatures over other verdicts, a code that the policy never named, a verdict too few.
    let mut forged = sealed_by(&world, 1, &[0, 0], &[1, 2, 3]);
    forged.codes = vec![0, 1];
    assert!(unsigned(world.apply(Command::Seal(Box::new(forged.clone()))).reply));
    forged.codes = vec![0, 3];
    assert!(unsigned(world.apply(Command::Seal(Box::new(forged.clone()))).reply));
    forged.codes = vec![0];
    assert!(unsigned(world.apply(Command::Seal(Box::new(forged))).reply));
    assert_eq!(seal(&mut world, 1, &[0, POLICY_FAULT], &[4, 2, 1]), Ok(Reply::Done));
    let batch = world.state.batches[&1].clone();
    assert_eq!(seal(&mut world, 1, &[0, 0], &[1, 2, 3]), Ok(Reply::Done), "sealed once; again is the same");
    assert_eq!(world.state.batches[&1], batch);
    assert_eq!(seal(&mut world, 1, &[0, 0], &[]), Ok(Reply::Done));
    let counters = world.state.meta.records;
    assert_eq!((counters.sealed, counters.signed, counters.refused), (1, 1, 1));
    assert!(world.state.contents.is_empty(), "bodies are dropped at the seal");
    let certificate = batch.certificate(&world.state.meta.cluster).unwrap();
    certificate.check(&world.state.validators.keys(), 3).unwrap();
    let proof = batch.proofs(&world.state.meta.cluster).unwrap().of(1).unwrap();
    assert_eq!(proof.verdict, Verdict::Refused("policy_fault".into()));
    assert_eq!(
        (proof.check(batch.records[1].digest), proof.check(batch.records[0].digest)),
        (Ok(()), Err(Unproven::Path))
    );
}

#[test]
fn what_an_old_set_or_attempt_signed_does_not_count() {
    let mut world = world(4, Settings::default());
    bodies(&mut world, &["a"]);
    let old = sealed_by(&world, 1, &[0], &[1, 2, 3]);
    let root = world.state.attestation(&world.state.batches[&1], &[0]).unwrap().root;
    world.operate("", Operation::RemoveValidator(id(&key(4)))).reply.unwrap();
    assert_eq!(world.apply(Command::Seal(Box::new(old))).reply, Err(Reject::StaleSet { version: 5 }));
    assert_eq!(world.state.quorum(), 3);
    let old = sealed_by(&world, 1, &[0], &[1, 2, 3]);
    assert_eq!(world.state.attestation(&world.state.batches[&1], &[0]).unwrap().root, root, "the root is the same");
    world.stage("sign-all", true);
    world.operate("", Operation::RetryBatch(1)).reply.unwrap();
    assert_eq!(world.apply(Command::Seal(Box::new(old))).reply, Err(Reject::StaleAttempt { attempt: 1 }));
    assert_eq!(seal(&mut world, 1, &[0], &[1, 2, 3]), Ok(Reply::Done));
    assert_eq!(world.operate("", Operation::RetryBatch(1)).reply, Err(Reject::UnknownBatch));
}

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
fn a_batch_keeps_the_policy_under_which_it_was_ordered() {
    let mut world = world(1, Settings::default());
    bodies(&mut world, &["a"]);
    world.stage("sign-all", true);
    let activate = Operation::Activate { slot: Slot::Signing, policy: policy("sign-all"), round: None };
    let refused = world.operate("", activate.clone()).reply;
    assert_eq!(refused, Err(Reject::ValidatorsNotReady { ready: 0, needed: 1 }));
    let able = |why_not| Able { validator: id(&key(1)), policy: policy("sign-all"), why_not };
    world.apply(Command::Able(able(None))).reply.unwrap();
    world.operate("", activate).reply.unwrap();
    for _ in 0..3 {
        world.settle(&Seen::default());
    }
    assert_eq!(world.state.slot(Slot::Signing).row.active, Some(policy("sign-all")));
    bodies(&mut world, &["b"]);
    let of = |batch: u64| world.state.batches[&batch].policy;
    assert_eq!((of(1), of(2)), (policy("sign"), policy("sign-all")));
    // It stays as long as a batch needs it, however long that is.
    world.operate("", Operation::Rollback(Slot::Signing)).reply.unwrap();
    for _ in 0..3 {
        world.settle(&Seen::default());
    }
    assert!(world.state.policies.contains_key(&policy("sign-all")));
    assert_eq!(seal(&mut world, 2, &[0], &[1]), Ok(Reply::Done));
    // Who cannot run it counts no more.
    world.apply(Command::Able(able(Some("no room".into())))).reply.unwrap();
    let row = &world.state.policies[&policy("sign-all")];
    assert_eq!((row.able.len(), row.unable.len()), (0, 1));
}

#[test]
fn digests_are_known_until_they_expire_and_certificates_for_so_many_batches() {
    let mut world = world(1, Settings { certificates: 2, ..Settings::default() });
    for (number, body) in (1..).zip(["a", "b", "c", "d"]) {
        bodies(&mut world, &[body]);
        seal(&mut world, number, &[0], &[1]).unwrap();
    }
    assert_eq!(
        (world.state.batches.len(), world.state.known.digests.len()),
        (4, 4),
        "all are known as long as they may come again"
    );
    world.now_ms += 600_000;
    bodies(&mut world, &["e"]);
    // The last two keep their certificates, and the new one waits.
    assert_eq!(world.state.batches.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
    assert!(world.state.batches[&4].proofs(&world.state.meta.cluster).is_none(), "its place is not known any more");
    assert!(world.state.batches[&4].certificate(&world.state.meta.cluster).is_some());
    assert_eq!(world.state.known.digests.len(), 1);
    assert_eq!(bodies(&mut world, &["a"]), [at(6, 6)], "it is another wish after its time");
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

/// Every byte counts: of what is signed, of the signatures, of the path, of the record.
#[test]
fn any_byte_that_is_changed_is_seen() {
    let mut world = world(4, Settings::default());
    bodies(&mut world, &["a", "b", "c"]);
    seal(&mut world, 1, &[0, 2, 0], &[1, 2, 3]).unwrap();
    let batch = world.state.batches[&1].clone();
    let (proof, set) = (batch.proofs(&world.state.meta.cluster).unwrap().of(1).unwrap(), world.state.validators.keys());
    let whole = |proof: &super::certificate::Proof, digest, set: &BTreeSet<NodeId>| {
        proof.check(digest).is_ok() && proof.certificate.check(set, 3).is_ok()
    };
    let stored = record(&key(100), "b");
    assert!(whole(&proof, stored.digest(), &set));
    let bytes = minicbor::to_vec(&proof).unwrap();
    for at in 0..bytes.len() {
        for bit in [0, 7] {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let Ok(read) = minicbor::decode::<super::certificate::Proof>(&changed) else { continue };
            assert!(read == proof || !whole(&read, stored.digest(), &set), "byte {at}, bit {bit}");
        }
    }
    for at in 0..stored.payload.len() {
        let mut changed = stored.clone();
        changed.payload[at] ^= 1;
        assert!(!whole(&proof, changed.digest(), &set) && !changed.is_signed());
    }
    let few = Certificate { signatures: proof.certificate.signatures[..2].to_vec(), ..proof.certificate.clone() };
    assert_eq!(few.check(&set, 3), Err(Unproven::Quorum { valid: 2, needed: 3 }));
    assert_eq!(
        Certificate { signatures: Vec::new(), ..few }.check(&set, 0),
        Err(Unproven::Quorum { valid: 0, needed: 1 })
    );
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

/// Random orders, seals, changes of the set and of the settings: replicas and rows agree, numbers have no gaps, and only what
/// a quorum signed is sealed.
#[test]
fn whatever_comes_the_numbers_and_the_rows_hold() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let mut world = world(4, Settings { certificates: 3, pending_batches: 6, digests: 30, ..Settings::default() });
    let (mut seals, mut refusals) = (0, 0);
    for step in 0..400 {
        world.now_ms += below(100_000);
        match below(10) {
            0..5 => {
                let expires_ms = world.now_ms + below(400_000);
                let records = (0..=below(4)).map(|_| arrived(&key(100), &below(60).to_string(), expires_ms)).collect();
                order(&mut world, records);
            }
            5..8 => {
                let pending: Vec<u64> = world.state.known.pending.iter().copied().collect();
                let Some(batch) = pending.get(below(8) as usize).copied() else { continue };
                let count = world.state.batches[&batch].count;
                let codes: Vec<u16> = (0..count).map(|_| below(3) as u16).collect();
                let in_set = world.state.validators.keys();
                let mut signers: Vec<u8> = (1..=6).filter(|number| in_set.contains(&id(&key(*number)))).collect();
                signers.truncate(1 + below(5) as usize);
                let enough = signers.len() >= world.state.quorum();
                let reply = seal(&mut world, batch, &codes, &signers);
                assert_eq!(reply.is_ok(), enough, "step {step}: {reply:?}");
                seals += usize::from(enough);
                refusals += usize::from(!enough);
            }
            8 => {
                let number = 1 + below(6) as u8;
                if below(2) == 0 && world.state.validators.set.len() > 2 {
                    let _ = world.operate("", Operation::RemoveValidator(id(&key(number))));
                } else {
                    let _ = add(&mut world, number);
                }
            }
            _ => {
                let value = below(4).to_string();
                let quorum = SettingChange { key: "records.quorum".into(), value };
                let _ = world.operate("", Operation::Set(vec![quorum]));
                world.settle(&Seen::default());
            }
        }
        let state = &world.state;
        let mut next = 1;
        for batch in state.batches.values() {
            assert!(batch.first_sequence >= next, "a sequence number was given twice");
            next = batch.first_sequence + u64::from(batch.count);
            assert_eq!(batch.sealed.is_none(), state.contents.contains_key(&batch.number));
        }
        assert_eq!(state.meta.records.sequence + 1, next.max(state.meta.records.sequence + 1));
        let pending: u64 =
            state.contents.values().flat_map(|c| &c.records).map(|a| a.record.payload.len() as u64).sum();
        assert_eq!(pending, state.known.pending_bytes);
    }
    assert!(seals > 20 && refusals > 5, "{seals} {refusals}");
    assert!(world.state.meta.settled > RoundId(0));
}
