//! Signing rules: what admission asks of them besides, what bounds them, and that the default does what its source says.

use kernel::decide::{Call, FaultKind, LimitSettings, Policy, Slot, sample};
use kernel::records::review::{self, Context, POLICY_FAULT, Review, Reviewed};
use policy::{Admitted, Findings, Label, Prepared, admit, inspect, pack};
use proptest::prelude::*;
use wit_component::StringEncoding;
use wit_parser::Resolve;

use crate::guests::{BAN_STRIKES, SIGN_BASIC, WIT, engine, limits};
use crate::native;

/// A signing policy in parts, by hand: `describe` as in `guests`, and `review`, whose arguments come one by one. A record has
/// 40 bytes: sequence 0, author 8, digest 16, expires-ms 24, body 32.
#[derive(Default)]
struct Signer {
    /// Runs in `describe` before the answer; `$out` is the place of the answer.
    describe: String,
    /// Runs for each record; `$at` points to it.
    each: String,
    /// Changes the honest answer at `$out`: all are signed.
    after: String,
}

impl Signer {
    fn build(&self) -> Vec<u8> {
        let Self { describe, each, after } = self;
        let text = format!(
            r#"(module
              (memory (export "memory") 2)
              (data (i32.const 16) "guest") (data (i32.const 32) "1") (data (i32.const 48) "s")
              (global $heap (mut i32) (i32.const 4096))
              (func $alloc (param $size i32) (result i32)
                (local $at i32) (local $missing i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.set $heap (i32.add (local.get $at) (local.get $size)))
                (local.set $missing
                  (i32.sub (i32.add (i32.shr_u (global.get $heap) (i32.const 16)) (i32.const 1)) (memory.size)))
                (if (i32.gt_s (local.get $missing) (i32.const 0))
                  (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
                (local.get $at))
              (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
                (call $alloc (local.get $size)))
              (func $list (param $at i32) (param $pointer i32) (param $length i32)
                (i32.store (local.get $at) (local.get $pointer))
                (i32.store offset=4 (local.get $at) (local.get $length)))
              (func (export "pingward:policy/signing@1.0.0#describe") (param i32 i32) (result i32)
                (local $out i32)
                (local.set $out (call $alloc (i32.const 64)))
                (call $list (i32.add (local.get $out) (i32.const 4)) (i32.const 16) (i32.const 5))
                (call $list (i32.add (local.get $out) (i32.const 12)) (i32.const 32) (i32.const 1))
                {describe}
                (local.get $out))
              (func (export "pingward:policy/signing@1.0.0#review")
                (param i32 i32) (param $records i32) (param $n i32) (param i64 i64 i64 i32) (result i32)
                (local $out i32) (local $i i32) (local $at i32)
                (block $done (loop $l
                  (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
                  (local.set $at (i32.add (local.get $records) (i32.mul (local.get $i) (i32.const 40))))
                  {each}
                  (local.set $i (i32.add (local.get $i) (i32.const 1)))
                  (br $l)))
                (local.set $out (call $alloc (i32.const 16)))
                (call $list (i32.add (local.get $out) (i32.const 4))
                  (call $alloc (i32.mul (local.get $n) (i32.const 2))) (local.get $n))
                {after}
                (local.get $out)))"#
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut resolve = Resolve::default();
        let package = resolve.push_str("policy.wit", WIT).unwrap();
        let world = resolve.select_world(&[package], Some("signing-policy")).unwrap();
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        pack(&module, &Label { name: "signer".into(), version: "1".into(), description: String::new() }).unwrap()
    }

    fn admit(&self) -> Result<Admitted, Findings> {
        admit(engine(), Slot::Signing, &self.build(), "{}", &limits())
    }
}

fn prepared(config: &str) -> Prepared {
    admit(engine(), Slot::Signing, SIGN_BASIC, config, &limits()).unwrap_or_else(|findings| panic!("{findings}")).policy
}

fn records<'a>(bodies: &'a [&'a [u8]]) -> (Context, Vec<Reviewed<'a>>) {
    let (context, sample) = review::sample();
    (context, bodies.iter().map(|body| Reviewed { body, ..sample[0] }).collect())
}

#[track_caller]
fn refused(result: Result<Admitted, Findings>, check: &str, words: &[&str]) {
    let findings = result.expect_err("it was admitted");
    assert_eq!((findings.0.len(), findings.0[0].check), (1, check), "{findings}");
    for word in words {
        assert!(findings.to_string().contains(word), "{findings}\nlacks: {word}");
    }
}

#[test]
fn the_default_signs_and_refuses_in_its_own_words() {
    let config = r#"{"allow_empty":false,"json":true,"max_bytes":20}"#;
    let policy = prepared(config);
    let (context, records) = records(&[b"{\"temperature\":21}", b"", b"21 degrees", &[b'1'; 21]]);
    let codes = policy.review(&Review { config, context, records: &records }).result.unwrap();
    let reasons = &policy.description().reasons;
    assert_eq!(codes, [0, 2, 3, 1], "{reasons:?}");
    assert!(reasons[0].starts_with("the body has more than 20 bytes"), "{reasons:?}");
}

#[test]
fn a_signing_rule_remembers_nothing_and_sees_no_columns() {
    assert!(Signer::default().admit().is_ok());
    let remembers = "(i32.store offset=20 (local.get $out) (i32.const 4))
        (call $list (i32.add (local.get $out) (i32.const 24)) (i32.const 48) (i32.const 1))";
    let remembers = Signer { describe: remembers.into(), ..Signer::default() };
    refused(remembers.admit(), "description", &["`memory-bytes` is 4", "remembers nothing", "say 0"]);
    let extra = "(call $list (i32.const 1024) (i32.const 16) (i32.const 5))
        (call $list (i32.add (local.get $out) (i32.const 40)) (i32.const 1024) (i32.const 1))";
    let extra = Signer { describe: extra.into(), ..Signer::default() };
    refused(extra.admit(), "description", &["asks for 1 extra columns", "sees no members", "leave `extra` empty"]);
}

#[test]
fn the_self_test_wants_a_code_for_each_record() {
    let short = "(i32.store offset=8 (local.get $out) (i32.sub (local.get $n) (i32.const 1)))";
    let unknown = "(i32.store16 (i32.load offset=4 (local.get $out)) (i32.const 1))";
    for (after, words) in [
        (short, ["with a batch of 5 records", "`verdicts` has 4 entries"]),
        (unknown, ["with a batch of 5 records", "1"]),
        ("unreachable", ["with a batch of 5 records", "trap: "]),
    ] {
        refused(Signer { after: after.into(), ..Signer::default() }.admit(), "self-test", &words);
    }
}

#[test]
fn a_record_at_which_a_rule_traps_is_refused_alone() {
    let each = "(if (i32.load offset=36 (local.get $at)) (then
        (if (i32.eq (i32.load8_u (i32.load offset=32 (local.get $at))) (i32.const 33)) (then unreachable))))";
    let policy = Signer { each: each.into(), ..Signer::default() }.admit().unwrap().policy;
    let (context, records) = records(&[b"a", b"!", b""]);
    let batch = Review { config: "{}", context, records: &records };
    assert_eq!(policy.review(&batch).result.unwrap_err().kind, FaultKind::Trap);
    assert_eq!(review::judge(&policy, &batch).0.unwrap(), [0, POLICY_FAULT, 0]);
}

#[test]
fn fuel_and_memory_grow_with_the_records_and_with_the_bytes_of_their_bodies() {
    let config = r#"{"json":true}"#;
    let policy = prepared(config);
    let long = format!("[{}1]", "1,".repeat(30_000)).into_bytes();
    let bodies = vec![long.as_slice(); 16];
    let (context, records) = records(&bodies);
    let batch = Review { config, context, records: &records };
    let run = policy.review(&batch);
    assert_eq!(run.result.unwrap(), [0; 16]);
    // A fuel of its own for each 64 bytes: without it, what the whole takes is too much.
    let bounds = LimitSettings { fuel_base: 1_000_000, ..limits() };
    assert!(run.fuel > bounds.fuel_base, "{}", run.fuel);
    assert_eq!(policy.with_limits(bounds).review(&batch).result.unwrap(), [0; 16]);
    let bounds = LimitSettings { fuel_member: 0, ..bounds };
    assert_eq!(policy.with_limits(bounds).review(&batch).result.unwrap_err().kind, FaultKind::Fuel);
}

#[test]
fn a_rule_of_another_slot_says_which_one_it_fills() {
    let (context, records) = review::sample();
    let ban = admit(engine(), Slot::Ban, BAN_STRIKES, "{}", &limits()).unwrap().policy;
    let fault = ban.review(&Review { config: "{}", context, records: &records }).result.unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::NotPrepared, "this policy fills the slot `ban`"));
    let signing = prepared("{}");
    let (round, members, memory) = sample(signing.description());
    let call = Call { config: "{}", round: &round, members: &members, memory: &memory };
    let fault = signing.judge(&call).result.unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::NotPrepared, "this policy fills the slot `signing`"));
    refused(
        admit(engine(), Slot::Ban, SIGN_BASIC, "{}", &limits()),
        "world",
        &["`signing-policy`", "the slot `ban` takes `ban-policy`", "load it into the slot `signing`"],
    );
}

