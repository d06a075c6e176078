//! Small components, written as text: an honest guest whose parts a test replaces by dishonest ones.
//!
//! The canonical ABI by hand: `describe` gets the config as pointer and length; `judge` and `settle` get one pointer to
//! all their arguments. Each returns a pointer to its result. Offsets are those of `wit/policy.wit`.

use std::sync::OnceLock;

use kernel::decide::{Call, Fault, Judgement, LimitSettings, Policy, Slot, sample};
use policy::{Admitted, Engine, Findings, Label, admit, pack};
use wit_component::StringEncoding;
use wit_parser::Resolve;

pub const WIT: &str = include_str!("../../../../wit/policy.wit");
pub const REWARD_FLAT: &[u8] = include_bytes!("../../../../plugins/prebuilt/reward-flat.wasm");
pub const SIGN_BASIC: &[u8] = include_bytes!("../../../../plugins/prebuilt/sign-basic.wasm");
pub const BAN_STRIKES: &[u8] = include_bytes!("../../../../plugins/prebuilt/ban-strikes.wasm");

/// The limits of a new cluster, with a wall clock that a busy machine does not run into: fuel decides.
pub fn limits() -> LimitSettings {
    LimitSettings { deadline_ms: 60_000, ..LimitSettings::default() }
}

/// One for all tests: what a hostile guest leaves behind would show in the next one.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap())
}

pub fn admit_ban(bytes: &[u8]) -> Result<Admitted, Findings> {
    admit(engine(), Slot::Ban, bytes, "{}", &limits())
}

/// A ban policy in parts. Strings of text sit at fixed places: name at 16 (5 bytes), version at 32 (1), schema at 48 (1),
/// error at 64 (12), panic at 128 (36).
#[derive(Clone)]
pub struct Guest {
    /// The contract; some tests change it.
    pub wit: String,
    pub version: &'static str,
    /// More of its world.
    pub imports: &'static str,
    /// Definitions at the head of the module: imports.
    pub head: String,
    /// Memory, in pages.
    pub pages: u32,
    /// Definitions besides.
    pub more: String,
    /// What the host is given when it asks for room: `(param $old i32) (param i32) (param $align i32) (param $size i32)`.
    pub realloc: String,
    /// Runs in `describe` before the answer; `$out` is the place of the answer.
    pub describe: String,
    /// Runs in `judge` before the answer; `$a` points to the arguments, `$n` is the population,
    /// `$i` and `$at` are free.
    pub before: String,
    /// Changes the honest answer at `$out`.
    pub after: String,
}

pub fn honest() -> Guest {
    Guest {
        wit: WIT.into(),
        version: "1.0.0",
        imports: "",
        head: String::new(),
        pages: 2,
        more: String::new(),
        realloc: "(call $alloc (local.get $old) (i32.const 0) (local.get $align) (local.get $size))".into(),
        describe: String::new(),
        before: String::new(),
        after: String::new(),
    }
}

/// Imports `log` and puts a function `$say` beside it that logs the panic's text.
pub fn talking() -> Guest {
    Guest {
        head: r#"(import "pingward:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))"#.into(),
        more: "(func $say (call $log (i32.const 4) (i32.const 128) (i32.const 36)))".into(),
        ..honest()
    }
}

impl Guest {
    fn text(&self) -> String {
        let Self { version, head, pages, more, realloc, describe, before, after, .. } = self;
        format!(
            r#"(module
              {head}
              (memory (export "memory") {pages})
              (data (i32.const 16) "guest") (data (i32.const 32) "1") (data (i32.const 48) "s")
              (data (i32.const 64) "no such luck") (data (i32.const 128) "panicked at src/lib.rs:7:9: too late")
              (global $heap (mut i32) (i32.const 65536))
              {more}
              (func (export "cabi_realloc") (param $old i32) (param i32) (param $align i32) (param $size i32) (result i32)
                {realloc})
              (func $alloc (param i32 i32 i32) (param $size i32) (result i32)
                (local $at i32) (local $missing i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.set $heap (i32.add (local.get $at) (local.get $size)))
                (local.set $missing
                  (i32.sub (i32.add (i32.shr_u (global.get $heap) (i32.const 16)) (i32.const 1)) (memory.size)))
                (if (i32.gt_s (local.get $missing) (i32.const 0))
                  (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
                (local.get $at))
              (func $zeros (param $size i32) (result i32)
                (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (local.get $size)))
              (func $list (param $at i32) (param $pointer i32) (param $length i32)
                (i32.store (local.get $at) (local.get $pointer))
                (i32.store offset=4 (local.get $at) (local.get $length)))
              (func (export "pingward:policy/ban@{version}#describe") (param i32 i32) (result i32)
                (local $out i32) (local $i i32) (local $at i32)
                (local.set $out (call $zeros (i32.const 64)))
                (call $list (i32.add (local.get $out) (i32.const 4)) (i32.const 16) (i32.const 5))
                (call $list (i32.add (local.get $out) (i32.const 12)) (i32.const 32) (i32.const 1))
                {describe}
                (local.get $out))
              (func (export "pingward:policy/ban@{version}#judge") (param $a i32) (result i32)
                (local $out i32) (local $n i32) (local $zeros i32) (local $i i32) (local $at i32)
                (local.set $n (i32.load offset=40 (local.get $a)))
                {before}
                (local.set $out (call $zeros (i32.const 64)))
                (local.set $zeros (call $zeros (i32.mul (local.get $n) (i32.const 4))))
                (call $list (i32.add (local.get $out) (i32.const 4)) (local.get $zeros) (local.get $n))
                (call $list (i32.add (local.get $out) (i32.const 12)) (local.get $zeros) (local.get $n))
                (call $list (i32.add (local.get $out) (i32.const 20)) (local.get $zeros) (local.get $n))
                (call $list (i32.add (local.get $out) (i32.const 28)) (local.get $zeros) (local.get $n))
                (call $list (i32.add (local.get $out) (i32.const 36))
                  (i32.load offset=160 (local.get $a)) (i32.load offset=164 (local.get $a)))
                {after}
                (local.get $out)))"#
        )
    }

    /// The core module, with its world inside.
    pub fn module(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}\n{}", self.text()));
        let mut resolve = Resolve::default();
        resolve.push_str("policy.wit", &self.wit).unwrap();
        let guest = format!(
            "package test:guest;
             world guest {{ include pingward:policy/ban-policy@{}; {} }}
             package wasi:clocks@0.2.6 {{ interface wall-clock {{ now: func() -> u64; }} }}",
            self.version, self.imports
        );
        let package = resolve.push_str("guest.wit", &guest).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        let label = Label { name: "guest".into(), version: "1".into(), description: "A guest of the tests".into() };
        pack(&self.module(), &label).unwrap()
    }

    /// Admits it for a config that it does not read.
    pub fn admit(&self) -> Result<Admitted, Findings> {
        admit_ban(&self.build())
    }
}

/// Judges the sample.
pub fn judge(policy: &dyn Policy, config: &str) -> Result<Judgement, Fault> {
    let (round, members, memory) = sample(policy.description());
    policy.judge(&Call { config, round: &round, members: &members, memory: &memory }).result
}
