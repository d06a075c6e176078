//! Records in a world of commands.

mod order;
mod seal;
mod validators;

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