#[test]
fn inspection_knows_the_world() {
    let seen = inspect(engine(), SIGN_BASIC, "{}", &limits()).unwrap();
    assert_eq!((seen.slot, seen.world().as_deref()), (Some(Slot::Signing), Some("signing-policy")));
    assert_eq!(seen.described.unwrap().reasons.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sign_basic_reviews_as_its_source_does(
        bodies in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[\\[\\]{}:,\"0-9a-f .eE+-]{0,12}".prop_map(String::into_bytes),
                "(\\[|\\{\"a\":)?(1|true|\"x\"|null)(\\]|\\})?".prop_map(String::into_bytes),
            ],
            1..30,
        ),
        max_bytes in 1..50_usize,
        allow_empty: bool,
        json: bool,
    ) {
        let config = format!(r#"{{"allow_empty":{allow_empty},"json":{json},"max_bytes":{max_bytes}}}"#);
        let policy = prepared(&config);
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let (context, records) = records(&bodies);
        let batch = Review { config: &config, context, records: &records };
        let codes = policy.review(&batch).result.unwrap();
        review::check_verdicts(&codes, records.len(), policy.description()).unwrap();
        for (code, body) in codes.iter().zip(&bodies) {
            // What serde takes for JSON is; only that a key may come twice in it is its own.
            let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
            let signs = body.len() <= max_bytes && (allow_empty || !body.is_empty()) && (!json || is_json);
            prop_assert_eq!(*code == 0, signs, "{:?}", body);
        }
        prop_assert_eq!(codes, native::review::<sign_basic::Basic>(&batch).unwrap());
    }
}
