//! What seals a batch, and what does not.

use super::*;
use crate::records::certificate::Proof;

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

/// Every byte counts: of what is signed, of the signatures, of the path, of the record.
#[test]
fn any_byte_that_is_changed_is_seen() {
    let mut world = world(4, Settings::default());
    bodies(&mut world, &["a", "b", "c"]);
    seal(&mut world, 1, &[0, 2, 0], &[1, 2, 3]).unwrap();
    let batch = world.state.batches[&1].clone();
    let (proof, set) = (batch.proofs(&world.state.meta.cluster).unwrap().of(1).unwrap(), world.state.validators.keys());
    let whole = |proof: &Proof, digest, set: &BTreeSet<NodeId>| {
        proof.check(digest).is_ok() && proof.certificate.check(set, 3).is_ok()
    };
    let stored = record(&key(100), "b");
    assert!(whole(&proof, stored.digest(), &set));
    let bytes = minicbor::to_vec(&proof).unwrap();
    for at in 0..bytes.len() {
        for bit in [0, 7] {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let Ok(read) = minicbor::decode::<Proof>(&changed) else { continue };
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
